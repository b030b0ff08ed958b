"""Products of float32 matrices from bfloat16 numbers, where less precision will do.

    %3 = matmul(%1, %2)      becomes      %3 = matmul(convert.f32(convert.bf16(%1)), convert.f32(convert.bf16(%2)))

Code generation multiplies the short numbers and adds up in float32. This is what
`set_float32_matmul_precision("medium")` asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir import dims, dtypes
from ..ir.dims import DimLike
from ..ir.graph import Graph, Node, Value
from .base import Rewriter
from .regions import with_bodies

# Moving the elements of short numbers is the same as moving the elements and shortening them.
_VIEWS = frozenset({"reshape", "permute", "expand"})
# Below, rounding the operands takes longer than the product gains.
LEAST = 16


@dataclass(frozen=True)
class RoundMatmulOperands:
    """Matmuls all of whose sizes are large enough. What they read is rounded before it is viewed."""

    name: ClassVar[str] = "round_matmul_operands"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        if not any(map(_is_large_product, graph.nodes)):
            return graph
        builder = Rewriter(graph)
        rounded: dict[Value, Value] = {}
        for node in graph.nodes:
            builder.location = node.location
            if not _is_large_product(node):
                builder.keep(node)
                continue
            operands = [
                builder.convert(_rounded(builder, v, rounded), dtype=dtypes.f32)
                for v in builder.mapped(node.inputs)
            ]
            builder.substitute(node, [builder.matmul(*operands)])
        return builder.done()


def _is_large_product(node: Node) -> bool:
    if node.op.name != "matmul" or node.inputs[0].type.dtype is not dtypes.f32:
        return False
    a, b = (v.type.shape for v in node.inputs)
    sizes: tuple[DimLike, ...] = (a[-2], a[-1], b[-1])
    return min(dims.bounds(size)[1] for size in sizes) >= LEAST


def _rounded(builder: Rewriter, value: Value, known: dict[Value, Value]) -> Value:
    """The value in bfloat16."""
    if value not in known:
        node = builder.producer(value)
        if node is not None and node.op.name in _VIEWS:
            source = _rounded(builder, node.inputs[0], known)
            known[value] = builder.apply(node.op, [source], node.attrs)
        elif node is not None and node.op.name == "convert" and node.inputs[0].type.dtype is dtypes.bf16:
            known[value] = node.inputs[0]
        else:
            known[value] = builder.convert(value, dtype=dtypes.bf16)
    return known[value]
