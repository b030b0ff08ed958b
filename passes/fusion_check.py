"""Is a fused graph legal? A check that shares no reasoning with the fusion pass.

`check_fusion(before, fused)` proves two things. The fused graph computes what the graph computed: with its
groups opened, every output has the same value number, and no random node is there twice. And each group is
one that its lowering can compute (`fusion_check_groups.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from ..ir.graph import Graph, IRError, Node, Value
from .fusion_check_groups import check_groups


def check_fusion(before: Graph, fused: Graph) -> None:
    """IRError says which group is not legal, or which output has become another value."""
    check_groups(fused)
    opened = unfuse(fused)
    table: dict[Any, int] = {}
    old, new = number_values(before, table), number_values(opened, table)
    for position, (was, now) in enumerate(zip(before.outputs, opened.outputs, strict=True)):
        if old[was] != new[now]:
            raise IRError(f"output {position}: %{now.name} of the fused graph is not %{was.name}")
    if dict(before.aliases) != dict(fused.aliases) or before.inputs != fused.inputs:
        raise IRError("fusion changed the graph's inputs or aliases")
    asked = Counter(old[n.outputs[0]] for n in before.nodes if n.op.lowering == "random")
    drawn = Counter(new[n.outputs[0]] for n in opened.nodes if n.op.lowering == "random")
    for node in opened.nodes:
        if node.op.lowering == "random" and drawn[new[node.outputs[0]]] > asked[new[node.outputs[0]]]:
            raise IRError(f"{node} is computed {drawn[new[node.outputs[0]]]} times")


def unfuse(graph: Graph) -> Graph:
    """The graph with the bodies of its fused nodes in their places, in the bodies of scans too."""
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op.name != "fused":
            inputs, regions = tuple(mapping.get(v, v) for v in node.inputs), tuple(map(unfuse, node.regions))
            nodes.append(replace(node, inputs=inputs, regions=regions))
            continue
        (body,) = node.regions
        inner = dict(zip(body.inputs, (mapping.get(v, v) for v in node.inputs), strict=True))
        for member in body.nodes:
            outputs = tuple(Value(v.name, v.type) for v in member.outputs)
            nodes.append(replace(member, inputs=tuple(inner[v] for v in member.inputs), outputs=outputs))
            inner.update(zip(member.outputs, outputs))
        mapping.update(zip(node.outputs, (inner[v] for v in body.outputs), strict=True))
    return replace(graph, nodes=tuple(nodes), outputs=tuple(mapping.get(v, v) for v in graph.outputs))


def number_values(graph: Graph, table: dict[Any, int]) -> dict[Value, int]:
    """Numbers such that values with one number are the same op of the same operands: `table` holds what has
    a number so far. Inputs are numbered by name, those of a scan's body by position. A conversion to the dtype
    that a value has is no other value, nor is the same value later."""
    numbers = {value: _number(table, ("input", value.name)) for value in graph.inputs}
    _number_nodes(graph, numbers, table)
    return numbers


def _number(table: dict[Any, int], key: Any) -> int:
    return table.setdefault(key, len(table))


def _number_nodes(graph: Graph, numbers: dict[Value, int], table: dict[Any, int]) -> None:
    for node in graph.nodes:
        if node.op.name == "later" or (
            node.op.name == "convert" and node.outputs[0].type == node.inputs[0].type
        ):
            numbers[node.outputs[0]] = numbers[node.inputs[0]]
            continue
        bodies = []
        for body in node.regions:
            inner = {v: _number(table, ("step", i, str(v.type))) for i, v in enumerate(body.inputs)}
            _number_nodes(body, inner, table)
            bodies.append(tuple(inner[v] for v in body.outputs))
        attrs = tuple((name, type(v).__name__, repr(v)) for name, v in node.attrs.items())
        operands = tuple(numbers[v] for v in node.inputs)
        for position, value in enumerate(node.outputs):
            key = (node.op.name, attrs, operands, *bodies, position, str(value.type))
            numbers[value] = _number(table, key)
