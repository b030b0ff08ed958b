"""The kernels of `attention_grad`: the weights computed again, tile by tile (T. Dao, "FlashAttention-2", 2023).

    one for dk and dv: for tile of keys in grid, for tile of queries
        weights = exp(key query^T - log_sum)             turned: a column for each query
        d_scores = weights (value dy^T - delta)
        dv += weights dy          dk += d_scores query
    one for dq: for tile of queries in grid, for tile of keys
        d_scores as above, a row for each query          dq += d_scores key

Two kernels compute the weights twice, seven products in place of five, but each sum has one block, which adds up in
order: nothing is atomic, and the bits depend on the shape alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node
from ..loops.nodes import Buffer, Expr, For, Let, Load, Stmt, Store, Var
from ..lower.attention import Place
from ..lower.context import Args, LowerContext
from ..lower.nests import loop_index
from ..scalar import SCALAR
from .attention import GpuAttention, Tiles
from .attention_operands import Rows, SharedLine, SharedRows
from .attention_products import Products, fill
from .attention_tiles import key_tiles, query_tiles
from .grid import ceil_div, inside

# Numbers in a row of which there is no room in registers for the sums of key and value together.
LONG_ROWS = 128
# From a thread, a row and a column of its own: log_sum and delta of the query.
OfQuery = Callable[[DimLike, DimLike, DimLike], tuple[Expr, Expr]]


def backward_on_gpu(ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
    _, q, k, v, _, _, *rest = node.inputs
    if any(size == 0 for size in q.type.shape):
        return
    flops = node.op.flops(*(x.type for x in node.inputs), **node.attrs) if node.op.flops else 0
    dq, dk, dv = (args.get(x) for x in node.outputs)
    long = max(*q.type.shape[-1:], *v.type.shape[-1:]) > LONG_ROWS
    for outs in [(dk, None), (None, dv)] if long else [(dk, dv)]:
        if outs == (None, None):
            continue
        attention = GpuAttention(ctx, body, args, node, q, k, v, rest)
        tiles = key_tiles(attention, attention.rows_of(node.inputs[0]))
        by_key = _ByKey(attention, tiles, node, *outs)
        grid = attention.grid(ceil_div(attention.columns, tiles.products.rows), False, by_key.block)
        ctx.launch(name, grid, cost=1, flops=flops * by_key.products // 5, comment=str(tiles))
    if dq is not None:
        attention = GpuAttention(ctx, body, args, node, q, k, v, rest)
        tiles = query_tiles(attention, attention.rows_of(node.inputs[0]))
        by_query = _ByQuery(attention, tiles, node, dq)
        grid = attention.grid(ceil_div(attention.rows, tiles.products.rows), True, by_query.block)
        ctx.launch(name, grid, cost=1, flops=flops * 3 // 5, comment=str(tiles))


class _Backward:
    """What both kernels have: the tile's weights and the gradient of its scores."""

    def __init__(self, a: GpuAttention, tiles: Tiles, node: Node):
        self.a, self.tiles = a, tiles
        self.p: Products = tiles.products
        self.changes_wanted = True
        dy, _, _, _, log_sum, delta, *_ = node.inputs
        self.dy, self.log_sum, self.delta = a.rows_of(dy), a.line(log_sum), a.line(delta)
        self.weights, self.changes = (
            self.p.sums(a.names, stem, tiles.columns) for stem in ("scores", "changes")
        )
        self.handed = self.p.hand_over(a.names, tiles.columns)

    def kept_rows(self, stem: str, rows: Rows) -> SharedRows:
        return SharedRows.of(self.a.names, stem, rows, self.p, self.p.rows, 1)

    def walked_rows(self, stem: str, rows: Rows) -> SharedRows:
        tiles = self.tiles
        return SharedRows.of(self.a.names, stem, rows, self.p, tiles.columns, tiles.stages)

    def gradients(
        self, place: Place, query: DimLike, key: DimLike, turned: bool, left: tuple[Load, Load],
        right: tuple[Load, Load], sizes: tuple[int, int], of_query: OfQuery,
    ) -> tuple[Stmt, ...]:  # fmt: skip
        """`weights` after dropout, and `changes`, the gradient of the scores, if wanted. `left` and `right`: the
        operands of the scores, and of the gradients of the weights, with numbers of `sizes` in a row."""
        a, p, columns = self.a, self.p, self.tiles.columns

        def kept_at(t: DimLike, r: DimLike, c: DimLike) -> Expr | None:
            row, column = p.row(t, r), p.column(t, c)
            return a.kept(place, query + (column if turned else row), key + (row if turned else column))

        def power(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            where, (log_sum, _) = p.at(t, r, c), of_query(t, r, c)
            if a.attrs["safe"]:
                log_sum = SCALAR.select(SCALAR.eq(log_sum, -math.inf), math.inf, log_sum)
            if a.unit != 1.0:
                log_sum = SCALAR.mul(log_sum, a.unit)
            return [Store(self.weights, where, a.power(a.exponent(Load(self.weights, where), log_sum)))]

        def dropped(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            where, kept = p.at(t, r, c), kept_at(t, r, c)
            assert kept is not None
            return [Store(self.weights, where, SCALAR.mul(Load(self.weights, where), kept))]

        def change(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            where, (_, delta) = p.at(t, r, c), of_query(t, r, c)
            kept = kept_at(t, r, c)
            weight, value = Load(self.weights, where), Load(self.changes, where)
            if kept is None:
                return [Store(self.changes, where, SCALAR.mul(weight, SCALAR.sub(value, delta)))]
            name = a.names("kept")
            factor = Var(name, a.total)
            return [
                Let(name, kept),
                Store(self.changes, where, SCALAR.mul(weight, SCALAR.sub(SCALAR.mul(value, factor), delta))),
                Store(self.weights, where, SCALAR.mul(weight, factor)),
            ]

        changed: tuple[Stmt, ...] = ()
        if self.changes_wanted:
            changed += p.scores(a.names, self.changes, left[1], right[1], columns, sizes[1])
            changed += a.each(p, columns, change)
        elif a.state is not None:
            changed += a.each(p, columns, dropped)
        return (
            *p.scores(a.names, self.weights, left[0], right[0], columns, sizes[0]),
            *a.settled(self.tiles, self.weights, place, query, key, turned),
            *a.each(p, columns, power),
            *changed,
        )

    def add(self, to: Buffer, what: Buffer, right: Load, size: int) -> tuple[Stmt, ...]:
        """to += what @ right"""
        names, columns = self.a.names, self.tiles.columns
        return (
            *self.p.hand(names, what, columns, self.handed),
            *self.p.accumulate(names, to, self.handed, right, size, columns),
        )


class _ByKey(_Backward):
    def __init__(self, a: GpuAttention, tiles: Tiles, node: Node, dk: Buffer | None, dv: Buffer | None):
        super().__init__(a, tiles, node)
        self.key, self.value = self.kept_rows("key", a.k), self.kept_rows("value", a.v)
        self.query, self.d_out = self.walked_rows("query", a.q), self.walked_rows("dy", self.dy)
        self.lines = [
            SharedLine.of(a.names, stem, line, tiles.columns, tiles.stages, self.p.threads)
            for stem, line in (("log_sum", self.log_sum), ("delta", self.delta))
        ]
        self.outs = [
            (out, self.p.sums(a.names, stem, rows.padded), rows, size, factor)
            for out, stem, rows, size, factor in (
                (dk, "dk", self.query, a.k.size, a.attrs["scale"]),
                (dv, "dv", self.d_out, a.v.size, 1.0),
            )
            if out is not None
        ]
        self.changes_wanted = dk is not None

    @property
    def products(self) -> int:
        """Of which a forward has two."""
        return 1 + self.changes_wanted + len(self.outs)

    def block(self, place: Place, tile: DimLike) -> Sequence[Stmt]:
        a, p, columns = self.a, self.p, self.tiles.columns
        names, first = a.names, tile * p.rows
        total = ceil_div(a.rows, columns)
        # Earlier queries look at none of the keys.
        skipped = dims.minimum(total, dims.floordiv(first, columns)) if a.attrs["causal"] else 0

        def head(group: DimLike) -> tuple[Stmt, ...]:
            of_group = Place(place.lead, place.shared_head * a.group + group, place.shared_head)

            def copy(t: DimLike, i: DimLike, stage: DimLike) -> list[Stmt]:
                start = (skipped + i) * columns
                parts: list[SharedRows | SharedLine] = [self.query, self.d_out, *self.lines]
                return [s for x in parts for s in x.copy(names, t, of_group.of_query, start, stage)]

            return a.walk(
                self.tiles,
                total - skipped,
                copy,
                lambda i, stage: self._queries(of_group, (skipped + i) * columns, first, stage),
            )

        var = names("g")
        heads = head(0) if a.group == 1 else (For(var, a.group, head(loop_index(var, a.group))),)
        found: list[Stmt] = [
            *a.drawn(),
            *(
                s
                for rows in (self.key, self.value)
                for s in a.threads(p, lambda t, x=rows: x.copy(names, t, place.of_key, first, 0))  # type: ignore[misc]
            ),
        ]
        for _, sums, rows, _, _ in self.outs:
            found += fill(names, p, sums, rows.padded, 0.0)
        found += heads
        for out, sums, rows, size, factor in self.outs:
            found += a.store(p, sums, out, place.of_key, first, a.columns, size, rows.padded, factor)
        return found

    def _queries(self, place: Place, query: DimLike, key: DimLike, stage: DimLike) -> tuple[Stmt, ...]:
        p = self.p
        log_sum, delta = (x.buffer for x in self.lines)

        def of_query(t: DimLike, r: DimLike, c: DimLike) -> tuple[Expr, Expr]:
            where = (stage, p.column(t, c))
            return Load(log_sum, where), Load(delta, where)

        found = self.gradients(
            place,
            query,
            key,
            True,
            (self.key.matrix(0), self.value.matrix(0)),
            (self.query.matrix(stage), self.d_out.matrix(stage)),
            (self.query.padded, self.d_out.padded),
            of_query,
        )
        for _, sums, rows, _, _ in reversed(self.outs):
            what = self.changes if rows is self.query else self.weights
            found += self.add(sums, what, rows.matrix(stage), rows.padded)
        return found


class _ByQuery(_Backward):
    def __init__(self, a: GpuAttention, tiles: Tiles, node: Node, dq: Buffer):
        super().__init__(a, tiles, node)
        self.out = dq
        self.query, self.d_out = self.kept_rows("query", a.q), self.kept_rows("dy", self.dy)
        self.key, self.value = self.walked_rows("key", a.k), self.walked_rows("value", a.v)
        self.sums = self.p.sums(a.names, "dq", self.query.padded)
        self.least, self.less = (
            Buffer(a.names(stem), a.total, (self.p.threads, self.p.slots), "thread")
            for stem in ("log_sum", "delta")
        )

    def block(self, place: Place, tile: DimLike) -> Sequence[Stmt]:
        a, p, columns = self.a, self.p, self.tiles.columns
        names = a.names
        if a.attrs["causal"]:
            tile = ceil_div(a.rows, p.rows) - 1 - tile
        start = tile * p.rows
        looked = dims.minimum(a.columns, start + p.rows) if a.attrs["causal"] else a.columns

        def lines(t: DimLike, r: DimLike) -> list[Stmt]:
            row = start + p.row(t, r)
            stores: list[Stmt] = []
            for to, line in ((self.least, self.log_sum), (self.less, self.delta)):
                read, test = line.at(place.of_query, row), inside(row, a.rows)
                stores.append(Store(to, (t, r), read if test is None else SCALAR.select(test, read, 0.0)))
            return stores

        def copy(t: DimLike, i: DimLike, stage: DimLike) -> list[Stmt]:
            return [
                s for x in (self.key, self.value) for s in x.copy(names, t, place.of_key, i * columns, stage)
            ]

        return [
            *a.drawn(),
            *a.threads(p, lambda t: self.query.copy(names, t, place.of_query, start, 0)),
            *a.threads(p, lambda t: self.d_out.copy(names, t, place.of_query, start, 0)),
            *a.slots(p, lines),
            *fill(names, p, self.sums, self.query.padded, 0.0),
            *a.walk(
                self.tiles,
                ceil_div(looked, columns),
                copy,
                lambda i, stage: self._keys(place, start, i * columns, stage),
            ),
            *a.store(
                p, self.sums, self.out, place.of_query, start, a.rows, a.q.size, self.query.padded,
                a.attrs["scale"],
            ),
        ]  # fmt: skip

    def _keys(self, place: Place, query: DimLike, key: DimLike, stage: DimLike) -> tuple[Stmt, ...]:
        found = self.gradients(
            place,
            query,
            key,
            False,
            (self.query.matrix(0), self.d_out.matrix(0)),
            (self.key.matrix(stage), self.value.matrix(stage)),
            (self.query.padded, self.d_out.padded),
            lambda t, r, c: (Load(self.least, (t, r)), Load(self.less, (t, r))),
        )
        return (*found, *self.add(self.sums, self.changes, self.key.matrix(stage), self.key.padded))
