"""What is computed wherever it is read: constants, views, and arithmetic too cheap to go through memory."""

from __future__ import annotations

from ..ir.graph import Node
from ..ir.half_precision import widens
from .fusion_kinds import kind_of, space_of
from .fusion_legality import fits, takes_copies
from .fusion_partition import PURE_VIEWS, Partition, Reason
from .host import placed_lowering, runs_on_host

# Arrays that are read across at once, as a transpose is stored; of more than these a result of their own is read.
MOST_TURNED = 2


def inline_free_nodes(p: Partition, cheap: int, strict: bool) -> None:
    for node in p.graph.nodes:
        scalar = node.op.lowering == "pointwise" and p.numel(node) == 1 and not runs_on_host(node)
        scalar = scalar and all(v.type.numel == 1 for v in node.inputs) and not p.is_returned(node)
        if strict and not all(kind_of(reader) == "loop" for reader in p.consumers(node)):
            continue
        if (
            node.op.lowering == "constant"
            or (node.op.name in PURE_VIEWS and not (not strict and _turns_what_is_computed(p, node)))
            or (scalar and p.cost(node) <= cheap and _reads_no_result(p, node))
        ):
            p.inline(node)


def _turns_what_is_computed(p: Partition, node: Node) -> bool:
    """Whether the node is a transpose that the graph returns of what pointwise ops compute for it alone: they are
    computed as it is stored, and not to be read again for it."""
    if node.op.name != "permute" or node.outputs[0] not in p.returned or p.uses[node.outputs[0]]:
        return False
    value, readers = node.inputs[0], [node]
    while p.uses[value] == readers and value not in p.returned:
        source = p.producer.get(value)
        if source is None or source.op.name not in PURE_VIEWS:
            return source is not None and source.op.lowering == "pointwise" and not runs_on_host(source)
        value, readers = source.inputs[0], [source]
    return False


def inline_widened_operands(p: Partition) -> None:
    """Short numbers that contractions want wide are converted as they are loaded. Not where results must be those of
    the ops one by one: such a product may be rounded in another order (`codegen/packed.py`)."""
    for node in p.unplaced:
        if widens(node) and not p.is_returned(node):
            lowerings = {reader.op.lowering for reader in p.consumers(node)}
            if "contraction" in lowerings and lowerings <= {"contraction", "pointwise", "reduce"}:
                p.inline(node)


def _reads_no_result(p: Partition, node: Node) -> bool:
    """Whether all that a node reads, through inlined nodes, are inputs of the graph: then it delays
    nothing."""
    return not p.sources(node)


def inline_for_pointwise_readers(p: Partition) -> None:
    """Cheap functions of one array, such as the mask of a relu's gradient: their readers read that
    array instead."""
    for node in reversed(p.unplaced):
        if node.op.lowering != "pointwise" or p.is_returned(node) or not _is_light(p, node, 2):
            continue
        readers = p.consumers(node)
        if readers and all(placed_lowering(r) == "pointwise" for r in readers):
            p.inline(node)


def _is_light(p: Partition, node: Node, cost: int) -> bool:
    """Whether recomputing the node costs little: few operations, and no more than one array to read."""
    if p.cost(node) > cost or len(p.consumers(node)) > 4:
        return False
    return len(_arrays(p, node)) <= 1


def _arrays(p: Partition, node: Node) -> set[str]:
    """The arrays of the node's own size that it reads, through inlined nodes."""
    found: set[str] = set()
    stack = list(node.inputs)
    while stack:
        value = stack.pop()
        inner = p.enter(value)
        if inner is not None:
            stack.extend(inner.inputs)
        elif value.type.numel == node.outputs[0].type.numel:
            found.add(value.name)
    return found


def why_not_inline(p: Partition, node: Node, readers: list[Node], cheap: int) -> Reason | None:
    """Whether the node may be computed anew by each of its readers."""
    if node.op.lowering != "pointwise" or p.is_returned(node):
        return Reason.CONSUMER_OUTSIDE
    for reader in readers:
        group = p.group_of.get(reader)
        if group is not None and not takes_copies(group, reader):
            return Reason.OPERAND_IN_MEMORY
    times = sum(_times_read(p, reader, node) for reader in readers)
    light = _is_light(p, node, cheap)
    if (times > 1 or len(readers) > 1) and not (light and times * p.cost(node) <= 4 * cheap):
        return Reason.RECOMPUTED
    alone = len(readers) == 1 and p.group_of.get(readers[0]) is None
    if alone and space_of(readers[0]).holds(node.outputs[0]) and _is_natural(p, node, readers[0]):
        return Reason.CONSUMER_OUTSIDE  # no need: they will form a loop together
    p.inline(node)
    held = {p.group_of[r] for r in readers if r in p.group_of}
    turned = (r for r in readers if r.op.name in PURE_VIEWS)
    in_place = all(fits(p, group) for group in held) and all(
        len(_arrays(p, r)) <= MOST_TURNED for r in turned
    )
    p.materialize(node)
    return None if in_place else Reason.ANOTHER_INDEX


def _is_natural(p: Partition, node: Node, reader: Node) -> bool:
    space = space_of(reader)
    at = space.natural(reader.outputs[0])
    if at is None or reader.op.lowering not in ("pointwise", "view"):
        return False
    return all(where == space.natural(value) for value, where in p.reads(reader, at) if value in node.outputs)


def _times_read(p: Partition, reader: Node, node: Node) -> int:
    """How often the reader's kernel computes an element of the node, about."""
    size = max(p.numel(node), 1)
    if reader.op.lowering == "window":
        kernel, stride = reader.attrs["kernel"], reader.attrs["stride"]
        times = 1
        for k, s in zip(kernel, stride):
            times *= -(-k // s)
        return times
    if reader.op.lowering == "reduce":
        return max(1, p.numel_of(reader.inputs[0].type.shape) // size)
    if reader.op.lowering not in ("pointwise", "view"):
        return 1
    at = space_of(reader).point
    reads = sum(value in node.outputs for value, _ in p.reads(reader, at))
    if reader.op.lowering == "view":
        return reads  # padding and the like read each element at most once
    return reads * max(1, p.numel(reader) // size)
