"""Running a grid: all threads of many blocks at a time, one NumPy operation per instruction.

A `Frame` is a set of threads that stand at the same place. Its registers are arrays with one element per thread, or
one element where all threads have the same value. Every instruction works on all threads of its frame: where a
branch parts them, each way gets a frame of its own with only its threads in it, which runs until the ways meet and then
writes back what is needed there. Frames that wait (at a barrier) let the others run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .control_flow import EXIT
from .errors import KernelFault
from .shadow import BLOCK_SHIFT, INTERVAL_SHIFT, Shadow
from .syntax import Instruction
from .types import Array

if TYPE_CHECKING:
    from .barriers import Barriers
    from .kernel import Kernel
    from .meetings import Meetings
    from .memory import DeviceMemory

WARP = 32
# Threads that run together: enough to hide Python's cost per instruction, few enough to stay in the caches.
LANES = 1 << 15

Registers = list[Any]
Step = Callable[[Registers, "Frame"], None]


@dataclass
class Launch:
    """One launch: what all its blocks share."""

    kernel: Kernel
    memory: DeviceMemory
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    dynamic_shared: int
    parameters: Array  # bytes
    check_races: bool = True
    meetings: Meetings | None = None  # of launches whose blocks are all there at once
    shadows: dict[int, Shadow] = field(default_factory=dict)  # by the start of the allocation
    fenced: set[int] = field(
        default_factory=set
    )  # blocks that have ordered their memory for the whole device

    @property
    def threads(self) -> int:
        return self.block[0] * self.block[1] * self.block[2]

    def forget(self) -> None:
        """All blocks have waited for each other: nothing before that races with anything behind it."""
        for shadow in self.shadows.values():
            shadow.forget()

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


class Batch:
    """Some blocks of a launch, running in lockstep. A lane is a thread: slot * threads + thread."""

    def __init__(self, launch: Launch, first: int, count: int, barriers: type[Barriers]):
        kernel = launch.kernel
        self.launch = launch
        self.kernel = kernel
        self.first = first
        self.slots = count
        self.threads = launch.threads
        self.lanes = count * self.threads
        self.shared_bytes = kernel.static_shared + launch.dynamic_shared
        self.shared_stride = -(-self.shared_bytes // 16) * 16
        self.shared = np.zeros(max(count * self.shared_stride, 16), np.uint8)
        self.shared_words = {size: self.shared.view(f"u{size}") for size in (1, 2, 4, 8)}
        self.shared_shadow = Shadow(self.shared.size, is_shared=True)
        self.local_stride = -(-kernel.local_bytes // 16) * 16
        self.local = np.zeros(max(self.lanes * self.local_stride, 16), np.uint8)
        self.local_words = {size: self.local.view(f"u{size}") for size in (1, 2, 4, 8)}
        self.interval = np.zeros(count, np.uint64)
        self.alive = np.ones(self.lanes, np.bool_)
        self.barriers = barriers(self)
        self.any_exited = False
        self.states: dict[str, Any] = {}  # of instructions that keep one: asynchronous copies, mbarriers
        self.ready: list[Frame] = []

    def run(self) -> None:
        kernel = self.kernel
        root = Frame(self, list(kernel.constants), np.arange(self.lanes), 0, EXIT, None, None)
        self.ready = [root]
        while True:
            while self.ready:
                self.ready.pop().run()
            if not self.barriers.resolve():
                return

    def block_of(self, lane: int) -> int:
        return self.first + lane // self.threads


class Frame:
    """Threads that stand at the same place; `lanes` is ascending."""

    def __init__(
        self,
        batch: Batch,
        registers: Registers,
        lanes: Array,
        block: int,
        stop: int,
        parent: Frame | None,
        places: Array | None,
    ):
        self.batch = batch
        self.registers = registers
        self.lanes = lanes
        self.size = len(lanes)
        self.block = block  # where it stands
        self.stop = stop  # the block at which its threads go back to the parent
        self.parent = parent
        self.places = places  # of its lanes among the parent's
        self.pending = 0  # frames made of this one's lanes that have not come back
        self.given: dict[int, Array] = {}  # registers as they were when the frame was made
        self.owned: set[int] = set()  # registers that children have written, copied for that
        self._tags: tuple[int, Array] | None = None

    # Who the threads are.

    @property
    def is_whole(self) -> bool:
        """Whether these are all threads of the batch."""
        return self.size == self.batch.lanes

    @cached_property
    def slots(self) -> Array:
        """Each thread's block, as a number in the batch."""
        return self.lanes // self.batch.threads

    @cached_property
    def threads(self) -> Array:
        """Each thread's number in its block."""
        return self.lanes % self.batch.threads

    @cached_property
    def position(self) -> Array:
        """Where each lane of the batch is in this frame; -1 for those elsewhere."""
        found = np.full(self.batch.lanes, -1)
        found[self.lanes] = np.arange(self.size)
        return found

    @cached_property
    def special(self) -> dict[str, Array]:
        """Special registers by name, as they are asked for."""
        return {}

    def tags(self) -> Array:
        """Each thread's tag for races: block, interval, thread (`shadow`)."""
        passed = self.batch.barriers.passed
        if self._tags is None or self._tags[0] != passed:
            blocks = (self.slots + (self.batch.first + 1)).astype(np.uint64) << BLOCK_SHIFT
            intervals = self.batch.interval[self.slots] << INTERVAL_SHIFT
            self._tags = (passed, blocks | intervals | self.threads.astype(np.uint64))
        return self._tags[1]

    def fence(self) -> None:
        """These blocks order their memory for the whole device (`fence.gpu`)."""
        self.batch.launch.fenced.update((np.unique(self.slots) + self.batch.first).tolist())

    def fault(
        self, kind: type[KernelFault], lane: int, instruction: Instruction, message: str
    ) -> KernelFault:
        """A fault of this frame's thread number `lane`."""
        where = int(self.lanes[lane if lane < self.size else 0])
        batch = self.batch
        return kind(
            batch.kernel.name,
            batch.block_of(where),
            where % batch.threads,
            instruction.line,
            str(instruction),
            message,
        )

    # Going on.

    def run(self) -> None:
        """Go on until the threads part, wait, meet their parent's others, or exit."""
        blocks = self.batch.kernel.blocks
        registers = self.registers
        while True:
            block = blocks[self.block]
            for step in block.steps:
                step(registers, self)
            if not block.end(self):
                return
            registers = self.registers

    def go(self, block: int) -> bool:
        """Go to a block; False if the threads go back to the parent there."""
        if block == self.stop:
            self.write_back(block, None)
            self.finish(1)
            return False
        self.block = block
        return True

    def split(self, groups: Sequence[tuple[int, Array]], meeting: int) -> bool:
        """Part the threads: each group's go to its block and meet the others at `meeting`."""
        blocks = self.batch.kernel.blocks
        groups = sorted(
            groups, key=lambda group: not blocks[group[0]].exits
        )  # who exits is waited for no more
        if meeting == self.stop:
            # Those who are there already go back; the others replace this frame.
            children = []
            for target, chosen in groups:
                if target == meeting:
                    self.write_back(meeting, chosen)
                else:
                    places = None if self.places is None else self.places[chosen]
                    children.append(self.child(target, chosen, meeting, self.parent, places))
            if self.parent is not None:
                self.parent.pending += len(children) - 1
        else:
            children = [
                self.child(target, chosen, meeting, self, chosen)
                for target, chosen in groups
                if target != meeting
            ]
            self.block = meeting
            self.pending = len(children)
            self.owned = set()
        self.batch.ready.extend(reversed(children))
        return False

    def child(
        self, block: int, chosen: Array, stop: int, parent: Frame | None, places: Array | None
    ) -> Frame:
        """A frame of some of this one's threads, with the registers that are needed from `block` on."""
        kernel = self.batch.kernel
        registers = list(kernel.constants)
        new = Frame(self.batch, registers, self.lanes[chosen], block, stop, parent, places)
        for number in kernel.blocks[block].live_in:
            value = self.registers[number]
            if value is not None:
                registers[number] = value if value.size == 1 else value[chosen]
        for number in kernel.blocks[block].live_in:
            before = self.registers[number]
            if before is not None and (parent is self or before is self.given.get(number)):
                new.given[number] = registers[number]
        return new

    def write_back(self, block: int, chosen: Array | None) -> None:
        """Give the parent the registers that are needed at `block`, for all or the chosen threads."""
        parent = self.parent
        if parent is None or block == EXIT:
            return
        assert self.places is not None
        places = self.places if chosen is None else self.places[chosen]
        for number in self.batch.kernel.blocks[block].live_in:
            value = self.registers[number]
            if value is None or value is self.given.get(number):
                continue
            if chosen is not None and value.size > 1:
                value = value[chosen]
            target = parent.registers[number]
            if number not in parent.owned:
                whole = np.zeros(parent.size, value.dtype)
                if target is not None:
                    whole[:] = target.view(value.dtype)
                parent.registers[number] = target = whole
                parent.owned.add(number)
            target.view(value.dtype)[places] = value

    def finish(self, children: int) -> None:
        """Tell the parent that this frame's threads have come back or exited."""
        parent = self.parent
        if parent is None:
            return
        parent.pending -= children
        if parent.pending == 0:
            parent.resume()

    def resume(self) -> None:
        """Go on behind the meeting point with the threads that are left."""
        if self.batch.any_exited:
            left = self.batch.alive[self.lanes]
            if not left.all():
                self.keep(np.flatnonzero(left))
        if self.size == 0 or self.block == EXIT:
            self.finish(1)
        elif self.block == self.stop:
            self.write_back(self.block, None)
            self.finish(1)
        else:
            self.batch.ready.append(self)

    def keep(self, chosen: Array) -> None:
        """Drop all threads but the chosen ones."""
        self.lanes = self.lanes[chosen]
        if self.places is not None:
            self.places = self.places[chosen]
        self.size = len(chosen)
        for number, value in enumerate(self.registers):
            if value is not None and value.size > 1:
                self.registers[number] = value[chosen]
        self.given = {}
        self._tags = None
        for name in ("slots", "threads", "position", "special"):
            self.__dict__.pop(name, None)

    def exit(self) -> bool:
        """All threads of the frame end."""
        self.batch.alive[self.lanes] = False
        self.batch.any_exited = True
        self.finish(1)
        return False


def run_launch(launch: Launch, barriers: type[Barriers]) -> None:
    """Run all blocks, some at a time, in order."""
    together = max(1, LANES // launch.threads)
    if launch.meetings is not None:
        together = launch.blocks
    with np.errstate(all="ignore"):
        for first in range(0, launch.blocks, together):
            Batch(launch, first, min(together, launch.blocks - first), barriers).run()
