"""Groups of kind "host": what NumPy computes, a call back to Python between two kernels."""

from __future__ import annotations

from ...ir.graph import Graph, Node
from .context import Args, LowerContext


def lower_host(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    ctx.launch_host(node.attrs["name"], body, args, node.location)
