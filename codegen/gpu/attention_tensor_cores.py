"""The products of attention on tensor cores: by warps (`mma.sync`), and by groups of four warps (`wgmma`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import (
    WARP,
    WARPGROUP,
    Apply,
    Buffer,
    Load,
    LoadFragment,
    MultiplyGroup,
    MultiplyTile,
    Stmt,
    Store,
)
from ..lower.names import Names
from ..scalar import SCALAR
from .attention_products import fill, moved
from .grid import threads, unrolled
from .tiles import MMA_BYTES, MMA_COLUMNS, MMA_ROWS


@dataclass(frozen=True)
class MmaProducts:
    """`mma.sync` of 16-bit floats, or of float32 rounded to tf32. A warp has `high` times 16 rows."""

    narrow: DType
    warps: int
    high: int

    total = dtypes.f32
    masks = (1, 2)
    boxed = False

    @property
    def spare(self) -> int:
        return 16 // self.narrow.itemsize

    @property
    def depth(self) -> int:
        """Terms of the sum that one product takes."""
        return MMA_BYTES // self.narrow.itemsize

    @property
    def elements(self) -> int:
        """Of a thread, of the left operand of one product, or of two right ones."""
        return MMA_ROWS // self.narrow.itemsize

    @property
    def threads(self) -> int:
        return self.warps * WARP

    @property
    def rows(self) -> int:
        return self.warps * self.high * MMA_ROWS

    @property
    def slots(self) -> int:
        return 2 * self.high

    def __str__(self) -> str:
        return f"{self.warps} warps on tensor cores"

    def _first_row(self, t: DimLike) -> DimLike:
        return dims.floordiv(t, WARP) * (self.high * MMA_ROWS)

    def row(self, t: DimLike, r: DimLike) -> DimLike:
        inside = dims.floordiv(r, 2) * MMA_ROWS + dims.mod(r, 2) * 8
        return self._first_row(t) + inside + dims.floordiv(dims.mod(t, WARP), 4)

    def own(self, columns: int) -> int:
        return columns // 4

    def column(self, t: DimLike, c: DimLike) -> DimLike:
        return dims.floordiv(c, 2) * MMA_COLUMNS + dims.mod(t, 4) * 2 + dims.mod(c, 2)

    def sums(self, names: Names, stem: str, columns: int) -> Buffer:
        return Buffer(names(stem), self.total, (self.threads, self.high, columns // MMA_COLUMNS, 4), "thread")

    def at(self, t: DimLike, r: DimLike, c: DimLike) -> tuple[DimLike, ...]:
        return (t, dims.floordiv(r, 2), dims.floordiv(c, 2), dims.mod(r, 2) * 2 + dims.mod(c, 2))

    def hand_over(self, names: Names, columns: int) -> Buffer:
        shape = (self.threads, self.high, columns // self.depth, self.elements)
        return Buffer(names("weights"), self.narrow, shape, "thread")

    def hand(self, names: Names, scores: Buffer, columns: int, to: Buffer) -> tuple[Stmt, ...]:
        def element(t: DimLike, i: DimLike, k: DimLike, e: DimLike) -> list[Stmt]:
            if self.narrow is dtypes.f32:
                # A thread's two neighbours of a row are terms 0 to 3 and 4 to 7: `accumulate` reads accordingly.
                source = Load(scores, (t, i, k, dims.mod(e, 2) * 2 + dims.floordiv(e, 2)))
                return [Store(to, (t, i, k, e), Apply("tf32", (source,), dtypes.f32))]
            source = Load(scores, (t, i, k * 2 + dims.floordiv(e, 4), dims.mod(e, 4)))
            return [Store(to, (t, i, k, e), SCALAR.cast(source, self.narrow))]

        def thread(t: DimLike) -> tuple[Stmt, ...]:
            return unrolled(
                names,
                self.high,
                lambda i: unrolled(
                    names,
                    columns // self.depth,
                    lambda k: unrolled(names, self.elements, lambda e: element(t, i, k, e)),
                ),
            )

        return threads(names, self.threads, thread)

    def scores(
        self, names: Names, to: Buffer, left: Load, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]:
        a = Buffer(names("a"), self.narrow, (self.threads, self.high, self.elements), "thread")

        def rows(t: DimLike, k: DimLike) -> tuple[Stmt, ...]:
            def one(i: DimLike) -> list[Stmt]:
                source = moved(left, self._first_row(t) + i * MMA_ROWS, k * self.depth)
                return [LoadFragment(Load(a, (t, i, 0)), source, MMA_ROWS)]

            return unrolled(names, self.high, one)

        def step(k: DimLike) -> tuple[Stmt, ...]:
            return (
                *threads(names, self.threads, lambda t: rows(t, k)),
                *self._multiply(
                    names,
                    to,
                    lambda t, i: Load(a, (t, i, 0)),
                    lambda j: moved(right, j * MMA_ROWS, k * self.depth),
                    columns,
                    turned=False,
                ),
            )

        return (*fill(names, self, to, columns, 0.0), *unrolled(names, depth // self.depth, step))

    def accumulate(
        self, names: Names, to: Buffer, weights: Buffer, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]:
        def step(k: DimLike) -> tuple[Stmt, ...]:
            return self._multiply(
                names,
                to,
                lambda t, i: Load(weights, (t, i, k, 0)),
                lambda j: moved(right, k * self.depth, j * MMA_ROWS),
                columns,
                turned=True,
            )

        return unrolled(names, depth // self.depth, step)

    def _multiply(
        self,
        names: Names,
        to: Buffer,
        left: Callable[[DimLike, DimLike], Load],
        right: Callable[[DimLike], Load],
        columns: int,
        turned: bool,
    ) -> tuple[Stmt, ...]:
        """One step along the sum. Right operands are read two at a time."""
        shape = (self.threads, columns // MMA_ROWS, 2, self.elements // 2)
        b = Buffer(names("b"), self.narrow, shape, "thread")

        def term(t: DimLike, j: DimLike, half: DimLike, e: DimLike) -> list[Stmt]:
            row, column = dims.mod(t, 4) * 2 + e, half * MMA_COLUMNS + dims.floordiv(dims.mod(t, WARP), 4)
            return [Store(b, (t, j, half, e), Apply("tf32", (moved(right(j), row, column),), dtypes.f32))]

        def read(t: DimLike) -> tuple[Stmt, ...]:
            def two(j: DimLike) -> tuple[Stmt, ...]:
                if turned and self.narrow is dtypes.f32:
                    return unrolled(names, 2, lambda half: unrolled(names, 2, lambda e: term(t, j, half, e)))
                return (LoadFragment(Load(b, (t, j, 0, 0)), right(j), MMA_ROWS, turned, pair=True),)

            return unrolled(names, columns // MMA_ROWS, two)

        def product(t: DimLike, i: DimLike, j: DimLike) -> list[Stmt]:
            second = Load(b, (t, dims.floordiv(j, 2), dims.mod(j, 2), 0))
            return [MultiplyTile(Load(to, (t, i, j, 0)), left(t, i), second)]

        def multiply(t: DimLike) -> tuple[Stmt, ...]:
            return unrolled(
                names,
                columns // MMA_COLUMNS,
                lambda j: unrolled(names, self.high, lambda i: product(t, i, j)),
            )

        return tuple(s for loop in (read, multiply) for s in threads(names, self.threads, loop))


@dataclass(frozen=True)
class GroupProducts(MmaProducts):
    """`wgmma` of 16-bit floats, on Hopper: warps in groups of four, whose 64 rows are multiplied with all columns of the
    tile at once, out of shared memory. What a thread has is the same."""

    boxed = True

    @property
    def spare(self) -> int:
        return 0

    def __str__(self) -> str:
        return f"{self.warps // 4} warpgroups on tensor cores"

    def scores(
        self, names: Names, to: Buffer, left: Load, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]:
        def product(t: DimLike) -> list[Stmt]:
            own = moved(left, dims.floordiv(t, WARPGROUP) * 64, 0)
            return [MultiplyGroup(Load(to, (t, 0, 0, 0)), own, right, columns, depth, clear=True)]

        return threads(names, self.threads, product)

    def accumulate(
        self, names: Names, to: Buffer, weights: Buffer, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]:
        def product(t: DimLike) -> list[Stmt]:
            own = Load(weights, (t, 0, 0, 0))
            return [MultiplyGroup(Load(to, (t, 0, 0, 0)), own, right, columns, depth, turned=True)]

        return threads(names, self.threads, product)


__all__ = ["GroupProducts", "MmaProducts"]
