"""Pointwise ops of one operand: one result element from the operand's element at the same index.

Meanings are those of https://docs.pytorch.org/docs/stable/torch.html#pointwise-ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import (
    ANY,
    FLOAT,
    FLOATING,
    INTEGRAL,
    NUMBER,
    Array,
    check_dtype,
    distinct,
    integers,
    pointwise,
    strided,
    torch_name,
    uniform,
    values,
    wide,
)
from .complex_numbers import COMPLEX
from .float32_functions import erf_f32, in_blocks

INF, NAN = math.inf, math.nan


def _unary(
    name: str,
    doc: str,
    numpy: Callable[..., Any],
    scalar: Callable[..., Any],
    vjp: Callable[..., Sequence[Any]] | None = None,
    saves: tuple[str, ...] = (),
    kinds: frozenset[str] = FLOATING,
    result: DType | None = None,
    samples: tuple[Sample, ...] = (),
    grad_name: str = "",
) -> Op:
    return declare(
        Op(
            name,
            doc,
            infer=pointwise(name, kinds, result),
            numpy=wide(numpy) if result is None else numpy,
            lowering="pointwise",
            vjp=vjp,
            scalar=scalar,
            saves=saves,
            grad_name=grad_name or torch_name(name),
            samples=samples,
        )
    )


def _zero(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """The gradient of a step function: zero wherever it exists."""
    return [F.zeros_like(dy)]


EDGES = values([0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, INF, -INF, NAN])
USUAL = (uniform((3, 5)), uniform(()), uniform((2, 0, 3)), strided((3, 4)), EDGES)
POSITIVE = (
    uniform((3, 5), between=(0.1, 4.0)),
    uniform((), between=(0.1, 2.0)),
    uniform((2, 0, 3)),
    strided((3, 4), between=(0.1, 2.0)),
    EDGES,
)
STEPS = (
    distinct((3, 5)),
    uniform((0,)),
    values([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.0, -0.0, INF, -INF, NAN, 1e20]),
)

# Arithmetic


def _neg_infer(x: TensorType) -> TensorType:
    if x.dtype is dtypes.bool_:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a "
            "mask, use the `~` or `logical_not()` operator instead."
        )
    return x


declare(
    Op(
        "neg",
        "-x; unsigned integers wrap.",
        infer=_neg_infer,
        numpy=np.negative,
        lowering="pointwise",
        vjp=lambda F, ctx, dy: [F.neg(dy)],
        scalar=lambda s, x: s.neg(x),
        grad_name="NegBackward0",
        samples=(*USUAL, integers((3, 5))),
    )
)


def _abs_infer(x: TensorType) -> TensorType:
    check_dtype("abs", x, NUMBER)
    return x.with_dtype(x.dtype.to_real())


def _abs_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x = ctx.inputs[0]
    dtype = F.type_of(x).dtype
    return [F.mul(F.convert(dy, dtype=dtype), F.sgn(x)) if dtype.is_complex else F.mul(dy, F.sign(x))]


declare(
    Op(
        "abs",
        "|x|; of a complex number a real one. The gradient at 0 is 0.",
        infer=_abs_infer,
        numpy=wide(np.abs),
        lowering="pointwise",
        vjp=_abs_vjp,
        scalar=lambda s, x: s.abs(x),
        saves=("input:0",),
        grad_name="AbsBackward0",
        samples=(distinct((3, 5)), uniform(()), uniform((0,)), integers((3, 5)), EDGES),
    )
)


def _sign(x: Array) -> Array:
    # np.sign(NaN) is NaN; torch.sign(NaN) is 0.
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


_unary(
    "sign",
    "1, 0 or -1; 0 for NaN, as torch.sign.",
    _sign,
    lambda s, x: s.select(s.gt(x, 0), s.const(1, x.dtype), s.select(s.lt(x, 0), s.const(-1, x.dtype), 0)),
    _zero,
    kinds=NUMBER - COMPLEX,
    samples=(distinct((3, 5)), uniform((0,)), integers((3, 5)), EDGES),
)

_unary(
    "reciprocal",
    "1 / x.",
    lambda x: np.divide(x.dtype.type(1), x),
    lambda s, x: s.div(1, x),
    lambda F, ctx, dy: [F.neg(F.mul(dy, F.conj(F.mul(ctx.outputs[0], ctx.outputs[0]))))],
    ("output:0",),
    samples=POSITIVE,
)

# Exponentials, logarithms, roots

_unary(
    "exp",
    "e to the x.",
    np.exp,
    lambda s, x: s.exp(x),
    lambda F, ctx, dy: [F.mul(dy, F.conj(ctx.outputs[0]))],
    ("output:0",),
    samples=(*USUAL, values([88.0, 89.0, -87.0, -104.0, 709.0, -745.0])),
)
_unary(
    "expm1",
    "exp(x) - 1, accurate near 0.",
    np.expm1,
    lambda s, x: s.expm1(x),
    lambda F, ctx, dy: [F.mul(dy, F.conj(F.add(ctx.outputs[0], 1.0)))],
    ("output:0",),
    samples=(*USUAL, values([1e-6, -1e-6, 1e-10, 88.0, -50.0])),
)
_unary(
    "log",
    "The natural logarithm.",
    np.log,
    lambda s, x: s.log(x),
    lambda F, ctx, dy: [F.div(dy, F.conj(ctx.inputs[0]))],
    ("input:0",),
    samples=POSITIVE,
)
_unary(
    "log1p",
    "log(1 + x), accurate near 0.",
    np.log1p,
    lambda s, x: s.log1p(x),
    lambda F, ctx, dy: [F.div(dy, F.conj(F.add(ctx.inputs[0], 1.0)))],
    ("input:0",),
    samples=(*POSITIVE, values([1e-6, -1e-6, 1e-10, -0.999])),
    grad_name="Log1PBackward0",
)
_unary(
    "sqrt",
    "The square root.",
    np.sqrt,
    lambda s, x: s.sqrt(x),
    lambda F, ctx, dy: [F.div(dy, F.conj(F.mul(ctx.outputs[0], 2.0)))],
    ("output:0",),
    samples=POSITIVE,
)
_unary(
    "rsqrt",
    "1 / sqrt(x).",
    lambda x: np.divide(x.dtype.type(1), np.sqrt(x)),
    lambda s, x: s.div(1, s.sqrt(x)),
    lambda F, ctx, dy: [
        F.mul(F.mul(dy, -0.5), F.conj(F.mul(ctx.outputs[0], F.mul(ctx.outputs[0], ctx.outputs[0]))))
    ],
    ("output:0",),
    samples=POSITIVE,
)

# Trigonometry, sigmoids

_unary(
    "sin",
    "The sine, of radians.",
    np.sin,
    lambda s, x: s.sin(x),
    lambda F, ctx, dy: [F.mul(dy, F.conj(F.cos(ctx.inputs[0])))],
    ("input:0",),
    samples=(*USUAL, values([100.0, -1e4, 3.14159265])),
)
_unary(
    "cos",
    "The cosine, of radians.",
    np.cos,
    lambda s, x: s.cos(x),
    lambda F, ctx, dy: [F.neg(F.mul(dy, F.conj(F.sin(ctx.inputs[0]))))],
    ("input:0",),
    samples=(*USUAL, values([100.0, -1e4, 1.57079633])),
)
_unary(
    "tan",
    "The tangent, of radians.",
    np.tan,
    lambda s, x: s.tan(x),
    lambda F, ctx, dy: [F.mul(dy, F.conj(F.add(F.mul(ctx.outputs[0], ctx.outputs[0]), 1.0)))],
    ("output:0",),
    samples=(
        uniform((3, 5), between=(-1.2, 1.2)),
        uniform((), between=(-1.0, 1.0)),
        uniform((0,)),
        values([0.0, -0.0, 100.0, INF, NAN]),
    ),
)
_unary(
    "tanh",
    "The hyperbolic tangent.",
    np.tanh,
    lambda s, x: s.tanh(x),
    lambda F, ctx, dy: [F.mul(dy, F.conj(F.sub(1.0, F.mul(ctx.outputs[0], ctx.outputs[0]))))],
    ("output:0",),
    samples=(*USUAL, values([20.0, -20.0, 1e-5])),
)
_unary(
    "sigmoid",
    "1 / (1 + exp(-x)).",
    lambda x: np.divide(x.dtype.type(1), x.dtype.type(1) + np.exp(-x)),
    lambda s, x: s.sigmoid(x),
    lambda F, ctx, dy: [F.mul(dy, F.conj(F.mul(ctx.outputs[0], F.sub(1.0, ctx.outputs[0]))))],
    ("output:0",),
    samples=(*USUAL, values([30.0, -30.0, 100.0, -80.0])),
)

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), as in his
# CALERF (https://netlib.org/specfun/erf): numerators and denominators, highest power first, for |x| <=
# 0.46875 in x², for |x| <= 4 in |x|, beyond that in 1/x². Relative error below 2e-16 in each range.
_ERF_SMALL = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e00,
        1.13864154151050156e02,
        3.77485237685302021e02,
        3.20937758913846947e03,
    ),
    (1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03),
)
_ERFC_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e00,
        6.61191906371416295e01,
        2.98635138197400131e02,
        8.81952221241769090e02,
        1.71204761263407058e03,
        2.05107837782607147e03,
        1.23033935479799725e03,
    ),
    (
        1.0,
        1.57449261107098347e01,
        1.17693950891312499e02,
        5.37181101862009858e02,
        1.62138957456669019e03,
        3.29079923573345963e03,
        4.36261909014324716e03,
        3.43936767414372164e03,
        1.23033935480374942e03,
    ),
)
_ERFC_LARGE = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e00,
        1.87295284992346725e00,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    above, below = (_polynomial(c, x) for c in coefficients)
    return np.divide(above, below, out=above)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule, in one array."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value


def erf(x: Array) -> Array:
    """The error function, in double precision whatever the dtype, and then rounded."""
    if x.dtype == np.float32:
        return erf_f32(x)
    return in_blocks(lambda block: _erf_block(block.astype(np.float64)), x)


def _erf_block(x: Array) -> Array:
    size = np.abs(x)
    result = np.sign(x)  # what erf is, in double precision, from |x| = 6 on; NaN stays NaN
    small, middle = size <= 0.46875, (size > 0.46875) & (size <= 4.0)
    t = x[small]
    result[small] = t * _ratio(_ERF_SMALL, t * t)
    t = size[middle]
    result[middle] *= 1.0 - np.exp(-t * t) * _ratio(_ERFC_MIDDLE, t)
    large = (size > 4.0) & (size < 6.0)
    if large.any():
        t = size[large]
        inverse = 1.0 / (t * t)
        tail = (1.0 / math.sqrt(math.pi) - inverse * _ratio(_ERFC_LARGE, inverse)) / t
        result[large] *= 1.0 - np.exp(-t * t) * tail
    return result


_unary(
    "erf",
    "The error function 2/sqrt(pi) * integral of exp(-t²) from 0 to x.",
    erf,
    lambda s, x: s.erf(x),
    lambda F, ctx, dy: [
        F.mul(F.mul(dy, 2.0 / math.sqrt(math.pi)), F.exp(F.neg(F.mul(ctx.inputs[0], ctx.inputs[0]))))
    ],
    ("input:0",),
    kinds=FLOAT,
    samples=(*USUAL, values([0.46875, 0.47, 3.9, 4.1, -4.5, 5.9, 6.1, 1e-9])),
)

# Rounding

_unary(
    "floor", "The largest integer <= x.", np.floor, lambda s, x: s.floor(x), _zero, kinds=FLOAT, samples=STEPS
)
_unary(
    "ceil", "The smallest integer >= x.", np.ceil, lambda s, x: s.ceil(x), _zero, kinds=FLOAT, samples=STEPS
)
_unary(
    "trunc", "x without its fraction.", np.trunc, lambda s, x: s.trunc(x), _zero, kinds=FLOAT, samples=STEPS
)
_unary(
    "round",
    "The nearest integer, halves to the even one.",
    np.rint,
    lambda s, x: s.round(x),
    _zero,
    kinds=FLOAT,
    samples=STEPS,
)

# Predicates and logic

_unary(
    "isnan",
    "Whether x is NaN.",
    np.isnan,
    lambda s, x: s.ne(x, x),
    result=dtypes.bool_,
    samples=(EDGES, uniform((0,), gradient=False)),
)
_unary(
    "isinf",
    "Whether x is inf or -inf.",
    np.isinf,
    lambda s, x: s.eq(s.abs(x), INF),
    result=dtypes.bool_,
    samples=(EDGES,),
)
_unary(
    "isfinite",
    "Whether x is neither infinite nor NaN.",
    np.isfinite,
    lambda s, x: s.lt(s.abs(x), INF),
    result=dtypes.bool_,
    samples=(EDGES,),
)
_unary(
    "logical_not",
    "Whether x is zero (or False).",
    np.logical_not,
    lambda s, x: s.eq(x, 0),
    kinds=ANY,
    result=dtypes.bool_,
    samples=(EDGES, values([True, False]), integers((3, 4), low=-1, high=2)),
)
_unary(
    "bitwise_not",
    "Every bit inverted; for bool, not.",
    np.invert,
    lambda s, x: s.not_(x),
    kinds=INTEGRAL,
    samples=(values([True, False]), integers((3, 4))),
)

# Conversion


def _convert_numpy(x: Array, dtype: DType) -> Array:
    with np.errstate(invalid="ignore"):
        return (x.real if x.dtype.kind == "c" and dtype.kind not in ("complex", "bool") else x).astype(
            dtype.numpy
        )


def _convert_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    source = F.type_of(ctx.inputs[0]).dtype
    return [F.convert(dy, dtype=source) if source.kind in FLOATING else None]


def _convert_infer(x: TensorType, dtype: DType) -> TensorType:
    check_dtype("convert", x, ANY)
    return x.with_dtype(dtype)


def _convert_scalar(s: Any, x: Any, dtype: DType) -> Any:
    return s.ne(x, 0) if dtype is dtypes.bool_ else s.cast(x, dtype)


declare(
    Op(
        "convert",
        "x as another dtype: of complex numbers the real part, floats to integers toward zero, to narrower floats "
        "rounded half to even, to bool by x != 0. A float outside the integer type's range gives some integer.",
        infer=_convert_infer,
        numpy=_convert_numpy,
        attrs={"dtype": Attr("dtype")},
        lowering="pointwise",
        vjp=_convert_vjp,
        scalar=_convert_scalar,
        grad_name="ToCopyBackward0",
        samples=(
            uniform((3, 5), dtype=dtypes.f64),
            uniform((3, 5), dtype=dtypes.i64, gradient=False, between=(-2.0, 50.0)),
            uniform((0,), dtype=dtypes.bool_, gradient=False),
            values([0.0, -0.0, 0.5, NAN, INF], dtype=dtypes.bool_),
            values([1.0, 1.00390625, 3.0e38, INF, NAN, 1e-40], dtype=dtypes.bf16),
            values([1.0, 65504.0, 65520.0, 6e-8, NAN], dtype=dtypes.f16),
            integers((3, 4), dtype=dtypes.u8),
            integers((3, 4), dtype=dtypes.f32),
            values([True, False], dtype=dtypes.f32),
        ),
    )
)
