"""What x86's tile instructions compute, on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# From the sums before, `[16, 16]`, and two tiles of words.
Product = Callable[[Array, Array, Array], Array]
_SMALLEST_NORMAL = np.float32(2.0**-126)


def tile_product(op: str, swapped: bool) -> Product:
    """What `MultiplyWords` makes of its tiles."""
    if op == "dot_bf16":
        return _bf16
    types = (np.int8, np.uint8) if swapped else (np.uint8, np.int8)

    def product(total: Array, left: Array, right: Array) -> Array:
        rows, columns = (_numbers(x).view(t) for x, t in zip((left, right), types, strict=True))
        sums = np.einsum("mki,kni->mn", rows.astype(np.int64), columns.astype(np.int64))
        return (total + sums).astype(np.int32)

    return product


def _numbers(words: Array) -> Array:
    """The words' bytes as a last dim."""
    return np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)


def _bf16(total: Array, left: Array, right: Array) -> Array:
    """TDPBF16PS (Intel's manual, volume 2): the first numbers of words and the second ones are added up apart, fused, and
    from zero; denormal numbers are zeros."""
    (a0, a1), (b0, b1) = (
        (_flushed(x.view(np.float32)) for x in (words << np.uint32(16), words & np.uint32(0xFFFF0000)))
        for words in (left, right)
    )
    sums = np.zeros((2, *total.shape), np.float32)
    for k in range(left.shape[1]):
        sums[0] = _flushed(_fused(a0[:, k, None], b0[None, k], sums[0]))
        sums[1] = _flushed(_fused(a1[:, k, None], b1[None, k], sums[1]))
    return _flushed(_flushed(total) + _flushed(sums[0] + sums[1]))


def _fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once, of factors with 8 bits: their product is exact in float64, and so that the sum is rounded
    only once, it is made odd there where it is not exact."""
    product = a.astype(np.float64) * b
    wide = product + c
    back = wide - product
    lost = (product - (wide - back)) + (c - back)
    bits = wide.view(np.int64)
    inexact = np.isfinite(wide) & (lost != 0)
    down = inexact & ((lost < 0) != np.signbit(wide))
    odd = np.where(inexact, (bits - down) | 1, bits).view(np.float64)
    return odd.astype(np.float32)


def _flushed(x: Array) -> Array:
    """The numbers, zeros where they are denormal."""
    return np.where(np.abs(x) < _SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)
