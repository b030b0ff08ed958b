"""The caching allocator: sizes, reuse, joining, statistics, recovery from out of memory."""

from __future__ import annotations

import itertools
import random

import pytest

from vitrify.runtime.gpu.allocator import CachingAllocator, size_text
from vitrify.runtime.gpu.errors import OutOfMemoryError

MiB = 1 << 20


class Memory:
    """A device of which only the memory is there."""

    def __init__(self, total: int = 100 * MiB):
        self.total_memory = total
        self.held: dict[int, int] = {}
        self.next = 1 << 20
        self.synchronized = 0
        self.events: dict[int, bool] = {}
        self.streams = self

    def memory_info(self) -> tuple[int, int]:
        return self.total_memory - sum(self.held.values()), self.total_memory

    def alloc(self, nbytes: int) -> int:
        if sum(self.held.values()) + nbytes > self.total_memory:
            raise OutOfMemoryError("full")
        address = self.next
        self.next += -(-nbytes // 256) * 256
        self.held[address] = nbytes
        return address

    def free(self, address: int) -> None:
        del self.held[address]

    def synchronize(self) -> None:
        self.synchronized += 1

    def create_event(self) -> int:
        self.events[len(self.events) + 1] = False
        return len(self.events)

    def record_event(self, event: int, stream: int) -> None: ...

    def event_is_done(self, event: int) -> bool:
        return self.events[event]

    def destroy_event(self, event: int) -> None: ...


def test_small_requests_share_a_segment_and_come_back():
    device = Memory()
    allocator = CachingAllocator(device)
    a, b = allocator.allocate(100), allocator.allocate(1000)
    assert (a.size, b.size) == (512, 1024) and b.address == a.address + 512
    assert list(device.held.values()) == [2 * MiB]
    allocator.free(a)
    assert allocator.allocate(512) is a or allocator.stats()["segment.all.current"] == 1
    allocator.free(b)
    stats = allocator.stats()
    assert stats["reserved_bytes.all.current"] == 2 * MiB
    assert stats["allocated_bytes.all.peak"] >= 1536


def test_size_classes():
    for size, segment in (
        (MiB, 2 * MiB),
        (MiB + 1, 20 * MiB),
        (10 * MiB, 10 * MiB),
        (33 * MiB + 1, 34 * MiB),
    ):
        device = Memory()
        CachingAllocator(device).allocate(size)
        assert list(device.held.values()) == [segment]


def test_free_neighbours_join():
    device = Memory()
    allocator = CachingAllocator(device)
    blocks = [allocator.allocate(512 << 10) for _ in range(4)]
    for block in (blocks[1], blocks[3], blocks[2], blocks[0]):
        allocator.free(block)
    stats = allocator.stats()
    assert stats["inactive_split.all.current"] == 0 and stats["allocated_bytes.all.current"] == 0
    allocator.empty_cache()
    assert not device.held


def test_out_of_memory_gives_back_the_cache_first_and_recovers():
    device = Memory()
    allocator = CachingAllocator(device)
    first = allocator.allocate(60 * MiB)
    allocator.free(first)
    second = allocator.allocate(80 * MiB)  # fits only when the first segment is gone
    assert device.synchronized == 1
    with pytest.raises(
        OutOfMemoryError,
        match=r"CUDA out of memory. Tried to allocate 40.00 MiB. GPU 0 has a total capacity of 100.00 MiB of which "
        r"20.00 MiB is free. Of the allocated memory 80.00 MiB is allocated by vitrify, and 0 bytes is reserved",
    ):
        allocator.allocate(40 * MiB)
    stats = allocator.stats()
    assert (stats["num_ooms"], stats["num_alloc_retries"]) == (1, 2)
    allocator.free(second)
    allocator.allocate(90 * MiB)


def test_a_limit_is_kept():
    allocator = CachingAllocator(Memory())
    allocator.limit = 10 * MiB
    with pytest.raises(OutOfMemoryError):
        allocator.allocate(20 * MiB)


def test_streams_do_not_share_free_blocks():
    device = Memory()
    allocator = CachingAllocator(device)
    a = allocator.allocate(1000, stream=1)
    allocator.free(a)
    b = allocator.allocate(1000, stream=2)
    assert b.segment is not a.segment


def test_a_block_that_another_stream_uses_waits():
    device = Memory()
    allocator = CachingAllocator(device)
    block = allocator.allocate(2 * MiB)
    allocator.record_stream(block, 5)
    allocator.free(block)
    assert allocator.stats()["active.all.current"] == 1 and allocator.stats()["allocation.all.current"] == 0
    device.events[1] = True
    assert allocator.stats()["active.all.current"] == 0


def test_random_requests_never_overlap():
    rng = random.Random(0)
    device = Memory(1 << 40)
    allocator = CachingAllocator(device)
    live = []
    for _ in range(3000):
        if live and rng.random() < 0.5:
            allocator.free(live.pop(rng.randrange(len(live))))
        else:
            live.append(
                allocator.allocate(rng.choice((1, 513, 70_000, MiB, 3 * MiB, 12 * MiB)), rng.randrange(2))
            )
    spans = sorted((b.address, b.size) for b in live)
    assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(spans))
    assert allocator.stats()["allocated_bytes.all.current"] == sum(b.size for b in live)
    for block in live:
        allocator.free(block)
    allocator.empty_cache()
    assert not device.held and allocator.stats()["reserved_bytes.all.current"] == 0


def test_sizes_as_text():
    assert [size_text(n) for n in (3, 2048, 20 * MiB, 3 << 29)] == [
        "3 bytes",
        "2.00 KiB",
        "20.00 MiB",
        "1.50 GiB",
    ]


def test_requests_find_the_addresses_they_had_in_whatever_order_they_came_back():
    allocator = CachingAllocator(Memory())
    blocks = [allocator.allocate(512) for _ in range(6)]
    want = [b.address for b in blocks]
    for seed in range(4):
        random.Random(seed).shuffle(blocks)
        for block in blocks:
            allocator.free(block)
        blocks = [allocator.allocate(512) for _ in range(6)]
        assert [b.address for b in blocks] == want
