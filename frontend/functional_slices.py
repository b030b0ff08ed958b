"""Parts of tensors: slices, rows, pieces, diagonals; views, unless the name says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

from . import dispatch
from .arguments import also_named, as_dim, as_int, wrap_dim
from .capture import active
from .dispatch import apply, op_named, view_step
from .functional_pointwise import convert_copy
from .functional_shape import cat, flip, ravel, reshape, reshape_step, shape_text, transpose, unsqueeze
from .inplace import finish
from .ir.dims import DimLike, answer, bounds, minimum
from .ir.dtypes import bool_, i64
from .tape_folded import folded
from .tensor import Tensor
from .views import Views, ViewStep

_IOTA, _INDEX_SELECT = map(op_named, ("iota", "index_select"))


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """The elements shifted along the dims, those that fall off coming back at the other end."""
    return folded("RollBackward0", (input,), lambda: _rolled(input, shifts, dims))


def _rolled(input: Tensor, shifts: Any, dims: Any) -> Tensor:
    if dims is None:
        return reshape(_rolled(ravel(input), shifts, 0), input.shape)
    by, along = ((v if isinstance(v, Sequence) else (v,)) for v in (shifts, dims))
    if len(by) != len(along):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(by)}, dims:{len(along)}")
    for shift, dim in zip(by, along):
        dim = wrap_dim(dim, input.ndim)
        size = input.shape[dim]
        if size:
            cut = (size - shift % size) % size
            input = cat([narrow(input, dim, cut, size - cut), narrow(input, dim, 0, cut)], dim)
    return input


def slice_dim(input: Tensor, dim: int, start: DimLike, stop: DimLike, step: int, grad_name: str) -> Tensor:
    """Elements start, start + step, ... below stop along one dim; 0 <= start <= stop <= size."""
    shape = tuple(input.shape)
    return dispatch.view(input, (slice_step(shape, dim, start, stop, step),), grad_name)


def clamped(at: DimLike, size: DimLike) -> DimLike:
    """A slice's end counted from the front and brought into [0, size]."""
    if type(at) is int and at < 0:
        at = size + at
        if bounds(at)[0] < 0:
            at = 0 if bounds(at)[1] <= 0 else at - minimum(at, 0)  # the larger of the two
    return minimum(at, size)


@lru_cache(maxsize=1 << 12)
def slice_step(shape: tuple[DimLike, ...], dim: int, start: DimLike, stop: DimLike, step: int) -> ViewStep:
    """The view step of such a slice."""
    before, after = dim, len(shape) - dim - 1
    attrs = {
        "starts": (0,) * before + (start,) + (0,) * after,
        "stops": (*shape[:dim], stop, *shape[dim + 1 :]),
        "steps": (1,) * before + (step,) + (1,) * after,
    }
    return view_step("slice", attrs)


def narrow(input: Tensor, dim: int, start: Any, length: Any) -> Tensor:
    """`length` elements along dim from `start`."""
    if input.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, input.ndim)
    if isinstance(start, Tensor):
        if start.ndim or not start.dtype.is_integral or start.dtype is bool_:
            raise RuntimeError("start must be an 0-dim integral Tensor.")
        if active() is not None:  # known when the compiled function runs: a copy
            place = apply(_IOTA, (), {"shape": (as_int(length),), "dim": 0, "dtype": i64})
            found: Tensor = apply(_INDEX_SELECT, (input, place + start), {"dim": dim}, "SliceBackward0")
            return found
    start, length, size = as_dim(start), as_dim(length), input.shape[dim]
    if type(length) is int and length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if type(start) is int and type(size) is int and not -size <= start <= size:
        raise IndexError(
            f"start out of range (expected to be in range of [{-size}, {size}], but got {start})"
        )
    if type(start) is int and start < 0:
        start = size + start
    if answer("ge", size - start, length) is False or answer("ge", start, 0) is False:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return slice_dim(input, dim, start, start + length, 1, "SliceBackward0")


