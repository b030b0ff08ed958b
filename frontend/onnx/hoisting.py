"""Weights wherever a file keeps them: initializers of subgraphs, and `Constant` nodes, become initializers of the main
graph, so that they are parameters like all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .reading import Array, GraphPlan, NodePlan

# A constant of up to so many elements is a number, a shape or the like, and stays what it is.
SMALL = 64


def hoist(plan: GraphPlan) -> GraphPlan:
    """The graph with the constants of all its subgraphs; those have their graph's name in front of their own."""
    constants = dict(plan.constants)
    moved = _moved(replace(plan, constants={}), {}, constants, "")
    return replace(moved, constants=constants)


def _moved(plan: GraphPlan, renames: Mapping[str, str], constants: dict[str, Array], scope: str) -> GraphPlan:
    names = {old: new for old, new in renames.items() if old not in plan.inputs}

    def enter(name: str, array: Array) -> None:
        wanted = new = f"{scope}.{name}" if scope else name
        number = 1
        while new in constants:
            number += 1
            new = f"{wanted}_{number}"
        constants[new] = array
        names[name] = new

    for name, array in plan.constants.items():
        enter(name, array)
    nodes: list[NodePlan] = []
    for node in plan.nodes:
        value = node.attrs.get("value")
        if node.op_type == "Constant" and isinstance(value, np.ndarray) and value.size > SMALL:
            enter(node.outputs[0], value)
            continue
        inputs = tuple(names.get(name, name) for name in node.inputs)
        attrs = {
            key: _moved(inner, names, constants, inner.name) if isinstance(inner, GraphPlan) else inner
            for key, inner in node.attrs.items()
        }
        for name in node.outputs:
            names.pop(name, None)
        nodes.append(replace(node, inputs=inputs, attrs=attrs))
    outputs = tuple(names.get(name, name) for name in plan.outputs)
    return replace(plan, outputs=outputs, nodes=tuple(nodes), constants={})
