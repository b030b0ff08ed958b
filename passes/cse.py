"""Common subexpression elimination: of nodes that compute the same thing, the first serves for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..ir.graph import Graph, Node, Value, replace_values
from .base import with_nodes
from .regions import with_bodies

# Operand order does not matter to a bit of the result (a NaN's payload aside, which IEEE 754 leaves open).
COMMUTATIVE = frozenset(
    {
        "add",
        "mul",
        "eq",
        "ne",
        "logical_and",
        "logical_or",
        "logical_xor",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    }
)


@dataclass(frozen=True)
class CommonSubexpressions:
    """Same op, same attributes, same operands. Every op is a function of these, the random ones too: their
    operand is the generator's state, so equal draws are one draw, and draws with another state or stream
    are not equal."""

    name: ClassVar[str] = "cse"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        mapping: dict[Value, Value] = {}
        first: dict[tuple[Any, ...], Node] = {}
        kept: list[Node] = []
        for node in graph.nodes:
            inputs = replace_values(node.inputs, mapping)
            if inputs != node.inputs:
                node = replace(node, inputs=inputs)
            if node.regions:
                kept.append(node)
                continue
            same = first.setdefault(_key(node), node)
            if same is node:
                kept.append(node)
            else:
                mapping.update(zip(node.outputs, same.outputs))
        return with_nodes(graph, kept, mapping) if mapping else graph


def _key(node: Node) -> tuple[Any, ...]:
    operands = [id(v) for v in node.inputs]
    if node.op.name in COMMUTATIVE:
        operands.sort()
    return (node.op.name, tuple(operands), attrs_key(node.attrs))


def attrs_key(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Attributes as a key: 1, 1.0 and True differ, 0.0 and -0.0 differ, NaN equals NaN."""
    return tuple(_attr_key(value) for value in attrs.values())


def _attr_key(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_attr_key, value))
    if isinstance(value, float):
        return ("float", "nan" if value != value else np.float64(value).tobytes())
    return (type(value).__name__, value)
