"""Elements written or combined at computed indices. `gather.py` has the additions.

Where several sources name one place they are taken in the order of the source, so that the last one written stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import DType
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import (
    NUMBER,
    Array,
    check_dim,
    check_dtype,
    check_index,
    check_same_dtype,
    made,
    needed,
    shape_of,
    shape_text,
    wide,
)
from .gather import DIM, Ints, check_self_bounds, padded_to, scatter_infer, scattered

_COMBINES: dict[str, Any] = {"mul": np.multiply, "max": np.maximum, "min": np.minimum}
_REDUCES = ("sum", "prod", "mean", "amax", "amin")


def _at(x: Ints, index: Ints, dim: int, src: Ints, gradient: bool = True, **attrs: Any) -> Sample:
    """Operands x, indices into its dim that differ along it, and src; values apart from 0 and from each other."""

    def make(rng: Any) -> list[Array]:
        size = x[dim] if x else 1
        count = index[dim] if index else 1
        order = (
            np.argsort(rng.random((*index[:dim], size, *index[dim + 1 :])), dim) if x else np.zeros((), int)
        )
        chosen = order.take(np.arange(count) % size, dim) if index else order
        total = int(np.prod(x)) + int(np.prod(src))
        numbers = (rng.permutation(total) + 1) * 0.25
        numbers = numbers * rng.choice([-1.0, 1.0], total)
        return [
            numbers[: int(np.prod(x))].reshape(x),
            chosen.astype(np.int64),
            numbers[int(np.prod(x)) :].reshape(src),
        ]

    return made(make, gradient=gradient, label=f"{list(x)} at {list(index)} {attrs}", dim=dim, **attrs)


# scatter_update: an index per element


def _assign(target: Array, places: Any, values: Array) -> None:
    target[places] = values


def _update_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    index, dim = ctx.inputs[1], ctx.attrs["dim"]
    used, full = shape_of(F, index), shape_of(F, ctx.inputs[2])
    dtype = F.type_of(dy).dtype
    return needed(
        ctx,
        lambda: F.scatter_update(dy, index, F.full(shape=used, value=0, dtype=dtype), dim=dim),
        lambda: None,
        lambda: padded_to(F, F.gather(dy, index, dim=dim), used, full),
    )


_SHAPES: tuple[tuple[Ints, Ints, int, Ints], ...] = (
    ((5,), (4,), 0, (4,)),
    ((3, 4), (3, 2), 1, (3, 2)),
    ((3, 4), (2, 3), 0, (4, 5)),
    ((2, 5, 4), (2, 5, 3), 1, (2, 5, 3)),
    ((3, 4), (0, 4), 0, (0, 4)),
    ((), (), 0, ()),
)

declare(
    Op(
        "scatter_update",
        "scatter_update(base, index, src): base with result[index[i][j]][j] = src[i][j] for dim 0, and so on; of "
        "several for one place the last. Each of them receives that place's gradient, as in PyTorch. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_.html",
        infer=lambda base, index, src, dim: scatter_infer("scatter", base, index, src, dim),
        numpy=lambda base, index, src, dim: scattered(base, index, src, dim, _assign),
        attrs=DIM,
        arity=(3, 3),
        lowering="scatter",
        vjp=_update_vjp,
        saves=("input:1",),
        grad_name="ScatterBackward0",
        samples=(
            *(_at(*row) for row in _SHAPES),
            made(
                lambda rng: [rng.normal(size=(3, 4)), rng.integers(0, 3, (9, 4)), rng.normal(size=(9, 4))],
                gradient=False,
                label="repeated",
                dim=0,
            ),
        ),
    )
)


# scatter_combine: what scatter_add is for other operations; no gradient of its own (see scatter_reduce)


def _combine_infer(
    base: TensorType, index: TensorType, src: TensorType, dim: int, combine: str
) -> TensorType:
    if combine not in _COMBINES:
        raise RuntimeError(f"scatter_combine: combine={combine!r}; there are {', '.join(_COMBINES)}")
    check_dtype("scatter_combine", base, NUMBER)
    return scatter_infer("scatter", base, index, src, dim)


def _combine_numpy(base: Array, index: Array, src: Array, dim: int, combine: str) -> Array:
    return scattered(base, index, src, dim, _COMBINES[combine].at)


declare(
    Op(
        "scatter_combine",
        "scatter_combine(base, index, src): base with result[index[i][j]][j] = combine(result[index[i][j]][j], "
        "src[i][j]) for dim 0, and so on; `combine` is mul, max or min.",
        infer=_combine_infer,
        numpy=wide(_combine_numpy),
        attrs={"dim": Attr("int"), "combine": Attr("str")},
        arity=(3, 3),
        lowering="scatter",
        samples=(
            *(_at(*row, gradient=False, combine="mul") for row in _SHAPES),
            _at((3, 4), (6, 4), 0, (6, 4), gradient=False, combine="max"),
            _at((3, 4), (6, 4), 0, (6, 4), gradient=False, combine="min"),
        ),
    )
)


# index_update: an index per slice


def _index_update_infer(base: TensorType, index: TensorType, src: TensorType, dim: int) -> TensorType:
    check_same_dtype("index_copy", base, src)
    check_index("index_copy", index)
    check_dim(dim, base.rank)
    want = (*base.shape[:dim], *index.shape, *base.shape[dim + 1 :])
    if src.shape != want:
        raise RuntimeError(
            f"index_update: expected a source of shape {shape_text(want)}, got {shape_text(src.shape)}"
        )
    return base


def _index_update_numpy(base: Array, index: Array, src: Array, dim: int) -> Array:
    check_self_bounds(index, base.shape[dim])
    result = base.copy()
    places: Any = (*(slice(None),) * dim, index)
    result[places] = src
    return result


def _index_update_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    index, dim = ctx.inputs[1], ctx.attrs["dim"]
    return needed(
        ctx,
        lambda: F.index_update(dy, index, F.zeros_like(ctx.inputs[2]), dim=dim),
        lambda: None,
        lambda: F.index_select(dy, index, dim=dim),
    )


def _slices(x: Ints, index: Ints, dim: int, repeated: bool = False) -> Sample:
    def make(rng: Any) -> list[Array]:
        count = int(np.prod(index))
        chosen = rng.integers(0, x[dim], count) if repeated else rng.permutation(x[dim])[:count]
        return [rng.normal(size=x), chosen.reshape(index), rng.normal(size=(*x[:dim], *index, *x[dim + 1 :]))]

    return made(make, gradient=not repeated, label=f"{list(x)} at {list(index)}", dim=dim)


declare(
    Op(
        "index_update",
        "index_update(base, index, src): base with src's slices at base[index[i]] along `dim`; of several for one "
        "place the last. Each of them receives that place's gradient, as in PyTorch. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_copy_.html",
        infer=_index_update_infer,
        numpy=_index_update_numpy,
        attrs=DIM,
        arity=(3, 3),
        lowering="scatter",
        vjp=_index_update_vjp,
        saves=("input:1",),
        grad_name="IndexCopyBackward0",
        samples=(
            _slices((5, 3), (4,), 0),
            _slices((3, 7), (5,), 1),
            _slices((5, 3), (2, 2), 0),
            _slices((2, 3, 4), (2,), 1),
            _slices((5, 3), (), 0),
            _slices((5, 3), (0,), 0),
            _slices((5, 3), (9,), 0, repeated=True),
        ),
    )
)


# scatter_reduce


def _reduce_infer(
    base: TensorType, index: TensorType, src: TensorType, dim: int, reduce: str, include_self: bool
) -> TensorType:
    if reduce not in _REDUCES:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    check_dtype("scatter_reduce", base, NUMBER)
    return scatter_infer("scatter_reduce", base, index, src, dim)


def _identity(dtype: np.dtype[Any], reduce: str) -> float | int:
    """What the reduction starts from where the base itself does not count."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return int(limits.min if reduce == "amax" else limits.max)
    return -np.inf if reduce == "amax" else np.inf


