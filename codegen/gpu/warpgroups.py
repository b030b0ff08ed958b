"""Tiles of a product that Hopper's warpgroups multiply, fed by its copy engine (`Pipeline` in the loop IR)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import (
    LINE,
    STAGE_ALIGNMENT,
    WARP,
    WARPGROUP,
    Buffer,
    Expr,
    Load,
    Pipeline,
    Stmt,
    TensorMap,
    TileSlice,
)
from ..lower.names import Names
from ..lower.nests import loop_index
from ..lower.template import Axis
from .grid import below, guarded, most, unrolled
from .tiles import Line, clear_fragments

# A thread block may be one of several at a time; a stage more brings nothing once copies are as long under way as this.
MAX_STAGES = 6
# Dims of a tensor map, at most.
MAX_RANK = 5


@dataclass(frozen=True)
class WarpgroupTile:
    """Products of 16-bit floats, or of float32 rounded to tf32, by `groups` warpgroups above each other; one warp more
    asks for the copies."""

    rows: int
    columns: int
    groups: int
    itemsize: int = 2

    @property
    def depth(self) -> int:
        return LINE // self.itemsize

    @property
    def threads(self) -> int:
        return self.groups * WARPGROUP + WARP

    @property
    def high(self) -> int:
        """Blocks of 64 rows of a group."""
        return self.rows // self.groups // 64

    def __str__(self) -> str:
        tile = f"tile {self.rows}x{self.columns} by {self.groups} warpgroups"
        return f"{tile}, slices of {self.depth} by the copy engine"

    def stages(self, slices: DimLike, most_bytes: int) -> int:
        room = (most_bytes - STAGE_ALIGNMENT) // ((self.rows + self.columns) * LINE + 16)
        return max(2, min(MAX_STAGES, room, most(slices)))

    def sums(self, names: Names, total: DType) -> Buffer:
        shape = (self.threads, self.high, self.columns // 8, 4)
        return Buffer(names("acc"), dtypes.f32, shape, "thread")

    def clear(self, names: Names, t: DimLike, sums: Buffer) -> tuple[Stmt, ...]:
        return clear_fragments(names, t, sums)

    @property
    def wide(self) -> int:
        return self.columns // 8

    def pipeline(
        self, names: Names, sums: Buffer, sides: Sequence[Side], starts: Sequence[Sequence[DimLike]],
        start: DimLike, slices: DimLike, stages: int,
    ) -> Pipeline:  # fmt: skip
        """The sums of `slices` slices, from `start` of the sum on. `starts`: of each side, where the tile begins, by the
        dims of its map but for the sum's."""
        var = names("k")
        at = start + loop_index(var, slices) * self.depth
        made: list[TileSlice] = []
        for side, first, across, name in zip(sides, starts, (self.rows, self.columns), ("left", "right")):
            *batch, row = first
            if side.turned:
                shape, where, box = (stages, self.depth, across), (*batch, at, row), (self.depth, self.depth)
            else:
                shape, where, box = (stages, across, self.depth), (*batch, row, at), (across, self.depth)
            seen = side.map((*(1 for _ in batch), *box))
            made.append(
                TileSlice(
                    seen, tuple(where), Buffer(names(name), seen.buffer.dtype, shape, "shared"), side.turned
                )
            )
        marks = Buffer(names("marks"), dtypes.u64, (2, stages), "shared")
        return Pipeline(var, slices, sums, made[0], made[1], marks)

    def results(self, names: Names, t: DimLike, sums: Buffer, line: Line) -> tuple[Stmt, ...]:
        lane, warp = dims.mod(t, WARP), dims.floordiv(dims.mod(t, WARPGROUP), WARP)
        first = dims.floordiv(t, WARPGROUP) * (self.high * 64) + warp * 16 + dims.floordiv(lane, 4)

        def rows(i: DimLike, half: DimLike) -> tuple[Stmt, ...]:
            wrap, element = line(first + i * 64 + half * 8)

            def pair(j: DimLike, c: DimLike) -> Sequence[Stmt]:
                return element(j * 8 + dims.mod(lane, 4) * 2 + c, Load(sums, (t, i, j, half * 2 + c)))

            return wrap(unrolled(names, self.wide, lambda j: unrolled(names, 2, lambda c: pair(j, c))))

        body = unrolled(names, self.high, lambda i: unrolled(names, 2, lambda half: rows(i, half)))
        return guarded(below(t, self.groups * WARPGROUP), body)


# From large to small.
WARPGROUP_TILES = (
    WarpgroupTile(128, 256, 2),
    WarpgroupTile(128, 128, 2),
    WarpgroupTile(64, 128, 1),
    WarpgroupTile(64, 64, 1),
)


@dataclass(frozen=True)
class Side:
    """An operand as the copy engine sees it: `batch` and the axis of its rows (or columns), outermost first; `turned`:
    its neighbours in memory lie along that axis."""

    buffer: Buffer
    offset: DimLike
    batch: tuple[Axis, ...]
    steps: tuple[DimLike, ...]
    across: tuple[DimLike, DimLike]
    along: tuple[DimLike, DimLike]
    turned: bool

    def map(self, box: tuple[int, ...]) -> TensorMap:
        inner = (self.along, self.across) if self.turned else (self.across, self.along)
        sizes = (*(a.extent for a in self.batch), *(size for size, _ in inner))
        return TensorMap(self.buffer, self.offset, sizes, (*self.steps, *(step for _, step in inner)), box)

    def starts(self, batch: Mapping[str, DimLike], row: DimLike) -> tuple[DimLike, ...]:
        """Where a tile begins, but for its place in the sum."""
        return (*(batch[a.var] for a in self.batch), row)


def side_of(value: Expr, batch: Sequence[Axis], across: Sequence[Axis], sums: Sequence[Axis]) -> Side | None:
    """The operand for the copy engine; None where it is not an array with strides that are multiples of 16 bytes, or
    neither of the last two axes is one of neighbours."""
    across, sums = ([a for a in axes if a.extent != 1] for axes in (across, sums))
    if not isinstance(value, Load) or value.buffer.space != "global" or len(value.index) != 1:
        return None
    if len(across) != 1 or len(sums) != 1:
        return None
    offset, steps = value.index[0], []
    walked = (*batch, across[0], sums[0])
    for axis in walked:
        found = dims.coefficient(offset, axis.var) if axis.extent != 1 else (0, offset)
        if found is None:
            return None
        step, offset = found
        steps.append(step)
    *outer, row_step, sum_step = steps
    turned = row_step == 1
    size = value.dtype.itemsize
    if (not turned and sum_step != 1) or (turned and size != 2):
        return None
    seen = [(a, s) for a, s in zip(batch, outer) if s != 0]
    far = sum_step if turned else row_step
    names = {a.var for a in walked}
    for x in (offset, far, *(s for _, s in seen)):
        if dims.mod(x * size, 16) != 0 or dims.bounds(x)[0] < 0 or names & {s.name for s in dims.symbols(x)}:
            return None
    if len(seen) + 2 > MAX_RANK or far == 0:
        return None
    return Side(
        value.buffer,
        offset,
        tuple(a for a, _ in seen),
        tuple(s for _, s in seen),
        (across[0].extent, row_step),
        (sums[0].extent, sum_step),
        turned,
    )
