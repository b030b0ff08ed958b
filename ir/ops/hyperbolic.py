"""sinh, cosh, hypot and logarithms of sums of exponentials: put together from others they lose digits or overflow.

Narrow floats are computed in float32 and rounded once, in generated code too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..op import Op, Sample, declare
from .common import (
    FLOAT,
    FLOATING,
    Array,
    distinct,
    made,
    needed,
    pointwise,
    strided,
    torch_name,
    uniform,
    values,
    wide,
)
from .complex_numbers import complexes

INF, NAN = math.inf, math.nan
EDGES = values([0.0, -0.0, 1e-30, 1.0, -1.0, 20.0, -20.0, 89.2, -89.2, 1e30, INF, -INF, NAN])
_NUMBERS = [0.0, -0.0, 1.0, -2.5, 1e30, INF, -INF, NAN]
PAIRS = (
    distinct((3, 5), (3, 5)),
    distinct((3, 1), (5,)),
    distinct((), (4,)),
    uniform((0, 3), (1, 3)),
    made(lambda rng: [np.repeat(_NUMBERS, 8), np.tile(_NUMBERS, 8)], gradient=False, label="edges"),
)


def _in_single(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The scalar rule with float16 and bfloat16 operands computed in float32."""

    def scalar(s: Any, *args: Any) -> Any:
        dtype = args[0].dtype
        if dtype not in (dtypes.f16, dtypes.bf16):
            return rule(s, *args)
        return s.cast(rule(s, *(s.cast(a, dtypes.f32) for a in args)), dtype)

    return scalar


def _pointwise(
    name: str,
    doc: str,
    numpy: Callable[..., Array],
    scalar: Callable[..., Any],
    vjp: Callable[..., Sequence[Any]],
    saves: tuple[str, ...],
    samples: tuple[Sample, ...],
    arity: int = 1,
    kinds: frozenset[str] = FLOAT,
) -> None:
    declare(
        Op(
            name,
            doc,
            infer=pointwise(name, kinds),
            numpy=wide(numpy),
            arity=(arity, arity),
            lowering="pointwise",
            vjp=vjp,
            scalar=_in_single(scalar),
            saves=saves,
            grad_name=torch_name(name),
            samples=samples,
        )
    )


def _half_square(s: Any, size: Any) -> Any:
    """exp(size) / 2, which overflows no sooner than it must."""
    root = s.exp(s.mul(size, 0.5))
    return s.mul(s.mul(root, 0.5), root)


def _sinh_scalar(s: Any, x: Any) -> Any:
    size = s.abs(x)
    grown = s.expm1(s.min(size, 30.0))
    near = s.mul(s.add(grown, s.div(grown, s.add(grown, 1.0))), 0.5)
    result = s.select(s.lt(size, 30.0), near, _half_square(s, size))
    return s.select(s.lt(x, 0.0), s.neg(result), s.select(s.eq(x, 0.0), x, result))


def _cosh_scalar(s: Any, x: Any) -> Any:
    size = s.abs(x)
    power = s.exp(s.min(size, 30.0))
    near = s.mul(s.add(power, s.div(1.0, power)), 0.5)
    return s.select(s.lt(size, 30.0), near, _half_square(s, size))


_pointwise(
    "sinh",
    "The hyperbolic sine.",
    np.sinh,
    _sinh_scalar,
    lambda F, ctx, dy: [F.mul(dy, F.conj(F.cosh(ctx.inputs[0])))],
    ("input:0",),
    (uniform((3, 5)), uniform(()), uniform((2, 0, 3)), strided((3, 4)), EDGES, complexes(2, 3)),
    kinds=FLOATING,
)
_pointwise(
    "cosh",
    "The hyperbolic cosine.",
    np.cosh,
    _cosh_scalar,
    lambda F, ctx, dy: [F.mul(dy, F.conj(F.sinh(ctx.inputs[0])))],
    ("input:0",),
    (uniform((3, 5)), uniform(()), uniform((2, 0, 3)), strided((3, 4)), EDGES, complexes(2, 3)),
    kinds=FLOATING,
)


def _hypot_scalar(s: Any, a: Any, b: Any) -> Any:
    x, y = s.abs(a), s.abs(b)
    high, low = s.max(x, y), s.min(x, y)
    ratio = s.div(low, s.select(s.eq(high, 0.0), 1.0, high))
    result = s.mul(high, s.sqrt(s.fma(ratio, ratio, 1.0)))
    return s.select(s.or_(s.eq(x, INF), s.eq(y, INF)), INF, result)


def _hypot_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    scaled = F.div(dy, ctx.outputs[0])
    return needed(ctx, lambda: F.mul(scaled, ctx.inputs[0]), lambda: F.mul(scaled, ctx.inputs[1]))


_pointwise(
    "hypot",
    "sqrt(a² + b²), without overflow in between; infinite where either is, whatever the other.",
    np.hypot,
    _hypot_scalar,
    _hypot_vjp,
    ("input:0", "input:1", "output:0"),
    PAIRS,
    2,
)


def _log_sum(base: float) -> tuple[Callable[..., Any], Callable[..., Sequence[Any]]]:
    """The scalar rule and the gradient of log(base^a + base^b) / log(base)."""
    scale = math.log(base)

    def scalar(s: Any, a: Any, b: Any) -> Any:
        high, low = s.max(a, b), s.min(a, b)
        apart = s.sub(low, high)  # NaN where both are the same infinity, or either is NaN
        near = s.add(high, s.mul(s.log1p(s.exp(s.mul(apart, scale))), 1.0 / scale))
        return s.select(s.eq(s.abs(high), INF), high, near)

    def vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
        a, b = ctx.inputs
        gate = F.sigmoid(F.mul(F.sub(a, b), scale))
        return needed(ctx, lambda: F.mul(dy, gate), lambda: F.mul(dy, F.sub(1.0, gate)))

    return scalar, vjp


for _name, _doc, _numpy, _base in (
    ("logaddexp", "log(exp(a) + exp(b)), without overflow.", np.logaddexp, math.e),
    ("logaddexp2", "log2(2^a + 2^b), without overflow.", np.logaddexp2, 2.0),
):
    _scalar, _vjp = _log_sum(_base)
    _pointwise(_name, _doc, _numpy, _scalar, _vjp, ("input:0", "input:1"), PAIRS, 2)
