"""Views that read a tensor's memory otherwise: free strides, windows, bits as another dtype; and views replaced.

A `*_scatter` function gives the tensor with one of its views replaced, by the rule that a write through that view
has (`views.write_through`)."""

from __future__ import annotations

from typing import Any

from . import dispatch
from .arguments import as_dim, as_int, sizes, tensor_argument, wrap_dim
from .dispatch import apply, constant, view_step
from .functional_arithmetic import remainder
from .functional_complex import conj
from .functional_pointwise import eq, logical_and, where
from .functional_shape import (
    contiguous,
    movedim,
    ravel,
    reshape_step,
    shape_text,
    transpose,
    unsqueeze,
)
from .functional_slices import clamped, diag, diagonal_steps, select_steps, slice_step
from .inplace import finish, overwrite
from .ir import dtypes
from .ir.dims import DimLike, bounds
from .ir.types import TensorType
from .memory_layout import is_contiguous, strides
from .memory_layout import storage_offset as offset_of
from .promotion import as_operand, convert
from .state import local
from .tape_folded import folded
from .tensor import Tensor
from .views import ViewStep, write_through

_IOTA, _PAD = map(dispatch.op_named, ("iota", "pad"))


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: Any = None) -> Tensor:
    """The tensor's memory seen with these sizes and strides, `storage_offset` elements from its start."""
    tensor_argument(input, "as_strided")
    source, steps = _strided_steps(input, size, stride, storage_offset)
    return dispatch.view(source, steps, "AsStridedBackward0")


def _strided_steps(
    input: Tensor, size: Any, stride: Any, offset: DimLike | None
) -> tuple[Tensor, tuple[ViewStep, ...]]:
    """The view steps, and whose they are: the input's, or those of a tensor that it is a view of."""
    shape, want = sizes((size,), "as_strided"), tuple(map(as_int, stride))
    if len(shape) != len(want):
        raise RuntimeError("mismatch in length of strides and shape")
    first = offset_of(input) if offset is None else as_dim(offset)
    sources = [input]
    if input._base is not None:
        sources.append(input._base)
    if not input.requires_grad:
        sources.append(whole_storage(input))
    refusal: Exception = RuntimeError(
        "as_strided: the elements of the tensor's memory lie apart; clone() it first"
    )
    for source in sources:
        lead = _memory_steps(source)
        if lead is None:
            continue
        step = view_step("strided", {"size": shape, "stride": want, "offset": first - offset_of(source)})
        try:
            step.op.infer_types([TensorType((source._type.numel,), source.dtype)], step.attrs)
        except RuntimeError as error:  # it reaches beyond this part of the memory
            refusal = error
            continue
        return source, (*lead, step)
    raise refusal


def whole_storage(tensor: Tensor) -> Tensor:
    """All of the tensor's memory, as its base lies in it."""
    whole, storage = tensor._alias(), tensor._storage
    whole._array, whole._known_type, whole._value, whole._views = (
        storage.base_array,
        storage.base_type,
        None,
        (),
    )
    return whole


def _memory_steps(source: Tensor) -> tuple[ViewStep, ...] | None:
    """The steps to all elements in one dim, in the order in which they lie; None if they lie apart."""
    flat = reshape_step((source._type.numel,))
    if is_contiguous(source):
        return (flat,)
    shape, have = tuple(source.shape), strides(source)
    if not all(isinstance(n, int) for n in (*shape, *have)):
        return None
    order = tuple(sorted(range(len(shape)), key=lambda d: (-have[d], shape[d] == 1)))
    expected: DimLike = 1
    for d in reversed(order):
        if shape[d] != 1 and have[d] != expected:
            return None
        expected = expected * shape[d]
    return view_step("permute", {"dims": order}), flat


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dims, as a last dim: a view. (Of memory that no other tensor shows whole, a copy.)"""
    steps, shape = diagonal_steps(input, offset, dim1, dim2)
    if local.backend.capture is None and local.backend.vmap is None:
        a, b = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
        have = strides(input)
        rows, columns = input.shape[a], input.shape[b]
        if (
            rows > 1 and columns > 1 and have[a] != columns * have[b]
        ):  # not to be reshaped to one dim in place
            lead = tuple(n for d, n in enumerate(have) if d not in (a, b))
            first = offset_of(input) + max(-offset, 0) * have[a] + max(offset, 0) * have[b]
            try:
                source, steps = _strided_steps(input, shape, (*lead, have[a] + have[b]), first)
            except RuntimeError:
                source = input
            return dispatch.view(source, steps, "DiagonalBackward0")
    return dispatch.view(input, steps, "DiagonalBackward0")


def as_strided_scatter(
    input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """A copy of the tensor with the elements that `as_strided` would show replaced by those of `src`."""
    base = contiguous(input)
    _, steps = _strided_steps(base.detach(), size, stride, storage_offset)
    seen = dispatch.view(base.detach(), steps, "")
    return _replaced("as_strided_scatter", input, src, tuple(seen.shape), steps, "AsStridedScatterBackward0")


def _replaced(
    name: str, input: Tensor, src: Tensor, shape: tuple[DimLike, ...], steps: Any, grad_name: str
) -> Tensor:
    tensor_argument(src, name, "src", 2)
    if tuple(src.shape) != shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {shape_text(tuple(src.shape))}, "
            f"slice size = {shape_text(shape)}"
        )
    value = convert(src, input.dtype)
    return folded(grad_name, (input, src), lambda: write_through(dispatch.TENSORS, input, steps, value))


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of the tensor with its diagonal (`diagonal`) replaced by `src`."""
    steps, shape = diagonal_steps(input, offset, dim1, dim2)
    return _replaced("diagonal_scatter", input, src, shape, steps, "DiagonalScatterBackward0")


