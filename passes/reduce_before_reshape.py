"""Sums over the rows of a matrix that a view made become sums of what it is a view of.

A linear layer on [batch, length, features] multiplies matrices of batch * length rows, so the gradient of its bias sums
the rows of a reshaped gradient. In the gradient's own shape the sum can be made by the kernel that writes it
(`fusion_columns.py`).

    %1: [b*l,n] = reshape(%0)                      %2: [n] = sum(%0) {dims=[0,1]}
    %2: [n] = sum(%1) {dims=[0]}       becomes     %1: [b*l,n] = reshape(%0)
    %3: [k,n] = matmul(%x, %1)                     %3: [k,n] = matmul(%x, %1)

Not where something else than products reads the matrix: a normalization of rows keeps them, and its sums with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph, Node, Value
from .base import Rewriter


@dataclass(frozen=True)
class ReduceBeforeReshape:
    """Reductions of all dims but the last, through reshapes and permutes that leave that where it is."""

    name: ClassVar[str] = "reduce_before_reshape"

    def run(self, graph: Graph) -> Graph:
        views = _Views(graph)
        found = {node: source for node in graph.nodes if (source := views.source(node)) is not None}
        if not found:
            return graph
        builder = Rewriter(graph)
        for node in graph.nodes:
            if node not in found:
                builder.keep(node)
                continue
            builder.location = node.location
            (source,) = builder.mapped([found[node]])
            (result,) = node.outputs
            dims = tuple(range(source.type.rank - 1))
            total = builder.apply(node.op, [source], {"dims": dims, "keepdim": False})
            if total.type.shape != result.type.shape:
                total = builder.reshape(total, shape=result.type.shape)
            builder.substitute(node, [total])
        return builder.done()


class _Views:
    def __init__(self, graph: Graph):
        self.producer = graph.producers()
        self.uses = graph.uses()
        self.returned = set(graph.outputs)

    def source(self, node: Node) -> Value | None:
        """What the reduction can be of, instead of its operand; None where that stays."""
        if not _sums_rows(node):
            return None
        value = node.inputs[0]
        while self._keeps_columns(value) and self._is_for_products(value):
            (value,) = self.producer[value].inputs
        return value if value is not node.inputs[0] else None

    def _keeps_columns(self, value: Value) -> bool:
        """Whether the value is a view whose last dim is that of what it shows."""
        view = self.producer.get(value)
        if view is None or view.op.name not in ("reshape", "permute"):
            return False
        if view.op.name == "permute":
            return _last(view.attrs["dims"]) == value.type.rank - 1
        return _last(value.type.shape) == _last(view.inputs[0].type.shape) and value.type.numel != 0

    def _is_for_products(self, value: Value) -> bool:
        """Whether nothing but products, reductions over its rows and views of it for such read the value."""
        stack = [value]
        while stack:
            value = stack.pop()
            if value in self.returned:
                return False
            for reader in self.uses[value]:
                if reader.op.name in ("reshape", "permute"):
                    stack += reader.outputs
                elif reader.op.lowering != "contraction" and not _sums_rows(reader):
                    return False
        return True


def _sums_rows(node: Node) -> bool:
    """Whether the node reduces all dims but the last, to one value each."""
    if node.op.lowering != "reduce" or node.op.combine is None:
        return False
    rank = node.inputs[0].type.rank
    return rank > 1 and tuple(sorted(node.attrs["dims"])) == tuple(range(rank - 1))


def _last(values: Sequence[object]) -> object:
    return values[-1] if values else None
