"""Copies from global to shared memory that go on by themselves (PTX ISA, "Asynchronous copy": cp.async,
cp.async.commit_group, cp.async.wait_group, cp.async.wait_all).

A copy's bytes are read when it is issued and written when its thread waits for it: a kernel that looks earlier gets a
`Race`, as does one that looks at other threads' copies without a barrier behind the wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import access, races
from .decode import Decoder, Modifiers, instruction, unknown
from .errors import Misaligned
from .executor import Batch, Frame, Registers
from .loads import address_value, read_address
from .syntax import Immediate, Instruction, Register
from .types import I64, KINDS, U32, Array


@dataclass
class Copy:
    """One instruction's copies that have not been waited for."""

    item: Instruction
    lanes: Array
    groups: Array  # of each lane: the number of its group
    addresses: Array  # in shared memory
    words: list[Array]


@dataclass
class Copies:
    """The copies under way in a batch, and how many groups each lane has committed."""

    committed: Array
    pending: list[Copy] = field(default_factory=list)


def copies_of(batch: Batch) -> Copies:
    if "cp.async" not in batch.states:
        batch.states["cp.async"] = Copies(np.zeros(batch.lanes, np.int64))
    found = batch.states["cp.async"]
    assert isinstance(found, Copies)
    return found


@instruction("cp.async")
def cp_async(d: Decoder, item: Instruction) -> None:
    """`cp.async.ca|cg.shared.global [to], [from], size{, bytes}`: what lies behind `bytes` is filled with zeros."""
    words = Modifiers(item, 2)
    words.words = [w for w in words.words if not w.startswith("L2::")]
    cache = words.need("ca", "cg")
    if not words.flag("shared", "shared::cta", "shared::cluster") or not words.flag("global"):
        raise unknown(item)
    words.done()
    size_operand = item.operands[2]
    if not isinstance(size_operand, Immediate) or size_operand.value not in (
        (16,) if cache == "cg" else (4, 8, 16)
    ):
        raise unknown(item, "the size must be 4, 8 or 16 (16 with .cg)")
    size = int(size_operand.value)
    to, to_offset = read_address(d, item.operands[0], "shared")
    source, source_offset = read_address(d, item.operands[1], "global")
    part = None
    if len(item.operands) > 3:
        last = item.operands[3]
        if isinstance(last, Register) and d.storage(last) is KINDS["pred"]:
            raise unknown(item, "ignore-src is not supported")
        part = d.source(last, KINDS["u32"])

    def step(r: Registers, f: Frame) -> None:
        targets = np.broadcast_to(address_value(r, to, to_offset), f.size)
        sources = np.broadcast_to(address_value(r, source, source_offset), f.size)
        if (sources & np.uint64(size - 1)).any():
            lane = int(np.flatnonzero(sources & np.uint64(size - 1))[0])
            raise f.fault(
                Misaligned, lane, item, f"misaligned source of {size} bytes at 0x{int(sources[lane]):x}"
            )
        if part is None:
            values = access.read(f, item, "global", sources, 4, size // 4)
        else:
            counts = np.broadcast_to(r[part].view(U32).astype(I64), f.size)
            values = _partial(f, item, sources, counts, size)
        races.begin_copy(f, item, targets, access.locate(f, item, "shared", targets, size), size)
        copies = copies_of(f.batch)
        copies.pending.append(Copy(item, f.lanes, copies.committed[f.lanes], targets, values))

    d.emit(step)


def _partial(f: Frame, item: Instruction, sources: Array, counts: Array, size: int) -> list[Array]:
    """The first `counts` bytes, then zeros."""
    data = np.zeros((f.size, size), np.uint8)
    for byte in range(size):
        chosen = np.flatnonzero(counts > byte)
        if len(chosen):
            part = Frame(f.batch, [], f.lanes[chosen], f.block, f.stop, None, None)
            data[chosen, byte] = access.read(part, item, "global", sources[chosen] + np.uint64(byte), 1, 1)[0]
    words = data.view(U32)
    return [np.ascontiguousarray(words[:, k]) for k in range(size // 4)]


@instruction("cp.async.commit_group")
def commit_group(d: Decoder, item: Instruction) -> None:
    def step(r: Registers, f: Frame) -> None:
        copies_of(f.batch).committed[f.lanes] += 1

    d.emit(step)


@instruction("cp.async.wait_group", "cp.async.wait_all")
def wait_group(d: Decoder, item: Instruction) -> None:
    """Wait until at most N of the thread's last groups are under way."""
    everything = item.opcode[2] == "wait_all"
    left = 0
    if not everything:
        operand = item.operands[0]
        if not isinstance(operand, Immediate):
            raise unknown(item, "the number of groups must be a constant")
        left = int(operand.value)

    def step(r: Registers, f: Frame) -> None:
        copies = copies_of(f.batch)
        if everything:
            copies.committed[f.lanes] += 1
        waits = np.full(f.batch.lanes, -1, np.int64)
        waits[f.lanes] = copies.committed[f.lanes] - left
        kept = []
        for copy in copies.pending:
            done = copy.groups < waits[copy.lanes]
            if done.any():
                _finish(f, copy, np.flatnonzero(done))
                left_over = np.flatnonzero(~done)
                if not len(left_over):
                    continue
                copy = Copy(
                    copy.item,
                    copy.lanes[left_over],
                    copy.groups[left_over],
                    copy.addresses[left_over],
                    [x if x.size == 1 else x[left_over] for x in copy.words],
                )
            kept.append(copy)
        copies.pending = kept

    d.emit(step)


def _finish(f: Frame, copy: Copy, chosen: Array) -> None:
    part = Frame(f.batch, [], copy.lanes[chosen], f.block, f.stop, None, None)
    addresses = copy.addresses[chosen]
    nbytes = 4 * len(copy.words)
    races.end_copy(part, access.locate(part, copy.item, "shared", addresses, nbytes), nbytes)
    values = [x if x.size == 1 else x[chosen] for x in copy.words]
    access.write(part, copy.item, "shared", addresses, 4, values)