def _reduce_numpy(base: Array, index: Array, src: Array, dim: int, reduce: str, include_self: bool) -> Array:
    if not include_self:
        start = np.full(src.shape, _identity(base.dtype, reduce), base.dtype)
        base = scattered(base, index, start, dim, _assign)
    combine = {"sum": np.add, "mean": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[
        reduce
    ]
    result = scattered(base, index, src, dim, combine.at)
    if reduce == "mean":
        counts = np.full(base.shape, int(include_self))
        counts = np.maximum(scattered(counts, index, np.ones(src.shape, int), dim, np.add.at), 1)
        if base.dtype.kind in "iu":
            return result // counts.astype(base.dtype)
        return np.asarray(result / counts).astype(base.dtype)
    return result


def _first(F: Any, src: Any, index: Any) -> Any:
    """The part of the source that has an index."""
    used, full = shape_of(F, index), shape_of(F, src)
    return src if used == full else F.slice(src, starts=(0,) * len(full), stops=used, steps=(1,) * len(full))


def _like_index(F: Any, index: Any, value: float | int, dtype: DType) -> Any:
    return F.full(shape=shape_of(F, index), value=value, dtype=dtype)


def _counts(F: Any, base: Any, index: Any, dim: int, include_self: bool) -> Any:
    """How many elements make up each place, at least 1."""
    type_ = F.type_of(base)
    start = F.full(shape=type_.shape, value=int(include_self), dtype=type_.dtype)
    return F.maximum(F.scatter_add(start, index, _like_index(F, index, 1, type_.dtype), dim=dim), 1)


def _reduce_decompose(
    F: Any, base: Any, index: Any, src: Any, dim: int, reduce: str, include_self: bool
) -> Any:
    dtype = F.type_of(base).dtype
    src = _first(F, src, index)
    start = base
    if not include_self:
        start = F.scatter_update(
            base, index, _like_index(F, index, _identity(dtype.numpy, reduce), dtype), dim=dim
        )
    if reduce in ("sum", "mean"):
        total = F.scatter_add(start, index, src, dim=dim)
        if reduce == "sum":
            return total
        divide = F.div if dtype.kind in ("float", "complex") else F.floor_divide
        return divide(total, _counts(F, base, index, dim, include_self))
    combine = {"prod": "mul", "amax": "max", "amin": "min"}[reduce]
    return F.scatter_combine(start, index, src, dim=dim, combine=combine)


def _reduce_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """As PyTorch's scatter_reduce_backward: equal extremes share, products over zeros are taken again without them."""
    base, index, src = ctx.inputs
    (result,) = ctx.outputs
    dim, reduce, include_self = ctx.attrs["dim"], ctx.attrs["reduce"], ctx.attrs["include_self"]
    used, full = shape_of(F, index), shape_of(F, src)
    dtype = F.type_of(dy).dtype
    src = src if reduce in ("sum", "mean") else _first(F, src, index)

    def at(value: Any) -> Any:
        return F.gather(value, index, dim=dim)

    if reduce == "sum":
        to_base, to_src = dy, at(dy)
    elif reduce == "mean":
        to_base = F.div(dy, _counts(F, base, index, dim, include_self))
        to_src = at(to_base)
    elif reduce == "prod":
        to_base, to_src = _prod_vjp(F, base, index, src, result, dy, dim, include_self)
    else:
        base_hit = F.convert(F.eq(base, result), dtype=dtype)
        src_hit = F.convert(F.eq(src, at(result)), dtype=dtype)
        shared = F.div(dy, F.scatter_add(base_hit, index, src_hit, dim=dim))
        # A place that neither side reaches (a NaN) gets nothing rather than 0 / 0.
        to_base = F.where(F.eq(base, result), shared, 0.0)
        to_src = F.mul(src_hit, at(shared))
    if not include_self:
        to_base = F.scatter_update(to_base, index, _like_index(F, index, 0, dtype), dim=dim)
    return needed(ctx, lambda: to_base, lambda: None, lambda: padded_to(F, to_src, used, full))


def _prod_vjp(
    F: Any, base: Any, index: Any, src: Any, result: Any, dy: Any, dim: int, include_self: bool
) -> tuple[Any, Any]:
    dtype = F.type_of(dy).dtype
    base_zero, src_zero = F.eq(base, 0.0), F.eq(src, 0.0)
    to_base = F.where(base_zero, 0.0, F.div(F.mul(dy, result), F.where(base_zero, 1.0, base)))
    zeros = F.convert(src_zero, dtype=dtype)
    count = F.gather(F.scatter_add(F.zeros_like(base), index, zeros, dim=dim), index, dim=dim)
    single = F.logical_and(src_zero, F.eq(count, 1.0))
    rest = F.scatter_reduce(
        base, index, F.where(single, 1.0, src), dim=dim, reduce="prod", include_self=include_self
    )
    without = F.gather(F.mul(dy, rest), index, dim=dim)
    usual = F.div(F.gather(F.mul(dy, result), index, dim=dim), F.where(src_zero, 1.0, src))
    return to_base, F.where(single, without, usual)


declare(
    Op(
        "scatter_reduce",
        "scatter_reduce(base, index, src): what of src (and, with include_self, of base) belongs to one place, "
        "summed, multiplied, averaged, or the largest or smallest of it. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_reduce_.html",
        infer=_reduce_infer,
        numpy=wide(_reduce_numpy),
        attrs={"dim": Attr("int"), "reduce": Attr("str"), "include_self": Attr("bool", True)},
        arity=(3, 3),
        level="composite",
        vjp=_reduce_vjp,
        decompose=_reduce_decompose,
        saves=("input:0", "input:1", "input:2", "output:0"),
        grad_name="ScatterReduceBackward0",
        samples=(
            *(
                _at((3, 4), (5, 4), 0, (5, 4), reduce=reduce, include_self=include_self)
                for reduce in _REDUCES
                for include_self in (True, False)
            ),
            _at((3, 4), (2, 3), 0, (4, 5), reduce="prod"),
            _at((3, 4), (2, 3), 0, (4, 5), reduce="amax", include_self=False),
            _at((), (), 0, (), reduce="mean"),
            made(
                lambda rng: [rng.integers(-9, 9, 4), rng.integers(0, 4, 6), rng.integers(-9, 9, 6)],
                gradient=False,
                label="integers",
                dim=0,
                reduce="mean",
            ),
        ),
    )
)
