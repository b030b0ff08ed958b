"""Decomposition: composite ops, by their own rules, into primitives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..ir.graph import Graph, IRError, Value
from ..ir.half_precision import decomposed
from ..ir.op import Op
from ..ir.types import TensorType
from .base import Rewriter
from .host import is_host, runs_on_host
from .regions import with_bodies


@dataclass(frozen=True)
class Decompose:
    """Composites become primitives, those that a decomposition uses as well. `keep` names composites that
    codegen takes whole; those on complex numbers stay whole too, for NumPy (`host.py`)."""

    keep: tuple[str, ...] = ()
    name: ClassVar[str] = "decompose"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        builder = _Decomposer(graph, self.keep)
        for node in graph.nodes:
            builder.location = node.location
            if builder.is_taken_apart(node.op) and not runs_on_host(node):
                builder.substitute(node, builder.expand(node.op, builder.mapped(node.inputs), node.attrs))
            else:
                builder.keep(node)
        return builder.done()


class _Decomposer(Rewriter):
    def __init__(self, graph: Graph, keep: tuple[str, ...]):
        super().__init__(graph)
        self._keep = keep

    def is_taken_apart(self, op: Op) -> bool:
        return op.level == "composite" and op.name not in self._keep

    def expand(self, op: Op, operands: Sequence[Value], attrs: Mapping[str, Any]) -> tuple[Value, ...]:
        if op.decompose is None:
            raise IRError(f"composite op {op.name} declares no decomposition")
        return decomposed(op, self, operands, attrs)

    def region_node(
        self,
        op: Op,
        inputs: Iterable[Value],
        attrs: Mapping[str, Any],
        regions: tuple[Graph, ...],
        types: Iterable[TensorType],
    ) -> tuple[Value, ...]:
        apart = tuple(Decompose(self._keep).run(region) for region in regions)
        return super().region_node(op, inputs, attrs, apart, types)

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        if not self.is_taken_apart(op):
            return super().apply(op, operands, attrs)
        lifted = self._lift(operands)
        if is_host(op, (v.type for v in lifted)):
            return super().apply(op, lifted, attrs)
        results = self.expand(op, lifted, op.normalise_attrs(attrs))
        return results[0] if len(results) == 1 else results
