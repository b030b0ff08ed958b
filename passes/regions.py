"""Passes and the bodies of nodes that are loops: a body is a graph like another, to be transformed alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..ir.graph import Graph, Node, Value
from .base import Rewriter


def with_bodies(graph: Graph, transform: Callable[[Graph], Graph]) -> Graph:
    """The graph with the bodies of its nodes transformed. A fused group's body is a kernel and left as it is."""
    nodes = []
    changed = False
    for node in graph.nodes:
        if node.regions and node.op.name != "fused":
            regions = tuple(transform(region) for region in node.regions)
            if any(a is not b for a, b in zip(regions, node.regions)):
                node = replace(node, regions=regions)
                changed = True
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes)) if changed else graph


def own_results(body: Graph) -> Graph:
    """The body with results that are all different and none of them an input, so that each can have a place in memory
    of its own: where one is not, it is copied by a conversion to its own dtype."""
    taken: set[Value] = set(body.inputs)
    if taken.isdisjoint(body.outputs) and len(set(body.outputs)) == len(body.outputs):
        return body
    builder = Rewriter(body)
    for node in body.nodes:
        builder.keep(node)
    outputs = []
    for value in body.outputs:
        outputs.append(builder.convert(value, dtype=value.type.dtype) if value in taken else value)
        taken.add(value)
    return replace(body, nodes=tuple(builder.nodes), outputs=tuple(outputs))


def group_nodes(graph: Graph) -> Iterator[Node]:
    """The fused groups, those in the bodies of scans too."""
    for node in graph.nodes:
        if node.op.name == "fused":
            yield node
        else:
            for body in node.regions:
                yield from group_nodes(body)


def with_group_names(graph: Graph, prefix: str) -> Graph:
    """The fused graph, the names of its groups and of those in the bodies of its loops behind a prefix."""
    nodes = []
    for node in graph.nodes:
        if node.op.name == "fused":
            name = prefix + node.attrs["name"]
            regions = tuple(replace(body, name=name) for body in node.regions)
            node = replace(node, attrs={**node.attrs, "name": name}, regions=regions)
        elif node.regions:
            node = replace(node, regions=tuple(with_group_names(body, prefix) for body in node.regions))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def part_of(body: Graph, wanted: Sequence[Value], given: Sequence[Value] = ()) -> Graph:
    """The body's nodes that make the wanted values, where others are given: its inputs too, the last of them."""
    producers = body.producers()
    found: set[Node] = set()
    stack = list(wanted)
    while stack:
        value = stack.pop()
        node = producers.get(value)
        if node is not None and value not in given and node not in found:
            found.add(node)
            stack += node.inputs
    nodes = tuple(n for n in body.nodes if n in found)
    read = {v for n in nodes for v in n.inputs}
    inputs = (*(v for v in body.inputs if v in read), *given)
    return replace(body, inputs=inputs, nodes=nodes, outputs=tuple(wanted))