def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The part at one position of a dim, without the dim."""
    return dispatch.view(input, select_steps(input, dim, index)[0], "SelectBackward0")


def select_steps(input: Tensor, dim: int, index: Any) -> tuple[Views, tuple[DimLike, ...]]:
    """The view steps of `select`, and the shape of its result."""
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, input.ndim)
    shape = tuple(input.shape)
    size, at = shape[dim], as_dim(index)
    if type(at) is int and answer("gt", size, at if at >= 0 else -at - 1) is False:
        raise IndexError(
            f"select(): index {at} out of range for tensor of size {shape_text(shape)} at dimension {dim}"
        )
    return _select_steps(shape, dim, size + at if type(at) is int and at < 0 else at)


def _select_steps(shape: tuple[DimLike, ...], dim: int, at: DimLike) -> tuple[Views, tuple[DimLike, ...]]:
    rest = (*shape[:dim], *shape[dim + 1 :])
    return (slice_step(shape, dim, at, at + 1, 1), reshape_step(rest)), rest


def _forbid_writes(parts: list[Tensor], node: str) -> tuple[Tensor, ...]:
    """Mark the results of a function that returns several views: autograd cannot follow writes to them."""
    for number, part in enumerate(parts):
        part._autograd_extra().creation = f"Output {number} of {node}"
    return tuple(parts)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The parts along a dim, each without it."""
    if input.ndim == 0:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    dim = wrap_dim(dim, input.ndim)
    shape = tuple(input.shape)
    count = as_int(shape[dim])
    parts = [dispatch.view(input, _select_steps(shape, dim, i)[0], "UnbindBackward0") for i in range(count)]
    return _forbid_writes(parts, "Unbind")


