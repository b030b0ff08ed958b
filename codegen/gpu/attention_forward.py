"""The kernel of `attention`: a running softmax over tiles of keys (T. Dao, "FlashAttention-2", 2023).

for tile of queries in grid
  for tile of keys                                  the next one is on its way to shared memory
    scores = query key^T, hidden ones -inf
    most = max(most, a row's scores)                 registers and shuffles within the row's threads
    weights = exp(scores - most); total, out shrink to the new most
    out += weights value
  out / total; log_sum = most + log(total)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node
from ..loops.nodes import Buffer, Expr, If, Let, Load, Stmt, Store, Var
from ..lower.attention import Place
from ..lower.context import Args, LowerContext
from ..scalar import SCALAR
from .attention import GpuAttention, Tiles, index_test
from .attention_operands import SharedRows
from .attention_products import fill, reduced
from .attention_tiles import forward_tiles
from .grid import ceil_div, guarded, inside


def forward_on_gpu(ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
    q, k, v, *rest = node.inputs
    if any(size == 0 for size in node.outputs[0].type.shape):
        return
    attention = GpuAttention(ctx, body, args, node, q, k, v, rest)
    tiles = forward_tiles(attention)
    kernel = _Forward(attention, tiles, args, node)
    flops = node.op.flops(*(x.type for x in node.inputs), **node.attrs) if node.op.flops else 0
    count = ceil_div(attention.rows, tiles.products.rows)
    ctx.launch(name, attention.grid(count, True, kernel.block), cost=1, flops=flops, comment=str(tiles))


class _Forward:
    def __init__(self, a: GpuAttention, tiles: Tiles, args: Args, node: Node):
        self.a, self.tiles = a, tiles
        self.out, self.log_sum = (args.get(x) for x in node.outputs)
        p, names = tiles.products, a.names

        def shared(stem: str, count: int, stages: int) -> SharedRows:
            rows = {"query": a.q, "key": a.k, "value": a.v}[stem]
            return SharedRows.of(names, stem, rows, p, count, stages)

        self.query = shared("query", p.rows, 1)
        self.key, self.value = (shared(x, tiles.columns, tiles.stages) for x in ("key", "value"))
        self.scores = p.sums(names, "scores", tiles.columns)
        self.result = p.sums(names, "out", self.value.padded)
        self.weights = p.hand_over(names, tiles.columns)
        # Of a row: its largest score, its sum of powers, by how much what it has so far shrinks.
        self.most, self.total, self.base, self.shrunk, self.part = (
            Buffer(names(n), a.total, (p.threads, p.slots), "thread")
            for n in ("most", "total", "base", "shrunk", "part")
        )

    def block(self, place: Place, tile: DimLike) -> Sequence[Stmt]:
        a, p, columns = self.a, self.tiles.products, self.tiles.columns
        names = a.names
        if a.attrs["causal"]:
            # Blocks that have more to do begin first.
            tile = ceil_div(a.rows, p.rows) - 1 - tile
        start = tile * p.rows
        looked = dims.minimum(a.columns, start + p.rows) if a.attrs["causal"] else a.columns

        def reset(t: DimLike, r: DimLike) -> list[Stmt]:
            return [
                Store(self.most, (t, r), a.number(-math.inf)),
                Store(self.total, (t, r), a.number(0.0)),
            ]

        def copy(t: DimLike, i: DimLike, stage: DimLike) -> list[Stmt]:
            first = i * columns
            return [s for x in (self.key, self.value) for s in x.copy(names, t, place.of_key, first, stage)]

        return [
            *a.drawn(),
            *a.threads(p, lambda t: self.query.copy(names, t, place.of_query, start, 0)),
            *a.slots(p, reset),
            *fill(names, p, self.result, self.value.padded, 0.0),
            *a.walk(self.tiles, ceil_div(looked, columns), copy, lambda i, s: self._keys(place, start, i, s)),
            *self._store(place, start),
        ]

    def _keys(self, place: Place, start: DimLike, i: DimLike, stage: DimLike) -> tuple[Stmt, ...]:
        a, p, columns = self.a, self.tiles.products, self.tiles.columns
        names, first = a.names, i * columns

        def shrink(t: DimLike, r: DimLike) -> list[Stmt]:
            where = (t, r)
            best, base = names("best"), names("base")
            largest: Expr = Var(best, a.total)
            # Where nothing was looked at yet, the powers of -inf are zeros.
            least = SCALAR.select(SCALAR.eq(largest, -math.inf), 0.0, largest)
            scaled = least if a.factor == 1.0 else SCALAR.mul(least, a.factor)
            factor = a.power(a.exponent(Load(self.most, where), Var(base, a.total)))
            return [
                Let(best, SCALAR.max(Load(self.most, where), Load(most, where))),
                Let(base, scaled),
                Store(self.base, where, Var(base, a.total)),
                Store(self.shrunk, where, factor),
                Store(self.most, where, largest),
                Store(self.total, where, SCALAR.mul(Load(self.total, where), Load(self.shrunk, where))),
            ]

        def largest(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            found = SCALAR.max(Load(self.part, (t, r)), Load(self.scores, p.at(t, r, c)))
            return [Store(self.part, (t, r), found)]

        def power(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            where, name = p.at(t, r, c), names("power")
            exponent = a.exponent(Load(self.scores, where), Load(self.base, (t, r)))
            found: Expr = Var(name, a.total)
            kept = a.kept(place, start + p.row(t, r), first + p.column(t, c))
            return [
                Let(name, a.power(exponent)),
                Store(self.total, (t, r), SCALAR.add(Load(self.total, (t, r)), found)),
                Store(self.scores, where, found if kept is None else SCALAR.mul(found, kept)),
            ]

        def smaller(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            where = p.at(t, r, c)
            return [
                Store(self.result, where, SCALAR.mul(Load(self.result, where), Load(self.shrunk, (t, r))))
            ]

        folding, most = reduced(names, p, "max", self.part)
        return (
            *p.scores(
                names, self.scores, self.query.matrix(0), self.key.matrix(stage), columns, self.key.padded
            ),
            *a.settled(self.tiles, self.scores, place, start, first),
            *a.slots(p, lambda t, r: [Store(self.part, (t, r), a.number(-math.inf))]),
            *a.each(p, columns, largest),
            *folding,
            *a.slots(p, shrink),
            *a.each(p, columns, power),
            *p.hand(names, self.scores, columns, self.weights),
            *a.each(p, self.value.padded, smaller),
            *p.accumulate(
                names, self.result, self.weights, self.value.matrix(stage), self.value.padded, columns
            ),
        )

    def _store(self, place: Place, start: DimLike) -> tuple[Stmt, ...]:
        a, p = self.a, self.tiles.products
        folding, total = reduced(a.names, p, "add", self.total)
        found = folding

        def factor(t: DimLike, r: DimLike) -> Expr:
            whole = Load(total, (t, r))
            inverse = SCALAR.div(a.number(1.0), whole)
            return SCALAR.select(SCALAR.eq(whole, 0.0), 0.0, inverse) if a.attrs["safe"] else inverse

        if self.out is not None:
            found += a.store(
                p, self.result, self.out, place.of_query, start, a.rows, a.v.size, self.value.padded, factor
            )
        if self.log_sum is not None:
            found += a.slots(p, lambda t, r: self._log(place, start + p.row(t, r), t, r, total))
        return found

    def _log(self, place: Place, row: DimLike, t: DimLike, r: DimLike, total: Buffer) -> tuple[Stmt, ...]:
        """A row's logarithm, by the first of its threads."""
        a, p = self.a, self.tiles.products
        assert self.log_sum is not None
        most = SCALAR.mul(Load(self.most, (t, r)), a.number(a.factor / a.unit))
        value = SCALAR.add(most, SCALAR.log(Load(total, (t, r))))
        put = guarded(inside(row, a.rows), (Store(self.log_sum, (*place.of_query, row), value),))
        return (If(index_test("eq", dims.mod(t, p.masks[-1] * 2), 0), put),)
