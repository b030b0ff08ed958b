"""Who used which bytes last: the memory beside the memory that finds races.

Every granule (16 bytes, fewer once smaller accesses are seen) has the tags of its last writer and last reader. A tag
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
_LARGEST = 16  # bytes of a granule
_DEFERRED = 256  # reads that wait to be worked out
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
    """Tags of one piece of memory of `nbytes`. `is_shared` memory is each block's own."""

    def __init__(self, nbytes: int, is_shared: bool = False):
        self.nbytes = nbytes
        self.is_shared = is_shared
        self.granule = _LARGEST
        count = -(-nbytes // _LARGEST)
        self.writers = np.zeros(count, np.uint64)
        self.readers = np.zeros(count, np.uint64)
        self.written = np.zeros(count if is_shared else 0, np.bool_)  # at any time, of shared memory
        self.copying: Array | None = None  # granules that an asynchronous copy is on its way to
        self.has_writes = False  # since `forget`
        self.is_all_written = False  # shared memory, as far as `forget` has seen
        self._reads: list[tuple[Array, Array]] = []  # granules and tags that are not in `readers` yet

    def prepare(self, size: int) -> None:
        """Have granules no larger than the access."""
        if size < self.granule:
            self.settle_reads()
            times = self.granule // size
            self.writers = np.repeat(self.writers, times)
            self.readers = np.repeat(self.readers, times)
            self.written = np.repeat(self.written, times)
            if self.copying is not None:
                self.copying = np.repeat(self.copying, times)
            self.granule = size

    def granules(self, positions: Array, size: int) -> list[Array]:
        """The granules of an access of `size` bytes at each position, one array per granule."""
        first = positions.view(np.int64) >> (self.granule.bit_length() - 1)
        return [first + k if k else first for k in range(size // self.granule)]

    def forget(self) -> None:
        """All blocks passed a barrier: nothing before it races with anything behind it."""
        self._reads.clear()
        self.readers.fill(0)
        if self.has_writes:
            self.writers.fill(0)
            self.has_writes = False
            self.is_all_written = self.is_all_written or bool(self.written.all())

    def read(self, cells: Array, tags: Array) -> tuple[Array | None, Array | None]:
        """Note reads; the last writers, and where they race with these reads. Who reads is worked out only when
        somebody writes: most reads are between two barriers with nothing else."""
        self._reads.append((cells, tags))
        if len(self._reads) > _DEFERRED:
            self.settle_reads()
        if not self.has_writes:
            return None, None
        writers = self.writers.take(cells)
        return writers, conflicts(writers, tags) if writers.any() else None

    def settle_reads(self) -> None:
        """Have `readers` up to date."""
        reads, self._reads = self._reads, []
        for cells, tags in reads:
            self._settle(cells, tags)

    def _settle(self, cells: Array, tags: Array) -> None:
        old = self.readers.take(cells)
        if cells.size < tags.size:  # one address, read by all
            blocks = tags >> BLOCK_SHIFT
            one = blocks.min() == blocks.max()
            mark = (tags[:1] | MANY) if one else np.array([MANY_BLOCKS_TAG], np.uint64)
            if old[0] and old[0] >> BLOCK_SHIFT != mark[0] >> BLOCK_SHIFT:
                mark = np.array([MANY_BLOCKS_TAG], np.uint64)
            self.readers[cells] = mark
            return
        seen = bool(old.any())
        if seen and old.min() >= MANY_BLOCKS_TAG:
            return
        if seen:
            differ = old ^ tags
            settled = (differ == _ZERO) | (old >= MANY_BLOCKS_TAG)
            settled |= (differ >> INTERVAL_SHIFT == _ZERO) & ((old & _THREAD) == MANY)
            if settled.all():
                return
            rest = np.flatnonzero(~settled)
            cells, tags, old = cells[rest], tags[rest], old[rest]
        self.readers[cells] = tags
        together = self.readers.take(cells) != tags
        if seen:
            together |= conflicts(old, tags)
        if together.any():
            chosen = np.flatnonzero(together)
            self._read_together(cells[chosen], tags[chosen], old[chosen])

    def _read_together(self, cells: Array, tags: Array, old: Array) -> None:
        """Readers of granules that other threads read in the same interval, or other blocks at any time."""
        self.readers[cells] = tags | MANY
        if self.is_shared:
            return
        blocks = tags >> BLOCK_SHIFT
        others = self.readers.take(cells) >> BLOCK_SHIFT != blocks
        others |= (old != _ZERO) & (old >> BLOCK_SHIFT != blocks)
        if others.any():
            self.readers[cells[others]] = MANY_BLOCKS_TAG

    def write(self, cells: Array, tags: Array) -> tuple[Array | None, Array | None]:
        """Note writes; where they race with earlier writes, and where with earlier reads."""
        self.settle_reads()
        self.has_writes = True
        old, readers = self.writers.take(cells), self.readers.take(cells)
        racing_writes = conflicts(old, tags) if old.any() else None
        racing_reads = conflicts(readers, tags) if readers.any() else None
        self.writers[cells] = tags
        if self.is_shared:
            self.written[cells] = True
        return racing_writes, racing_reads

    def atomic(self, cells: Array, tags: Array) -> Array:
        """Note atomic updates; where they race with plain uses."""
        marks = (tags & ~_THREAD) | ATOMIC
        self.settle_reads()
        self.has_writes = True
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
    if tag == 0:
        return "a thread"
    block, thread = (tag >> 32) - 1, tag & 0xFFF
    who = {int(MANY): "several threads", int(ATOMIC): "an atomic operation"}.get(thread, f"thread {thread}")
    return f"{who} of several blocks" if block + 1 == int(MANY_BLOCKS) else f"{who} of block {block}"
