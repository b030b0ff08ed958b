"""The memory blocks that a checkpoint holds, and tensors over them.

A file describes a tensor by a storage, an offset, a size and strides, all counted in elements. Nothing of that is
believed: `tensor_over` checks that every element lies inside the storage before it makes a view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arguments import as_int
from ..device import CPU, device
from ..functional_shape import expand, permute, reshape
from ..ir import dtypes
from ..ir.dtypes import DType
from ..placement import cuda_device, gpu_of, is_on_device, transferred
from ..tensor import Array, Tensor, wrap

# NumPy's limit on the number of dims.
_MAX_DIMS = 64
_MAX_BYTES = 2**62


@dataclass(frozen=True)
class StorageType:
    """`torch.FloatStorage` and its like: what a file says the elements of a storage are."""

    name: str
    dtype: DType

    @property
    def torch_module(self) -> str:
        return "torch.storage" if self is UNTYPED else "torch"


UNTYPED = StorageType("UntypedStorage", dtypes.u8)
STORAGE_TYPES = {
    name: StorageType(name, dtype)
    for name, dtype in {
        "BoolStorage": dtypes.bool_, "ByteStorage": dtypes.u8, "CharStorage": dtypes.i8,
        "ShortStorage": dtypes.i16, "IntStorage": dtypes.i32, "LongStorage": dtypes.i64,
        "HalfStorage": dtypes.f16, "BFloat16Storage": dtypes.bf16, "FloatStorage": dtypes.f32,
        "DoubleStorage": dtypes.f64, "ComplexFloatStorage": dtypes.c64, "ComplexDoubleStorage": dtypes.c128,
    }.items()
}  # fmt: skip
TYPE_OF = {kind.dtype: kind for kind in STORAGE_TYPES.values()}


@dataclass(eq=False)
class LoadedStorage:
    """A block of a file's memory: what `map_location(storage, location)` is called with."""

    memory: Array  # uint8, one dim
    kind: StorageType
    device: device = CPU
    _bases: dict[DType, Tensor] = field(default_factory=dict)

    @property
    def dtype(self) -> DType:
        return self.kind.dtype

    def nbytes(self) -> int:
        """The number of bytes."""
        return int(self.memory.size)

    def size(self) -> int:
        """The number of elements."""
        return self.nbytes() // self.dtype.itemsize

    def __len__(self) -> int:
        return self.size()

    def cpu(self) -> LoadedStorage:
        """The storage; the tensors over it will be on the CPU."""
        return self.to(device=CPU)

    def cuda(self, device: Any = None, non_blocking: bool = False) -> LoadedStorage:
        """The storage; the tensors over it will be on the CUDA device."""
        return self.to(device="cuda" if device is None else device)

    def to(self, *, device: Any, non_blocking: bool = False) -> LoadedStorage:
        """The storage; the tensors over it will be on that device."""
        gpu = gpu_of(device)
        self.device = CPU if gpu is None else cuda_device(gpu.index)
        return self

    def part(self, offset: int, count: int) -> LoadedStorage:
        """`count` elements from `offset` on, over the same memory."""
        if offset < 0 or count < 0 or offset + count > self.size():
            raise RuntimeError(
                f"the file describes elements {offset} to {offset + count} of a storage of {self.size()} elements"
            )
        step = self.dtype.itemsize
        return LoadedStorage(self.memory[offset * step : (offset + count) * step], self.kind)

    def base(self, dtype: DType, whole: Sequence[int] | None) -> Tensor:
        """The tensor that all tensors of this dtype over the storage are views of; the first one that covers it
        gives it its shape."""
        found = self._bases.get(dtype)
        if found is None:
            count = self.nbytes() // dtype.itemsize
            flat = self.memory[: count * dtype.itemsize].view(dtype.numpy)
            made = wrap(flat if whole is None else flat.reshape(whole))
            found = self._bases[dtype] = transferred(made, gpu_of(self.device))
        return found


