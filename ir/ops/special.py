"""Special functions of one number (`ir/special_functions.py`), and the small functions made of a logarithm.

Meanings and gradients are those of https://docs.pytorch.org/docs/stable/special.html; where PyTorch has no gradient
there is none here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array_scalars import ARRAY_SCALARS
from ..op import Attr, Op, Sample, declare
from ..special_functions import FORMULAS, INF, NAN, SQRT_HALF, Formula
from .common import FLOAT, Array, needed, pointwise, strided, torch_name, uniform, values, wide
from .float32_functions import erfinv_f32, in_blocks

Rule = Callable[..., Sequence[Any]]
EDGES = values([0.0, -0.0, 1.0, -1.0, 2.0, -2.5, 1e-30, 30.0, INF, -INF, NAN])


def _in_double(formula: Formula) -> Callable[[Array], Array]:
    def rule(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return in_blocks(lambda block: formula(ARRAY_SCALARS, block.astype(np.float64)), x)

    return rule


def _special(
    name: str,
    doc: str,
    slope: Callable[[Any, Any, Any], Any] | None = None,
    saves: tuple[str, ...] = ("input:0",),
    between: tuple[float, float] = (-3.0, 3.0),
    grad_name: str = "",
    single: Callable[[Array], Array] | None = None,
) -> None:
    """`slope(F, x, y)` is the derivative at x, where the function is y; `saves` says which of the two it reads.
    `single` is the NumPy rule for float32 where that has one of its own."""

    def vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
        assert slope is not None
        return [F.mul(dy, slope(F, ctx.inputs[0], ctx.outputs[0]))]

    exact = _in_double(FORMULAS[name])

    def rule(x: Array) -> Array:
        return single(x) if single is not None and x.dtype == np.float32 else exact(x)

    samples: tuple[Sample, ...] = (
        uniform((3, 5), between=between, tolerance=4.0),
        uniform((), between=between, tolerance=4.0),
        uniform((2, 0, 3)),
        strided((3, 4), between=between),
        EDGES,
    )
    declare(
        Op(
            name,
            doc,
            infer=pointwise(name, FLOAT),
            numpy=wide(rule),
            lowering="pointwise",
            vjp=vjp if slope is not None else None,
            scalar=lambda s, x: s.call(name, x),
            saves=saves if slope is not None else (),
            grad_name=grad_name or torch_name(name),
            samples=samples,
        )
    )


# The gamma function

_special(
    "lgamma", "log |gamma(x)|.", lambda F, x, y: F.digamma(x), between=(0.3, 6.0), grad_name="LgammaBackward0"
)
_special(
    "digamma",
    "The derivative of log gamma; NaN at the negative integers.",
    lambda F, x, y: F.trigamma(x),
    between=(0.6, 6.0),
)
_special(
    "trigamma",
    "The derivative of digamma: torch.polygamma(1, x).",
    lambda F, x, y: F.polygamma(x, n=2),
    between=(0.6, 6.0),
    grad_name="PolygammaBackward0",
)

# The error function and the normal distribution


def _bell(F: Any, x: Any) -> Any:
    return F.exp(F.neg(F.mul(x, x)))


_special(
    "erfc",
    "1 - erf(x), accurate where that is small.",
    lambda F, x, y: F.mul(_bell(F, x), -2.0 / math.sqrt(math.pi)),
)
_special(
    "erfcx",
    "exp(x²) erfc(x).",
    lambda F, x, y: F.sub(F.mul(F.mul(x, y), 2.0), 2.0 / math.sqrt(math.pi)),
    ("input:0", "output:0"),
    (-1.5, 3.0),
    "SpecialErfcxBackward0",
)
_special(
    "erfinv",
    "The inverse of erf.",
    lambda F, x, y: F.mul(F.exp(F.mul(y, y)), 0.5 * math.sqrt(math.pi)),
    ("output:0",),
    (-0.9, 0.9),
    single=erfinv_f32,
)
_special(
    "ndtri",
    "The inverse of the standard normal distribution function.",
    lambda F, x, y: F.mul(F.exp(F.mul(F.mul(y, y), 0.5)), math.sqrt(2.0 * math.pi)),
    ("output:0",),
    (0.1, 0.9),
    "SpecialNdtriBackward0",
)
_special(
    "log_ndtr",
    "The logarithm of the standard normal distribution function.",
    lambda F, x, y: F.div(math.sqrt(2.0 / math.pi), F.erfcx(F.mul(x, -SQRT_HALF))),
    grad_name="SpecialLogNdtrBackward0",
)

# Bessel functions


def _over(F: Any, y: Any, x: Any, at_zero: float) -> Any:
    """y / x, and `at_zero` where x is 0."""
    zero = F.eq(x, 0.0)
    return F.where(zero, at_zero, F.div(y, F.where(zero, F.ones_like(x), x)))


_special(
    "i0",
    "The modified Bessel function of the first kind, order 0.",
    lambda F, x, y: F.i1(x),
    grad_name="I0Backward0",
)
_special(
    "i0e",
    "exp(-|x|) i0(x).",
    lambda F, x, y: F.sub(F.i1e(x), F.mul(F.sign(x), y)),
    ("input:0", "output:0"),
    (0.3, 12.0),
    "SpecialI0EBackward0",
)
_special(
    "i1",
    "The modified Bessel function of the first kind, order 1.",
    lambda F, x, y: F.sub(F.i0(x), _over(F, y, x, 0.5)),
    ("input:0", "output:0"),
    (0.3, 6.0),
    "SpecialI1Backward0",
)
_special(
    "i1e",
    "exp(-|x|) i1(x).",
    lambda F, x, y: F.sub(F.i0e(x), F.add(F.mul(F.sign(x), y), _over(F, y, x, 0.5))),
    ("input:0", "output:0"),
    (0.3, 12.0),
    "SpecialI1EBackward0",
)
for _name, _doc in {
    "bessel_j0": "The Bessel function of the first kind, order 0.",
    "bessel_j1": "The Bessel function of the first kind, order 1.",
    "bessel_y0": "The Bessel function of the second kind, order 0.",
    "bessel_y1": "The Bessel function of the second kind, order 1.",
    "modified_bessel_k0": "The modified Bessel function of the second kind, order 0.",
    "modified_bessel_k1": "The modified Bessel function of the second kind, order 1.",
    "scaled_modified_bessel_k0": "exp(x) modified_bessel_k0(x).",
    "scaled_modified_bessel_k1": "exp(x) modified_bessel_k1(x).",
}.items():
    _special(_name, _doc, between=(0.2, 20.0))

# Functions made of a logarithm or a sine


def _composite(
    name: str,
    doc: str,
    numpy: Callable[..., Any],
    vjp: Rule,
    decompose: Callable[..., Any],
    samples: tuple[Sample, ...],
    grad_name: str = "",
    attrs: dict[str, Attr] | None = None,
    arity: int = 1,
) -> None:
    declare(
        Op(
            name,
            doc,
            infer=pointwise(name, FLOAT),
            numpy=wide(numpy),
            attrs=attrs or {},
            arity=(arity, arity),
            level="composite",
            vjp=vjp,
            decompose=decompose,
            saves=tuple(f"input:{i}" for i in range(arity)),
            grad_name=grad_name or torch_name(name),
            samples=samples,
        )
    )


def _sinc_numpy(x: Array) -> Array:
    scaled = x * x.dtype.type(math.pi)
    zero = x == 0
    with np.errstate(all="ignore"):
        return np.where(zero, x.dtype.type(1), np.sin(scaled) / np.where(zero, x.dtype.type(1), scaled))


def _sinc(F: Any, x: Any) -> Any:
    scaled = F.mul(x, math.pi)
    return _over(F, F.sin(scaled), scaled, 1.0)


def _sinc_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    scaled = F.mul(ctx.inputs[0], math.pi)
    slope = F.sub(F.mul(scaled, F.cos(scaled)), F.sin(scaled))
    return [F.mul(dy, F.mul(_over(F, _over(F, slope, scaled, 0.0), scaled, 0.0), math.pi))]


_composite(
    "sinc",
    "sin(pi x) / (pi x), 1 at 0.",
    _sinc_numpy,
    _sinc_vjp,
    _sinc,
    (
        uniform((3, 5), between=(0.2, 3.0)),
        uniform((0,)),
        uniform((), between=(0.2, 3.0)),
        values([0.0, -0.0, NAN]),
    ),
)


def _log_product(log: str, shift: float) -> tuple[Callable[..., Any], Rule, Callable[..., Any]]:
    """The NumPy rule, gradient and decomposition of x * log(y), 0 where x is 0 unless y is NaN."""
    logarithm = getattr(np, log)

    def numpy(x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            product = x * logarithm(y)
        return np.where((x == 0) & ~np.isnan(y), x.dtype.type(0), product)

    def vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
        x, y = ctx.inputs
        flat = F.logical_and(F.eq(x, 0.0), F.le(y, -shift))
        return needed(
            ctx,
            lambda: F.mul(dy, F.where(flat, 0.0, getattr(F, log)(F.where(flat, F.ones_like(y), y)))),
            lambda: F.div(F.mul(dy, x), F.add(y, shift) if shift else y),
        )

    def decompose(F: Any, x: Any, y: Any) -> Any:
        flat = F.logical_and(F.eq(x, 0.0), F.eq(y, y))
        return F.where(flat, 0.0, F.mul(x, getattr(F, log)(y)))

    return numpy, vjp, decompose


_PRODUCTS = (
    uniform((3, 5), (3, 5), between=(0.5, 2.0)),
    uniform((3, 1), (5,), between=(0.5, 2.0)),
    uniform((0, 3), (1, 3)),
    values([0.0, 0.0, 0.0, 1.0, 1.0, NAN, 0.0], [0.0, -1.0, NAN, 0.0, -2.0, 1.0, INF]),
)
_composite("xlogy", "x * log(y), 0 where x is 0.", *_log_product("log", 0.0), _PRODUCTS, arity=2)
_composite(
    "xlog1py",
    "x * log1p(y), 0 where x is 0.",
    *_log_product("log1p", 1.0),
    _PRODUCTS,
    "SpecialXlog1PyBackward0",
    arity=2,
)


def _entr_numpy(x: Array) -> Array:
    with np.errstate(all="ignore"):
        inside = -x * np.log(x)
    return np.where(np.isnan(x), x, np.where(x > 0, inside, np.where(x == 0, 0.0, -INF))).astype(x.dtype)


def _entr(F: Any, x: Any) -> Any:
    low = F.where(F.eq(x, 0.0), 0.0, F.where(F.lt(x, 0.0), F.mul(F.ones_like(x), -INF), x))
    return F.where(F.gt(x, 0.0), F.neg(F.mul(x, F.log(x))), low)


_composite(
    "entr",
    "-x log(x), 0 at 0, minus infinity below.",
    _entr_numpy,
    lambda F, ctx, dy: [F.neg(F.mul(dy, F.add(F.log(ctx.inputs[0]), 1.0)))],
    _entr,
    (uniform((3, 5), between=(0.2, 3.0)), uniform((0,)), EDGES),
    "SpecialEntrBackward0",
)


def _logit_numpy(x: Array, eps: float | None) -> Array:
    if eps is not None:
        x = np.minimum(np.maximum(x, x.dtype.type(eps)), x.dtype.type(1 - eps))
    with np.errstate(all="ignore"):
        return np.log(x / (x.dtype.type(1) - x))


def _logit_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, eps = ctx.inputs[0], ctx.attrs["eps"]
    low = 0.0 if eps is None else eps
    inside = F.logical_and(F.ge(x, low), F.le(x, 1.0 - low))
    slope = F.div(dy, F.mul(x, F.sub(1.0, x)))
    return [F.where(inside, slope, NAN if eps is None else 0.0)]


def _logit(F: Any, x: Any, eps: float | None) -> Any:
    if eps is not None:
        x = F.clamp(x, min=eps, max=1.0 - eps)
    return F.log(F.div(x, F.sub(1.0, x)))


_composite(
    "logit",
    "log(x / (1 - x)), x limited to [eps, 1 - eps] where eps is given.",
    _logit_numpy,
    _logit_vjp,
    _logit,
    (
        uniform((3, 5), between=(0.1, 0.9)),
        uniform((3, 5), between=(0.1, 0.9), eps=0.05),
        uniform((0,)),
        values([0.0, 1.0, 0.5, NAN]),
        values([0.0, 1.0, 0.5, -3.0, NAN], eps=1e-3),
    ),
    attrs={"eps": Attr("scalar", None)},
)
