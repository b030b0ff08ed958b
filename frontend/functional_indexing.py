"""Functions that pick and place elements by index tensors and masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arguments import not_implemented, tensor_argument, wrap_dim
from .autocast import widest
from .capture import active
from .creation import counted
from .dispatch import apply, constant, op_named
from .functional_arithmetic import floor_divide, mul, remainder
from .functional_host import nonzero, repeated_positions
from .functional_pointwise import logical_and, lt, ne, where
from .functional_shape import broadcast_shapes, expand, reshape, shape_text, stack
from .functional_tensor import clone
from .indexing import gather_at, in_order, wrapped_index
from .inplace import finish
from .ir import dtypes
from .ir.dims import Expr, answer
from .placement import is_on_device
from .promotion import apply_to_counts, as_operand, convert, number_in
from .tape_folded import folded
from .tensor import Tensor, scalar_type_name

_GATHER, _INDEX_SELECT, _INDEX_ADD, _INDEX_UPDATE, _SCATTER_ADD, _SCATTER_UPDATE, _SCATTER_REDUCE = map(
    op_named,
    (
        "gather", "index_select", "index_add", "index_update", "scatter_add", "scatter_update", "scatter_reduce",
    ),
)  # fmt: skip


def _check_index(name: str, index: Any) -> Tensor:
    tensor_argument(index, name, "index", 3)
    if index.dtype not in (dtypes.i64, dtypes.i32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    return convert(index, dtypes.i64)


def _check_vector(name: str, index: Any, wanted: str, error: type[Exception] = RuntimeError) -> Tensor:
    """The index of slices along one dim: a vector, or a number. `wanted`: what the name's error says of its dtype."""
    tensor_argument(index, name, "index", 3)
    if index.dtype not in (dtypes.i64, dtypes.i32):
        raise error(f"{name}(): {wanted.format(scalar_type_name(index.dtype))}")
    if index.ndim > 1:
        if name == "index_fill_":
            raise RuntimeError("Index has to be a vector/scalar")
        if name == "index_copy_":
            raise IndexError(f"{name}(): Index should have dimension 1 or 0 (got {index.ndim})")
        raise IndexError(
            f"{name}(): Index is supposed to be a vector, but got dim: {index.ndim} with type: "
            f"{scalar_type_name(index.dtype)} and size: {shape_text(tuple(index.shape))}"
        )
    found = convert(index, dtypes.i64)
    return found if found.ndim else reshape(found, (1,))


_INT_INDEX = "Expected dtype int32/int64 for index but got: {}"


def _check_known(index: Tensor, dim: int, size: Any, error: type[Exception], text: str) -> None:
    """Raise where an index leaves its dim, if the indices are known now."""
    array = index._array
    if array is None or not array.size or active() is not None or is_on_device(index):
        return
    bad = array[(array < 0) | (array >= size)]
    if bad.size:
        raise error(text.format(index=bad.flat[0], dim=dim, size=size))


def _with_dim(value: Tensor) -> Tensor:
    return value if value.ndim else reshape(value, (1,))


def gather(
    input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False, out: Tensor | None = None
) -> Tensor:
    """result[i][j] = input[index[i][j]][j] for dim 0, and so on."""
    found = apply(_GATHER, (input, _check_index("gather", index)), {"dim": wrap_dim(dim, input.ndim)})
    return finish(found, out, "gather")


def take_along_dim(
    input: Tensor, indices: Tensor, dim: int | None = None, *, out: Tensor | None = None
) -> Tensor:
    """`gather` with broadcasting."""
    if indices.dtype is not dtypes.i64:
        raise RuntimeError(
            f"torch.take_along_dim(): dtype of indices should be Long but got {scalar_type_name(indices.dtype)}"
        )
    if dim is None:
        return gather(reshape(input, (-1,)), 0, reshape(indices, (-1,)), out=out)
    if input.ndim != indices.ndim:
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices"
        )
    at = wrap_dim(dim, input.ndim)
    lead = broadcast_shapes(*(tuple(s for i, s in enumerate(t.shape) if i != at) for t in (input, indices)))
    shapes = [(*lead[:at], t.shape[at], *lead[at:]) for t in (input, indices)]
    return gather(expand(input, shapes[0]), at, expand(indices, shapes[1]), out=out)


