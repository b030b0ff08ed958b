"""Device memory that is kept and given out again.

Asking the driver for memory makes it wait for the whole device, so memory comes from segments that are asked for once:
2 MiB for requests up to 1 MiB, 20 MiB for those up to 10 MiB, the size itself above that (the size classes of PyTorch's
CUDACachingAllocator, whose statistics these are too). A block is cut from the smallest free one that holds it, and grows
together with its free neighbours when it comes back: not at once, for the next request is often for the same size.

Memory is given out in stream order: what is freed may be given out again at once, since the next kernel of the same
stream runs after those that used it. Each stream has its own free blocks; a block that another stream has used
(`record_stream`) comes back when that stream has come past its use.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from heapq import heappop, heappush

from .device import Device
from .errors import OutOfMemoryError
from .usage import Counter, Usage

ROUND = 512
SMALL = 1 << 20  # the largest request that is served from small segments
SMALL_SEGMENT = 2 << 20
MEDIUM = 10 << 20  # the largest request that is served from medium segments
MEDIUM_SEGMENT = 20 << 20
ROUND_LARGE = 2 << 20

_KINDS = ("current", "peak", "allocated", "freed")


class Block:
    """A piece of a segment; `requested` is what was asked for."""

    __slots__ = ("address", "free", "next", "previous", "requested", "segment", "size", "stream", "used_by")

    def __init__(self, segment: Segment, address: int, size: int):
        self.segment = segment
        self.address = address
        self.size = size
        self.requested = 0
        self.free = True
        self.stream = segment.stream
        self.used_by: set[int] = set()
        self.previous: Block | None = None
        self.next: Block | None = None


class Segment:
    """Memory that the device gave at once."""

    __slots__ = ("address", "pool", "size", "stream")

    def __init__(self, address: int, size: int, pool: str, stream: int):
        self.address = address
        self.size = size
        self.pool = pool
        self.stream = stream


_COUNTED = ("segment", "inactive_split", "reserved_bytes", "inactive_split_bytes")
_POOLS = ("all", "small_pool", "large_pool")


class CachingAllocator:
    """The memory of one device. Safe to use from several threads; `free` may be called from finalizers.

    exact: every request is the device's own, of its size up to 16 bytes, and nothing is kept: for a device that checks
    accesses against what is allocated."""

    def __init__(self, device: Device, index: int = 0, exact: bool = False):
        self.device = device
        self.index = index
        self.exact = exact
        self.limit: int | None = None  # bytes that may be reserved (`set_per_process_memory_fraction`)
        self._lock = threading.Lock()
        # Finalizers put blocks here: they may run while this thread holds the lock.
        self._returned: deque[Block] = deque()
        # Per (pool, stream): free blocks by size.
        self._free: dict[tuple[str, int], list[tuple[int, int, Block]]] = {}
        self._waiting: list[tuple[Block, list[int]]] = []
        # Per (size, stream): blocks that came back and were not joined with their neighbours yet, a heap by address. A
        # program that runs again asks for the sizes it had. It is given the lowest address, so that it finds the ones
        # it had in whatever order they came back: runs with the same addresses are captured (`runner.py`).
        self._recent: dict[tuple[int, int], list[tuple[int, Block]]] = {}
        self._counters = {(name, pool): Counter() for name in _COUNTED for pool in _POOLS}
        self._usage = {pool: Usage() for pool in _POOLS}
        # What every request counts in, by pool.
        self._counts_in = {pool: (self._usage["all"], self._usage[pool]) for pool in _POOLS[1:]}
        self._retries = self._out_of_memory = 0

    # -- giving out ----------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int, stream: int = 0) -> Block:
        """A block of at least `nbytes`; OutOfMemoryError says how much there is."""
        with self._lock:
            if self._returned or self._waiting:
                self._collect()
            # Vectors of 16 bytes may be read whole where a part of them is asked for.
            unit = 16 if self.exact else ROUND
            size = max(unit, -(-nbytes // unit) * unit)
            pool = "small_pool" if size <= SMALL else "large_pool"
            recent = self._recent.get((size, stream))
            if recent:
                block = heappop(recent)[1]
            else:
                self._settle()
                block = self._take(pool, stream, size) or self._new_segment(pool, stream, size, nbytes)
                block.free = False
                if not self.exact:
                    self._split(block, size)
            block.requested = nbytes
            size = block.size
            for usage in self._counts_in[pool]:  # written out: this is a part of every compiled call
                usage.blocks_total += 1
                usage.size_total += size
                usage.asked_total += nbytes
                usage.blocks = blocks = usage.blocks + 1
                usage.size = now = usage.size + size
                usage.asked = asked = usage.asked + nbytes
                if blocks > usage.blocks_peak:
                    usage.blocks_peak = blocks
                if now > usage.size_peak:
                    usage.size_peak = now
                if asked > usage.asked_peak:
                    usage.asked_peak = asked
                if usage.waiting:
                    usage.wait(0, 0)
            return block

    def free(self, block: Block) -> None:
        """Give the block back. Never waits, so it may be called where a finalizer runs."""
        self._returned.append(block)
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def record_stream(self, block: Block, stream: int) -> None:
        """Another stream than the block's own uses it: it is given out again only when that is over."""
        if stream != block.stream:
            block.used_by.add(stream)

    def empty_cache(self) -> None:
        """Give segments that hold nothing back to the device."""
        with self._lock:
            self._collect()
            self._settle()
            self._release()

    def _take(self, pool: str, stream: int, size: int) -> Block | None:
        """The smallest free block that holds `size`."""
        waiting = self._free.get((pool, stream))
        if not waiting:
            return None
        at = bisect_left(waiting, (size,))
        if at == len(waiting):
            return None
        block = waiting[at][2]
        del waiting[at]
        if self._is_split(block):
            self._count_split(block, -1)
        return block

    def _new_segment(self, pool: str, stream: int, size: int, nbytes: int) -> Block:
        if self.exact:
            wanted = size
        elif size <= SMALL:
            wanted = SMALL_SEGMENT
        elif size < MEDIUM:
            wanted = MEDIUM_SEGMENT
        else:
            wanted = -(-size // ROUND_LARGE) * ROUND_LARGE
        address = self._ask(wanted)
        if address is None:
            self._retries += 1
            self.device.synchronize()
            self._collect()
            self._settle()
            self._release()
            address = self._ask(wanted)
        if address is None:
            self._out_of_memory += 1
            raise OutOfMemoryError(self._exhausted(nbytes))
        self._count("segment", pool, 1)
        self._count("reserved_bytes", pool, wanted)
        return Block(Segment(address, wanted, pool, stream), address, wanted)

    def _ask(self, size: int) -> int | None:
        if self.limit is not None and self._counters["reserved_bytes", "all"].current + size > self.limit:
            return None
        try:
            return self.device.alloc(size)
        except OutOfMemoryError:
            return None

    def _split(self, block: Block, size: int) -> None:
        """Cut the block to `size`; what remains is free, unless it is too little to be worth it."""
        rest = block.size - size
        if rest < (ROUND if block.segment.pool == "small_pool" else SMALL + 1):
            return
        remaining = Block(block.segment, block.address + size, rest)
        remaining.previous, remaining.next = block, block.next
        if block.next is not None:
            block.next.previous = remaining
        block.next = remaining
        block.size = size
        self._store(remaining)

    # -- coming back ---------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take in what was freed, as far as other streams are past it."""
        while self._returned:
            block = self._returned.popleft()
            size, asked = block.size, block.requested
            counts_in = self._counts_in[block.segment.pool]
            for usage in counts_in:
                usage.blocks -= 1
                usage.size -= size
                usage.asked -= asked
            if block.used_by:
                self._waiting.append((block, self._record(block.used_by)))
                block.used_by = set()
                for usage in counts_in:
                    usage.wait(1, size)
            else:
                self._reuse(block)
        if self._waiting:
            still = []
            for block, events in self._waiting:
                left = [event for event in events if not self._done(event)]
                if left:
                    still.append((block, left))
                else:
                    for usage in self._counts_in[block.segment.pool]:
                        usage.wait(-1, -block.size)
                    self._reuse(block)
            self._waiting = still

    def _record(self, used_by: set[int]) -> list[int]:
        streams = self.device.streams
        assert streams is not None  # only then blocks are used by several
        events = []
        for stream in sorted(used_by):
            event = streams.create_event()
            streams.record_event(event, stream)
            events.append(event)
        return events

    def _done(self, event: int) -> bool:
        streams = self.device.streams
        assert streams is not None
        if not streams.event_is_done(event):
            return False
        streams.destroy_event(event)
        return True

    def _reuse(self, block: Block) -> None:
        if self.exact:
            self._store(block)
            self._release()
            return
        key = (block.size, block.stream)
        recent = self._recent.get(key)
        if recent is None:
            self._recent[key] = [(block.address, block)]
        else:
            heappush(recent, (block.address, block))

    def _settle(self) -> None:
        """Join what came back with its neighbours."""
        if self._recent:
            blocks = [block for recent in self._recent.values() for _, block in recent]
            self._recent.clear()
            for block in blocks:
                self._store(block)

    def _store(self, block: Block) -> None:
        """Put a block among the free ones, joined with free neighbours."""
        block.free = True
        block.requested = 0
        before, after = block.previous, block.next
        if before is not None and before.free:
            self._remove(before)
            block = self._join(before, block)
        if after is not None and after.free:
            self._remove(after)
            block = self._join(block, after)
        key = (block.segment.pool, block.stream)
        insort(self._free.setdefault(key, []), (block.size, block.address, block))
        if self._is_split(block):
            self._count_split(block, 1)

    def _join(self, first: Block, second: Block) -> Block:
        first.size += second.size
        first.next = second.next
        if second.next is not None:
            second.next.previous = first
        return first

    def _remove(self, block: Block) -> None:
        waiting = self._free[block.segment.pool, block.stream]
        del waiting[bisect_left(waiting, (block.size, block.address))]
        if self._is_split(block):
            self._count_split(block, -1)

    def _release(self) -> None:
        for waiting in self._free.values():
            whole = [entry for entry in waiting if not self._is_split(entry[2])]
            waiting[:] = [entry for entry in waiting if self._is_split(entry[2])]
            for _, _, block in whole:
                segment = block.segment
                self.device.free(segment.address)
                self._count("segment", segment.pool, -1)
                self._count("reserved_bytes", segment.pool, -segment.size)

    # -- statistics ----------------------------------------------------------------------------------------------

    @staticmethod
    def _is_split(block: Block) -> bool:
        return block.size != block.segment.size

    def _count_split(self, block: Block, sign: int) -> None:
        self._count("inactive_split", block.segment.pool, sign)
        self._count("inactive_split_bytes", block.segment.pool, sign * block.size)

    def _count(self, name: str, pool: str, amount: int) -> None:
        self._counters[name, "all"].add(amount)
        self._counters[name, pool].add(amount)

    def stats(self) -> dict[str, int]:
        """`torch.cuda.memory_stats()`: names with dots, bytes and counts."""
        with self._lock:
            self._collect()
            self._settle()
            found = {
                f"{name}.{pool}.{kind}": getattr(counter, kind)
                for (name, pool), counter in self._counters.items()
                for kind in _KINDS
            }
            for pool, usage in self._usage.items():
                for name, values in usage.counters().items():
                    found.update((f"{name}.{pool}.{kind}", n) for kind, n in zip(_KINDS, values))
            found["num_alloc_retries"] = self._retries
            found["num_ooms"] = self._out_of_memory
            found["max_split_size"] = -1
            return dict(sorted(found.items()))

    def reset_peak(self) -> None:
        """Begin the peaks anew at what is in use."""
        with self._lock:
            self._collect()
            self._settle()
            for counter in self._counters.values():
                counter.peak = counter.current
            for usage in self._usage.values():
                usage.reset_peak()

    def reset_accumulated(self) -> None:
        """Begin the sums of what was allocated and freed anew."""
        with self._lock:
            self._collect()
            self._settle()
            for counter in self._counters.values():
                counter.allocated = counter.freed = 0
            for usage in self._usage.values():
                usage.reset_accumulated()
            self._retries = self._out_of_memory = 0

    def _exhausted(self, nbytes: int) -> str:
        free, total = self.device.memory_info()
        allocated = self._usage["all"].size
        reserved = self._counters["reserved_bytes", "all"].current
        return (
            f"CUDA out of memory. Tried to allocate {size_text(nbytes)}. GPU {self.index} has a total capacity of "
            f"{size_text(total)} of which {size_text(free)} is free. Of the allocated memory {size_text(allocated)} is "
            f"allocated by vitrify, and {size_text(reserved - allocated)} is reserved by vitrify but unallocated."
        )


def size_text(size: int) -> str:
    """A number of bytes as PyTorch writes it: `20.00 MiB`."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
