"""Barriers of a block (PTX ISA, "Parallel Synchronization and Communication Instructions: bar, barrier").

A barrier completes when all threads of the block that have not exited, or as many as it says, have arrived. Then the
block's interval number grows, which is what orders memory (`shadow`). Without `barrier.sync`'s freedom (`bar.sync` is
`barrier.sync.aligned`) all threads of a warp must arrive together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .decode import Decoder, Modifiers, unknown
from .errors import DivergentBarrier, LaunchError
from .meetings import is_poll
from .syntax import Instruction, Register
from .types import KINDS, Array

if TYPE_CHECKING:
    from .executor import Batch, Frame

NAMED = 16  # barriers of a block


def ends_block(item: Instruction) -> bool:
    """Whether threads may have to wait at this instruction."""
    if item.opcode[0] == "mbarrier":
        return item.opcode[1] in ("test_wait", "try_wait")
    if is_poll(item):
        return True
    return item.opcode[0] in ("bar", "barrier") and "warp" not in item.opcode and "cluster" not in item.opcode


class Waiting:
    """A frame at a barrier: for each of its blocks, the generation that has to complete."""

    def __init__(
        self, frame: Frame, item: Instruction, number: int, slots: Array, goals: Array, following: int
    ):
        self.frame, self.item, self.number = frame, item, number
        self.slots, self.goals, self.following = slots, goals, following


class Barriers:
    """All barriers of a batch of blocks."""

    def __init__(self, batch: Batch):
        self.batch = batch
        self.arrived = np.zeros((batch.slots, NAMED), np.int64)
        self.expected = np.zeros((batch.slots, NAMED), np.int64)  # as given; 0 for all threads
        self.generation = np.zeros((batch.slots, NAMED), np.int64)
        self.waiting: list[Waiting] = []
        # Parts of warps at an aligned barrier, and how to ask again once the others have exited.
        self.torn: list[tuple[Frame, Callable[[], bool]]] = []
        # Frames that wait for a phase of an mbarrier: whether it is over, and how to go on.
        self.polling: list[tuple[Frame, Instruction, Callable[[], bool], Callable[[], bool]]] = []
        self.passed = 0  # completions, of any barrier

    def arrive(
        self,
        frame: Frame,
        item: Instruction,
        number: int,
        count: int,
        waits: bool,
        aligned: bool,
        following: int,
    ) -> bool:
        batch = self.batch
        if frame.is_whole and count == 0 and waits and not self.waiting:
            batch.interval += np.uint64(1)
            batch.shared_shadow.forget()
            self.passed += 1
            return frame.go(following)
        if aligned and self._torn_warp(frame) is not None:
            self.torn.append((frame, lambda: self._arrive_late(frame, item, number, count, waits, following)))
            return False
        slots, counts = np.unique(frame.slots, return_counts=True)
        self.expected[slots, number] = count
        goals = self.generation[slots, number] + 1
        self.arrived[slots, number] += counts
        self.update(slots, number)
        if not waits or (self.generation[slots, number] >= goals).all():
            return frame.go(following)
        self.waiting.append(Waiting(frame, item, number, slots, goals, following))
        return False

    def update(self, slots: Array, number: int) -> None:
        """Complete the barrier where enough threads have arrived."""
        needed = self.expected[slots, number]
        if (needed == 0).any():
            alive = self.batch.alive.reshape(self.batch.slots, -1).sum(1)[slots]
            needed = np.where(needed == 0, alive, needed)
        done = slots[(self.arrived[slots, number] >= needed) & (self.arrived[slots, number] > 0)]
        if len(done):
            self.arrived[done, number] = 0
            self.generation[done, number] += 1
            self.batch.interval[done] += np.uint64(1)
            self.passed += 1

    def resolve(self) -> bool:
        """Let go on who can, when no frame runs; False if nobody waits. DivergentBarrier if nobody can go on."""
        if self.torn:
            torn, self.torn = self.torn, []
            self.batch.ready.extend(frame for frame, arrive in torn if arrive())
            return True
        over = [poll for poll in self.polling if poll[2]()]
        if over:
            self.polling = [poll for poll in self.polling if poll not in over]
            self.batch.ready.extend(frame for frame, _, _, go_on in over if go_on())
            return True
        if not self.waiting:
            if self.polling:
                frame, item = self.polling[0][:2]
                never = "nobody changes the word" if is_poll(item) else "the phase of the mbarrier never ends"
                raise frame.fault(DivergentBarrier, 0, item, f"{never}: nobody else runs")
            return False
        for wait in self.waiting:  # threads that exited are expected no more
            self.update(wait.slots, wait.number)
        going = [w for w in self.waiting if (self.generation[w.slots, w.number] >= w.goals).all()]
        if not going:
            going = [part for w in list(self.waiting) if (part := self._part(w)) is not None]
        if not going:
            raise self._stuck()
        self.waiting = [w for w in self.waiting if w not in going]
        for wait in going:
            if wait.frame.go(wait.following):
                self.batch.ready.append(wait.frame)
        return True

    def _part(self, wait: Waiting) -> Waiting | None:
        """Part a frame into blocks that can go on, which are returned, and blocks that wait on."""
        done = self.generation[wait.slots, wait.number] >= wait.goals
        if not done.any():
            return None
        frame = wait.frame
        goes = np.isin(frame.slots, wait.slots[done])
        # Both stand before `following`: children that meet at the parent's own stop.
        places = frame.places
        parts = []
        for chosen in (np.flatnonzero(goes), np.flatnonzero(~goes)):
            part_places = None if places is None else places[chosen]
            parts.append(frame.child(wait.following, chosen, frame.stop, frame.parent, part_places))
        if frame.parent is not None:
            frame.parent.pending += 1
        rest = ~done
        self.waiting.append(
            Waiting(parts[1], wait.item, wait.number, wait.slots[rest], wait.goals[rest], wait.following)
        )
        self.waiting.remove(wait)
        moved = Waiting(parts[0], wait.item, wait.number, wait.slots[done], wait.goals[done], wait.following)
        self.waiting.append(moved)
        return moved

    def _arrive_late(
        self, frame: Frame, item: Instruction, number: int, count: int, waits: bool, following: int
    ) -> bool:
        torn = self._torn_warp(frame)
        if torn is not None:
            warp, here, alive = torn
            lane = int(np.flatnonzero(frame.slots * self._warps + frame.threads // 32 == warp)[0])
            raise frame.fault(
                DivergentBarrier,
                lane,
                item,
                f"divergent barrier: {here} of the {alive} threads of warp {warp % self._warps} reach it, the others "
                "are elsewhere",
            )
        return self.arrive(frame, item, number, count, waits, True, following)

    @property
    def _warps(self) -> int:
        """Warps of a block."""
        return -(-self.batch.threads // 32)

    def _torn_warp(self, frame: Frame) -> tuple[int, int, int] | None:
        """A warp of which only some threads are in the frame: its number in the batch, how many these are, of how
        many that have not exited."""
        if frame.is_whole:
            return None
        batch, per_block = self.batch, self._warps
        total = batch.slots * per_block
        here = np.bincount(frame.slots * per_block + frame.threads // 32, minlength=total)
        lanes = np.flatnonzero(batch.alive)
        alive = np.bincount(lanes // batch.threads * per_block + lanes % batch.threads // 32, minlength=total)
        torn = np.flatnonzero((here > 0) & (here < alive))
        return (int(torn[0]), int(here[torn[0]]), int(alive[torn[0]])) if len(torn) else None

    def _stuck(self) -> DivergentBarrier:
        wait = self.waiting[0]
        slot = int(wait.slots[self.generation[wait.slots, wait.number] < wait.goals][0])
        batch = self.batch
        alive = int(batch.alive[slot * batch.threads : (slot + 1) * batch.threads].sum())
        needed = int(self.expected[slot, wait.number]) or alive
        others = [w for w in self.waiting if w is not wait and slot in w.slots]
        where = "".join(f"; others wait at PTX line {w.item.line}" for w in others[:1])
        lane = int(np.flatnonzero(wait.frame.slots == slot)[0])
        fault = wait.frame.fault(
            DivergentBarrier,
            lane,
            wait.item,
            f"divergent barrier: {int(self.arrived[slot, wait.number])} threads have arrived at barrier "
            f"{wait.number}, which waits for {needed}{where}",
        )
        assert isinstance(fault, DivergentBarrier)
        return fault


def end_of(decoder: Decoder, item: Instruction, following: int) -> Callable[[Frame], bool]:
    """`bar.sync a{, b}`, `bar.arrive a, b`, `barrier{.cta}.sync/.arrive{.aligned}`."""
    words = Modifiers(item)
    words.flag("cta")
    aligned = words.flag("aligned") or item.opcode[0] == "bar"
    waits = words.need("sync", "arrive") == "sync"
    words.done()
    if not item.operands or len(item.operands) > 2:
        raise unknown(item, "takes a barrier number and a count of threads")
    number = decoder.source(item.operands[0], KINDS["u32"])
    count = decoder.source(item.operands[1], KINDS["u32"]) if len(item.operands) == 2 else None
    is_fixed = not any(isinstance(x, Register) for x in item.operands)

    def end(f: Frame) -> bool:
        r = f.registers
        which, many = r[number], r[count] if count is not None else None
        if not is_fixed and ((which != which[0]).any() or (many is not None and (many != many[0]).any())):
            raise f.fault(
                DivergentBarrier, 0, item, "divergent barrier: its number or count differs between threads"
            )
        if which[0] >= NAMED:
            raise LaunchError(f"PTX line {item.line}: barrier {which[0]}; a block has {NAMED}")
        return f.batch.barriers.arrive(
            f, item, int(which[0]), int(many[0]) if many is not None else 0, waits, aligned, following
        )

    return end
