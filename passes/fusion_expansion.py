"""A depthwise convolution joins the expansion whose channels it filters, and a projection of what it makes joins both.

A mobile network expands an image to several times its channels and filters each of them by itself. The expanded image is
the largest array of its layer, and nothing else reads it: a kernel that makes a few rows of a few channels and filters
them at once never writes it to memory (M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
2018, section 5.1; `codegen/lower/expansion.py`).

    conv 1x1 -> [norm, activation] -> depthwise conv -> [norm, activation] -> conv 1x1 -> [norm, residual]
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir import dtypes
from ..ir.graph import Graph, IRError, Node
from .fusion_build import Group
from .fusion_partition import Partition
from .regions import part_of

# Elements of the expanded images at least; fewer stay near the core.
MIN_ELEMENTS = 1 << 20


def join_expansions(p: Partition) -> None:
    """Put a convolution and the depthwise one that alone reads its result in one group, of kind `expansion`, and one
    that alone reads that, with kernels of one element."""
    for group in [g for g in p.groups if g.kind == "contraction"]:
        if group.kind != "contraction" or not expands(group.anchor) or p.numel(group.anchor) < MIN_ELEMENTS:
            continue
        filtering = _only_reader(p, group, group.anchor, filters)
        if filtering is None:
            continue
        last = filtering.anchor
        p.merge(group, filtering)
        group.kind = "expansion"
        projecting = _only_reader(p, group, last, projects)
        if projecting is not None:
            p.merge(group, projecting)


def _only_reader(p: Partition, group: Group, core: Node, fits: Callable[[Node], bool]) -> Group | None:
    """The group of the convolution that fits and alone reads this group, as its image: what is made of the result of
    `core`."""
    inside = set(group.nodes)
    readers = {r for n in group.nodes for r in p.consumers(n) if r not in inside}
    if len(readers) != 1 or any(map(p.is_returned, group.nodes)):
        return None
    (reader,) = readers
    other = p.group_of.get(reader)
    if other is None or other.kind != "contraction" or other.anchor is not reader or not fits(reader):
        return None
    image, weight = reader.inputs
    if p.producer.get(image) not in inside or p.producer.get(weight) in inside:
        return None
    if image.type != core.outputs[0].type:
        return None
    return None if p.creates_cycle({*group.nodes, *other.nodes}) else other


def expands(node: Node) -> bool:
    """Whether the node is a convolution of all channels."""
    if node.op.name != "conv" or node.attrs["groups"] != 1:
        return False
    weights = all(isinstance(d, int) for d in node.inputs[1].type.shape)
    return weights and node.outputs[0].type.dtype in (dtypes.f32, dtypes.f64)


def projects(node: Node) -> bool:
    """Whether the node is a convolution of all channels whose kernels are single elements, one after the other."""
    if not expands(node):
        return False
    attrs, kernel = node.attrs, node.inputs[1].type.shape[2:]
    return {*kernel, *attrs["stride"]} == {1} and not any(attrs["padding"])


def filters(node: Node) -> bool:
    """Whether the node is a convolution of images, of two dims or more, each by itself and to one."""
    if node.op.name != "conv":
        return False
    image, weight = node.inputs
    channels = image.type.shape[1]
    alone = node.attrs["groups"] == channels == weight.type.shape[0] != 1
    sizes = (*image.type.shape[1:], *node.outputs[0].type.shape[1:], *weight.type.shape)
    return alone and image.type.rank >= 4 and all(isinstance(d, int) for d in sizes)


def split_expansion(body: Graph) -> tuple[Graph, ...]:
    """Each convolution with what is made of its result; all but the first read that of the one before as their last
    input. IRError where the body is not such a chain."""
    cores = [n for n in body.nodes if n.op.lowering == "contraction"]
    if len(cores) not in (2, 3):
        raise IRError(f"an expansion group holds two or three convolutions, {body.name} holds {len(cores)}")
    images = [core.inputs[0] for core in cores[1:]]
    ends = [(image,) for image in images] + [body.outputs]
    return tuple(part_of(body, end, given) for end, given in zip(ends, ((), *ends[:-1]), strict=True))
