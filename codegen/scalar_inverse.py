"""Inverse trigonometric and hyperbolic functions over the scalar protocol, without control flow.

Argument reduction as in Cody and Waite, "Software Manual for the Elementary Functions" (1980); the polynomials are
minimax fits of our own, `tests/references/fit_scalar_math.py`. Errors are at most 2 ulp in float32 and 4 ulp in float64
(`tests/test_scalar_math.py`). Zeros keep their sign, outside a function's domain the result is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, nan, pi

from ..ir import dtypes
from .loops.nodes import Expr
from .scalar import ScalarBuilder
from .scalar_math import polynomial, with_sign

# (asin x - x) / x^3 in x^2 for |x| <= 1/2.
_ASIN = {
    "f32": (0.166667525, 0.0749529764, 0.0454703759, 0.0241795148, 0.0421663082),
    "f64": (
        *(0.1666666666666676, 0.07499999999970798, 0.044642857174613053, 0.030381942707744885),
        *(0.022372214988357782, 0.017351612006130084, 0.013980820590609251, 0.011398912128955479),
        *(0.010780252497462062, 3.7064113316699767e-3, 0.021707439530310139, -0.020999052046435381),
        0.032628618115329036,
    ),
}
# (atan x - x) / x^3 in x^2 for |x| <= 1/2 and |x| <= tan(pi / 8).
_ATAN = {
    "f32": (-0.333333269, 0.199994899, -0.142720787, 0.10940983, -0.0798406508, 0.0387232769),
    "f64": (
        *(-0.33333333333333196, 0.19999999999953206, -0.14285714280162129, 0.1111111078192203),
        *(-0.09090897718270949, 0.076920595888578836, -0.066630976975782965, 0.058478480187553021),
        *(-0.050391384936232099, 0.038060791691332287, -0.01790353364132985),
    ),
}
_TAN_EIGHTH = 0.41421356237309503
# What rounding takes from pi / 2 in each type.
_HALF_PI_LOW = {"f32": -4.371139000186241e-08, "f64": 6.123233995736766e-17}


def _odd(s: ScalarBuilder, x: Expr, coefficients: tuple[float, ...]) -> Expr:
    square = s.mul(x, x)
    return s.fma(s.mul(square, x), polynomial(s, coefficients, square), x)


def _asin_parts(s: ScalarBuilder, size: Expr) -> tuple[Expr, Expr]:
    """Whether |x| <= 1/2, and asin of |x| there, else asin of sqrt((1 - |x|) / 2)."""
    small = s.le(size, 0.5)
    root = s.sqrt(s.mul(s.sub(1.0, size), 0.5))
    return small, _odd(s, s.select(small, size, root), _ASIN[size.dtype.name])


def asin(s: ScalarBuilder, x: Expr) -> Expr:
    small, part = _asin_parts(s, s.abs(x))
    large = s.add(s.fma(part, -2.0, pi / 2), _HALF_PI_LOW[x.dtype.name])
    return with_sign(s, s.select(small, part, large), x)


def acos(s: ScalarBuilder, x: Expr) -> Expr:
    small, part = _asin_parts(s, s.abs(x))
    low = _HALF_PI_LOW[x.dtype.name]
    middle = s.add(s.sub(pi / 2, s.sub(with_sign(s, part, x), low)), 0.0)
    double = s.add(part, part)
    far = s.sub(pi, s.sub(double, 2.0 * low))
    return s.select(small, middle, s.select(s.lt(x, 0.0), far, double))


def _atan_ratio(s: ScalarBuilder, y: Expr, x: Expr) -> Expr:
    """atan(y / x) for 0 <= y <= x, x positive (or y = x infinite)."""
    name = x.dtype.name
    large = s.ge(y, s.mul(x, _TAN_EIGHTH))
    equal = s.eq(y, x)
    above = s.select(large, s.select(equal, 0.0, s.sub(y, x)), y)
    below = s.select(large, s.select(equal, 1.0, s.add(y, x)), x)
    part = _odd(s, s.div(above, below), _ATAN[name])
    return s.select(large, s.add(part, pi / 4), part)


def atan(s: ScalarBuilder, x: Expr) -> Expr:
    size = s.abs(x)
    # In float32 the bound is higher, so that next to it the sum does not cancel.
    bound = 0.5 if x.dtype is dtypes.f32 else _TAN_EIGHTH
    large, middle = s.gt(size, 1.0 / bound), s.gt(size, bound)
    above = s.select(large, -1.0, s.select(middle, s.sub(size, 1.0), size))
    below = s.select(large, size, s.select(middle, s.add(size, 1.0), s.const(1.0, x.dtype)))
    part = _odd(s, s.div(above, below), _ATAN[x.dtype.name])
    low = _HALF_PI_LOW[x.dtype.name]
    base = s.select(large, pi / 2, s.select(middle, pi / 4, s.const(0.0, x.dtype)))
    base_low = s.select(large, low, s.select(middle, low / 2, s.const(0.0, x.dtype)))
    return with_sign(s, s.add(base, s.add(part, base_low)), x)


def atan2(s: ScalarBuilder, y: Expr, x: Expr) -> Expr:
    """The angle of the point (x, y), as C's atan2: signs of zeros and infinities count."""
    a, b = s.abs(y), s.abs(x)
    high, low = s.max(a, b), s.min(a, b)
    if x.dtype is dtypes.f32:  # the sum of two far apart could overflow, and denormals lose bits
        wide = _atan_ratio(s, s.cast(low, dtypes.f64), s.cast(high, dtypes.f64))
    else:
        scale = s.select(
            s.gt(high, 1e300), 2.0**-600, s.select(s.lt(high, 1e-280), 2.0**600, s.const(1.0, x.dtype))
        )
        wide = _atan_ratio(s, s.mul(low, scale), s.mul(high, scale))
    half_low = _HALF_PI_LOW["f64"]
    wide = s.select(s.eq(high, 0.0), 0.0, wide)
    wide = s.select(s.gt(a, b), s.add(s.sub(pi / 2, wide), half_low), wide)
    sign = s.shr(s.bitcast(x, dtypes.i32 if x.dtype is dtypes.f32 else dtypes.i64), x.dtype.itemsize * 8 - 1)
    wide = s.select(s.ne(sign, 0), s.add(s.sub(pi, wide), 2.0 * half_low), wide)
    result = s.cast(wide, x.dtype)
    unordered = s.or_(s.ne(x, x), s.ne(y, y))
    return s.select(unordered, s.add(x, y), with_sign(s, result, y))


