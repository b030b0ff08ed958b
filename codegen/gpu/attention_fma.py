"""The products of attention on the FMA units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Buffer, For, Load, Stmt, Store
from ..lower.names import Names
from ..lower.nests import loop_index
from ..scalar import SCALAR
from .attention_products import each, fill, moved
from .grid import threads, unrolled

# Elements that a thread reads at once, along the sum.
STEP = 4


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
            return moved(right, k * STEP + e, self.column(t, c))

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


__all__ = ["STEP", "FmaProducts"]
