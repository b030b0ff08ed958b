"""How blocks end: branches, exits, traps, barriers (PTX ISA, "Control Flow Instructions")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import barriers, mbarriers, meetings
from .control_flow import Block
from .decode import Decoder, unknown
from .errors import Trapped
from .executor import Frame
from .types import BOOL, KINDS, Array

End = Callable[[Frame], bool]


def end_of(decoder: Decoder, block: Block) -> End:
    """The block's terminator; its reads are noted as the decoded block's last."""
    item = block.terminator
    if item is None:
        return _jump(block.successors[0])
    decoder.item = item
    match item.opcode[0]:
        case "bra":
            end = _branch(decoder, block)
        case "brx":
            end = _table(decoder, block)
        case "ret" | "exit":
            end = Frame.exit
        case "trap":

            def end(f: Frame) -> bool:
                raise f.fault(Trapped, 0, item, "the kernel executed trap")
        case "mbarrier":
            end = mbarriers.wait_end(decoder, item, block.successors[0])
        case "ld":
            end = meetings.poll_end(decoder, item, block.successors[0])
        case _:
            end = barriers.end_of(decoder, item, block.successors[0])
    decoder.block.uses.append(decoder.take_uses())
    return end


def _jump(target: int) -> End:
    def end(f: Frame) -> bool:
        return f.go(target)

    return end


def _branch(decoder: Decoder, block: Block) -> End:
    item = block.terminator
    assert item is not None
    if set(item.opcode[1:]) - {"uni"}:
        raise unknown(item)
    if item.guard is None:
        return _jump(block.successors[0])
    number = decoder.source(item.guard, BOOL)
    taken, following = block.successors
    if item.guard_negated:
        taken, following = following, taken
    meeting = block.post_dominator

    def end(f: Frame) -> bool:
        condition: Array = f.registers[number]
        count = np.count_nonzero(condition)
        if count == condition.size:
            return f.go(taken)
        if count == 0:
            return f.go(following)
        if taken == following:
            return f.go(taken)
        return f.split([(following, np.flatnonzero(~condition)), (taken, np.flatnonzero(condition))], meeting)

    return end


def _table(decoder: Decoder, block: Block) -> End:
    item = block.terminator
    assert item is not None
    number = decoder.source(item.operands[0], KINDS["u32"])
    targets = np.array(block.successors)
    meeting = block.post_dominator

    def end(f: Frame) -> bool:
        index = f.registers[number].view(np.uint32)
        chosen = targets[np.minimum(index, len(targets) - 1)]
        if (chosen == chosen[0]).all():
            return f.go(int(chosen[0]))
        groups = [(int(t), np.flatnonzero(chosen == t)) for t in np.unique(chosen)]
        return f.split(groups, meeting)

    return end
