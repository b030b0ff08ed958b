"""erf and its inverse on float32 arrays: in float64, to the accuracy that float32 shows (below 1e-9 relative).

`pointwise_unary.py` and `special_functions.py` have them to double precision, at several times the cost; networks
take them of millions of elements (GELU, truncated normal initial values). A block of elements at a time is computed,
so that temporaries stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.polynomial.chebyshev import cheb2poly

from .. import special_tables as tables
from .common import Array

BLOCK = 1 << 13


def in_blocks(rule: Callable[[Array], Array], x: Array) -> Array:
    """`rule` on a block of elements at a time; the result has x's shape and dtype."""
    flat = np.ascontiguousarray(x).reshape(-1)
    if flat.size <= BLOCK:
        return np.asarray(rule(flat)).astype(x.dtype, copy=False).reshape(x.shape)
    result = np.empty_like(flat)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        result[block] = rule(flat[block])
    return result.reshape(x.shape)


# erf by its Taylor series of four terms around the nearest multiple of 1/256. From 3.9 on it is 1 in float32.
_STEPS, _LAST = 256.0, 4.0
_NODES = np.arange(int(_STEPS * _LAST) + 1) / _STEPS
_VALUES = np.array([math.erf(t) for t in _NODES])
_SLOPES = 2.0 / math.sqrt(math.pi) * np.exp(-_NODES * _NODES)


def _erf_block(x: Array) -> Array:
    size = np.minimum(np.abs(x), np.float32(_LAST)).astype(np.float64)  # NaN stays NaN
    near = np.rint(size * _STEPS)
    index = near.astype(np.int32)
    near *= 1.0 / _STEPS
    size -= near
    # d (1 - t d + (2 t² - 1) d² / 3), as d (1 + d (-t + d (2 t² - 1) / 3))
    series = near * near
    series *= 2.0 / 3.0
    series -= 1.0 / 3.0
    series *= size
    series -= near
    series *= size
    series += 1.0
    series *= size
    series *= _SLOPES.take(index, mode="clip")
    series += _VALUES.take(index, mode="clip")
    return np.copysign(series, x, out=series)


def erf_f32(x: Array) -> Array:
    """The error function of a float32 array."""
    with np.errstate(invalid="ignore"):
        return in_blocks(_erf_block, x)


def _shortened(coefficients: Sequence[float]) -> list[float]:
    """A Chebyshev series without the terms that float32 does not show, as a polynomial, highest power first."""
    kept = [i for i, c in enumerate(coefficients) if abs(c) > 1e-11 * abs(coefficients[0])]
    return list(cheb2poly(coefficients[: kept[-1] + 1])[::-1])


_MIDDLE, _TAIL = _shortened(tables.NDTRI_MIDDLE), _shortened(tables.NDTRI_TAIL)


def _horner(coefficients: Sequence[float], t: Array) -> Array:
    value = np.full_like(t, coefficients[0])
    for c in coefficients[1:]:
        value *= t
        value += c
    return value


def _erfinv_block(x: Array) -> Array:
    """sqrt(1/2) times the normal quantile at (1 + x) / 2, in the pieces of `special_functions._quantile`; float32
    numbers below 1 do not reach the last of them."""
    q = x.astype(np.float64)
    q *= 0.5
    r = np.square(q)
    np.subtract(0.180625, r, out=r)
    outer = np.flatnonzero(~(r > 0.0))
    r *= 1.0 / 0.0903125
    r -= 1.0
    result = _horner(_MIDDLE, r)
    result *= q
    if outer.size:
        far = q[outer]
        tail = 0.5 - np.abs(far)
        root = np.sqrt(-np.log(tail))
        size = _horner(_TAIL, (root - 3.3) * (1.0 / 1.7))
        size[tail == 0.0] = math.inf
        size[~(tail >= 0.0)] = math.nan
        result[outer] = np.copysign(size, far)
    result *= math.sqrt(0.5)
    return result


def erfinv_f32(x: Array) -> Array:
    """The inverse of erf of a float32 array: infinite at -1 and 1, NaN outside."""
    with np.errstate(all="ignore"):
        return in_blocks(_erfinv_block, x)
