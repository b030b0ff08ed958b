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

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, CopyCommit, CopyWait, For, If, Index, Let, Stmt
from ..lower.context import LowerContext
from ..lower.contraction import Contraction, Reading
from ..lower.contraction_lower import Epilogue, add_parts
from ..lower.nests import loop_index
from ..lower.template import Axis
from .grid import Unravel, below, blocks, ceil_div, guarded, inside, most, threads
from .matrix_product import MatrixProduct
from .slices import Slices
from .staying import add_staying
from .tiles import FMA_TILES, MMA_TILES, TF32_TILES, WIDE_TILES, MmaTile, Tile
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
    begin = len(ctx.launches)
    product = MatrixProduct(ctx, problem, epilogue)
    _Tiled(product).launch()
    add_staying(product, begin)


class _Tiled:
    """The product in tiles."""

    def __init__(self, product: MatrixProduct):
        self.product = product
        self.target = product.target
        self.names = product.names
        self.sides = self._sides()
        self.tile = self._tile()
        self.parts = self._parts()
        depth = product.depth
        part = ceil_div(depth, self.parts)
        # Parts are whole slices, so that only the last slice of the last one is ragged.
        self.part = ceil_div(part, self.tile.depth) * self.tile.depth if self.parts > 1 else depth

    def _sides(self) -> tuple[Side, Side] | None:
        """The operands for warpgroups and the copy engine; None where they cannot or need not multiply them."""
        x = self.product
        narrow = x.left.dtype
        allowed = (dtypes.f16, dtypes.bf16, *((dtypes.f32,) if x.rounds else ()))
        if (
            not self.target.has_wgmma
            or narrow not in allowed
            or x.right.dtype is not narrow
            or x.problem.accumulator is not dtypes.f32
            or x.least < 64
        ):
            return None
        left = side_of(x.left, x.batch, x.rows, x.sums)
        right = side_of(x.right, x.batch, x.columns, x.sums)
        return None if left is None or right is None else (left, right)

    def _tile(self) -> Tile | WarpgroupTile:
        x = self.product
        rows, columns, batch = most(x.row_count), most(x.column_count), most(x.batches)
        enough = self.target.multiprocessors
        tiles = self._tiles()
        fitting = [t for t in tiles if t.rows < 2 * max(rows, 16) and t.columns < 2 * max(columns, 16)]
        parts = max(1, min(MAX_PARTS, most(x.depth) // PART))
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
        x = self.product
        if self.sides is not None:
            return [replace(tile, itemsize=x.left.dtype.itemsize) for tile in WARPGROUP_TILES]
        narrow = x.left.dtype
        if (
            self.target.has_mma
            and (narrow in (dtypes.f16, dtypes.bf16) or x.rounds)
            and x.right.dtype is narrow
            and x.problem.accumulator is dtypes.f32
            and x.least >= 16
        ):
            return TF32_TILES if narrow is dtypes.f32 else MMA_TILES
        return WIDE_TILES if x.problem.accumulator.itemsize > 4 else FMA_TILES

    def _parts(self) -> int:
        tile, x = self.tile, self.product
        tiles = most(x.batches) * -(-most(x.row_count) // tile.rows)
        tiles *= -(-most(x.column_count) // tile.columns)
        idle = 2 * self.target.multiprocessors // max(tiles, 1)
        return max(1, min(idle, most(x.depth) // PART, MAX_PARTS))

    # Statements

    def launch(self) -> None:
        ctx, problem, tile = self.product.ctx, self.product.problem, self.tile
        parts: Buffer | None = None
        if self.parts > 1:
            parts = ctx.scratch("parts", problem.accumulator, (self.parts, dims.product(problem.shape)))
        comment = f"{tile}" + (f", summed in {self.parts} parts" if self.parts > 1 else "")
        ctx.launch(problem.name, self._body(parts), cost=1, flops=problem.flops, comment=comment)
        if parts is not None:
            add_parts(ctx, problem, self.product.epilogue, parts, self.parts)

    def _body(self, parts: Buffer | None) -> tuple[Stmt, ...]:
        names, tile, product = self.names, self.tile, self.product
        row_tiles = Axis(names("row_tile"), ceil_div(product.row_count, tile.rows))
        column_tiles = Axis(names("column_tile"), ceil_div(product.column_count, tile.columns))
        part = Axis(names(PART_AXIS), self.parts)
        # Neighbouring blocks share rows of the left operand; so do, where tiles are large, neighbouring rows of blocks
        # columns of the right one.
        together, rest = 1, row_tiles.extent
        if isinstance(tile, WarpgroupTile) and isinstance(rest, int) and rest % ROWS_TOGETHER == 0:
            together, rest = ROWS_TOGETHER, rest // ROWS_TOGETHER
        row_groups, row_tiles = Axis(row_tiles.var, rest), Axis(names("row_tile"), together)
        grid = [*product.batch, part, row_groups, column_tiles, row_tiles]

        def block(b: DimLike) -> tuple[Stmt, ...]:
            found = Unravel(names, b, grid)
            place = found.index
            row = (place[row_groups.var] * together + place[row_tiles.var]) * tile.rows
            column = place[column_tiles.var] * tile.columns
            batch = {a.var: place[a.var] for a in product.batch}
            start = place[part.var] * self.part
            to = None if parts is None else (parts, place[part.var])
            summed, sums = self._sums(batch, row, column, start)
            return (*found.lets, *summed, *product.results(tile, sums, batch, row, column, to))

        return blocks(names, dims.product(a.extent for a in grid), block)

    def _sums(
        self, batch: Mapping[str, DimLike], row: DimLike, column: DimLike, start: DimLike
    ) -> tuple[tuple[Stmt, ...], Buffer]:
        """The statements that make the sums of a tile, and the registers that have them."""
        names, tile, product = self.names, self.tile, self.product
        acc = tile.sums(names, product.problem.accumulator)
        clear = threads(names, tile.threads, lambda t: tile.clear(names, t, acc))
        if product.depth == 0:
            return clear, acc
        if isinstance(tile, WarpgroupTile):
            return (*clear, self._pipeline(tile, acc, batch, row, column, start)), acc
        limit = dims.minimum(product.depth, start + self.part) if self.parts > 1 else product.depth
        copies = (
            product.slices(tile, True, batch, row, limit),
            product.slices(tile, False, batch, column, limit),
        )
        if isinstance(tile, MmaTile) and all(copy.is_direct for copy in copies):
            return (*clear, *self._staged(tile, acc, copies, start)), acc
        return (*clear, *self._through_registers(tile, acc, copies, start)), acc

    def _pipeline(
        self,
        tile: WarpgroupTile,
        acc: Buffer,
        batch: Mapping[str, DimLike],
        row: DimLike,
        column: DimLike,
        start: DimLike,
    ) -> Stmt:
        assert self.sides is not None
        slices = ceil_div(self.part, tile.depth)
        stages = tile.stages(slices, self.target.most_shared_bytes)
        starts = [side.starts(batch, at) for side, at in zip(self.sides, (row, column), strict=True)]
        return tile.pipeline(self.names, acc, self.sides, starts, start, slices, stages)

    def _through_registers(
        self, tile: Tile, acc: Buffer, copies: Sequence[Slices], start: DimLike
    ) -> tuple[Stmt, ...]:
        """The next slice is in registers while one is multiplied."""
        names, product = self.names, self.product
        turned = [copy.turned for copy in copies]
        left, right = tile.slices(
            names, product.left.dtype, product.right.dtype, product.problem.accumulator, turned
        )
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
            return (*put, *following, *tile.multiply(names, left, right, acc, turned))

        var = names("k")
        return (*fetch(start), For(var, slices, step(loop_index(var, slices))))

    def _staged(
        self, tile: MmaTile, acc: Buffer, copies: Sequence[Slices], start: DimLike
    ) -> tuple[Stmt, ...]:
        """Slices go to shared memory on their own, several ahead of the one that is multiplied."""
        names, count, product = self.names, tile.threads, self.product
        # Two blocks are to fit on a multiprocessor.
        room = self.target.most_shared_bytes // 2 // tile.slice_bytes(product.left.dtype)
        stages = max(2, min(MAX_STAGES, room))
        turned = [copy.turned for copy in copies]
        left, right = tile.slices(
            names, product.left.dtype, product.right.dtype, product.problem.accumulator, turned, stages
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
            *tile.multiply(names, left, right, acc, turned, (dims.mod(k, stages),)),
        )
        return (*first, For(var, slices, step))
