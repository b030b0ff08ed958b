"""Views: result elements are operand elements at other indices, and nothing is computed.

`reshape`, `permute`, `expand` and `slice` are views in PyTorch's sense too: in eager mode the result shares
memory with the operand, and each has a `write_back`, by which an in-place op on the view becomes a new base.
`update_slice` is the write-back of `slice`. `rearrangement.py` has the ops of this kind that only copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import DimLike, bounds, floordiv, mod, product
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import (
    Array,
    Shape,
    check_dim,
    check_same_dtype,
    needed,
    shape_of,
    shape_text,
    strided,
    uniform,
)

Index = tuple[DimLike, ...]
# One way an element may be found: (operand number, operand index, guard). The guard is None, or a list of
# (low, index, high) that must all hold: low <= index < high.
Case = tuple[int, Index, list[tuple[DimLike, DimLike, DimLike]] | None]
OVERLAP = (
    "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
    "Please clone() the tensor before performing the operation."
)


# reshape


def _reshape_infer(x: TensorType, shape: Shape) -> TensorType:
    if product(shape) != x.numel:
        raise RuntimeError(f"shape '{shape_text(shape)}' is invalid for input of size {x.numel}")
    return x.with_shape(shape)


def reshape_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The dims of two shapes of equal size in runs of equal product, as short as can be proved; 1s belong to
    no run.

    >>> reshape_groups((64, 16, 5, 5), (64, 400))
    [([0], [0]), ([1, 2, 3], [1])]
    """
    left = [i for i, size in enumerate(old) if size != 1]
    right = [i for i, size in enumerate(new) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        size_a, size_b = old[a[0]], new[b[0]]
        while size_a != size_b and (left or right):
            low, high = bounds(size_a - size_b)
            grow_a = high <= 0 if low < 0 else False
            if low < 0 < high:  # neither is known to be smaller: one run of all the rest
                a, b, left, right = a + left, b + right, [], []
                break
            if (grow_a and left) or not right:
                a.append(left.pop(0))
                size_a = size_a * old[a[-1]]
            else:
                b.append(right.pop(0))
                size_b = size_b * new[b[-1]]
        groups.append((a, b))
    return groups


def _reshape_index(types: list[TensorType], result: TensorType, index: Index, shape: Shape) -> list[Case]:
    old = types[0].shape
    where: list[DimLike] = [0] * len(old)
    if 0 in old:
        return [(0, tuple(where), None)]
    for olds, news in reshape_groups(old, shape):
        linear: DimLike = 0
        for i in news:
            linear = linear * shape[i] + index[i]
        for i in reversed(olds[1:]):
            where[i] = mod(linear, old[i])
            linear = floordiv(linear, old[i])
        where[olds[0]] = linear
    return [(0, tuple(where), None)]


declare(
    Op(
        "reshape",
        "The same elements, in row-major order, in another shape. "
        "https://docs.pytorch.org/docs/stable/generated/torch.reshape.html",
        infer=_reshape_infer,
        numpy=lambda x, shape: np.reshape(x, shape),
        attrs={"shape": Attr("dims")},
        lowering="view",
        vjp=lambda F, ctx, dy: [F.reshape(dy, shape=shape_of(F, ctx.inputs[0]))],
        index_map=_reshape_index,
        write_back=lambda F, base, view, shape: F.reshape(view, shape=shape_of(F, base)),
        grad_name="ViewBackward0",
        samples=(
            uniform((2, 3, 4), shape=(6, 4)),
            uniform((6, 4), shape=(2, 3, 2, 2)),
            uniform((3, 4), shape=(2, 6)),
            uniform((1,), shape=()),
            uniform((2, 1, 3), shape=(1, 2, 3, 1)),
            uniform((0, 3), shape=(5, 0)),
            strided((3, 4), shape=(12,)),
        ),
    )
)

# permute


def _permute_infer(x: TensorType, dims: tuple[int, ...]) -> TensorType:
    if len(dims) != x.rank:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of "
            f"the desired ordering of dimensions i.e. input.dim() = {x.rank} is not equal to len(dims) = "
            f"{len(dims)}"
        )
    for dim in dims:
        check_dim(dim, x.rank)
    if len(set(dims)) != len(dims):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return x.with_shape(tuple(x.shape[d] for d in dims))


