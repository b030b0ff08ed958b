"""torch.special: special functions, and the names SciPy has for some of torch's own.
https://docs.pytorch.org/docs/stable/special.html"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import functional_reductions as reductions
from .arguments import not_implemented, operand, tensor_argument
from .dispatch import apply, constant, op_named
from .elementwise import floating, named, unary
from .functional_arithmetic import add, div, mul, pair_of
from .functional_pointwise import eq, erf, erfc, exp2, expm1, log1p, round, sigmoid, sin, where
from .functional_special import (
    digamma,
    erfinv,
    i0,
    igamma,
    igammac,
    lgamma,
    log_product,
    logit,
    mvlgamma,
    polygamma,
    sinc,
    xlogy,
)
from .inplace import finish
from .ir import dtypes
from .ir.dtypes import DType
from .tensor import Tensor

expit, gammaln, psi, multigammaln = sigmoid, lgamma, digamma, mvlgamma
gammainc, gammaincc = igamma, igammac
logsumexp = reductions.logsumexp

entr = unary("entr", "-input * log(input), 0 at 0, minus infinity below.")
i0e = unary("i0e", "exp(-|input|) i0(input).")
i1 = unary("i1", "The modified Bessel function of the first kind, order 1.")
i1e = unary("i1e", "exp(-|input|) i1(input).")


def _single_or_double(name: str, doc: str, op: str = "") -> Callable[..., Tensor]:
    """A function that PyTorch has for float32 and float64 alone."""
    inner = unary(op or name, doc)

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if tensor_argument(input, f"special_{name}").dtype in (dtypes.f16, dtypes.bf16):
            raise not_implemented(f"{name}_cpu", input)
        return inner(input, out=out)

    return named(function, name, doc)


erfcx = _single_or_double("erfcx", "exp(input²) erfc(input).")
log_ndtr = _single_or_double("log_ndtr", "The logarithm of the standard normal distribution function.")
ndtri = _single_or_double("ndtri", "The inverse of the standard normal distribution function.")
airy_ai = _single_or_double("airy_ai", "The Airy function Ai.")
bessel_j0 = _single_or_double("bessel_j0", "The Bessel function of the first kind, order 0.")
bessel_j1 = _single_or_double("bessel_j1", "The Bessel function of the first kind, order 1.")
bessel_y0 = _single_or_double("bessel_y0", "The Bessel function of the second kind, order 0.")
bessel_y1 = _single_or_double("bessel_y1", "The Bessel function of the second kind, order 1.")
modified_bessel_k0 = _single_or_double(
    "modified_bessel_k0", "The modified Bessel function of the second kind, order 0."
)
modified_bessel_k1 = _single_or_double(
    "modified_bessel_k1", "The modified Bessel function of the second kind, order 1."
)
scaled_modified_bessel_k0 = _single_or_double(
    "scaled_modified_bessel_k0", "exp(input) modified_bessel_k0(input)."
)
scaled_modified_bessel_k1 = _single_or_double(
    "scaled_modified_bessel_k1", "exp(input) modified_bessel_k1(input)."
)


def modified_bessel_i0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`i0` without a gradient."""
    return finish(i0(input.detach()), out, "modified_bessel_i0")


