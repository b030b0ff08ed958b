"""sin, cos and tan over the scalar protocol, with arguments of any size.

Up to some bound (2^17 in float32, 2^20 in float64) the argument is reduced by a few multiples of pi/2 (Cody and Waite,
"Software Manual for the Elementary Functions", 1980). Beyond it the reduction is Payne and Hanek's ("Radian reduction
for trigonometric functions", SIGNUM Newsletter 18, 1983), in integers: of the product of x and 2/pi only a window of
bits matters, namely those that are not multiples of 4 and not below the precision wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import dtypes
from .loops.nodes import Const, Expr
from .scalar import ScalarBuilder

_TWO_OVER_PI = 0.6366197723675814
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17)  # in two doubles
_HALF_PI_PARTS = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)  # 33, 33 and 53 bits
# Of 24 bits each. A multiple n of the first, for n < 2^24, is subtracted from x by a fused multiply-add without error:
# both are multiples of 2^-23 (2^-24 for x < 1), and the difference is less than 1.
_HALF_PI_F32 = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
# In float32 n is still the nearest integer there up to 1/100, and the third part is enough: no float is nearer than
# 2^-30 to a multiple of pi/2.
_LARGE = {"f32": 2.0**17, "f64": 2.0**20}

# (sin r - r) / r^3, (cos r - 1 + r^2 / 2) / r^4 and (tan r - r) / r^3 in r^2 for |r| <= pi / 4.
_SIN = {
    "f32": (-0.166666546, 8.33216029e-3, -1.95152181e-4),
    "f64": (
        *(-0.16666666666666631, 8.3333333333221073e-3, -1.9841269829580144e-4),
        *(2.7557313618007293e-6, -2.5050747216422921e-8, 1.5896197527478842e-10),
    ),
}
_COS = {
    "f32": (0.0416666457, -1.38873156e-3, 2.44330824e-5),
    "f64": (
        *(0.041666666666666593, -1.388888888887304e-3, 2.4801587288841407e-5),
        *(-2.7557314176242771e-7, 2.0875700416476106e-9, -1.1358513971780251e-11),
    ),
}
_TAN_F32 = (0.333331566, 0.13338807, 0.0534106437, 0.0244324478, 3.11615492e-3, 9.38766369e-3)

# 2/pi = 0.A2F9836E 4E441529..., 32 bits a word: as many as the largest double needs.
_TWO_OVER_PI_WORDS = (
    *(0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561),
    *(0xB7246E3A, 0x424DD2E0, 0x06492EEA, 0x09D1921C, 0xFE1DEB1C, 0xB129A73E, 0xE88235F5, 0x2EBB4484),
    *(0xE99C7026, 0xB45F7E41, 0x3991D639, 0x835339F4, 0x9C845F8B, 0xBDF9283B, 0x1FF897FF, 0xDE05980F),
    *(0xEF2F118B, 0x5A0A6D1F, 0x6D367ECF, 0x27CB09B7, 0x4F463F66, 0x9E5FEA2D, 0x7527BAC7, 0xEBE5F17B),
    *(0x3D0739F7, 0x8A5292EA, 0x6BFB5FB1, 0x1F8D5D08, 0x56033046, 0xFC7B6BAB, 0xF0CFBC20, 0x9AF4361D),
)
_MASK32 = 0xFFFFFFFF

# A reduced argument: the quadrant (only its lowest two bits count), and r in one or two parts.
Reduced = tuple[Expr, Expr, Expr]


def is_large(s: ScalarBuilder, x: Expr) -> Expr:
    """Whether the plain reduction is not good enough for x."""
    return s.ge(s.abs(x), _LARGE[x.dtype.name])


def sin(s: ScalarBuilder, x: Expr) -> Expr:
    return s.select(s.eq(x, 0.0), x, _sin(s, _reduce_once(s, x), 0))


def cos(s: ScalarBuilder, x: Expr) -> Expr:
    return _sin(s, _reduce_once(s, x), 1)


def tan(s: ScalarBuilder, x: Expr) -> Expr:
    return s.select(s.eq(x, 0.0), x, _tan(s, _reduce(s, x)))


def sin_slow(s: ScalarBuilder, x: Expr) -> Expr:
    return _finite_only(s, x, _sin(s, _reduce_large(s, x), 0))


def cos_slow(s: ScalarBuilder, x: Expr) -> Expr:
    return _finite_only(s, x, _sin(s, _reduce_large(s, x), 1))


def tan_slow(s: ScalarBuilder, x: Expr) -> Expr:
    return _finite_only(s, x, _tan(s, _reduce_large(s, x)))


def _finite_only(s: ScalarBuilder, x: Expr, result: Expr) -> Expr:
    """NaN for infinities and NaN: x - x is zero only for a finite x."""
    return s.add(result, s.sub(x, x))


def _polynomial(s: ScalarBuilder, coefficients: Sequence[float], x: Expr) -> Expr:
    result: Expr = Const(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        result = s.fma(result, x, c)
    return result


def _sin(s: ScalarBuilder, reduced: Reduced, shift: int) -> Expr:
    """sin(r + (quadrant + shift) pi / 2)."""
    quadrant, r, low = reduced
    if shift:
        quadrant = s.add(quadrant, shift)
    sine, cosine = _sin_kernel(s, r, low), _cos_kernel(s, r, low)
    value = s.select(s.ne(s.and_(quadrant, 1), 0), cosine, sine)
    return s.select(s.ne(s.and_(quadrant, 2), 0), s.neg(value), value)


def _sin_kernel(s: ScalarBuilder, r: Expr, low: Expr) -> Expr:
    z = s.mul(r, r)
    if r.dtype is dtypes.f32:
        return s.fma(s.mul(z, r), _polynomial(s, _SIN["f32"], z), r)
    # The low part enters through the derivative, cos r = 1 - z/2.
    high, *rest = _SIN["f64"]
    cube = s.mul(z, r)
    tail = s.sub(s.mul(low, 0.5), s.mul(cube, _polynomial(s, rest, z)))
    return s.sub(r, s.sub(s.fma(z, tail, s.neg(low)), s.mul(cube, high)))


def _cos_kernel(s: ScalarBuilder, r: Expr, low: Expr) -> Expr:
    z = s.mul(r, r)
    if r.dtype is dtypes.f32:
        return s.fma(_polynomial(s, (-0.5, *_COS["f32"]), z), z, 1.0)
    half = s.mul(z, 0.5)
    top = s.sub(1.0, half)
    lost = s.sub(s.sub(1.0, top), half)
    tail = s.mul(s.mul(z, z), _polynomial(s, _COS["f64"], z))
    tail = s.sub(tail, s.mul(r, low))
    return s.add(top, s.add(lost, tail))


def _tan(s: ScalarBuilder, reduced: Reduced) -> Expr:
    quadrant, r, low = reduced
    is_odd = s.ne(s.and_(quadrant, 1), 0)
    if r.dtype is dtypes.f32:
        z = s.mul(r, r)
        tail = s.fma(s.mul(z, r), _polynomial(s, _TAN_F32, z), s.fma(low, z, low))
        value = s.add(r, tail)
        return s.select(is_odd, s.div(-1.0, value), value)
    sine, cosine = _sin_kernel(s, r, low), _cos_kernel(s, r, low)
    above = s.select(is_odd, s.neg(cosine), sine)
    return s.div(above, s.select(is_odd, sine, cosine))


def _reduce_once(s: ScalarBuilder, x: Expr) -> Reduced:
    """`_reduce`, in float32 with r in one part that is wrong by 1 ulp at most."""
    if x.dtype is dtypes.f64:
        return _reduce(s, x)
    n = s.round(s.mul(x, _TWO_OVER_PI))
    r = x
    for part in _HALF_PI_F32:
        r = s.fma(n, -part, r)
    return s.cast(n, dtypes.i32), r, Const(0, dtypes.f32)


def _reduce(s: ScalarBuilder, x: Expr) -> Reduced:
    if x.dtype is dtypes.f32:
        wide = s.cast(x, dtypes.f64)
        n = s.round(s.mul(wide, _TWO_OVER_PI))
        r = s.fma(n, -_HALF_PI[1], s.fma(n, -_HALF_PI[0], wide))
        return s.cast(n, dtypes.i32), *_split_f64(s, r)
    n = s.round(s.mul(x, _TWO_OVER_PI))
    # n times the first two parts is exact for n < 2^20, and so is the first difference.
    a = s.fma(n, -_HALF_PI_PARTS[0], x)
    b = s.mul(n, -_HALF_PI_PARTS[1])
    high = s.add(a, b)
    back = s.sub(high, a)
    low = s.add(s.sub(a, s.sub(high, back)), s.sub(b, back))
    low = s.fma(n, -_HALF_PI_PARTS[2], low)
    r = s.add(high, low)
    return s.cast(n, dtypes.i64), r, s.add(s.sub(high, r), low)


def _split_f64(s: ScalarBuilder, r: Expr) -> tuple[Expr, Expr]:
    """A double as two floats."""
    high = s.cast(r, dtypes.f32)
    return high, s.cast(s.sub(r, s.cast(high, dtypes.f64)), dtypes.f32)


def _reduce_large(s: ScalarBuilder, x: Expr) -> Reduced:
    """Payne and Hanek. x = M 2^k with an integer M of b bits. Bits of 2/pi of weight above 2^(1-k) give multiples of 4;
    of the window that begins there, W bits are multiplied with M modulo 2^W: then x 2/pi mod 4 = M T 2^(2-W)."""
    small = x.dtype is dtypes.f32
    bits = s.bitcast(x, dtypes.u32 if small else dtypes.u64)
    fraction = 23 if small else 52
    exponent = s.and_(s.shr(bits, fraction), 0xFF if small else 0x7FF)
    mantissa = s.or_(s.and_(bits, (1 << fraction) - 1), 1 << fraction)
    m, e = s.cast(mantissa, dtypes.u64), s.cast(exponent, dtypes.u64)
    # The window begins at the bit of weight 2^(1-k), which is bit k + 62 after two words of zeros; k >= -32.
    start = s.sub(e, (150 if small else 1075) - 62)
    window = _window(s, start, 3 if small else 6, 6 if small else 33)
    top, next_ = (_multiply_96 if small else _multiply_192)(s, m, window)
    # Two bits of quadrant, then the fraction; rounded to nearest, so that the rest is signed.
    quadrant = s.shr(s.add(top, 1 << 61), 62)
    signed = s.bitcast(s.sub(top, s.shl(quadrant, 62)), dtypes.i64)
    negative = s.lt(s.bitcast(x, dtypes.i32 if small else dtypes.i64), 0)
    quadrant = s.select(negative, s.sub(0, quadrant), quadrant)
    part = s.mul(s.cast(signed, dtypes.f64), 2.0**-62)
    if small:
        r = s.mul(part, _HALF_PI[0])
        r = s.select(negative, s.neg(r), r)
        return s.cast(quadrant, dtypes.i32), *_split_f64(s, r)
    high, low = _fraction_in_two(s, signed, next_)
    r = s.mul(high, _HALF_PI[0])
    rest = s.fma(high, _HALF_PI[0], s.neg(r))
    rest = s.add(rest, s.fma(high, _HALF_PI[1], s.mul(low, _HALF_PI[0])))
    total = s.add(r, rest)
    rest = s.add(s.sub(r, total), rest)
    r, rest = (s.select(negative, s.neg(v), v) for v in (total, rest))
    return s.bitcast(quadrant, dtypes.i64), r, rest


def _fraction_in_two(s: ScalarBuilder, top: Expr, next_: Expr) -> tuple[Expr, Expr]:
    """(top + next_ 2^-64) 2^-62 as two doubles; the first conversion loses up to 10 bits, which the second part gets."""
    coarse = s.cast(top, dtypes.f64)
    lost = s.cast(s.sub(top, s.cast(coarse, dtypes.i64)), dtypes.f64)
    below = s.fma(s.cast(next_, dtypes.f64), 2.0**-64, lost)
    high = s.add(coarse, below)
    low = s.add(s.sub(coarse, high), below)
    return s.mul(high, 2.0**-62), s.mul(low, 2.0**-62)


def _window(s: ScalarBuilder, start: Expr, count: int, reach: int) -> list[Expr]:
    """`count` words of 32 bits from bit `start` of 2/pi on, two words of zeros before it; the window begins in one of
    the first `reach` words."""
    words: list[Expr] = []
    words += [Const(w, dtypes.u64) for w in (0, 0, *_TWO_OVER_PI_WORDS)[: reach + count]]
    index, shift = s.shr(start, 5), s.and_(start, 31)
    # Choose by the bits of the word's number, highest first: each step halves where the window may begin.
    step = 1 << (reach - 1).bit_length()
    while step > 1:
        step //= 2
        wanted = step + count
        taken = s.ne(s.and_(index, step), 0)
        moved = [words[i + step] if i + step < len(words) else Const(0, dtypes.u64) for i in range(wanted)]
        words = [s.select(taken, a, b) for a, b in zip(moved, words)]
    out = []
    for i in range(count):
        pair = s.or_(s.shl(words[i], 32), words[i + 1])
        out.append(s.and_(s.shr(s.shl(pair, shift), 32), _MASK32))
    return out


def _multiply_96(s: ScalarBuilder, m: Expr, window: list[Expr]) -> tuple[Expr, Expr]:
    """The top 64 bits of m times the window, modulo 2^96, and 0; m has 24 bits."""
    low = s.shr(s.mul(m, window[2]), 32)
    top = s.add(s.add(s.shl(s.mul(m, window[0]), 32), s.mul(m, window[1])), low)
    return top, Const(0, dtypes.u64)


def _multiply_192(s: ScalarBuilder, m: Expr, window: list[Expr]) -> tuple[Expr, Expr]:
    """The top 128 bits of m times the window, modulo 2^192, as two words of 64; m has 53 bits."""
    m_low, m_high = s.and_(m, _MASK32), s.shr(m, 32)
    # Columns of 32 bits, lowest first: window[5] is the lowest word.
    carry: Expr = Const(0, dtypes.u64)
    columns: list[Expr] = []
    for column in range(6):
        low = s.mul(m_low, window[5 - column])
        total = s.add(s.and_(low, _MASK32), carry)
        carry = s.add(s.shr(low, 32), s.shr(total, 32))
        total = s.and_(total, _MASK32)
        if column:
            high = s.mul(m_high, window[6 - column])
            total = s.add(total, s.and_(high, _MASK32))
            carry = s.add(carry, s.add(s.shr(high, 32), s.shr(total, 32)))
            total = s.and_(total, _MASK32)
        columns.append(total)
    return s.or_(s.shl(columns[5], 32), columns[4]), s.or_(s.shl(columns[3], 32), columns[2])
