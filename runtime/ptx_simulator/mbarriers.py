"""Barriers in shared memory that count arrivals and bytes, and the bulk copies that report to them (PTX ISA, "Parallel
Synchronization and Communication Instructions: mbarrier", "Asynchronous copy: cp.async.bulk").

A phase of an mbarrier is over when as many threads have arrived as it was initialised for and no bytes are
outstanding. A bulk copy's bytes are read when it is issued and written when somebody waits for its mbarrier; looking
earlier is a `Race`. Waiting instructions do not poll here: the frame lets the others run until the phase is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import access, races
from .decode import Decoder, Modifiers, instruction, unknown
from .errors import DivergentBarrier, Misaligned
from .executor import Batch, Frame, Registers
from .loads import address_value, read_address
from .syntax import Address, Instruction
from .types import BOOL, I64, KINDS, U32, U64, Array

_SHARED = ("shared", "shared::cta", "shared::cluster")
_U64, _U32 = KINDS["b64"], KINDS["u32"]


@dataclass
class BulkCopy:
    """A copy on its way: a thread's, into shared memory, 16 bytes to each address."""

    item: Instruction
    lane: int
    addresses: Array
    data: Array


@dataclass
class MBarrier:
    """One mbarrier object."""

    count: int
    left: int
    phase: int = 0
    bytes_left: int = 0
    copies: list[BulkCopy] = field(default_factory=list)

    def settle(self) -> None:
        """End the phase if everything has arrived."""
        if self.left == 0 and self.bytes_left == 0:
            self.phase += 1
            self.left = self.count


def _objects(batch: Batch) -> dict[int, MBarrier]:
    found = batch.states.setdefault("mbarrier", {})
    assert isinstance(found, dict)
    return found


def positions(f: Frame, item: Instruction, addresses: Array) -> Array:
    """Which mbarriers these are, in the batch."""
    addresses = np.broadcast_to(addresses, f.size)
    return access.locate(f, item, "shared", addresses, 8).view(np.int64)


def _object(f: Frame, item: Instruction, position: int, lane: int) -> MBarrier:
    found = _objects(f.batch).get(position)
    if found is None:
        raise f.fault(DivergentBarrier, lane, item, "the mbarrier has not been initialised")
    return found


def _take_space(words: Modifiers) -> None:
    words.flag("release", "acquire", "relaxed")
    words.flag("cta", "cluster")
    words.flag(*_SHARED)
    if words.words != ["b64"]:
        raise unknown(words.item)


@instruction("mbarrier.init")
def init(d: Decoder, item: Instruction) -> None:
    _take_space(Modifiers(item, 2))
    number, offset = read_address(d, item.operands[0], "shared")
    count = d.source(item.operands[1], _U32)

    def step(r: Registers, f: Frame) -> None:
        addresses = address_value(r, number, offset)
        access.write(f, item, "shared", addresses, 8, [np.zeros(1, np.uint64)])
        counts = np.broadcast_to(r[count].view(U32), f.size)
        for position, many in zip(positions(f, item, addresses), counts, strict=True):
            _objects(f.batch)[int(position)] = MBarrier(int(many), int(many))

    d.emit(step)


@instruction("mbarrier.inval")
def invalidate(d: Decoder, item: Instruction) -> None:
    _take_space(Modifiers(item, 2))
    number, offset = read_address(d, item.operands[0], "shared")

    def step(r: Registers, f: Frame) -> None:
        for position in positions(f, item, address_value(r, number, offset)):
            _objects(f.batch).pop(int(position), None)

    d.emit(step)


@instruction("mbarrier.arrive", "mbarrier.arrive_drop", "mbarrier.expect_tx", "mbarrier.complete_tx")
def arrive(d: Decoder, item: Instruction) -> None:
    """`mbarrier.arrive{.expect_tx} state, [address]{, count or bytes}`, `mbarrier.expect_tx [address], bytes`."""
    words = Modifiers(item, 2)
    name = item.opcode[1]
    if words.flag("noComplete"):
        raise unknown(item)
    expects = words.flag("expect_tx") or name == "expect_tx"
    arrives = name in ("arrive", "arrive_drop")
    _take_space(words)
    operands = item.operands
    state = (
        d.target(operands[0], _U64)
        if arrives and len(operands) > 1 and not isinstance(operands[0], Address)
        else None
    )
    place = operands[1] if state is not None else operands[0]
    rest = operands[2 if state is not None else 1 :]
    number, offset = read_address(d, place, "shared")
    amount = d.source(rest[0], _U32) if rest else None

    def step(r: Registers, f: Frame) -> None:
        addresses = np.broadcast_to(address_value(r, number, offset), f.size)
        access.atomic_words(f, item, "shared", addresses, 8)
        amounts = np.broadcast_to(r[amount].view(U32), f.size) if amount is not None else np.ones(f.size, U32)
        phases = np.zeros(f.size, np.uint64)
        for lane, position in enumerate(positions(f, item, addresses)):
            barrier = _object(f, item, int(position), lane)
            phases[lane] = barrier.phase
            many = int(amounts[lane])
            if expects:
                barrier.bytes_left += many
            elif name == "complete_tx":
                barrier.bytes_left -= many
            if arrives:
                arriving = 1 if expects else many
                if arriving > barrier.left:
                    message = f"{arriving} arrivals at an mbarrier that waits for {barrier.left} more"
                    raise f.fault(DivergentBarrier, lane, item, message)
                barrier.left -= arriving
                barrier.count -= name == "arrive_drop"
            barrier.settle()
        if state is not None:
            r[state] = phases

    d.emit(step)


