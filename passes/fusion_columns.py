"""Sums over columns join the kernel that walks the rows.

The gradients of a layer norm's weight and bias are sums over all rows of what the kernel of the input's gradient has at
hand row by row. That kernel adds them up as it goes along (`codegen/lower/column_sums.py`), so `x` and `dy` are read
once and the products that are summed never go to memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import dims
from ..ir.graph import Node
from .fusion_build import Group
from .fusion_index import Space
from .fusion_kinds import sums_columns
from .fusion_legality import why_not_hold
from .fusion_partition import Partition
from .fusion_reductions import Links

# Arrays of fewer elements stay in the cache between two kernels.
MIN_ELEMENTS = 1 << 16
# Each chunk of rows has sums of its own: many rows for each, and sums that stay in the cache with the row.
MIN_ROWS = 128
MIN_COLUMNS, MAX_SUMS = 64, 1 << 14


def join_column_sums(p: Partition) -> None:
    """Sums join the kernel over the rows of what they add up, or of what that is made of."""
    links = Links(p)
    reductions = [g for g in p.groups if g.kind == "reduce"]
    for rows in [g for g in reductions if _walks_rows(p.spaces[g])]:
        space = p.spaces[rows]
        other_dims = tuple(d for d in range(len(space.shape)) if d not in (space.reduced or ()))
        for columns in reductions:
            if p.spaces.get(columns) == Space(space.shape, other_dims) and links.between(rows, columns):
                _join(p, rows, columns)


def _walks_rows(space: Space) -> bool:
    """Whether vectors run along long rows, of which there are many."""
    if (
        not space.reduced
        or len(space.reduced) == len(space.shape)
        or space.reduced[-1] != len(space.shape) - 1
    ):
        return False
    row = dims.product(space.shape[d] for d in space.reduced)
    if not isinstance(row, int) or row < MIN_COLUMNS:
        return False
    numel = dims.bounds(space.numel)[1]
    return space.shape[-1] != 1 and numel >= max(MIN_ELEMENTS, MIN_ROWS * row)


def _join(p: Partition, rows: Group, columns: Group) -> None:
    """What the sums do not need becomes a loop of its own: what reads them can only start when all rows are done, and
    what an optimizer does beside that has the shape of a sum."""
    space = p.spaces[rows]
    sums = [n for n in columns.nodes if n.op.lowering == "reduce"]
    total = sum(sums_columns(n, space) for n in rows.nodes) + len(sums)
    if total * dims.bounds(sums[0].outputs[0].type.numel)[1] > MAX_SUMS:
        return
    needed = _leading_to(p, sums, columns.nodes)
    after = [n for n in columns.nodes if n not in needed]
    for node in after:
        p.displace(node)
    reason = why_not_hold(p, rows, columns.nodes)
    if reason is None:
        p.merge(rows, columns)
        return
    for node in after:
        p.place(node, columns)
    p.refuse(rows.nodes[0], sums[0], reason)


def _leading_to(p: Partition, sums: Sequence[Node], members: Sequence[Node]) -> set[Node]:
    """The sums, and the members that they are computed from."""
    found = set(sums)
    for node in reversed(members):
        if node in found:
            found.update(n for n in p.sources(node) if n in members)
    return found
