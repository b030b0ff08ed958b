"""Functions that rearrange: views of one tensor (reshape, transpose, select, split ...), and joining tensors.

Each view is a chain of view ops with one node on the tape, named as PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from . import dispatch
from .arguments import dims_of, sizes, tensors_argument, wrap_dim, wrap_dims
from .autocast import widest
from .dispatch import apply, op_named, view_step
from .formats import dims_in_memory, preserve_format
from .functional_pointwise import convert_copy
from .inplace import finish, into
from .ir.dims import DimLike, exact_div, product
from .ir.dtypes import i64
from .ir.ops.common import broadcast
from .memory_layout import can_view, is_contiguous
from .promotion import as_operand, result_dtype
from .reinterpret import view_dtype
from .size import Size
from .tape_folded import folded
from .tensor import Tensor
from .views import ViewStep

_CONCAT, _FLIP, _RESHAPE = map(op_named, ("concat", "flip", "reshape"))


@lru_cache(maxsize=1 << 12)
def reshape_step(shape: tuple[DimLike, ...]) -> ViewStep:
    """The view step to another shape."""
    return view_step("reshape", {"shape": shape})


def shape_text(shape: Sequence[DimLike]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _infer_size(input: Tensor, shape: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """The shape with a -1 in it worked out; RuntimeError if it does not fit the number of elements."""
    total = input._type.numel
    unknown = [i for i, size in enumerate(shape) if type(size) is int and size == -1]
    if len(unknown) > 1:
        raise RuntimeError("only one dimension can be inferred")
    for size in shape:
        if type(size) is int and size < -1:
            raise RuntimeError(
                f"invalid shape dimension {size} at index {shape.index(size)} of shape {shape_text(shape)}"
            )
    rest = product(size for i, size in enumerate(shape) if i not in unknown)
    if not unknown:
        if rest != total:
            raise RuntimeError(f"shape '{shape_text(shape)}' is invalid for input of size {total}")
        return shape
    if rest == 0:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {shape_text(shape)} because the unspecified dimension "
            "size -1 can be any value and is ambiguous"
        )
    try:
        missing = exact_div(total, rest)
    except ValueError:
        raise RuntimeError(f"shape '{shape_text(shape)}' is invalid for input of size {total}") from None
    return (*shape[: unknown[0]], missing, *shape[unknown[0] + 1 :])


def view(input: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """The same memory in another shape, or with elements of another dtype; RuntimeError where no strides describe
    that."""
    if len(shape) == 1 and isinstance(shape[0], dispatch.DType):
        (dtype,) = shape
    if dtype is not None:
        return view(input, input.shape) if dtype is input.dtype else view_dtype(input, dtype)
    wanted = _infer_size(input, sizes(shape, "view", size))
    if not can_view(input, wanted):
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across "
            "two contiguous subspaces). Use .reshape(...) instead."
        )
    return dispatch.view(input, (reshape_step(wanted),), "ViewBackward0")


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """`view` in the other's shape."""
    return view(input, other.shape)


