"""The kernel of `attention_grad`: the weights computed again, block by block.

    weights[n, m] = exp(scores[n, m] - log_sum[m])
    d_scores[n, m] = weights[n, m] (value[n, :] turned_dy[:, m] - delta[m])
    dv[n, :] += weights[n, m] dy[m, :]      dk[n, :] += d_scores[n, m] q[m, :]      dq[m, :] += d_scores[n, m] k[n, :]

Only query and dy are turned. Gradients of sixteen-bit operands are summed in float32 and rounded at the end. A task is
a head of key and value, with all queries that share it: it adds up its gradients in the order of the queries and, for
dq, of the keys, so that the bits do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node
from ..loops.nodes import Buffer, Expr, Index, Load, Stmt, Store
from ..scalar import SCALAR
from .attention import Attention, Place, Turned, static_size
from .attention_blocks import OF_GRADIENT_TILES
from .attention_operands import Pairs, Rows
from .attention_results import Results
from .context import Args, LowerContext
from .contraction import Access
from .contraction_tile import Bindings
from .falling import power_below
from .indexing import IndexTuple
from .nests import serial_loop


def lower_attention_backward(ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
    _, q, k, v, _, _, *rest = node.inputs
    if any(size == 0 for size in q.type.shape):
        return
    attention = Attention(ctx, body, args, node, q, k, v, rest, node.inputs[:4], OF_GRADIENT_TILES)
    kernel = _Backward(attention, args, node)
    per_key = 4 * q.type.shape[-1] * 2 + 2 * v.type.shape[-1] * 2
    flops = node.op.flops(*(x.type for x in node.inputs), **node.attrs) if node.op.flops else 0
    ctx.launch(
        name,
        attention.tasks(False, kernel.task),
        cost=attention.rows * attention.columns * attention.group * per_key,
        flops=flops,
        comment=f"{attention.block} queries by {attention.keys} keys",
    )


class _Backward:
    def __init__(self, a: Attention, args: Args, node: Node):
        self.a = a
        dy, _, _, _, log_sum, delta, *_ = node.inputs
        self.size, self.width = static_size(a.q.type.shape[-1]), static_size(a.v.type.shape[-1])
        self.log_sum, self.delta = a.read_rows(log_sum), a.read_rows(delta)
        self.dq, self.dk, self.dv = (args.get(x) for x in node.outputs)
        self.query, self.key, self.value, self.dy = (
            a.operands.factor(x, along=True, down=wanted is not None, of_keys=of_keys)
            for x, wanted, of_keys in (
                (a.q, self.dk, False),
                (a.k, self.dq, True),
                (a.v, None, True),
                (dy, self.dv, False),
            )
        )
        # Where the gradients of key and value are added up.
        self.d_key, self.d_value = (self._summed(x, stem) for x, stem in ((self.dk, "dk"), (self.dv, "dv")))
        self.least, self.less = a.stack("least", a.block), a.stack("less", a.block)
        self.weights, self.d_scores = (a.stack(n, a.keys, a.block) for n in ("weights", "d_scores"))
        # The same two in sixteen bits, for sums over queries; the second in words of two keys, for sums over keys.
        self.short_weights, self.short_scores = (
            Buffer(a.names(n), a.q.type.dtype, (a.keys * a.block,), "stack")
            for n in ("short_weights", "short_scores")
        )
        self.words = a.word_block()
        self.gradient = Results(a, "gradient", self.size)

    def _summed(self, out: Buffer | None, stem: str) -> Buffer | None:
        if out is None or out.dtype is self.a.dtype:
            return out
        return self.a.ctx.scratch(stem, self.a.dtype, out.shape)

    def task(self, place: Place, block: DimLike) -> Sequence[Stmt]:
        a = self.a
        statements = list(a.drawn())
        sums = (self.d_key, self.dk, self.size), (self.d_value, self.dv, self.width)
        for buffer, _, size in sums:
            if buffer is not None:
                statements += a.cleared(buffer, a.columns, size, place.of_key)

        def head(group: DimLike) -> tuple[Stmt, ...]:
            of_group = Place(place.lead, place.shared_head * a.group + group, place.shared_head)
            return serial_loop(a.names, a.blocks, lambda t: self._queries(of_group, t * a.block), "t")

        statements += serial_loop(a.names, a.group, head, "g")
        for buffer, out, size in sums:
            if buffer is not None and out is not None and buffer is not out:
                statements += self._rounded(buffer, out, place.of_key, size)
        return statements

    def _rounded(self, source: Buffer, out: Buffer, place: IndexTuple, size: int) -> tuple[Stmt, ...]:
        def row(n: DimLike) -> tuple[Stmt, ...]:
            def element(i: DimLike) -> Sequence[Stmt]:
                where = (*place, n, i)
                return [Store(out, where, SCALAR.cast(Load(source, where), out.dtype))]

            return self.a.along(size, element)

        return serial_loop(self.a.names, self.a.columns, row, "z")

    def _queries(self, place: Place, start: DimLike) -> tuple[Stmt, ...]:
        a = self.a
        valid = a.valid(start)
        query = a.turned(lambda row, at: self.query.along(place.of_query, row, at), self.size, start)
        dy = a.turned(lambda row, at: self.dy.along(place.of_query, row, at), self.width, start)

        def row_values(m: DimLike) -> Sequence[Stmt]:
            least: Expr = self.log_sum(place.of_query, start + m)
            if a.attrs["safe"]:
                least = SCALAR.select(SCALAR.eq(least, -math.inf), math.inf, least)
            return [
                Store(self.least, (m,), least),
                Store(self.less, (m,), self.delta(place.of_query, start + m)),
            ]

        def nothing(vector: DimLike, lane: DimLike) -> Sequence[Stmt]:
            m = vector * a.lanes + lane
            return [Store(buffer, (m,), a.number(0.0)) for buffer in (self.least, self.less)]

        return (
            *query.body,
            *dy.body,
            *a.each_vector(nothing),
            *a.along(valid, row_values),
            *(self.gradient.cleared() if self.dq is not None else ()),
            *a.key_blocks(start, lambda first, count: self._keys(place, start, query, dy, first, count)),
            *self._store(place, start),
        )

    def _keys(
        self, place: Place, start: DimLike, query: Turned, dy: Turned, first: DimLike, count: DimLike
    ) -> list[Stmt]:
        a = self.a

        def power(at: Bindings, value: Expr) -> Sequence[Stmt]:
            score = a.scored(place, start, first + at[n.name], at[m.name], value)
            less = SCALAR.sub(score, Load(self.least, (at[m.name],)))
            weight = power_below(a.ctx.target, less, short=a.dot != "")
            return [Store(self.weights, (at[n.name], at[m.name]), weight)]

        n, m, e = a.axis("n", count), a.axis("m", a.block), a.axis("e", a.words(self.size))
        left = self.key.along(place.of_key, first + n.var, e.var)
        found = [*a.product(n, m, e, left, query.at(e.var, m.var), power)]

        def difference(at: Bindings, value: Expr) -> Sequence[Stmt]:
            where = (at[n.name], at[m.name])
            weight = Load(self.weights, where)
            kept = a.kept(place, start + at[m.name], first + at[n.name])
            if kept is not None:
                value = SCALAR.mul(value, kept)
            change = SCALAR.mul(weight, SCALAR.sub(value, Load(self.less, (at[m.name],))))
            stores: list[Stmt] = [Store(self.d_scores, where, change)]
            used: Expr = weight if kept is None else SCALAR.mul(weight, kept)
            if a.dot:
                flat = (at[n.name] * a.block + at[m.name],)
                for buffer, x in ((self.short_weights, used), (self.short_scores, change)):
                    if dims.mod(a.rows, a.operands.room) != 0:  # there is room for queries that are not there
                        x = SCALAR.select(SCALAR.lt(Index(start + at[m.name]), Index(a.rows)), x, 0.0)
                    stores.append(Store(buffer, flat, SCALAR.cast(x, buffer.dtype)))
            elif kept is not None:
                stores.append(Store(self.weights, where, used))
            return stores

        n, m, f = a.axis("n", count), a.axis("m", a.block), a.axis("f", a.words(self.width))
        left = self.value.along(place.of_key, first + n.var, f.var)
        found += a.product(n, m, f, left, dy.at(f.var, m.var), difference)
        weights, d_scores = (
            (self.short_weights, self.short_scores) if a.dot else (self.weights, self.d_scores)
        )
        scale = a.attrs["scale"]
        for target, factor, rows, size, times in (
            (self.d_value, weights, self.dy, self.width, 1.0),
            (self.d_key, d_scores, self.query, self.size, scale),
        ):
            if target is not None:
                found += self._add_over_queries(
                    target, factor, rows.down, size, times, place, start, first, count
                )
        return [*found, *self._add_over_keys(place, first, count)]

    def _add_over_queries(
        self,
        target: Buffer,
        factor: Buffer,
        rows: Rows,
        size: int,
        scale: float,
        place: Place,
        start: DimLike,
        first: DimLike,
        count: DimLike,
    ) -> tuple[Stmt, ...]:
        """target[n, :] += scale factor[n, m] rows[m, :], over the queries that there are."""
        a = self.a
        queries = a.valid(start) if a.memory is None else a.block
        n, i, m = a.axis("n", count), a.axis("i", size), a.axis("m", a.words(queries))

        def add(at: Bindings, value: Expr) -> Sequence[Stmt]:
            where = (*place.of_key, first + at[n.name], at[i.name])
            before = Load(target, where)
            if scale == 1.0:
                return [Store(target, where, SCALAR.add(before, value))]
            return [Store(target, where, SCALAR.fma(value, a.number(scale), before))]

        right = rows(place.of_query, a.in_words(start) + m.var, i.var)
        left = Access(factor, (n.var, m.var))
        if a.dot:
            left = Pairs(factor, (n.var * a.block + m.var * 2,))
        return a.product(n, i, m, left, right, add)

    def _add_over_keys(self, place: Place, first: DimLike, count: DimLike) -> tuple[Stmt, ...]:
        """The block's part of dq."""
        if self.dq is None:
            return ()

        def then(before: Expr, m: DimLike, value: Expr) -> Expr:
            return SCALAR.add(before, value)

        a = self.a
        factor = self.words if a.dot else self.d_scores
        added = self.gradient.add(place, first, count, factor, self.key.down, then)
        return (*a.paired(self.d_scores, self.words, count), *added) if a.dot else added

    def _store(self, place: Place, start: DimLike) -> tuple[Stmt, ...]:
        if self.dq is None:
            return ()
        scale = self.a.number(self.a.attrs["scale"])
        return self.gradient.stored(self.dq, place, start, lambda m: scale)
