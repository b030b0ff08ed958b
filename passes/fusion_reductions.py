"""Reductions over the same rows become one kernel, with what stands between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.dims import DimLike
from ..ir.graph import Node
from .fusion_build import Group
from .fusion_index import Space
from .fusion_legality import why_not_hold
from .fusion_partition import Partition, Reason


def merge_reductions(p: Partition) -> None:
    """The largest first: small ones must not stand in the way of a pass over a large array less."""
    groups = [g for g in p.groups if g.kind == "reduce"]
    groups.sort(key=lambda g: (-p.numel_of(p.spaces[g].shape), p.position[g.nodes[0]]))
    links = Links(p)
    # A pair that was refused is tried again when one of the two has grown.
    refused: set[tuple[Group, Group, int, int]] = set()
    merged = True
    while merged:
        merged = False
        into: dict[Group, Group] = {}
        for first, second, link in links.among(groups):
            first, second = _root(into, first), _root(into, second)
            attempt = (first, second, len(first.nodes), len(second.nodes))
            if first is second or attempt in refused:
                continue
            reason: Reason | None = Reason.DIFFERENT_REDUCTION
            if p.spaces[first] == p.spaces[second]:
                reason = why_not_hold(p, first, second.nodes)
            if reason is not None:
                p.refuse(*link, reason)
                refused.add(attempt)
                continue
            p.merge(first, second)
            into[second] = first
            groups.remove(second)
            merged = True


def _root(into: Mapping[Group, Group], group: Group) -> Group:
    """The group that this one has become part of."""
    while group in into:
        group = into[group]
    return group


class Links:
    """Which groups over one space belong together. What nodes read is remembered: merging groups does not change it."""

    def __init__(self, p: Partition):
        self.partition = p
        self._found: dict[tuple[Node, DimLike], tuple[list[Node], set[str]]] = {}

    def between(self, first: Group, second: Group) -> bool:
        """Whether one reads from the other, or both from the same array."""
        return bool(self.among([first, second]))

    def among(self, groups: Sequence[Group]) -> list[tuple[Group, Group, tuple[Node, Node]]]:
        """The pairs of groups of which one reads from the other, or both from the same array, in the order of the
        groups; with each pair a node of one and one of the other to tell it by."""
        p = self.partition
        rank = {group: i for i, group in enumerate(groups)}
        found: dict[tuple[int, int], tuple[Node, Node]] = {}
        readers: dict[str, list[tuple[int, Node]]] = {}
        for i, group in enumerate(groups):
            for node in group.nodes:
                sources, arrays = self._reads_of_space(node, p.spaces[group])
                for source in sources:
                    j = rank.get(p.group_of.get(source, group), i)
                    if j != i:
                        found.setdefault((min(i, j), max(i, j)), (source, node))
                for name in arrays:
                    readers.setdefault(name, []).append((i, node))
        for entries in readers.values():
            for at, (i, node) in enumerate(entries):
                for j, other in entries[at + 1 :]:
                    if i != j:
                        found.setdefault((i, j), (node, other))
        return [(groups[i], groups[j], found[i, j]) for i, j in sorted(found)]

    def _reads_of_space(self, node: Node, space: Space) -> tuple[list[Node], set[str]]:
        """The nodes that a node reads from and the arrays of the space."""
        key = (node, space.numel)
        if key not in self._found:
            self._found[key] = (self.partition.sources(node), self._arrays_of_space(node, space))
        return self._found[key]

    def _arrays_of_space(self, node: Node, space: Space) -> set[str]:
        """The arrays as large as the space that a node reads, through nodes that are inlined or not yet
        placed."""
        p = self.partition
        found: set[str] = set()
        seen: set[Node] = set()
        stack = list(node.inputs)
        while stack:
            value = stack.pop()
            inner = p.producer.get(value)
            if inner is not None and inner not in p.group_of:
                if inner not in seen:
                    seen.add(inner)
                    stack.extend(inner.inputs)
            elif value.type.numel == space.numel:
                found.add(value.name)
        return found
