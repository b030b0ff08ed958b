"""Memory for what lasts and is read often: the weights of loaded models.

A step of a decoder reads each weight once, as fast as memory gives it. Vectors that straddle two lines of the cache and
pages of 4 KiB cost a fifth of that: SmolLM2's 538 MB took 24.2 to 28.7 ms where each weight was a NumPy array, and 20.3
to 23.2 in blocks that begin at a large page (Zen 4, one thread, in turns). NumPy asks the system for large pages from
4 MiB on, and most weights are smaller, so they lie side by side in large blocks. A block is freed when the last array
in it is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..codegen.forks import Lock
from ..ir.aligned import ALIGNMENT

Array = np.ndarray[Any, Any]

BLOCK = 32 << 20
PAGE = 2 << 20
# Smaller arrays are NumPy's: they would keep a block alive for little.
SMALL = 64 << 10

_lock = Lock()
_block: Array | None = None
_used = 0


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An uninitialised row-major array, like np.empty; one of 64 KiB or more is aligned to 64 bytes."""
    global _block, _used
    size = prod(shape) * dtype.itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    if size > BLOCK // 4:
        return np.ndarray(shape, dtype, _at_page(size))
    with _lock:
        if _block is None or _used + size > BLOCK:
            _block, _used = _at_page(BLOCK), 0
        block, offset = _block, _used
        _used += -(-size // ALIGNMENT) * ALIGNMENT
    return np.ndarray(shape, dtype, block, offset)


def copy(array: Array) -> Array:
    """The elements of an array in such memory."""
    if array.dtype.hasobject:
        return array.copy()
    found = empty(array.shape, array.dtype)
    found[...] = array
    return found


def _at_page(size: int) -> Array:
    """Bytes from the start of a large page on; pages that nobody writes to take no memory."""
    memory = np.empty(size + PAGE, np.uint8)
    start = -memory.ctypes.data % PAGE
    return memory[start : start + size]
