"""Attention on a GPU: a block for each tile of queries (or keys), which walks the keys (or queries) tile by tile.

Here is what forward (`attention_forward.py`) and backward (`attention_backward.py`) share: the operands, what a score is
after scale and masks, dropout, and how a tile that is walked comes into shared memory while the one before is worked on.
Scores are never in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ...ir.half_precision import HALF
from ...ir.ops.attention import extras, group_size
from ..loops.nodes import (
    Apply,
    Buffer,
    Const,
    CopyCommit,
    CopyWait,
    Expr,
    If,
    Index,
    Let,
    Load,
    Stmt,
    Store,
    Var,
)
from ..lower.attention import Place
from ..lower.context import Args, LowerContext, Names
from ..lower.indexing import BodyEvaluator, IndexTuple, broadcast_index
from ..lower.nests import loop_index, serial_loop
from ..lower.random import kept_factor
from ..lower.spaces import linear
from ..lower.template import Axis
from ..scalar import SCALAR
from .attention_operands import Rows, rows_of
from .attention_products import Products, each
from .grid import Unravel, below, blocks, gpu_target, guarded, inside, threads, unrolled
from .operands import GuardedOperands

LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Tiles:
    """`products.rows` rows stay, `columns` at a time are walked, of which `stages` are in shared memory."""

    products: Products
    columns: int
    stages: int

    def __str__(self) -> str:
        return f"tile {self.products.rows}x{self.columns}, {self.products}, {self.stages} stages"


class GpuAttention:
    """The operands of one op. `rows`, `columns`: the numbers of queries and keys."""

    def __init__(
        self, ctx: LowerContext, body: Graph, args: Args, node: Node, q: Value, k: Value, v: Value,
        rest: Sequence[Value],
    ):  # fmt: skip
        self.ctx, self.body, self.args, self.node = ctx, body, args, node
        self.names = Names()
        self.attrs = node.attrs
        found = extras(rest, lambda value: value.type)
        self.mask: Value | None = found.mask
        self.state: Value | None = found.state
        self.operands = GuardedOperands(ctx, body, args)
        self.q, self.k, self.v = (rows_of(self.operands, x) for x in (q, k, v))
        self.shape = q.type.shape
        self.rows, self.columns = q.type.shape[-2], k.type.shape[-2]
        self.group = group_size(q.type.shape, k.type.shape)
        self.dtype = q.type.dtype
        self.total = dtypes.f32 if self.dtype in HALF else self.dtype
        rounds = self.dtype is dtypes.f32 and "matmul" in ctx.options.tf32
        self.on_tensor_cores = gpu_target(ctx).has_mma and (self.dtype in HALF or rounds)
        # Powers of two, by the instruction for them; where sums are exact to the last bits, powers of e.
        self.unit = LOG2_E if self.on_tensor_cores else 1.0
        scale = self.attrs["scale"]
        added = self.mask is not None and self.mask.type.dtype is not dtypes.bool_
        # Scores may stay as the product gives them, and be scaled in the exponent.
        self.late = self.on_tensor_cores and scale > 0 and not added
        self.factor = scale * self.unit if self.late else 1.0

    def rows_of(self, value: Value) -> Rows:
        return rows_of(self.operands, value)

    def line(self, value: Value) -> Rows:
        """An operand of one number a row."""
        return rows_of(self.operands, value, is_line=True)

    def number(self, value: float) -> Const:
        return Const(value, self.total)

    def threads(self, products: Products, body: Callable[[DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
        return threads(self.names, products.threads, body)

    def slots(
        self, products: Products, emit: Callable[[DimLike, DimLike], Sequence[Stmt]]
    ) -> tuple[Stmt, ...]:
        """A thread loop: `emit(t, r)` for every row of a thread."""
        return self.threads(
            products, lambda t: unrolled(self.names, products.slots, lambda r: tuple(emit(t, r)))
        )

    def each(
        self, products: Products, columns: int, emit: Callable[[DimLike, DimLike, DimLike], Sequence[Stmt]]
    ) -> tuple[Stmt, ...]:
        """A thread loop: `emit(t, r, c)` for all that a thread has."""
        return self.threads(
            products, lambda t: each(self.names, products, columns, lambda r, c: emit(t, r, c))
        )

    # Blocks

    def grid(
        self, tiles: DimLike, by_query: bool, work: Callable[[Place, DimLike], Sequence[Stmt]]
    ) -> tuple[Stmt, ...]:
        """A block for each tile of each head: of the query, or of key and value, the blocks of a head side by side."""
        names = self.names
        *lead, heads, _, _ = self.shape
        shared = heads if self.group == 1 else heads // self.group
        axes = [Axis(names("b"), n) for n in (*lead, shared)]
        group, tile = Axis(names("g"), self.group if by_query else 1), Axis(names("tile"), tiles)

        def block(b: DimLike) -> tuple[Stmt, ...]:
            found = Unravel(names, b, [*axes, group, tile])
            *front, shared_head = (found.index[a.var] for a in axes)
            place = Place(tuple(front), shared_head * self.group + found.index[group.var], shared_head)
            return (*found.lets, *work(place, found.index[tile.var]))

        return blocks(names, dims.product(a.extent for a in (*axes, group, tile)), block)

    def walk(
        self,
        tiles: Tiles,
        count: DimLike,
        copy: Callable[[DimLike, DimLike, DimLike], Sequence[Stmt]],
        work: Callable[[DimLike, DimLike], Sequence[Stmt]],
    ) -> tuple[Stmt, ...]:
        """`work(i, stage)` for i in 0..count, behind what `copy(t, i, stage)` brings into shared memory, which with two
        stages is asked for a turn before. What was asked for before this statement is there, too."""
        names, products, stages = self.names, tiles.products, tiles.stages
        commit = self.threads(products, lambda t: [CopyCommit()])
        wait = self.threads(products, lambda t: [CopyWait(0)])

        def issue(i: DimLike) -> tuple[Stmt, ...]:
            return self.threads(products, lambda t: copy(t, i, dims.mod(i, stages)))

        def turn(i: DimLike) -> tuple[Stmt, ...]:
            if stages == 1:
                return (*issue(i), *commit, *wait, *work(i, 0))
            more: tuple[Stmt, ...] = ()
            if dims.bounds(count)[1] > 1:
                after = names("i")
                asked = issue(loop_index(after, count))
                more = (If(below(i + 1, count), (Let(after, Index(i + 1)), *asked)),)
            return (*wait, *more, *commit, *work(i, dims.mod(i, stages)))

        first: tuple[Stmt, ...] = ()
        if stages > 1:
            first = (*guarded(inside(0, count), issue(0)), *commit)
        return (*first, *serial_loop(names, count, turn, "i"))

    # Scores

    def settled(
        self, tiles: Tiles, scores: Buffer, place: Place, query: DimLike, key: DimLike, turned: bool = False
    ) -> tuple[Stmt, ...]:
        """The scores of a tile that begins at this query and key as the softmax takes them. `turned`: rows are keys."""
        products = tiles.products
        scale = self.attrs["scale"] * self.unit
        looks = self.mask is not None and self.mask.type.dtype is dtypes.bool_
        found: tuple[Stmt, ...] = ()

        def at(t: DimLike, r: DimLike, c: DimLike) -> tuple[DimLike, DimLike]:
            row, column = products.row(t, r), products.column(t, c)
            return (query + column, key + row) if turned else (query + row, key + column)

        def score(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            where = products.at(t, r, c)
            value: Expr = Load(scores, where)
            if not self.late:
                value = SCALAR.mul(value, scale)
            if self.mask is not None:
                read = self._mask_at(place, *at(t, r, c))
                if looks:
                    value = SCALAR.select(read, value, -math.inf)
                else:
                    wide = SCALAR.cast(read, self.total)
                    value = SCALAR.add(value, SCALAR.mul(wide, self.unit) if self.unit != 1.0 else wide)
            return [Store(scores, where, value)]

        if not self.late or self.mask is not None:
            found += self.each(products, tiles.columns, score)
        keys = products.rows if turned else tiles.columns
        # Whole tiles in which some score does not count.
        uniform: list[Expr] = []
        walked, end = (query, self.rows) if turned else (key, self.columns)
        ragged = inside(walked + (tiles.columns - 1), end)
        if ragged is not None:
            uniform.append(SCALAR.not_(ragged))
        if self.attrs["causal"]:
            uniform.append(index_test("gt", key + (keys - 1), query))
        if not uniform:
            return found

        def hide(t: DimLike, r: DimLike, c: DimLike) -> list[Stmt]:
            where = products.at(t, r, c)
            own_query, own_key = at(t, r, c)
            tests = []
            if ragged is not None:
                tests.append(below(own_query if turned else own_key, end))
            if self.attrs["causal"]:
                tests.append(index_test("le", own_key, own_query))
            visible = tests[0] if len(tests) == 1 else SCALAR.and_(*tests)
            return [Store(scores, where, SCALAR.select(visible, Load(scores, where), -math.inf))]

        test = uniform[0] if len(uniform) == 1 else SCALAR.or_(*uniform)
        return (*found, If(test, self.each(products, tiles.columns, hide)))

    def _mask_at(self, place: Place, query: DimLike, key: DimLike) -> Expr:
        """What lies past the end is not read."""
        assert self.mask is not None
        index = broadcast_index((*place.of_query, query, key), self.mask.type.shape)
        evaluator = BodyEvaluator(self.body, self.args, flatten=self.ctx.flat)
        read = evaluator.at(self.mask, index)
        for test in (inside(query, self.rows), inside(key, self.columns)):
            if test is not None:
                read = SCALAR.select(test, read, False if read.dtype is dtypes.bool_ else 0.0)
        return read

    def power(self, x: Expr) -> Expr:
        """Of the softmax, of what `exponent` gives."""
        return Apply("exp2_fast", (x,), x.dtype) if self.on_tensor_cores else SCALAR.exp(x)

    def exponent(self, score: Expr, less: Expr) -> Expr:
        """A settled score, less a number that is scaled already."""
        if self.factor == 1.0:
            return SCALAR.sub(score, less)
        return SCALAR.fma(score, self.number(self.factor), SCALAR.neg(less))

    # Dropout

    def drawn(self) -> tuple[Stmt, ...]:
        """The random state, read once a block."""
        if self.state is None:
            return ()
        evaluator = BodyEvaluator(self.body, self.args, flatten=self.ctx.flat)
        call = SCALAR.add(evaluator.at(self.state, (1,)), self.attrs["stream"])
        return Let("seed", evaluator.at(self.state, (0,))), Let("call", call)

    def kept(self, place: Place, query: DimLike, key: DimLike) -> Expr | None:
        """What dropout multiplies a weight with."""
        if self.state is None:
            return None
        position = linear((*place.of_query, query, key), (*self.shape[:-1], self.columns))
        state = Var("seed", dtypes.i64), Var("call", dtypes.i64)
        return kept_factor(position, *state, self.attrs["p"], self.total)

    # Results

    def store(
        self,
        products: Products,
        sums: Buffer,
        to: Buffer,
        place: IndexTuple,
        first: DimLike,
        count: DimLike,
        size: int,
        columns: int,
        factor: float | Callable[[DimLike, DimLike], Expr],
    ) -> tuple[Stmt, ...]:
        """The rows from `first` on, `count` in all, of `size` numbers each: sums times a factor, or `factor(t, r)`."""
        names = self.names

        def row(t: DimLike, r: DimLike) -> tuple[Stmt, ...]:
            own = first + products.row(t, r)
            name = names("factor")

            def element(c: DimLike) -> tuple[Stmt, ...]:
                position = products.column(t, c)
                value = SCALAR.mul(Load(sums, products.at(t, r, c)), Var(name, self.total))
                put = Store(to, (*place, own, position), SCALAR.cast(value, to.dtype))
                test = inside(position, size)
                return (put,) if test is None else (If(test, (put,)),)

            scale = factor(t, r) if callable(factor) else self.number(factor)
            body = (Let(name, scale), *unrolled(names, products.own(columns), element))
            test = inside(own, count)
            return body if test is None else (If(test, body),)

        return self.slots(products, row)


def index_test(op: str, left: DimLike, right: DimLike) -> Expr:
    return Apply(op, (Index(left), Index(right)), dtypes.bool_)
