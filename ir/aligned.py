"""Arrays that begin at a line of the cache. NumPy's begin at multiples of 16 bytes, and vectors that straddle two lines
take longer to load."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

ALIGNMENT = 64
# Bytes, below which NumPy's own allocation is taken: it is a microsecond faster.
SMALL = 4096


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An uninitialised row-major array, like np.empty; one of 4 KiB or more is aligned to 64 bytes."""
    return np.empty(shape, dtype) if prod(shape) * dtype.itemsize < SMALL else empty_aligned(shape, dtype)


def empty_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An uninitialised row-major array, like np.empty, aligned to 64 bytes."""
    memory = np.empty(prod(shape) * dtype.itemsize + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % ALIGNMENT)
