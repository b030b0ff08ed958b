"""The gates of a recurrent step join the product they are made of.

A step of an LSTM is one product [rows, gates * width], of which the i-th unit of every gate makes the i-th unit of the
new states. A kernel that has the tiles of all gates side by side in registers computes the states where the product is
done: no trip through memory, and one launch a step in place of two (`codegen/lower/gates.py`).

    matmul -> [add bias] -> a slice for each gate -> pointwise -> states, and gates side by side
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir import dims
from ..ir.dims import DimLike
from ..ir.graph import Graph, Node, Value
from .fusion_build import Group
from .fusion_index import normal
from .fusion_kinds import joins
from .fusion_partition import Partition
from .regions import part_of

MAX_GATES = 8
# Of more rows the product is large enough to be walked as other products are.
MAX_ROWS = 256
MIN_WIDTH = 8


def gate_count(nodes: Iterable[Node], result: Value) -> int | None:
    """Of how many gates the columns of a product are, whose result goes into `nodes`: slices of one width, which is
    a part of all columns. None where it is read in another way."""
    whole = {result}
    widths: set[DimLike] = set()
    for node in nodes:
        if whole.isdisjoint(node.inputs):
            continue
        (value,) = node.outputs
        if node.op.lowering == "pointwise" and value.type.shape == result.type.shape:
            whole.add(value)
        elif node.op.name == "slice" and value.type.rank == 2 and value.type.shape[0] == result.type.shape[0]:
            widths.add(value.type.shape[1])
        else:
            return None
    columns = result.type.shape[-1]
    if len(widths) != 1 or not isinstance(columns, int):
        return None
    (width,) = widths
    if not isinstance(width, int) or width == 0 or columns % width:
        return None
    return columns // width


def join_gates(p: Partition) -> None:
    """Loops over the gates join the contraction whose result nothing but they read."""
    for group in [g for g in p.groups if g.kind == "contraction"]:
        loop = _gates_of(p, group)
        if loop is not None:
            p.merge(group, loop)
            group.kind = "gates"


def _gates_of(p: Partition, group: Group) -> Group | None:
    core = group.anchor
    (result, *_) = core.outputs
    if core.op.name != "matmul" or result.type.rank != 2 or any(p.is_returned(n) for n in group.nodes):
        return None
    if dims.bounds(result.type.shape[0])[1] > MAX_ROWS:
        return None
    inside = set(group.nodes)
    readers = {r for n in group.nodes for r in p.consumers(n) if r not in inside}
    loops = {p.group_of.get(r) for r in readers}
    if len(loops) != 1:
        return None
    (loop,) = loops
    if loop is None or loop.kind != "loop":
        return None
    after = [n for n in p.graph.nodes if n in inside or n in p.inlined or p.group_of.get(n) is loop]
    count = gate_count([n for n in after if n is not core], result)
    if count is None or not 2 <= count <= MAX_GATES:
        return None
    width = result.type.shape[1] // count
    space = p.spaces[loop]
    if space.shape != (result.type.shape[0], width) or dims.bounds(width)[0] < MIN_WIDTH:
        return None
    held = {v for n in group.nodes for v in n.outputs}
    row, unit = space.point
    places = {normal((row, unit + gate * width), result.type.shape) for gate in range(count)}
    for node in loop.nodes:
        if joins(node, space):
            if held.intersection(node.inputs) or node.attrs["dim"] != 1:
                return None
            continue
        at = space.natural(node.outputs[0])
        if at is None or node.outputs[0].type.shape != space.shape:
            return None
        if any(v in held and where not in places for v, where in p.reads(node, at)):
            return None
    if p.creates_cycle({*group.nodes, *loop.nodes}):
        return None
    return loop


def split_gates(body: Graph, core: Node) -> tuple[Graph, Graph]:
    """The product alone, and what is made of it, which reads it as its last input."""
    return part_of(body, core.outputs), part_of(body, body.outputs, core.outputs)
