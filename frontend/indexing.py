"""`x[...]` and `x[...] = v`, and the functions that pick and place elements by index tensors.

An index is read from left to right, as PyTorch's `THPVariable_getitem` reads it: numbers, slices, None and
`...` make views one after the other; index tensors and masks are gathered at the end, all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import capture, dispatch
from .arguments import as_dim, is_operand, tensor_argument
from .creation import as_tensor
from .dispatch import apply, op_named
from .functional_arithmetic import add, mul
from .functional_host import nonzero
from .functional_pointwise import clamp, masked_fill, where
from .functional_shape import (
    broadcast_shapes,
    expand,
    permute,
    reshape,
    unsqueeze,
)
from .functional_slices import clamped, select, slice_dim
from .inplace import assign, overwrite
from .ir import dtypes
from .ir.dims import DimLike, answer, bounds, product
from .ir.ops.common import broadcast, shape_text
from .placement import device_of, gpu_of, is_on_device, transferred
from .promotion import apply_to_counts, as_operand, convert
from .tape_folded import folded
from .tensor import Tensor

_INDEX_SELECT, _INDEX_ADD, _INDEX_UPDATE, _CUMSUM = map(
    op_named, ("index_select", "index_add", "index_update", "cumsum")
)
_INTEGERS = (dtypes.i64, dtypes.i32, dtypes.i16, dtypes.i8, dtypes.u8)
Advanced = dict[int, Tensor]


def getitem(input: Tensor, index: Any) -> Tensor:
    """`input[index]`: a view where the index holds only numbers, slices, None and `...`; else a copy."""
    if type(index) is int:
        return _select(input, 0, index)
    viewed, advanced = _basic(input, index)
    return gather_at(viewed, advanced) if advanced else viewed


def _select(input: Tensor, dim: int, index: int) -> Tensor:
    if not input.ndim:
        raise IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert "
            "a 0-dim tensor to a number"
        )
    size = input.shape[dim]
    if answer("gt", size, index if index >= 0 else -index - 1) is False:
        raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {size}")
    return select(input, dim, index)


def _basic(input: Tensor, index: Any) -> tuple[Tensor, Advanced]:
    """The views that the index makes, and the index tensors that remain, by dim of the view."""
    items = list(index) if isinstance(index, tuple) else [index]
    taken = _dims_taken(items)
    rank = input.ndim
    if taken > rank:
        if not rank:
            _select(input, 0, 0)
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    viewed, dim, advanced = input, 0, {}
    for item in items:
        if isinstance(item, slice):
            viewed = _sliced(viewed, dim, item, len(items) == 1)
            dim += 1
        elif item is Ellipsis:
            dim += rank - taken
        elif item is None:
            viewed = unsqueeze(viewed, dim)
            dim += 1
        elif isinstance(item, bool | np.bool_):
            viewed = unsqueeze(viewed, dim)
            advanced[dim] = as_tensor([0] if item else [], dtypes.i64)
            dim += 1
        elif isinstance(item, int | np.integer):
            viewed = _select(viewed, dim, int(item))
        else:
            tensor = _index_tensor(item)
            known = tensor._array is not None and capture.active() is None
            if known and tensor.ndim == 0 and tensor.dtype in _INTEGERS:
                viewed = _select(viewed, dim, int(tensor.item()))
            elif tensor.dtype is dtypes.bool_:
                if not tensor.ndim:
                    viewed = unsqueeze(viewed, dim)
                for number, part in enumerate(_positions(tensor, viewed, dim)):
                    advanced[dim + number] = part
                dim += max(tensor.ndim, 1)
            else:
                advanced[dim] = tensor
                dim += 1
    if viewed is input and not advanced:
        same = dispatch.view_step("reshape", {"shape": tuple(input.shape)})
        viewed = dispatch.view(input, (same,), "AliasBackward0")
    return viewed, advanced


def _dims_taken(items: Sequence[Any]) -> int:
    """How many dims of the tensor the items use up, `...` aside."""
    count = ellipses = 0
    for item in items:
        if item is Ellipsis:
            ellipses += 1
        elif item is None or isinstance(item, bool | np.bool_):
            pass
        elif isinstance(item, Tensor | np.ndarray) and item.dtype in (dtypes.bool_, np.bool_):
            count += item.ndim
        elif isinstance(item, list | tuple) and _is_mask(item):
            count += _index_tensor(item).ndim
        else:
            count += 1
    if ellipses > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    return count


def _is_mask(item: Any) -> bool:
    while isinstance(item, list | tuple) and item:
        item = item[0]
    return isinstance(item, bool)


def _index_tensor(item: Any) -> Tensor:
    if isinstance(item, range):
        item = list(item)
    if isinstance(item, list | tuple | np.ndarray):
        item = as_tensor(item, dtypes.i64) if isinstance(item, list | tuple) and not item else as_tensor(item)
    if not isinstance(item, Tensor):
        if hasattr(item, "__index__"):
            return as_tensor(item.__index__())
        if isinstance(item, str):
            raise TypeError("new(): invalid data type 'str'")
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got "
            f"{type(item).__name__})"
        )
    if item.dtype is dtypes.bool_ or item.dtype is dtypes.i64:
        return item
    if item.dtype is dtypes.u8:
        return convert(item, dtypes.bool_) if item.ndim else item
    if item.dtype in _INTEGERS:
        return convert(item, dtypes.i64)
    raise IndexError("tensors used as indices must be long, int, byte or bool tensors")


def _sliced(input: Tensor, dim: int, item: slice, alone: bool) -> Tensor:
    size = input.shape[dim]
    step = 1 if item.step is None else int(as_dim(item.step))
    if step <= 0:
        raise ValueError("step must be greater than zero")
    if item.start is None and item.stop is None and step == 1 and not alone:
        return input
    start = clamped(0 if item.start is None else as_dim(item.start), size)
    stop = clamped(size if item.stop is None else as_dim(item.stop), size)
    if bounds(stop - start)[1] < 0:
        stop = start
    return slice_dim(input, dim, start, stop, step, "SliceBackward0")


def _positions(mask: Tensor, viewed: Tensor, dim: int) -> Sequence[Tensor]:
    """The indices where the mask holds, one tensor per dim of the mask."""
    have = list(mask.shape)
    if not have:
        return (as_tensor([0] if mask.item() else [], dtypes.i64),)
    for number, size in enumerate(have):
        if viewed.shape[dim + number] != size:
            raise IndexError(
                f"The shape of the mask {have} at index {number} does not match the shape of the indexed tensor "
                f"{list(viewed.shape)} at index {dim + number}"
            )
    found: Sequence[Tensor] = nonzero(mask, as_tuple=True)
    return found


# Index tensors


class Places:
    """Index tensors for some dims, brought to one linear index over those dims joined into one."""

    def __init__(self, input: Tensor, advanced: Advanced):
        dims = sorted(advanced)
        shape = tuple(input.shape)
        parts = [_beside(advanced[d], input) for d in dims]
        try:
            self.index_shape = tuple(broadcast_shapes(*(tuple(p.shape) for p in parts)))
        except RuntimeError:
            shapes = ", ".join(str(list(p.shape)) for p in parts)
            raise IndexError(
                f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
            ) from None
        adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
        self.at = dims[0] if adjacent else 0
        rest = [d for d in range(len(shape)) if d not in advanced]
        self.order = (*rest[: self.at], *dims, *rest[self.at :])
        joined = [shape[d] for d in dims]
        self.size = product(joined)
        self.arranged = tuple(shape[d] for d in self.order)
        self.flat = (*(shape[d] for d in rest[: self.at]), self.size, *(shape[d] for d in rest[self.at :]))
        self.result = (*self.flat[: self.at], *self.index_shape, *self.flat[self.at + 1 :])
        self.linear = _linear([wrapped_index(p, d, n) for p, d, n in zip(parts, dims, joined)], joined)

    def flatten(self, input: Tensor) -> Tensor:
        """The input with the indexed dims joined, at `at`."""
        moved = input if self.order == tuple(range(input.ndim)) else permute(input, self.order)
        return moved if tuple(moved.shape) == self.flat else reshape(moved, self.flat)

    def restore(self, flat: Tensor) -> Tensor:
        """The reverse of `flatten`."""
        apart = flat if tuple(flat.shape) == self.arranged else reshape(flat, self.arranged)
        back = tuple(sorted(range(len(self.order)), key=self.order.__getitem__))
        return apart if back == tuple(range(len(back))) else permute(apart, back)


def _beside(index: Tensor, input: Tensor) -> Tensor:
    """The index where the indexed tensor is, to which one on the CPU is taken."""
    gpu = gpu_of(device_of(input))
    if gpu is not None:
        return transferred(index, gpu)
    if is_on_device(index) and input._array is not None:
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )
    return index


def wrapped_index(index: Tensor, dim: int, size: DimLike) -> Tensor:
    """The index counted from the front; IndexError where it leaves the dim."""
    array = index._array
    if array is not None and capture.active() is None and not is_on_device(index):
        if not array.size:
            return index
        low, high = array.min(), array.max()
        assert isinstance(size, int)
        if low < -size or high >= size:
            bad = low if low < -size else high
            raise IndexError(f"index {bad} is out of bounds for dimension {dim} with size {size}")
        if low >= 0:
            return index
    elif not isinstance(size, int):
        return index
    return where(index < 0, index + size, index)


def _linear(parts: list[Tensor], sizes: Sequence[DimLike]) -> Tensor:
    linear = parts[0]
    for part, size in zip(parts[1:], sizes[1:]):
        if not isinstance(size, int):
            raise RuntimeError(
                f"indexing several dims at once needs sizes that are known, got the symbolic dim {size}"
            )
        linear = add(mul(linear, size), part)
    return linear


def gather_at(input: Tensor, advanced: Advanced) -> Tensor:
    places = Places(input, advanced)
    if len(advanced) == 1:
        result: Tensor = apply(_INDEX_SELECT, (input, places.linear), {"dim": places.at}, "IndexBackward0")
        return result
    return folded(
        "IndexBackward0",
        (input,),
        lambda: apply(_INDEX_SELECT, (places.flatten(input), places.linear), {"dim": places.at}),
    )


# Writing


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """`input[index] = value`, the value broadcast and converted."""
    if not is_operand(value):
        raise TypeError(f"can't assign a {type(value).__name__} to a {input.type()}")
    mask = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    if isinstance(mask, Tensor) and mask.dtype is dtypes.bool_ and mask.ndim and _is_number(value):
        _check_mask(input, mask)
        wide = reshape(mask, tuple(mask.shape) + (1,) * (input.ndim - mask.ndim))
        overwrite(input, lambda: masked_fill(input, wide, value))
        return
    if isinstance(mask, Tensor) and mask.dtype is dtypes.bool_ and mask.ndim and capture.active() is not None:
        _check_mask(input, mask)
        overwrite(input, lambda: _rows_in_order(input, mask, as_operand(as_tensor(value), input.dtype)))
        return
    viewed, advanced = _basic(input, index)
    source = (
        value if isinstance(value, Tensor) else as_tensor(value) if isinstance(value, np.ndarray) else value
    )
    if advanced:
        index_put_(viewed, advanced, source)
    elif not isinstance(source, Tensor):
        fill_(viewed, source)
    else:
        while source.ndim > viewed.ndim and source.shape[0] == 1:
            source = select(source, 0, 0)
        copy_(viewed, source if tuple(source.shape) == tuple(viewed.shape) else expand(source, viewed.shape))


def _is_number(value: Any) -> bool:
    return not isinstance(value, Tensor | np.ndarray) or value.ndim == 0


def _check_mask(input: Tensor, mask: Tensor) -> None:
    if mask.ndim > input.ndim:
        raise IndexError(f"too many indices for tensor of dimension {input.ndim}")
    for number, size in enumerate(mask.shape):
        if input.shape[number] != size:
            raise IndexError(
                f"The shape of the mask {list(mask.shape)} at index {number} does not match the shape of the "
                f"indexed tensor {list(input.shape)} at index {number}"
            )


def in_order(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The input with the elements where the mask, of its shape, holds replaced by the source's, one after the other."""
    if source._type.numel == 0:
        return input.clone()
    number = reshape(_numbered(mask), mask.shape)
    return where(mask, apply(_INDEX_SELECT, (reshape(source, (-1,)), number), {"dim": 0}), input)


