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
from .grid import Unravel, below, blocks, ceil_div, guarded, inside, most, threads, unrolled, whole_warps
from .turned import launch_turned, turn_of

# Threads of a block: enough blocks fit on a multiprocessor to fill it, whatever registers the kernel takes.
THREADS = 256
# Nests in one kernel.
MAX_TOGETHER = 8
# Operations in one thread's code; more are not repeated for neighbours.
MAX_OPERATIONS = 256


def nests_on_gpu(ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None:
    """One kernel for several nests, each with blocks of its own: a launch costs more than a test in every block. What is
    read across has a kernel of its own."""
    turns = [(nest, turn_of(nest)) for nest in nests]
    nests = [nest for nest, turn in turns if turn is None]
    for nest, turn in turns:
        if turn is not None:
            launch_turned(ctx, name, nest, turn)
    for start in range(0, len(nests), MAX_TOGETHER):
        walks = [Walk(ctx, nest) for nest in nests[start : start + MAX_TOGETHER]]
        count = max(walk.most_threads for walk in walks)
        names = walks[0].nest.names
        total = sum((ceil_div(walk.items, count) for walk in walks), start=0)
        body = blocks(names, total, lambda b, walks=walks, count=count: _together(walks, count, b))  # type: ignore[misc]
        work = sum((walk.nest.work for walk in walks), start=0)
        ctx.launch(name, body, cost=work, flops=work)


def _together(walks: Sequence[Walk], count: int, b: DimLike) -> tuple[Stmt, ...]:
    """Block number `b` of the blocks of all walks, one walk after the other."""
    first, *others = walks
    names = first.nest.names
    own = threads(names, count, lambda t: first.element(b * count + t))
    if not others:
        return own
    mine = ceil_div(first.items, count)
    left = names("b")
    later = loop_index(left, sum((ceil_div(walk.items, count) for walk in others), start=0))
    return (If(below(b, mine), own, (Let(left, Index(b - mine)), *_together(others, count, later))),)


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


class Walk:
    """A nest's elements by number: `width` neighbours along the last axis each."""

    def __init__(self, ctx: LowerContext, nest: Nest):
        self.nest = nest
        self.width = vector_width(ctx, nest)
        self.axes = list(nest.axes)
        if self.axes:
            last = self.axes.pop()
            self.axes.append(Axis(last.var, ceil_div(last.extent, self.width)))
        self.items = dims.product(a.extent for a in self.axes)

    @property
    def most_threads(self) -> int:
        """Threads of a block, for a nest of its own."""
        return min(THREADS, whole_warps(most(self.items)))

    def element(self, item: DimLike) -> tuple[Stmt, ...]:
        """What a thread does that has this number."""
        nest, width = self.nest, self.width
        names = nest.names
        if not self.axes:
            return guarded(inside(item, 1), nest.point({}))
        last = nest.axes[-1]
        found = Unravel(names, item, self.axes)
        start = found.index[last.var] * width

        def at(position: DimLike) -> tuple[Stmt, ...]:
            return nest.point({**found.index, last.var: position})

        body = unrolled(names, width, lambda u: at(start + u))
        if dims.mod(last.extent, width) != 0:
            left, var = names("n"), names("i")
            single = For(var, dims.symbol(left, 1, width - 1), at(start + loop_index(var, width - 1)))
            rest: tuple[Stmt, ...] = (Let(left, Index(last.extent - start)), single)
            body = (If(below(start + (width - 1), last.extent), body, rest),)
        return guarded(inside(item, self.items), (*found.lets, *body))
