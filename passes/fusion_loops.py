"""Loops that read one another become one, what joins their results is stored by them, and small ones lie side by side.

A node joins one of the groups it reads from (`fusion_join.py`); the others are left beside it, though a kernel over the
same space could hold them too. And a concatenation of arrays that one kernel computes is that kernel's stores, each at
its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from .fusion_build import Group
from .fusion_kinds import joins
from .fusion_legality import result_count, why_not_hold
from .fusion_partition import Partition


def merge_dependent_loops(p: Partition) -> None:
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
                reason = why_not_hold(p, source, group.nodes)
                if reason is None:
                    p.merge(source, group)
                    merged = True
                    break
                refused.add(attempt)
                p.refuse(link, group.nodes[0], reason)


def join_concatenations(p: Partition) -> None:
    """A concatenation goes to the loop that computes what it joins."""
    for group in [g for g in p.groups if g.kind == "loop" and len(g.nodes) == 1]:
        (node,) = group.nodes
        for source in dict.fromkeys(p.group_of[s] for s in p.sources(node) if s in p.group_of):
            if source is group or source.kind != "loop" or not joins(node, p.spaces[source]):
                continue
            if why_not_hold(p, source, [node]) is None:
                p.merge(source, group)
                break


def merge_small_loops(p: Partition, merge_below: int) -> None:
    """Independent small loops become one kernel, so that an optimizer's step is not a launch per
    parameter. What reads the graph's inputs alone, such as a step's bias corrections, waits for nothing else: what
    waits for it in turn would hold its operands in memory for as long."""
    loops = [g for g in p.groups if g.kind == "loop" and p.numel_of(p.spaces[g].shape) <= merge_below]
    of_inputs = {g for g in loops if all(p.group_of.get(s) is g for n in g.nodes for s in p.sources(n))}
    for side in (of_inputs, set(loops) - of_inputs):
        _merge_side_by_side(p, [g for g in loops if g in side])


def _merge_side_by_side(p: Partition, loops: Sequence[Group]) -> None:
    current: Group | None = None
    for group in loops:
        if current is None:
            current = group
            continue
        members = {*current.nodes, *group.nodes}
        if (
            len(members) <= p.max_nodes
            and result_count(p, members) <= 2 * p.max_outputs
            and not _depend(p, current, group)
            and not p.creates_cycle(members)
        ):
            p.merge(current, group)
        else:
            current = group


def _depend(p: Partition, first: Group, second: Group) -> bool:
    pairs = ((first, second), (second, first))
    return any(p.group_of.get(s) is a for a, b in pairs for n in b.nodes for s in p.sources(n))