@also_named(tensor="input", split_size="split_size_or_sections")
def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given size along a dim (the last may be smaller), or of the given sizes."""
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    if isinstance(split_size_or_sections, Sequence):
        lengths = [as_dim(s) for s in split_size_or_sections]
        total: DimLike = 0
        for length in lengths:
            if type(length) is int and length < 0:
                raise RuntimeError(
                    "split_with_sizes expects split_sizes have only non-negative entries, but got "
                    f"split_sizes={shape_text(lengths)}"
                )
            total = total + length
        if total != size:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at dimension "
                f"{dim}), but got split_sizes={shape_text(lengths)}"
            )
        return _split(input, lengths, dim, "SplitWithSizes")
    length = as_int(split_size_or_sections)
    size = as_int(size)
    if length < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={length}")
    if length == 0 and size:
        raise RuntimeError(
            f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}"
        )
    count = max(-(-size // length), 1) if length else 1
    return _split(input, [min(length, size - i * length) for i in range(count)], dim, "Split")


def _split(input: Tensor, lengths: Sequence[DimLike], dim: int, node: str) -> tuple[Tensor, ...]:
    parts, start = [], 0
    for length in lengths:
        parts.append(slice_dim(input, dim, start, start + length, 1, node + "Backward0"))
        start = start + length  # type: ignore[assignment]
    return _forbid_writes(parts, node)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size along a dim, the last perhaps smaller."""
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    size = as_int(input.shape[wrap_dim(dim, input.ndim)])
    if not size:
        return split(input, [0] * chunks, dim)
    return split(input, -(-size // chunks), dim)


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given sizes along a dim."""
    return split(input, list(split_sizes), dim)


@also_named(input="tensor")
def unsafe_split(tensor: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`split` into parts that may be written to while nothing else uses the tensor."""
    return _unmarked(split(tensor, split_size, dim))


def unsafe_split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """`split_with_sizes` into parts that may be written to while nothing else uses the tensor."""
    return _unmarked(split_with_sizes(input, split_sizes, dim))


def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`chunk` into parts that may be written to while nothing else uses the tensor."""
    return _unmarked(chunk(input, chunks, dim))


def _unmarked(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    for part in parts:
        part._autograd_extra().creation = ""
    return parts


_either = also_named(
    sections="indices_or_sections",
    indices="indices_or_sections",
    tensor_indices_or_sections="indices_or_sections",
)


@_either
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """`sections` parts whose sizes differ by at most one, or parts that begin at the given indices."""
    if not input.ndim:
        raise RuntimeError(
            "tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims"
        )
    size = as_int(input.shape[wrap_dim(dim, input.ndim)])
    if isinstance(indices_or_sections, Tensor):
        if indices_or_sections.dtype is not i64 or indices_or_sections.ndim > 1:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional tensor "
                f"of dtype long, but got a tensor with {indices_or_sections.ndim} dims"
            )
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        if indices_or_sections <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {indices_or_sections}")
        small, larger = divmod(size, indices_or_sections)
        lengths = [small + 1] * larger + [small] * (indices_or_sections - larger)
        indices_or_sections = list(accumulate(lengths[:-1]))
    marks: list[Any] = [0, *(minimum(i if i >= 0 else size + i, size) for i in indices_or_sections), size]
    parts = [narrow(input, dim, a, max(b - a, 0)) for a, b in pairwise(marks)]
    return tuple(parts)


def _split_along(name: str, dim: int, rank: int, doc: str) -> Callable[[Tensor, Any], tuple[Tensor, ...]]:
    @_either
    def function(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
        if input.ndim < rank:
            raise RuntimeError(
                f"torch.{name} requires a tensor with at least {rank} dimension, but got a tensor with {input.ndim} "
                "dimensions!"
            )
        at = min(dim, input.ndim - 1)
        if isinstance(indices_or_sections, int):
            size = input.shape[at]
            if indices_or_sections <= 0 or size % indices_or_sections:
                raise RuntimeError(
                    f"torch.{name} attempted to split along dimension {at}, but the size of the dimension {size} is "
                    f"not divisible by the split_size {indices_or_sections}!"
                )
        return tensor_split(input, indices_or_sections, at)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


hsplit = _split_along("hsplit", 1, 1, "`tensor_split` into columns; of a vector, into parts.")
vsplit = _split_along("vsplit", 0, 2, "`tensor_split` into rows.")
dsplit = _split_along("dsplit", 2, 3, "`tensor_split` along the third dim.")


def diagonal_steps(input: Tensor, offset: int, dim1: int, dim2: int) -> tuple[Views, tuple[DimLike, ...]]:
    """The view steps of `diagonal`, and the shape of its result."""
    rank, offset = input.ndim, as_int(offset)
    a, b = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    order = (*(d for d in range(rank) if d not in (a, b)), a, b)
    *lead, rows, columns = (input.shape[d] for d in order)
    row, column = max(-offset, 0), max(offset, 0)
    length = max(min(rows - row, columns - column), 0)
    # In row-major order neighbours on the diagonal lie columns + 1 elements apart.
    first = row * columns + column if length else 0
    last = first + (length - 1) * (columns + 1) + 1 if length else 0
    sliced = {
        "starts": (*(0 for _ in lead), first),
        "stops": (*lead, last),
        "steps": (*(1 for _ in lead), columns + 1),
    }
    steps = (
        view_step("permute", {"dims": order}),
        reshape_step((*lead, rows * columns)),
        view_step("slice", sliced),
    )
    return steps, (*lead, length)


def diagonal_to_read(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """`diagonal`, a copy where the matrix does not lie as it wants. Its history is the input's alone, as `folded` needs
    it, while that of a view may be its base's."""
    return dispatch.view(input, diagonal_steps(input, offset, dim1, dim2)[0], "DiagonalBackward0")


def diag(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The diagonal of a matrix, or a matrix with the vector as its diagonal."""
    return finish(_diag(input, diagonal), out, "diag")


def _diag(input: Tensor, diagonal: int) -> Tensor:
    if input.ndim == 2:
        return folded(
            "DiagonalBackward0_copy",
            (input,),
            lambda: convert_copy(diagonal_to_read(input, diagonal)),
        )
    if input.ndim != 1:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    size = input.shape[0] + abs(diagonal)
    row, column = max(-diagonal, 0), max(diagonal, 0)
    count = input.shape[0]
    return folded("DiagEmbedBackward0", (input,), lambda: _diagonal_matrix(input, count, size, row, column))


def _diagonal_matrix(input: Tensor, count: int, size: int, row: int, column: int) -> Tensor:
    # Each row of the matrix is the element followed by zeros: laid out flat, rows of size + 1 put it on the
    # diagonal.
    padded = apply(op_named("pad"), (unsqueeze(input, 1),), {"low": (0, 0), "high": (0, size), "value": 0})
    flat = (
        narrow(reshape(padded, (-1,)), 0, 0, count * (size + 1) - size) if count else reshape(padded, (-1,))
    )
    before = row * size + column
    after = size * size - before - flat.shape[0]
    flat = apply(op_named("pad"), (flat,), {"low": (before,), "high": (after,), "value": 0})
    return reshape(flat, (size, size))


def fliplr(input: Tensor) -> Tensor:
    """The columns reversed, copied."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """The rows reversed, copied."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned k times by 90 degrees in the plane of two dims, from the first towards the second; copied."""
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (wrap_dim(d, input.ndim) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {a} and dim1 = {b}")
    turned = [
        lambda: convert_copy(input),
        lambda: transpose(flip(input, b), a, b),
        lambda: flip(input, a, b),
        lambda: flip(transpose(input, a, b), b),
    ][k % 4]
    return folded("Rot90Backward0", (input,), lambda: convert_copy(turned()))


# The names of `torch` that are defined here.
__all__ = [
    "chunk", "diag", "dsplit", "fliplr", "flipud", "hsplit", "narrow", "roll", "rot90", "select",
    "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_chunk", "unsafe_split",
    "unsafe_split_with_sizes", "vsplit",
]  # fmt: skip
