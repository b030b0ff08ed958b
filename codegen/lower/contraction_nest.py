"""The loops of a contraction: tiles of the result held in registers, summed over the reduction axes.

    for task in parallel              # blocks of tiles, and parts of a split sum
      for tile in the task            # one loop nest per full tile and per smaller tile at an axis's end
        acc[tile] = 0
        for r in reduction axes
          acc[tile] += left[tile, r] * right[tile, r]
        result[tile] = epilogue(acc[tile])

A plan (`tiling.py`) says what a tile is and what a task is; `contraction_tile.py` writes the work of one
tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import For, Index, Let, Stmt
from .context import Names
from .contraction import Axis, Contraction
from .contraction_amx import MORE, TILE, TileBlocks, TileMemory
from .contraction_tile import PART, Bindings, Finish, RegisterTile, Soon, Together, loop_var
from .tiling import Plan


@dataclass(frozen=True)
class Segment:
    """Tiles of one size along an axis: the loops over them, where a tile starts, how long it is."""

    loops: tuple[tuple[str, DimLike], ...]
    start: DimLike
    size: DimLike


@dataclass(frozen=True)
class Before:
    """Statements around the tiles: `task` at the start of each task, and `each(positions)` when the tiles of the first
    `depth` axes of the plan's order have begun; or, inside a tile, at each position of the reduction axis `within`."""

    depth: int
    task: tuple[Stmt, ...]
    each: Callable[[Bindings], tuple[Stmt, ...]]
    within: str = ""


def contraction_loops(
    problem: Contraction,
    plan: Plan,
    finish: Finish | Together,
    names: Names | None = None,
    before: Before | None = None,
    soon: Soon | None = None,
    memory: TileMemory | None = None,
) -> tuple[Stmt, ...]:
    """The kernel's body. `finish(index, value)` stores the sum at an index of the result; with a plan of
    several parts the index leads with the part's number. `names`: those of a kernel of which this is a part. `soon`:
    what `finish` will read at a point. `memory`: where it is summed in tile registers, of a kernel that does so
    more than once."""
    return _Nest(problem, plan, finish, names or Names(), before, soon, memory).body()


