"""How a block multiplies two slices that lie in shared memory: on the FMA units, or on tensor cores.

Both kinds keep the tile's sums in the threads' registers and say where in the tile they belong. Slices are padded so
that the threads of a warp meet no bank twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import WARP, Buffer, Load, LoadFragment, MultiplyTile, Stmt, Store
from ..lower.contraction_tile import multiply_add
from ..lower.names import Names
from ..lower.rows import identity
from .grid import threads, unrolled

# From a row of the tile: what wraps the statements of that row, and the statements of a column given its sum.
Wrap = Callable[[Sequence[Stmt]], tuple[Stmt, ...]]
Line = Callable[[DimLike], tuple[Wrap, Callable[[DimLike, Load], Sequence[Stmt]]]]


@dataclass(frozen=True)
class FmaTile:
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

    def slices(
        self, names: Names, left: DType, right: DType, total: DType, turned: Sequence[bool]
    ) -> tuple[Buffer, Buffer]:
        """Shared memory for a slice of each operand, as they are multiplied."""
        return (
            Buffer(names("left"), total, (self.depth, self.rows + 4), "shared"),
            Buffer(names("right"), total, (self.depth, self.columns + 4), "shared"),
        )

    def turned(self, along: bool) -> bool:
        """Whether a slice lies in memory with the sum along its rows; `along`: that is how the operand lies."""
        return True

    def sums(self, names: Names, total: DType) -> Buffer:
        return Buffer(names("acc"), total, (self.threads, self.high, self.wide), "thread")

    def clear(self, names: Names, t: DimLike, sums: Buffer) -> tuple[Stmt, ...]:
        zero = identity("add", sums.dtype)
        return unrolled(
            names,
            self.high,
            lambda i: unrolled(names, self.wide, lambda j: [Store(sums, (t, i, j), zero)]),
        )

    def _line(self, place: DimLike, of: int, own: int, i: DimLike) -> DimLike:
        """Row (or column) number `i` of a thread's `own`: groups of up to 4 neighbours, the groups of all `of` threads
        side by side."""
        group = min(own, 4)
        return dims.floordiv(i, group) * (of * group) + place * group + dims.mod(i, group)

    def row(self, t: DimLike, i: DimLike) -> DimLike:
        return self._line(dims.floordiv(t, self.across), self.down, self.high, i)

    def column(self, t: DimLike, j: DimLike) -> DimLike:
        return self._line(dims.mod(t, self.across), self.across, self.wide, j)

    def multiply(
        self,
        names: Names,
        left: Buffer,
        right: Buffer,
        sums: Buffer,
        turned: Sequence[bool],
        lead: tuple[DimLike, ...] = (),
    ) -> tuple[Stmt, ...]:
        """Thread loops that add a slice's products to the sums. `lead`: the right slice's place in its buffer."""
        return threads(names, self.threads, lambda t: self._add(names, t, left, right, sums, lead))

    def _add(
        self,
        names: Names,
        t: DimLike,
        left: Buffer,
        right: Buffer,
        sums: Buffer,
        lead: tuple[DimLike, ...],
    ) -> tuple[Stmt, ...]:
        a = Buffer(names("a"), sums.dtype, (self.threads, self.high), "thread")
        b = Buffer(names("b"), sums.dtype, (self.threads, self.wide), "thread")

        def depth(k: DimLike) -> tuple[Stmt, ...]:
            def add(i: DimLike, j: DimLike) -> list[Stmt]:
                total = multiply_add(Load(a, (t, i)), Load(b, (t, j)), Load(sums, (t, i, j)))
                return [Store(sums, (t, i, j), total)]

            return (
                *unrolled(names, self.high, lambda i: [Store(a, (t, i), Load(left, (k, self.row(t, i))))]),
                *unrolled(
                    names, self.wide, lambda j: [Store(b, (t, j), Load(right, (*lead, k, self.column(t, j))))]
                ),
                *unrolled(names, self.high, lambda i: unrolled(names, self.wide, lambda j: add(i, j))),
            )

        return unrolled(names, self.depth, depth)

    def results(self, names: Names, t: DimLike, sums: Buffer, line: Line) -> tuple[Stmt, ...]:
        """Every sum of a thread, by rows."""

        def row(i: DimLike) -> tuple[Stmt, ...]:
            wrap, element = line(self.row(t, i))
            return wrap(
                unrolled(names, self.wide, lambda j: element(self.column(t, j), Load(sums, (t, i, j))))
            )

        return unrolled(names, self.high, row)


# The tile of a warp's multiplication: mma.m16n8k16 of 16-bit floats, mma.m16n8k8 of tf32 (PTX ISA, "Matrix Fragments for
# mma.m16n8k16"). 32 bytes lie along the sum.
MMA_ROWS, MMA_COLUMNS, MMA_BYTES = 16, 8, 32


@dataclass(frozen=True)
class MmaTile:
    """Products of 16-bit floats, or of float32 rounded to tf32, on tensor cores, summed in float32. warps_down,
    warps_across: how the block's warps share the tile."""

    rows: int
    columns: int
    depth: int
    warps_down: int
    warps_across: int

    @property
    def threads(self) -> int:
        return self.warps_down * self.warps_across * WARP

    @property
    def high(self) -> int:
        """Multiplications of a warp along the rows."""
        return self.rows // self.warps_down // MMA_ROWS

    @property
    def wide(self) -> int:
        return self.columns // self.warps_across // MMA_COLUMNS

    def __str__(self) -> str:
        warps = f"{self.warps_down}x{self.warps_across} warps"
        return f"tile {self.rows}x{self.columns} on tensor cores, slices of {self.depth}, {warps}"

    def slices(
        self,
        names: Names,
        left: DType,
        right: DType,
        total: DType,
        turned: Sequence[bool],
        stages: int = 0,
    ) -> tuple[Buffer, Buffer]:
        """With stages, that many slices of each, one after the other."""
        lead = (stages,) if stages else ()

        def shape(across: int, is_turned: bool) -> tuple[int, ...]:
            further = self.depth + 16 // left.itemsize
            return (*lead, self.depth, across + 8) if is_turned else (*lead, across, further)

        return (
            Buffer(names("left"), left, shape(self.rows, turned[0]), "shared"),
            Buffer(names("right"), right, shape(self.columns, turned[1]), "shared"),
        )

    def slice_bytes(self, dtype: DType) -> int:
        """The most that a slice of each takes."""
        return (self.rows + self.columns) * (self.depth + 8) * dtype.itemsize

    def turned(self, along: bool) -> bool:
        return along

    def sums(self, names: Names, total: DType) -> Buffer:
        return Buffer(names("acc"), dtypes.f32, (self.threads, self.high, self.wide, 4), "thread")

    def clear(self, names: Names, t: DimLike, sums: Buffer) -> tuple[Stmt, ...]:
        return clear_fragments(names, t, sums)

    def _warp(self, t: DimLike) -> tuple[DimLike, DimLike, DimLike]:
        """The thread's number in its warp, and the first row and column of the warp."""
        warp = dims.floordiv(t, WARP)
        down, across = dims.floordiv(warp, self.warps_across), dims.mod(warp, self.warps_across)
        rows, columns = self.rows // self.warps_down, self.columns // self.warps_across
        return dims.mod(t, WARP), down * rows, across * columns

    def multiply(
        self,
        names: Names,
        left: Buffer,
        right: Buffer,
        sums: Buffer,
        turned: Sequence[bool],
        stage: tuple[DimLike, ...] = (),
    ) -> tuple[Stmt, ...]:
        """Fragments are read in one thread loop and multiplied in the next: a product reads those of the whole warp."""
        size = left.dtype.itemsize
        depth = MMA_BYTES // size
        a = Buffer(names("a"), left.dtype, (self.threads, self.high, MMA_ROWS // size), "thread")
        # Right operands are read two at a time.
        b = Buffer(names("b"), right.dtype, (self.threads, self.wide // 2, 2, MMA_COLUMNS // size), "thread")

        def fragments(t: DimLike, k: DimLike) -> tuple[Stmt, ...]:
            _, row, column = self._warp(t)

            def read(own: Buffer, source: Buffer, start: DimLike, side: int) -> list[Stmt]:
                def one(i: DimLike) -> list[Stmt]:
                    place = (start + i * MMA_ROWS, k * depth)
                    at = (*stage, *(place[::-1] if turned[side] else place))
                    to = Load(own, (t, i, *(0 for _ in own.shape[2:])))
                    return [LoadFragment(to, Load(source, at), MMA_ROWS, turned[side], pair=side == 1)]

                return list(unrolled(names, self.high if side == 0 else self.wide // 2, one))

            return (*read(a, left, row, 0), *read(b, right, column, 1))

        def step(k: DimLike) -> tuple[Stmt, ...]:
            return (
                *threads(names, self.threads, lambda t: fragments(t, k)),
                *threads(names, self.threads, lambda t: self._products(names, t, a, b, sums)),
            )

        return unrolled(names, self.depth // depth, step)

    def _products(self, names: Names, t: DimLike, a: Buffer, b: Buffer, sums: Buffer) -> tuple[Stmt, ...]:
        def product(i: DimLike, j: DimLike) -> list[Stmt]:
            second = Load(b, (t, dims.floordiv(j, 2), dims.mod(j, 2), 0))
            return [MultiplyTile(Load(sums, (t, i, j, 0)), Load(a, (t, i, 0)), second)]

        return unrolled(names, self.high, lambda i: unrolled(names, self.wide, lambda j: product(i, j)))

    def results(self, names: Names, t: DimLike, sums: Buffer, line: Line) -> tuple[Stmt, ...]:
        lane, row, column = self._warp(t)
        group, member = dims.floordiv(lane, 4), dims.mod(lane, 4)

        def rows(i: DimLike, half: DimLike) -> tuple[Stmt, ...]:
            wrap, element = line(row + i * MMA_ROWS + group + half * 8)

            def pair(j: DimLike, c: DimLike) -> Sequence[Stmt]:
                where = column + j * MMA_COLUMNS + member * 2 + c
                return element(where, Load(sums, (t, i, j, half * 2 + c)))

            return wrap(unrolled(names, self.wide, lambda j: unrolled(names, 2, lambda c: pair(j, c))))

        return unrolled(names, self.high, lambda i: unrolled(names, 2, lambda half: rows(i, half)))


def clear_fragments(names: Names, t: DimLike, sums: Buffer) -> tuple[Stmt, ...]:
    """Zeros in a thread's sums, [threads, high, wide, 4]."""
    zero = identity("add", sums.dtype)
    _, high, wide, _ = sums.shape
    assert isinstance(high, int) and isinstance(wide, int)

    def four(i: DimLike, j: DimLike) -> tuple[Stmt, ...]:
        return unrolled(names, 4, lambda c: [Store(sums, (t, i, j, c), zero)])

    return unrolled(names, high, lambda i: unrolled(names, wide, lambda j: four(i, j)))


# From large to small. The first that fills the machine is taken.
FMA_TILES = (
    FmaTile(128, 128, 8, 8, 8),
    FmaTile(128, 64, 8, 8, 4),
    FmaTile(64, 128, 8, 4, 8),
    FmaTile(64, 64, 16, 4, 4),
    FmaTile(64, 32, 16, 4, 2),
    FmaTile(32, 64, 16, 2, 4),
    FmaTile(32, 32, 16, 2, 2),
    FmaTile(128, 8, 16, 4, 1),
    FmaTile(8, 128, 16, 1, 4),
    FmaTile(16, 16, 16, 1, 1),
)
# Tiles of 64-bit elements hold fewer.
WIDE_TILES = (FmaTile(64, 64, 8, 4, 4), FmaTile(32, 32, 8, 2, 2), FmaTile(16, 16, 16, 1, 1))
MMA_TILES = (
    MmaTile(128, 128, 32, 2, 4),
    MmaTile(128, 64, 32, 4, 2),
    MmaTile(64, 128, 32, 2, 4),
    MmaTile(64, 64, 32, 2, 2),
    MmaTile(32, 32, 32, 2, 2),
)
# With slices of as many bytes.
TF32_TILES = tuple(replace(tile, depth=tile.depth // 2) for tile in MMA_TILES)

Tile = FmaTile | MmaTile
