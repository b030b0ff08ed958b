"""Special functions of `torch`: gamma, Bessel, inverse error function and their like. `torch.special` has more names."""

from __future__ import annotations

import math
from typing import Any

from .arguments import also_named, operand, tensor_argument
from .dispatch import apply, constant, op_named
from .elementwise import binary, composed, floating, unary
from .functional_arithmetic import add, pair_of, pow
from .functional_pointwise import where
from .inplace import finish
from .ir import dtypes
from .promotion import convert
from .tape_folded import folded
from .tensor import Tensor

lgamma = unary("lgamma", "log |gamma(input)|.")
digamma = unary("digamma", "The derivative of lgamma.")
erfinv = unary("erfinv", "The inverse of erf.")
i0 = unary("i0", "The modified Bessel function of the first kind, order 0.")
igamma = binary(
    "igamma",
    "The regularised lower incomplete gamma function of (input, other).",
    numbers=False,
    kernel="igamma_cpu",
)
igammac = binary(
    "igammac",
    "The regularised upper incomplete gamma function of (input, other).",
    numbers=False,
    kernel="igammac_cpu",
)


def _sinc(x: Tensor) -> Tensor:
    if not x.dtype.is_complex:
        result: Tensor = apply(op_named("sinc"), (x,))
        return result
    zero = x == 0
    scaled = where(zero, constant(1.0, x.dtype), x) * math.pi
    return where(zero, constant(1.0, x.dtype), scaled.sin() / scaled)


sinc = composed("sinc", "sin(pi input) / (pi input), 1 at 0.", _sinc)


def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(input / (1 - input)); with `eps`, of the input limited to [eps, 1 - eps]."""
    return finish(apply(op_named("logit"), (floating(input),), {"eps": eps}), out, "logit")


@also_named(self="input")
def xlogy(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """input * log(other), 0 where the input is 0. One of the two may be a number."""
    return log_product("xlogy", "xlogy", input, other, out)


def log_product(op: str, name: str, input: Any, other: Any, out: Tensor | None) -> Tensor:
    first, second = operand(input, name, "input", 1), operand(other, name)
    if not isinstance(first, Tensor):
        tensor_argument(second, name, "other", 2)
    return finish(apply(op_named(op), pair_of(first, second, floating=True)), out, name)


def polygamma(n: Any, input: Any, *, out: Tensor | None = None) -> Tensor:
    """The n-th derivative of digamma."""
    value = floating(tensor_argument(input, "polygamma", "input", 2))
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n == 0:
        result = apply(op_named("digamma"), (value,), grad_name="PolygammaBackward0")
    elif n == 1:
        result = apply(op_named("trigamma"), (value,))
    else:
        result = apply(op_named("polygamma"), (value,), {"n": n})
    return finish(result, out, "polygamma")


def mvlgamma(input: Tensor, p: int, *, out: Tensor | None = None) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    value = floating(tensor_argument(input, "mvlgamma"))

    def compute() -> Tensor:
        total = lgamma(value)
        for j in range(1, p):
            total = add(total, lgamma(add(value, -0.5 * j)))
        return add(total, p * (p - 1) / 4 * math.log(math.pi))

    return finish(folded("MvlgammaBackward0", (value,), compute), out, "mvlgamma")


@also_named(self="input")
def float_power(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """`pow` in float64, or in complex128 where one of the two is complex."""
    first, second = operand(input, "float_power", "input", 1), operand(exponent, "float_power", "exponent")
    complex_ = any(
        v.dtype.is_complex if isinstance(v, Tensor) else isinstance(v, complex) for v in (first, second)
    )
    dtype = dtypes.c128 if complex_ else dtypes.f64
    first, second = (convert(v, dtype) if isinstance(v, Tensor) else v for v in (first, second))
    return finish(pow(first, second), out, "float_power")


# The names of `torch` that are defined here.
__all__ = [
    "digamma", "erfinv", "float_power", "i0", "igamma", "igammac", "lgamma", "logit", "mvlgamma", "polygamma",
    "sinc", "xlogy",
]  # fmt: skip