# Narrower floats have their hyperbolic functions from float64: log1p of a rounded argument is not good to 2 ulp.


def asinh(s: ScalarBuilder, x: Expr) -> Expr:
    wide = s.cast(x, dtypes.f64)
    size = s.abs(wide)
    square = s.mul(size, size)
    near = s.log1p(s.add(size, s.div(square, s.add(s.sqrt(s.add(square, 1.0)), 1.0))))
    far = s.add(s.log(size), log(2.0))
    return s.cast(with_sign(s, s.select(s.lt(size, 2.0**28), near, far), wide), x.dtype)


def acosh(s: ScalarBuilder, x: Expr) -> Expr:
    wide = s.cast(x, dtypes.f64)
    beyond = s.sub(wide, 1.0)
    near = s.log1p(s.add(beyond, s.sqrt(s.mul(beyond, s.add(beyond, 2.0)))))
    far = s.add(s.log(wide), log(2.0))
    result = s.select(s.lt(wide, 2.0**28), near, far)
    return s.cast(s.select(s.lt(wide, 1.0), nan, result), x.dtype)


def atanh(s: ScalarBuilder, x: Expr) -> Expr:
    wide = s.cast(x, dtypes.f64)
    size = s.abs(wide)
    double = s.add(size, size)
    rest = s.sub(1.0, size)
    # 2a / (1 - a) is 2a + 2a * a / (1 - a), which below 1/2 keeps the digits of 2a.
    near = s.fma(double, s.div(size, rest), double)
    argument = s.select(s.lt(size, 0.5), near, s.div(double, rest))
    return s.cast(with_sign(s, s.mul(s.log1p(argument), 0.5), wide), x.dtype)


FUNCTIONS: dict[str, Callable[..., Expr]] = {
    "asin": asin,
    "acos": acos,
    "atan": atan,
    "atan2": atan2,
    "asinh": asinh,
    "acosh": acosh,
    "atanh": atanh,
}
