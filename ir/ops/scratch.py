"""Memory for intermediate results of NumPy rules.

What glibc is given back it gives back to the system, and memory that is new costs a page fault for every 4 KiB when it
is first written: as long as a convolution of the same size takes. Each thread keeps a few megabytes; pages that were
never used are never there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from threading import local
from types import TracebackType
from typing import Any

import numpy as np

from ..aligned import ALIGNMENT
from .common import Array

BYTES = 16 << 20


class _Kept(local):
    """A thread's memory, and how much of it is in use."""

    def __init__(self) -> None:
        self.memory = np.empty(BYTES, np.uint8)
        self.used = -self.memory.__array_interface__["data"][0] % ALIGNMENT


_kept = _Kept()


class Scratch:
    """`with Scratch() as scratch`: arrays from `scratch.empty` may be used until the end of the block. Blocks nest."""

    def __enter__(self) -> Scratch:
        self._begin = _kept.used
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _kept.used = self._begin

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """An uninitialised row-major array; where the kept memory is full, one of its own."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        start = _kept.used
        if size > BYTES - start:
            return np.empty(shape, dtype)
        _kept.used = start + size + -size % ALIGNMENT
        return np.ndarray(shape, dtype, _kept.memory, start)