def select_scatter(input: Tensor, src: Tensor, dim: int, index: Any) -> Tensor:
    """A copy of the tensor with the part at one position of a dim replaced by `src`."""
    steps, shape = select_steps(input, dim, index)
    return _replaced("select_scatter", input, src, shape, steps, "SelectScatterBackward0")


def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """A copy of the tensor with the slice start:end:step of a dim replaced by `src`."""
    at = wrap_dim(dim, input.ndim)
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    size = input.shape[at]
    first = clamped(0 if start is None else as_dim(start), size)
    last = clamped(size if end is None else as_dim(end), size)
    if bounds(last - first)[1] < 0:
        last = first
    taken = slice_step(tuple(input.shape), at, first, last, step)
    (type_,) = taken.op.infer_types([input._type], taken.attrs)
    made = _replaced("slice_scatter", input, src, type_.shape, (taken,), "SliceScatterBackward0")
    return finish(made, out, "slice_scatter")


def slice_inverse(
    input: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    """The tensor `src`, which a slice of it came from: the inverse of slicing."""
    return as_strided(input, tuple(src.shape), strides(src), offset_of(src))


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` elements along a dim, `step` apart, as a last dim: a view."""
    at = wrap_dim(dimension, input.ndim)
    found = view_step("unfold", {"dim": at, "size": as_int(size), "step": as_int(step)})
    found.op.infer_types([input._type], found.attrs)
    return dispatch.view(input, (found,), "UnfoldBackward0")


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices with the last dim's elements on a diagonal, in the plane of two dims of the result."""
    rank = input.ndim + 1
    a, b = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return folded("DiagEmbedBackward0", (input,), lambda: _diagonal_matrices(input, as_int(offset), a, b))


def _diagonal_matrices(input: Tensor, offset: int, a: int, b: int) -> Tensor:
    size = input.shape[-1] + abs(offset)
    rows = apply(_IOTA, (), {"shape": (size, size), "dim": 0, "dtype": dtypes.i64})
    columns = apply(_IOTA, (), {"shape": (size, size), "dim": 1, "dtype": dtypes.i64})
    on_diagonal = eq(columns - rows, offset)
    high = (0,) * (input.ndim - 1) + (abs(offset),)
    wide = apply(_PAD, (input,), {"low": (0,) * input.ndim, "high": high, "value": 0})
    # Counted by its row above the main diagonal, by its column below it.
    spread = unsqueeze(wide, -1 if offset >= 0 else -2)
    matrices = where(on_diagonal, spread, constant(0, input.dtype))
    return contiguous(movedim(matrices, (-2, -1), (a, b)))


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with the elements, in order, on a diagonal."""
    return diag(ravel(input), offset)


def fill_diagonal_(input: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """The main diagonal becomes the value; with `wrap` again below each square block of a tall matrix."""
    if input.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    shape = tuple(map(as_int, input.shape))
    if input.ndim > 2 and len(set(shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    if isinstance(fill_value, Tensor) and fill_value.ndim:
        raise RuntimeError(
            f"fill_diagonal_ only supports 0-dimension value tensor but got tensor with {fill_value.ndim} dimensions."
        )
    row = apply(_IOTA, (), {"shape": shape, "dim": 0, "dtype": dtypes.i64})
    hit: Any = None
    for dim in range(1, input.ndim):
        other = apply(_IOTA, (), {"shape": shape, "dim": dim, "dtype": dtypes.i64})
        # PyTorch starts again one row below the block.
        own = remainder(row, shape[1] + 1) if wrap and input.ndim == 2 else row
        same = eq(own, other)
        hit = same if hit is None else logical_and(hit, same)
    return overwrite(input, lambda: where(hit, as_operand(fill_value, input.dtype), input))


def adjoint(input: Tensor) -> Tensor:
    """The conjugate transpose of the last two dims: a view."""
    if input.ndim < 2:
        raise RuntimeError(
            f"tensor.adjoint() is only supported on matrices or batches of matrices. Got {input.ndim}-D tensor."
        )
    return conj(transpose(input, -2, -1))


def matrix_adjoint(input: Tensor) -> Tensor:
    """`x.mH`."""
    if input.ndim < 2:
        raise RuntimeError(
            f"tensor.mH is only supported on matrices or batches of matrices. Got {input.ndim}-D tensor."
        )
    return adjoint(input)


# The names of `torch` that are defined here.
__all__ = [
    "adjoint", "as_strided", "as_strided_scatter", "diag_embed", "diagflat", "diagonal", "diagonal_scatter",
    "select_scatter", "slice_inverse", "slice_scatter",
]  # fmt: skip