@dataclass
class _Nest:
    problem: Contraction
    plan: Plan
    finish: Finish | Together
    names: Names
    before: Before | None = None
    soon: Soon | None = None
    memory: TileMemory | None = None

    @cached_property
    def blocks(self) -> TileBlocks | None:
        """Where sums are made in tile registers."""
        if not self.plan.rows:
            return None
        assert self.before is None and not isinstance(self.finish, Together)
        return TileBlocks(self.problem, self.plan, self.finish, self.names, self.memory)

    def body(self) -> tuple[Stmt, ...]:
        tasks: list[tuple[str, DimLike]] = []
        if self.plan.parts > 1:
            tasks.append((PART, self.plan.parts))
        tasks += [(f"{name}_b", self.plan.tasks(self.problem, name)) for name in self.plan.blocks]
        tasks = [(name, count) for name, count in tasks if count != 1]
        # Only the slowest task index may have an extent that is a symbol: the others are divided by.
        tasks.sort(key=lambda task: isinstance(task[1], int))
        inner = self._tiles(0, {}, {})
        if self.before is not None:
            inner = (*self.before.task, *inner)
        if not tasks:
            return inner
        if len(tasks) == 1:
            return (For(tasks[0][0], tasks[0][1], inner, "parallel"),)
        total = dims.product(count for _, count in tasks)
        position = loop_var("task", total)
        decoded: list[Stmt] = []
        below: DimLike = 1
        for name, count in reversed(tasks):
            place = dims.floordiv(position, below)
            if name != tasks[0][0]:
                place = dims.mod(place, count)
            decoded.append(Let(name, Index(place)))
            below = below * count
        return (For("task", total, (*reversed(decoded), *inner), "parallel"),)

    # Tiles.

    def _tiles(self, depth: int, starts: Bindings, sizes: dict[str, DimLike]) -> tuple[Stmt, ...]:
        """Loops over the tiles of the axes from `depth` inwards, around the work of one tile."""
        if depth == len(self.plan.order):
            if self.blocks is not None:
                return self.blocks.statements(starts, sizes)
            before = self.before
            each = {} if before is None or not before.within else {before.within: before.each}
            tile = RegisterTile(
                self.problem, self.plan, self.finish, starts, sizes, self.names("acc"), self.soon, each
            )
            return (*self._begun(depth, starts), *tile.statements())
        axis = self.problem.axes[self.plan.order[depth]]
        body: list[Stmt] = [*self._begun(depth, starts)]
        for segment in self._segments(axis):
            whole = axis.name == self.plan.rows and segment.size == self.plan.tile(axis.name)
            if self.plan.deep and self.blocks is not None and whole and segment.loops:
                at, size = {axis.name: segment.start}, {axis.name: segment.size}
                body += self.blocks.turns(starts | at, sizes | size, *segment.loops)
                continue
            inner = self._tiles(
                depth + 1, starts | {axis.name: segment.start}, sizes | {axis.name: segment.size}
            )
            for name, extent in reversed(segment.loops):
                inner = (For(name, extent, inner),)
            body += inner
        return tuple(body)

    def _begun(self, depth: int, starts: Bindings) -> tuple[Stmt, ...]:
        before = self.before
        return () if before is None or before.within or before.depth != depth else before.each(starts)

    def _segments(self, axis: Axis) -> Iterator[Segment]:
        name, size = axis.name, self.plan.tile(axis.name)
        if name == self.plan.even:
            yield from self._even_segments(axis, size)
            return
        count = dims.floordiv(axis.extent + (size - 1), size)
        full, rest = dims.floordiv(axis.extent, size), dims.mod(axis.extent, size)
        first: DimLike = 0
        here, last = full, dims.minimum(1, rest)
        block = self.plan.blocks.get(name)
        if block is not None:
            first = loop_var(f"{name}_b", self.plan.tasks(self.problem, name)) * block
            here = dims.minimum(block, full - first)
            last = dims.minimum(block, count - first) - here
        tile = loop_var(f"{name}_t", here)
        if here != 0:
            yield Segment(_unless_once((f"{name}_t", here)), (first + tile) * size, size)
        if rest == 0:
            return
        once, extra = _unless_once((f"{name}_e", last)), loop_var(f"{name}_e", last)
        end = (full + extra) * size
        if isinstance(rest, int):
            yield Segment(once, end, rest)
        elif name == self.plan.rows:
            # Rows of as many tiles as fit, then a few at a time.
            for count in (TILE, MORE, 1):
                within = rest if count == TILE else dims.mod(rest, TILE if count == MORE else MORE)
                several = dims.floordiv(within, count)
                if several != 0:
                    start = end + (rest - within) + loop_var(f"{name}_t", several) * count
                    yield Segment((*once, (f"{name}_t", several)), start, count)
        elif name != self.plan.lane:
            yield Segment((*once, (f"{name}_t", rest)), end + loop_var(f"{name}_t", rest), 1)
        else:
            lanes = self.plan.lanes
            vectors = dims.floordiv(rest, lanes)
            if vectors != 0:
                start = end + loop_var(f"{name}_t", vectors) * lanes
                yield Segment((*once, (f"{name}_t", vectors)), start, lanes)
            masked = (dims.floordiv(axis.extent, lanes) + extra) * lanes
            yield Segment(once, masked, dims.mod(axis.extent, lanes))

    def _even_segments(self, axis: Axis, size: int) -> Iterator[Segment]:
        name, extent = axis.name, axis.extent
        assert isinstance(extent, int) and name not in self.plan.blocks
        count = -(-extent // size)
        smaller = count * size - extent
        larger = count - smaller
        if larger:
            tile = loop_var(f"{name}_t", larger)
            yield Segment(_unless_once((f"{name}_t", larger)), tile * size, size)
        if smaller:
            tile = loop_var(f"{name}_e", smaller)
            start = larger * size + tile * (size - 1)
            yield Segment(_unless_once((f"{name}_e", smaller)), start, size - 1)


def _unless_once(loop: tuple[str, DimLike]) -> tuple[tuple[str, DimLike], ...]:
    return () if loop[1] == 1 else (loop,)
