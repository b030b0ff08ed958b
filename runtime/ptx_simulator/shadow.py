"""Who used which bytes last: the memory beside the memory that finds races.

Every granule (4 bytes, fewer once smaller accesses are seen) has the tags of its last writer and last reader. A tag
is block + 1 (32 bits), the number of barriers its block had passed (20 bits) and the thread (12 bits). Two uses by
different threads are ordered only if they are of one block with a barrier between (PTX ISA, "Memory Consistency
Model": program order and synchronization); launches are ordered, so tags live for one launch.
"""

from __future__ import annotations

import numpy as np

from .types import Array

BLOCK_SHIFT = np.uint64(32)
INTERVAL_SHIFT = np.uint64(12)
_THREAD = np.uint64(0xFFF)
_ZERO = np.uint64(0)
MANY = np.uint64(0xFFF)  # the thread of a tag: several of the block
ATOMIC = np.uint64(0xFFE)  # the thread of a tag: atomic operations, which do not race with each other
MANY_BLOCKS = np.uint64(0xFFFFFFFF)  # the block of a tag: several
MANY_BLOCKS_TAG = (MANY_BLOCKS << BLOCK_SHIFT) | MANY


def conflicts(old: Array, tags: Array) -> Array:
    """Where a use tagged `old` is not ordered before one tagged `tags`, of another thread."""
    differ = old ^ tags
    return (
        (old != _ZERO)
        & (differ != _ZERO)
        & ((differ >> INTERVAL_SHIFT == _ZERO) | (differ >> BLOCK_SHIFT != _ZERO))
    )


class Shadow:
    """Tags of one piece of memory of `nbytes`."""

    def __init__(self, nbytes: int, granule: int = 4):
        self.nbytes = nbytes
        self.granule = granule
        count = -(-nbytes // granule)
        self.writers = np.zeros(count, np.uint64)
        self.readers = np.zeros(count, np.uint64)
        self.copying: Array | None = None  # granules that an asynchronous copy is on its way to

    def prepare(self, size: int) -> None:
        """Have granules no larger than the access."""
        if size < self.granule:
            times = self.granule // size
            self.writers = np.repeat(self.writers, times)
            self.readers = np.repeat(self.readers, times)
            if self.copying is not None:
                self.copying = np.repeat(self.copying, times)
            self.granule = size

    def granules(self, positions: Array, size: int) -> list[Array]:
        """The granules of an access of `size` bytes at each position, one array per granule."""
        first = positions // self.granule
        return [first + k if k else first for k in range(size // self.granule)]

    def read(self, cells: Array, tags: Array) -> tuple[Array, Array]:
        """Note reads; the last writers, and where they race with these reads."""
        writers = self.writers[cells]
        racing = conflicts(writers, tags)
        if cells.size < tags.size:  # one address, read by all
            blocks = tags >> BLOCK_SHIFT
            one = blocks.min() == blocks.max()
            mark = (tags[:1] | MANY) if one else np.array([MANY_BLOCKS_TAG], np.uint64)
            old = self.readers[cells]
            if old[0] and old[0] >> BLOCK_SHIFT != mark[0] >> BLOCK_SHIFT:
                mark = np.array([MANY_BLOCKS_TAG], np.uint64)
            self.readers[cells] = mark
            return writers, racing
        old = self.readers[cells]
        self.readers[cells] = tags
        shared = self.readers[cells] != tags
        if old.any():
            shared |= conflicts(old, tags)
        if shared.any():
            self._read_together(cells[shared], tags[shared], old[shared])
        return writers, racing

    def _read_together(self, cells: Array, tags: Array, old: Array) -> None:
        """Readers of granules that other threads read in the same interval, or other blocks at any time."""
        blocks = tags >> BLOCK_SHIFT
        self.readers[cells] = tags | MANY
        others = self.readers[cells] >> BLOCK_SHIFT != blocks
        others |= (old != _ZERO) & (old >> BLOCK_SHIFT != blocks)
        if others.any():
            self.readers[cells[others]] = MANY_BLOCKS_TAG

    def write(self, cells: Array, tags: Array) -> tuple[Array, Array]:
        """Note writes; where they race with earlier writes, and where with earlier reads."""
        old = self.writers[cells]
        racing_writes = conflicts(old, tags) if old.any() else np.zeros(tags.shape, np.bool_)
        readers = self.readers[cells]
        racing_reads = conflicts(readers, tags) if readers.any() else np.zeros(tags.shape, np.bool_)
        self.writers[cells] = tags
        return racing_writes, racing_reads

    def atomic(self, cells: Array, tags: Array) -> Array:
        """Note atomic updates; where they race with plain uses."""
        marks = (tags & ~_THREAD) | ATOMIC
        old, readers = self.writers[cells], self.readers[cells]
        plain = (old & _THREAD) != ATOMIC
        racing = plain & conflicts(old, tags)
        racing |= conflicts(readers, tags)
        self.writers[cells] = marks
        blocks = (self.writers[cells] >> BLOCK_SHIFT) != (marks >> BLOCK_SHIFT)
        blocks |= ~plain & (old != _ZERO) & ((old >> BLOCK_SHIFT) != (marks >> BLOCK_SHIFT))
        if blocks.any():
            self.writers[cells[blocks]] = (MANY_BLOCKS << BLOCK_SHIFT) | ATOMIC
        return racing


def tag_thread(tag: int) -> str:
    """Whose tag it is, for an error."""
    block, thread = (tag >> 32) - 1, tag & 0xFFF
    who = {int(MANY): "several threads", int(ATOMIC): "an atomic operation"}.get(thread, f"thread {thread}")
    return f"{who} of several blocks" if block + 1 == int(MANY_BLOCKS) else f"{who} of block {block}"
