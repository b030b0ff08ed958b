"""The work of a block whose sums are made in x86's tile registers (AMX).

A tile instruction adds the products of 16 rows of one operand and 16 columns of the other over 16 words to 16x16 sums.
Of a block, whole tiles are summed so over whole steps of 16 words, and stored on the stack. What is left goes the way of
vectors (`contraction_tile.py`): words beyond the last whole step are added to what is on the stack, rows beside the
tiles are summed from zero; and all of it is handed on from there.

A row of the left tile is 16 words that lie side by side in memory, a row of the right one a word for each of 16 columns.
Rows may lie any distance apart. The words of short numbers that are packed along the columns (`contraction_pack.py`) are
right tiles as they are, and numbers that lie side by side along the sum are left ones. Of an operand that lies where it
was nothing is read that it does not have. A copy made for this has room behind it, so tiles may reach past its last row
or column: what they have there is part of no other sum, and is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import (
    TILE_ROWS,
    TILE_WORDS,
    TILES,
    Buffer,
    ClearTile,
    Expr,
    For,
    If,
    Index,
    Load,
    LoadTile,
    MultiplyWords,
    Stmt,
    StoreTile,
)
from ..scalar import SCALAR
from .contraction import Access, Axis, Contraction
from .contraction_tile import Begun, Bindings, Finish, RegisterTile, loop_var
from .names import Names
from .tiling import Plan

# Rows, columns and words of a tile. Rows that do not fill one are summed so many at a time, then one by one.
TILE, MORE = TILE_ROWS, 4
# Accumulators of the vectors that add and hand on what is left.
ACCUMULATORS = 16
assert TILE == TILE_WORDS
# Of each of the sum's axes the first position, and how many steps there are: of the axis of words, 16 of them.
Ranges = dict[str, tuple[DimLike, DimLike]]
# Loops over the tiles of a block.
ROW, COLUMN = "tile_i", "tile_j"


def right_tiles(rows: int, columns: int) -> int:
    """How many tile registers are left for the right operand, beside those of a block's sums and its left operand."""
    return min(columns, TILES - rows * columns - rows)


@dataclass(frozen=True)
class TileMemory:
    """Where blocks are summed: tile registers for the sums, the left operand and the right one, and their place on the
    stack, row by row."""

    sums: Buffer
    left: Buffer
    right: Buffer
    stored: Buffer

    @staticmethod
    def of(names: Names, accumulator: DType, rows: int, columns: int, blocks: int = 1) -> TileMemory:
        """For blocks of so many rows and columns of tiles; sums of so many blocks have room on the stack."""
        shapes = {"sums": (rows, columns), "left": (rows,), "right": (right_tiles(rows, columns),)}
        sums, left, right = (
            Buffer(names(f"tile_{name}"), dtype, (*shape, TILE, TILE), "tile")
            for (name, shape), dtype in zip(
                shapes.items(), (accumulator, dtypes.u32, dtypes.u32), strict=True
            )
        )
        room = (blocks * rows * columns * TILE * TILE,)
        return TileMemory(sums, left, right, Buffer(names("block"), accumulator, room, "stack"))


