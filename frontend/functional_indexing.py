"""Functions that pick and place elements by index tensors and masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dispatch
from .arguments import tensor_argument, wrap_dim
from .dispatch import apply, constant, op_named
from .functional_arithmetic import mul
from .functional_host import host_array, nonzero
from .functional_pointwise import where
from .functional_shape import broadcast_shapes, expand, reshape
from .indexing import Places, gather_at, put, wrapped_index
from .ir import dtypes
from .promotion import as_operand, convert
from .tape_folded import folded
from .tensor import Tensor, wrap

_GATHER, _SCATTER_ADD, _INDEX_SELECT, _INDEX_ADD = map(
    op_named, ("gather", "scatter_add", "index_select", "index_add")
)


def _check_index(name: str, index: Any) -> Tensor:
    tensor_argument(index, name, "index", 3)
    if index.dtype not in (dtypes.i64, dtypes.i32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    return convert(index, dtypes.i64)


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """result[i][j] = input[index[i][j]][j] for dim 0, and so on."""
    result: Tensor = apply(
        _GATHER, (input, _check_index("gather", index)), {"dim": wrap_dim(dim, input.ndim)}
    )
    return result


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with broadcasting."""
    if dim is None:
        return gather(reshape(input, (-1,)), 0, reshape(indices, (-1,)))
    at = wrap_dim(dim, input.ndim)
    lead = broadcast_shapes(*(tuple(s for i, s in enumerate(t.shape) if i != at) for t in (input, indices)))
    shapes = [(*lead[:at], t.shape[at], *lead[at:]) for t in (input, indices)]
    return gather(expand(input, shapes[0]), at, expand(indices, shapes[1]))


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices at the positions that the index names."""
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    chosen = convert(index, dtypes.i64) if index.dtype is dtypes.i32 else index
    if chosen.dtype is not dtypes.i64:
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    at = wrap_dim(dim, input.ndim)
    if not input.ndim:
        return input.clone()
    vector = chosen if chosen.ndim else reshape(chosen, (1,))
    result: Tensor = apply(_INDEX_SELECT, (input, vector), {"dim": at})
    return result


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """The input with the source's slices added at the positions that the index names."""
    at, chosen = wrap_dim(dim, input.ndim), _check_index("index_add", index)
    if alpha == 1:
        result: Tensor = apply(_INDEX_ADD, (input, chosen, source), {"dim": at})
        return result
    return folded(
        "IndexAddBackward0",
        (input, source),
        lambda: apply(_INDEX_ADD, (input, chosen, mul(source, alpha)), {"dim": at}),
    )


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """The input with the slices at the index replaced by the source's."""
    at = wrap_dim(dim, input.ndim)
    places = Places(input, {at: _check_index("index_copy", index)})
    return folded("IndexCopyBackward0", (input, source), lambda: put(input, places, source, False))


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """The input with the slices at the index filled with the value."""
    at = wrap_dim(dim, input.ndim)
    places = Places(input, {at: _check_index("index_fill", index)})
    filling = expand(as_operand(value, input.dtype), places.result)
    return folded("IndexFillBackward0", (input,), lambda: put(input, places, filling, False))


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """The input with src[i][j] added at [index[i][j]][j] for dim 0, and so on."""
    operands = (input, _check_index("scatter", index), src)
    result: Tensor = apply(_SCATTER_ADD, operands, {"dim": wrap_dim(dim, input.ndim)})
    return result


def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """The input with src[i][j] (or one value) at [index[i][j]][j] for dim 0, and so on."""
    source = value if src is None else src
    at, places = wrap_dim(dim, input.ndim), _check_index("scatter", index)
    if reduce == "add":
        return scatter_add(
            input,
            dim,
            index,
            source if isinstance(source, Tensor) else expand(as_operand(source, input.dtype), index.shape),
        )
    if reduce is not None:
        raise RuntimeError(f"scatter(): reduce={reduce!r} is not supported; there is 'add'")
    if not isinstance(source, Tensor):
        return folded("ScatterBackward1", (input,), lambda: _scatter_number(input, at, places, source))
    if source.dtype is not input.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    return folded("ScatterBackward0", (input, source), lambda: _scatter_tensor(input, at, places, source))


def _scatter_number(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    zeros = dispatch.TENSORS.zeros_like(convert(input.detach(), dtypes.i64))
    one = expand(constant(1, dtypes.i64), index.shape)
    counts = apply(_SCATTER_ADD, (zeros, index, one), {"dim": dim})
    return where(counts > 0, as_operand(value, input.dtype), input)


def _scatter_tensor(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    # The element that is written last wins, so the winners are found on the host.
    order, shape = host_array(index, "scatter"), tuple(input.shape)
    apply(_GATHER, (input.detach(), index), {"dim": dim})  # checks ranks, sizes and the range of the index
    if any(a > b for a, b in zip(order.shape, source.shape)):
        raise RuntimeError(
            f"Expected index {list(order.shape)} to be no larger than self {list(shape)} apart from dimension {dim} "
            f"and to be no larger size than src {list(source.shape)}"
        )
    numbers = np.arange(source._type.numel).reshape(tuple(source.shape))[tuple(map(slice, order.shape))]  # type: ignore[arg-type]
    winner = np.full(shape or (1,), -1, np.int64)
    grid = np.indices(order.shape or (1,), sparse=True)
    winner[tuple(order.reshape(order.shape or (1,)) if i == dim else axis for i, axis in enumerate(grid))] = (
        numbers
    )
    winner = winner.reshape(shape)
    flat = reshape(source, (-1,))
    chosen = apply(_INDEX_SELECT, (flat, wrap(np.maximum(winner, 0))), {"dim": 0}) if order.size else input
    return where(wrap(winner >= 0), chosen, input)


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements at positions counted through the whole tensor."""

    def compute() -> Tensor:
        flat = reshape(input, (-1,))
        wrapped = wrapped_index(convert(index, dtypes.i64), 0, flat.shape[0])
        result: Tensor = apply(_INDEX_SELECT, (flat, wrapped), {"dim": 0})
        return result

    return folded("TakeBackward0", (input,), compute)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, in one dim."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = broadcast_shapes(tuple(input.shape), tuple(mask.shape))

    def compute() -> Tensor:
        wide = expand(input, shape)
        parts = nonzero(expand(mask, shape), as_tuple=True)
        return (
            gather_at(wide, dict(enumerate(parts))) if wide.ndim else reshape(wide, (1,))[: int(mask.item())]
        )

    return folded("MaskedSelectBackward0", (input,), compute)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The input with the elements where the mask holds replaced by the source's, in order."""
    parts = nonzero(expand(mask, input.shape), as_tuple=True)
    count = int(parts[0].shape[0])

    def compute() -> Tensor:
        return put(input, Places(input, dict(enumerate(parts))), reshape(source, (-1,))[:count], False)

    return folded("MaskedScatterBackward0", (input, source), compute)


def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Each element (or slice along dim) `repeats` times in a row."""
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    at = wrap_dim(dim, input.ndim)
    count = host_array(repeats, "repeat_interleave") if isinstance(repeats, Tensor) else repeats
    order = np.repeat(np.arange(input.shape[at]), count)
    return index_select(input, at, wrap(order.astype(np.int64)))


# The names of `torch` that are defined here.
__all__ = [
    "gather", "index_add", "index_copy", "index_fill", "index_select", "masked_scatter", "masked_select",
    "repeat_interleave", "scatter", "scatter_add", "take", "take_along_dim",
]  # fmt: skip
