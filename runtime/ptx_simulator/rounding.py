"""Exactly rounded arithmetic out of NumPy's float64.

A float64 that is rounded *to odd* (truncated, and its last bit set if anything was lost) can be rounded again to any
format with at least two bits less, and the result is the one rounding of the exact value (Boldo and Melquiond,
"Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers 2008).
What was lost is known from error-free transforms: Knuth's two-sum for a sum, Dekker's product for float64.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .types import BF16, F16, F32, F64, I64, U16, U32, Array

NAN = {F16: 0x7FFF, BF16: 0x7FFF, F32: 0x7FFFFFFF, F64: 0x7FF8000000000000}
_TINY32 = np.float32(np.finfo(np.float32).tiny)
_SPLIT = np.float64((1 << 27) + 1)


def canonical(x: Array) -> Array:
    """NaN results have one pattern (PTX ISA, "Floating Point Instructions"): 0x7fffffff for f32, 0x7fff for f16 and
    bf16. Those of f64 keep their payload on the device; here too they get one pattern."""
    bad = x != x
    if bad.any():
        x = x.copy() if x.ndim else x
        x[bad] = np.array([NAN[x.dtype]], f"u{x.itemsize}").view(x.dtype)
    return x


def flushed(x: Array) -> Array:
    """Subnormal float32 numbers as zeros of their sign (`.ftz`)."""
    small = (np.abs(x) < _TINY32) & (x != 0)
    return np.where(small, np.copysign(np.float32(0), x), x) if small.any() else x


def to_odd(rounded: Array, error: Array) -> Array:
    """`rounded + error` rounded to odd, where `rounded` is the nearest float64 to the sum and `error` is exact."""
    bits = rounded.view(I64)
    wrong = (error != 0) & (error == error) & ((bits & 1) == 0) & np.isfinite(rounded)
    if not wrong.any():
        return rounded
    outward = (error > 0) == (rounded > 0)
    return np.where(wrong, bits + np.where(outward, 1, -1), bits).view(F64)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b in float64 and its error (Knuth, TAOCP 4.2.2)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def sum_to_odd(a: Array, b: Array) -> Array:
    """a + b, float64, rounded to odd."""
    return to_odd(*two_sum(a, b))


def fma_to_odd(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded to odd in float64, for operands of at most 24 bits, whose product is exact."""
    return sum_to_odd(a.astype(F64) * b.astype(F64), c.astype(F64))


_MIDDLE = np.int64(1 << 28)  # of two float32 numbers, in float64's last 29 bits
_LAST = np.int64((1 << 29) - 1)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """float32 fma to nearest. Rounding first to float64 goes wrong only where that gives the middle of two float32
    numbers, or in the subnormal range; such elements are rounded to odd first."""
    product, addend = a.astype(F64) * b.astype(F64), c.astype(F64)
    total = product + addend
    result = total.astype(F32)
    doubtful = (total.view(I64) & _LAST) == _MIDDLE
    doubtful |= (np.abs(result) <= _TINY32) & (total != 0)
    if doubtful.any():
        odd = to_f32(sum_to_odd(product, addend), "rn")
        result = np.where(doubtful, odd, result)
    return result


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    product = a * b
    high = _SPLIT * a
    a1 = high - (high - a)
    a2 = a - a1
    high = _SPLIT * b
    b1 = high - (high - b)
    b2 = b - b1
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def fma64(a: Array, b: Array, c: Array) -> Array:
    """float64 fma: Boldo and Melquiond's algorithm where exponents leave room for it, else exact rationals."""
    a, b, c = np.broadcast_arrays(a, b, c)
    high, low = _two_product(a, b)
    total_high, total_low = two_sum(c, low)
    first, second = two_sum(high, total_high)
    result = first + sum_to_odd(total_low, second)
    exponents = [np.frexp(x)[1] for x in (a, b, c)]
    product = exponents[0] + exponents[1]
    easy = (np.abs(product) < 900) & (np.abs(exponents[2]) < 900) & (product > -800)
    easy &= (np.abs(exponents[0]) < 900) & (np.abs(exponents[1]) < 900)
    easy &= np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & (a != 0) & (b != 0) & (c != 0)
    for place in np.flatnonzero(~easy):
        result[place] = _fma_exact(float(a[place]), float(b[place]), float(c[place]))
    return result


def _fma_exact(a: float, b: float, c: float) -> float:
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        # An infinite addend wins over a product that only overflows.
        product = a * b if not (np.isfinite(a) and np.isfinite(b)) else 0.0
        return product + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c if a == 0 or b == 0 else (0.0 if a * b != 0 or c != 0 else a * b + c)
    try:
        return float(exact)
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")


def to_f32(x: Array, mode: str) -> Array:
    """float64, rounded to odd or exact, to float32 in the mode rn, rz, rm or rp."""
    result = x.astype(F32)
    if mode == "rn":
        return result
    back = result.astype(F64)
    if mode == "rz":
        wrong, toward = np.abs(back) > np.abs(x), np.zeros_like(result)
    elif mode == "rm":
        wrong, toward = back > x, np.full_like(result, -np.inf)
    else:
        wrong, toward = back < x, np.full_like(result, np.inf)
    return np.where(wrong, np.nextafter(result, toward), result)


def to_f16(x: Array, mode: str = "rn") -> Array:
    """float64, rounded to odd or exact, to float16."""
    result = x.astype(F16)
    if mode == "rn":
        return result
    back = result.astype(F64)
    wrong = np.abs(back) > np.abs(x) if mode == "rz" else back > x if mode == "rm" else back < x
    toward = {"rz": 0.0, "rm": -np.inf, "rp": np.inf}[mode]
    return np.where(wrong, np.nextafter(result, np.float16(toward)), result)


def f32_to_bf16(x: Array, mode: str = "rn") -> Array:
    """float32 to bfloat16."""
    bits = x.view(U32)
    if mode == "rz":
        high = (bits >> np.uint32(16)).astype(U16)
    else:
        high = (
            (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        ).astype(U16)
    nan = x != x
    if nan.any():
        high[nan] = NAN[BF16]
    return high.view(BF16)


def f64_to_bf16(x: Array) -> Array:
    """float64, rounded to odd or exact, to bfloat16: by way of a float32 rounded to odd."""
    single = x.astype(F32)
    lost = x - single.astype(F64)
    bits = single.view(np.int32)
    wrong = (lost != 0) & (lost == lost) & ((bits & 1) == 0) & np.isfinite(single)
    if wrong.any():
        outward = np.where(bits == 0, x > 0, (lost > 0) == (single > 0))
        stepped = np.where(
            bits << 1 == 0,
            np.where(x < 0, np.int32(-(2**31) + 1), np.int32(1)),
            bits + np.where(outward, 1, -1),
        )
        single = np.where(wrong, stepped, bits).astype(np.int32).view(F32)
    return f32_to_bf16(single)


def bf16_to_f32(x: Array) -> Array:
    """bfloat16 to float32, exact."""
    return (x.view(U16).astype(U32) << np.uint32(16)).view(F32)