def tensor_over(
    storage: LoadedStorage, dtype: DType, offset: Any, size: Any, stride: Any
) -> Tensor:  # a leaf
    """The tensor of that place in the storage. RuntimeError where any element would lie outside."""
    offset, size, stride = _checked(storage, dtype, offset, size, stride)
    row_major = _row_major(size)
    contiguous = all(n <= 1 or have == want for n, have, want in zip(size, stride, row_major))
    whole = contiguous and offset == 0 and math.prod(size) * dtype.itemsize == storage.nbytes()
    base = storage.base(dtype, size if whole else None)
    if whole:
        return (base if tuple(base.shape) == size else reshape(base, size))._alias()
    flat = base if base.ndim == 1 else reshape(base, (-1,))
    return strided_view(flat, offset, size, stride)._alias()


def _row_major(size: Sequence[int]) -> list[int]:
    steps = [1]
    for n in reversed(size[1:]):
        steps.append(steps[-1] * max(n, 1))
    return steps[: len(size)][::-1]


def _checked(
    storage: LoadedStorage, dtype: DType, offset: Any, size: Any, stride: Any
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    for name, value in (("size", size), ("stride", stride)):
        if not isinstance(value, tuple | list) or any(type(n) is not int for n in value):
            raise RuntimeError(f"the file describes a tensor whose {name} is no tuple of integers")
    if type(offset) is not int:
        raise RuntimeError("the file describes a tensor whose storage offset is no integer")
    if len(size) != len(stride):
        raise RuntimeError(
            f"mismatch in length of strides and shape: {len(stride)} strides, {len(size)} sizes in the file"
        )
    if len(size) > _MAX_DIMS:
        raise RuntimeError(
            f"the file describes a tensor of {len(size)} dims; at most {_MAX_DIMS} are supported"
        )
    if any(n < 0 for n in size):
        raise RuntimeError(f"Trying to create tensor with negative dimension: {list(size)}")
    if any(n < 0 for n in stride):
        raise RuntimeError(
            f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}"
        )
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    last = sum((n - 1) * step for n, step in zip(size, stride))
    needed = 0 if 0 in size else (offset + last + 1) * dtype.itemsize
    if needed > storage.nbytes():
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize "
            f"{dtype.itemsize} requiring a storage size of {needed} are out of bounds for storage of size "
            f"{storage.nbytes()}"
        )
    # Zero strides: much can be described by little memory.
    if math.prod(max(n, 1) for n in size) * dtype.itemsize > _MAX_BYTES:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(size)}")
    return offset, tuple(size), tuple(stride)


def strided_view(flat: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """One-dim memory as seen with these strides, through view ops wherever there are any that lead there.

    Dims are taken from the largest stride s to the smallest: cut n rows of length s out of the last dim, go on
    inside the row. What that cannot express (windows that overlap) is a view of the same memory with a storage
    of its own: writes are seen, but not counted as new versions of the others.
    """
    if 0 in size:
        return reshape(flat[:0], size)
    order = sorted(
        (d for d, n in enumerate(size) if n > 1 and stride[d]), key=lambda d: stride[d], reverse=True
    )
    found, start, length = flat, offset, as_int(flat.shape[0])
    inside = 1 + sum((size[d] - 1) * stride[d] for d in order)
    for d in order[:-1]:
        n, step = size[d], stride[d]
        inside -= (n - 1) * step
        first = min(start, length - n * step)
        if first < 0 or start - first + inside > step:
            return _overlapping(flat, offset, size, stride)
        found = reshape(found[..., first : first + n * step], (*found.shape[:-1], n, step))
        start, length = start - first, step
    if order:
        n, step = size[order[-1]], stride[order[-1]]
        found = found[..., start : start + (n - 1) * step + 1 : step]
    else:
        found = found[..., start : start + 1]
    if order != sorted(order):
        found = permute(found, tuple(sorted(range(len(order)), key=lambda i: order[i])))
    single = tuple(n if d in order else 1 for d, n in enumerate(size))
    if tuple(found.shape) != single:
        found = reshape(found, single)
    return expand(found, size) if single != size else found


def _overlapping(flat: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    array = flat._array
    assert array is not None
    if is_on_device(flat):
        raise RuntimeError(
            "torch.load: a tensor whose elements share places in memory can only be loaded to the CPU"
        )
    step = array.itemsize
    return wrap(np.lib.stride_tricks.as_strided(array[offset:], size, [s * step for s in stride]))