def index_select(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor:
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
    return finish(apply(_INDEX_SELECT, (input, vector), {"dim": at}), out, "index_select")


def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """The input with the source's slices, times alpha, added at the positions that the index names."""
    at, chosen = wrap_dim(dim, input.ndim), _check_vector("index_add_", index, _INT_INDEX)
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"index_add_(): self ({scalar_type_name(input.dtype)}) and source ({scalar_type_name(source.dtype)}) must "
            "have the same scalar type"
        )
    size = input.shape[at] if input.ndim else 1
    _check_known(
        chosen, at, size, RuntimeError, "index {index} is out of bounds for dimension {dim} with size {size}"
    )
    alpha = number_in(alpha, input.dtype)
    if alpha == 1 and input.ndim and source.ndim:
        return finish(apply_to_counts(_INDEX_ADD, (input, chosen, source), {"dim": at}), out, "index_add")

    def compute() -> Tensor:
        operands = _with_dim(input), chosen, _with_dim(source if alpha == 1 else mul(source, alpha))
        return reshape(apply_to_counts(_INDEX_ADD, operands, {"dim": at}), input.shape)

    return finish(folded("IndexAddBackward0", (input, source), compute), out, "index_add")


@widest
def index_copy(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """The input with the slices at the index replaced by the source's."""
    at = wrap_dim(dim, input.ndim)
    chosen = _check_vector("index_copy_", index, "Expected a long tensor for index, but got {}")
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "index_copy_(): self and source expected to have the same dtype, but got (self) "
            f"{scalar_type_name(input.dtype)} and (source) {scalar_type_name(source.dtype)}"
        )

    _check_slices(input, at, chosen, source)

    def compute() -> Tensor:
        base, values = _with_dim(input), _with_dim(source)
        if not source.ndim:
            values = expand(values, (*base.shape[:at], 1, *base.shape[at + 1 :]))
        found = apply(_INDEX_UPDATE, (base, chosen, values), {"dim": at})
        return found if input.ndim else reshape(found, ())

    return finish(folded("IndexCopyBackward0", (input, source), compute), out, "index_copy")


def _check_slices(input: Tensor, dim: int, index: Tensor, source: Tensor) -> None:
    """That the source has a slice for each index, of the shape that the input's have."""
    if source.ndim and index.shape[0] != source.shape[dim]:
        raise IndexError(
            f"index_copy_(): Number of indices ({index.shape[0]}) should be equal to source.size(dim) "
            f"({source.shape[dim]})"
        )
    here, there = (tuple(n for i, n in enumerate(t.shape) if i != dim) for t in (input, source))
    if source.ndim and here != there:
        raise RuntimeError(
            "index_copy_(): Source/destination tensor must have same slice shapes. Destination slice shape: "
            f"{' '.join(map(str, here))} at dimension {dim} and source slice shape: {' '.join(map(str, there))} at "
            f"dimension {dim}."
        )
    size = input.shape[dim] if input.ndim else 1
    text = "index_copy_(): index {index} is out of bounds for dimension {dim} with size {size}"
    _check_known(index, dim, size, IndexError, text)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """The input with the slices at the index filled with the value."""
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(
            f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s)."
        )
    at = wrap_dim(dim, input.ndim)
    chosen = _check_vector("index_fill_", index, "Expected dtype int64 for index.", IndexError)

    def compute() -> Tensor:
        base = _with_dim(input)
        at_index = wrapped_index(chosen, at, base.shape[at])
        shape = (*base.shape[:at], chosen.shape[0], *base.shape[at + 1 :])
        filling = expand(as_operand(value, input.dtype), shape)
        found = apply(_INDEX_UPDATE, (base, at_index, filling), {"dim": at})
        return found if input.ndim else reshape(found, ())

    operands = (input, value) if isinstance(value, Tensor) else (input,)
    return folded("IndexFillBackward0", operands, compute)


