"""The products of attention, by the threads of a block: on tensor cores or on the FMA units.

    scores[r, c] = left[r, :] right[c, :]          both in shared memory
    total[r, f] += weights[r, c] right[c, f]        the weights are scores that the threads hold

Rows belong to warps, so a row's scores are those of a few neighbouring threads. A thread has `slots` rows, and of a
score or a total some columns of each; `row`, `column` and `place` say which. On tensor cores the weights stay where they
are: the sums of one product are laid out as the left operand of the next one is (T. Dao, "FlashAttention-2", 2023,
https://arxiv.org/abs/2307.08691).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import (
    WARP,
    WARPGROUP,
    Apply,
    Buffer,
    For,
    Load,
    LoadFragment,
    MultiplyGroup,
    MultiplyTile,
    Shuffle,
    Stmt,
    Store,
)
from ..lower.names import Names
from ..lower.nests import loop_index
from ..scalar import SCALAR
from .grid import threads, unrolled
from .tiles import MMA_BYTES, MMA_COLUMNS, MMA_ROWS

# Elements that a thread of the FMA units reads at once, along the sum.
STEP = 4


class Products(Protocol):
    """`narrow` is the dtype in shared memory, `total` that of the sums. Sizes along a sum and numbers of columns are
    multiples of 16. A row in shared memory has `spare` elements more, so that no bank is met twice; `boxed`: rows lie in
    boxes of 64 neighbours instead, side by side. `masks`: how the numbers of threads differ that share a row."""

    @property
    def threads(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def masks(self) -> tuple[int, ...]: ...
    @property
    def narrow(self) -> DType: ...
    @property
    def total(self) -> DType: ...
    @property
    def spare(self) -> int: ...
    @property
    def boxed(self) -> bool: ...

    def row(self, t: DimLike, r: DimLike) -> DimLike:
        """Slot number `r` of thread `t`, in the tile."""
        ...

    def own(self, columns: int) -> int:
        """How many of so many columns a thread has, in each of its rows."""
        ...

    def column(self, t: DimLike, c: DimLike) -> DimLike:
        """Of a score."""
        ...

    def place(self, t: DimLike, c: DimLike) -> DimLike:
        """The column of a total."""
        ...

    def sums(self, names: Names, stem: str, columns: int) -> Buffer: ...

    def at(self, t: DimLike, r: DimLike, c: DimLike) -> tuple[DimLike, ...]:
        """Where in such a buffer."""
        ...

    def hand_over(self, names: Names, columns: int) -> Buffer:
        """What weights of so many columns are put into, to be multiplied."""
        ...

    def hand(self, names: Names, scores: Buffer, columns: int, to: Buffer) -> tuple[Stmt, ...]:
        """Puts them there."""
        ...

    def scores(
        self, names: Names, to: Buffer, left: Load, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]:
        """`left`, `right`: the first element of either matrix. Replaces what was there."""
        ...

    def accumulate(
        self, names: Names, to: Buffer, weights: Buffer, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]: ...


def each(
    names: Names, products: Products, columns: int, emit: Callable[[DimLike, DimLike], Sequence[Stmt]]
) -> tuple[Stmt, ...]:
    """`emit(r, c)` for what a thread has of so many columns."""
    own = products.own(columns)
    return unrolled(names, products.slots, lambda r: unrolled(names, own, lambda c: tuple(emit(r, c))))


def fill(names: Names, products: Products, buffer: Buffer, columns: int, value: float) -> tuple[Stmt, ...]:
    """A thread loop that sets sums to a number."""
    number = SCALAR.const(value, buffer.dtype)
    return threads(
        names,
        products.threads,
        lambda t: each(names, products, columns, lambda r, c: [Store(buffer, products.at(t, r, c), number)]),
    )


def moved(load: Load, row: DimLike, column: DimLike) -> Load:
    """The element so many rows and columns further."""
    *lead, first, second = load.index
    return Load(load.buffer, (*lead, first + row, second + column))


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

    def place(self, t: DimLike, c: DimLike) -> DimLike:
        return self.column(t, c)

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


@dataclass(frozen=True)
class FmaProducts:
    """Every thread has `high` rows, `across` threads share them; weights go through shared memory."""

    total: DType
    down: int
    high: int

    across = 16
    masks = (1, 2, 4, 8)
    boxed = False
    spare = STEP

    @property
    def narrow(self) -> DType:
        return self.total

    @property
    def threads(self) -> int:
        return self.down * self.across

    @property
    def rows(self) -> int:
        return self.down * self.high

    @property
    def slots(self) -> int:
        return self.high

    def __str__(self) -> str:
        return f"{self.threads} threads with {self.high} rows"

    def row(self, t: DimLike, r: DimLike) -> DimLike:
        return dims.floordiv(t, self.across) * self.high + r

    def own(self, columns: int) -> int:
        return columns // self.across

    def column(self, t: DimLike, c: DimLike) -> DimLike:
        return c * self.across + dims.mod(t, self.across)

    def place(self, t: DimLike, c: DimLike) -> DimLike:
        return self.column(t, c)

    def sums(self, names: Names, stem: str, columns: int) -> Buffer:
        return Buffer(names(stem), self.total, (self.threads, self.high, self.own(columns)), "thread")

    def at(self, t: DimLike, r: DimLike, c: DimLike) -> tuple[DimLike, ...]:
        return (t, r, c)

    def hand_over(self, names: Names, columns: int) -> Buffer:
        return Buffer(names("weights"), self.total, (self.rows, columns + STEP), "shared")

    def hand(self, names: Names, scores: Buffer, columns: int, to: Buffer) -> tuple[Stmt, ...]:
        def thread(t: DimLike) -> tuple[Stmt, ...]:
            def element(r: DimLike, c: DimLike) -> list[Stmt]:
                return [Store(to, (self.row(t, r), self.column(t, c)), Load(scores, self.at(t, r, c)))]

            return each(names, self, columns, element)

        return threads(names, self.threads, thread)

    def scores(
        self, names: Names, to: Buffer, left: Load, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]:
        def second(t: DimLike, c: DimLike, k: DimLike, e: DimLike) -> Load:
            return moved(right, self.column(t, c), k * STEP + e)

        zero = fill(names, self, to, columns, 0.0)
        return (*zero, *self._sum(names, to, left, second, columns, depth))

    def accumulate(
        self, names: Names, to: Buffer, weights: Buffer, right: Load, columns: int, depth: int
    ) -> tuple[Stmt, ...]:
        def second(t: DimLike, c: DimLike, k: DimLike, e: DimLike) -> Load:
            return moved(right, k * STEP + e, self.place(t, c))

        return self._sum(names, to, Load(weights, (0, 0)), second, columns, depth)

    def _sum(
        self,
        names: Names,
        to: Buffer,
        left: Load,
        right: Callable[[DimLike, DimLike, DimLike, DimLike], Load],
        columns: int,
        depth: int,
    ) -> tuple[Stmt, ...]:
        own = self.own(columns)
        a = Buffer(names("a"), self.total, (self.threads, self.high, STEP), "thread")
        b = Buffer(names("b"), self.total, (self.threads, own, STEP), "thread")

        def step(t: DimLike, k: DimLike) -> tuple[Stmt, ...]:
            def row(r: DimLike, e: DimLike) -> list[Stmt]:
                return [Store(a, (t, r, e), moved(left, self.row(t, r), k * STEP + e))]

            def column(c: DimLike, e: DimLike) -> list[Stmt]:
                return [Store(b, (t, c, e), right(t, c, k, e))]

            def add(r: DimLike, c: DimLike, e: DimLike) -> list[Stmt]:
                place = self.at(t, r, c)
                return [Store(to, place, SCALAR.fma(Load(a, (t, r, e)), Load(b, (t, c, e)), Load(to, place)))]

            return (
                *unrolled(names, self.high, lambda r: unrolled(names, STEP, lambda e: row(r, e))),
                *unrolled(names, own, lambda c: unrolled(names, STEP, lambda e: column(c, e))),
                *unrolled(
                    names,
                    STEP,
                    lambda e: each(names, self, columns, lambda r, c: add(r, c, e)),
                ),
            )

        def thread(t: DimLike) -> tuple[Stmt, ...]:
            var, count = names("k"), depth // STEP
            return (For(var, count, step(t, loop_index(var, count))),)

        return threads(names, self.threads, thread)


def reduced(
    names: Names, products: Products, combine: str, values: Buffer
) -> tuple[tuple[Stmt, ...], Buffer]:
    """For each slot of a thread: its `values[t, r]` combined with those of the threads that share the row. The
    statements, and the buffer that has it then."""
    found: tuple[Stmt, ...] = ()
    for mask in products.masks:
        target = Buffer(names("folded"), values.dtype, values.shape, "thread")
        found += _fold(names, products, combine, values, target, mask)
        values = target
    return found, values


def _fold(
    names: Names, products: Products, combine: str, values: Buffer, target: Buffer, mask: int
) -> tuple[Stmt, ...]:
    def slot(t: DimLike, r: DimLike) -> list[Stmt]:
        own = Load(values, (t, r))
        return [Store(target, (t, r), SCALAR._apply(combine, own, Shuffle(own, mask)))]

    return threads(names, products.threads, lambda t: unrolled(names, products.slots, lambda r: slot(t, r)))


__all__ = ["FmaProducts", "GroupProducts", "MmaProducts", "Products", "each", "fill", "moved", "reduced"]
