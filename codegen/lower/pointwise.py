"""Groups of kind "loop": every output element is a function of input elements, none depends on another."""

from __future__ import annotations

from ...ir.graph import Graph, Node
from .context import Args, LowerContext
from .elementwise import Nest, launch_nests
from .names import Names
from .spaces import output_parts


def lower_loop(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """A nest for each iteration space among the outputs, and each part of it where guards are decided."""
    names = Names()
    found = output_parts(ctx, names, body, args, body.outputs)
    launch_nests(ctx, node.attrs["name"], [Nest(names, axes, elements) for axes, elements in found])
