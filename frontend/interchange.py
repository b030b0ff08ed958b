"""Memory shared with others: DLPack, Python's buffers, files. NumPy does the talking; nothing is copied."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .creation import leaf
from .functional_host import host_array
from .ir.dtypes import DType
from .placement import device_of, is_on_device
from .promotion import get_default_dtype
from .tensor import Array, Tensor, exposed, wrap

_CPU = (1, 0)  # kDLCPU


class _Capsule:
    """A bare DLPack capsule as an object that NumPy can ask for it."""

    def __init__(self, capsule: Any):
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU


def _exportable(tensor: Tensor) -> Array:
    if tensor.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if is_on_device(tensor):
        raise BufferError(
            f"DLPack export of tensors on {device_of(tensor)} is not supported; use tensor.cpu()"
        )
    array = host_array(tensor, "DLPack export")
    tensor._storage.expose()
    return array


def dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: Any = None,
    dl_device: Any = None,
    copy: bool | None = None,
) -> Any:
    """A DLPack capsule over the tensor's memory."""
    if stream is not None and stream != -1:
        raise RuntimeError("stream should be None on cpu.")
    array = _exportable(self)
    if copy:
        array = array.copy()
    options = {} if max_version is None else {"max_version": max_version}
    return array.__dlpack__(**options)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """DLPack's number of the CPU."""
    return _CPU


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule over the tensor's memory."""
    return dlpack(tensor)


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of an object with `__dlpack__` (an array of another library), or of a capsule."""
    if isinstance(ext_tensor, Tensor):
        source = _exportable(ext_tensor)
        return wrap(source.copy()) if copy else exposed(source.view())
    given = ext_tensor if hasattr(ext_tensor, "__dlpack__") else _Capsule(ext_tensor)
    if given.__dlpack_device__()[0] != _CPU[0]:
        raise RuntimeError(
            f"from_dlpack: the memory is on device {given.__dlpack_device__()}, not on the CPU"
        )
    array = np.from_dlpack(given)
    return wrap(array.copy()) if copy else exposed(array)


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A tensor of one dim over the memory of an object with Python's buffer protocol."""
    if dtype is None:
        raise TypeError("frombuffer(): argument 'dtype' must be torch.dtype, not NoneType")
    try:
        memory = memoryview(buffer)
    except TypeError:
        raise ValueError("object does not implement Python buffer protocol.") from None
    size, item = memory.nbytes, dtype.itemsize
    if size == 0 or count == 0:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(
            f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) minus 1"
        )
    rest = size - offset
    if count < 0:
        if rest % item:
            raise ValueError(
                f"buffer length ({rest} bytes) after offset ({offset} bytes) must be a multiple of element size ({item})"
            )
        count = rest // item
    elif rest < count * item:
        raise ValueError(
            f"requested buffer length ({count} * {item} bytes) after offset ({offset} bytes) must not be greater than "
            f"actual buffer length ({size} bytes)"
        )
    return leaf(exposed(np.frombuffer(memory, dtype.numpy, count, offset)), requires_grad)


def from_file(
    filename: str | os.PathLike[str], shared: bool | None = None, size: int | None = 0, *,
    dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor over the first `size` elements of a file; writes reach the file with `shared`, which also makes a file
    that is missing or too small."""
    kind, count = dtype or get_default_dtype(), size or 0
    path = os.fspath(filename)
    if shared and (not os.path.exists(path) or os.path.getsize(path) < count * kind.itemsize):
        with open(path, "ab") as file:
            file.truncate(count * kind.itemsize)
    if not count:
        return leaf(wrap(np.zeros(0, kind.numpy)), requires_grad)
    try:
        mapped = np.memmap(path, kind.numpy, "r+" if shared else "c", shape=(count,))
    except ValueError as error:
        raise RuntimeError(f"from_file: file {path} does not hold {count} elements of {kind.name}") from error
    return leaf(exposed(mapped.view(np.ndarray)), requires_grad)


# The names of `torch` that are defined here.
__all__ = ["from_dlpack", "from_file", "frombuffer", "to_dlpack"]
