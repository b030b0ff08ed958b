"""Which attentions are computed block by block, and which as matmul, softmax, matmul.

The kernel (`codegen/lower/attention.py`) works on whole vectors of queries and does not write the weights; the ops that
it stands for have kernels for any shape. A gradient that is taken apart reads the weights that its forward, taken apart
too, has written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir import dtypes
from ..ir.graph import Graph, Node, Value
from ..ir.half_precision import HALF, decomposed
from ..ir.ops.attention import opened, opened_grad
from ..ir.types import TensorType
from .base import Rewriter
from .regions import with_bodies

# Fewer queries than this fill too little of their block.
LEAST_ROWS = 8
# Longer rows of query or value would not leave room for a block in the first-level cache.
MOST_SIZE = 256


@dataclass(frozen=True)
class ChooseAttention:
    """`keep`: the ops that the target has a kernel for; others are taken apart."""

    keep: tuple[str, ...] = ()
    name: ClassVar[str] = "choose_attention"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        if not any(node.op.lowering == "attention" for node in graph.nodes):
            return graph
        builder = Rewriter(graph)
        # By the logarithm of the sums, the second result of a forward.
        weights: dict[Value, Value] = {}
        for node in graph.nodes:
            builder.location = node.location
            if node.op.lowering != "attention" or (node.op.name in self.keep and has_kernel(node)):
                builder.keep(node)
            elif node.op.name == "attention":
                found, kept = _opened(builder, node)
                builder.substitute(node, found)
                if kept is not None:
                    weights[node.outputs[1]] = kept
            else:
                builder.substitute(node, _opened_grad(builder, node, weights.get(node.inputs[4])))
        return builder.done()


def has_kernel(node: Node) -> bool:
    """Whether the op's kernel takes these operands, and is worth it."""
    first = 0 if node.op.name == "attention" else 1
    q, k, v = (value.type for value in node.inputs[first : first + 3])
    return kernel_takes(q, k, v)


def kernel_takes(q: TensorType, k: TensorType, v: TensorType) -> bool:
    """The same, of the types of query, key and value."""
    if q.dtype not in (dtypes.f32, dtypes.f64, *HALF):
        return False
    sizes = q.shape[-1], v.shape[-1]
    if not all(isinstance(n, int) and 0 < n <= MOST_SIZE for n in sizes):
        return False
    rows, columns = q.shape[-2], k.shape[-2]
    return not (isinstance(rows, int) and rows < LEAST_ROWS) and columns != 0


def _opened(builder: Rewriter, node: Node) -> tuple[tuple[Value, ...], Value | None]:
    operands = builder.mapped(node.inputs)
    if operands[0].type.dtype in HALF:
        return decomposed(node.op, builder, operands, node.attrs), None
    *found, weights = opened(builder, *operands, **node.attrs)
    return tuple(found), weights


def _opened_grad(builder: Rewriter, node: Node, weights: Value | None) -> tuple[Value, ...]:
    operands = builder.mapped(node.inputs)
    if operands[1].type.dtype in HALF:
        return decomposed(node.op, builder, operands, node.attrs)
    return opened_grad(builder, *operands, weights=weights, **node.attrs)
