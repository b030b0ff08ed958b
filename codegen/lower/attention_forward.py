"""The kernel of `attention`: a running softmax over blocks of keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node
from ..loops.nodes import Expr, For, Let, Load, Stmt, Store, Var
from ..packed import rounded_pair
from ..scalar import SCALAR
from ..target import MANY_REGISTERS
from .attention import Attention, Place, static_size
from .attention_blocks import OF_TILES
from .attention_results import Results
from .context import Args, LowerContext
from .contraction_tile import loop_var
from .falling import power_below
from .nests import serial_loop

# From a key of the block, which of neighbouring keys it is, a vector of queries and a lane of it.
Emit = Callable[[DimLike, DimLike, DimLike, DimLike], Sequence[Stmt]]


def lower_attention_forward(ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
    q, k, v, *rest = node.inputs
    if any(size == 0 for size in node.outputs[0].type.shape):
        return
    attention = Attention(ctx, body, args, node, q, k, v, rest, (q, k), OF_TILES)
    kernel = _Forward(attention, args, node)
    flops = node.op.flops(*(x.type for x in node.inputs), **node.attrs) if node.op.flops else 0
    per_key = 2 * (q.type.shape[-1] + v.type.shape[-1]) + 32
    work = attention.block * attention.columns * per_key
    ctx.launch(
        name,
        attention.tasks(True, kernel.task),
        cost=work,
        flops=flops,
        comment=f"{attention.block} queries by {attention.keys} keys",
    )


class _Forward:
    def __init__(self, a: Attention, args: Args, node: Node):
        self.a = a
        self.size = static_size(a.q.type.shape[-1])
        self.width = static_size(a.v.type.shape[-1])
        # Query is only turned, and converted then.
        self.query = a.operands.factor(a.q, along=a.dot != "").along
        self.key = a.operands.factor(a.k, along=True).along
        self.value = a.operands.factor(a.v, down=True, of_keys=True).down
        out, log_sum = node.outputs
        self.out = args.get(out)
        self.log_sum = args.get(log_sum)
        # For a query: its largest score, its sum of powers, by how much its result shrinks; for a block: its weights.
        self.most, self.total, self.shrunk = (a.stack(n, a.block) for n in ("most", "total", "shrunk"))
        self.weights = a.stack("weights", a.keys, a.block)
        # The same in words of two keys.
        self.words = a.word_block()
        self.result = Results(a, "result", self.width)

    def task(self, place: Place, block: DimLike) -> Sequence[Stmt]:
        a = self.a
        start = block * a.block
        turned = a.turned(lambda row, at: self.query(place.of_query, row, at), self.size, start)
        statements = [*a.drawn(), *turned.body, *self.result.cleared()]

        def reset(vector: DimLike, lane: DimLike) -> Sequence[Stmt]:
            m = vector * a.lanes + lane
            return [
                Store(self.most, (m,), a.number(-math.inf)),
                Store(self.total, (m,), a.number(0.0)),
            ]

        statements += a.each_vector(reset)

        def keys(first: DimLike, count: DimLike) -> Sequence[Stmt]:
            n, m, e = a.axis("n", count), a.axis("m", a.block), a.axis("e", a.words(self.size))
            scores = a.product(
                n,
                m,
                e,
                self.key(place.of_key, first + n.var, e.var),
                turned.at(e.var, m.var),
                lambda at, value: [
                    Store(
                        self.weights,
                        (at[n.name], at[m.name]),
                        a.scored(place, start, first + at[n.name], at[m.name], value),
                    )
                ],
            )
            return [*scores, *self._softmax(place, start, first, count), *self._average(place, first, count)]

        statements += a.key_blocks(start, keys)
        return [*statements, *self._store(place, start)]

    def _softmax(self, place: Place, start: DimLike, first: DimLike, count: DimLike) -> tuple[Stmt, ...]:
        """The block's scores become powers, in words where products are of words; the rows' maxima and sums go on."""
        a = self.a
        vectors = a.block // a.lanes
        # So many chains of sums: with few registers, exponentials beside more would keep theirs in memory.
        chains = 4 if a.ctx.target.registers >= MANY_REGISTERS else 1
        copies = chains if isinstance(count, int) and count % chains == 0 else 1
        top, base, add = (a.registers(n, copies, vectors, a.lanes) for n in ("top", "base", "add"))

        def over_keys(emit: Emit, together: int = 1) -> tuple[Stmt, ...]:
            """`emit(key, copy, vector, lane)`: neighbouring keys in copies, so that no chain of operations waits; some
            at a time, of which it is told the first."""
            if copies == 1:
                return serial_loop(
                    a.names,
                    count,
                    lambda i: a.each_vector(lambda v, l: emit(i, 0, v, l)),
                    "j",
                )
            groups = dims.floordiv(count, copies)

            def group(i: DimLike) -> tuple[Stmt, ...]:
                var, several = a.names("u"), copies // together
                u = loop_var(var, several) * together
                inner = a.each_vector(lambda v, l: emit(i * copies + u, u, v, l))
                return (For(var, several, inner, "unroll"),)

            return serial_loop(a.names, groups, group, "j")

        def start_with(v: DimLike, l: DimLike) -> list[Stmt]:
            found: list[Stmt] = [Store(top, (0, v, l), Load(self.most, (v * a.lanes + l,)))]
            found += [Store(top, (u, v, l), a.number(-math.inf)) for u in range(1, copies)]
            return found

        def larger(n: DimLike, u: DimLike, v: DimLike, l: DimLike) -> list[Stmt]:
            score, so_far = Load(self.weights, (n, v * a.lanes + l)), Load(top, (u, v, l))
            # A NaN is left out here, and makes the sum of powers one.
            return [Store(top, (u, v, l), SCALAR.select(SCALAR.gt(score, so_far), score, so_far))]

        def shrink(v: DimLike, l: DimLike) -> list[Stmt]:
            best: Expr = Load(top, (0, v, l))
            for u in range(1, copies):
                best = SCALAR.max(best, Load(top, (u, v, l)))
            m = v * a.lanes + l
            name, low = a.names("best"), a.names("low")
            best_so_far = Var(name, a.dtype)
            # Where nothing was looked at yet, the powers of -inf are zeros.
            least = SCALAR.select(SCALAR.eq(best_so_far, -math.inf), 0.0, best_so_far)
            return [
                Let(name, best),
                Let(low, least),
                Store(base, (0, v, l), Var(low, a.dtype)),
                Store(
                    self.shrunk,
                    (m,),
                    power_below(a.ctx.target, SCALAR.sub(Load(self.most, (m,)), Var(low, a.dtype))),
                ),
                Store(self.most, (m,), best_so_far),
                *(Store(add, (u, v, l), a.number(0.0)) for u in range(copies)),
            ]

        def powered(n: DimLike, u: DimLike, v: DimLike, l: DimLike) -> tuple[list[Stmt], Expr]:
            m = v * a.lanes + l
            name = a.names("power")
            less = SCALAR.sub(Load(self.weights, (n, m)), Load(base, (0, v, l)))
            kept = a.kept(place, start + m, first + n)
            power: Expr = Var(name, a.dtype)
            added = SCALAR.add(Load(add, (u, v, l)), power)
            return [
                Let(name, power_below(a.ctx.target, less, short=a.dot != "")),
                Store(add, (u, v, l), added),
            ], power if kept is None else SCALAR.mul(power, kept)

        def power(n: DimLike, u: DimLike, v: DimLike, l: DimLike) -> list[Stmt]:
            found, used = powered(n, u, v, l)
            return [*found, Store(self.weights, (n, v * a.lanes + l), used)]

        def two_powers(n: DimLike, u: DimLike, v: DimLike, l: DimLike) -> list[Stmt]:
            (one, low), (other, high) = powered(n, u, v, l), powered(n + 1, u + 1, v, l)
            word = Store(self.words, (dims.floordiv(n, 2), v * a.lanes + l), rounded_pair(low, high))
            return [*one, *other, word]

        if not a.dot:
            powers = over_keys(power)
        elif copies % 2 == 0:
            powers = over_keys(two_powers, 2)
        else:
            powers = (*over_keys(power), *a.paired(self.weights, self.words, count))

        def total(v: DimLike, l: DimLike) -> list[Stmt]:
            m = v * a.lanes + l
            found: Expr = Load(add, (0, v, l))
            for u in range(1, copies):
                found = SCALAR.add(found, Load(add, (u, v, l)))
            before = SCALAR.mul(Load(self.total, (m,)), Load(self.shrunk, (m,)))
            return [Store(self.total, (m,), SCALAR.add(before, found))]

        return (
            *a.each_vector(start_with),
            *over_keys(larger),
            *a.each_vector(shrink),
            *powers,
            *a.each_vector(total),
        )

    def _average(self, place: Place, first: DimLike, count: DimLike) -> tuple[Stmt, ...]:
        """The block's values, weighted, added to the rows' results."""

        def then(before: Expr, m: DimLike, value: Expr) -> Expr:
            return SCALAR.fma(before, Load(self.shrunk, (m,)), value)

        weights = self.words if self.a.dot else self.weights
        return self.result.add(place, first, count, weights, self.value, then)

    def _store(self, place: Place, start: DimLike) -> tuple[Stmt, ...]:
        a = self.a
        found: tuple[Stmt, ...] = ()
        out, log_sum = self.out, self.log_sum
        if out is not None:
            # What shrunk the results divides them now.
            factors = self.shrunk

            def factor(vector: DimLike, lane: DimLike) -> Sequence[Stmt]:
                m = vector * a.lanes + lane
                total = Load(self.total, (m,))
                value = SCALAR.div(a.number(1.0), total)
                if a.attrs["safe"]:
                    value = SCALAR.select(SCALAR.eq(total, 0.0), 0.0, value)
                return [Store(factors, (m,), value)]

            found += a.each_vector(factor)
            found += self.result.stored(out, place, start, lambda m: Load(factors, (m,)))
        if log_sum is not None:

            def log(m: DimLike) -> Sequence[Stmt]:
                value = SCALAR.add(Load(self.most, (m,)), SCALAR.log(Load(self.total, (m,))))
                return [Store(log_sum, (*place.of_query, start + m), value)]

            found += a.along(a.valid(start), log)
        return found
