"""`later(x, after)` taken out of a graph: what it says becomes a table of which node waits for which values.

Fusion groups and orders by that table. A group that waits for something that reads the group would be a cycle, so what
is computed again cannot join the kernel that computed it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..ir.graph import Graph, Node, Value
from .base import with_nodes
from .dce import DeadCodeElimination

Waits = Mapping[Node, tuple[Value, ...]]


def without_waits(graph: Graph) -> tuple[Graph, Waits]:
    """The graph without `later`, and for its nodes that read such values what they wait for."""
    if not any(node.op.name == "later" for node in graph.nodes):
        return graph, {}
    values: dict[Value, Value] = {}
    after: dict[Value, tuple[Value, ...]] = {}
    waits: dict[Node, tuple[Value, ...]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        found = tuple(dict.fromkeys(w for v in node.inputs for w in after.get(v, ())))
        inputs = tuple(values.get(v, v) for v in node.inputs)
        if node.op.name == "later":
            (result,) = node.outputs
            values[result] = inputs[0]
            after[result] = tuple(dict.fromkeys([*found, inputs[1]]))
            continue
        if inputs != node.inputs:
            node = replace(node, inputs=inputs)
        if found:
            waits[node] = found
        nodes.append(node)
    # What was there only to be waited for is needed no more.
    stripped = DeadCodeElimination().run(with_nodes(graph, nodes, values))
    there = {v for node in stripped.nodes for v in node.outputs}
    kept = {node: tuple(v for v in waits[node] if v in there) for node in stripped.nodes if node in waits}
    return stripped, {node: found for node, found in kept.items() if found}
