"""Lowering of groups of kind "attention": one op, its operands perhaps through views."""

from __future__ import annotations

from ...ir.graph import Graph, IRError, Node
from .context import Args, LowerContext


def lower_attention(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    found = [n for n in body.nodes if n.op.lowering == "attention"]
    if len(found) != 1:
        raise IRError(f"{node}: an attention group holds one op of its own, got {[n.op.name for n in found]}")
    ctx.schedules.attention(ctx, node.attrs["name"], body, args, found[0])