def inverse(dims: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `dims`."""
    return tuple(sorted(range(len(dims)), key=dims.__getitem__))


def _permute_index(
    types: list[TensorType], result: TensorType, index: Index, dims: tuple[int, ...]
) -> list[Case]:
    return [(0, tuple(index[i] for i in inverse(dims)), None)]


declare(
    Op(
        "permute",
        "Result dim i is operand dim dims[i]. https://docs.pytorch.org/docs/stable/generated/torch.permute.html",
        infer=_permute_infer,
        numpy=lambda x, dims: np.transpose(x, dims),
        attrs={"dims": Attr("ints")},
        lowering="view",
        vjp=lambda F, ctx, dy: [F.permute(dy, dims=inverse(ctx.attrs["dims"]))],
        index_map=_permute_index,
        write_back=lambda F, base, view, dims: F.permute(view, dims=inverse(dims)),
        grad_name="PermuteBackward0",
        samples=(
            uniform((2, 3, 4), dims=(2, 0, 1)),
            uniform((2, 3), dims=(1, 0)),
            uniform((), dims=()),
            uniform((0, 3), dims=(1, 0)),
            strided((3, 4), dims=(1, 0)),
        ),
    )
)

# expand


def _expand_infer(x: TensorType, shape: Shape) -> TensorType:
    lead = len(shape) - x.rank
    if lead < 0:
        raise RuntimeError(
            f"expand({x.dtype!r}{{{shape_text(x.shape)}}}, size={shape_text(shape)}): the number of sizes "
            f"provided ({len(shape)}) must be greater or equal to the number of dimensions in the tensor "
            f"({x.rank})"
        )
    for i, (have, want) in enumerate(zip(x.shape, shape[lead:])):
        if have not in (1, want):
            raise RuntimeError(
                f"The expanded size of the tensor ({want}) must match the existing size ({have}) at "
                f"non-singleton dimension {lead + i}.  Target sizes: {shape_text(shape)}.  Tensor sizes: "
                f"{shape_text(x.shape)}"
            )
    return x.with_shape(shape)


def _expand_numpy(x: Array, shape: tuple[int, ...]) -> Array:
    # Without repetition the result may be written to; np.broadcast_to's may not.
    return x.reshape(shape) if x.size == np.prod(shape, dtype=int) else np.broadcast_to(x, shape)


def _expand_index(types: list[TensorType], result: TensorType, index: Index, shape: Shape) -> list[Case]:
    old = types[0].shape
    tail = index[len(index) - len(old) :]
    return [(0, tuple(0 if size == 1 else i for size, i in zip(old, tail)), None)]


def _expand_write(F: Any, base: Any, view: Any, shape: Shape) -> Any:
    old = shape_of(F, base)
    if 0 in shape:
        return base
    if product(old) != product(shape):
        raise RuntimeError(OVERLAP)
    return F.reshape(view, shape=old)


declare(
    Op(
        "expand",
        "Dims of size 1 repeated, and new leading dims. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.expand.html",
        infer=_expand_infer,
        numpy=_expand_numpy,
        attrs={"shape": Attr("dims")},
        lowering="view",
        vjp=lambda F, ctx, dy: [F.sum_to(dy, shape_of(F, ctx.inputs[0]))],
        index_map=_expand_index,
        write_back=_expand_write,
        grad_name="ExpandBackward0",
        samples=(
            uniform((3, 1), shape=(2, 3, 4)),
            uniform((), shape=(2, 3)),
            uniform((2, 3), shape=(2, 3)),
            uniform((1, 3), shape=(0, 3)),
            strided((1, 4), shape=(3, 4)),
        ),
    )
)

# slice


def _slice_infer(x: TensorType, starts: Shape, stops: Shape, steps: tuple[int, ...]) -> TensorType:
    if not len(starts) == len(stops) == len(steps) == x.rank:
        raise RuntimeError(
            f"slice: expected {x.rank} starts, stops and steps, got {starts}, {stops}, {steps}"
        )
    shape = []
    for size, start, stop, step in zip(x.shape, starts, stops, steps):
        if step < 1:
            raise ValueError("step must be greater than zero")
        if bounds(start)[1] < 0 or bounds(stop - start)[1] < 0 or bounds(size - stop)[1] < 0:
            raise RuntimeError(f"slice {start}:{stop} does not lie within a dim of size {size}")
        shape.append(floordiv(stop - start + step - 1, step))
    return x.with_shape(tuple(shape))


def _slices(starts: tuple[int, ...], stops: tuple[int, ...], steps: tuple[int, ...]) -> tuple[Any, ...]:
    """The NumPy index; the ellipsis makes a view of a 0-d array too, where `()` would give a scalar."""
    return (*map(slice, starts, stops, steps), ...)


def _slice_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    starts, stops, steps = ctx.attrs["starts"], ctx.attrs["stops"], ctx.attrs["steps"]
    shape = shape_of(F, ctx.inputs[0])
    if all(step == 1 for step in steps):
        high = tuple(size - stop for size, stop in zip(shape, stops))
        return [F.pad(dy, low=starts, high=high)]
    return [F.update_slice(F.zeros_like(ctx.inputs[0]), dy, **ctx.attrs)]


declare(
    Op(
        "slice",
        "Elements start, start + step, ... below stop of every dim; 0 <= start <= stop <= size, step >= 1. "
        "https://docs.pytorch.org/docs/stable/tensor_view.html",
        infer=_slice_infer,
        numpy=lambda x, starts, stops, steps: x[_slices(starts, stops, steps)],
        attrs={"starts": Attr("dims"), "stops": Attr("dims"), "steps": Attr("ints")},
        lowering="view",
        vjp=_slice_vjp,
        index_map=lambda types, result, index, starts, stops, steps: [
            (0, tuple(start + i * step for i, start, step in zip(index, starts, steps)), None)
        ],
        write_back=lambda F, base, view, **attrs: F.update_slice(base, view, **attrs),
        grad_name="SliceBackward0",
        samples=(
            uniform((4, 5), starts=(1, 0), stops=(3, 5), steps=(1, 1)),
            uniform((7, 5), starts=(1, 2), stops=(7, 5), steps=(3, 2)),
            uniform((), starts=(), stops=(), steps=()),
            uniform((4, 5), starts=(2, 0), stops=(2, 5), steps=(1, 1)),
            uniform((0, 5), starts=(0, 1), stops=(0, 5), steps=(1, 2)),
            strided((5, 4), starts=(1, 0), stops=(5, 3), steps=(2, 1)),
        ),
    )
)


def _update_infer(
    base: TensorType, new: TensorType, starts: Shape, stops: Shape, steps: tuple[int, ...]
) -> TensorType:
    check_same_dtype("update_slice", base, new)
    want = _slice_infer(base, starts, stops, steps)
    if want != new:
        raise RuntimeError(
            f"The expanded size of the tensor ({shape_text(want.shape)}) must match the existing size "
            f"({shape_text(new.shape)}): cannot write it to that slice"
        )
    return base


def _update_numpy(base: Array, new: Array, starts: Any, stops: Any, steps: Any) -> Array:
    result = base.copy()
    result[_slices(starts, stops, steps)] = new
    return result


def _update_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    return needed(
        ctx,
        lambda: F.update_slice(dy, F.zeros_like(ctx.inputs[1]), **ctx.attrs),
        lambda: F.slice(dy, **ctx.attrs),
    )


def _update_index(
    types: list[TensorType],
    result: TensorType,
    index: Index,
    starts: Shape,
    stops: Shape,
    steps: tuple[int, ...],
) -> list[Case]:
    guard: list[tuple[DimLike, DimLike, DimLike]] = []
    where: list[DimLike] = []
    for size, i, start, stop, step in zip(types[0].shape, index, starts, stops, steps):
        if not (start == 0 and stop == size):
            guard.append((start, i, stop))
        if step > 1:
            guard.append((0, mod(i - start, step), 1))
        where.append(floordiv(i - start, step))
    written: Case = (1, tuple(where), guard or None)
    return [written, (0, index, None)] if guard else [written]


declare(
    Op(
        "update_slice",
        "update_slice(base, new): base with the elements that `slice` would take replaced by new.",
        infer=_update_infer,
        numpy=_update_numpy,
        attrs={"starts": Attr("dims"), "stops": Attr("dims"), "steps": Attr("ints")},
        arity=(2, 2),
        lowering="view",
        vjp=_update_vjp,
        index_map=_update_index,
        grad_name="SliceScatterBackward0",
        samples=(
            uniform((4, 5), (2, 5), starts=(1, 0), stops=(3, 5), steps=(1, 1)),
            uniform((7, 5), (2, 2), starts=(1, 2), stops=(7, 5), steps=(3, 2)),
            uniform((), (), starts=(), stops=(), steps=()),
            uniform((4, 5), (0, 5), starts=(2, 0), stops=(2, 5), steps=(1, 1)),
            uniform((4, 5), (4, 5), starts=(0, 0), stops=(4, 5), steps=(1, 1)),
        ),
    )
)
