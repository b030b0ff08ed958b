"""Ops whose result elements are operand elements at other indices, or a constant, and which always copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import DimLike, Expr, bounds
from ..op import VARIADIC, Attr, Op, declare
from ..types import TensorType
from .common import (
    Array,
    Shape,
    check_dim,
    check_same_dtype,
    distinct,
    made,
    shape_of,
    strided,
    uniform,
    values,
)
from .views import Case, Index

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
    kept: tuple[Any, ...] = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, a, b in zip(x.shape, low, high))
    target: tuple[Any, ...] = tuple(
        slice(max(a, 0), n - max(b, 0)) for n, a, b in zip(result.shape, low, high)
    )
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
                    f"Sizes of tensors must match except in dimension {dim}. Expected size {want} but got "
                    f"size {have} for tensor number {number} in the list."
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
        starts: list[DimLike] = [0] * len(shapes[0])
        stops: list[DimLike] = list(shapes[number])
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
