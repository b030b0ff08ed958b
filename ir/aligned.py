"""Arrays that begin at a line of the cache. NumPy's begin at multiples of 16 bytes, and vectors that straddle two lines
take longer to load."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

ALIGNMENT = 64


def empty_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An uninitialised row-major array, like np.empty, aligned to 64 bytes."""
    memory = np.empty(prod(shape) * dtype.itemsize + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % ALIGNMENT)
