"""Result arrays over recycled memory.

A fresh large array costs a page fault for every 4 KiB that is first written, more than many kernels take to fill it.
Blocks of memory that arrays lived in are kept and given out again. A block returns when the last array over it, views
included, is gone. Small arrays come from NumPy, whose allocator does not return their pages to the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..ir import aligned
from ..ir.aligned import ALIGNMENT

Array = np.ndarray[Any, Any]

# Below this NumPy's own allocation is faster: glibc gives back pages of larger arrays only. Measured on Zen 4, fill
# included, three results alive: 1 MiB 20 µs (here 24), 4 MiB 134 µs (79), 16 MiB 625 µs (334).
SMALL = 2 << 20
# Bytes kept for reuse; what comes back beyond this is freed.
KEEP_LIMIT = 1 << 30

_kept = 0


class _Memory(np.ndarray):
    """Memory that goes back and forth. A type of its own, so that NumPy does not make it the base of arrays in place of
    the block: a view's base collapses onto a base of the view's own type."""


class _Block(np.ndarray):
    """Memory in use by arrays; their base. When it dies its memory is free for the next."""

    def __del__(self) -> None:
        # A slice of a block is of this type too; its base is the block.
        if type(self.base) is _Memory:
            _give_back(self.base)


_free: dict[int, list[_Memory]] = {}


def _give_back(memory: _Memory) -> None:
    global _kept
    size = memory.size
    if _kept + size <= KEEP_LIMIT:
        _kept += size
        _free.setdefault(size, []).append(memory)


def block_bytes(size: int) -> int:
    """The size of the block for an array of `size` bytes: at most an eighth more, so that near sizes share blocks."""
    step = max(4096, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step + ALIGNMENT


def is_small(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether the memory of such arrays is NumPy's and not recycled: who makes the same one over and over, and needs no
    line to begin with, may ask it at once."""
    return prod(shape) * dtype.itemsize < SMALL


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An uninitialised row-major array, like np.empty; all but small ones are aligned to 64 bytes, large ones may be
    recycled memory."""
    size = prod(shape) * dtype.itemsize
    if size < SMALL:
        return aligned.empty(shape, dtype)
    global _kept
    total = block_bytes(size)
    waiting = _free.get(total)
    try:
        memory = waiting.pop() if waiting else None
    except IndexError:  # another thread took the last one
        memory = None
    if memory is None:
        memory = np.empty(total, np.uint8).view(_Memory)
    else:
        _kept -= total
    block = memory.view(_Block)
    offset = -memory.__array_interface__["data"][0] % ALIGNMENT
    return np.ndarray(shape, dtype, block, offset)


def empty_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """As `empty`, aligned to 64 bytes whatever its size."""
    small = prod(shape) * dtype.itemsize < SMALL
    return aligned.empty_aligned(shape, dtype) if small else empty(shape, dtype)


def empty_cache() -> None:
    """Free the memory that is kept for reuse."""
    global _kept
    _free.clear()
    _kept = 0


def kept_bytes() -> int:
    """Bytes kept for reuse."""
    return _kept