@dataclass(frozen=True)
class TileBlocks:
    """The blocks of one contraction; `given`: memory of theirs that others of the kernel use too."""

    problem: Contraction[Access]
    plan: Plan
    finish: Finish
    names: Names
    given: TileMemory | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a whole block, in tiles."""
        return self.plan.tile(self.plan.rows) // TILE, self.plan.tile(self.plan.lane) // TILE

    @cached_property
    def memory(self) -> TileMemory:
        """With room for the sums of a task's blocks of rows where they take turns."""
        if self.given is not None:
            return self.given
        count = dims.bounds(self._blocks)[1] if self.plan.deep else 1
        return TileMemory.of(self.names, self.problem.accumulator, *self.grid, count)

    @property
    def _size(self) -> int:
        """A block's elements."""
        rows, columns = self.grid
        return rows * columns * TILE * TILE

    @property
    def _blocks(self) -> DimLike:
        """The whole blocks of rows of a task, at most."""
        whole = dims.floordiv(self.problem.axes[self.plan.rows].extent, self.plan.tile(self.plan.rows))
        return self.plan.blocks.get(self.plan.rows, whole)

    @cached_property
    def operands(self) -> tuple[Access, Access, bool]:
        """The operands of rows and of columns, and whether they stand the other way round in the contraction."""
        left, right = self.problem.operands
        swapped = left.depends_on(self.plan.lane)
        return (right, left, True) if swapped else (left, right, False)

    @property
    def words(self) -> Axis:
        """The reduction axis that counts words."""
        return self.problem.reduction[-1]

    def statements(self, starts: Bindings, sizes: Bindings) -> tuple[Stmt, ...]:
        """The block that begins at `starts` along each parallel axis."""
        return tuple(self._block(starts, sizes))

    def turns(self, starts: Bindings, sizes: Bindings, loop: tuple[str, DimLike]) -> tuple[Stmt, ...]:
        """The whole blocks of rows for which `loop` runs, `plan.deep` steps of the sum for all of them before the next:
        what these read of the columns stays in the first-level cache."""
        rows, columns = self.grid[0], _columns(sizes[self.plan.lane])
        first = loop_var(*loop) * self._size
        loops, ranges = self._cut()
        begins = SCALAR.eq(Index(sum(loop_var(*each) for each in loops)), Index(0))
        body = self._sums(starts, rows, columns, ranges, first, begins)
        for each in (loop, *reversed(loops)):
            body = (For(*each, body),)
        begun = Begun(self._sum(starts, columns * TILE, first), TILE)
        return (*body, For(*loop, tuple(self._vectors(starts, sizes, begun))))

    def _cut(self) -> tuple[list[tuple[str, DimLike]], Ranges]:
        """Loops over the parts of a sum that have `plan.deep` steps, or fewer, and what each part has of the axes."""
        ranges, inner, cut = self._whole(), 1, False
        loops: list[tuple[str, DimLike]] = []
        for axis in reversed(self.problem.reduction):
            low, count = ranges[axis.name]
            assert isinstance(low, int) and isinstance(count, int)
            if inner * count <= self.plan.deep and not cut:
                inner *= count
                continue
            parts = -(-count // (1 if cut else max(1, self.plan.deep // inner)))
            size = -(-count // parts)
            var, cut = (f"{axis.name}_c", parts), True
            first = loop_var(*var) * size
            ranges[axis.name] = (low + first * self._step(axis), dims.minimum(size, count - first))
            loops.append(var)
        return [loop for loop in reversed(loops) if loop[1] != 1], ranges

    def _whole(self) -> Ranges:
        """All of the sum's axes, in this task's part of it."""
        walk = RegisterTile(self.problem, self.plan, self.finish, {}, {})
        found: Ranges = {}
        for axis in self.problem.reduction:
            low, extent = walk.within(axis)
            found[axis.name] = (low, dims.floordiv(extent, self._step(axis)))
        return found

    def _step(self, axis: Axis) -> int:
        """Positions of a reduction axis in a step."""
        return TILE if axis is self.words else 1

    def _block(self, starts: Bindings, sizes: Bindings) -> Iterator[Stmt]:
        row, lane = self.plan.rows, self.plan.lane
        height, width = sizes[row], sizes[lane]
        assert isinstance(height, int) and self.plan.padded
        columns, ranges = _columns(width), self._whole()
        rows = height // TILE
        if self.plan.room and height % TILE >= MORE:
            rows += 1
        if any(steps == 0 for _, steps in ranges.values()):
            rows = 0
        if rows:
            yield from self._sums(starts, rows, columns, ranges)
            inside = sizes | {row: min(height, rows * TILE)}
            yield from self._vectors(starts, inside, Begun(self._sum(starts, columns * TILE), TILE))
        if height > rows * TILE:
            at = starts | {row: starts[row] + rows * TILE}
            yield from self._vectors(at, sizes | {row: height - rows * TILE})

    def _sum(self, starts: Bindings, width: int, first: DimLike = 0) -> Callable[[Bindings], Expr]:
        """What is on the stack of a point, of a block that is stored from `first` on."""
        row, lane = self.plan.rows, self.plan.lane

        def sum(bindings: Bindings) -> Expr:
            place = first + (bindings[row] - starts[row]) * width + (bindings[lane] - starts[lane])
            return Load(self.memory.stored, (place,))

        return sum

    # In tiles.

    def _sums(
        self,
        starts: Bindings,
        rows: int,
        columns: int,
        ranges: Ranges,
        first: DimLike = 0,
        begins: Expr | None = None,
    ) -> tuple[Stmt, ...]:
        """The block's sums over whole steps, to the stack from `first` on; added to those there unless it `begins`."""
        i, j = loop_var(ROW, rows), loop_var(COLUMN, columns)
        width = columns * TILE
        sums = Load(self.memory.sums, (i, j, 0, 0))
        kept = Load(self.memory.stored, (first + i * TILE * width + j * TILE,))
        start = _each(rows, columns, ClearTile(sums))
        if begins is not None:
            start = (If(begins, start, _each(rows, columns, LoadTile(sums, kept, width))),)
        steps = self._steps(starts, rows, columns, ranges)
        return (*start, *steps, *_each(rows, columns, StoreTile(kept, sums, width)))

    def _steps(self, starts: Bindings, rows: int, columns: int, ranges: Ranges) -> tuple[Stmt, ...]:
        memory = self.memory
        of_rows, of_columns, swapped = self.operands
        i, j = loop_var(ROW, rows), loop_var(COLUMN, columns)
        several = memory.right.shape[0]
        assert isinstance(several, int)
        at: Bindings = {}
        loops: list[tuple[str, DimLike]] = []
        for axis in self.problem.reduction:
            low, count = ranges[axis.name]
            at[axis.name] = low + loop_var(axis.name, count) * self._step(axis)
            loops.append((axis.name, count))
        row_place = starts | at | {self.plan.rows: starts[self.plan.rows] + i * TILE}
        column_place = starts | at | {self.plan.lane: starts[self.plan.lane] + j * TILE}
        row_tile, column_tile = Load(memory.left, (i, 0, 0)), Load(memory.right, (dims.mod(j, several), 0, 0))
        multiply = MultiplyWords(
            Load(memory.sums, (i, j, 0, 0)), row_tile, column_tile, self.problem.dot, swapped
        )
        load = self._load(row_tile, of_rows, row_place, self.plan.rows)
        body: tuple[Stmt, ...] = (
            *_unrolled(ROW, rows, (replace(load, passing=self.plan.passing),)),
            *_unrolled(
                COLUMN,
                columns,
                (
                    self._load(column_tile, of_columns, column_place, self.words.name),
                    *_unrolled(ROW, rows, (multiply,)),
                ),
            ),
        )
        for name, extent in reversed(loops):
            if extent != 1:
                body = (For(name, extent, body),)
        return body

    def _load(self, tile: Load, operand: Access, place: Bindings, along: str) -> LoadTile:
        """A tile of an operand; its rows follow each other `along` an axis."""
        first = tuple(dims.substitute(index, place) for index in operand.index)
        following = tuple(
            dims.substitute(index, place | {along: place[along] + 1}) for index in operand.index
        )
        return LoadTile(
            tile, Load(operand.buffer, first), operand.buffer.offset(following) - operand.buffer.offset(first)
        )

    # In vectors.

    def _vectors(self, starts: Bindings, sizes: Bindings, begun: Begun | None = None) -> Iterator[Stmt]:
        """Part of a block in vectors: a loop over as many rows as accumulators are for, then the rows that are left."""
        row, lane = self.plan.rows, self.plan.lane
        height, width = sizes[row], sizes[lane]
        assert isinstance(height, int)
        vectors = -(-width // self.plan.lanes) if isinstance(width, int) else 1
        if self.plan.turned and vectors > 1:
            for first in range(0, vectors * self.plan.lanes, self.plan.lanes):
                at = starts | {lane: starts[lane] + first}
                some = dims.minimum(self.plan.lanes, width - first)
                yield from self._vectors(at, sizes | {lane: some}, begun)
            return
        together = min(height, max(1, ACCUMULATORS // vectors))
        several, rest = divmod(height, together)
        turn = loop_var(f"{row}_r", several)
        body = self._tile(starts | {row: starts[row] + turn * together}, sizes | {row: together}, begun)
        yield from body if several == 1 else (For(f"{row}_r", several, body),)
        if rest:
            at = starts | {row: starts[row] + several * together}
            yield from self._tile(at, sizes | {row: rest}, begun)

    def _tile(self, starts: Bindings, sizes: Bindings, begun: Begun | None) -> tuple[Stmt, ...]:
        plan = self.plan
        if plan.turned and sizes[plan.turned] == 1:
            plan = replace(plan, turned="")
        tile = RegisterTile(self.problem, plan, self.finish, starts, sizes, self.names("acc"), begun=begun)
        return tile.statements()


def _columns(width: DimLike) -> int:
    """Tiles of a width; one that is not known is what is left beside whole tiles."""
    return -(-width // TILE) if isinstance(width, int) else 1


def _unrolled(var: str, count: int, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    return body if count == 1 else (For(var, count, body, "unroll"),)


def _each(rows: int, columns: int, stmt: Stmt) -> tuple[Stmt, ...]:
    return _unrolled(ROW, rows, _unrolled(COLUMN, columns, (stmt,)))
