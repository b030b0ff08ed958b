"""Strides: of arrays, and of tensors without one, from the views that lead to them.

Strides are counted in elements. Whether a tensor can be viewed in another shape is decided as PyTorch does
(`computeStride_impl` in ATen/TensorUtils.cpp), so that `view` refuses, and `reshape` copies, in the same
cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ir import dtypes
from .ir.dims import DimLike, floordiv, product
from .ir.dtypes import DType
from .ir.op import Op
from .ir.types import TensorType
from .tensor import Tensor

Strides = tuple[DimLike, ...]


def contiguous_strides(shape: Sequence[DimLike]) -> Strides:
    """The strides of row-major order; a dim of size 0 counts as 1."""
    found: list[DimLike] = []
    step: DimLike = 1
    for size in reversed(shape):
        found.append(step)
        step = step * (size if size != 0 else 1)
    return tuple(reversed(found))


def strides(tensor: Tensor) -> Strides:
    """The tensor's strides in elements."""
    array = tensor._array
    if array is not None:
        size = array.itemsize
        return tuple([step // size for step in array.strides])
    return _walk(tensor)[0]


def storage_offset(tensor: Tensor) -> DimLike:
    """Where the first element lies, counted in elements from the start of the storage."""
    array, base = tensor._array, tensor._storage.base_array
    if array is None or base is None:
        return _walk(tensor)[1]
    return (array.ctypes.data - base.ctypes.data) // array.itemsize


def _walk(tensor: Tensor) -> tuple[Strides, DimLike]:
    """Strides and offset by the views that lead to the tensor."""
    storage, type_ = tensor._storage, tensor._type
    if tensor._views and storage.base_type is not None:
        type_ = storage.base_type
    elif storage.base_array is not None:
        type_ = TensorType(storage.base_array.shape, dtypes.from_numpy(storage.base_array.dtype))
    shape: Sequence[DimLike] = type_.shape
    dtype, steps = type_.dtype, contiguous_strides(type_.shape)
    offset: DimLike = 0
    for view in tensor._views:
        shape, dtype, steps, offset = after_view(view.op, view.attrs, shape, dtype, steps, offset)
    return steps, offset


def after_view(
    op: Op, attrs: Any, shape: Sequence[DimLike], dtype: DType, steps: Strides, offset: DimLike
) -> tuple[Sequence[DimLike], DType, Strides, DimLike]:
    """Shape, dtype, strides and offset after one view op; a reshape that no strides describe has those of a copy."""
    name = op.name
    if name == "slice":
        for start, step in zip(attrs["starts"], steps):
            offset = offset + start * step
    elif name == "strided":
        offset = offset + attrs["offset"] * steps[0]
    elif name in ("view_as_real", "view_as_complex"):
        (seen,) = op.infer_types([TensorType(tuple(shape), dtype)], attrs)
        if name == "view_as_real":
            return seen.shape, seen.dtype, (*(step * 2 for step in steps), 1), offset * 2
        halved = tuple(floordiv(step, 2) for step in steps[:-1])
        return seen.shape, seen.dtype, halved, floordiv(offset, 2)
    elif name == "view_dtype":
        # Memory is counted in other elements from here on.
        (seen,) = op.infer_types([TensorType(tuple(shape), dtype)], attrs)
        have, want = dtype.itemsize, seen.dtype.itemsize
        steps = tuple(floordiv(step * have, want) for step in steps[:-1]) + steps[-1:]
        return seen.shape, seen.dtype, steps, floordiv(offset * have, want)
    elif name == "bitcast":
        dtype = attrs["dtype"]
    shape, steps = _step(name, attrs, shape, steps)
    return shape, dtype, steps, offset


def _step(
    name: str, attrs: Any, shape: Sequence[DimLike], steps: Strides
) -> tuple[tuple[DimLike, ...], Strides]:
    if name == "permute":
        return tuple(shape[d] for d in attrs["dims"]), tuple(steps[d] for d in attrs["dims"])
    if name == "slice":
        sizes = tuple(
            (stop - start + step - 1) // step
            for start, stop, step in zip(attrs["starts"], attrs["stops"], attrs["steps"])
        )
        return sizes, tuple(have * step for have, step in zip(steps, attrs["steps"]))
    if name == "unfold":
        dim, width, apart = attrs["dim"], attrs["size"], attrs["step"]
        if not shape:
            return (width,), (1,)
        windows = floordiv(shape[dim] - width, apart) + 1
        lead_steps = (*steps[:dim], steps[dim] * apart, *steps[dim + 1 :])
        return (*shape[:dim], windows, *shape[dim + 1 :], width), (*lead_steps, steps[dim])
    if name == "strided":
        return tuple(attrs["size"]), tuple(step * steps[0] for step in attrs["stride"])
    if name == "bitcast":
        return tuple(shape), steps
    new = tuple(attrs["shape"])
    if name == "expand":
        lead = len(new) - len(shape)
        kept = tuple(
            0 if have == 1 and want != 1 else step for have, want, step in zip(shape, new[lead:], steps)
        )
        return new, (0,) * lead + kept
    viewed = view_strides(shape, steps, new)
    return new, contiguous_strides(new) if viewed is None else viewed


def is_contiguous(tensor: Tensor, order: tuple[int, ...] | None = None) -> bool:
    """Whether the elements lie without gaps in row-major order, or with the dims in the given order."""
    if order is not None:
        shape, steps = tensor._type.shape, strides(tensor)
        return _row_major([shape[d] for d in order], tuple(steps[d] for d in order))
    array = tensor._array
    if array is not None:
        return bool(array.flags.c_contiguous)
    return not tensor._views or _row_major(tensor._type.shape, strides(tensor))


def dims_as_they_lie(tensor: Tensor) -> tuple[int, ...] | None:
    """The dims by falling strides; None where elements share memory or a stride is not known."""
    shape, steps = tensor._type.shape, strides(tensor)
    known = [step for step in steps if isinstance(step, int)]
    if len(known) < len(steps) or any(step == 0 and n != 1 for step, n in zip(steps, shape)):
        return None
    return tuple(sorted(range(len(known)), key=lambda d: (-known[d], d)))


def _row_major(shape: Sequence[DimLike], steps: Strides) -> bool:
    expected: DimLike = 1
    for size, step in zip(reversed(shape), reversed(steps)):
        if size == 0:
            return True
        if size != 1:
            if step != expected:
                return False
            expected = expected * size
    return True


def view_strides(old: Sequence[DimLike], steps: Strides, new: Sequence[DimLike]) -> Strides | None:
    """Strides that show memory of shape `old` and strides `steps` as shape `new`; None if there are none."""
    if product(old) == 0:
        return contiguous_strides(new)
    found: list[DimLike] = [0] * len(new)
    last = len(new) - 1
    chunk_step: DimLike = steps[-1] if steps else 1
    have: DimLike = 1
    want: DimLike = 1
    for i in range(len(old) - 1, -1, -1):
        have = have * old[i]
        if i == 0 or (old[i - 1] != 1 and steps[i - 1] != have * chunk_step):
            while last >= 0 and (_less(want, have) or new[last] == 1):
                found[last] = want * chunk_step
                want = want * new[last]
                last -= 1
            if want != have:
                return None
            if i > 0:
                chunk_step = steps[i - 1]
                have = want = 1
    if not old:
        return tuple(1 for _ in new)
    return tuple(found) if last == -1 else None


def _less(a: DimLike, b: DimLike) -> bool:
    """a < b, where symbolic products that differ count as less: the equality check after the loop decides."""
    return a < b if isinstance(a, int) and isinstance(b, int) else a != b


def can_view(tensor: Tensor, shape: Sequence[DimLike]) -> bool:
    """Whether `view(shape)` needs no copy; the number of elements must agree."""
    if is_contiguous(tensor):
        return True
    return view_strides(tensor._type.shape, strides(tensor), shape) is not None


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two elements of the tensor are one place in memory (an expanded dim)."""
    shape = tensor._type.shape
    if not tensor._views or 0 in shape:
        return False
    return any(step == 0 and size != 1 for size, step in zip(shape, strides(tensor)))