def reshape(input: Tensor, *given: Any, shape: Any = None) -> Tensor:
    """The elements in another shape: a view where possible, else a copy."""
    wanted = _infer_size(input, sizes(given, "reshape", shape))
    if can_view(input, wanted):
        return dispatch.view(input, (reshape_step(wanted),), "ViewBackward0")
    copied = contiguous(input)
    result: Tensor = apply(_RESHAPE, (copied,), {"shape": wanted}, "UnsafeViewBackward0")
    result._base = None  # of the copy, which nobody else sees
    return result


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """`reshape` to the other's shape."""
    return reshape(input, other.shape)


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor in row-major order, or in the order of dims that the format says: itself if it is, else a copy."""
    if memory_format is preserve_format and not is_contiguous(input):
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    order = dims_in_memory(memory_format, input.ndim)
    if order is not None and order != tuple(range(input.ndim)):
        return input if is_contiguous(input, order) else laid_out(input, order)
    if is_contiguous(input):
        return input
    copied = convert_copy(input)
    if copied._array is not None and not copied._array.flags.c_contiguous:
        # A copy keeps the order of its source; this one exists to have another.
        copied._array = copied._storage.base_array = copied._array.copy("C")
    return copied


def laid_out(input: Tensor, order: tuple[int, ...] | None) -> Tensor:
    """A copy whose dims lie in memory in the given order; of None, as they do in the input."""
    if order is None:
        return convert_copy(input)

    def compute() -> Tensor:
        moved = permute(input, order)
        copied = convert_copy(moved)
        if copied._array is not None and not copied._array.flags.c_contiguous:
            copied._array = copied._storage.base_array = copied._array.copy("C")
        return permute(copied, tuple(sorted(range(len(order)), key=order.__getitem__)))

    found = folded("CloneBackward0", (input,), compute)
    found._base = None  # of the copy, which nobody else sees
    return found


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims start_dim to end_dim as one."""
    rank = input.ndim
    start, end = wrap_dim(start_dim, rank), wrap_dim(end_dim, rank)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if rank == 0:
        return reshape(input, (1,))
    if start == end:
        return input
    shape = tuple(input.shape)
    return reshape(input, (*shape[:start], product(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dim as several."""
    dim = wrap_dim(dim, input.ndim)
    shape = tuple(input.shape)
    given = list(sizes)
    if not given:
        raise RuntimeError("unflatten: sizes must be non-empty")
    if -1 in given:
        known = math.prod(s for s in given if s != -1)
        given[given.index(-1)] = shape[dim] // known if known else 0
    if math.prod(given) != shape[dim]:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({shape[dim]}) in "
            "the input tensor"
        )
    return view(input, (*shape[:dim], *given, *shape[dim + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """The elements in one dim."""
    return reshape(input, (-1,)) if input._type.numel != 0 else reshape(input, (0,))


# Order of dims


def permute(input: Tensor, *given: Any, dims: Any = None) -> Tensor:
    """The dims in another order."""
    dims = dims_of(given, dims)
    rank = input.ndim
    if len(dims) != rank:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {rank} is not equal to len(dims) = {len(dims)}"
        )
    order = tuple(wrap_dim(d, rank) for d in dims)
    if len(set(order)) != rank:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return dispatch.view(input, (view_step("permute", {"dims": order}),), "PermuteBackward0")


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged."""
    return _transpose(input, dim0, dim1, "TransposeBackward0")


def _transpose(input: Tensor, dim0: int, dim1: int, grad_name: str) -> Tensor:
    rank = input.ndim
    a, b = wrap_dim(dim0, rank), wrap_dim(dim1, rank)
    order = list(range(rank))
    if rank:
        order[a], order[b] = b, a
    return dispatch.view(input, (view_step("permute", {"dims": tuple(order)}),), grad_name)


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; vectors and numbers as they are."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return _transpose(input, 0, 0 if input.ndim < 2 else 1, "TBackward0")


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """The source dims at the destination positions, the others in their order."""
    rank = input.ndim
    sources = [wrap_dim(d, rank) for d in (source if isinstance(source, Sequence) else [source])]
    targets = [
        wrap_dim(d, rank) for d in (destination if isinstance(destination, Sequence) else [destination])
    ]
    if len(sources) != len(targets):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({sources} dims) should contain the same number "
            f"of dims as destination ({targets} dims)"
        )
    for name, given, found in (("source", source, sources), ("destination", destination, targets)):
        if len(set(found)) < len(found):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({shape_text(given)})")
    rest = iter(d for d in range(rank) if d not in sources)
    placed = dict(zip(targets, sources))
    return permute(input, tuple(placed[i] if i in placed else next(rest) for i in range(rank)))


moveaxis, swapdims = movedim, transpose


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Two dims exchanged."""
    return transpose(input, axis0, axis1)


def flip(input: Tensor, *given: Any, dims: Any = None) -> Tensor:
    """The given dims reversed, copied."""
    found: Tensor = apply(_FLIP, (input,), {"dims": wrap_dims(dims_of(given, dims), input.ndim)})
    return found


# Dims of size 1


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dims of size 1, or without the given ones where they have size 1."""
    shape = tuple(input.shape)
    dims = range(len(shape)) if dim is None else wrap_dims(dim, len(shape))
    kept = tuple(size for i, size in enumerate(shape) if not (i in dims and size == 1))
    name = (
        "SqueezeBackward0"
        if dim is None
        else "SqueezeBackward2"
        if isinstance(dim, Sequence)
        else "SqueezeBackward1"
    )
    return dispatch.view(input, (reshape_step(kept),), name)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dim of size 1."""
    shape = tuple(input.shape)
    at = wrap_dim(dim, len(shape) + 1)
    return dispatch.view(input, (reshape_step((*shape[:at], 1, *shape[at:])),), "UnsqueezeBackward0")


# Repetition


def expand(input: Tensor, *shape: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Dims of size 1 repeated without copying; -1 keeps a size."""
    wanted, have = sizes(shape, "expand", size), tuple(input.shape)
    lead = len(wanted) - len(have)
    if lead < 0:
        raise RuntimeError(
            f"expand({input.type()}{{{shape_text(have)}}}, size={shape_text(wanted)}): the number of sizes provided "
            f"({len(wanted)}) must be greater or equal to the number of dimensions in the tensor ({len(have)})"
        )
    full: list[DimLike] = list(wanted)
    for i in reversed(range(len(wanted))):  # PyTorch names the last dim that does not fit
        size = wanted[i]
        if type(size) is int and size == -1:
            if i < lead:
                raise RuntimeError(
                    f"The expanded size of the tensor ({size}) isn't allowed in a leading, non-existing dimension "
                    f"{i}"
                )
            size = have[i - lead]
        elif i >= lead and have[i - lead] != size and have[i - lead] != 1:
            raise RuntimeError(
                f"The expanded size of the tensor ({size}) must match the existing size ({have[i - lead]}) at "
                f"non-singleton dimension {i}.  Target sizes: {shape_text(wanted)}.  Tensor sizes: "
                f"{shape_text(have)}"
            )
        full[i] = size
    return dispatch.view(input, (view_step("expand", {"shape": tuple(full)}),), "ExpandBackward0")


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`expand` to the other's shape."""
    return expand(input, other.shape)


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """`expand` under its NumPy name."""
    return expand(input, size)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All of them expanded to the shape they broadcast to."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], Sequence) else tensors
    shape = broadcast(*(tuple(x.shape) for x in given)) if given else ()
    return tuple(expand(x, shape) for x in given)


def broadcast_shapes(*shapes: Any) -> Any:
    """The shape that the shapes broadcast to; RuntimeError where they do not."""
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    rank = max((len(s) for s in given), default=0)
    result: list[Any] = [1] * rank
    for number, shape in enumerate(given):
        for back in range(-1, -len(shape) - 1, -1):
            size = shape[back]
            if size != 1 and result[back] != size:
                if result[back] != 1:
                    raise RuntimeError(
                        f"Attempting to broadcast a dimension of length {size} at {back}! Mismatching argument at "
                        f"index {number} had {shape}; but expected shape should be broadcastable to {result}"
                    )
                result[back] = size
    return Size(result)


def repeat(input: Tensor, *given: Any, repeats: Any = None) -> Tensor:
    """The tensor laid out `repeats[i]` times along dim i, copied."""
    counts = sizes(given, "repeat", repeats)
    have = tuple(input.shape)
    if len(counts) < len(have):
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor"
        )
    have = (1,) * (len(counts) - len(have)) + have
    apart = tuple(d for size in have for d in (1, size))
    wide = tuple(d for count, size in zip(counts, have) for d in (count, size))
    joined = tuple(count * size for count, size in zip(counts, have))

    def compute() -> Tensor:
        return reshape(contiguous(convert_copy(expand(reshape(input, apart), wide))), joined)

    return folded("RepeatBackward0", (input,), compute)


def tile(input: Tensor, *given: Any, dims: Any = None) -> Tensor:
    """`repeat` with missing leading counts taken as 1."""
    counts = sizes(given, "tile", dims)
    return repeat(input, (1,) * (input.ndim - len(counts)) + counts)


# Parts


# Joining


@widest
def cat(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The tensors one after the other along a dim."""
    parts = tensors_argument(tensors, "cat")
    if not parts:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    dtype = result_dtype(*parts)
    for i, part in enumerate(parts):
        if part.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    # An empty vector joins anything: a relic that PyTorch keeps.
    kept = [x for x in parts if tuple(x.shape) != (0,)] or parts[:1]
    dim = wrap_dim(dim, kept[0].ndim)
    result = apply(_CONCAT, [as_operand(x, dtype) for x in kept], {"dim": dim})
    return result if out is None else into(out, result, "cat")


concat = concatenate = cat


@widest
def stack(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Tensors of one shape along a new dim."""
    parts = tensors_argument(tensors, "stack")
    if not parts:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = tuple(parts[0].shape)
    for i, part in enumerate(parts):
        if tuple(part.shape) != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {shape_text(shape)} at entry 0 and "
                f"{shape_text(part.shape)} at entry {i}"
            )
    at = wrap_dim(dim, len(shape) + 1)
    dtype = result_dtype(*parts)

    def compute() -> Tensor:
        found: Tensor = apply(_CONCAT, [unsqueeze(as_operand(x, dtype), at) for x in parts], {"dim": at})
        return found

    result = folded("StackBackward0", parts, compute)
    return result if out is None else into(out, result, "stack")


def _triangle(input: Tensor, keep: str, diagonal: int) -> Tensor:
    if input.ndim < 2:
        name = "tril" if keep == "le" else "triu"
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    rows, columns = tuple(input.shape)[-2:]
    iota = op_named("iota")
    i = apply(iota, (), {"shape": (rows, columns), "dim": 0, "dtype": i64})
    j = apply(iota, (), {"shape": (rows, columns), "dim": 1, "dtype": i64})
    shifted = apply(op_named("add"), (i, dispatch.constant(diagonal, i64)))
    inside = apply(op_named(keep), (j, shifted))
    zero = dispatch.constant(0, input.dtype)
    name = "TrilBackward0" if keep == "le" else "TriuBackward0"
    result: Tensor = apply(op_named("where"), (inside, input, zero), grad_name=name)
    if result._grad_fn is not None:
        result._grad_fn.edges_shown = 1
    return result


def tril(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The lower triangle, the rest 0."""
    return finish(_triangle(input, "le", diagonal), out, "tril")


def triu(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The upper triangle, the rest 0."""
    return finish(_triangle(input, "ge", diagonal), out, "triu")


# The names of `torch` that are defined here.
__all__ = [
    "broadcast_shapes", "broadcast_tensors", "broadcast_to", "cat", "concat",
    "concatenate", "flatten", "flip", "moveaxis", "movedim", "permute", "ravel",
    "reshape", "squeeze", "stack", "swapaxes", "swapdims", "t", "tile", "transpose", "tril", "triu",
    "unflatten", "unsqueeze",
]  # fmt: skip
