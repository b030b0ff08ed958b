"""Reductions over dims. `dims` are distinct and not negative; the empty tuple reduces nothing.

Integers and bool are not widened here: the front end converts first (torch.sum of int32 is int64).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..dims import DimLike, bounds, product
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import (
    FLOAT,
    FLOATING,
    NUMBER,
    REAL,
    Array,
    Shape,
    check_dim,
    check_dtype,
    distinct,
    integers,
    made,
    shape_of,
    size_value,
    strided,
    torch_name,
    uniform,
    values,
    wide,
)
from .views import inverse

NAN, INF = math.nan, math.inf
Dims = tuple[int, ...]
DIMS = {"dims": Attr("ints"), "keepdim": Attr("bool", False)}


def reduced_shape(shape: Shape, dims: Dims, keepdim: bool) -> Shape:
    """The shape after reducing `dims`; IndexError and RuntimeError as PyTorch raises them for bad ones."""
    for i, dim in enumerate(dims):
        check_dim(dim, len(shape))
        if dim in dims[:i]:
            raise RuntimeError(f"dim {dim} appears multiple times in the list of dims")
    if keepdim:
        return tuple(1 if i in dims else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in dims)


def _infer(name: str, kinds: frozenset[str], identity: bool = True) -> Callable[..., TensorType]:
    """The shape rule; without an identity there must be something to reduce."""

    def infer(x: TensorType, dims: Dims, keepdim: bool) -> TensorType:
        check_dtype(name, x, kinds)
        shape = reduced_shape(x.shape, dims, keepdim)
        for dim in dims:
            if not identity and x.shape and bounds(x.shape[dim])[1] == 0:
                raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")
        return x.with_shape(shape)

    return infer


def _axes(x: Array, dims: Dims) -> Dims:
    """The axes for NumPy: a 0-d array has none, though PyTorch lets one name dim 0."""
    return dims if x.ndim else ()


def kept(F: Any, value: Any, shape: Shape, dims: Dims) -> Any:
    """A reduced value with the reduced dims back as 1s."""
    full = reduced_shape(shape, dims, True)
    return value if shape_of(F, value) == full else F.reshape(value, shape=full)


def _expanded(F: Any, ctx: Any, dy: Any) -> Any:
    shape = shape_of(F, ctx.inputs[0])
    return F.expand(kept(F, dy, shape, ctx.attrs["dims"]), shape=shape)


def _declare_reduce(
    name: str,
    doc: str,
    numpy: Callable[..., Any],
    combine: str,
    kinds: frozenset[str],
    vjp: Callable[..., Any] | None,
    saves: tuple[str, ...],
    samples: tuple[Sample, ...],
    grad_name: str = "",
    identity: bool = True,
) -> Op:
    return declare(
        Op(
            name,
            doc,
            infer=_infer(name, kinds, identity),
            numpy=wide(numpy),
            attrs=DIMS,
            lowering="reduce",
            vjp=vjp,
            combine=combine,
            saves=saves,
            grad_name=grad_name or torch_name(name),
            samples=samples,
        )
    )


USUAL = (
    uniform((3, 5), dims=(1,)),
    uniform((3, 5), dims=(0,), keepdim=True),
    uniform((2, 3, 4), dims=(0, 2)),
    uniform((2, 3), dims=(0, 1)),
    uniform((), dims=()),
    uniform((3, 2), dims=()),
    strided((3, 4), dims=(1,)),
    uniform((0, 3), dims=(1,)),
)
WHOLE = (integers((3, 4), dims=(1,)), values(np.arange(-3, 3, dtype=np.int32), dims=(0,)))
EMPTY = (uniform((3, 0), dims=(1,)), uniform((0, 3), dims=(0,), keepdim=True))

_declare_reduce(
    "sum",
    "The sum; 0 of nothing.",
    lambda x, dims, keepdim: np.sum(x, _axes(x, dims), x.dtype, keepdims=keepdim),
    "add",
    NUMBER,
    lambda F, ctx, dy: [_expanded(F, ctx, dy)],
    (),
    (*USUAL, *EMPTY, *WHOLE, values([[1.0, NAN], [INF, 2.0]], dims=(1,))),
    grad_name="SumBackward1",
)


def _product_before(F: Any, x: Any) -> Any:
    """At each place of the last dim, the product of what lies before it: 1, x0, x0*x1, ... by doubling."""
    shape = shape_of(F, x)
    zeros = (0,) * len(shape)

    def shifted(value: Any, by: int) -> Any:
        padded = F.pad(value, low=(*zeros[1:], by), high=zeros, value=1.0)
        return F.slice(padded, starts=zeros, stops=shape, steps=(1,) * len(shape))

    running, covered = shifted(x, 1), 1
    while covered < bounds(shape[-1])[1]:
        running, covered = F.mul(running, shifted(running, covered)), covered * 2
    return running


def _prod_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """Each element's share is the product of the others, those before times those after, so that zeros and
    higher derivatives are exact."""
    x, dims = ctx.inputs[0], ctx.attrs["dims"]
    shape = shape_of(F, x)
    order = (*(i for i in range(len(shape)) if i not in dims), *dims)
    ordered = tuple(shape[i] for i in order)
    last = len(shape) - len(dims)
    flat = F.reshape(F.permute(x, dims=order), shape=(*ordered[:last], product(ordered[last:])))
    after = F.flip(_product_before(F, F.flip(flat, dims=(last,))), dims=(last,))
    others = F.reshape(F.mul(_product_before(F, flat), after), shape=ordered)
    return [F.mul(kept(F, dy, shape, dims), F.conj(F.permute(others, dims=inverse(order))))]


_declare_reduce(
    "prod",
    "The product; 1 of nothing.",
    lambda x, dims, keepdim: np.prod(x, _axes(x, dims), x.dtype, keepdims=keepdim),
    "mul",
    NUMBER,
    _prod_vjp,
    ("input:0",),
    (
        *USUAL,
        *EMPTY,
        *WHOLE,
        values([[1.0, 0.0, 3.0], [0.0, 0.0, 2.0]], gradient=True, label="zeros", dims=(1,)),
    ),
    grad_name="ProdBackward1",
)


def _extreme_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """Evenly to the elements that equal the result, as torch.amax."""
    x, dims = ctx.inputs[0], ctx.attrs["dims"]
    shape = shape_of(F, x)
    winner = F.convert(F.eq(x, kept(F, ctx.outputs[0], shape, dims)), dtype=F.type_of(x).dtype)
    count = F.sum(winner, dims=dims, keepdim=True)
    return [F.mul(F.div(kept(F, dy, shape, dims), count), winner)]


EXTREMES = (
    distinct((3, 5), dims=(1,)),
    distinct((3, 5), dims=(0,), keepdim=True),
    distinct((2, 3, 4), dims=(0, 2)),
    distinct((), dims=()),
    distinct((3, 2), dims=()),
    strided((3, 4), dims=(1,)),
    uniform((0, 3), dims=(1,)),
    integers((3, 4), dims=(1,)),
    values([[1.0, NAN, 2.0], [INF, 2.0, -INF], [-1.0, -1.0, -3.0]], dims=(1,)),
    values([[-INF, -INF], [INF, INF]], dims=(1,)),
)

_declare_reduce(
    "amax",
    "The largest element; NaN if there is one. Equal ones share the gradient evenly.",
    lambda x, dims, keepdim: np.max(x, _axes(x, dims), keepdims=keepdim),
    "max",
    REAL - {"bool"},
    _extreme_vjp,
    ("input:0", "output:0"),
    EXTREMES,
    identity=False,
)
_declare_reduce(
    "amin",
    "The smallest element; NaN if there is one. Equal ones share the gradient evenly.",
    lambda x, dims, keepdim: np.min(x, _axes(x, dims), keepdims=keepdim),
    "min",
    REAL - {"bool"},
    _extreme_vjp,
    ("input:0", "output:0"),
    EXTREMES,
    identity=False,
)

BOOLS = (
    made(lambda rng: [rng.random((3, 5)) < 0.5], gradient=False, dims=(1,)),
    made(lambda rng: [rng.random((2, 3, 4)) < 0.5], gradient=False, dims=(0, 2), keepdim=True),
    made(lambda rng: [np.zeros((3, 0), bool)], gradient=False, dims=(1,)),
)
_declare_reduce(
    "any",
    "Whether one is True; False of nothing.",
    lambda x, dims, keepdim: np.any(x, _axes(x, dims), keepdims=keepdim),
    "or",
    frozenset({"bool"}),
    None,
    (),
    BOOLS,
)
_declare_reduce(
    "all",
    "Whether none is False; True of nothing.",
    lambda x, dims, keepdim: np.all(x, _axes(x, dims), keepdims=keepdim),
    "and",
    frozenset({"bool"}),
    None,
    (),
    BOOLS,
)

# Positions


def _arg(name: str, numpy: Callable[..., Any], doc: str) -> None:
    def infer(x: TensorType, dim: int, keepdim: bool) -> TensorType:
        check_dtype(name, x, REAL)
        shape = reduced_shape(x.shape, (dim,), keepdim) if x.shape else ()
        check_dim(dim, x.rank)
        if x.shape and bounds(x.shape[dim])[1] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")
        return TensorType(shape, dtypes.i64)

    def compute(x: Array, dim: int, keepdim: bool) -> Array:
        if not x.ndim:
            return np.zeros((), np.int64)
        return np.asarray(numpy(x, axis=dim, keepdims=keepdim), np.int64)

    declare(
        Op(
            name,
            doc,
            infer=infer,
            numpy=compute,
            attrs={"dim": Attr("int"), "keepdim": Attr("bool", False)},
            lowering="reduce",
            samples=(
                distinct((3, 5), gradient=False, dim=1),
                distinct((2, 3, 4), gradient=False, dim=0, keepdim=True),
                distinct((), gradient=False, dim=0),
                uniform((0, 3), gradient=False, dim=1),
                integers((3, 6), low=-2, high=3, dim=1),
                values([[1.0, NAN, 2.0, NAN], [2.0, 2.0, 1.0, 1.0], [INF, -INF, -INF, INF]], dim=1),
            ),
        )
    )


_arg("argmax", np.argmax, "The index of the largest element along `dim`: the first, or the first NaN.")
_arg("argmin", np.argmin, "The index of the smallest element along `dim`: the first, or the first NaN.")

# Means


def _count(shape: Shape, dims: Dims) -> DimLike:
    return product(shape[d] for d in dims if shape)


def _mean_infer(x: TensorType, dims: Dims, keepdim: bool) -> TensorType:
    if x.dtype.kind not in FLOATING:
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex "
            f"dtype. Got: {x.dtype.scalar_type}"
        )
    return _infer("mean", FLOATING)(x, dims, keepdim)


def _mean_numpy(x: Array, dims: Dims, keepdim: bool) -> Array:
    total = np.sum(x, _axes(x, dims), keepdims=keepdim)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(total, x.dtype.type(_count(x.shape, dims)))


def _divided(F: Any, value: Any, count: DimLike) -> Any:
    return F.div(value, size_value(F, count, F.type_of(value).dtype))


declare(
    Op(
        "mean",
        "The sum divided by the number of elements; NaN of nothing.",
        infer=_mean_infer,
        numpy=wide(_mean_numpy),
        attrs=DIMS,
        level="composite",
        vjp=lambda F, ctx, dy: [
            _divided(F, _expanded(F, ctx, dy), _count(shape_of(F, ctx.inputs[0]), ctx.attrs["dims"]))
        ],
        decompose=lambda F, x, dims, keepdim: _divided(
            F, F.sum(x, dims=dims, keepdim=keepdim), _count(shape_of(F, x), dims)
        ),
        grad_name="MeanBackward1",
        samples=(
            *USUAL,
            values([[1.0, NAN], [INF, 2.0]], dims=(1,)),
            uniform((3, 0), dims=(1,), gradient=False),
        ),
    )
)

VAR = {**DIMS, "correction": Attr("int", 1)}


def _var_infer(x: TensorType, dims: Dims, keepdim: bool, correction: int) -> TensorType:
    if not x.dtype.is_floating_point:
        raise RuntimeError("std and var only support floating point and complex dtypes")
    return _infer("var", FLOAT)(x, dims, keepdim)


def _var_numpy(x: Array, dims: Dims, keepdim: bool, correction: int) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = x - _mean_numpy(x, dims, True)
        total = np.sum(deviation * deviation, _axes(x, dims), keepdims=keepdim)
        return np.divide(total, x.dtype.type(max(int(_count(x.shape, dims)) - correction, 0)))


def _freedom(F: Any, x: Any, dims: Dims, correction: int) -> Any:
    """max(count - correction, 0), to divide by."""
    count = _count(shape_of(F, x), dims)
    if isinstance(count, int):
        return float(max(count - correction, 0))
    return F.maximum(F.sub(size_value(F, count, F.type_of(x).dtype), float(correction)), 0.0)


def _deviation(F: Any, x: Any, dims: Dims) -> Any:
    return F.sub(x, F.mean(x, dims=dims, keepdim=True))


def _var_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, dims = ctx.inputs[0], ctx.attrs["dims"]
    scale = F.div(
        F.mul(kept(F, dy, shape_of(F, x), dims), 2.0), _freedom(F, x, dims, ctx.attrs["correction"])
    )
    return [F.mul(scale, _deviation(F, x, dims))]


def _var_decompose(F: Any, x: Any, dims: Dims, keepdim: bool, correction: int) -> Any:
    deviation = _deviation(F, x, dims)
    total = F.sum(F.mul(deviation, deviation), dims=dims, keepdim=keepdim)
    return F.div(total, _freedom(F, x, dims, correction))


declare(
    Op(
        "var",
        "The sum of squared deviations from the mean, divided by max(count - correction, 0). "
        "https://docs.pytorch.org/docs/stable/generated/torch.var.html",
        infer=_var_infer,
        numpy=wide(_var_numpy),
        attrs=VAR,
        level="composite",
        vjp=_var_vjp,
        decompose=_var_decompose,
        saves=("input:0",),
        grad_name="VarBackward0",
        samples=(
            uniform((3, 5), dims=(1,)),
            uniform((3, 5), dims=(0,), keepdim=True, correction=0),
            uniform((2, 3, 4), dims=(0, 2)),
            strided((3, 4), dims=(1,)),
            uniform((0, 3), dims=(1,)),
            uniform((3, 1), dims=(1,), gradient=False),
        ),
    )
)
