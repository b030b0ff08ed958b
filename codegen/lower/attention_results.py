"""A row for each query of a block, summed over keys: what attention gives, and the gradient of the queries.

Rows lie on the stack one behind the other; where products are made in tile registers, which multiply rows that lie along
the keys, they stand turned, a vector along the queries, and are turned back when they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Expr, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from .attention import Attention, Place
from .attention_operands import Rows
from .contraction import Access
from .contraction_tile import Bindings
from .indexing import IndexTuple
from .nests import serial_loop
from .transpose import turned_tile

# What a row was before, its query, and what is to be added: what the row is then.
Then = Callable[[Expr, DimLike, Expr], Expr]


class Results:
    """`size` numbers for each query of the block of an attention."""

    def __init__(self, attention: Attention, stem: str, size: int):
        self.a = attention
        self.size = size
        self.turned = attention.memory is not None
        shape = (size, attention.block) if self.turned else (attention.block, size)
        self.buffer = attention.stack(stem, *shape)

    def _at(self, m: DimLike, i: DimLike) -> IndexTuple:
        return (i, m) if self.turned else (m, i)

    def cleared(self) -> tuple[Stmt, ...]:
        rows, size = self.buffer.shape
        return self.a.cleared(self.buffer, rows, size)

    def add(
        self, place: Place, first: DimLike, count: DimLike, weights: Buffer, rows: Rows, then: Then
    ) -> tuple[Stmt, ...]:
        """`then` for the sums of weights[n, m] rows[n, :] over the keys n from `first` on. `weights` counts from there,
        in words where products are of words."""
        a = self.a
        m, i, n = a.axis("m", a.block), a.axis("i", self.size), a.axis("n", a.words(count))

        def finish(at: Bindings, value: Expr) -> Sequence[Stmt]:
            where = self._at(at[m.name], at[i.name])
            return [Store(self.buffer, where, then(Load(self.buffer, where), at[m.name], value))]

        right = rows(place.of_key, a.in_words(first) + n.var, i.var)
        left = Access(weights, (n.var, m.var))
        if self.turned:
            return a.product(i, m, n, right, left, finish)
        return a.product(m, i, n, left, right, finish)

    def stored(
        self, out: Buffer, place: Place, start: DimLike, factor: Callable[[DimLike], Expr]
    ) -> tuple[Stmt, ...]:
        """The rows of the queries that there are, times the factor of each."""
        a = self.a
        valid = a.valid(start)

        def row(m: DimLike, at: DimLike, source: Callable[[DimLike], Expr], count: int) -> tuple[Stmt, ...]:
            """`count` elements of the row of query `m`, from `at` on."""
            name = a.names("factor")

            def element(i: DimLike) -> Sequence[Stmt]:
                value = SCALAR.mul(source(i), Var(name, a.dtype))
                return [Store(out, (*place.of_query, start + m, at + i), SCALAR.cast(value, out.dtype))]

            return (Let(name, factor(m)), *a.along(count, element))

        if not self.turned:
            return serial_loop(
                a.names, valid, lambda m: row(m, 0, lambda i: Load(self.buffer, (m, i)), self.size), "r"
            )
        lanes = a.lanes
        back, spare = (a.stack(stem, lanes * lanes) for stem in ("back", "spare"))

        def square(v: DimLike, f: DimLike) -> tuple[Stmt, ...]:
            def source(i: DimLike, m: DimLike) -> Expr:
                return Load(self.buffer, (f * lanes + i, v * lanes + m))

            # None, where the block's last queries are fewer than the vectors before.
            left = valid - v * lanes
            count = dims.minimum(lanes, left - dims.minimum(left, 0))
            return (
                *turned_tile(a.names, source, lanes, back, 0, spare),
                *serial_loop(
                    a.names,
                    count,
                    lambda m: row(v * lanes + m, f * lanes, lambda i: Load(back, (m * lanes + i,)), lanes),
                    "r",
                ),
            )

        return serial_loop(
            a.names,
            a.block // lanes,
            lambda v: serial_loop(a.names, self.size // lanes, lambda f: square(v, f), "rf"),
            "rv",
        )
