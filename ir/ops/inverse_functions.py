"""The inverse trigonometric and hyperbolic functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..op import Op, Sample, declare
from .common import (
    FLOAT,
    FLOATING,
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

INF, NAN = np.inf, np.nan
EDGES = values([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-30, 1e30, INF, -INF, NAN])


def _inverse(
    name: str, doc: str, numpy: Callable[..., Any], slope: Callable[[Any, Any], Any], low: float, high: float
) -> None:
    """`slope(F, x)` is 1 over the derivative."""
    samples: tuple[Sample, ...] = (
        uniform((3, 5), between=(low, high)),
        uniform((), between=(low, high)),
        uniform((2, 0, 3)),
        strided((3, 4), between=(low, high)),
        EDGES,
        complexes(2, 3),
    )
    declare(
        Op(
            name,
            doc,
            infer=pointwise(name, FLOATING),
            numpy=wide(numpy),
            lowering="pointwise",
            vjp=lambda F, ctx, dy: [F.div(dy, F.conj(slope(F, ctx.inputs[0])))],
            scalar=lambda s, x: s.call(name, x),
            saves=("input:0",),
            grad_name=torch_name(name),
            samples=samples,
        )
    )


def _square(F: Any, x: Any) -> Any:
    return F.mul(x, x)


_inverse(
    "asin",
    "The angle in [-pi/2, pi/2] with this sine; NaN outside [-1, 1].",
    np.arcsin,
    lambda F, x: F.sqrt(F.sub(1.0, _square(F, x))),
    -0.9,
    0.9,
)
_inverse(
    "acos",
    "The angle in [0, pi] with this cosine; NaN outside [-1, 1].",
    np.arccos,
    lambda F, x: F.neg(F.sqrt(F.sub(1.0, _square(F, x)))),
    -0.9,
    0.9,
)
_inverse(
    "atan",
    "The angle in [-pi/2, pi/2] with this tangent.",
    np.arctan,
    lambda F, x: F.add(_square(F, x), 1.0),
    -3.0,
    3.0,
)
_inverse(
    "asinh",
    "The inverse of sinh.",
    np.arcsinh,
    lambda F, x: F.sqrt(F.add(_square(F, x), 1.0)),
    -3.0,
    3.0,
)
_inverse(
    "acosh",
    "The non-negative inverse of cosh; NaN below 1.",
    np.arccosh,
    lambda F, x: (
        F.mul(F.sqrt(F.add(x, 1.0)), F.sqrt(F.sub(x, 1.0)))  # of one square root, the other branch at times
        if F.type_of(x).dtype.is_complex
        else F.sqrt(F.sub(_square(F, x), 1.0))
    ),
    1.2,
    5.0,
)
_inverse(
    "atanh",
    "The inverse of tanh; NaN outside [-1, 1].",
    np.arctanh,
    lambda F, x: F.sub(1.0, _square(F, x)),
    -0.9,
    0.9,
)


def _atan2_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    y, x = ctx.inputs
    square = F.add(_square(F, y), _square(F, x))
    # The origin has no slope; there the gradient is 0.
    scaled = F.where(
        F.eq(square, 0.0), F.zeros_like(square), F.div(dy, F.where(F.eq(square, 0.0), 1.0, square))
    )
    return needed(ctx, lambda: F.mul(scaled, x), lambda: F.neg(F.mul(scaled, y)))


_NUMBERS = [0.0, -0.0, 1.0, -2.5, INF, -INF, NAN]
declare(
    Op(
        "atan2",
        "atan2(y, x): the angle of the point (x, y), in [-pi, pi].",
        infer=pointwise("atan2", FLOAT),
        numpy=wide(np.arctan2),
        arity=(2, 2),
        lowering="pointwise",
        vjp=_atan2_vjp,
        scalar=lambda s, y, x: s.call("atan2", y, x),
        saves=("input:0", "input:1"),
        grad_name="Atan2Backward0",
        samples=(
            distinct((3, 5), (3, 5)),
            distinct((3, 1), (5,)),
            distinct((), (4,)),
            uniform((0, 3), (1, 3)),
            made(
                lambda rng: [np.repeat(_NUMBERS, 7), np.tile(_NUMBERS, 7)],
                gradient=False,
                label="edges",
            ),
        ),
    )
)