def _numbered(mask: Tensor) -> Tensor:
    """For each element, in one dim, how many before it the mask has; where it does not hold, any of these numbers."""
    count: Tensor = apply(_CUMSUM, (convert(reshape(mask, (-1,)), dtypes.i64),), {"dim": 0})
    return clamp(count - 1, min=0)


def _rows_in_order(input: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    """`input[mask] = values` without asking how many elements the mask has."""
    rest = tuple(input.shape)[mask.ndim :]
    if values.ndim == len(rest) + 1:
        if values.shape[0] == 1:
            values = select(values, 0, 0)
        else:
            values = apply(_INDEX_SELECT, (values, reshape(_numbered(mask), mask.shape)), {"dim": 0})
    wide = reshape(mask, tuple(mask.shape) + (1,) * len(rest))
    return where(wide, values, input)


def fill_(target: Tensor, value: Any) -> Tensor:
    """Every element becomes the value."""
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions."
            )
        source = convert(value, target.dtype)
    else:
        source = as_operand(value, target.dtype)
    name = "FillBackward3" if isinstance(value, Tensor) else "FillBackward2"
    return assign(target, expand(source, target.shape), replaced=name)


def copy_(target: Tensor, other: Any, non_blocking: bool = False) -> Tensor:
    """The elements become those of `other`, broadcast and converted."""
    tensor_argument(other, "copy_", "other")
    value = convert(other, target.dtype)
    if tuple(value.shape) != tuple(target.shape):
        joined = broadcast(tuple(target.shape), tuple(value.shape))
        if joined != tuple(target.shape):
            raise RuntimeError(
                f"output with shape {shape_text(target.shape)} doesn't match the broadcast shape {shape_text(joined)}"
            )
        value = expand(value, target.shape)
    return assign(target, value, replaced="CopyBackwards")


