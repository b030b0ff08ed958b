"""Depthwise convolutions compute their image as they copy it.

A depthwise convolution copies each image inside a border of zeros when its turn comes (`codegen/lower/borders.py`), and
so does its weight gradient. What a normalization and an activation make of the image before need not be in memory then:
the copies read what the normalization read, and what it found.
"""

from __future__ import annotations

from ..ir.graph import Node
from .fusion_build import Group
from .fusion_legality import fits, makes_image
from .fusion_partition import Partition
from .fusion_traffic import MIN_ELEMENTS, traffic

# Operations for an element: a normalization and a ReLU6 take 6. Writing a vector of a large array and reading it back
# takes about twenty cycles.
MAX_COST = 12


def join_prologues(p: Partition) -> None:
    """Let convolutions compute images where that moves fewer bytes than writing them."""
    for node in reversed(p.graph.nodes):
        group = p.group_of.get(node)
        if group is None or group.kind != "reduce" or p.numel(node) < MIN_ELEMENTS or p.is_returned(node):
            continue
        outside = [r for r in p.consumers(node) if p.group_of.get(r) is not group]
        if not outside or not all(makes_image(node, reader) for reader in outside):
            continue
        chain = _chain(p, node, group)
        homes = {group, *(p.group_of[r] for r in outside)}
        before = sum(traffic(p, home) for home in homes)
        for member in chain:
            p.displace(member)
            p.inline(member)
        cheap = p.cost(node) <= MAX_COST
        if not cheap or not fits(p, group) or sum(traffic(p, home) for home in homes) >= before:
            for member in reversed(chain):
                p.materialize(member)
                p.place(member, group)


def _chain(p: Partition, node: Node, group: Group) -> list[Node]:
    """The node, and the pointwise nodes of its group that lead to it and that no other group reads."""
    found = [node]
    for member in found:
        for source in p.sources(member):
            if (
                source not in found
                and p.group_of.get(source) is group
                and source.op.lowering == "pointwise"
                and p.numel(source) == p.numel(node)
                and not p.is_returned(source)
                and all(p.group_of.get(r) is group for r in p.consumers(source))
            ):
                found.append(source)
    return found
