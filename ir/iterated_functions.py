"""Special functions that take loops of data-dependent length, on NumPy arrays in float64.

Sources: Abramowitz and Stegun, "Handbook of Mathematical Functions" (6.5, 10.4, 22.7, 23.2); for the incomplete gamma
functions Temme's form of the prefactor ("The asymptotic expansion of the incomplete gamma functions", 1979); for the
Airy function the steepest-descent contour (Gil, Segura and Temme, "Numerical Methods for Special Functions", 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .array_scalars import ARRAY_SCALARS
from .special_functions import lgamma

Array = np.ndarray[Any, Any]

_EPSILON = 2.0**-53
_LONGEST = 20000  # terms of a series; for the arguments they are used at, hundreds are the rule


def _gamma_prefactor(a: Array, x: Array) -> Array:
    """x^a e^-x / gamma(a + 1)."""
    large = a > 12
    safe = np.where(large, a, 1.0)
    ratio = (x - safe) / safe
    stirling = 1 / (12 * safe) - 1 / (360 * safe**3) + 1 / (1260 * safe**5) - 1 / (1680 * safe**7)
    far = np.exp(-safe * (ratio - np.log1p(ratio)) - stirling) / np.sqrt(2 * math.pi * safe)
    near = np.exp(a * np.log(x) - x - lgamma(ARRAY_SCALARS, a + 1))
    return np.where(large, far, near)


def _lower_series(a: Array, x: Array) -> Array:
    """P(a, x) for x up to about a."""
    term, total, n = np.ones_like(x), np.ones_like(x), a.copy()
    for _ in range(_LONGEST):
        n += 1
        term *= x / n
        total += term
        if not np.any(term > total * _EPSILON):
            break
    return total * _gamma_prefactor(a, x)


def _upper_fraction(a: Array, x: Array) -> Array:
    """Q(a, x) for x beyond a and 1, by Lentz's algorithm."""
    b = x + 1 - a
    c, d = np.full_like(x, 1e300), 1 / b
    value = d.copy()
    for k in range(1, _LONGEST):
        step = -k * (k - a)
        b = b + 2
        d = 1 / np.where(step * d + b == 0, 1e-300, step * d + b)
        c = np.where(b + step / c == 0, 1e-300, b + step / c)
        value *= d * c
        if not np.any(np.abs(d * c - 1) > _EPSILON * 4):
            break
    return value * _gamma_prefactor(a, x) * a


def _upper_small(a: Array, x: Array) -> Array:
    """Q(a, x) for x up to 1, as what x^a / gamma(a + 1) leaves of 1."""
    term, total = np.ones_like(x), np.zeros_like(x)
    for n in range(1, 40):
        term *= -x / n
        total += term / (a + n)
    log_x = a * np.log(x)
    first = -np.expm1(log_x - lgamma(ARRAY_SCALARS, a + 1))
    return first - np.exp(log_x - lgamma(ARRAY_SCALARS, a + 1)) * a * total


def _piecewise(
    shape: tuple[int, ...], pieces: list[tuple[Array, Callable[..., Array]]], *args: Array
) -> Array:
    """Each element by the first piece whose condition holds, NaN where none does."""
    result = np.full(shape, np.nan)
    free = np.ones(shape, bool)
    for condition, rule in pieces:
        chosen = free & condition
        if chosen.any():
            result[chosen] = rule(*(a[chosen] for a in args))
        free &= ~condition
    return result


def _constant(value: float) -> Callable[..., Array]:
    return lambda *args: np.full(args[0].shape, value)


def _complement(rule: Callable[..., Array]) -> Callable[..., Array]:
    return lambda *args: 1 - rule(*args)


def _incomplete_gamma(a: Array, x: Array, upper: bool) -> Array:
    shape = np.broadcast_shapes(a.shape, x.shape)
    a, x = (np.ascontiguousarray(np.broadcast_to(v, shape), np.float64) for v in (a, x))
    none, all_ = (_constant(1.0), _constant(0.0)) if upper else (_constant(0.0), _constant(1.0))
    ordinary = [
        (x <= np.minimum(a, 1.0), _complement(_lower_series) if upper else _lower_series),
        (x <= 1, _upper_small if upper else _complement(_upper_small)),
        (x <= a, _complement(_lower_series) if upper else _lower_series),
        (x > 1, _upper_fraction if upper else _complement(_upper_fraction)),
    ]
    special = [
        (np.isnan(a) | np.isnan(x) | (a < 0) | (x < 0) | ((a == 0) & (x == 0)), _constant(math.nan)),
        (np.isinf(a) & np.isinf(x), _constant(math.nan)),
        (a == 0, all_),
        (x == 0, none),
        (np.isinf(a), none),
        (np.isinf(x), all_),
    ]
    return _piecewise(shape, special + ordinary, a, x)


def igamma(a: Array, x: Array) -> Array:
    """P(a, x), the regularised lower incomplete gamma function."""
    return _incomplete_gamma(a, x, False)


def igammac(a: Array, x: Array) -> Array:
    """Q(a, x) = 1 - P(a, x)."""
    return _incomplete_gamma(a, x, True)


# B(2k) / (2k)!, k from 1.
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)


