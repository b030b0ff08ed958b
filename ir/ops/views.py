"""Ops whose result elements are operand elements at other indices: nothing is computed.

`reshape`, `permute`, `expand` and `slice` are views in PyTorch's sense too: in eager mode the result shares memory
with the operand, and each has a `write_back`, by which an in-place op on the view becomes a new base. The other ops of
this file copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import DimLike, Expr, bounds, floordiv, mod, product
from ..op import VARIADIC, Attr, Op, declare
from ..types import TensorType
from .common import (
    Array,
    Shape,
    check_dim,
    check_same_dtype,
    distinct,
    made,
    needed,
    shape_of,
    strided,
    uniform,
    values,
)

Index = tuple[DimLike, ...]
# One way an element may be found: (operand number, operand index, guard). The guard is None, or a list of
# (low, index, high) that must all hold: low <= index < high.
Case = tuple[int, Index, list[tuple[DimLike, DimLike, DimLike]] | None]


def _text(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


# reshape


def _reshape_infer(x: TensorType, shape: Shape) -> TensorType:
    if product(shape) != x.numel:
        raise RuntimeError(f"shape '{_text(shape)}' is invalid for input of size {x.numel}")
    return x.with_shape(shape)


def reshape_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The dims of two shapes of equal size in runs of equal product, as short as can be proved; 1s belong to no run.

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
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {x.rank} is not equal to len(dims) = {len(dims)}"
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
            f"expand({x.dtype!r}{{{_text(x.shape)}}}, size={_text(shape)}): the number of sizes provided "
            f"({len(shape)}) must be greater or equal to the number of dimensions in the tensor ({x.rank})"
        )
    for i, (have, want) in enumerate(zip(x.shape, shape[lead:])):
        if have not in (1, want):
            raise RuntimeError(
                f"The expanded size of the tensor ({want}) must match the existing size ({have}) at non-singleton "
                f"dimension {lead + i}.  Target sizes: {_text(shape)}.  Tensor sizes: {_text(x.shape)}"
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
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory "
            "location. Please clone() the tensor before performing the operation."
        )
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


def _slices(starts: tuple[int, ...], stops: tuple[int, ...], steps: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(map(slice, starts, stops, steps))


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
        numpy=lambda x, starts, stops, steps: x[(*_slices(starts, stops, steps), ...)],
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
            f"The expanded size of the tensor ({_text(want.shape)}) must match the existing size "
            f"({_text(new.shape)}): cannot write it to that slice"
        )
    return base


def _update_numpy(base: Array, new: Array, starts: Any, stops: Any, steps: Any) -> Array:
    result = base.copy()
    result[(*_slices(starts, stops, steps), ...)] = new
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

# flip


def _flip_infer(x: TensorType, dims: tuple[int, ...]) -> TensorType:
    for dim in dims:
        check_dim(dim, x.rank)
        if dims.count(dim) > 1:
            raise RuntimeError(f"dim {dim} appears multiple times in the list of dims")
    return x


declare(
    Op(
        "flip",
        "The given dims reversed, copied. https://docs.pytorch.org/docs/stable/generated/torch.flip.html",
        infer=_flip_infer,
        numpy=lambda x, dims: np.flip(x, dims).copy() if x.ndim else x.copy(),
        attrs={"dims": Attr("ints")},
        lowering="view",
        vjp=lambda F, ctx, dy: [F.flip(dy, **ctx.attrs)],
        index_map=lambda types, result, index, dims: [
            (0, tuple(result.shape[d] - 1 - i if d in dims else i for d, i in enumerate(index)), None)
        ],
        grad_name="FlipBackward0",
        samples=(
            uniform((3, 4), dims=(0,)),
            uniform((2, 3, 4), dims=(2, 0)),
            uniform((3,), dims=()),
            uniform((0, 3), dims=(0, 1)),
            strided((3, 4), dims=(1,)),
        ),
    )
)

# pad


def _pad_infer(x: TensorType, low: Shape, high: Shape, value: float) -> TensorType:
    if not len(low) == len(high) == x.rank:
        raise RuntimeError(f"pad: expected {x.rank} values of low and high, got {low} and {high}")
    shape = tuple(size + a + b for size, a, b in zip(x.shape, low, high))
    if any(bounds(size)[1] < 0 for size in shape):
        raise RuntimeError("narrow(): length must be non-negative.")
    return x.with_shape(shape)


def _pad_numpy(x: Array, low: tuple[int, ...], high: tuple[int, ...], value: float) -> Array:
    result = np.full([n + a + b for n, a, b in zip(x.shape, low, high)], value, x.dtype)
    kept = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, a, b in zip(x.shape, low, high))
    target = tuple(slice(max(a, 0), n - max(b, 0)) for n, a, b in zip(result.shape, low, high))
    result[(*target, ...)] = x[(*kept, ...)]
    return result


def _pad_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    low, high = ctx.attrs["low"], ctx.attrs["high"]
    if any(isinstance(n, int) and n < 0 for n in (*low, *high)):
        return [F.pad(dy, low=tuple(-n for n in low), high=tuple(-n for n in high))]
    stops = tuple(a + size for a, size in zip(low, shape_of(F, ctx.inputs[0])))
    return [F.slice(dy, starts=low, stops=stops, steps=(1,) * len(low))]


def _pad_index(
    types: list[TensorType], result: TensorType, index: Index, low: Shape, high: Shape, value: float
) -> list[Any]:
    where = tuple(i - a if isinstance(a, Expr) or a else i for i, a in zip(index, low))
    guard = [
        (0, i, size)
        for i, size, a, b in zip(where, types[0].shape, low, high)
        if bounds(a)[1] > 0 or bounds(b)[1] > 0
    ]
    return [(0, where, guard), value] if guard else [(0, where, None)]


declare(
    Op(
        "pad",
        "`low` elements of `value` before and `high` after each dim; negative counts crop. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html (mode constant)",
        infer=_pad_infer,
        numpy=_pad_numpy,
        attrs={"low": Attr("dims"), "high": Attr("dims"), "value": Attr("scalar", 0)},
        lowering="view",
        vjp=_pad_vjp,
        index_map=_pad_index,
        grad_name="ConstantPadNdBackward0",
        samples=(
            uniform((2, 3), low=(1, 0), high=(2, 1)),
            uniform((2, 3), low=(0, 2), high=(0, 0), value=1.5),
            uniform((4, 5), low=(-1, 2), high=(0, -2)),
            uniform((), low=(), high=()),
            uniform((0, 2), low=(1, 1), high=(0, 0), value=-1.0),
            strided((3, 4), low=(1, 1), high=(1, 1)),
            values([[1, 2]], low=(0, 1), high=(1, 0), value=7),
        ),
    )
)

# concat


def _concat_infer(*operands: TensorType, dim: int) -> TensorType:
    if not operands:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    first = operands[0]
    check_same_dtype("cat", *operands)
    if first.rank == 0:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    check_dim(dim, first.rank)
    total: DimLike = 0
    for number, x in enumerate(operands):
        if x.rank != first.rank:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.rank} and {x.rank}")
        for i, (want, have) in enumerate(zip(first.shape, x.shape)):
            if i != dim and want != have:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {dim}. Expected size {want} but got size "
                    f"{have} for tensor number {number} in the list."
                )
        total = total + x.shape[dim]
    return first.with_shape((*first.shape[:dim], total, *first.shape[dim + 1 :]))


def _offsets(shapes: list[Shape], dim: int) -> list[DimLike]:
    """Where each operand begins along `dim`, and at the end where the last one stops."""
    found: list[DimLike] = [0]
    for shape in shapes:
        found.append(found[-1] + shape[dim])
    return found


def _concat_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    shapes, dim = [shape_of(F, x) for x in ctx.inputs], ctx.attrs["dim"]
    offsets = _offsets(shapes, dim)

    def part(number: int) -> Any:
        starts, stops = [0] * len(shapes[0]), list(shapes[number])
        starts[dim], stops[dim] = offsets[number], offsets[number + 1]
        return F.slice(dy, starts=starts, stops=stops, steps=(1,) * len(starts))

    return [part(i) if need else None for i, need in enumerate(ctx.needs)]


def _concat_index(types: list[TensorType], result: TensorType, index: Index, dim: int) -> list[Case]:
    offsets = _offsets([t.shape for t in types], dim)
    cases: list[Case] = []
    for number, start in enumerate(offsets[:-1]):
        where = (*index[:dim], index[dim] - start, *index[dim + 1 :])
        last = number == len(types) - 1
        cases.append((number, where, None if last else [(start, index[dim], offsets[number + 1])]))
    return cases


declare(
    Op(
        "concat",
        "Operands one after the other along `dim`. https://docs.pytorch.org/docs/stable/generated/torch.cat.html",
        infer=_concat_infer,
        numpy=lambda *arrays, dim: np.concatenate(arrays, dim),
        attrs={"dim": Attr("int")},
        arity=(0, VARIADIC),
        lowering="view",
        vjp=_concat_vjp,
        index_map=_concat_index,
        grad_name="CatBackward0",
        samples=(
            uniform((2, 3), (1, 3), (4, 3), dim=0),
            uniform((2, 3), (2, 1), dim=1),
            uniform((3,), dim=0),
            uniform((0, 3), (2, 3), dim=0),
            distinct((2, 2), (2, 2), dim=1),
            made(lambda rng: [rng.integers(0, 9, (2, 2)), rng.integers(0, 9, (1, 2))], gradient=False, dim=0),
        ),
    )
)
