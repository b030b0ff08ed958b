"""Pickles in the form that PyTorch writes: tensors as views of storages, and PyTorch's names for our objects."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..copying import lies_inside, memory_of
from ..device import device
from ..functional_host import host_array
from ..ir.dtypes import DType
from ..nn.modules.state_dict import StateDict
from ..nn.modules.structure import CountedDict
from ..nn.parameter import Buffer, Parameter
from ..placement import device_of, is_on_device
from ..tensor import Array, Storage, Tensor
from .names import global_name
from .rebuild import (
    _rebuild_from_type_v2,
    _rebuild_parameter,
    _rebuild_parameter_with_state,
    _rebuild_tensor_v2,
    _rebuild_tensor_v3,
)
from .storages import TYPE_OF, UNTYPED, StorageType


@dataclass(eq=False)
class SavedStorage:
    """A storage on its way into a file: all of its memory, as bytes."""

    key: str
    memory: Array  # uint8, one dim
    address: int
    dtype: DType
    kind: StorageType
    owner: Storage  # keeps the memory and its identity alive
    location: str = "cpu"

    @property
    def count(self) -> int:
        """The number of elements, as the storage's type counts them."""
        return int(self.memory.size) // self.kind.dtype.itemsize


# The stubs know the pickler in C only.
_Pickler: Any = pickle._Pickler


class StoragePickler(_Pickler):
    """Pickles an object; the storages of its tensors are collected, for the file format to write.

    It is the pickler written in Python, because the one in C looks up in `sys.modules` what it writes the name of.
    """

    dispatch = {**_Pickler.dispatch, CountedDict: _Pickler.save_dict}

    def __init__(self, file: BinaryIO, protocol: int, legacy: bool = False):
        super().__init__(file, protocol)
        self.legacy = legacy
        self.storages: dict[int, SavedStorage] = {}

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, SavedStorage):
            return None
        found = ("storage", obj.kind, obj.key, obj.location, obj.count)
        return (*found, None) if self.legacy else found

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is StateDict:
            return OrderedDict, (), vars(obj) or None, None, iter(obj.items())
        if kind is device:
            return device, (obj.type,) if obj.index is None else (obj.type, obj.index)
        if isinstance(obj, Tensor):
            return self._reduced_parameter(obj) if kind is Parameter else self._reduced_tensor(obj)
        named = global_name(obj)
        return NotImplemented if named is None else named[1]

    def save_global(self, obj: Any, name: str | None = None) -> None:
        named = global_name(obj)
        if named is None:
            super().save_global(obj, name)
            return
        self.write(pickle.GLOBAL + f"{named[0]}\n{named[1]}\n".encode())
        self.memoize(obj)

    def _reduced_parameter(self, parameter: Tensor) -> Any:
        arguments: tuple[Any, ...] = (parameter.detach(), parameter._requires_grad, OrderedDict())
        if vars(parameter):
            return _rebuild_parameter_with_state, (*arguments, vars(parameter))
        return _rebuild_parameter, arguments

    def _reduced_tensor(self, tensor: Tensor) -> Any:
        storage, offset, array = self._storage_of(tensor)
        stride = tuple(step // array.itemsize for step in array.strides)
        arguments: tuple[Any, ...] = (
            storage, offset, tuple(array.shape), stride, tensor.requires_grad, OrderedDict(),
        )  # fmt: skip
        function: Any = _rebuild_tensor_v2
        if storage.kind is UNTYPED:
            function, arguments = _rebuild_tensor_v3, (*arguments, tensor.dtype)
        if type(tensor) is Tensor and not vars(tensor):
            return function, arguments
        # PyTorch's buffers are tensors with an attribute.
        kind = Tensor if type(tensor) is Buffer else type(tensor)
        return _rebuild_from_type_v2, (function, kind, arguments, vars(tensor))

    def _from_device(self, tensor: Tensor, found: SavedStorage | None) -> tuple[SavedStorage, Array]:
        """A device's storage, copied to the host once, and the tensor's array over that copy."""
        array: Any = tensor._array
        base: Any = tensor._storage.base_array
        if found is None:
            memory = base.to_host().reshape(-1).view(np.uint8)
            kind = TYPE_OF.get(tensor.dtype, UNTYPED)
            number = str(len(self.storages))
            where = str(device_of(tensor))
            found = SavedStorage(
                number, memory, memory.ctypes.data, tensor.dtype, kind, tensor._storage, where
            )
            self.storages[id(tensor._storage)] = found
        offset = array.offset - base.offset
        return found, np.ndarray(array.shape, array.dtype, found.memory.data, offset, array.strides)

    def _storage_of(self, tensor: Tensor) -> tuple[SavedStorage, int, Array]:
        """The storage, where in it the first element lies, and the array whose strides count."""
        owner = tensor._storage
        found = self.storages.get(id(owner))
        if is_on_device(tensor):
            found, array = self._from_device(tensor, found)
        else:
            array = host_array(tensor, "torch.save")
        if found is None:
            memory = memory_of(owner.base_array)
            if memory is None or not lies_inside(array, memory):
                array = np.ascontiguousarray(array)
                owner = Storage(array)
                memory = array.reshape(-1).view(np.uint8)
            kind = TYPE_OF.get(tensor.dtype, UNTYPED)
            found = SavedStorage(
                str(len(self.storages)), memory, memory.ctypes.data, tensor.dtype, kind, owner
            )
            self.storages[id(owner)] = found
        elif not lies_inside(array, found.memory):
            raise RuntimeError("torch.save: a tensor lies outside its own storage")
        elif found.dtype is not tensor.dtype:
            raise RuntimeError(
                "Cannot save multiple tensors or storages that view the same data as different types"
            )
        offset = (array.ctypes.data - found.address) // array.itemsize
        if not array.size and not 0 <= offset <= found.count:
            offset = 0  # NumPy may give an empty array any address
        return found, offset, array
