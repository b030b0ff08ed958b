"""The bytes under a tensor: what `Tensor.untyped_storage()` gives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from . import device
from .copying import memory_of
from .functional_host import host_array
from .placement import device_of
from .runtime.gpu.arrays import DeviceArray
from .tensor import Array, Tensor, wrap

_NOTHING = np.zeros(0, np.uint8)


class UntypedStorage:
    """The bytes that a tensor and its views share."""

    def __init__(self, tensor: Tensor):
        base: Any = tensor._storage.base_array
        self._device = device_of(tensor)
        if type(base) is not DeviceArray:
            host_array(tensor, "untyped_storage()")
            if memory_of(base) is None:
                raise RuntimeError("untyped_storage(): the memory of this tensor does not lie in one piece")
        self._base = base

    @cached_property
    def _bytes(self) -> Array:
        """The bytes; of a device's memory a copy."""
        base = self._base
        found = memory_of(base.to_host() if type(base) is DeviceArray else base)
        assert found is not None
        return found

    @property
    def device(self) -> device.device:
        return self._device

    @property
    def is_cuda(self) -> bool:
        return self._device.type == "cuda"

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return self._base.ctypes.data if self.nbytes() else 0

    def nbytes(self) -> int:
        """How many bytes there are."""
        return int(self._base.nbytes if type(self._base) is DeviceArray else self._bytes.size)

    size = __len__ = nbytes

    def untyped(self) -> UntypedStorage:
        """Itself."""
        return self

    def element_size(self) -> int:
        """1: a storage without a type counts bytes."""
        return 1

    @classmethod
    def from_file(cls, filename: str, shared: bool = False, nbytes: int = 0) -> UntypedStorage:
        """The first `nbytes` bytes of a file, mapped: read when they are looked at. `shared`: what is written goes to
        the file, which is made if need be and made so long; otherwise ValueError where it is shorter."""
        if shared:
            with open(filename, "ab") as file:
                if file.tell() < nbytes:
                    file.truncate(nbytes)
        found = (
            np.memmap(filename, np.uint8, "r+" if shared else "c", shape=(nbytes,)) if nbytes else _NOTHING
        )
        return cls(wrap(np.asarray(found)))

    def __getitem__(self, index: int | slice) -> Any:
        """A byte, or several as a storage of the same memory."""
        if isinstance(index, slice):
            return UntypedStorage(wrap(self._bytes[index]))
        return int(self._bytes[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The bytes themselves, or a copy."""
        return self._bytes.astype(self._bytes.dtype if dtype is None else dtype, copy=bool(copy))

    def __iter__(self) -> Iterator[int]:
        return iter(self._bytes.tolist())

    def tolist(self) -> list[int]:
        """The bytes as numbers."""
        found: list[int] = self._bytes.tolist()
        return found

    def is_shared(self) -> bool:
        """Whether other processes see the memory: never."""
        return False

    def is_pinned(self, device: Any = None) -> bool:
        """Whether the memory is page-locked for a GPU: never."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and self.data_ptr() == other.data_ptr()

    def __hash__(self) -> int:
        return self.data_ptr()