def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The slices of the source that go to one position of the input (and the input's own) as one: their product,
    mean, or largest or smallest elements."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(
            f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}."
        )
    at, chosen = wrap_dim(dim, input.ndim), _check_vector("index_reduce_", index, _INT_INDEX)
    if source.dtype is not input.dtype:
        raise RuntimeError("index_reduce_(): self and source must have the same scalar type")
    if source.ndim and source.shape[at] != chosen.shape[0]:
        raise RuntimeError(
            f"index_reduce_(): Number of indices ({chosen.shape[0]}) should be equal to source.size(dim): "
            f"({source.shape[at]}), for dim: {at}"
        )
    _check_known(chosen, at, input.shape[at] if input.ndim else 1, IndexError, "index out of range in self")

    def compute() -> Tensor:
        base, values = _with_dim(input), _with_dim(source)
        column = reshape(chosen, (-1,) + (1,) * (base.ndim - at - 1))
        attrs = {"dim": at, "reduce": reduce, "include_self": include_self}
        found = apply(_SCATTER_REDUCE, (base, expand(column, values.shape), values), attrs)
        return found if input.ndim else reshape(found, ())

    return finish(folded("IndexReduceBackward0", (input, source), compute), out, "index_reduce")


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The input with src[i][j] added at [index[i][j]][j] for dim 0, and so on."""
    if not isinstance(src, Tensor):
        raise TypeError(
            f"scatter_add(): argument 'src' (position 4) must be Tensor, not {type(src).__name__}"
        )
    if src.dtype is not input.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    operands = (input, _check_index("scatter", index), src)
    result = apply_to_counts(_SCATTER_ADD, operands, {"dim": wrap_dim(dim, input.ndim)})
    return finish(result, out, "scatter_add")


def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The input with src[i][j] (or one value) at [index[i][j]][j] for dim 0, and so on; or, with `reduce`, added to
    what is there or multiplied by it."""
    source = value if src is None else src
    at, places = wrap_dim(dim, input.ndim), _check_index("scatter", index)
    operands = (input, source) if isinstance(source, Tensor) else (input,)
    if not isinstance(source, Tensor):
        source = expand(as_operand(source, input.dtype), places.shape)
    elif source.dtype is not input.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    attrs: dict[str, Any]
    if reduce is None:
        op, attrs = _SCATTER_UPDATE, {"dim": at}
    elif reduce == "add":
        op, attrs = _SCATTER_ADD, {"dim": at}
    else:
        op, attrs = _SCATTER_REDUCE, {"dim": at, "reduce": "prod"}
    name = "ScatterBackward0" if len(operands) == 2 else "ScatterBackward1"
    found = folded(name, operands, lambda: apply_to_counts(op, (input, places, source), attrs))
    return finish(found, out, "scatter")


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """What of src (and of the input itself) belongs to one place, as one: sum, prod, mean, amax or amin."""
    reduce = {"max": "amax", "min": "amin"}.get(reduce, reduce)
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}.")
    if src.dtype is not input.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    attrs = {"dim": wrap_dim(dim, input.ndim), "reduce": reduce, "include_self": include_self}
    operands = (input, _check_index("scatter_reduce", index), src)
    if reduce == "mean" and input.dtype is dtypes.bool_:
        raise not_implemented("scatter_gather_tensor_cpu_reduce_mean", input)
    return finish(apply_to_counts(_SCATTER_REDUCE, operands, attrs), out, "scatter_reduce")


def _counted_through(index: Tensor, count: Any) -> Tensor:
    """Positions counted through a whole tensor, negative ones from its end."""
    array = index._array
    if array is not None and array.size and active() is None and not is_on_device(index):
        bad = array[(array < -count) | (array >= count)]
        if bad.size:
            raise IndexError(
                f"out of range: tried to access index {bad.flat[0]} on a tensor of {count} elements."
            )
    return wrapped_index(index, 0, count)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """The input with the source's elements at positions counted through the whole tensor, or added there."""
    if index.dtype is not dtypes.i64:
        raise RuntimeError(
            f"put_(): Expected a long tensor for index, but got {scalar_type_name(index.dtype)}"
        )
    places = index
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "put_(): self and source expected to have the same dtype, but got self.dtype = "
            f"{scalar_type_name(input.dtype)} and source.dtype = {scalar_type_name(source.dtype)}"
        )
    if places._type.numel != source._type.numel:
        raise IndexError(
            "put_(): Expected source and index to have the same number of elements, but got source.numel() = "
            f"{source._type.numel}, index.numel() = {places._type.numel}"
        )

    def compute() -> Tensor:
        flat = reshape(input, (-1,))
        at = _counted_through(reshape(places, (-1,)), flat.shape[0])
        op = _INDEX_ADD if accumulate else _INDEX_UPDATE
        return reshape(apply_to_counts(op, (flat, at, reshape(source, (-1,))), {"dim": 0}), input.shape)

    return folded("PutBackward0", (input, source), compute)


