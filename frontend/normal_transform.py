"""The Box-Muller transforms of `torch.randn`, rounded as PyTorch's x86-64 CPU kernels round them.

float32 goes through the Cephes polynomials for log, sin and cos (avx_mathfun.h by J. Pommier and G.
Garberoglio, after S. Moshier's Cephes library), with the fused multiply-adds that PyTorch's compiler forms;
the same numbers come out to the last bit. float64 uses the C library's log, cos and sin, as PyTorch does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_f = np.float32
LOG = [
    _f(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
]
LN2_LOW, LN2_HIGH = _f(-2.12194440e-4), _f(0.693359375)
SQRT_HALF = _f(0.707106781186547524)
COS = [_f(c) for c in (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)]
SIN = [_f(c) for c in (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)]
PI_OVER_4_NEGATED = [_f(c) for c in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)]
FOUR_OVER_PI = _f(1.27323954473516)
TWO_PI = _f(2.0 * math.pi)


def _fma(a: Array, b: Array | np.float32, c: Array | np.float32) -> Array:
    """a*b + c in float32 with one rounding: the product is exact in float64."""
    exact = a.astype(np.float64)
    exact *= b
    exact += c
    return exact.astype(np.float32)


def _polynomial(x: Array, coefficients: list[np.float32]) -> Array:
    """Horner's rule in fused multiply-adds; a step's rounding to float32 goes through one buffer each way."""
    wide_x = x.astype(np.float64)
    exact, y = wide_x * coefficients[0], np.empty_like(x)
    exact += coefficients[1]
    for c in coefficients[2:]:
        np.copyto(y, exact, casting="same_kind")
        np.copyto(exact, y)
        exact *= wide_x
        exact += c
    np.copyto(y, exact, casting="same_kind")
    return y


def _log(x: Array) -> Array:
    """Natural logarithm of x in (0, 1]."""
    bits = np.maximum(x, np.finfo(np.float32).tiny).view(np.int32)
    exponent = ((bits >> 23) - 126).astype(np.float32)
    mantissa = ((bits & 0x007FFFFF) | 0x3F000000).view(np.float32)  # in [0.5, 1)
    small = mantissa < SQRT_HALF
    x = (mantissa - _f(1)) + np.where(small, mantissa, _f(0))
    exponent -= small
    z = x * x
    y = _polynomial(x, LOG) * x
    y = _fma(y, z, exponent * LN2_LOW)
    y = _fma(z, _f(-0.5), y)
    return _fma(exponent, LN2_HIGH, x + y)


def _sin_cos(x: Array) -> tuple[Array, Array]:
    """Sine and cosine of x >= 0."""
    octant = (x * FOUR_OVER_PI).astype(np.int32)
    octant = (octant + 1) & ~1
    y = octant.astype(np.float32)
    for part in PI_OVER_4_NEGATED:
        x = _fma(y, part, x)
    z = x * x
    cosine = _fma(_polynomial(z, COS) * z, z, z * _f(-0.5)) + _f(1)
    sine = _fma(_polynomial(z, SIN) * z, x, x)
    swapped = (octant & 2) != 0
    sin_sign = (octant & 4) << 29
    cos_sign = (~(octant - 2) & 4) << 29
    return (
        (np.where(swapped, cosine, sine).view(np.int32) ^ sin_sign).view(np.float32),
        (np.where(swapped, sine, cosine).view(np.int32) ^ cos_sign).view(np.float32),
    )


BLOCK = 1 << 14  # numbers at a time: temporaries that stay in the cache


def box_muller_f32(uniform: Array, mean: float, std: float) -> Array:
    """float32 numbers of N(mean, std**2) from as many uniform ones (1-D, a multiple of 16)."""
    out = np.empty_like(uniform)
    for start in range(0, uniform.size, BLOCK):
        stop = start + BLOCK
        _box_muller_block(uniform[start:stop], mean, std, out[start:stop])
    return out


def _box_muller_block(uniform: Array, mean: float, std: float, out: Array) -> None:
    blocks, results = uniform.reshape(-1, 2, 8), out.reshape(-1, 2, 8)
    radius = np.sqrt(_f(-2) * _log(_f(1) - blocks[:, 0]))
    sine, cosine = _sin_cos(TWO_PI * blocks[:, 1])
    np.multiply(radius, cosine, out=results[:, 0])
    np.multiply(radius, sine, out=results[:, 1])
    if mean != 0.0 or std != 1.0:
        np.copyto(out, _fma(out, _f(std), _f(mean)))


def _each(function: Callable[[float], float], x: Array) -> Array:
    return np.fromiter(map(function, x.reshape(-1).tolist()), np.float64, x.size).reshape(x.shape)


def box_muller_f64(uniform: Array, mean: float, std: float) -> Array:
    """float64 numbers of N(mean, std**2) from as many uniform ones (1-D, a multiple of 16)."""
    blocks = uniform.reshape(-1, 2, 8)
    # NumPy's own log, cos and sin differ from the C library's in the last bit of one number in a thousand.
    radius = np.sqrt(-2.0 * _each(math.log, 1.0 - blocks[:, 0]))
    theta = 2.0 * math.pi * blocks[:, 1]
    out = np.stack([radius * _each(math.cos, theta), radius * _each(math.sin, theta)], 1).reshape(-1)
    return fma_f64(out, std, mean)


def fma_f64(x: Array, factor: float, addend: float) -> Array:
    """x*factor + addend in float64 with one rounding (Dekker's product and Knuth's sum carry the error
    terms)."""
    if factor == 1.0:
        return x + addend
    split = 134217729.0  # 2**27 + 1
    big = split * x
    x_high = big - (big - x)
    x_low = x - x_high
    f_high = split * factor - (split * factor - factor)
    f_low = factor - f_high
    product = x * factor
    product_error = ((x_high * f_high - product) + x_high * f_low + x_low * f_high) + x_low * f_low
    total = product + addend
    back = total - product
    sum_error = (product - (total - back)) + (addend - back)
    return total + (product_error + sum_error)
