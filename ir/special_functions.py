"""Special functions as formulas over the scalar protocol (`codegen/scalar.py`), in float64.

Each is a function `f(s, x)` of a protocol object and one number. The ops' NumPy rules run them on arrays
(`array_scalars.py`), code generation writes them as instructions; both compute narrower floats in float64 and round
once. Special values are put in by selects; NaN gives NaN.

Sources: Abramowitz and Stegun, "Handbook of Mathematical Functions" (6.1, 6.3, 6.4, 7.1, 9.2, 9.8, 26.2); the tables
are Chebyshev series of our own, `tests/references/fit_special_functions.py`. Errors are a few units in the last place,
near zeros of an oscillating or sign-changing function relative to its size around there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import special_tables as tables

Formula = Callable[[Any, Any], Any]

INF, NAN = math.inf, math.nan
SQRT_HALF = math.sqrt(0.5)
TWO_OVER_PI = 2.0 / math.pi

# B(2k) / (2k (2k - 1)), B(2k) / (2k), B(2k): the asymptotic series of log gamma, digamma and trigamma.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
_DIGAMMA = (
    *(1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160, 43867 / 14364),
)
_TRIGAMMA = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798)
_SHIFT = 8  # from here on these series are good to double precision


def chebyshev(s: Any, coefficients: Sequence[float], t: Any) -> Any:
    """sum c[k] T_k(t) by Clenshaw's recurrence."""
    double = s.add(t, t)
    above: Any = coefficients[-1]
    beyond: Any = 0.0
    for c in reversed(coefficients[1:-1]):
        rest = c - beyond if isinstance(beyond, float) else s.sub(c, beyond)
        above, beyond = s.fma(double, above, rest), above
    return s.fma(t, above, s.sub(coefficients[0], beyond))


def _polynomial(s: Any, coefficients: Sequence[float], x: Any) -> Any:
    result: Any = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        result = s.fma(x, result, c)
    return result


def _sin_pi(s: Any, x: Any) -> Any:
    """|sin(pi x)|, exactly 0 at whole x."""
    part = s.sub(x, s.floor(x))
    return s.sin(s.mul(s.min(part, s.sub(1.0, part)), math.pi))


# The gamma function


def lgamma(s: Any, x: Any) -> Any:
    a = s.abs(x)
    positive = _lgamma_positive(s, a)
    mirrored = s.sub(s.neg(s.log(s.mul(_sin_pi(s, a), 1.0 / math.pi))), s.add(s.log(a), positive))
    return s.select(s.eq(a, INF), INF, s.select(s.lt(x, 0.0), mirrored, positive))


def _lgamma_positive(s: Any, a: Any) -> Any:
    below, above = s.lt(a, 1.0), s.gt(a, 2.0)
    # Up to 3 by steps of 1 from [1, 2], where the zeros at 1 and 2 are factors; d is the distance from 1.
    d = s.select(below, a, s.select(above, s.sub(a, 2.0), s.sub(a, 1.0)))
    inside = s.mul(s.mul(d, s.sub(d, 1.0)), chebyshev(s, tables.LGAMMA, s.fma(d, 2.0, -1.0)))
    # Beyond, Stirling's series; up to 8 at a + 5.
    near = s.lt(a, float(_SHIFT))
    z = s.select(near, s.add(a, 5.0), a)
    inverse = s.div(1.0, z)
    tail = s.mul(inverse, _polynomial(s, _STIRLING, s.mul(inverse, inverse)))
    log_z = s.log(z)
    stirling = s.add(
        s.fma(z, s.sub(log_z, 1.0), s.mul(log_z, -0.5)), s.add(tail, 0.5 * math.log(2 * math.pi))
    )
    rise = a
    for step in range(1, 5):
        rise = s.mul(rise, s.add(a, float(step)))
    small = s.lt(a, 3.0)
    argument = s.select(below, a, s.select(small, s.max(s.sub(a, 1.0), 1.0), s.select(near, rise, 1.0)))
    step_log = s.log(argument)
    inside = s.select(below, s.sub(inside, step_log), s.add(inside, step_log))
    return s.select(small, inside, s.sub(stirling, step_log))


