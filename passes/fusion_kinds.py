"""Which kind of group does a node make, and what does its kernel walk?"""

from __future__ import annotations

from ..ir.graph import Node
from .fusion_index import Space
from .host import placed_lowering

# Groups of one node, which nothing joins.
ALONE = ("single", "host", "scan", "attention")
ANCHORS = ("reduce", "contraction", "window", "attention")


def kind_of(node: Node) -> str:
    """The kind of a group that holds just this node."""
    lowering = placed_lowering(node)
    if lowering == "host":
        return "host"
    if lowering == "region":
        return "scan"
    if lowering in ("pointwise", "view", "constant"):
        return "loop"
    if lowering == "reduce" and node.op.combine is None:
        return "single"
    return lowering if lowering in ANCHORS else "single"


def space_of(node: Node) -> Space:
    """The space of a group around this node."""
    if kind_of(node) == "reduce":
        operand = node.inputs[0].type
        dims = tuple(sorted(d for d in node.attrs["dims"] if d < operand.rank))
        return Space(operand.shape, dims)
    return Space(node.outputs[0].type.shape, linear=kind_of(node) in ("loop", "contraction"))


def joins(node: Node, space: Space) -> bool:
    """Whether the node puts arrays of the space side by side: a kernel over the space stores them where they belong."""
    return (
        node.op.name == "concat"
        and len(node.inputs) > 1
        and all(v.type.shape == space.shape for v in node.inputs)
    )


def sums_columns(node: Node, space: Space) -> bool:
    """Whether the node, of a group over this space, is one that reduces the other dims."""
    if node.op.lowering != "reduce" or space.reduced is None:
        return False
    rank = node.inputs[0].type.rank
    return tuple(sorted(d for d in node.attrs["dims"] if d < rank)) != space.reduced
