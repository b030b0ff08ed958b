"""The products of attention, by the threads of a block: on tensor cores or on the FMA units.

    scores[r, c] = left[r, :] right[c, :]          both in shared memory
    total[r, f] += weights[r, c] right[c, f]        the weights are scores that the threads hold

Rows belong to warps, so a row's scores are those of a few neighbouring threads. A thread has `slots` rows, and of a
score or a total some columns of each; `row` and `column` say which. On tensor cores the weights stay where they
are: the sums of one product are laid out as the left operand of the next one is (T. Dao, "FlashAttention-2", 2023,
https://arxiv.org/abs/2307.08691).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Buffer, Load, Shuffle, Stmt, Store
from ..lower.names import Names
from ..scalar import SCALAR
from .grid import threads, unrolled


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
        """Number `c` of a thread's columns, in a score or a total."""
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


__all__ = ["Products", "each", "fill", "moved", "reduced"]
