"""What an allocator counts, for `torch.cuda.memory_stats()`."""

from __future__ import annotations


class Counter:
    """A number with its history."""

    __slots__ = ("allocated", "current", "freed", "peak")

    def __init__(self) -> None:
        self.current = self.peak = self.allocated = self.freed = 0

    def add(self, amount: int) -> None:
        if amount >= 0:
            self.allocated += amount
        else:
            self.freed -= amount
        self.current += amount
        if self.current > self.peak:
            self.peak = self.current


class Usage:
    """What is given out, of one pool or of all: blocks, their bytes, the bytes that were asked for, each with the most
    there was and all there ever was; and what came back but waits for other streams."""

    __slots__ = (
        "active_peak", "active_size_peak", "asked", "asked_peak", "asked_total", "begun", "blocks", "blocks_peak",
        "blocks_total", "size", "size_peak", "size_total", "waiting", "waiting_size",
    )  # fmt: skip

    def __init__(self) -> None:
        self.blocks = self.blocks_peak = self.blocks_total = 0
        self.size = self.size_peak = self.size_total = 0
        self.asked = self.asked_peak = self.asked_total = 0
        self.waiting = self.waiting_size = self.active_peak = self.active_size_peak = 0
        self.begun = 0, 0, 0  # what was given out when the totals began

    def wait(self, blocks: int, size: int) -> None:
        """So many blocks more are waiting."""
        self.waiting += blocks
        self.waiting_size += size
        self.active_peak = max(self.active_peak, self.blocks + self.waiting)
        self.active_size_peak = max(self.active_size_peak, self.size + self.waiting_size)

    def reset_peak(self) -> None:
        self.blocks_peak, self.size_peak, self.asked_peak = self.blocks, self.size, self.asked
        self.active_peak, self.active_size_peak = self.blocks + self.waiting, self.size + self.waiting_size

    def reset_accumulated(self) -> None:
        self.blocks_total = self.size_total = self.asked_total = 0
        self.begun = self.blocks, self.size, self.asked

    def counters(self) -> dict[str, tuple[int, int, int, int]]:
        """(current, peak, allocated, freed) by name. What waits is active still; without it, what is active is what is
        given out, so one peak serves both."""
        blocks, size, asked = self.begun
        freed = self.blocks_total - self.blocks + blocks, self.size_total - self.size + size
        return {
            "allocation": (self.blocks, self.blocks_peak, self.blocks_total, freed[0]),
            "allocated_bytes": (self.size, self.size_peak, self.size_total, freed[1]),
            "requested_bytes": (
                self.asked,
                self.asked_peak,
                self.asked_total,
                self.asked_total - self.asked + asked,
            ),
            "active": (
                self.blocks + self.waiting,
                max(self.active_peak, self.blocks_peak),
                self.blocks_total,
                freed[0] - self.waiting,
            ),
            "active_bytes": (
                self.size + self.waiting_size,
                max(self.active_size_peak, self.size_peak),
                self.size_total,
                freed[1] - self.waiting_size,
            ),
        }
