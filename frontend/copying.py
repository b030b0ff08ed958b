"""Copies of tensors: `copy.copy`, `copy.deepcopy`, `pickle`, and the memory below them.

As in PyTorch, a deep copy copies storages whole, so that tensors that share memory do so in the copy; strides are
kept. A pickle holds each tensor's own elements (`torch.save` keeps shared storages shared).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .functional_host import host_array
from .placement import cuda_device, device_of, gpu_of, is_on_device, transferred
from .runtime.gpu.arrays import DeviceArray
from .tensor import Array, Storage, Tensor, wrap


def memory_of(base: Array | None) -> Array | None:
    """The bytes (uint8) from an array's first element to its last; None where they cannot be taken as they lie."""
    if base is None or any(step < 0 or step % base.itemsize for step in base.strides):
        return None
    if not base.size:
        return np.zeros(0, np.uint8)
    count = sum((n - 1) * step for n, step in zip(base.shape, base.strides)) // base.itemsize + 1
    flat = np.lib.stride_tricks.as_strided(base, (count,), (base.itemsize,), writeable=False)
    return flat.view(np.uint8)


def lies_inside(array: Array, memory: Array) -> bool:
    """Whether all elements of the array are elements of the memory."""
    if not array.size:
        return True
    if any(step < 0 or step % array.itemsize for step in array.strides):
        return False
    start = array.ctypes.data - memory.ctypes.data
    last = sum((n - 1) * step for n, step in zip(array.shape, array.strides))
    return start >= 0 and start % array.itemsize == 0 and start + last + array.itemsize <= memory.size


def __copy__(self: Tensor) -> Tensor:
    made = self._alias(type(self))
    made._requires_grad = self.requires_grad
    made.__dict__.update(self.__dict__)
    return made


def __deepcopy__(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(self) in memo:
        found: Tensor = memo[id(self)]
        return found
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
            "moment.  If you were attempting to deepcopy a module, this may be because of a "
            "torch.nn.utils.weight_norm usage, see https://github.com/pytorch/pytorch/pull/103001"
        )
    copied = memo[id(self)] = _with_copied_storage(self, memo)
    copied._requires_grad = self.requires_grad
    copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
    if self._grad is not None:
        copied._grad = copy.deepcopy(self._grad, memo)
    return copied


def _with_copied_storage(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    if is_on_device(tensor):
        return _copied_on_device(tensor, memo)
    array, owner = host_array(tensor, "deepcopy"), tensor._storage
    base = owner.base_array
    memory = memory_of(base)
    if base is None or memory is None or not array.size or not lies_inside(array, memory):
        return wrap(array.copy())._alias(type(tensor))
    if id(owner) not in memo:
        copied_memory = memory.copy()
        memo[id(owner)] = copied_memory, Storage(_placed(base, memory, copied_memory))
    copied_memory, storage = memo[id(owner)]
    copied = tensor._alias(type(tensor))
    copied._storage = storage
    copied._array = storage.base_array if array is base else _placed(array, memory, copied_memory)
    return copied


def _copied_on_device(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    owner = tensor._storage
    array, base = tensor._array, owner.base_array
    assert isinstance(array, DeviceArray) and isinstance(base, DeviceArray)
    if id(owner) not in memo:
        made = base.copy()
        memo[id(owner)] = made, Storage(made)
    made, storage = memo[id(owner)]
    copied = tensor._alias(type(tensor))
    copied._storage = storage
    copied._array = in_copy(array, base, made)
    return copied


def in_copy(array: DeviceArray, base: DeviceArray, copy: DeviceArray) -> Any:
    """The array that lies in the copy of the base as `array` lies in the base."""
    offset = array.offset - base.offset + copy.offset
    return DeviceArray(copy.memory, array.shape, array.dtype, array.strides, offset)


def _placed(array: Array, memory: Array, other: Array) -> Array:
    """The array that lies in `other` as `array` lies in `memory`."""
    offset = array.ctypes.data - memory.ctypes.data
    repeats = any(step == 0 and n > 1 for n, step in zip(array.shape, array.strides))
    flat = other[offset:].view(array.dtype)
    return np.lib.stride_tricks.as_strided(flat, array.shape, array.strides, writeable=not repeats)


def __reduce_ex__(self: Tensor, protocol: Any) -> Any:
    array = host_array(self, "pickling")
    memory = memory_of(array)
    if memory is None or memory.size != array.nbytes:  # gaps, or elements that are one place in memory
        array = np.ascontiguousarray(array).reshape(array.shape)
        memory = array.reshape(-1).view(np.uint8)
    place = memory, self.dtype, tuple(array.shape), tuple(array.strides)
    where = device_of(self).index if is_on_device(self) else None
    return _rebuild, (type(self), place, self.requires_grad, dict(self.__dict__), where)


def _rebuild(
    cls: type[Tensor], place: Any, requires_grad: bool, attributes: dict[str, Any], where: int | None = None
) -> Tensor:
    memory, dtype, shape, strides = place
    flat = np.array(memory).view(dtype.numpy)
    array = np.lib.stride_tricks.as_strided(flat, shape, strides) if flat.size else flat.reshape(shape)
    here = wrap(array) if where is None else transferred(wrap(array), gpu_of(cuda_device(where)))
    made = here._alias(cls)
    made._requires_grad = requires_grad
    made.__dict__.update(attributes)
    return made


# The methods that are defined here under their own name.
__all__ = ["__copy__", "__deepcopy__", "__reduce_ex__"]
