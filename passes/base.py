"""What a pass is, and the builder with which passes edit a graph.

A pass is a small frozen dataclass whose fields are its options; `run` takes a graph and gives a new one.
Graphs share values: what a pass leaves alone keeps its `Value`, its `Node` and so its name, and two stages
can be compared line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Protocol

from ..ir.builder import GraphBuilder
from ..ir.graph import Graph, IRError, Node, Value, replace_values


class Pass(Protocol):
    """A transform of graphs. `name` is what dumps and reports call it."""

    name: ClassVar[str]

    def run(self, graph: Graph) -> Graph:
        """The transformed graph; the argument is not changed."""
        ...


class Rewriter(GraphBuilder):
    """A builder that rebuilds a graph: it starts with the graph's inputs, takes over or replaces its nodes
    one by one, in order, and finishes with the graph's outputs.

    `mapping` says what stands now for each value of the old graph that was replaced.
    """

    def __init__(self, graph: Graph):
        super().__init__(graph.name)
        self.graph = graph
        self.inputs = list(graph.inputs)
        self.mapping: dict[Value, Value] = {}
        self._names = {value.name: 0 for value in graph.values()}
        self._producer: dict[Value, Node] = {}
        self._indexed = 0
        self._kept_names: set[Value] = set(graph.values())

    def producer(self, value: Value) -> Node | None:
        """The node of the new graph that defines the value; None for an input."""
        for node in self.nodes[self._indexed :]:
            self._producer.update(dict.fromkeys(node.outputs, node))
        self._indexed = len(self.nodes)
        return self._producer.get(value)

    def mapped(self, values: Iterable[Value]) -> tuple[Value, ...]:
        """What stands for these values of the old graph."""
        return replace_values(values, self.mapping)

    def keep(self, node: Node) -> None:
        """Take over a node of the old graph: the same results, from operands as they are now."""
        inputs = self.mapped(node.inputs)
        self.nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))

    def substitute(self, old: Node, new: Iterable[Value]) -> None:
        """From here on `new` stands for the old node's results. A value that this builder made takes the
        old one's name. IRError if a type differs."""
        values = tuple(new)
        if [v.type for v in values] != [v.type for v in old.outputs]:
            raise IRError(f"{old} was to be replaced by {list(values)}: the types differ")
        for before, after in zip(old.outputs, values):
            if after is before:
                continue
            self.mapping[before] = after
            if after not in self._kept_names:
                after.name = before.name
                self._kept_names.add(after)

    def done(self) -> Graph:
        """The new graph: the old one's name, inputs and aliases, and what stands for its outputs."""
        return replace(self.graph, nodes=tuple(self.nodes), outputs=self.mapped(self.graph.outputs))


def with_nodes(graph: Graph, nodes: Iterable[Node], mapping: Mapping[Value, Value] | None = None) -> Graph:
    """The graph with other nodes, its outputs through `mapping`."""
    return replace(graph, nodes=tuple(nodes), outputs=replace_values(graph.outputs, mapping or {}))
