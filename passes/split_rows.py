"""Products keep the dims that their rows are made of, where these are symbolic.

A linear layer on [sentences, length, features] multiplies a matrix of sentences * length rows. No index can say of which
sentence a row is while both are symbols: what follows in the shape of [sentences, length, ...] could not join the
product, and what the product reads would be copied to lie as a matrix.

    %1: [s*l,k] = reshape(%0)                          %3: [s,l,n] = matmul(%0, %w)
    %2: [s*l,n] = matmul(%1, %w)          becomes      %5: [s,l,n] = gelu(%3)
    %3: [s,l,n] = reshape(gelu(%2))

The way back from rows that are split is a reshape, which stays only where something else reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir import dims
from ..ir.dims import DimLike
from ..ir.graph import Graph, Node, Value
from .base import Rewriter
from .fusion_index import needs_memory

Shape = tuple[DimLike, ...]


@dataclass(frozen=True)
class SplitRows:
    """Matmuls of two matrices, and the pointwise work on their results, whose rows a reshape made that no index can
    follow. Dead code elimination takes away what is not read any more."""

    name: ClassVar[str] = "split_rows"

    def run(self, graph: Graph) -> Graph:
        if not any(map(needs_memory, graph.nodes)):
            return graph
        splitter = _Splitter(graph)
        for node in graph.nodes:
            splitter.location = node.location
            if len(node.outputs) != 1 or not splitter.visit(node):
                splitter.keep(node)
        return splitter.done()


class _Splitter(Rewriter):
    """`split`: for values of the new graph that are rows, the same elements with the rows split."""

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self.split: dict[Value, Value] = {}

    def visit(self, node: Node) -> bool:
        """Whether something else stands for the node now."""
        (old,) = node.outputs
        inputs = self.mapped(node.inputs)
        found: Value | None = None
        if node.op.name == "reshape":
            source = self.split.get(inputs[0])
            if source is not None:
                self.substitute(node, [self._reshaped(source, old.type.shape)])
                return True
            lead = _lead(node)
            if lead is not None:
                self.keep(node)
                self.split[old] = self._reshaped(inputs[0], (*lead, *old.type.shape[1:]))
                return True
        elif node.op.name == "matmul" and inputs[0] in self.split and inputs[1].type.rank == 2:
            found = self.matmul(self.split[inputs[0]], inputs[1])
        elif node.op.lowering == "pointwise":
            found = self._pointwise(node, inputs)
        if found is None:
            return False
        rows = self.reshape(found, shape=old.type.shape)
        self.substitute(node, [rows])
        self.split[rows] = found
        return True

    def _pointwise(self, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        known = next((self.split[v] for v in inputs if v in self.split), None)
        if known is None:
            return None
        shape = node.outputs[0].type.shape
        lead = known.type.shape[: known.type.rank - len(shape) + 1]
        operands = []
        for value in inputs:
            own = value.type.shape
            if value in self.split:
                value = self.split[value]
                if value.type.shape[: len(lead)] != lead:
                    return None
            elif len(own) == len(shape) and own[0] == shape[0]:
                value = self._reshaped(value, (*lead, *own[1:]))
            elif len(own) == len(shape):
                value = self._reshaped(value, own[1:])  # one row for all
            operands.append(value)
        found: Value = self.apply(node.op, operands, node.attrs)
        return found if found.type.shape == (*lead, *shape[1:]) else None

    def _reshaped(self, value: Value, shape: Shape) -> Value:
        if value.type.shape == shape:
            return value
        result: Value = self.reshape(value, shape=shape)
        return result


def _lead(node: Node) -> Shape | None:
    """The dims that become rows in a reshape that no index can follow."""
    source, shape = node.inputs[0].type.shape, node.outputs[0].type.shape
    if not shape or not needs_memory(node):
        return None
    for count in range(2, len(source) + 1):
        if dims.product(source[:count]) == shape[0]:
            return source[:count]
    return None
