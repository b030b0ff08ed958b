"""Elementary functions from the operations that hardware has, once for every target.

Each is written over the scalar protocol (`codegen/scalar.py`) for float32 and float64, without control flow: special
values are put in by selects.

Errors are at most 2 ulp in float32 and 4 ulp in float64 (`tests/test_scalar_math.py` samples every exponent).
Zeros keep their sign, NaN gives NaN, denormal arguments and results are exact to the same bound.

Sources: argument reduction of exp and log as in Cody and Waite, "Software Manual for the Elementary Functions" (1980),
and Moshier's Cephes; log in float64 in the form of FreeBSD's e_log.c; the logarithm in two doubles for pow after Shibata
and Petrogalli, "SLEEF: A Portable Vectorized Library of C Standard Mathematical Functions" (2020). The polynomials are
minimax fits of our own, `tests/references/fit_scalar_math.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

from ..ir import dtypes
from ..ir.dtypes import DType
from .loops.nodes import Const, Expr
from .scalar import ScalarBuilder


@dataclass(frozen=True)
class _Format:
    """What exp and log need to know of a float type."""

    bits: DType
    significand: int
    bias: int
    exp_low: float  # below, exp is 0; the smallest denormal is above
    exp_high: float  # above, exp is infinity
    tiny: float  # the smallest normal number
    ln2_high: float  # a multiple by any exponent is exact
    ln2_low: float


_FORMATS = {
    "f32": _Format(dtypes.i32, 23, 127, -104.0, 89.0, 2.0**-126, 0.693145751953125, 1.4286068203094173e-06),
    "f64": _Format(
        dtypes.i64, 52, 1023, -746.0, 710.0, 2.0**-1022, 0.6931471803691238, 1.9082149292705877e-10
    ),
}
_LOG2_E = 1.4426950408889634
_SQRT_HALF_BITS = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}

# (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, lowest power first; with the error relative to e^r and to e^r - 1.
_EXP = {
    "f32": (0.499999934, 0.166665206, 0.0416683981, 8.36872454e-3, 1.38138656e-3),
    "f64": (
        *(0.50000000000000106, 0.1666666666666641, 0.041666666666530106, 8.3333333334960876e-3),
        *(1.3888888943650415e-3, 1.9841269502713434e-4, 2.4801493072500177e-5, 2.7557590118626533e-6),
        *(2.7630259405900466e-7, 2.4998787067106359e-8),
    ),
}
_EXPM1 = {
    "f32": (0.499999981, 0.166665436, 0.041667207, 8.3665291e-3, 1.3881903e-3),
    "f64": (
        *(0.50000000000000052, 0.16666666666666588, 0.041666666666576694, 8.3333333333906496e-3),
        *(1.3888888931589685e-3, 1.9841269716016063e-4, 2.4801505239743607e-5, 2.7557410751238769e-6),
        *(2.762605273889419e-7, 2.5052592527084042e-8),
    ),
}
# (log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2).
_LOG_F32 = (
    *(0.333333317, -0.25000821, 0.20001227, -0.166233583, 0.142017539, -0.131601725),
    *(0.127616067, -0.0763455643),
)
# (2 atanh(s) - 2 s) / s^3 in s^2, s = f / (2 + f) for the same f.
_ATANH_F64 = (
    *(0.66666666666666661, 0.40000000000006223, 0.28571428569093016, 0.22222222645784789),
    *(0.18181775742242367, 0.1538708756169289, 0.13250187085380636, 0.13250726790773748),
)
# (2 atanh(s) - 2 s - 2/3 s^3) / s^5 in s^2.
_ATANH_TAIL_F64 = (
    *(0.39999999999999978, 0.28571428571445058, 0.22222222217548823, 0.1818181886887953),
    *(0.15384556964117536, 0.13336313997236645, 0.11674885095239067, 0.11988479806201567),
)
# (tanh(x) - x) / x^3 in x^2 for |x| <= 0.625.
_TANH_F32 = (-0.333332819, 0.133314422, -0.0537397148, 0.0206390863, -5.70498591e-3)
# erf(x) / x - 1 in x^2 for |x| <= 0.9375, log2(erfc(t)) from there to where erf is 1, and 2^r for |r| <= 1/2.
_ERF_SMALL_F32 = (0.128379146, -0.376124686, 0.112815525, -0.0267570351, 4.97913039e-3, -5.9194179e-4)
_ERF_LARGE_F32 = (-3.10534825e-3, -1.6146892, -0.940785805, -0.130129397, 0.0220433808, -1.75014051e-3)
_EXP2_F32 = (1.00000007, 0.693146967, 0.240221197, 0.055507133, 9.67554135e-3, 1.32764635e-3)
# erf(x) / x - 1 in x^2 for |x| <= 1, and log(erfc(t)) in t - 2 for 1 <= t up to where erf is 1.
_ERF_SMALL_F64 = (
    *(0.12837916709551257, -0.3761263890318352, 0.11283791670944185, -0.026866170643111463),
    *(5.2239776061184261e-3, -8.5483259293118935e-4, 1.2055293576816174e-4, -1.4924712300290144e-5),
    *(1.6447131549125938e-6, -1.6206313583186676e-7, 1.3710979620443556e-8, -7.7794670092805728e-10),
)
_ERF_LARGE_F64 = (
    *(-5.3649412646166362, -4.4181608059944133, -0.92375084182394271, -0.01646511813738994),
    *(3.5707563478125477e-3, -7.3239937799334885e-4, 1.3530933080017579e-4, -2.0706470478360149e-5),
    *(1.9521868872899851e-6, 2.0372696304556042e-7, -1.7317175079398582e-7, 5.7696416533252939e-8),
    *(-1.398995156318608e-8, 2.6094904677296234e-9, -2.568904512687727e-10, -7.1530597005209821e-11),
    *(3.6622460318305444e-11, -4.8654892512577863e-12),
)


def polynomial(s: ScalarBuilder, coefficients: Sequence[float], x: Expr) -> Expr:
    """By Horner's rule; coefficients lowest power first."""
    result: Expr = Const(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        result = s.fma(result, x, c)
    return result


def exp(s: ScalarBuilder, x: Expr) -> Expr:
    """Zeros are not computed but put in: a vector of which a result underflows takes Intel's processors 250 cycles."""
    form = _FORMATS[x.dtype.name]
    under = s.lt(x, form.exp_low)
    n, r = _reduce(s, s.select(under, 0.0, s.min(form.exp_high, x)))
    return s.select(under, 0.0, s.ldexp(polynomial(s, (1.0, 1.0, *_EXP[x.dtype.name]), r), n))


def exp_below(s: ScalarBuilder, x: Expr) -> Expr:
    """exp of a float32 of at most 1: with nothing above to bound, and 0 for less than half the least normal number,
    so that one power of two is enough."""
    shifted, r = _reduce_moderate(s, s.max(BELOW_NORMAL, x), 1)
    return s.mul(polynomial(s, (1.0, 1.0, *_EXP["f32"]), r), power_of_moderate(s, shifted))


def expm1(s: ScalarBuilder, x: Expr) -> Expr:
    form = _FORMATS[x.dtype.name]
    # Below the first bound the result is -1. The scale is halved, since 2^n itself overflows before the result does.
    n, r = _reduce(s, s.max(-18.0 if x.dtype is dtypes.f32 else -38.0, s.min(form.exp_high, x)))
    p = s.fma(s.mul(r, r), polynomial(s, _EXPM1[x.dtype.name], r), r)
    half = _power_of_two(s, s.sub(s.cast(n, form.bits), 1), x.dtype)
    scaled = s.mul(s.fma(p, half, s.sub(half, 0.5)), 2.0)
    return s.select(s.eq(x, 0.0), x, scaled)


def _reduce(s: ScalarBuilder, x: Expr) -> tuple[Expr, Expr]:
    """n and r with x = n ln 2 + r, |r| at most about ln(2) / 2."""
    form = _FORMATS[x.dtype.name]
    n = s.round(s.mul(x, _LOG2_E))
    return n, s.fma(n, -form.ln2_low, s.fma(n, -form.ln2_high, x))


def _power_of_two(s: ScalarBuilder, n: Expr, dtype: DType) -> Expr:
    """2^n for an integer n of the dtype's bits, within the normal range."""
    form = _FORMATS[dtype.name]
    return s.bitcast(s.shl(s.add(n, form.bias), form.significand), dtype)


def ldexp(s: ScalarBuilder, x: Expr, n: Expr) -> Expr:
    """x 2^n in two steps, so that only the last may round or overflow; for targets without an instruction."""
    whole = s.cast(n, _FORMATS[x.dtype.name].bits)
    first = s.shr(whole, 1)
    scaled = s.mul(x, _power_of_two(s, first, x.dtype))
    return s.mul(scaled, _power_of_two(s, s.sub(whole, first), x.dtype))


def log(s: ScalarBuilder, x: Expr) -> Expr:
    form = _FORMATS[x.dtype.name]
    e, f = _split(s, x)
    if x.dtype is dtypes.f32:
        square = s.mul(f, f)
        tail = s.mul(s.mul(square, f), polynomial(s, _LOG_F32, f))
        tail = s.fma(e, form.ln2_low, tail)
        result = s.fma(e, form.ln2_high, s.add(f, s.fma(square, -0.5, tail)))
    else:
        ratio = s.div(f, s.add(f, 2.0))
        z = s.mul(ratio, ratio)
        half_square = s.mul(s.mul(f, f), 0.5)
        inner = s.mul(ratio, s.fma(z, polynomial(s, _ATANH_F64, z), half_square))
        low = s.fma(e, form.ln2_low, inner)
        result = s.sub(s.mul(e, form.ln2_high), s.sub(s.sub(half_square, low), f))
    return _log_special(s, x, result)


def _split(s: ScalarBuilder, x: Expr) -> tuple[Expr, Expr]:
    """e and f with |x| = 2^e (1 + f) and sqrt(1/2) <= 1 + f < sqrt(2)."""
    form = _FORMATS[x.dtype.name]
    is_tiny = s.lt(x, form.tiny)
    lift = form.significand + 1
    bits = s.bitcast(s.select(is_tiny, s.mul(x, 2.0**lift), x), form.bits)
    shifted = s.sub(bits, _SQRT_HALF_BITS[x.dtype.name])
    e = s.cast(s.shr(shifted, form.significand), x.dtype)
    e = s.select(is_tiny, s.sub(e, float(lift)), e)
    fraction = s.and_(shifted, (1 << form.significand) - 1)
    return e, s.sub(s.bitcast(s.add(fraction, _SQRT_HALF_BITS[x.dtype.name]), x.dtype), 1.0)


def _log_special(s: ScalarBuilder, x: Expr, result: Expr) -> Expr:
    # Infinity and NaN are their own logarithms; `not x > 0` would hold for NaN.
    result = s.select(s.lt(x, inf), result, x)
    result = s.select(s.lt(x, 0.0), nan, result)
    return s.select(s.eq(x, 0.0), -inf, result)


def log1p(s: ScalarBuilder, x: Expr) -> Expr:
    u = s.add(x, 1.0)
    # What rounding took from 1 + x, relative to it.
    lost = s.div(s.sub(x, s.sub(u, 1.0)), u)
    result = s.add(log(s, u), lost)
    # log(u) is exact where the correction is not a number: u infinite, zero or negative.
    result = s.select(s.and_(s.gt(u, 0.0), s.lt(u, inf)), result, log(s, u))
    return s.select(s.eq(x, 0.0), x, result)


def tanh(s: ScalarBuilder, x: Expr) -> Expr:
    size = s.abs(x)
    if x.dtype is dtypes.f32:
        square = s.mul(x, x)
        small = s.fma(s.mul(square, size), polynomial(s, _TANH_F32, square), size)
        # From 9.02 on the result rounds to 1.
        n, r = _reduce_moderate(s, s.min(20.0, s.add(size, size)), 1)
        power = s.fma(s.fma(polynomial(s, _EXP["f32"], r), r, 1.0), r, 1.0)
        large = s.sub(1.0, s.div(2.0, s.fma(power, power_of_moderate(s, n), 1.0)))
        return with_sign(s, s.select(s.lt(size, 0.625), small, large), x)
    grown = expm1(s, s.min(44.0, s.add(size, size)))
    return s.select(s.eq(x, 0.0), x, with_sign(s, s.div(grown, s.add(grown, 2.0)), x))


def sigmoid(s: ScalarBuilder, x: Expr) -> Expr:
    if x.dtype is not dtypes.f32:
        return s.div(1.0, s.add(exp(s, s.neg(x)), 1.0))
    # With everything halved, so that no power of two overflows before the result is 0.
    n, r = _reduce_moderate(s, s.min(87.0, x), -1)
    terms = [c if k % 2 == 0 else -c for k, c in enumerate(_EXP["f32"])]
    power = s.fma(s.fma(polynomial(s, terms, r), r, -1.0), r, 1.0)
    below = s.fma(power, power_of_moderate(s, n, -1), 0.5)
    return s.select(s.lt(x, -89.0), 0.0, s.div(0.5, below))


# Its power of two has the exponent below those of normal numbers, which as bits is 0.
BELOW_NORMAL = -88.0
# Added to a float32 of moderate size, it leaves the nearest whole number in the low bits.
TO_WHOLE = 1.5 * 2.0**23


def _reduce_moderate(s: ScalarBuilder, x: Expr, sign: int) -> tuple[Expr, Expr]:
    """For a float32 |x| of at most a hundred or so: n, as the low bits of a float, and r with sign x = n ln 2 + sign r,
    |r| at most about ln(2) / 2."""
    form = _FORMATS["f32"]
    shifted = s.fma(x, sign * _LOG2_E, TO_WHOLE)
    n = s.sub(shifted, TO_WHOLE)
    return shifted, s.fma(n, -sign * form.ln2_low, s.fma(n, -sign * form.ln2_high, x))


def power_of_moderate(s: ScalarBuilder, shifted: Expr, more: int = 0) -> Expr:
    """2^(n + more) for the n of `_reduce_moderate`; 0 for the exponent below the smallest of normal numbers."""
    exponent = s.shl(s.bitcast(shifted, dtypes.i32), 23)
    return s.bitcast(s.add(exponent, (127 + more) << 23), dtypes.f32)


def erf(s: ScalarBuilder, x: Expr) -> Expr:
    square = s.mul(x, x)
    if x.dtype is dtypes.f32:
        size = s.min(4.0, s.abs(x))
        small = s.fma(size, polynomial(s, _ERF_SMALL_F32, square), size)
        # erfc is at most 0.19 here: what its power of two lacks in accuracy and range does not show.
        large = s.sub(1.0, _exp2_of_moderate(s, polynomial(s, _ERF_LARGE_F32, size)))
        # NaN takes the branch that keeps it.
        return with_sign(s, s.select(s.ge(size, 0.9375), large, small), x)
    size = s.min(6.0, s.abs(x))
    small = s.fma(size, polynomial(s, _ERF_SMALL_F64, square), size)
    large = s.sub(1.0, exp(s, polynomial(s, _ERF_LARGE_F64, s.sub(size, 2.0))))
    return with_sign(s, s.select(s.lt(size, 1.0), small, large), x)


def _exp2_of_moderate(s: ScalarBuilder, x: Expr) -> Expr:
    """2^x to about 3 ulp for a float32 |x| < 120, anything for others."""
    # The nearest whole number n in the low bits of a float: from there, one shift adds n to an exponent.
    shifted = s.add(x, TO_WHOLE)
    power = polynomial(s, _EXP2_F32, s.sub(x, s.sub(shifted, TO_WHOLE)))
    exponent = s.shl(s.bitcast(shifted, dtypes.i32), 23)
    return s.bitcast(s.add(s.bitcast(power, dtypes.i32), exponent), dtypes.f32)


def with_sign(s: ScalarBuilder, size: Expr, x: Expr) -> Expr:
    """A non-negative number with the sign of x."""
    form = _FORMATS[x.dtype.name]
    sign = s.and_(s.bitcast(x, form.bits), _sign_bit(form))
    return s.bitcast(s.or_(s.bitcast(size, form.bits), sign), x.dtype)


def _sign_bit(form: _Format) -> int:
    return -(1 << (form.bits.itemsize * 8 - 1))


def pow(s: ScalarBuilder, x: Expr, y: Expr) -> Expr:
    """As C's pow: 1 for y = 0 and for x = 1, NaN for negative x and fractional y, signs by odd y."""
    size = s.abs(x)
    if x.dtype is dtypes.f32:
        wide = s.mul(s.cast(y, dtypes.f64), log(s, s.cast(size, dtypes.f64)))
        result = s.cast(exp(s, wide), dtypes.f32)
    else:
        result = _pow_f64(s, size, y)
    form = _FORMATS[x.dtype.name]
    is_whole = s.eq(s.floor(y), y)
    half = s.mul(y, 0.5)
    is_odd = s.and_(is_whole, s.ne(s.floor(half), half))
    negative = s.lt(s.bitcast(x, form.bits), 0)
    result = s.select(s.and_(negative, is_odd), s.neg(result), result)
    bad = s.and_(s.and_(s.lt(x, 0.0), s.gt(x, -inf)), s.not_(is_whole))
    result = s.select(bad, nan, result)
    # 0 * infinity in the exponent: |x| = 1 with infinite y.
    both = s.and_(s.eq(size, 1.0), s.eq(s.abs(y), inf))
    result = s.select(both, 1.0, result)
    return s.select(s.or_(s.eq(y, 0.0), s.eq(x, 1.0)), 1.0, result)


def _pow_f64(s: ScalarBuilder, x: Expr, y: Expr) -> Expr:
    """x^y for x >= 0 (0, infinity and NaN included), the exponent y log(x) in two doubles."""
    high, low = _log_two_doubles(s, x)
    product = s.mul(y, high)
    rest = s.fma(y, high, s.neg(product))
    rest = s.fma(y, low, rest)
    # 0 and infinity have the logarithms that the plain rule gives; there the low part is not a number.
    plain = s.mul(y, log(s, x))
    ordinary = s.and_(s.and_(s.gt(x, 0.0), s.lt(x, inf)), s.lt(s.abs(product), 800.0))
    product = s.select(ordinary, product, plain)
    rest = s.select(ordinary, rest, 0.0)
    form = _FORMATS["f64"]
    n, r = _reduce(s, s.max(form.exp_low, s.min(form.exp_high, product)))
    r = s.add(r, rest)
    tail = s.mul(s.mul(r, r), polynomial(s, _EXP["f64"], r))
    return s.ldexp(s.add(s.add(tail, r), 1.0), n)


def _log_two_doubles(s: ScalarBuilder, x: Expr) -> tuple[Expr, Expr]:
    """log(x) as a sum of two doubles, good to about 2^-66, for finite positive x.

    With s = f / (2 + f) it is e ln 2 + 2 s + s^3 (2/3 + s^2 Q(s^2)); all but Q in two doubles.
    """
    e, f = _split(s, x)
    below = s.add(f, 2.0)
    below_low = s.sub(f, s.sub(below, 2.0))
    ratio = s.div(f, below)
    rest = s.fma(s.neg(ratio), below, f)
    ratio_low = s.div(s.fma(s.neg(ratio), below_low, rest), below)
    z, z_low = _two_product(s, ratio, ratio)
    z_low = s.fma(s.add(ratio, ratio), ratio_low, z_low)
    # 2/3 + z Q(z)
    tail = s.mul(z, polynomial(s, _ATANH_TAIL_F64, z))
    c, c_low = _two_sum(s, Const(0.6666666666666666, dtypes.f64), tail)
    c_low = s.add(c_low, 3.700743415417188e-17)
    # s z (2/3 + z Q(z))
    t, t_low = _two_product(s, z, c)
    t_low = s.add(t_low, s.fma(z, c_low, s.mul(z_low, c)))
    u, u_low = _two_product(s, ratio, t)
    u_low = s.add(u_low, s.fma(ratio, t_low, s.mul(ratio_low, t)))
    # e ln 2 + 2 s + u
    double = s.add(ratio, ratio)
    a, a_low = _two_sum(s, s.mul(e, _FORMATS["f64"].ln2_high), double)
    b, b_low = _two_sum(s, a, u)
    low = s.add(s.add(a_low, b_low), s.add(u_low, s.add(ratio_low, ratio_low)))
    return _two_sum(s, b, s.fma(e, _FORMATS["f64"].ln2_low, low))


def _two_sum(s: ScalarBuilder, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """a + b and what rounding took from it (Knuth)."""
    total = s.add(a, b)
    back = s.sub(total, a)
    return total, s.add(s.sub(a, s.sub(total, back)), s.sub(b, back))


def _two_product(s: ScalarBuilder, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    product = s.mul(a, b)
    return product, s.fma(a, b, s.neg(product))