def digamma(s: Any, x: Any) -> Any:
    negative = s.lt(x, 0.0)
    y = s.select(negative, s.sub(1.0, x), x)
    lost: Any = s.mul(y, 0.0)
    for _ in range(_SHIFT):
        small = s.lt(y, float(_SHIFT))
        lost = s.select(small, s.sub(lost, s.div(1.0, y)), lost)
        y = s.select(small, s.add(y, 1.0), y)
    inverse = s.div(1.0, y)
    square = s.mul(inverse, inverse)
    series = s.fma(inverse, 0.5, s.mul(square, _polynomial(s, _DIGAMMA, square)))
    result = s.add(s.sub(s.log(y), series), lost)
    part = s.sub(x, s.trunc(x))
    mirrored = s.sub(result, s.div(math.pi, s.tan(s.mul(part, math.pi))))
    result = s.select(negative, s.select(s.eq(part, 0.0), NAN, mirrored), result)
    result = s.select(s.eq(x, INF), INF, result)
    return s.select(s.eq(x, 0.0), s.div(-1.0, x), result)


def trigamma(s: Any, x: Any) -> Any:
    low = s.lt(x, 0.5)
    y = s.select(low, s.sub(1.0, x), x)
    total: Any = s.mul(y, 0.0)
    for _ in range(_SHIFT):
        small = s.lt(y, float(_SHIFT))
        total = s.select(small, s.add(total, s.div(1.0, s.mul(y, y))), total)
        y = s.select(small, s.add(y, 1.0), y)
    inverse = s.div(1.0, y)
    square = s.mul(inverse, inverse)
    tail = s.fma(square, _polynomial(s, _TRIGAMMA, square), s.fma(inverse, 0.5, 1.0))
    result = s.select(s.eq(x, INF), 0.0, s.fma(inverse, tail, total))
    wave = s.div(math.pi, _sin_pi(s, x))
    return s.select(low, s.sub(s.mul(wave, wave), result), result)


# The normal distribution


def _erfcx_positive(s: Any, size: Any) -> Any:
    t = s.div(s.sub(size, 3.75), s.add(size, 3.75))
    return s.div(chebyshev(s, tables.ERFCX, t), s.fma(size, 2.0, 1.0))


def _exp_square(s: Any, x: Any, sign: float) -> Any:
    """exp(sign x^2); x^2 is taken apart, since what rounding takes from it grows with x^2 in the result."""
    high = s.mul(s.floor(s.mul(x, 2.0**20)), 2.0**-20)
    rest = s.mul(s.sub(x, high), s.add(x, high))
    return s.mul(s.exp(s.mul(s.mul(high, high), sign)), s.exp(s.mul(rest, sign)))


def erfc(s: Any, x: Any) -> Any:
    size = s.min(s.abs(x), 30.0)
    tail = s.mul(_erfcx_positive(s, size), _exp_square(s, size, -1.0))
    return s.select(s.lt(x, 0.0), s.sub(2.0, tail), tail)


def erfcx(s: Any, x: Any) -> Any:
    size = s.min(s.abs(x), 1e300)
    tail = _erfcx_positive(s, size)
    large = s.mul(2.0, _exp_square(s, s.min(size, 30.0), 1.0))
    result = s.select(s.lt(x, 0.0), s.sub(large, tail), tail)
    return s.select(s.eq(x, INF), 0.0, result)


def log_ndtr(s: Any, x: Any) -> Any:
    scaled = s.mul(x, SQRT_HALF)
    low = s.fma(s.neg(scaled), scaled, s.log(s.mul(erfcx(s, s.neg(s.min(scaled, 0.0))), 0.5)))
    high = s.log1p(s.mul(erfc(s, scaled), -0.5))
    return s.select(s.lt(x, -1.0), low, high)


