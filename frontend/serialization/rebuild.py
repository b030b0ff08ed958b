"""What a checkpoint's pickle calls: PyTorch's functions that put tensors and parameters together again.

The names and the order of the arguments are those of `torch._utils`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.dtypes import DType
from ..nn.parameter import Parameter
from ..tensor import Tensor, wrap
from .storages import LoadedStorage, tensor_over


def _rebuild_tensor(storage: Any, storage_offset: Any, size: Any, stride: Any) -> Tensor:
    return tensor_over(_storage(storage), storage.dtype, storage_offset, size, stride)


def _rebuild_tensor_v2(
    storage: Any, storage_offset: Any, size: Any, stride: Any, requires_grad: Any, backward_hooks: Any,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    tensor = _rebuild_tensor(storage, storage_offset, size, stride)
    return _finished(tensor, requires_grad, metadata)


def _rebuild_tensor_v3(
    storage: Any, storage_offset: Any, size: Any, stride: Any, requires_grad: Any, backward_hooks: Any,
    dtype: Any, metadata: Any = None,
) -> Tensor:  # fmt: skip
    if not isinstance(dtype, DType):
        raise RuntimeError("the file describes a tensor without a dtype")
    return _finished(
        tensor_over(_storage(storage), dtype, storage_offset, size, stride), requires_grad, metadata
    )


def _rebuild_parameter(data: Any, requires_grad: Any, backward_hooks: Any) -> Parameter:
    if not isinstance(data, Tensor):
        raise RuntimeError(f"the file describes a Parameter over a {type(data).__name__}")
    return Parameter(data, bool(requires_grad))


def _rebuild_parameter_with_state(
    data: Any, requires_grad: Any, backward_hooks: Any, state: Any
) -> Parameter:
    return _with_attributes(_rebuild_parameter(data, requires_grad, backward_hooks), state)


def _rebuild_from_type_v2(func: Any, new_type: Any, args: Any, state: Any) -> Tensor:
    if func not in REBUILD.values() or not (isinstance(new_type, type) and issubclass(new_type, Tensor)):
        raise RuntimeError("the file rebuilds something that is no tensor as a tensor with attributes")
    made = func(*args)
    if type(made) is not new_type:
        requires_grad = made.requires_grad
        made = Tensor._make_subclass(new_type, made.detach(), requires_grad)
    return _with_attributes(made, state)


def _rebuild_device_tensor_from_cpu_tensor(data: Any, dtype: Any, device: Any, requires_grad: Any) -> Tensor:
    """A tensor of an accelerator that has no storages: it was saved through the CPU, and stays there."""
    return _finished(data.to(dtype)._alias(), requires_grad, None)


def _storage(value: Any) -> LoadedStorage:
    if not isinstance(value, LoadedStorage):
        raise RuntimeError(f"the file describes a tensor over a {type(value).__name__}, not over a storage")
    return value


def _finished(tensor: Tensor, requires_grad: Any, metadata: Any) -> Tensor:
    array = tensor._array
    assert array is not None
    if isinstance(metadata, dict) and (metadata.get("conj") or metadata.get("neg")):
        # PyTorch's lazy conjugate and negative views: here they are computed.
        array = np.conj(array) if metadata.get("conj") else array
        tensor = wrap(np.negative(array) if metadata.get("neg") else array)
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _with_attributes(tensor: Any, state: Any) -> Any:
    if isinstance(state, tuple) and len(state) == 2:
        state = {**(state[0] or {}), **(state[1] or {})}
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise RuntimeError("the file describes a tensor's attributes by something that is no dict of names")
    for name, value in state.items():
        if name.startswith("__") or hasattr(Tensor, name):
            raise RuntimeError(f"the file sets the attribute {name!r} of a tensor, which a file may not set")
        tensor.__dict__[name] = value
    return tensor


REBUILD: dict[str, Callable[..., Tensor]] = {
    f.__name__: f
    for f in (
        _rebuild_tensor,
        _rebuild_tensor_v2,
        _rebuild_tensor_v3,
        _rebuild_parameter,
        _rebuild_parameter_with_state,
        _rebuild_device_tensor_from_cpu_tensor,
    )
}
