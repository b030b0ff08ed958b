"""Where a node is computed decides how many bytes are moved.

What stands between a contraction and a reduction belongs to whichever of the two moves fewer. Joined to the
contraction, a product of its result is written and read again, beside the result itself where others want that; in the
reduction's kernel it needs the result alone. The gradient of a layer norm reads its rows three times over, multiplied by
this and by that: three arrays if the contraction before makes the products, one if the norm does.

And what is cheap is not worth memory where its operands are in memory anyway: the gradient of a batch norm reads what
the norm read, and subtracts the mean again.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.graph import Node, Value
from .fusion_build import Group
from .fusion_legality import fits, takes_copies, why_not_hold
from .fusion_partition import Partition

# Smaller arrays stay in the cache.
MIN_ELEMENTS = 1 << 14


def give_back(p: Partition) -> None:
    """Move the ends of contractions' and windows' epilogues into the reductions that read them, as many nodes from the
    end as leave the least to be read and written: a move may cost something that a later one saves twice."""
    for group in [g for g in p.groups if g.kind in ("contraction", "window")]:
        moved: list[tuple[Node, Group]] = []
        least, best = 0, 0
        total = 0
        for node in list(reversed(group.nodes)):
            home = _home(p, node)
            if home is None:
                continue
            before = traffic(p, group) + traffic(p, home)
            p.displace(node)
            if why_not_hold(p, home, [node]) is not None:
                p.place(node, group)
                continue
            p.place(node, home)
            moved.append((node, home))
            total += traffic(p, group) + traffic(p, home) - before
            if total < least:
                least, best = total, len(moved)
        for node, _ in reversed(moved[best:]):
            p.displace(node)
            p.place(node, group)


def compute_again(p: Partition, cheap: int) -> None:
    """Let the readers of a value in other groups compute it themselves where that moves fewer bytes than writing it:
    functions of one array, since of two the readers would read more. `cheap`: operations per element at most."""
    for group in p.groups:
        for node in reversed(group.nodes):
            readers = p.consumers(node)
            homes = {group, *(p.group_of[r] for r in readers)}
            if (
                node.op.lowering != "pointwise"
                or len(homes) == 1
                or p.numel(node) < MIN_ELEMENTS
                or p.is_returned(node)
                or p.cost(node) > cheap
                or len({v for v in node.inputs if p.numel_of(v.type.shape) == p.numel(node)}) > 1
                or not all(takes_copies(p.group_of[r], r) for r in readers)
            ):
                continue
            before = sum(traffic(p, home) for home in homes)
            p.displace(node)
            p.inline(node)
            if not all(fits(p, home) for home in homes) or sum(traffic(p, home) for home in homes) >= before:
                p.materialize(node)
                p.place(node, group)


def _home(p: Partition, node: Node) -> Group | None:
    """The reduction that reads the node and could hold it, if nothing else reads it."""
    if node.op.lowering != "pointwise" or p.is_returned(node):
        return None
    homes = {p.group_of.get(reader) for reader in p.consumers(node)}
    if len(homes) != 1:
        return None
    (home,) = homes
    could = home is not None and home.kind == "reduce" and p.spaces[home].holds(node.outputs[0])
    return home if could else None


def traffic(p: Partition, group: Group) -> int:
    """Bytes that the group's kernel reads and writes, at most, each array once."""
    inside = set(group.nodes)
    written = (
        v
        for n in group.nodes
        if p.is_returned(n) or any(reader not in inside for reader in p.consumers(n))
        for v in n.outputs
    )
    return _nbytes(p, written) + _nbytes(p, _arrays(p, group))


def _arrays(p: Partition, group: Group) -> set[Value]:
    """What the group reads from memory, itself or through inlined nodes."""
    found = {v for n in group.nodes for v in n.inputs}
    inside = {v for n in group.nodes for v in n.outputs}
    stack = list(found)
    while stack:
        inner = p.enter(stack.pop())
        for value in inner.inputs if inner is not None else ():
            if value not in found:
                found.add(value)
                stack.append(value)
    return {v for v in found - inside if p.enter(v) is None}


def _nbytes(p: Partition, values: Iterable[Value]) -> int:
    return sum(p.numel_of(v.type.shape) * v.type.dtype.itemsize for v in values)