def _quantile(s: Any, q: Any, tail: Any) -> Any:
    """Of the normal distribution, at 1/2 + q, |q| <= 1/2; `tail` is 1/2 - |q|."""
    r = s.max(s.fma(s.neg(q), q, 0.180625), 0.0)
    middle = s.mul(q, chebyshev(s, tables.NDTRI_MIDDLE, s.fma(r, 1.0 / 0.0903125, -1.0)))
    root = s.sqrt(s.neg(s.log(s.max(tail, 5e-324))))
    near = s.min(s.max(root, 1.6), 5.0)
    outer = chebyshev(s, tables.NDTRI_TAIL, s.fma(near, 1.0 / 1.7, -3.3 / 1.7))
    far = chebyshev(s, tables.NDTRI_FAR, s.fma(s.max(root, 5.0), 1.0 / 11.5, -16.5 / 11.5))
    size = s.select(s.lt(root, 5.0), outer, far)
    result = s.select(s.lt(s.abs(q), 0.425), middle, s.select(s.lt(q, 0.0), s.neg(size), size))
    result = s.select(s.eq(tail, 0.0), s.div(q, 0.0), result)
    return s.select(s.and_(s.ge(tail, 0.0), s.le(tail, 1.0)), result, NAN)


def ndtri(s: Any, x: Any) -> Any:
    return _quantile(s, s.sub(x, 0.5), s.min(x, s.sub(1.0, x)))


def erfinv(s: Any, x: Any) -> Any:
    half = s.mul(x, 0.5)
    return s.mul(_quantile(s, half, s.mul(s.sub(1.0, s.abs(x)), 0.5)), SQRT_HALF)


# Bessel functions


def _scaled_i(s: Any, size: Any, small: Sequence[float], large: Sequence[float]) -> tuple[Any, Any]:
    """The two series of exp(-x) I(x), up to 8 and from there on, for x >= 0."""
    near = chebyshev(s, small, s.fma(s.min(size, 8.0), 0.25, -1.0))
    beyond = s.max(size, 8.0)
    far = s.div(chebyshev(s, large, s.sub(s.div(16.0, beyond), 1.0)), s.sqrt(beyond))
    return near, far


def i0e(s: Any, x: Any) -> Any:
    size = s.abs(x)
    near, far = _scaled_i(s, size, tables.I0E_SMALL, tables.I0E_LARGE)
    return s.select(s.lt(size, 8.0), near, far)


def i1e(s: Any, x: Any) -> Any:
    size = s.abs(x)
    near, far = _scaled_i(s, size, tables.I1E_SMALL, tables.I1E_LARGE)
    return s.select(s.lt(size, 8.0), s.mul(x, near), s.select(s.lt(x, 0.0), s.neg(far), far))


def i0(s: Any, x: Any) -> Any:
    return s.mul(i0e(s, x), s.exp(s.abs(x)))


def i1(s: Any, x: Any) -> Any:
    return s.mul(i1e(s, x), s.exp(s.abs(x)))


def _wave(s: Any, x: Any, p: Sequence[float], q: Sequence[float]) -> tuple[Any, Any, Any, Any]:
    """Hankel's form for x >= 8: P, Q, and the sine and cosine of x, scaled by 1 / sqrt(pi x)."""
    z = s.div(8.0, x)
    t = s.fma(s.mul(z, z), 2.0, -1.0)
    scale = s.sqrt(s.div(1.0 / math.pi, x))
    series_q = s.div(chebyshev(s, q, t), x)
    return chebyshev(s, p, t), series_q, s.mul(s.sin(x), scale), s.mul(s.cos(x), scale)


def _square(s: Any, x: Any, top: float) -> Any:
    """2 (x / top)^2 - 1 for x up to `top`."""
    ratio = s.mul(s.min(x, top), 1.0 / top)
    return s.fma(s.mul(ratio, ratio), 2.0, -1.0)


def bessel_j0(s: Any, x: Any) -> Any:
    size = s.abs(x)
    small = chebyshev(s, tables.J0_SMALL, _square(s, size, 8.0))
    p, q, sin, cos = _wave(s, s.max(size, 8.0), tables.P0, tables.Q0)
    large = s.sub(s.mul(p, s.add(cos, sin)), s.mul(q, s.sub(sin, cos)))
    return s.select(s.lt(size, 8.0), small, large)


def bessel_j1(s: Any, x: Any) -> Any:
    size = s.abs(x)
    small = s.mul(x, chebyshev(s, tables.J1_SMALL, _square(s, size, 8.0)))
    p, q, sin, cos = _wave(s, s.max(size, 8.0), tables.P1, tables.Q1)
    large = s.add(s.mul(p, s.sub(sin, cos)), s.mul(q, s.add(sin, cos)))
    return s.select(s.lt(size, 8.0), small, s.select(s.lt(x, 0.0), s.neg(large), large))