def zeta(x: Array, q: Array) -> Array:
    """The Hurwitz zeta function sum (q + k)^-x, by Euler and Maclaurin's formula."""
    shape = np.broadcast_shapes(x.shape, q.shape)
    x, q = (np.array(np.broadcast_to(v, shape), np.float64) for v in (x, q))
    pole = (q <= 0) & (q == np.floor(q))
    undefined = (x < 1) | ((q <= 0) & ~pole & (x != np.floor(x))) | np.isnan(x) | np.isnan(q)
    # The asymptotic series wants q beyond x; after 5000 terms nothing is left of a sum that got that far.
    shift = np.where(
        undefined | pole, 0, np.clip(np.ceil(np.minimum(x, 5000) + 10 - q), 0, 5000 - np.minimum(q, 0))
    )
    total = np.zeros(shape)
    for k in range(int(shift.max(initial=0))):
        total += np.where(k < shift, (q + k) ** -x, 0.0)
    start = q + shift
    power = start**-x
    tail = power * (start / (x - 1) + 0.5)
    factor, power = x.copy(), power / start
    for k, b in enumerate(_BERNOULLI):
        with np.errstate(all="ignore"):
            term = b * factor * power
        tail = tail + np.where(np.isfinite(term), term, 0.0)
        factor = factor * (x + 2 * k + 1) * (x + 2 * k + 2)
        power = power / (start * start)
    result = np.where(np.isinf(q) & (q > 0), 0.0, total + tail)
    result = np.where(pole | (x == 1), math.inf, result)
    return np.where(undefined, math.nan, result)


def polygamma(n: int, x: Array) -> Array:
    """The n-th derivative of digamma, n from 1."""
    order = np.float64(n + 1)
    sign = 1.0 if n % 2 else -1.0
    return sign * np.exp(lgamma(ARRAY_SCALARS, order)) * zeta(np.full(x.shape, order), x.astype(np.float64))


def airy_ai(x: Array) -> Array:
    """Ai(x): the integral of cos(z^3/3 + x z) along a contour on which the integrand is nearly a Gaussian; from -9 down
    the asymptotic series. NaN for the infinities, as PyTorch has it."""
    x = np.asarray(x, np.float64)
    return _piecewise(
        x.shape,
        [
            (~np.isfinite(x), _constant(math.nan)),
            (x > 104, _constant(0.0)),
            (x < -9, _airy_oscillating),
            (x >= 1, lambda v: _airy_contour(v, np.sqrt(v))),
            (x < -3, lambda v: _airy_contour(v, np.full_like(v, 0.5))),
            (x < 1, lambda v: _airy_contour(v, np.ones_like(v))),
        ],
        x,
    )


def _airy_contour(x: Array, height: Array) -> Array:
    """Along z = t + i height: exp(-height t^2) cos(t^3 / 3 + (x - height^2) t) times a constant."""
    step = 1 / 32
    span = math.sqrt(40 / float(height.min()))
    total = np.full_like(x, 0.5)
    shift = x - height * height
    for k in range(1, int(span / step) + 1):
        t = k * step
        total += np.exp(-height * t * t) * np.cos(t**3 / 3 + shift * t)
    return np.exp(height**3 / 3 - x * height) * total * (step / math.pi)


def _airy_oscillating(x: Array) -> Array:
    size = -x
    zeta_ = 2 / 3 * size * np.sqrt(size)
    even, odd = np.ones_like(x), np.zeros_like(x)
    coefficient = 1.0
    power = np.ones_like(x)
    for k in range(1, 20):
        coefficient *= (6 * k - 5) * (6 * k - 3) * (6 * k - 1) / (216 * k * (2 * k - 1))
        power = power / zeta_
        term = coefficient * power * (-1) ** (k // 2)
        if k % 2:
            odd += term
        else:
            even += term
    angle = zeta_ - math.pi / 4
    return (np.cos(angle) * even + np.sin(angle) * odd) / (math.sqrt(math.pi) * size**0.25)


# Orthogonal polynomials: p(k + 1) = f(k, x, p(k), p(k - 1)) from p(0) = 1 and p(1).

Step = Callable[[int, Array, Array, Array], Array]


def _chebyshev_step(k: int, x: Array, p: Array, before: Array) -> Array:
    return 2 * x * p - before


FAMILIES: dict[str, tuple[Callable[[Array], Array], Step]] = {
    "chebyshev_polynomial_t": (lambda x: x, _chebyshev_step),
    "chebyshev_polynomial_u": (lambda x: 2 * x, _chebyshev_step),
    "chebyshev_polynomial_v": (lambda x: 2 * x - 1, _chebyshev_step),
    "chebyshev_polynomial_w": (lambda x: 2 * x + 1, _chebyshev_step),
    "hermite_polynomial_h": (lambda x: 2 * x, lambda k, x, p, before: 2 * x * p - 2 * k * before),
    "hermite_polynomial_he": (lambda x: x, lambda k, x, p, before: x * p - k * before),
    "laguerre_polynomial_l": (
        lambda x: 1 - x,
        lambda k, x, p, before: ((2 * k + 1 - x) * p - k * before) / (k + 1),
    ),
    "legendre_polynomial_p": (
        lambda x: x,
        lambda k, x, p, before: ((2 * k + 1) * x * p - k * before) / (k + 1),
    ),
}


def polynomial(family: str, x: Array, n: Array) -> Array:
    """The polynomial of degree n (its fraction dropped) of the family at x; 0 for a negative degree. A family called
    `shifted_...` is the plain one at 2 x - 1."""
    if family.startswith("shifted_"):
        family, x = family.removeprefix("shifted_"), 2 * x - 1
    shape = np.broadcast_shapes(x.shape, n.shape)
    x = np.broadcast_to(x, shape)
    defined = ~(np.isnan(n) | np.isinf(n))
    degree = np.broadcast_to(np.trunc(np.where(defined, n, 0)), shape)
    first, step = FAMILIES[family]
    before, value = np.ones(shape), first(x) + np.zeros(shape)
    result = np.where(degree < 0, 0.0, np.where(degree == 0, before, value))
    for k in range(1, int(degree.max(initial=0))):
        before, value = value, step(k, x, value, before)
        result = np.where(degree == k + 1, value, result)
    return result
