"""Random numbers by rejection, which NumPy draws in compiled code too, and the gradients of gamma and Dirichlet samples.

A sample x of a distribution with distribution function F(x; a) moves with its parameter as if its quantile stayed where
it is: dx/da = -(dF/da) / (dF/dx). M. Figurnov, S. Mohamed, A. Mnih, "Implicit reparameterization gradients", 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array_scalars import ARRAY_SCALARS
from ..op import Attr, Op, declare
from ..special_functions import digamma
from ..types import TensorType
from .common import Array, made, shape_of
from .random import _check_state

_KINDS = ("gamma", "poisson", "binomial")
_MOST_TERMS = 1 << 22  # of a series, which takes about sqrt(parameter) of them


def _digamma(x: Array) -> Array:
    return np.asarray(digamma(ARRAY_SCALARS, x))


def _draw_infer(state: TensorType, *parameters: TensorType, kind: str, stream: int) -> TensorType:
    _check_state("random_draw", state)
    if kind not in _KINDS or len(parameters) != (2 if kind == "binomial" else 1):
        raise RuntimeError(f"random_draw: no kind {kind!r} of {len(parameters)} parameters")
    if any(p != parameters[0] for p in parameters) or parameters[0].dtype.kind != "float":
        raise RuntimeError("random_draw: the parameters must have one shape and one floating point dtype")
    return parameters[0]


def _draw_numpy(state: Array, *parameters: Array, kind: str, stream: int) -> Array:
    key = np.array([int(state[0]), int(state[1]) + stream], np.int64).view(np.uint64)
    source = np.random.Generator(np.random.Philox(key=key))
    wide = [p.astype(np.float64) for p in parameters]
    dtype = parameters[0].dtype
    if kind == "gamma":
        tiny = float(np.finfo(np.float32 if dtype.itemsize < 8 else np.float64).tiny)
        return np.maximum(source.standard_gamma(np.maximum(wide[0], 0.0)), tiny).astype(dtype)
    if kind == "poisson":
        return source.poisson(np.maximum(wide[0], 0.0)).astype(dtype)
    count, p = np.maximum(wide[0], 0.0).astype(np.int64), np.clip(wide[1], 0.0, 1.0)
    return source.binomial(count, p).astype(dtype)


def _state(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


declare(
    Op(
        "random_draw",
        "Gamma(alpha, 1), Poisson(rate) or binomial(count, p) numbers, one for each element of the parameters, as NumPy "
        "draws them from Philox with the key (seed, call number + stream). state = (seed, call number), i64.",
        infer=_draw_infer,
        numpy=_draw_numpy,
        attrs={"kind": Attr("str"), "stream": Attr("int", 0)},
        arity=(2, 3),
        lowering="host",
        samples=(
            made(lambda rng: [_state(3, 4), rng.uniform(0.2, 5, (3, 5))], gradient=False, kind="gamma"),
            made(
                lambda rng: [_state(3, 4), rng.uniform(0.2, 50, (7,))],
                gradient=False,
                kind="poisson",
                stream=2,
            ),
            made(
                lambda rng: [_state(-3, 4), np.full((2, 4), 30.0), rng.uniform(0, 1, (2, 4))],
                gradient=False,
                kind="binomial",
            ),
            made(lambda rng: [_state(3, 4), rng.uniform(0.2, 5, (0, 5))], gradient=False, kind="gamma"),
        ),
    )
)


# The gamma distribution

_NORMAL_FROM = 1e5  # from this concentration on the quantiles' expansion is good to 1e-9


def _gamma_gradient(alpha: Array, x: Array) -> Array:
    """dx/da, from P(a, x) = x**a exp(-x) / Gamma(a + 1) * sum of x**n / ((a + 1) ... (a + n))."""
    a, x = np.maximum(alpha.astype(np.float64), 1e-30), np.maximum(x.astype(np.float64), 1e-300)
    large = a > _NORMAL_FROM
    found = np.where(large, _large_gamma_gradient(a, x), 0.0)
    small = np.where(large, 1.0, a)
    at = np.where(large, 1.0, x)
    total, slope = np.ones_like(small), np.zeros_like(small)
    term, harmonic = np.ones_like(small), np.zeros_like(small)
    for n in range(1, _MOST_TERMS):
        term = term * (at / (small + n))
        harmonic = harmonic + 1.0 / (small + n)
        total, slope = total + term, slope - term * harmonic
        if not (term * harmonic > 1e-17 * np.abs(slope)).any():
            break
    # dP/da over dP/dx = x**(a - 1) exp(-x) / Gamma(a), the common factor cancelled.
    gradient = -(at / small) * (total * (np.log(at) - _digamma(small + 1.0)) + slope)
    return np.where(large, found, gradient).astype(alpha.dtype)


def _large_gamma_gradient(a: Array, x: Array) -> Array:
    """From the Cornish-Fisher expansion of the quantile, x = a + z sqrt(a) + (z**2 - 1) / 3 + ...; z stays."""
    root = np.sqrt(a)
    z = (x - a) / root
    for _ in range(3):
        z = (x - a - (z * z - 1.0) / 3.0 - (z**3 - 7.0 * z) / (36.0 * root)) / root
    return 1.0 + z / (2.0 * root) - (z**3 - 7.0 * z) / (72.0 * a * root)


def _same_types(name: str, *operands: TensorType) -> TensorType:
    if any(t != operands[0] for t in operands) or operands[0].dtype.kind != "float":
        raise RuntimeError(f"{name}: the operands must have one shape and one floating point dtype")
    return operands[0]


declare(
    Op(
        "standard_gamma_grad",
        "standard_gamma_grad(alpha, x): dx/dalpha of Gamma(alpha, 1) samples x.",
        infer=lambda alpha, x: _same_types("standard_gamma_grad", alpha, x),
        numpy=_gamma_gradient,
        arity=(2, 2),
        lowering="host",
        samples=(
            made(lambda rng: [rng.uniform(0.3, 9, (3, 5)), rng.uniform(0.3, 9, (3, 5))], gradient=False),
            made(lambda rng: [rng.uniform(0.3, 9, (0,)), rng.uniform(0.3, 9, (0,))], gradient=False),
        ),
    )
)

declare(
    Op(
        "implicit_gamma",
        "implicit_gamma(alpha, x): Gamma(alpha, 1) samples x, whose gradient is that of alpha.",
        infer=lambda alpha, x: _same_types("implicit_gamma", alpha, x),
        numpy=lambda alpha, x: x.copy(),
        arity=(2, 2),
        level="composite",
        decompose=lambda F, alpha, x: F.add(x, F.constant(0.0, F.type_of(x).dtype)),
        vjp=lambda F, ctx, dy: [F.mul(dy, F.standard_gamma_grad(*ctx.inputs)), None],
        saves=("input:0", "input:1"),
        grad_name="StandardGammaBackward0",
        samples=(
            made(lambda rng: [rng.uniform(0.3, 9, (3, 5)), rng.uniform(0.3, 9, (3, 5))], gradient=False),
            made(lambda rng: [rng.uniform(0.3, 9, ()), rng.uniform(0.3, 9, ())], gradient=False),
        ),
    )
)


# The Dirichlet distribution: each element is a beta number


def _beta_series(x: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """S, dS/da and dS/db of S = sum of (a + b)_n / (a + 1)_n * x**n, so that
    I_x(a, b) = x**a (1 - x)**b / (a B(a, b)) * S."""
    term, up, down = np.ones_like(x), np.zeros_like(x), np.zeros_like(x)
    total, slope_a, slope_b = np.ones_like(x), np.zeros_like(x), np.zeros_like(x)
    for n in range(_MOST_TERMS):
        term = term * (x * (a + b + n) / (a + 1.0 + n))
        up, down = up + 1.0 / (a + b + n), down + 1.0 / (a + 1.0 + n)
        total = total + term
        slope_a, slope_b = slope_a + term * (up - down), slope_b + term * up
        if not (term * (up + 1.0) > 1e-17 * total).any():
            break
    return total, slope_a, slope_b


def _beta_gradient(x: Array, alpha: Array, total: Array) -> Array:
    """-(dI_x(a, b)/da) / (density * (1 - x)), b = total - a."""
    a, b = alpha.astype(np.float64), total.astype(np.float64) - alpha.astype(np.float64)
    x = np.clip(x.astype(np.float64), 1e-300, 1.0 - 1e-16)
    low = x <= 0.5
    # On the right half from the other end: I_x(a, b) = 1 - I_{1 - x}(b, a).
    at, first, second = np.where(low, x, 1.0 - x), np.where(low, a, b), np.where(low, b, a)
    series, slope_first, slope_second = _beta_series(at, first, second)
    psi_total = _digamma(a + b)
    # With I = at**first (1 - at)**second / (first B) * series, over the density at**(first - 1) ... / B:
    by_first = (
        at * (1.0 - at) / first * (series * (np.log(at) - _digamma(first + 1.0) + psi_total) + slope_first)
    )
    by_second = (
        at * (1.0 - at) / first * (series * (np.log1p(-at) - _digamma(second) + psi_total) + slope_second)
    )
    gradient = np.where(low, -by_first, by_second)
    return (gradient / (1.0 - x)).astype(alpha.dtype)


declare(
    Op(
        "dirichlet_grad",
        "dirichlet_grad(x, alpha, total): how samples x of Dirichlet distributions move with their concentration alpha, "
        "of sum `total` with the others: dx_j/dalpha_i = dirichlet_grad_i * ((i == j) - x_j).",
        infer=lambda x, alpha, total: _same_types("dirichlet_grad", x, alpha, total),
        numpy=_beta_gradient,
        arity=(3, 3),
        lowering="host",
        samples=(
            made(
                lambda rng: [
                    rng.uniform(0.05, 0.95, (4, 5)),
                    rng.uniform(0.3, 9, (4, 5)),
                    np.full((4, 5), 20.0),
                ],
                gradient=False,
            ),
        ),
    )
)


def _dirichlet_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    alpha, x = ctx.inputs
    last = len(F.type_of(x).shape) - 1
    total = F.expand(F.sum(alpha, dims=(last,), keepdim=True), shape=shape_of(F, alpha))
    mean = F.sum(F.mul(x, dy), dims=(last,), keepdim=True)
    return [F.mul(F.dirichlet_grad(x, alpha, total), F.sub(dy, mean)), None]


declare(
    Op(
        "implicit_dirichlet",
        "implicit_dirichlet(alpha, x): Dirichlet samples x along the last dim, whose gradient is that of alpha.",
        infer=lambda alpha, x: _same_types("implicit_dirichlet", alpha, x),
        numpy=lambda alpha, x: x.copy(),
        arity=(2, 2),
        level="composite",
        decompose=lambda F, alpha, x: F.add(x, F.constant(0.0, F.type_of(x).dtype)),
        vjp=_dirichlet_vjp,
        saves=("input:0", "input:1"),
        grad_name="_DirichletBackward",
        samples=(
            made(lambda rng: [rng.uniform(0.3, 9, (3, 5)), rng.dirichlet(np.ones(5), 3)], gradient=False),
        ),
    )
)


declare(
    Op(
        "drawn_from",
        "drawn_from(parameter, x): the numbers x, drawn from a distribution of that parameter; its gradient is 0.",
        infer=lambda parameter, x: x,
        numpy=lambda parameter, x: x.copy(),
        arity=(2, 2),
        level="composite",
        decompose=lambda F, parameter, x: F.add(x, F.constant(0.0, F.type_of(x).dtype)),
        vjp=lambda F, ctx, dy: [
            F.full(shape=F.type_of(ctx.inputs[0]).shape, value=0.0, dtype=F.type_of(ctx.inputs[0]).dtype),
            dy,
        ],
        saves=("input:0",),
        samples=(
            made(lambda rng: [rng.uniform(0.3, 9, (3, 5)), rng.uniform(0.3, 9, (3, 5))], gradient=False),
            made(lambda rng: [rng.uniform(0.3, 9, (5,)), rng.uniform(0.3, 9, (3, 5))], gradient=False),
        ),
    )
)
