"""Contractions on a GPU: tiles of the result, one a block, summed over slices of the reduction in shared memory.

    for tile in grid
      for slice of the reduction
        threads: left[slice, rows], right[slice, columns] into shared memory
        threads: acc[rows, columns] += left * right, in registers
      threads: result = epilogue(acc)

Rows are the axes that only the left operand depends on, columns those of the right one, each made one long axis; an
element of a slice reads its operand by whatever expression that is. So a convolution is a matrix product whose operand
is never written down (implicit GEMM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Expr, For, Load, Stmt, Store
from ..lower.context import LowerContext, Names
from ..lower.contraction import Contraction, Reading
from ..lower.contraction_lower import Epilogue, add_parts
from ..lower.contraction_tile import multiply_add
from ..lower.nests import loop_index
from ..lower.rows import identity
from ..lower.template import Axis, Element, bind_shared, collapse, index_values, instantiate, stride, walk
from ..scalar import SCALAR
from .grid import Unravel, blocks, ceil_div, guarded, inside, most, threads, unrolled


@dataclass(frozen=True)
class Tile:
    """rows, columns: of the result. depth: of a slice. high, wide: the part of a thread, rows and columns."""

    rows: int
    columns: int
    depth: int
    high: int
    wide: int

    @property
    def down(self) -> int:
        """Threads along the rows."""
        return self.rows // self.high

    @property
    def across(self) -> int:
        return self.columns // self.wide

    @property
    def threads(self) -> int:
        return self.down * self.across

    def __str__(self) -> str:
        return f"tile {self.rows}x{self.columns}, slices of {self.depth}, {self.high}x{self.wide} a thread"


# From large to small. The first that fills the machine, or else the last that is not wider than the result.
TILES = (
    Tile(128, 128, 8, 8, 8),
    Tile(128, 64, 8, 8, 4),
    Tile(64, 128, 8, 4, 8),
    Tile(64, 64, 16, 4, 4),
    Tile(64, 32, 16, 4, 2),
    Tile(32, 64, 16, 2, 4),
    Tile(32, 32, 16, 2, 2),
    Tile(128, 8, 16, 4, 1),
    Tile(8, 128, 16, 1, 4),
    Tile(16, 16, 16, 1, 1),
)
# Tiles of 64-bit elements hold fewer.
WIDE_TILES = (Tile(64, 64, 8, 4, 4), Tile(32, 32, 8, 2, 2), Tile(16, 16, 16, 1, 1))
# A sum that is not shorter is cut into parts where tiles are too few for the machine.
PART = 512
MAX_PARTS = 32
PART_AXIS = "part"


def contraction_on_gpu(ctx: LowerContext, problem: Contraction[Reading], epilogue: Epilogue) -> None:
    elements = epilogue.elements(problem.result)
    form = _Form(ctx, problem, elements, epilogue)
    form.launch()


@dataclass(frozen=True)
class _Space:
    """The axes of a contraction by what depends on them."""

    batch: list[Axis]
    rows: list[Axis]
    columns: list[Axis]
    sums: list[Axis]

    @staticmethod
    def size(axes: Sequence[Axis]) -> DimLike:
        return dims.product(a.extent for a in axes)


class _Form:
    def __init__(
        self,
        ctx: LowerContext,
        problem: Contraction[Reading],
        elements: Sequence[Element],
        epilogue: Epilogue,
    ):
        self.ctx = ctx
        self.problem = problem
        self.epilogue = epilogue
        self.names = Names()
        self._spaces(elements)
        self.row_count = _Space.size(self.space.rows)
        self.column_count = _Space.size(self.space.columns)
        self.depth = _Space.size(self.space.sums)
        self.tile = self._tile()
        self.parts = self._parts()
        part = ceil_div(self.depth, self.parts)
        # Parts are whole slices, so that only the last slice of the last one is ragged.
        self.part = ceil_div(part, self.tile.depth) * self.tile.depth if self.parts > 1 else self.depth

    def _spaces(self, elements: Sequence[Element]) -> None:
        """Axes merged as far as operands and epilogue walk them as one, and sorted."""
        problem = self.problem
        axes = [Axis(a.name, a.extent) for a in (*problem.parallel, *problem.reduction)]
        left, right = problem.left, problem.right
        groups: dict[str, list[Axis]] = {"batch": [], "rows": [], "columns": [], "sums": []}
        summed = {a.name for a in problem.reduction}
        for axis in axes:
            by_left, by_right = left.depends_on(axis.var), right.depends_on(axis.var)
            kind = "rows" if by_left and not by_right else "columns" if by_right and not by_left else "batch"
            groups["sums" if axis.var in summed else kind].append(axis)
        values = [left.value, right.value, *(e.value for e in elements)]
        position = problem.position
        indices = [*index_values(values), *(e.offset for e in elements), position]
        bindings: dict[str, DimLike] = {}
        for kind, found in groups.items():
            groups[kind], more = collapse(found, indices)
            bindings |= more
        memo: dict[int, Expr] = {}
        self.left, self.right = (instantiate(r.value, bindings, memo) for r in (left, right))
        self.elements = [e.at(bindings, memo) for e in elements]
        self.position = dims.substitute(position, bindings)
        self.space = _Space(**groups)

    def _tile(self) -> Tile:
        rows, columns = most(self.row_count), most(self.column_count)
        wide = self.problem.accumulator.itemsize > 4
        batch = most(_Space.size(self.space.batch))
        enough = getattr(self.ctx.target, "multiprocessors", 1)
        fitting = [
            t
            for t in (WIDE_TILES if wide else TILES)
            if t.rows < 2 * max(rows, 16) and t.columns < 2 * max(columns, 16)
        ]
        for tile in fitting:
            if batch * -(-rows // tile.rows) * -(-columns // tile.columns) >= enough:
                return tile
        return fitting[len(fitting) // 2] if fitting else (WIDE_TILES if wide else TILES)[-1]

    def _parts(self) -> int:
        tile = self.tile
        tiles = most(_Space.size(self.space.batch)) * -(-most(self.row_count) // tile.rows)
        tiles *= -(-most(self.column_count) // tile.columns)
        idle = 2 * getattr(self.ctx.target, "multiprocessors", 1) // max(tiles, 1)
        return max(1, min(idle, most(self.depth) // PART, MAX_PARTS))

    # Statements

    def launch(self) -> None:
        ctx, problem, tile = self.ctx, self.problem, self.tile
        parts: Buffer | None = None
        if self.parts > 1:
            parts = ctx.scratch("parts", problem.accumulator, (self.parts, dims.product(problem.shape)))
        comment = f"{tile}" + (f", summed in {self.parts} parts" if self.parts > 1 else "")
        ctx.launch(problem.name, self._body(parts), cost=1, flops=problem.flops, comment=comment)
        if parts is not None:
            add_parts(ctx, problem, self.epilogue, parts, self.parts)

    def _body(self, parts: Buffer | None) -> tuple[Stmt, ...]:
        names, tile, space = self.names, self.tile, self.space
        row_tiles = Axis(names("row_tile"), ceil_div(self.row_count, tile.rows))
        column_tiles = Axis(names("column_tile"), ceil_div(self.column_count, tile.columns))
        part = Axis(names(PART_AXIS), self.parts)
        # Neighbouring blocks share rows of the left operand.
        grid = [*space.batch, part, row_tiles, column_tiles]

        def block(b: DimLike) -> tuple[Stmt, ...]:
            found = Unravel(names, b, grid)
            place = found.index
            row, column = place[row_tiles.var] * tile.rows, place[column_tiles.var] * tile.columns
            batch = {a.var: place[a.var] for a in space.batch}
            start = place[part.var] * self.part
            return (
                *found.lets,
                *self._sums(batch, row, column, start),
                *self._results(batch, row, column, parts, place[part.var]),
            )

        return blocks(names, dims.product(a.extent for a in grid), block)

    def _sums(
        self, batch: Mapping[str, DimLike], row: DimLike, column: DimLike, start: DimLike
    ) -> tuple[Stmt, ...]:
        names, tile, problem = self.names, self.tile, self.problem
        dtype = problem.accumulator
        left = Buffer(names("left"), dtype, (tile.depth, tile.rows), "shared")
        right = Buffer(names("right"), dtype, (tile.depth, tile.columns), "shared")
        self.acc = Buffer(names("acc"), dtype, (tile.threads, tile.high, tile.wide), "thread")
        acc = self.acc

        def clear(t: DimLike) -> Sequence[Stmt]:
            zero = identity("add", dtype)
            return unrolled(
                names,
                tile.high,
                lambda i: unrolled(names, tile.wide, lambda j: [Store(acc, (t, i, j), zero)]),
            )

        def step(k: DimLike) -> tuple[Stmt, ...]:
            at = start + k * tile.depth
            limit = dims.minimum(self.depth, start + self.part) if self.parts > 1 else self.depth
            fills = (
                self._fill(left, self.left, batch, self.space.rows, row, self.row_count, at, limit),
                self._fill(
                    right, self.right, batch, self.space.columns, column, self.column_count, at, limit
                ),
            )
            load = threads(names, tile.threads, lambda t: [s for fill in fills for s in fill(t)])
            return load + threads(names, tile.threads, lambda t: self._multiply(t, left, right))

        if self.depth == 0:
            return threads(names, tile.threads, clear)
        slices = ceil_div(self.part, tile.depth)
        var = names("k")
        loop = For(var, slices, step(loop_index(var, slices)))
        return (*threads(names, tile.threads, clear), loop)

    def _fill(self, shared, value, batch, axes, first, count, at, limit):  # type: ignore[no-untyped-def]
        """Statements of a thread that copy its elements of a slice into shared memory."""
        names, tile = self.names, self.tile
        width = int(shared.shape[1])
        along = self._along(value, axes)
        number = tile.depth * width

        def fill(t: DimLike) -> tuple[Stmt, ...]:
            def element(u: DimLike) -> tuple[Stmt, ...]:
                place = t + u * tile.threads
                if along:  # neighbouring threads read neighbours along the rows or columns
                    depth, across = dims.floordiv(place, width), dims.mod(place, width)
                else:
                    depth, across = dims.mod(place, tile.depth), dims.floordiv(place, tile.depth)
                outer = Unravel(names, first + across, axes)
                inner = Unravel(names, at + depth, self.space.sums)
                read = instantiate(value, {**batch, **outer.index, **inner.index})
                read = SCALAR.cast(read, shared.dtype)
                for test in (inside(first + across, count), inside(at + depth, limit)):
                    if test is not None:
                        read = SCALAR.select(test, read, identity("add", shared.dtype))
                body = (*outer.lets, *inner.lets, Store(shared, (depth, across), read))
                if number % tile.threads:
                    return guarded(inside(place, number), body)
                return body

            return unrolled(names, -(-number // tile.threads), element)

        return fill

    def _along(self, value: Expr, axes: Sequence[Axis]) -> bool:
        """Whether neighbours in memory lie along the rows or columns, rather than along the sum."""
        loads = [e for e in walk([value]) if isinstance(e, Load)]

        def side_by_side(axis: Axis) -> int:
            return sum(stride(i, axis) == 1 for e in loads for i in e.index)

        if not axes:
            return False
        return not self.space.sums or side_by_side(axes[-1]) >= side_by_side(self.space.sums[-1])

    def _own(self, t: DimLike) -> tuple[DimLike, DimLike]:
        """The thread's place down and across."""
        across = self.tile.across
        return dims.floordiv(t, across), dims.mod(t, across)

    def _line(self, place: DimLike, of: int, own: int, i: DimLike) -> DimLike:
        """Row (or column) number `i` of a thread's `own`: groups of up to 4 neighbours, the groups of all `of` threads
        side by side, so that reads of shared memory meet no bank twice."""
        group = min(own, 4)
        return dims.floordiv(i, group) * (of * group) + place * group + dims.mod(i, group)

    def _multiply(self, t: DimLike, left: Buffer, right: Buffer) -> tuple[Stmt, ...]:
        names, tile, acc = self.names, self.tile, self.acc
        down, across = self._own(t)

        def depth(k: DimLike) -> tuple[Stmt, ...]:
            a, b = names("a"), names("b")
            a_reg = Buffer(a, acc.dtype, (tile.threads, tile.high), "thread")
            b_reg = Buffer(b, acc.dtype, (tile.threads, tile.wide), "thread")
            read_a = unrolled(
                names,
                tile.high,
                lambda i: [Store(a_reg, (t, i), Load(left, (k, self._line(down, tile.down, tile.high, i))))],
            )
            read_b = unrolled(
                names,
                tile.wide,
                lambda j: [
                    Store(b_reg, (t, j), Load(right, (k, self._line(across, tile.across, tile.wide, j))))
                ],
            )

            def add(i: DimLike, j: DimLike) -> list[Stmt]:
                total = multiply_add(Load(a_reg, (t, i)), Load(b_reg, (t, j)), Load(acc, (t, i, j)))
                return [Store(acc, (t, i, j), total)]

            sums = unrolled(names, tile.high, lambda i: unrolled(names, tile.wide, lambda j: add(i, j)))
            return (*read_a, *read_b, *sums)

        return unrolled(names, tile.depth, depth)

    def _results(
        self,
        batch: Mapping[str, DimLike],
        row: DimLike,
        column: DimLike,
        parts: Buffer | None,
        part: DimLike,
    ) -> tuple[Stmt, ...]:
        names, tile, space = self.names, self.tile, self.space

        def results(t: DimLike) -> tuple[Stmt, ...]:
            down, across = self._own(t)

            def line(i: DimLike) -> tuple[Stmt, ...]:
                m = row + self._line(down, tile.down, tile.high, i)
                at_row = Unravel(names, m, space.rows)

                def element(j: DimLike) -> tuple[Stmt, ...]:
                    n = column + self._line(across, tile.across, tile.wide, j)
                    at_column = Unravel(names, n, space.columns)
                    bindings = {**batch, **at_row.index, **at_column.index}
                    total = Load(self.acc, (t, i, j))
                    if parts is not None:
                        place = (part, dims.substitute(self.position, bindings))
                        stores: tuple[Stmt, ...] = (Store(parts, place, total),)
                    else:
                        memo: dict[int, Expr] = {}
                        known = self.epilogue.known(total)
                        stores = bind_shared(
                            [e.at(bindings, memo, known).store() for e in self.elements], names
                        )
                    return guarded(inside(n, self.column_count), (*at_column.lets, *stores))

                body = (*at_row.lets, *unrolled(names, tile.wide, element))
                return guarded(inside(m, self.row_count), body)

            return unrolled(names, tile.high, line)

        return threads(names, tile.threads, results)
