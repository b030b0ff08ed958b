"""A depthwise convolution joins the expansion whose channels it filters.

A mobile network expands an image to several times its channels and filters each of them by itself. The expanded image is
the largest array of its layer, and nothing else reads it: a kernel that makes a few rows of a few channels and filters
them at once never writes it to memory (M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
2018, section 5.1; `codegen/lower/expansion.py`).

    conv 1x1 -> [norm, activation] -> depthwise conv -> [norm, activation]
"""

from __future__ import annotations

from ..ir import dtypes
from ..ir.graph import Graph, IRError, Node
from .fusion_build import Group
from .fusion_partition import Partition
from .regions import part_of

# Elements of the expanded images at least; fewer stay near the core.
MIN_ELEMENTS = 1 << 20


def join_expansions(p: Partition) -> None:
    """Put a convolution and the depthwise one that alone reads its result in one group, of kind `expansion`."""
    for group in [g for g in p.groups if g.kind == "contraction"]:
        filtering = _filtering(p, group)
        if filtering is not None:
            p.merge(group, filtering)
            group.kind = "expansion"


def _filtering(p: Partition, group: Group) -> Group | None:
    """The group of the depthwise convolution."""
    core, inside = group.anchor, set(group.nodes)
    if group.kind != "contraction" or not expands(core) or any(map(p.is_returned, group.nodes)):
        return None
    readers = {r for n in group.nodes for r in p.consumers(n) if r not in inside}
    if len(readers) != 1:
        return None
    (reader,) = readers
    other = p.group_of.get(reader)
    if other is None or other.kind != "contraction" or other.anchor is not reader or not filters(reader):
        return None
    image, weight = reader.inputs
    if p.producer.get(image) not in inside or p.producer.get(weight) in inside:
        return None
    if image.type.shape != core.outputs[0].type.shape or p.numel(core) < MIN_ELEMENTS:
        return None
    return None if p.creates_cycle({*group.nodes, *other.nodes}) else other


def expands(node: Node) -> bool:
    """Whether the node is a convolution of all channels."""
    if node.op.name != "conv" or node.attrs["groups"] != 1:
        return False
    weights = all(isinstance(d, int) for d in node.inputs[1].type.shape)
    return weights and node.outputs[0].type.dtype in (dtypes.f32, dtypes.f64)


def filters(node: Node) -> bool:
    """Whether the node is a convolution of images, of two dims or more, each by itself and to one."""
    if node.op.name != "conv":
        return False
    image, weight = node.inputs
    channels = image.type.shape[1]
    alone = node.attrs["groups"] == channels == weight.type.shape[0] != 1
    sizes = (*image.type.shape[1:], *node.outputs[0].type.shape[1:], *weight.type.shape)
    return alone and image.type.rank >= 4 and all(isinstance(d, int) for d in sizes)


def split_expansion(body: Graph) -> tuple[Graph, Graph]:
    """The expansion alone, and what filters its result, which that reads as its last input. IRError where the body is
    not such a pair."""
    cores = [n for n in body.nodes if n.op.lowering == "contraction"]
    if len(cores) != 2:
        raise IRError(f"an expansion group holds two convolutions, {body.name} holds {len(cores)}")
    middle = cores[1].inputs[0]
    return part_of(body, (middle,)), part_of(body, body.outputs, (middle,))
