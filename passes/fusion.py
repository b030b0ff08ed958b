"""Fusion: the nodes of a graph in groups, each of which becomes one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph, Node
from .fusion_build import Group, build_fused

KIND_OF_LOWERING = {
    "pointwise": "loop",
    "view": "loop",
    "constant": "loop",
    "reduce": "reduce",
    "contraction": "contraction",
    "window": "window",
}


def kind_of(node: Node) -> str:
    """The kind of a group that holds just this node."""
    if node.op.lowering == "reduce" and node.op.combine is None:
        return "single"
    return KIND_OF_LOWERING.get(node.op.lowering, "single")


@dataclass(frozen=True)
class Fusion:
    name: ClassVar[str] = "fusion"
    enabled: bool = True

    def run(self, graph: Graph) -> Graph:
        groups = [Group(kind_of(n), [n]) for n in graph.nodes]
        return build_fused(graph, groups, (), lambda group, node, consumer: False)
