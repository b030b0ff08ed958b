"""The kernel of `attention_grad`: the weights computed again, block by block.

    weights[n, m] = exp(scores[n, m] - log_sum[m])
    d_scores[n, m] = weights[n, m] (value[n, :] turned_dy[:, m] - delta[m])
    dv[n, :] += weights[n, m] dy[m, :]      dk[n, :] += d_scores[n, m] q[m, :]      dq[m, :] += d_scores[n, m] k[n, :]

Only query and dy are turned. A task is a head of key and value, with all queries that share it: it adds up its gradients
in the order of the queries and, for dq, of the keys, so that the bits do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...ir.dims import DimLike
from ...ir.graph import Graph, Node
from ..loops.nodes import Buffer, Expr, Load, Stmt, Store
from ..scalar import SCALAR
from .attention import Attention, Place, Rows, Turned, static_size, zeros
from .context import Args, LowerContext
from .contraction import Access
from .contraction_tile import Bindings
from .indexing import IndexTuple
from .nests import serial_loop


def lower_attention_backward(ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
    _, q, k, v, _, _, *rest = node.inputs
    if any(size == 0 for size in q.type.shape):
        return
    attention = Attention(ctx, body, args, node, q, k, v, rest)
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
        self.query, self.key, self.value, self.dy = (a.read(x) for x in (a.q, a.k, a.v, dy))
        self.log_sum, self.delta = a.read_rows(log_sum), a.read_rows(delta)
        self.dq, self.dk, self.dv = (args.get(x) for x in node.outputs)
        self.least, self.less = a.stack("least", a.block), a.stack("less", a.block)
        self.weights, self.d_scores = (a.stack(n, a.keys, a.block) for n in ("weights", "d_scores"))
        self.gradient = a.stack("gradient", a.block, self.size)

    def task(self, place: Place, block: DimLike) -> Sequence[Stmt]:
        a = self.a
        statements = list(a.drawn())
        for buffer, size in ((self.dk, self.size), (self.dv, self.width)):
            if buffer is not None:
                statements += self._cleared(buffer, place.of_key, size)

        def head(group: DimLike) -> tuple[Stmt, ...]:
            of_group = Place(place.lead, place.shared_head * a.group + group, place.shared_head)
            return serial_loop(a.names, a.blocks, lambda t: self._queries(of_group, t * a.block), "t")

        return [*statements, *serial_loop(a.names, a.group, head, "g")]

    def _cleared(self, buffer: Buffer, place: IndexTuple, size: int) -> tuple[Stmt, ...]:
        a = self.a
        return serial_loop(
            a.names,
            a.columns,
            lambda n: a.along(size, lambda i: [Store(buffer, (*place, n, i), a.number(0.0))]),
            "z",
        )

    def _queries(self, place: Place, start: DimLike) -> tuple[Stmt, ...]:
        a = self.a
        valid = a.valid(start)
        query = a.turned(lambda row, at: self.query(place.of_query, row, at), self.size, start)
        dy = a.turned(lambda row, at: self.dy(place.of_query, row, at), self.width, start)

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
            *(zeros(a, self.gradient) if self.dq is not None else ()),
            *a.key_blocks(start, lambda first, count: self._keys(place, start, query, dy, first, count)),
            *self._store(place, start, valid),
        )

    def _keys(
        self, place: Place, start: DimLike, query: Turned, dy: Turned, first: DimLike, count: DimLike
    ) -> list[Stmt]:
        a = self.a

        def power(at: Bindings, value: Expr) -> Sequence[Stmt]:
            score = a.scored(place, start, first + at[n.name], at[m.name], value)
            weight = SCALAR.exp(SCALAR.sub(score, Load(self.least, (at[m.name],))))
            return [Store(self.weights, (at[n.name], at[m.name]), weight)]

        n, m, e = a.axis("n", count), a.axis("m", a.block), a.axis("e", self.size)
        left = self.key(place.of_key, first + n.var, e.var)
        found = [*a.product(n, m, e, left, query.at(e.var, m.var), power)]

        def difference(at: Bindings, value: Expr) -> Sequence[Stmt]:
            where = (at[n.name], at[m.name])
            weight = Load(self.weights, where)
            kept = a.kept(place, start + at[m.name], first + at[n.name])
            if kept is not None:
                value = SCALAR.mul(value, kept)
            change = SCALAR.mul(weight, SCALAR.sub(value, Load(self.less, (at[m.name],))))
            stores: list[Stmt] = [Store(self.d_scores, where, change)]
            if kept is not None:
                stores.append(Store(self.weights, where, SCALAR.mul(weight, kept)))
            return stores

        n, m, f = a.axis("n", count), a.axis("m", a.block), a.axis("f", self.width)
        left = self.value(place.of_key, first + n.var, f.var)
        found += a.product(n, m, f, left, dy.at(f.var, m.var), difference)
        found += self._add_over_queries(
            self.dv, self.weights, self.dy, self.width, 1.0, place, start, first, count
        )
        scale = a.attrs["scale"]
        found += self._add_over_queries(
            self.dk, self.d_scores, self.query, self.size, scale, place, start, first, count
        )
        return [*found, *self._add_over_keys(place, first, count)]

    def _add_over_queries(
        self,
        target: Buffer | None,
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
        if target is None:
            return ()
        a = self.a
        n, i, m = a.axis("n", count), a.axis("i", size), a.axis("m", a.valid(start))

        def add(at: Bindings, value: Expr) -> Sequence[Stmt]:
            where = (*place.of_key, first + at[n.name], at[i.name])
            before = Load(target, where)
            if scale == 1.0:
                return [Store(target, where, SCALAR.add(before, value))]
            return [Store(target, where, SCALAR.fma(value, a.number(scale), before))]

        right = rows(place.of_query, start + m.var, i.var)
        return a.product(n, i, m, Access(factor, (n.var, m.var)), right, add)

    def _add_over_keys(self, place: Place, first: DimLike, count: DimLike) -> tuple[Stmt, ...]:
        """The block's part of dq."""
        if self.dq is None:
            return ()
        a = self.a
        m, i, n = a.axis("m", a.block), a.axis("i", self.size), a.axis("n", count)

        def add(at: Bindings, value: Expr) -> Sequence[Stmt]:
            where = (at[m.name], at[i.name])
            return [Store(self.gradient, where, SCALAR.add(Load(self.gradient, where), value))]

        right = self.key(place.of_key, first + n.var, i.var)
        return a.product(m, i, n, Access(self.d_scores, (n.var, m.var)), right, add)

    def _store(self, place: Place, start: DimLike, valid: DimLike) -> tuple[Stmt, ...]:
        a, dq = self.a, self.dq
        if dq is None:
            return ()

        def row(m: DimLike) -> tuple[Stmt, ...]:
            def element(i: DimLike) -> Sequence[Stmt]:
                value = SCALAR.mul(Load(self.gradient, (m, i)), a.number(a.attrs["scale"]))
                return [Store(dq, (*place.of_query, start + m, i), value)]

            return a.along(self.size, element)

        return serial_loop(a.names, valid, row, "r")
