"""Contractions on a GPU: tiles of the result, one a block, summed over slices of the reduction in shared memory.

    for tile in grid
      threads: the first slice of both operands into registers
      for slice of the reduction
        threads: registers into shared memory
        threads: the next slice into registers, on its way while this one is multiplied
        threads: sums += left slice * right slice
      threads: result = epilogue(sums)

Rows are the axes that only the left operand depends on, columns those of the right one, each made one long axis; an
element of a slice reads its operand by whatever expression that is. So a convolution is a matrix product whose operand
is never written down (implicit GEMM).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import (
    Apply,
    Buffer,
    CopyCommit,
    CopyWait,
    Expr,
    For,
    If,
    Index,
    Let,
    Load,
    Stmt,
    Store,
)
from ..lower.context import LowerContext, Names
from ..lower.contraction import Contraction, Reading
from ..lower.contraction_lower import Epilogue, add_parts
from ..lower.nests import loop_index
from ..lower.template import Axis, Element, bind_shared, collapse, index_values, instantiate
from .grid import Unravel, below, blocks, ceil_div, guarded, inside, most, threads
from .slices import Slices
from .staying import add_staying
from .tiles import FMA_TILES, MMA_TILES, TF32_TILES, WIDE_TILES, MmaTile, Tile, Wrap
from .warpgroups import WARPGROUP_TILES, Side, WarpgroupTile, side_of

# A sum that is not shorter is cut into parts where tiles are too few for the machine.
PART = 256
MAX_PARTS = 32
# Slices on their way at a time, and the one that is multiplied.
MAX_STAGES = 4
PART_AXIS = "part"
# Rows of tiles whose blocks run next to each other, so that they share columns in the cache.
ROWS_TOGETHER = 8


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
        self.sides = self._sides()
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
        self.left, self.right = (_narrow(instantiate(r.value, bindings, memo)) for r in (left, right))
        self.elements = [e.at(bindings, memo) for e in elements]
        self.position = dims.substitute(position, bindings)
        self.space = _Space(**groups)

    def _sides(self) -> tuple[Side, Side] | None:
        """The operands for warpgroups and the copy engine; None where they cannot or need not multiply them."""
        narrow, space = self.left.dtype, self.space
        allowed = (dtypes.f16, dtypes.bf16, *((dtypes.f32,) if self._rounds() else ()))
        sizes = (most(self.row_count), most(self.column_count), most(self.depth))
        if (
            not getattr(self.ctx.target, "has_wgmma", False)
            or narrow not in allowed
            or self.right.dtype is not narrow
            or self.problem.accumulator is not dtypes.f32
            or min(sizes) < 64
        ):
            return None
        left = side_of(self.left, space.batch, space.rows, space.sums)
        right = side_of(self.right, space.batch, space.columns, space.sums)
        return None if left is None or right is None else (left, right)

    def _tile(self) -> Tile | WarpgroupTile:
        rows, columns = most(self.row_count), most(self.column_count)
        batch = most(_Space.size(self.space.batch))
        enough = getattr(self.ctx.target, "multiprocessors", 1)
        tiles = self._tiles()
        fitting = [t for t in tiles if t.rows < 2 * max(rows, 16) and t.columns < 2 * max(columns, 16)]
        parts = max(1, min(MAX_PARTS, most(self.depth) // PART))
        counts = [(t, batch * -(-rows // t.rows) * -(-columns // t.columns)) for t in fitting]
        # Tiles that read an element often enough for each element they multiply; then such with the sum cut in parts.
        for tile, count in counts:
            if count >= enough and tile.high * tile.wide >= 8:
                return tile
        for tile, count in counts:
            if count * parts >= enough:
                return tile
        # Small ones, so that there are more of them; but not so small that a thread has one element.
        return next((t for t in reversed(fitting) if t.high * t.wide >= 4), (fitting or tiles)[-1])

    def _tiles(self) -> Sequence[Tile | WarpgroupTile]:
        """Tensor cores where both operands have 16 bits, or may be rounded to tf32, and the product is not small."""
        if self.sides is not None:
            return [replace(tile, itemsize=self.left.dtype.itemsize) for tile in WARPGROUP_TILES]
        narrow = self.left.dtype
        small = min(most(self.row_count), most(self.column_count), most(self.depth)) < 16
        if (
            getattr(self.ctx.target, "has_mma", False)
            and (narrow in (dtypes.f16, dtypes.bf16) or self._rounds())
            and self.right.dtype is narrow
            and self.problem.accumulator is dtypes.f32
            and not small
        ):
            return TF32_TILES if narrow is dtypes.f32 else MMA_TILES
        return WIDE_TILES if self.problem.accumulator.itemsize > 4 else FMA_TILES

    def _rounds(self) -> bool:
        """Whether operands of float32 may be rounded to tf32."""
        kind = "matmul" if self.problem.name == "matmul" else "conv"
        return self.left.dtype is self.right.dtype is dtypes.f32 and kind in self.ctx.options.tf32

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
        begin = len(ctx.launches)
        ctx.launch(problem.name, self._body(parts), cost=1, flops=problem.flops, comment=comment)
        if parts is not None:
            add_parts(ctx, problem, self.epilogue, parts, self.parts)
        add_staying(self, begin)

    def _body(self, parts: Buffer | None) -> tuple[Stmt, ...]:
        names, tile, space = self.names, self.tile, self.space
        row_tiles = Axis(names("row_tile"), ceil_div(self.row_count, tile.rows))
        column_tiles = Axis(names("column_tile"), ceil_div(self.column_count, tile.columns))
        part = Axis(names(PART_AXIS), self.parts)
        # Neighbouring blocks share rows of the left operand; so do, where tiles are large, neighbouring rows of blocks
        # columns of the right one.
        together, rest = 1, row_tiles.extent
        if isinstance(tile, WarpgroupTile) and isinstance(rest, int) and rest % ROWS_TOGETHER == 0:
            together, rest = ROWS_TOGETHER, rest // ROWS_TOGETHER
        row_groups, row_tiles = Axis(row_tiles.var, rest), Axis(names("row_tile"), together)
        grid = [*space.batch, part, row_groups, column_tiles, row_tiles]

        def block(b: DimLike) -> tuple[Stmt, ...]:
            found = Unravel(names, b, grid)
            place = found.index
            row = (place[row_groups.var] * together + place[row_tiles.var]) * tile.rows
            column = place[column_tiles.var] * tile.columns
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
        names, tile = self.names, self.tile
        self.acc = tile.sums(names, self.problem.accumulator)
        clear = threads(names, tile.threads, lambda t: tile.clear(names, t, self.acc))
        if self.depth == 0:
            return clear
        limit = dims.minimum(self.depth, start + self.part) if self.parts > 1 else self.depth
        space = self.space
        if isinstance(tile, WarpgroupTile):
            assert self.sides is not None
            slices = ceil_div(self.part, tile.depth)
            stages = tile.stages(slices, getattr(self.ctx.target, "most_shared_bytes", 0))
            starts = [side.starts(batch, at) for side, at in zip(self.sides, (row, column), strict=True)]
            return (*clear, tile.pipeline(names, self.acc, self.sides, starts, start, slices, stages))
        copies = (
            Slices(
                self.names,
                tile,
                space.sums,
                self.left,
                batch,
                space.rows,
                row,
                tile.rows,
                self.row_count,
                limit,
            ),
            Slices(
                self.names,
                tile,
                space.sums,
                self.right,
                batch,
                space.columns,
                column,
                tile.columns,
                self.column_count,
                limit,
            ),
        )

        if isinstance(tile, MmaTile) and all(copy.is_direct for copy in copies):
            return (*clear, *self._staged(tile, copies, start))
        turned = [copy.turned for copy in copies]
        left, right = tile.slices(names, self.left.dtype, self.right.dtype, self.problem.accumulator, turned)
        for copy, target in zip(copies, (left, right), strict=True):
            copy.hold(target.dtype)

        slices = ceil_div(self.part, tile.depth)

        def fetch(at: DimLike) -> tuple[Stmt, ...]:
            return threads(names, tile.threads, lambda t: [s for copy in copies for s in copy.fetch(t, at)])

        def step(k: DimLike) -> tuple[Stmt, ...]:
            put = threads(
                names,
                tile.threads,
                lambda t: [*copies[0].put(t, left), *copies[1].put(t, right)],
            )
            following: tuple[Stmt, ...] = ()
            if most(slices) > 1:
                after = names("k")
                fetched = fetch(start + loop_index(after, slices) * tile.depth)
                following = (If(below(k + 1, slices), (Let(after, Index(k + 1)), *fetched)),)
            return (*put, *following, *tile.multiply(names, left, right, self.acc, turned))

        var = names("k")
        return (*clear, *fetch(start), For(var, slices, step(loop_index(var, slices))))

    def _staged(self, tile: MmaTile, copies: Sequence[Slices], start: DimLike) -> tuple[Stmt, ...]:
        """Slices go to shared memory on their own, several ahead of the one that is multiplied."""
        names, count = self.names, tile.threads
        # Two blocks are to fit on a multiprocessor.
        room = getattr(self.ctx.target, "most_shared_bytes", 0) // 2 // tile.slice_bytes(self.left.dtype)
        stages = max(2, min(MAX_STAGES, room))
        turned = [copy.turned for copy in copies]
        left, right = tile.slices(
            names, self.left.dtype, self.right.dtype, self.problem.accumulator, turned, stages
        )
        targets = list(zip(copies, (left, right), strict=True))
        slices = ceil_div(self.part, tile.depth)
        commit = threads(names, count, lambda t: [CopyCommit()])

        def issue(number: DimLike) -> tuple[Stmt, ...]:
            stage, at = dims.mod(number, stages), start + number * tile.depth
            return threads(
                names, count, lambda t: [s for copy, to in targets for s in copy.issue(t, at, to, stage)]
            )

        first: tuple[Stmt, ...] = ()
        for number in range(stages - 1):
            if most(slices) > number:
                first += (*guarded(inside(number, slices), issue(number)), *commit)
            else:
                first += commit
        var, after = names("k"), names("k")
        k = loop_index(var, slices)
        following: tuple[Stmt, ...] = ()
        if most(slices) > stages - 1:
            issued = issue(loop_index(after, slices))
            following = (If(below(k + (stages - 1), slices), (Let(after, Index(k + (stages - 1))), *issued)),)
        step = (
            *threads(names, count, lambda t: [CopyWait(stages - 2)]),
            *following,
            *commit,
            *tile.multiply(names, left, right, self.acc, turned, (dims.mod(k, stages),)),
        )
        return (*first, For(var, slices, step))

    def _results(
        self,
        batch: Mapping[str, DimLike],
        row: DimLike,
        column: DimLike,
        parts: Buffer | None,
        part: DimLike,
    ) -> tuple[Stmt, ...]:
        names, tile, space = self.names, self.tile, self.space

        def line(i: DimLike) -> tuple[Wrap, Callable[[DimLike, Load], Sequence[Stmt]]]:
            m = row + i
            at_row = Unravel(names, m, space.rows)

            def element(j: DimLike, total: Load) -> tuple[Stmt, ...]:
                n = column + j
                at_column = Unravel(names, n, space.columns)
                bindings = {**batch, **at_row.index, **at_column.index}
                if parts is not None:
                    place = (part, dims.substitute(self.position, bindings))
                    stores: tuple[Stmt, ...] = (Store(parts, place, total),)
                else:
                    memo: dict[int, Expr] = {}
                    known = self.epilogue.known(total)
                    stores = bind_shared([e.at(bindings, memo, known).store() for e in self.elements], names)
                return guarded(inside(n, self.column_count), (*at_column.lets, *stores))

            def wrap(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
                return guarded(inside(m, self.row_count), (*at_row.lets, *body))

            return wrap, element

        return threads(names, tile.threads, lambda t: tile.results(names, t, self.acc, line))


def _narrow(value: Expr) -> Expr:
    """The operand as it is before a conversion that changes no value: shared memory holds more of it."""
    while isinstance(value, Apply) and value.op == "cast":
        inner = value.args[0]
        if value.dtype is not dtypes.f32 or inner.dtype not in (dtypes.f16, dtypes.bf16):
            break
        value = inner
    return value
