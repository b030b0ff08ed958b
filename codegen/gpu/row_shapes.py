"""How many threads share a row that is reduced, which they are, and how many rows a block has.

Where the reduced axis is the contiguous one, neighbouring threads share a row, which they walk along. Where a kept axis
is, they have rows of their own, and the threads of a row lie in different warps: they walk across.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir import dims
from ..loops.nodes import WARP, Load
from ..lower.context import LowerContext
from ..lower.reduce_nest import vector_axis
from ..lower.rows import Rows
from ..lower.template import Axis, stride, walk
from .grid import gpu_target, most

THREADS = 256
# Elements of a row that a thread keeps in registers between stages.
MAX_KEPT = 32
# Elements of a long row for each of its threads, at least.
PER_THREAD = 16
# Elements of a chunk, where a few long rows are split among blocks; and chunks at most.
CHUNK = 8192
MAX_CHUNKS = 512


@dataclass(frozen=True)
class RowShape:
    """rows: of a block. lanes: threads of a row. width: neighbouring elements of a row that a thread takes at once.
    apart: threads of a row are `rows` threads apart, else next to each other."""

    rows: int
    lanes: int
    width: int
    apart: bool

    @property
    def threads(self) -> int:
        return self.rows * self.lanes

    def __str__(self) -> str:
        where = "across" if self.apart else "along"
        return f"{self.rows} rows of {self.lanes} threads, {self.width} elements each, {where}"


def _power(count: int) -> int:
    """The largest power of two that is not more."""
    return 1 << max(count, 1).bit_length() - 1


def shape_of(ctx: LowerContext, rows: Rows) -> RowShape:
    count = most(dims.product(a.extent for a in rows.kept))
    length = most(dims.product(a.extent for a in rows.reduced))
    axis = vector_axis(rows)
    if axis is not None and axis not in rows.reduced:
        columns = WARP
        lanes = min(_power(length), THREADS // columns)
        return RowShape(columns, lanes, 1, True)
    width = _width(ctx, rows)
    lanes = min(_power(max(1, length // width)), WARP)
    if length > MAX_KEPT * WARP:
        lanes = min(1024, max(WARP, _power(length // PER_THREAD)))
    in_block = max(1, min(THREADS // lanes, _power(2 * count - 1)))
    return RowShape(max(in_block, WARP // lanes), lanes, width, False)


def _width(ctx: LowerContext, rows: Rows) -> int:
    if not rows.reduced:
        return 1
    last = rows.reduced[-1]
    widest = 1
    for values in rows.pass_values():
        for expr in walk(values):
            if isinstance(expr, Load):
                if any(stride(i, last) not in (0, 1) for i in expr.index):
                    return 1
                if any(stride(i, last) == 1 for i in expr.index):
                    widest = max(widest, expr.dtype.itemsize)
    for element in rows.along:
        if stride(element.offset, last) != 1:
            return 1
        widest = max(widest, element.buffer.dtype.itemsize)
    width = ctx.target.vector_bytes // max(widest, 2)
    while width > 1 and dims.mod(last.extent, width) != 0:
        width //= 2
    return width


def chunks_of(ctx: LowerContext, rows: Rows) -> tuple[Axis, int] | None:
    """The reduced axis to cut into chunks, and how many; None where there are rows enough for the machine."""
    if len(rows.stages) != 1 or rows.along or not rows.reduced:
        return None
    kept = most(dims.product(a.extent for a in rows.kept))
    length = most(dims.product(a.extent for a in rows.reduced))
    axis = max(rows.reduced, key=lambda a: most(a.extent))
    chunks = min(MAX_CHUNKS, length // CHUNK, most(axis.extent) // 4)
    if kept >= 4 * gpu_target(ctx).multiprocessors * WARP or chunks < 2:
        return None
    even = (n for n in range(chunks, chunks // 2, -1) if dims.mod(axis.extent, 8 * n) == 0)
    return axis, next(even, chunks)
