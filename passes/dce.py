"""Dead code elimination: nodes none of whose results are read, directly or not, by an output of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph, Node, Value
from .base import with_nodes


@dataclass(frozen=True)
class DeadCodeElimination:
    """Ops have no side effects, so a node lives only through its results. Inputs stay: they are the call's
    signature."""

    name: ClassVar[str] = "dce"

    def run(self, graph: Graph) -> Graph:
        live: set[Value] = set(graph.outputs)
        kept: list[Node] = []
        for node in reversed(graph.nodes):
            if not live.isdisjoint(node.outputs):
                kept.append(node)
                live.update(node.inputs)
        return graph if len(kept) == len(graph.nodes) else with_nodes(graph, reversed(kept))
