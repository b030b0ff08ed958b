"""Blocks that wait for each other at a word of global memory, in launches whose blocks are all there at once.

Each block adds to the word (`atom.acq_rel.gpu`) and loads it (`ld.acquire.gpu`) until all have come. A load that finds
what it found before waits until the word changes, so that whoever is to change it gets to run. When every block of the
launch has added, all that was done before is in order with what follows; what a block does between its adding and a
load behind the last one's is in order with nothing, and is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from . import access
from .decode import Decoder
from .errors import Race
from .loads import address_value, read_address
from .syntax import Instruction
from .types import KINDS, U32, Array

if TYPE_CHECKING:
    from .executor import Frame


def is_poll(item: Instruction) -> bool:
    """Whether threads may wait at this load for what another block writes."""
    return item.opcode[0] == "ld" and "acquire" in item.opcode and not {"gpu", "sys"}.isdisjoint(item.opcode)


class Meetings:
    """Who has come to which word, of the blocks of one launch."""

    def __init__(self, blocks: int, threads: int):
        self._arrived: dict[int, Array] = {}  # by address, since all were there last
        self._meeting = np.zeros(blocks, np.int64)  # the word at which a block waits; 0 for none
        # The interval in which other threads than the first wrote last.
        self._wrote = np.full(blocks, -1, np.int64)
        self._seen = np.full(blocks * threads, -1, np.int64)  # by thread: what its latest load found
        self.forget: Callable[[], None] = lambda: None  # what came before is in order with all that follows

    def arrive(self, f: Frame, item: Instruction, addresses: Array) -> None:
        """These threads add to the words."""
        intervals = f.batch.interval[f.slots].astype(np.int64)
        early = np.flatnonzero(self._wrote[f.slots] == intervals)
        if f.batch.launch.check_races and len(early):
            raise f.fault(
                Race,
                int(early[0]),
                item,
                "the block comes to the others while its threads still write, with no barrier between",
            )
        for address in np.unique(addresses).tolist():
            arrived = self._arrived.setdefault(address, np.zeros(len(self._meeting), np.bool_))
            slots = f.slots[addresses == address]
            arrived[slots] = True
            self._meeting[slots] = address
            if arrived.all():
                arrived[:] = False
                self.forget()

    def wrote(self, f: Frame) -> None:
        """These threads write global memory."""
        others = f.threads != 0
        slots = f.slots[others]
        self._wrote[slots] = f.batch.interval[slots].astype(np.int64)

    def check(self, f: Frame, item: Instruction) -> None:
        """Fault where these threads use global memory, and their block has come but not waited."""
        waiting = np.flatnonzero(self._meeting[f.slots])
        if len(waiting):
            how = "the block has come to the others, and did not wait for them"
            raise f.fault(Race, int(waiting[0]), item, how)

    def loaded(self, f: Frame, addresses: Array, found: Array) -> bool:
        """Note what a load found; whether that is new to one of the threads."""
        for address in np.unique(addresses).tolist():
            slots = f.slots[addresses == address]
            arrived = self._arrived.get(address)
            here = slots[self._meeting[slots] == address]
            if arrived is not None and len(here):
                # Who waits has arrived; once all were there, nobody has.
                self._meeting[here[~arrived[here]]] = 0
        values = found.astype(np.int64)
        new = bool((self._seen[f.lanes] != values).any())
        self._seen[f.lanes] = values
        return new


def poll_end(decoder: Decoder, item: Instruction, following: int) -> Callable[[Frame], bool]:
    """`ld.acquire.gpu` as the end of a block."""
    decoder.decode(item)
    number, offset = read_address(decoder, item.operands[1], "")
    value = decoder.source(item.operands[0], KINDS["u32"])

    def end(f: Frame) -> bool:
        meetings = f.batch.launch.meetings
        if meetings is None:
            return f.go(following)
        addresses = np.broadcast_to(address_value(f.registers, number, offset), f.size)
        found = np.broadcast_to(f.registers[value].view(U32), f.size)
        if meetings.loaded(f, addresses, found):
            return f.go(following)

        def is_over() -> bool:
            index = access.indices(access.locate(f, item, "global", addresses, 4), 4)
            return bool((f.batch.launch.memory.words[4].take(index) != found).any())

        f.batch.barriers.polling.append((f, item, is_over, lambda: f.go(following)))
        return False

    return end