def index_put_(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """The elements at the indices become the values, or with `accumulate` have them added."""
    return overwrite(input, lambda: index_put(input, indices, values, accumulate))


def index_put(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """A copy of the tensor with the values at the indices, or added to what is there."""
    advanced = indices if isinstance(indices, dict) else _given(input, indices)
    places = Places(input, advanced)
    source = as_operand(values, input.dtype)

    def compute() -> Tensor:
        return put(input, places, _spread(source, places.result), accumulate)

    return folded("IndexPutBackward0", (input, source), compute)


def _spread(values: Tensor, shape: tuple[DimLike, ...]) -> Tensor:
    """The values in the shape of what they replace."""
    try:
        while values.ndim > len(shape) and values.shape[0] == 1:
            values = select(values, 0, 0)
        return values if tuple(values.shape) == shape else expand(values, shape)
    except RuntimeError:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of "
            f"shape {list(shape)}"
        ) from None


def _given(target: Tensor, indices: Any) -> Advanced:
    advanced: Advanced = {}
    dim = 0
    for item in indices:
        if item is None:
            dim += 1
            continue
        tensor = _index_tensor(item)
        parts = _positions(tensor, target, dim) if tensor.dtype is dtypes.bool_ else (tensor,)
        for part in parts:
            advanced[dim] = part
            dim += 1
    return advanced


def put(target: Tensor, places: Places, values: Tensor, accumulate: bool) -> Tensor:
    base = places.flatten(target)
    if accumulate:
        return places.restore(apply_to_counts(_INDEX_ADD, (base, places.linear, values), {"dim": places.at}))
    if product(places.index_shape) == 0:
        return target.clone()
    return places.restore(apply(_INDEX_UPDATE, (base, places.linear, values), {"dim": places.at}))


# The names of `torch` that are defined here.
__all__ = [
    "index_put", "index_put_",
]  # fmt: skip
