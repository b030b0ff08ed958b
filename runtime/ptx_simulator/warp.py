"""Instructions of a whole warp (PTX ISA, "shfl.sync", "vote.sync", "match.sync", "redux.sync", "elect.sync",
"activemask", "bar.warp.sync").

All threads that the member mask names, and that have not exited, must come to the instruction together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .decode import Decoder, Modifiers, instruction, unknown
from .errors import DivergentBarrier
from .executor import Frame, Registers
from .syntax import Instruction, Operand, Pair, Sink
from .types import BOOL, I64, KINDS, U32, Array

_B32 = KINDS["b32"]
_ONE = np.uint32(1)


def lane_numbers(f: Frame) -> Array:
    """Each thread's place in its warp."""
    return f.threads & 31


def warp_numbers(f: Frame) -> Array:
    """Each thread's warp, as a number in the batch."""
    per_block = -(-f.batch.threads // 32)
    return f.slots * per_block + (f.threads >> 5)


def warp_count(f: Frame) -> int:
    return f.batch.slots * -(-f.batch.threads // 32)


def ballot(f: Frame, values: Array) -> Array:
    """For each thread, a bit for each thread of its warp in the frame: whether its value is true."""
    warps = warp_numbers(f)
    bits = np.where(values, np.left_shift(1, lane_numbers(f)), 0)
    return np.bincount(warps, bits, warp_count(f)).astype(U32)[warps]


def check_members(f: Frame, item: Instruction, masks: Array) -> None:
    """DivergentBarrier unless all members are here."""
    lanes = lane_numbers(f).astype(U32)
    outside = (masks >> lanes) & _ONE == 0
    if outside.any():
        lane = int(np.flatnonzero(outside)[0])
        own = int(np.broadcast_to(masks, f.size)[lane])
        message = f"{item.name}: the thread is not in its own member mask {own:#010x}"
        raise f.fault(DivergentBarrier, lane, item, message)
    if f.is_whole:
        return
    batch = f.batch
    alive = np.flatnonzero(batch.alive)
    everyone = Frame(batch, [], alive, f.block, f.stop, None, None)
    living = np.bincount(
        warp_numbers(everyone), np.left_shift(1, lane_numbers(everyone)), warp_count(f)
    ).astype(U32)
    missing = masks & living[warp_numbers(f)] & ~ballot(f, np.ones(1, np.bool_))
    if missing.any():
        lane = int(np.flatnonzero(missing)[0])
        raise f.fault(
            DivergentBarrier,
            lane,
            item,
            f"divergent {item.name}: the member mask names lanes {_lanes(int(missing[lane]))} of the warp, which are "
            "elsewhere",
        )


def _lanes(mask: int) -> str:
    return ", ".join(str(k) for k in range(32) if mask >> k & 1)


def _source_lanes(mode: str, lanes: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """The lane each thread reads, and whether that is inside of its segment."""
    b, c = b.astype(I64) & 31, c.astype(I64)
    segment = (c >> 8) & 31
    clamp = c & 31
    highest = (lanes & segment) | (clamp & ~segment)
    if mode == "up":
        j = lanes - b
        inside = j >= highest
    else:
        j = {"down": lanes + b, "bfly": lanes ^ b, "idx": (lanes & segment) | (b & ~segment)}[mode]
        inside = j <= highest
    return np.where(inside, j, lanes), inside


def _both(operand: Operand) -> tuple[Operand, Operand]:
    return (operand.first, operand.second) if isinstance(operand, Pair) else (operand, Sink())


@instruction("shfl")
def shfl(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    words.need("sync")
    mode = words.need("up", "down", "bfly", "idx")
    if words.kind() is not _B32:
        raise unknown(item)
    words.done()
    first, second = _both(item.operands[0])
    a, b, c, mask = (d.source(x, _B32) for x in item.operands[1:5])
    to, inside = d.target(first, _B32), d.target(second, BOOL)

    def places(f: Frame, r: Registers) -> tuple[Array, Array]:
        """Which thread of the frame each thread reads."""
        lanes = lane_numbers(f)
        masks = r[mask].view(U32)
        check_members(f, item, masks)
        source, is_inside = _source_lanes(mode, lanes, r[b].view(U32), r[c].view(U32))
        threads = f.threads - lanes + source
        found = np.where(
            (threads < f.batch.threads),
            f.position[np.minimum(f.lanes - lanes + source, f.batch.lanes - 1)],
            -1,
        )
        absent = (found < 0) | ((masks >> source.astype(U32)) & _ONE == 0)
        if absent.any():
            lane = int(np.flatnonzero(absent)[0])
            raise f.fault(
                DivergentBarrier,
                lane,
                item,
                f"{item.name} reads lane {int(source[lane])} of the warp, which does not take part",
            )
        return found, is_inside

    def step(r: Registers, f: Frame) -> None:
        if r[b].size == r[c].size == r[mask].size == 1:
            key = (
                f"{mode} {r[b].view(U32)[0]} {r[c].view(U32)[0]} {r[mask].view(U32)[0]} {f.batch.any_exited}"
            )
            found = f.special.get(key)
            if found is None:
                place, is_inside = places(f, r)
                found = f.special[key] = np.stack([place, is_inside])
            place, is_inside = found[0], found[1].astype(np.bool_)
        else:
            place, is_inside = places(f, r)
        value = r[a]
        r[to] = value if value.size == 1 else value[place]
        r[inside] = is_inside

    d.emit(step)


@instruction("vote")
def vote(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    words.need("sync")
    mode = words.need("all", "any", "uni", "ballot")
    words.need("b32" if mode == "ballot" else "pred")
    words.done()
    number, negated = d.predicate(item.operands[1])
    mask = d.source(item.operands[2], _B32)
    to = d.target(item.operands[0], _B32 if mode == "ballot" else BOOL)

    def step(r: Registers, f: Frame) -> None:
        masks = r[mask].view(U32)
        check_members(f, item, masks)
        value = ~r[number] if negated else r[number]
        ayes = ballot(f, value) & masks
        if mode == "ballot":
            r[to] = ayes
            return
        here = ballot(f, np.ones(1, np.bool_)) & masks
        r[to] = {"all": ayes == here, "any": ayes != 0, "uni": (ayes == here) | (ayes == 0)}[mode]

    d.emit(step)


@instruction("activemask")
def activemask(d: Decoder, item: Instruction) -> None:
    to = d.target(item.operands[0], _B32)

    def step(r: Registers, f: Frame) -> None:
        r[to] = ballot(f, np.ones(1, np.bool_))

    d.emit(step)


@instruction("match")
def match(d: Decoder, item: Instruction) -> None:
    """`any`: the lanes with the same value. `all`: the mask if all have the same, else 0, and whether."""
    words = Modifiers(item)
    mode = words.need("any", "all")
    words.need("sync")
    kind = words.kind()
    words.done()
    first, second = _both(item.operands[0])
    a, mask = d.source(item.operands[1], kind), d.source(item.operands[2], _B32)
    to, same = d.target(first, _B32), d.target(second, BOOL)

    def step(r: Registers, f: Frame) -> None:
        masks = r[mask].view(U32)
        check_members(f, item, masks)
        value = np.broadcast_to(r[a].view(kind.storage), f.size)
        warps, lanes = warp_numbers(f), lane_numbers(f)
        table = np.zeros((warp_count(f), 32), kind.storage)
        table[warps, lanes] = value
        equal = np.zeros(f.size, U32)
        for lane in range(32):
            equal |= np.where(table[warps, lane] == value, _ONE << np.uint32(lane), np.uint32(0))
        here = ballot(f, np.ones(1, np.bool_)) & masks
        equal &= here
        everyone = equal == here
        r[to] = equal if mode == "any" else np.where(everyone, masks, np.uint32(0))
        r[same] = everyone

    d.emit(step)


_REDUCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}  # fmt: skip


@instruction("redux")
def redux(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    words.need("sync")
    reduce = _REDUCTIONS[words.need(*_REDUCTIONS)]
    kind = words.kind()
    words.done()
    if kind.is_float:
        raise unknown(item)
    a, mask, to = (
        d.source(item.operands[1], kind),
        d.source(item.operands[2], _B32),
        d.target(item.operands[0], kind),
    )

    def step(r: Registers, f: Frame) -> None:
        masks = np.broadcast_to(r[mask].view(U32), f.size)
        check_members(f, item, masks)
        warps, lanes = warp_numbers(f), lane_numbers(f)
        table = np.zeros((warp_count(f), 32), kind.view)
        table[warps, lanes] = r[a].view(kind.view)
        here = ballot(f, np.ones(1, np.bool_)) & masks
        started = np.zeros(f.size, np.bool_)
        total = np.zeros(f.size, kind.view)
        for lane in range(32):
            takes = (here >> np.uint32(lane)) & _ONE == 1
            value = table[warps, lane]
            total = np.where(takes, np.where(started, reduce(total, value), value), total)
            started |= takes
        r[to] = total

    d.emit(step)


@instruction("elect")
def elect(d: Decoder, item: Instruction) -> None:
    """The lowest lane of the mask is the leader."""
    words = Modifiers(item)
    words.need("sync")
    words.done()
    first, second = _both(item.operands[0])
    mask = d.source(item.operands[1], _B32)
    to, is_leader = d.target(first, _B32), d.target(second, BOOL)

    def step(r: Registers, f: Frame) -> None:
        masks = r[mask].view(U32)
        check_members(f, item, masks)
        here = ballot(f, np.ones(1, np.bool_)) & masks
        lowest = here & (~here + _ONE)
        leader = np.round(np.log2(np.maximum(lowest, 1))).astype(U32)
        r[to] = leader
        r[is_leader] = leader == lane_numbers(f)

    d.emit(step)


@instruction("bar.warp")
def warp_barrier(d: Decoder, item: Instruction) -> None:
    """Orders memory between the warp's threads. Races are not looked for across it (it counts as a barrier of the
    block there), so that there are no false alarms."""
    words = Modifiers(item, 2)
    words.need("sync")
    words.done()
    mask = d.source(item.operands[0], _B32)

    def step(r: Registers, f: Frame) -> None:
        check_members(f, item, r[mask].view(U32))
        f.batch.interval[f.slots] += np.uint64(1)
        f.batch.barriers.passed += 1

    d.emit(step)
