"""Dead code elimination: nodes none of whose results are read, directly or not, by an output of the graph; of scans
that stay, what nothing needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph, Node, Value, told_symbols
from ..ir.printer import node_symbols
from .base import with_nodes
from .regions import with_bodies
from .scan_pruning import prune_scan


@dataclass(frozen=True)
class DeadCodeElimination:
    """Ops have no side effects, so a node lives only through its results, and the dims it tells. Inputs stay: they are
    the call's signature."""

    name: ClassVar[str] = "dce"

    def run(self, graph: Graph) -> Graph:
        live: set[Value] = set(graph.outputs)
        sizes = {s.name for v in graph.outputs for s in v.type.symbols}
        kept: list[Node] = []
        for node in reversed(graph.nodes):
            told = told_symbols(node)
            if not live.isdisjoint(node.outputs) or not sizes.isdisjoint(s.name for s in told):
                kept.append(prune_scan(node, live) if node.op.name == "scan" else node)
                live.update(kept[-1].inputs)
                sizes.update(s.name for s in node_symbols(node))
                sizes.difference_update(s.name for s in told)
        kept.reverse()
        return with_bodies(graph if kept == list(graph.nodes) else with_nodes(graph, kept), self.run)
