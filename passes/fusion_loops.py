"""Loops that read one another become one, and what joins their results is stored by them.

A node joins one of the groups it reads from (`fusion.py`); the others are left beside it, though a kernel over the same
space could hold them too. And a concatenation of arrays that one kernel computes is that kernel's stores, each at its
place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir.graph import Node
from .fusion_build import Group
from .fusion_index import Space
from .fusion_partition import Partition, Reason

# Why a group cannot have these nodes as well; None if it can.
WhyNotHold = Callable[[Group, Sequence[Node]], Reason | None]


def joins(node: Node, space: Space) -> bool:
    """Whether the node puts arrays of the space side by side: a kernel over the space stores them where they belong."""
    return (
        node.op.name == "concat"
        and len(node.inputs) > 1
        and all(v.type.shape == space.shape for v in node.inputs)
    )


def merge_dependent_loops(p: Partition, why_not_hold: WhyNotHold) -> None:
    """Loops over one space of which one reads the other's results where it stands."""
    refused: set[tuple[Group, Group, int, int]] = set()
    merged = True
    while merged:
        merged = False
        for group in [g for g in p.groups if g.kind == "loop"]:
            if group not in p.spaces:  # part of another by now
                continue
            sources = {p.group_of[s]: s for n in group.nodes for s in p.sources(n) if s in p.group_of}
            for source, link in sources.items():
                attempt = (source, group, len(source.nodes), len(group.nodes))
                same = source.kind == "loop" and p.spaces[source].shape == p.spaces[group].shape
                if source is group or not same or attempt in refused:
                    continue
                reason = why_not_hold(source, group.nodes)
                if reason is None:
                    p.merge(source, group)
                    merged = True
                    break
                refused.add(attempt)
                p.refuse(link, group.nodes[0], reason)


def join_concatenations(p: Partition, why_not_hold: WhyNotHold) -> None:
    """A concatenation goes to the loop that computes what it joins."""
    for group in [g for g in p.groups if g.kind == "loop" and len(g.nodes) == 1]:
        (node,) = group.nodes
        for source in dict.fromkeys(p.group_of[s] for s in p.sources(node) if s in p.group_of):
            if source is group or source.kind != "loop" or not joins(node, p.spaces[source]):
                continue
            if why_not_hold(source, [node]) is None:
                p.merge(source, group)
                break
