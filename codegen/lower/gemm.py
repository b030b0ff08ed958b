"""Matrix products as contractions."""

from __future__ import annotations

from ...ir.graph import Node
from .contraction import Axis, Contraction, O, Reader
from .indexing import broadcast_index


def matmul_contraction(node: Node, operands: Reader[O]) -> Contraction[O]:
    """`[..., m, k] x [..., k, n]`, leading dims broadcast."""
    a, b = node.inputs
    (out,) = node.outputs
    *batch_shape, m, n = out.type.shape
    batch = tuple(Axis(f"b{i}", size) for i, size in enumerate(batch_shape))
    row, column, inner = Axis("m", m), Axis("n", n), Axis("k", a.type.shape[-1])
    lead = tuple(axis.var for axis in batch)
    left = (*broadcast_index(lead, a.type.shape[:-2]), row.var, inner.var)
    right = (*broadcast_index(lead, b.type.shape[:-2]), inner.var, column.var)
    return Contraction(
        "matmul",
        (*batch, row, column),
        (inner,),
        operands.read(a, left),
        operands.read(b, right),
        (*lead, row.var, column.var),
        out.type.shape,
        out.type.dtype,
    )
