"""The simulated device's global memory: one reserved range of bytes, allocations in it, checks of addresses.

Allocations never touch, so that a step past an end is seen, and freed addresses are given out again as late as
possible, so that a stale pointer is seen as such.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right
from collections import deque

import numpy as np

from ..gpu.errors import AcceleratorError, OutOfMemoryError
from .types import Array

BASE = 0x10_0000_0000
ALIGNMENT = 256
GAP = 256  # bytes between allocations, at least
REMEMBERED = 4096  # freed allocations, to tell a stale address from a wrong one
RETURNED = 64 << 10  # freed pieces of this size and more go back to the system
# Allocations up to this size are filled with 0xff (NaN), so that reading them unwritten shows.
POISONED = 16 << 20
# Linux: the range does not count as memory in use. Ranges beside each other become one, and a process whose ranges
# that count are larger than the machine's memory cannot fork.
MAP_NORESERVE = 0x4000


class DeviceMemory:
    """`nbytes` of global memory; the system gives pages only as they are touched."""

    def __init__(self, nbytes: int):
        self.nbytes = nbytes
        self._pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        self.data = np.frombuffer(self._pages, np.uint8)
        # The same bytes as words of each size: index = (address - BASE) / size.
        self.words = {size: self.data.view(f"u{size}") for size in (1, 2, 4, 8)}
        self.starts: list[int] = []  # of live allocations, ascending
        self.ends: list[int] = []
        self.freed: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._next = BASE
        self._wrapped = False  # whether addresses have begun to come back
        self.used = 0

    def alloc(self, nbytes: int) -> int:
        if nbytes < 0:
            raise ValueError(f"cannot allocate {nbytes} bytes")
        room = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT + GAP
        start = self._find(room)
        if start is None:
            raise OutOfMemoryError(
                f"the simulated device is out of memory: {nbytes} bytes asked for, {self.used} of {self.nbytes} in use"
            )
        at = bisect_right(self.starts, start)
        self.starts.insert(at, start)
        self.ends.insert(at, start + nbytes)
        self.used += nbytes
        if nbytes <= POISONED:
            self.data[start - BASE : start - BASE + nbytes] = 0xFF
        if self._wrapped:
            kept = [(a, b) for a, b in self.freed if b <= start or a >= start + room]
            self.freed = deque(kept, REMEMBERED)
        return start

    def _find(self, room: int) -> int | None:
        """The next place that is free, going round: addresses come back as late as possible."""
        for turn in range(2):
            at = bisect_left(self.starts, self._next)
            while self._next + room <= BASE + self.nbytes:
                if at == len(self.starts) or self._next + room <= self.starts[at]:
                    start = self._next
                    self._next += room
                    return start
                self._next = -(-self.ends[at] // ALIGNMENT) * ALIGNMENT + GAP
                at += 1
            if turn == 0:
                self._next, self._wrapped = BASE, True
        return None

    def free(self, address: int) -> None:
        at = bisect_right(self.starts, address) - 1
        if at < 0 or self.starts[at] != address:
            raise AcceleratorError(f"free of 0x{address:x}, which is no live allocation")
        end = self.ends[at]
        del self.starts[at], self.ends[at]
        self.used -= end - address
        self.freed.append((address, max(end, address + 1)))
        first = -(-(address - BASE) // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = (end - BASE) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if whole >= RETURNED:
            self._pages.madvise(mmap.MADV_DONTNEED, first, whole)

    def find(self, low: int, high: int) -> int | None:
        """The number of the live allocation that holds [low, high), if one does."""
        at = bisect_right(self.starts, low) - 1
        return at if at >= 0 and high <= self.ends[at] else None

    def outside(self, addresses: Array, size: int) -> Array:
        """Which of the accesses of `size` bytes lie outside of every allocation."""
        if not self.starts:
            return np.ones(addresses.shape, np.bool_)
        starts, ends = np.array(self.starts, np.uint64), np.array(self.ends, np.uint64)
        at = np.searchsorted(starts, addresses, "right") - 1
        return (at < 0) | (addresses + np.uint64(size) > ends[np.maximum(at, 0)])

    def was_freed(self, address: int) -> bool:
        return any(start <= address < end for start, end in self.freed)

    def describe(self, address: int) -> str:
        """Where an address outside of all allocations is, for an error."""
        at = bisect_right(self.starts, address) - 1
        if at >= 0 and address - self.ends[at] < 1 << 24:
            size = self.ends[at] - self.starts[at]
            return f"{address - self.starts[at]} bytes into an allocation of {size} bytes at 0x{self.starts[at]:x}"
        if at + 1 < len(self.starts) and self.starts[at + 1] - address < 1 << 24:
            size = self.ends[at + 1] - self.starts[at + 1]
            return f"{self.starts[at + 1] - address} bytes before an allocation of {size} bytes"
        return "far from every allocation"

    def span(self, address: int, nbytes: int, what: str) -> Array:
        """The bytes of a host copy's device side; AcceleratorError where they are not all in one allocation."""
        if nbytes and self.find(address, address + nbytes) is None:
            state = "has been freed" if self.was_freed(address) else self.describe(address)
            raise AcceleratorError(f"{what} of {nbytes} bytes at 0x{address:x} on the device: {state}")
        return self.data[address - BASE : address - BASE + nbytes]