def take(input: Tensor, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements at positions counted through the whole tensor."""
    if index.dtype is not dtypes.i64:
        raise RuntimeError(
            f"take(): Expected a long tensor for index, but got {scalar_type_name(index.dtype)}"
        )

    def compute() -> Tensor:
        flat = reshape(input, (-1,))
        wrapped = _counted_through(index, flat.shape[0])
        result: Tensor = apply(_INDEX_SELECT, (flat, wrapped), {"dim": 0})
        return result

    return finish(folded("TakeBackward0", (input,), compute), out, "take")


def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
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

    return finish(folded("MaskedSelectBackward0", (input,), compute), out, "masked_select")


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The input with the elements where the mask holds replaced by the source's, in order."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(
            f"masked_scatter_ only supports boolean masks, but got mask with dtype {scalar_type_name(mask.dtype)}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "masked_scatter: expected self and source to have same dtypes but got"
            f"{scalar_type_name(input.dtype)} and {scalar_type_name(source.dtype)}"
        )
    shape = broadcast_shapes(tuple(input.shape), tuple(mask.shape))
    wide = expand(mask, shape)
    if active() is None and int(wide.sum().item()) > source._type.numel:
        raise RuntimeError("Number of elements of source < number of ones in mask")
    return folded(
        "MaskedScatterBackward0", (input, source), lambda: in_order(expand(input, shape), wide, source)
    )


def repeat_interleave(
    input: Any = None, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element (or slice along dim) `repeats` times in a row; of a vector of counts alone, each position."""
    if input is None or repeats is None:
        counts = repeats if input is None else input
        return _repeated(tensor_argument(counts, "repeat_interleave", "repeats"), output_size)
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    at = wrap_dim(dim, input.ndim)
    size = input.shape[at]
    if not isinstance(repeats, Tensor):
        return _each_repeated(input, at, repeats, output_size)
    counts = expand(reshape(repeats, (-1,)), (size,)) if repeats._type.numel == 1 else repeats
    if counts.ndim == 1 and counts.shape[0] != size:
        raise RuntimeError(
            "repeats must have the same size as input along dim, but got repeats.size(0) = "
            f"{counts.shape[0]} and input.size({at}) = {size}"
        )
    return index_select(input, at, _repeated(counts, output_size))


def _each_repeated(input: Tensor, dim: int, repeats: Any, total: int | None) -> Tensor:
    """As often everywhere: a view with one more dim, which one copy makes part of `dim`."""
    if isinstance(repeats, np.integer):
        repeats = int(repeats)
    if isinstance(repeats, bool) or not isinstance(repeats, int | Expr):
        raise TypeError(
            f"repeat_interleave(): argument 'repeats' must be Tensor or int, not {type(repeats).__name__}"
        )
    if answer("lt", repeats, 0) is True:
        raise RuntimeError("Repeats must be non-negative")
    shape = tuple(input.shape) or (1,)
    size = shape[dim] * repeats
    if total is not None and (answer("le", size, total) is False or answer("ge", size, total) is False):
        raise RuntimeError(f"repeat_interleave: Invalid output_size, expected {size} but got {total}")
    column = reshape(input, (*shape[: dim + 1], 1, *shape[dim + 1 :]))
    spread = expand(column, (*shape[: dim + 1], repeats, *shape[dim + 1 :]))
    return reshape(clone(spread), (*shape[:dim], size, *shape[dim + 1 :]))


def _repeated(counts: Tensor, total: int | None) -> Tensor:
    found = repeated_positions(counts)
    size = found.shape[0]
    if total is not None and (answer("le", size, total) is False or answer("ge", size, total) is False):
        raise RuntimeError("allocated size does not match required size")
    return found


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1, out: Tensor | None = None) -> Tensor:
    """The indices of the first `size` elements that are not zero, one row each; `fill_value` in rows that are left."""
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, but got {size}")
    shape = tuple(input.shape)
    flat = ne(reshape(input.detach(), (-1,)), 0)
    count = flat.shape[0]
    number = apply(op_named("cumsum"), (convert(flat, dtypes.i64),), {"dim": 0}) - 1
    # Those that have no row go to one more, which is cut off.
    row = where(logical_and(flat, lt(number, size)), number, constant(size, dtypes.i64))
    place = counted(count, 0, 1, dtypes.i64)
    empty = apply(op_named("full"), (), {"shape": (size + 1,), "value": -1, "dtype": dtypes.i64})
    found = apply(_INDEX_UPDATE, (empty, row, place), {"dim": 0})[:size]
    step, columns = 1, []
    for n in reversed(shape):
        columns.append(
            where(lt(found, 0), constant(fill_value, dtypes.i64), remainder(floor_divide(found, step), n))
        )
        step = step * n
    if not columns:
        return finish(reshape(found, (size, 1))[:, :0], out, "nonzero_static")
    return finish(stack(columns[::-1], 1), out, "nonzero_static")


# The names of `torch` that are defined here.
__all__ = [
    "gather", "index_add", "index_copy", "index_fill", "index_reduce", "index_select", "masked_scatter",
    "masked_select", "nonzero_static", "put", "repeat_interleave", "scatter", "scatter_add", "scatter_reduce", "take",
    "take_along_dim",
]  # fmt: skip
