"""Copying one buffer to another."""

from __future__ import annotations

from ...ir.builder import GraphBuilder
from ...ir.graph import Graph, Value
from ...ir.types import TensorType
from ..loops.nodes import Buffer, Load
from .context import LowerContext
from .elementwise import Nest, launch_nests
from .names import Names
from .template import Axis, Element


def copy_buffer(ctx: LowerContext, source: Buffer, target: Buffer) -> None:
    """Append the launch that copies `source` to `target`, which is as large."""
    if source.numel == 0:
        return
    if source.dtype.is_complex:  # kernels do not touch complex numbers
        graph, value = _identity(source)
        ctx.launch_host(f"copy_{source.name}", graph, {graph.inputs[0]: source, value: target}, None)
        return
    names = Names()
    axis = Axis(names("i"), source.numel)
    element = Element(ctx.flat(target), axis.index, Load(ctx.flat(source), (axis.index,)))
    launch_nests(ctx, f"copy_{source.name}", [Nest(names, [axis], [element])])


def _identity(buffer: Buffer) -> tuple[Graph, Value]:
    builder = GraphBuilder("copy")
    value = builder.detach(builder.input("x", TensorType(buffer.shape, buffer.dtype)))
    return builder.finish([value]), value
