"""The loops of a nest on a GPU: a thread for every few neighbouring elements, read and written in 16 bytes."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import For, If, Index, Let, Load, Stmt
from ..lower.context import LowerContext
from ..lower.elementwise import Nest
from ..lower.nests import loop_index
from ..lower.template import Axis, stride, walk
from .grid import Unravel, blocks, ceil_div, guarded, inside, most, threads, unrolled, whole_warps

# Threads of a block: enough blocks fit on a multiprocessor to fill it, whatever registers the kernel takes.
THREADS = 256
# Operations in one thread's code; more are not repeated for neighbours.
MAX_OPERATIONS = 512


def nests_on_gpu(ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None:
    """A kernel for each nest."""
    for nest in nests:
        width = vector_width(ctx, nest)
        ctx.launch(name, _loops(nest, width), cost=nest.work, flops=nest.work)


def vector_width(ctx: LowerContext, nest: Nest) -> int:
    """Neighbours along the last axis that one thread handles: as many as 16 bytes hold of the widest elements that lie
    side by side. 1 where results do not."""
    if not nest.axes:
        return 1
    last = nest.axes[-1]
    if any(stride(e.offset, last) != 1 for e in nest.elements):
        return 1
    widest = max([e.buffer.dtype.itemsize for e in nest.elements], default=1)
    for expr in walk(nest.values):
        if isinstance(expr, Load) and any(stride(i, last) == 1 for i in expr.index):
            widest = max(widest, expr.dtype.itemsize)
    width = max(1, ctx.target.vector_bytes // max(widest, 2))
    while width > 1 and width * nest.operations > MAX_OPERATIONS:
        width //= 2
    if len(nest.axes) > 1:
        # Neighbours must not lie across the end of a row, where addresses need not be multiples of 16 either.
        while width > 1 and dims.mod(last.extent, width) != 0:
            width //= 2
    while width > 1 and width // 2 >= most(last.extent):
        width //= 2
    return width


def _loops(nest: Nest, width: int) -> tuple[Stmt, ...]:
    names = nest.names
    if not nest.axes:
        count = 32
        return blocks(
            names,
            1,
            lambda b: threads(names, count, lambda t: guarded(inside(t, 1), nest.point({}))),
        )
    last = nest.axes[-1]
    ragged = dims.mod(last.extent, width) != 0
    axes = [*nest.axes[:-1], Axis(last.var, ceil_div(last.extent, width))]
    items = dims.product(a.extent for a in axes)
    count = min(THREADS, whole_warps(most(items)))

    def element(b: DimLike, t: DimLike) -> tuple[Stmt, ...]:
        item = b * count + t
        found = Unravel(names, item, axes)
        start = found.index[last.var] * width

        def at(position: DimLike) -> tuple[Stmt, ...]:
            return nest.point({**found.index, last.var: position})

        body = unrolled(names, width, lambda u: at(start + u))
        if ragged:
            whole = inside(start + (width - 1), last.extent)
            left = names("n")
            rest = dims.symbol(left, 1, width - 1)
            var = names("i")
            single = For(var, rest, at(start + loop_index(var, width - 1)))
            assert whole is not None
            body = (If(whole, body, (Let(left, Index(last.extent - start)), single)),)
        return guarded(inside(item, items), (*found.lets, *body))

    return blocks(names, ceil_div(items, count), lambda b: threads(names, count, lambda t: element(b, t)))