def wait_end(d: Decoder, item: Instruction, following: int) -> Callable[[Frame], bool]:
    """`mbarrier.test_wait` and `try_wait`, by the state an arrival gave or by the phase's parity: they end a block."""
    words = Modifiers(item, 2)
    by_parity = words.flag("parity")
    _take_space(words)
    to = d.target(item.operands[0], BOOL)
    number, offset = read_address(d, item.operands[1], "shared")
    goal = d.source(item.operands[2], _U32 if by_parity else _U64)

    def end(f: Frame) -> bool:
        r = f.registers
        addresses = np.broadcast_to(address_value(r, number, offset), f.size)
        places = positions(f, item, addresses)
        goals = np.broadcast_to(r[goal].view(U32 if by_parity else U64), f.size).astype(I64)
        pairs = np.unique(np.stack([places, goals], 1), axis=0)

        def is_over() -> bool:
            over = True
            for position, wanted in pairs:
                barrier = _object(f, item, int(position), 0)
                _land(f.batch, barrier)
                over &= barrier.phase % 2 != wanted & 1 if by_parity else barrier.phase > wanted
            return over

        def go_on() -> bool:
            r[to] = np.ones(1, np.bool_)
            f.batch.interval[np.unique(f.slots)] += np.uint64(1)
            f.batch.barriers.passed += 1
            return f.go(following)

        if is_over():
            return go_on()
        f.batch.barriers.polling.append((f, item, is_over, go_on))
        return False

    return end


def _land(batch: Batch, barrier: MBarrier) -> None:
    """Finish the copies that report to an mbarrier."""
    for copy in barrier.copies:
        one = _pieces(batch, copy.lane, len(copy.addresses))
        races.end_copy(one, access.locate(one, copy.item, "shared", copy.addresses, 16), 16)
        words = copy.data.view(U32).reshape(-1, 4)
        values = [np.ascontiguousarray(words[:, k]) for k in range(4)]
        access.write(one, copy.item, "shared", copy.addresses, 4, values)
        barrier.bytes_left -= len(copy.data)
    if barrier.copies:
        barrier.copies = []
        barrier.settle()


def _pieces(batch: Batch, lane: int, count: int) -> Frame:
    """One thread, as often as it has pieces of 16 bytes to move."""
    return Frame(batch, [], np.full(count, lane), 0, -1, None, None)


def bring(f: Frame, item: Instruction, position: int, lane: int, addresses: Array, data: Array) -> None:
    """Bytes are on their way to shared memory, 16 to each address, and will be counted by the mbarrier there."""
    one = _pieces(f.batch, int(f.lanes[lane]), len(addresses))
    races.begin_copy(one, item, addresses, access.locate(one, item, "shared", addresses, 16), 16)
    barrier = _object(f, item, position, lane)
    barrier.copies.append(BulkCopy(item, int(f.lanes[lane]), addresses, data))


@instruction("cp.async.bulk")
def bulk_copy(d: Decoder, item: Instruction) -> None:
    """`cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [to], [from], bytes, [mbarrier]`, and
    `cp.async.bulk.global.shared::cta.bulk_group [to], [from], bytes`, whose bytes arrive at once."""
    words = Modifiers(item, 3)
    if words.words and words.words[0] in _SHARED and words.flag("global"):
        words.flag(*_SHARED)
        if not words.flag("mbarrier::complete_tx::bytes"):
            raise unknown(item)
        inward = True
    elif words.flag("global") and words.flag(*_SHARED) and words.flag("bulk_group"):
        inward = False
    else:
        raise unknown(item)
    words.done()
    to, to_offset = read_address(d, item.operands[0], "shared" if inward else "global")
    source, source_offset = read_address(d, item.operands[1], "global" if inward else "shared")
    size = d.source(item.operands[2], _U32)
    place, place_offset = read_address(d, item.operands[3], "shared") if inward else (to, 0)

    def step(r: Registers, f: Frame) -> None:
        targets = np.broadcast_to(address_value(r, to, to_offset), f.size)
        sources = np.broadcast_to(address_value(r, source, source_offset), f.size)
        sizes = np.broadcast_to(r[size].view(U32), f.size)
        marks = positions(f, item, address_value(r, place, place_offset)) if inward else targets
        for lane in range(f.size):
            count = int(sizes[lane])
            if count % 16 or (int(targets[lane]) | int(sources[lane])) % 16:
                message = f"a bulk copy of {count} bytes: size and addresses must be multiples of 16"
                raise f.fault(Misaligned, lane, item, message)
            if not count:
                continue
            one = _pieces(f.batch, int(f.lanes[lane]), count // 16)
            at = np.arange(0, count, 16, dtype=np.uint64)
            here, there = targets[lane] + at, sources[lane] + at
            words = access.read(one, item, "global" if inward else "shared", there, 4, 4)
            if inward:
                bring(f, item, int(marks[lane]), lane, here, np.stack(words, 1).view(np.uint8).reshape(-1))
            else:
                access.write(one, item, "global", here, 4, words)

    d.emit(step)


@instruction("cp.async.bulk.commit_group", "cp.async.bulk.wait_group")
def bulk_group(d: Decoder, item: Instruction) -> None:
    """Copies to global memory have arrived already."""
    d.emit(lambda r, f: None)
