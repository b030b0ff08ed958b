"""Constant folding: a node that reads only fills and gives a fill becomes one.

Constants in a graph are `full` nodes: one number, however many elements. A result whose elements differ is
never stored, so that folding cannot make a program bigger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..ir.dims import Expr
from ..ir.graph import Graph, Node, Value
from ..ir.interpreter import evaluate_node
from ..ir.printer import node_symbols
from ..ir.types import TensorType
from .base import Rewriter
from .regions import with_bodies

# Views that only move elements: of a fill they give a fill.
MOVES = frozenset({"reshape", "permute", "expand", "slice", "flip"})
# What a NumPy rule raises for operands that have no result.
REFUSALS = (RuntimeError, ValueError, ArithmeticError)


@dataclass(frozen=True)
class ConstantFolding:
    """`max_elements`: how many elements a non-pointwise op may be evaluated on at compile time."""

    max_elements: int = 1024
    name: ClassVar[str] = "constant_folding"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        builder = Rewriter(graph)
        for node in graph.nodes:
            builder.location = node.location
            try:
                number = self._uniform_result(builder, node)
            except REFUSALS:  # integer division by zero, say: the error belongs to the run, if it gets there
                number = None
            if number is None:
                builder.keep(node)
            else:
                type_ = node.outputs[0].type
                attrs = {"shape": type_.shape, "value": number, "dtype": type_.dtype}
                builder.substitute(node, (builder.full(**attrs),))
        return builder.done()

    def _uniform_result(self, builder: Rewriter, node: Node) -> float | int | bool | None:
        """The number that every element of the node's result is, where that is known now."""
        if not node.inputs or len(node.outputs) != 1 or node.regions or node.op.lowering == "random":
            return None
        fills = [_fill(builder, value) for value in builder.mapped(node.inputs)]
        if any(f is None for f in fills):
            return None
        known = [f for f in fills if f is not None]
        if node.op.name in MOVES:
            return known[0].item() if _representable(node.outputs[0].type) else None
        if not _representable(node.outputs[0].type):
            return None
        if node.op.lowering == "pointwise":
            scalars = tuple(Value(v.name, v.type.with_shape(())) for v in node.inputs)
            result = Value("", node.outputs[0].type.with_shape(()))
            return evaluate_node(replace(node, inputs=scalars, outputs=(result,)), known, {})[0].item()
        if not self._is_small(node):
            return None
        arrays = [np.broadcast_to(f, tuple(map(int, v.type.shape))) for f, v in zip(known, node.inputs)]
        (result_array,) = evaluate_node(node, arrays, {})
        return _uniform(result_array)

    def _is_small(self, node: Node) -> bool:
        types = [v.type for v in (*node.inputs, *node.outputs)]
        # An array of no elements may have a symbolic dim too, beside the one of size 0.
        if any(True for _ in node_symbols(node)) or any(isinstance(d, Expr) for t in types for d in t.shape):
            return False
        return all(t.numel <= self.max_elements for t in types)


def _fill(builder: Rewriter, value: Value) -> np.ndarray[Any, Any] | None:
    node = builder.producer(value)
    if node is None or node.op.name != "full":
        return None
    with np.errstate(all="ignore"):
        return np.asarray(node.attrs["value"]).astype(value.type.dtype.numpy)


def _representable(type_: TensorType) -> bool:
    """A `full` holds an int, a float or a bool."""
    return not type_.dtype.is_complex


def _uniform(array: np.ndarray[Any, Any]) -> float | int | bool | None:
    """The one value of all elements, compared by bits; None for several, or none."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size == 0:
        return None
    raw = flat.view(np.uint8).reshape(flat.size, -1)
    return flat[0].item() if bool((raw == raw[0]).all()) else None