def modified_bessel_i1(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`i1` without a gradient."""
    return finish(i1(input.detach()), out, "modified_bessel_i1")


def spherical_bessel_j0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """sin(input) / input, 1 at 0."""
    x = floating(input.detach())
    zero, one = eq(x, 0), constant(1.0, x.dtype)
    infinite = eq(x.abs(), math.inf)
    kept = where(infinite, one, where(zero, one, x))
    ratio = where(infinite, constant(0.0, x.dtype), div(sin(kept), kept))
    return finish(where(zero, one, ratio), out, "spherical_bessel_j0")


def ndtr(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The standard normal distribution function."""
    x = mul(floating(input), math.sqrt(0.5))
    tail = mul(erfc(x.abs()), 0.5)
    middle = mul(add(erf(x), 1.0), 0.5)
    result = where(x.detach() < -1.0, tail, where(x.detach() > 1.0, 1.0 - tail, middle))
    return finish(result, out, "ndtr")


def xlog1py(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """input * log1p(other), 0 where the input is 0. One of the two may be a number."""
    return log_product("xlog1py", "special_xlog1py", input, other, out)


def zeta(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The Hurwitz zeta function. One of the two may be a number."""
    first, second = operand(input, "special_zeta", "input", 1), operand(other, "special_zeta")
    return finish(apply(op_named("zeta"), pair_of(first, second, floating=True)), out, "special_zeta")


def _polynomial(name: str, doc: str) -> Callable[..., Tensor]:
    op = op_named("orthogonal_polynomial")

    def function(input: Any, n: Any, *, out: Tensor | None = None) -> Tensor:
        pair = pair_of(operand(input, name, "input", 1), operand(n, name, "n"), floating=True)
        if pair[0].dtype in (dtypes.f16, dtypes.bf16):
            raise not_implemented(f"{name}_cpu", pair[0])
        return finish(apply(op, pair, {"family": name}), out, name)

    return named(function, name, doc)


chebyshev_polynomial_t = _polynomial("chebyshev_polynomial_t", "Chebyshev's T of degree n.")
chebyshev_polynomial_u = _polynomial("chebyshev_polynomial_u", "Chebyshev's U of degree n.")
chebyshev_polynomial_v = _polynomial("chebyshev_polynomial_v", "Chebyshev's V of degree n.")
chebyshev_polynomial_w = _polynomial("chebyshev_polynomial_w", "Chebyshev's W of degree n.")
shifted_chebyshev_polynomial_t = _polynomial(
    "shifted_chebyshev_polynomial_t", "T of degree n at 2 input - 1."
)
shifted_chebyshev_polynomial_u = _polynomial(
    "shifted_chebyshev_polynomial_u", "U of degree n at 2 input - 1."
)
shifted_chebyshev_polynomial_v = _polynomial(
    "shifted_chebyshev_polynomial_v", "V of degree n at 2 input - 1."
)
shifted_chebyshev_polynomial_w = _polynomial(
    "shifted_chebyshev_polynomial_w", "W of degree n at 2 input - 1."
)
hermite_polynomial_h = _polynomial("hermite_polynomial_h", "The physicists' Hermite polynomial of degree n.")
hermite_polynomial_he = _polynomial(
    "hermite_polynomial_he", "The probabilists' Hermite polynomial of degree n."
)
laguerre_polynomial_l = _polynomial("laguerre_polynomial_l", "The Laguerre polynomial of degree n.")
legendre_polynomial_p = _polynomial("legendre_polynomial_p", "The Legendre polynomial of degree n.")


def softmax(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """`torch.softmax`."""
    return reductions.softmax(input, dim, dtype)


def log_softmax(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """`torch.log_softmax`."""
    return reductions.log_softmax(input, dim, dtype)


__all__ = [
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "chebyshev_polynomial_t",
    "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w", "digamma", "entr", "erf",
    "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammainc", "gammaincc", "gammaln",
    "hermite_polynomial_h", "hermite_polynomial_he", "i0", "i0e", "i1", "i1e", "laguerre_polynomial_l",
    "legendre_polynomial_p", "log1p", "log_ndtr", "log_softmax", "logit", "logsumexp", "modified_bessel_i0",
    "modified_bessel_i1", "modified_bessel_k0", "modified_bessel_k1", "multigammaln", "ndtr", "ndtri",
    "polygamma", "psi", "round", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1",
    "shifted_chebyshev_polynomial_t", "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w", "sinc", "softmax", "spherical_bessel_j0", "xlog1py", "xlogy", "zeta",
]  # fmt: skip
