"""A node joins the group of what it reads, or of what reads it."""

from __future__ import annotations

from collections.abc import Collection

from ..ir.graph import Node
from .fusion_build import Group
from .fusion_inline import why_not_inline
from .fusion_kinds import ALONE, space_of
from .fusion_legality import why_not_hold
from .fusion_partition import Partition, Reason


def join_producers(p: Partition, kinds: Collection[str], scalars: bool = True) -> None:
    """Nodes go to groups of these kinds that they read from, the last first; where loops are among the kinds, to loops
    of their own otherwise."""
    for node in p.unplaced:
        if not scalars and p.numel(node) == 1:
            continue
        groups = {p.group_of[s]: s for s in p.sources(node) if s in p.group_of}
        for group, source in sorted(
            groups.items(), key=lambda pair: p.position[pair[0].nodes[-1]], reverse=True
        ):
            if group.kind not in kinds:
                continue
            reason = _why_not_join(p, group, node)
            if reason is None:
                p.place(node, group)
                break
            p.refuse(source, node, reason)
        else:
            if "loop" in kinds:
                p.add_group("loop", node, space_of(node))


def _why_not_join(p: Partition, group: Group, node: Node) -> Reason | None:
    if node.op.lowering != "pointwise" and group.kind != "loop":
        return Reason.KIND
    if not p.spaces[group].holds(node.outputs[0]):
        return Reason.DIFFERENT_SPACE
    return why_not_hold(p, group, [node])


def join_consumers(p: Partition, cheap: int) -> None:
    """Nodes go to the one group that reads them, or are computed by each reader anew."""
    for node in reversed(p.unplaced):
        readers = p.consumers(node)
        if not readers or node.op.lowering not in ("pointwise", "view"):
            continue
        units = {p.group_of.get(r, r) for r in readers}
        (unit, *others) = units
        if not others and isinstance(unit, Group):
            reason = _why_not_feed(p, unit, node)
            if reason is None:
                p.place(node, unit)
                continue
        else:
            reason = Reason.CONSUMER_OUTSIDE
        blocked = why_not_inline(p, node, readers, cheap)
        if blocked is None:
            p.inline(node)
            continue
        for reader in readers:
            p.refuse(node, reader, blocked if reason is Reason.CONSUMER_OUTSIDE else reason)


def _why_not_feed(p: Partition, group: Group, node: Node) -> Reason | None:
    if group.kind in ALONE or node.op.lowering != "pointwise":
        return Reason.KIND
    if group.kind in ("contraction", "window") and group.anchor in p.consumers(node):
        return Reason.OPERAND_IN_MEMORY
    if not p.spaces[group].holds(node.outputs[0]):
        return Reason.DIFFERENT_SPACE
    return why_not_hold(p, group, [node])
