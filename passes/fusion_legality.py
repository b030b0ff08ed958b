"""What may a group hold, and what may it compute on the spot?"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import dtypes
from ..ir.graph import Node
from .fusion_build import Group
from .fusion_index import needs_memory, normal
from .fusion_kinds import ALONE, joins, sums_columns
from .fusion_partition import PURE_VIEWS, Partition, Reason, is_operand_view


def why_not_hold(p: Partition, group: Group, nodes: Sequence[Node]) -> Reason | None:
    """Why the group could not have these nodes as well; None if it could: everything in it is read where it stands, and
    no cycle."""
    members = {*group.nodes, *nodes}
    most = p.max_outputs
    if len(members) > p.max_nodes or (len(members) > most and result_count(p, members) > most):
        return Reason.TOO_LARGE
    if not _reads_in_place(p, group, members):
        return Reason.ANOTHER_INDEX
    if _adds_no_path(p, group, nodes) or not p.creates_cycle(members):
        return None
    return Reason.CYCLE


def _adds_no_path(p: Partition, group: Group, nodes: Sequence[Node]) -> bool:
    """Whether it is plain that no cycle arises: a single node that reads nothing but the group, or that nothing
    but the group reads. A way out of the group and back through it would have been one before."""
    if len(nodes) != 1:
        return False
    inside = set(group.nodes)
    sources, readers = p.sources(nodes[0]), p.consumers(nodes[0])
    return any(near and inside.issuperset(near) for near in (sources, readers))


def result_count(p: Partition, members: set[Node]) -> int:
    """How many of the members' results others read."""
    return sum(p.is_returned(n) or any(c not in members for c in p.consumers(n)) for n in members)


def _reads_in_place(p: Partition, group: Group, members: set[Node]) -> bool:
    """Whether each member reads the results of members at their natural indices."""
    space = p.spaces[group]
    anchor = group.anchor if group.kind in ("contraction", "window", *ALONE) else None
    for node in members:
        if node is anchor:
            if any(source in members for source in p.sources(node)):
                return False
            continue
        at = space.natural(node.outputs[0])
        if node.op.lowering == "reduce":
            at = space.natural(node.inputs[0])
        if at is not None:
            reads = p.reads(node, at)
        elif group.kind == "loop" and joins(node, space):
            reads = [pair for v in node.inputs for pair in p.through(v, normal(space.point, v.type.shape))]
        else:
            return False
        for value, where in reads:
            source = p.producer.get(value)
            if source in members and (space.natural(value) != where or sums_columns(source, space)):
                return False
    return True


def fits(p: Partition, group: Group) -> bool:
    """Whether the group's members read one another where they stand; gates stand at several places."""
    return group.kind != "gates" and _reads_in_place(p, group, set(group.nodes))


def takes_copies(group: Group, reader: Node) -> bool:
    """Whether the group computes inlined arithmetic that this node of it reads."""
    return group.kind not in ALONE and not (group.kind == "contraction" and reader is group.anchor)


def accepts(p: Partition, group: Group, node: Node, consumer: Node) -> bool:
    """Whether the group takes a copy of an inlined node that one of its nodes reads."""
    if needs_memory(consumer) or group.kind == "scan":
        return False
    if group.kind in ("contraction", "gates", "expansion") and consumer in _operand_path(p, group):
        return (is_operand_view(node) and not needs_memory(node)) or makes_image(node, consumer)
    if group.kind in ("single", "host", "attention"):
        is_random = group.anchor.op.lowering == "random"
        return not is_random and (node.op.lowering == "constant" or node.op.name in PURE_VIEWS)
    return True


def makes_image(node: Node, consumer: Node) -> bool:
    """Whether the node computes what a depthwise convolution or its weight gradient copies inside a border of zeros,
    image by image, and reads nowhere else."""
    if node.op.lowering != "pointwise" or consumer.op.name not in ("conv", "conv_weight_grad"):
        return False
    image, other = consumer.inputs
    shape, attrs = image.type.shape, consumer.attrs
    if image not in node.outputs or other in node.outputs or image.type.dtype not in (dtypes.f32, dtypes.f64):
        return False
    return attrs["groups"] == shape[1] != 1 and any(attrs["padding"])


def _operand_path(p: Partition, group: Group) -> set[Node]:
    """The contractions, and the inlined views through which they read their operands."""
    path = {n for n in group.nodes if n.op.lowering == "contraction"}
    stack = list(path)
    while stack:
        for value in stack.pop().inputs:
            inner = p.enter(value)
            if inner is not None and is_operand_view(inner) and inner not in path:
                path.add(inner)
                stack.append(inner)
    return path
