"""Scatters on a GPU, deterministic: points that may meet are one thread's, which takes them in order."""

from __future__ import annotations

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Stmt
from ..lower.context import LowerContext
from ..lower.nests import axis_loops
from ..lower.scatter import Scatter
from .grid import Unravel, blocks, ceil_div, guarded, inside, most, threads, whole_warps

THREADS = 128


def scatter_on_gpu(ctx: LowerContext, name: str, scatter: Scatter) -> None:
    """A thread for every point of the axes around those that are walked."""
    names = scatter.names
    axes = [*scatter.before, *scatter.after]
    items = dims.product(a.extent for a in axes)
    count = min(THREADS, whole_warps(most(items)))

    def element(b: DimLike, t: DimLike) -> tuple[Stmt, ...]:
        item = b * count + t
        found = Unravel(names, item, axes)
        walk = axis_loops(names, scatter.walked, found.index, scatter.element)
        return guarded(inside(item, items), (*found.lets, *walk))

    body = blocks(names, ceil_div(items, count), lambda b: threads(names, count, lambda t: element(b, t)))
    ctx.launch(name, body, cost=scatter.size, flops=scatter.size)
