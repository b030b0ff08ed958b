"""Attention without the matrix of weights: blocks of queries against blocks of keys.

Scores are computed turned over, a vector along the queries, from a block of queries that was turned once:

    turned[e, m] = scale query[m, e]
    scores[n, m] = key[n, :] turned[:, m]          keys broadcast from where they lie, no horizontal sums
    a block's largest score and sum of powers, for each m     vertical operations only
    out[m, f] = out[m, f] shrunk[m] + weights[n, m] value[n, f]     values read as vectors, as they lie

so that keys and values are not copied (but for short numbers, `attention_operands.py`), and neither is the result turned
back (but for tile registers, `attention_results.py`). The running maximum and sum of a row,
and its result so far, stay on the stack (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax",
2018; T. Dao et al., "FlashAttention", 2022). A task is a block of queries of one head, and adds up in the order of the
keys: the bits do not depend on the number of threads.

Here is what forward (`attention_forward.py`) and backward (`attention_backward.py`) share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ...ir.half_precision import HALF
from ...ir.ops.attention import extras, group_size
from ..loops.nodes import Buffer, Const, Expr, For, Index, Let, Load, Stmt, Store, Var
from ..packed import rounded_pair
from ..scalar import SCALAR
from ..target import MANY_REGISTERS
from .attention_blocks import ranked_blocks
from .attention_operands import AttentionOperands
from .context import Args, LowerContext, Names
from .contraction import Access, Axis, Contraction
from .contraction_amx import TILE, TileMemory
from .contraction_nest import contraction_loops
from .contraction_tile import Bindings, loop_var
from .elementwise import Nest, launch_nests
from .indexing import BodyEvaluator, IndexTuple, broadcast_index
from .nests import parallel_loop, serial_loop, vector_block, vector_loop
from .random import kept_factor
from .spaces import linear
from .template import Axis as LoopAxis
from .template import Element, make_axes
from .tiling import Plan
from .transpose import turned_tile

# Rows and columns of tiles that are summed together.
TILES = (2, 2)


@dataclass(frozen=True)
class Place:
    """Where a task (on a GPU, a block) is: in the leading dims, the head of the query, that of key and value."""

    lead: IndexTuple
    head: DimLike
    shared_head: DimLike

    @property
    def of_query(self) -> IndexTuple:
        return (*self.lead, self.head)

    @property
    def of_key(self) -> IndexTuple:
        return (*self.lead, self.shared_head)


class Attention:
    """The operands of one op, and statements over them. `q`, `k`, `v` are the values, `rows` and `columns` the numbers
    of queries and keys; `block` is the number of queries in a block; `summed` are the operands whose rows are multiplied
    with rows; `tiled` are sizes of blocks for tile registers."""

    def __init__(
        self,
        ctx: LowerContext,
        body: Graph,
        args: Args,
        node: Node,
        q: Value,
        k: Value,
        v: Value,
        rest: Sequence[Value],
        summed: Sequence[Value],
        tiled: Sequence[tuple[int, int]],
    ):
        self.ctx, self.body, self.args = ctx, body, args
        self.names = Names()
        self.attrs = node.attrs
        self.q, self.k, self.v = q, k, v
        found = extras(rest, lambda value: value.type)
        self.mask: Value | None = found.mask
        self.state: Value | None = found.state
        self.dtype: DType = dtypes.f32 if q.type.dtype in HALF else q.type.dtype
        self.lanes = ctx.target.lanes(self.dtype)
        self.rows, self.columns = q.type.shape[-2], k.type.shape[-2]
        self.group = group_size(q.type.shape, k.type.shape)
        self.operands = AttentionOperands(ctx, body, args, self.dtype)
        # The operation that multiplies words of two numbers, if that is how products are made; numbers in a word.
        self.dot = self.operands.choose((q, k, v), summed)
        self.pair = 2 if self.dot else 1
        tiles = self.operands.form == "tiles"
        work = dims.product(q.type.shape[:-1]) * self.columns * (q.type.shape[-1] + v.type.shape[-1])
        vectors, self.keys = ctx.choose(
            node.op.name,
            lambda count: ranked_blocks(
                self.rows, self.columns, self.lanes, ctx.target.registers, work, count, tiled if tiles else ()
            ),
        )
        self.block = self.lanes * vectors
        # Where products are made in tile registers.
        self.memory: TileMemory | None = None
        if tiles:
            self.memory = TileMemory.of(self.names, self.dtype, *TILES)
            self.operands.room = self.block
        self.turned_mask = self._turn_mask()

    @property
    def blocks(self) -> DimLike:
        """Of queries."""
        return dims.floordiv(self.rows + (self.block - 1), self.block)

    # Tasks

    def tasks(self, by_block: bool, work: Callable[[Place, DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
        """A task for each block of queries of each head; or for each head of key and value, `work` told the
        heads in turn by a loop of its own. Of symbolic numbers of tasks one is shared among threads."""
        *lead, heads, _, _ = self.q.type.shape
        shared = heads if self.group == 1 else heads // self.group
        axes = [LoopAxis(self.names("b"), n) for n in (*lead, shared)]
        if by_block:
            axes += [LoopAxis(self.names("g"), self.group), LoopAxis(self.names("t"), self.blocks)]
        axes_at = [a for a in axes if a.extent != 1]
        symbolic = [a for a in axes_at if not isinstance(a.extent, int)]
        inner = symbolic[1:]
        outer = sorted((a for a in axes_at if a not in inner), key=lambda a: isinstance(a.extent, int))

        def at(bindings: dict[str, DimLike]) -> tuple[Stmt, ...]:
            where = [bindings.get(a.var, 0) for a in axes]
            *front, shared_head = where[: len(lead) + 1]
            group, block = where[len(lead) + 1 :] if by_block else (0, 0)
            return tuple(work(Place(tuple(front), shared_head * self.group + group, shared_head), block))

        def with_inner(bindings: dict[str, DimLike]) -> tuple[Stmt, ...]:
            return self._nested(inner, bindings, at)

        return parallel_loop(self.names, outer, with_inner) if outer else with_inner({})

    def _nested(
        self,
        axes: Sequence[LoopAxis],
        bindings: dict[str, DimLike],
        at: Callable[[dict[str, DimLike]], tuple[Stmt, ...]],
    ) -> tuple[Stmt, ...]:
        if not axes:
            return at(bindings)
        first, *rest = axes
        return serial_loop(
            self.names, first.extent, lambda i: self._nested(rest, {**bindings, first.var: i}, at), "s"
        )

    # Operands

    def word_block(self) -> Buffer:
        """A word of two keys' numbers, for each query of a block."""
        return Buffer(self.names("words"), dtypes.u32, (self.keys // 2, self.block), "stack")

    def words(self, count: DimLike) -> DimLike:
        """In how many words so many numbers are; the last one may hold a zero."""
        return dims.floordiv(count + (self.pair - 1), self.pair)

    def in_words(self, start: DimLike) -> DimLike:
        """The word that begins with the number."""
        return dims.floordiv(start, self.pair)

    def read_rows(self, value: Value) -> Callable[[IndexTuple, DimLike], Expr]:
        """One number for each query."""
        evaluator = BodyEvaluator(self.body, self.args, flatten=self.ctx.flat)

        def at(place: IndexTuple, row: DimLike) -> Expr:
            return evaluator.at(value, broadcast_index((*place, row), value.type.shape))

        return at

    def cleared(
        self, buffer: Buffer, rows: DimLike, size: DimLike, lead: IndexTuple = ()
    ) -> tuple[Stmt, ...]:
        """Zeros in so many rows of `buffer`, at a place in its leading dims."""
        zero = self.number(0.0)
        return serial_loop(
            self.names, rows, lambda n: self.along(size, lambda i: [Store(buffer, (*lead, n, i), zero)]), "z"
        )

    def stack(self, stem: str, *shape: int) -> Buffer:
        return Buffer(self.names(stem), self.dtype, shape, "stack")

    def registers(self, stem: str, *shape: int) -> Buffer:
        return Buffer(self.names(stem), self.dtype, shape, "register")

    def number(self, value: float) -> Const:
        return Const(value, self.dtype)

    def key_count(self, start: DimLike) -> DimLike:
        """How many keys the queries from `start` on look at."""
        if not self.attrs["causal"]:
            return self.columns
        return dims.minimum(self.columns, start + self.block)

    def key_blocks(
        self, start: DimLike, block: Callable[[DimLike, DimLike], Sequence[Stmt]]
    ) -> tuple[Stmt, ...]:
        """`block(first key, how many)` over the keys that the queries from `start` on look at; whole blocks, some keys
        of which may be hidden, then those left."""
        size = self.keys
        whole, left = dims.floordiv(self.columns, size), dims.mod(self.columns, size)
        looked = dims.floordiv(self.key_count(start) + (size - 1), size)
        here = dims.minimum(whole, looked)
        found = serial_loop(self.names, here, lambda i: block(i * size, size), "kb") if whole != 0 else ()
        if left != 0:
            last = dims.minimum(1, looked - here) if whole != 0 else dims.minimum(1, looked)
            found += serial_loop(self.names, last, lambda i: block((whole + i) * size, left), "ke")
        return found

    def _turn_mask(self) -> Buffer | None:
        """A mask that differs among queries, copied so that queries lie next to each other, with room for whole
        blocks."""
        if self.mask is None or self.mask.type.rank < 2 or self.mask.type.shape[-2] == 1:
            return None
        *lead, rows, columns = self.mask.type.shape
        room = self.blocks * self.block
        target = self.ctx.scratch("mask", self.mask.type.dtype, (*lead, columns, room))
        names = Names()
        axes = make_axes(names, (*lead, columns, rows))
        *front, column, row = (a.index for a in axes)
        value = BodyEvaluator(self.body, self.args, flatten=self.ctx.flat).at(
            self.mask, (*front, row, column)
        )
        element = Element(self.ctx.flat(target), linear((*front, column, row), (*lead, columns, room)), value)
        launch_nests(self.ctx, "turn_mask", [Nest(names, axes, [element])])
        return target

    # Products

    def product(
        self,
        row: Axis,
        lane: Axis,
        summed: Axis,
        left: Access,
        right: Access,
        finish: Callable[[Bindings, Expr], Sequence[Stmt]],
    ) -> tuple[Stmt, ...]:
        """`finish` for the sums of left times right, in register tiles of `row` by vectors along `lane`."""
        problem = Contraction(
            "product",
            (row, lane),
            (summed,),
            left,
            right,
            (row.var, lane.var),
            (row.extent, lane.extent),
            self.dtype,
            dot=self.dot,
        )
        order = (lane.name, row.name)
        if self.memory is not None:
            rows, columns = TILES
            sizes = {row.name: rows * TILE}
            plan = Plan(lane.name, self.lanes, columns, sizes, order, rows=row.name, padded=True)
            return contraction_loops(problem, plan, finish, self.names, memory=self.memory)
        vectors, tile = self._tile(-(-dims.bounds(lane.extent)[1] // self.lanes))
        plan = Plan(lane.name, self.lanes, vectors, {row.name: tile}, order, unroll={summed.name: 4})
        return contraction_loops(problem, plan, finish, self.names)

    def _tile(self, vectors: int) -> tuple[int, int]:
        """Vectors in a register tile where there are so many, and rows: as many sums as leave registers for factors."""
        if self.ctx.target.registers >= MANY_REGISTERS:
            return min(2, vectors), 8
        if vectors % 3 == 0:
            return 3, 4
        return (2, 6) if vectors > 1 else (1, 8)

    def axis(self, stem: str, extent: DimLike) -> Axis:
        return Axis(self.names(stem), extent)

    def turned(self, source: Callable[[DimLike, DimLike], Access], size: int, start: DimLike) -> Turned:
        """A block of rows of `source(row, position)`, from `start` on, turned, in words where products are of words.
        What lies past the last row is computed with, and stored nowhere: it is the last row once more."""
        lanes, names = self.lanes, self.names
        count = size // self.pair
        steps = -(-count // lanes)
        dtype = dtypes.u32 if self.dot else self.dtype
        target, spare = (
            Buffer(names(stem), dtype, (length,), "stack")
            for stem, length in (
                ("turned", self.block // lanes * steps * lanes * lanes),
                ("spare", lanes * lanes),
            )
        )

        def tile(vector: DimLike, step: DimLike) -> tuple[Stmt, ...]:
            def element(row: DimLike, lane: DimLike) -> Expr:
                position = step * lanes + lane
                where = dims.minimum(start + vector * lanes + row, self.rows - 1)
                loaded = SCALAR.cast(source(where, position).at({}), dtype)
                if steps * lanes != count:
                    inside = SCALAR.lt(Index(position), Index(count))
                    loaded = SCALAR.select(inside, loaded, Const(0, dtype))
                return loaded

            place = (vector * steps + step) * (lanes * lanes)
            return turned_tile(names, element, lanes, target, place, spare)

        body = serial_loop(
            names,
            self.block // lanes,
            lambda v: serial_loop(names, steps, lambda s: tile(v, s), "ts"),
            "tv",
        )
        return Turned(target, steps * lanes, lanes, body)

    def paired(self, source: Buffer, target: Buffer, count: DimLike) -> tuple[Stmt, ...]:
        """target[n, m] = the word of source[2 n, m] and source[2 n + 1, m], over the first `count` rows of a block."""

        def word(n: DimLike, last: bool) -> tuple[Stmt, ...]:
            def emit(v: DimLike, l: DimLike) -> list[Stmt]:
                m = v * self.lanes + l
                second = self.number(0.0) if last else Load(source, (n * 2 + 1, m))
                return [Store(target, (n, m), rounded_pair(Load(source, (n * 2, m)), second))]

            return self.each_vector(emit)

        whole = dims.floordiv(count, 2)
        found = serial_loop(self.names, whole, lambda n: word(n, False), "w")
        return found + serial_loop(self.names, dims.mod(count, 2), lambda _: word(whole, True), "w")

    # Scores

    def scored(self, place: Place, start: DimLike, key: DimLike, m: DimLike, value: Expr) -> Expr:
        """A score as the softmax takes it: -inf where query `start + m` may not look at the key."""
        hidden = self.number(-math.inf)
        score = SCALAR.mul(value, self.number(self.attrs["scale"]))
        if self.mask is not None:
            read = self._mask_at(place, start + m, key)
            if read.dtype is dtypes.bool_:
                score = SCALAR.select(read, score, hidden)
            else:
                score = SCALAR.add(score, SCALAR.cast(read, self.dtype))
        if self.attrs["causal"]:
            score = SCALAR.select(SCALAR.le(Index(key), Index(start + m)), score, hidden)
        return score

    def _mask_at(self, place: Place, row: DimLike, column: DimLike) -> Expr:
        assert self.mask is not None
        shape = self.mask.type.shape
        if self.turned_mask is not None:
            shape = self.turned_mask.shape
            return Load(self.turned_mask, broadcast_index((*place.of_query, column, row), shape))
        index = broadcast_index((*place.of_query, row, column), shape)
        return BodyEvaluator(self.body, self.args, flatten=self.ctx.flat).at(self.mask, index)

    # Dropout

    def drawn(self) -> tuple[Stmt, ...]:
        """The random state, read once."""
        if self.state is None:
            return ()
        evaluator = BodyEvaluator(self.body, self.args, flatten=self.ctx.flat)
        call = SCALAR.add(evaluator.at(self.state, (1,)), self.attrs["stream"])
        return Let("seed", evaluator.at(self.state, (0,))), Let("call", call)

    def kept(self, place: Place, row: DimLike, column: DimLike) -> Expr | None:
        """What dropout multiplies a weight with."""
        if self.state is None:
            return None
        position = linear((*place.of_query, row, column), (*self.q.type.shape[:-1], self.columns))
        return kept_factor(
            position, Var("seed", dtypes.i64), Var("call", dtypes.i64), self.attrs["p"], self.dtype
        )

    # Statements over a block of queries

    def each_vector(self, emit: Callable[[DimLike, DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
        """`emit(vector, lane)` over the block's queries."""
        count = self.block // self.lanes
        if count == 1:
            return vector_block(self.names, self.lanes, self.lanes, lambda lane: emit(0, lane))
        var = self.names("v")
        vector = loop_var(var, count)
        body = vector_block(self.names, self.lanes, self.lanes, lambda lane: emit(vector, lane))
        return (For(var, count, body, "unroll"),)

    def valid(self, start: DimLike) -> DimLike:
        """How many queries the block has."""
        if dims.mod(self.rows, self.block) == 0:
            return self.block
        return dims.minimum(self.block, self.rows - start)

    def along(self, extent: DimLike, emit: Callable[[DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
        """`emit(position)` in vectors."""
        return vector_loop(self.names, extent, self.lanes, lambda i, lane, copy: emit(i))


@dataclass(frozen=True)
class Turned:
    """A turned block: `body` makes it."""

    buffer: Buffer
    size: int
    lanes: int
    body: tuple[Stmt, ...]

    def at(self, position: DimLike, m: DimLike) -> Access:
        vector, lane = dims.floordiv(m, self.lanes), dims.mod(m, self.lanes)
        return Access(self.buffer, ((vector * self.size + position) * self.lanes + lane,))


def static_size(size: DimLike) -> int:
    """The length of a row; ValueError where it is a symbol."""
    if not isinstance(size, int):
        raise ValueError(f"attention: rows of symbolic size {size} have no kernel")
    return size