def bessel_y0(s: Any, x: Any) -> Any:
    t = _square(s, x, 8.0)
    j0 = chebyshev(s, tables.J0_SMALL, t)
    small = s.fma(s.mul(s.log(x), TWO_OVER_PI), j0, chebyshev(s, tables.Y0_SMALL, t))
    p, q, sin, cos = _wave(s, s.max(x, 8.0), tables.P0, tables.Q0)
    large = s.add(s.mul(p, s.sub(sin, cos)), s.mul(q, s.add(sin, cos)))
    return _second_kind(s, x, s.select(s.lt(x, 8.0), small, large), -INF)


def bessel_y1(s: Any, x: Any) -> Any:
    t = _square(s, x, 8.0)
    j1 = s.mul(x, chebyshev(s, tables.J1_SMALL, t))
    logarithmic = s.mul(s.fma(s.log(x), j1, s.div(-1.0, x)), TWO_OVER_PI)
    small = s.fma(x, chebyshev(s, tables.Y1_SMALL, t), logarithmic)
    p, q, sin, cos = _wave(s, s.max(x, 8.0), tables.P1, tables.Q1)
    large = s.sub(s.mul(q, s.sub(sin, cos)), s.mul(p, s.add(sin, cos)))
    return _second_kind(s, x, s.select(s.lt(x, 8.0), small, large), -INF)


def _second_kind(s: Any, x: Any, value: Any, at_zero: float) -> Any:
    """The functions of the second kind: infinite at 0, not defined below."""
    return s.select(s.lt(x, 0.0), NAN, s.select(s.eq(x, 0.0), at_zero, value))


def _k0_parts(s: Any, x: Any) -> tuple[Any, Any]:
    """K0(x) for x <= 2, and exp(x) K0(x) for x >= 2."""
    near = s.min(x, 2.0)
    series = chebyshev(s, tables.K0_SMALL, _square(s, near, 2.0))
    small = s.sub(series, s.mul(s.log(s.mul(near, 0.5)), i0(s, near)))
    return small, _k_large(s, x, tables.K0_LARGE)


def _k1_parts(s: Any, x: Any) -> tuple[Any, Any]:
    near = s.min(x, 2.0)
    series = s.div(chebyshev(s, tables.K1_SMALL, _square(s, near, 2.0)), near)
    small = s.fma(s.log(s.mul(near, 0.5)), i1(s, near), series)
    return small, _k_large(s, x, tables.K1_LARGE)


def _k_large(s: Any, x: Any, table: Sequence[float]) -> Any:
    far = s.max(x, 2.0)
    return s.div(chebyshev(s, table, s.sub(s.div(4.0, far), 1.0)), s.sqrt(far))


def _k(parts: Callable[[Any, Any], tuple[Any, Any]], scaled: bool) -> Formula:
    def formula(s: Any, x: Any) -> Any:
        small, large = parts(s, x)
        if scaled:
            small = s.mul(small, s.exp(s.min(x, 2.0)))
        else:
            large = s.mul(large, s.exp(s.neg(x)))
        return _second_kind(s, x, s.select(s.le(x, 2.0), small, large), INF)

    return formula


modified_bessel_k0, scaled_modified_bessel_k0 = _k(_k0_parts, False), _k(_k0_parts, True)
modified_bessel_k1, scaled_modified_bessel_k1 = _k(_k1_parts, False), _k(_k1_parts, True)

FORMULAS: dict[str, Formula] = {
    "lgamma": lgamma,
    "digamma": digamma,
    "trigamma": trigamma,
    "erfc": erfc,
    "erfcx": erfcx,
    "log_ndtr": log_ndtr,
    "ndtri": ndtri,
    "erfinv": erfinv,
    "i0": i0,
    "i0e": i0e,
    "i1": i1,
    "i1e": i1e,
    "bessel_j0": bessel_j0,
    "bessel_j1": bessel_j1,
    "bessel_y0": bessel_y0,
    "bessel_y1": bessel_y1,
    "modified_bessel_k0": modified_bessel_k0,
    "modified_bessel_k1": modified_bessel_k1,
    "scaled_modified_bessel_k0": scaled_modified_bessel_k0,
    "scaled_modified_bessel_k1": scaled_modified_bessel_k1,
}
