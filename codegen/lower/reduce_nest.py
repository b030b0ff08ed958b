"""Loops for rows that are reduced in stages.

Two forms. Where a reduced axis is the contiguous one, vectors run along the row and are folded at its end
by a fixed tree. Where a kept axis is contiguous (a sum over the batch), vectors hold neighbouring rows and
nothing needs folding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Buffer, Expr, For, LaneReduce, Let, Load, Prefetch, Stmt, Store
from ..scalar import SCALAR
from ..target import LINE, GpuTarget, Target
from .context import LowerContext, Names
from .falling import with_powers_below
from .nest_loops import interleaved, lanes_along
from .nests import axis_loops, parallel_loop, serial_loop, vector_block, vector_loop
from .rows import Reduction, Rows, Stage, collapsed, identity, rows_cost, with_settled, with_stashes
from .template import (
    Axis,
    Element,
    bind_shared,
    index_values,
    instantiate,
    operations,
    store_all,
    stride,
    walk,
)

# Independent accumulators: an add takes about four cycles and two can start in each.
ACCUMULATORS = 4
# Rows are worth a parallel iteration each from this much work on.
ROW_BLOCK = 4096
# Rows as long as this come from beyond the second-level cache: each accumulator reads a part of its own, since
# processors fetch four streams ahead better than one. Not where several arrays are read (a sum of products took 1.14 of
# its time).
LONG = 1 << 16


# Operations on an element, from which on a pass prefetches for those that follow, and what it then has in the caches:
# the row, what is kept of it, where it goes, the next one.
FETCH_COST = 12
ROWS_AT_ONCE = 4

# Vectors that registers hold are short pieces of the rows of a large array, which several passes fetch from beyond the
# second-level cache each time. There, sums are kept in memory and rows are read along, so many of all arrays at a time:
# on Zen 3 a batch norm's step of 4096x256 took 0.43 of its time, sums of 8192 rows of 768 numbers 0.65; on Granite
# Rapids 0.72 and 0.76. Registers hold more in vectors of 64 bytes: enough for a core that begins one of them in a cycle.
SWEPT_STREAMS = 8
# Columns whose sums are kept: at most, so that the first-level cache has them, and at least (vectors) in a block.
SWEPT_NUMBERS = 1024
SWEPT_VECTORS = 8

Step = Callable[..., tuple[Stmt, ...]]
# Where a column's result is kept, from its position, the lane and the copy; and statements from the same.
_Held = Callable[[DimLike, DimLike, DimLike], Expr]
_Lanes = Callable[[DimLike, DimLike, DimLike], Sequence[Stmt]]


def lower_rows(ctx: LowerContext, names: Names, rows: Rows) -> tuple[tuple[Stmt, ...], DimLike]:
    """Statements, and the cost of one iteration of their parallel loop (if they have one)."""
    rows = with_powers_below(ctx.target, collapsed(rows))
    total = rows_cost(rows)
    axis = vector_axis(rows)
    serial = dims.bounds(total)[1] <= ctx.options.serial_below
    if axis is None or axis in rows.reduced:
        form: _RowForm | _ColumnForm = _RowForm(ctx, names, with_stashes(ctx, names, rows), axis)
        outer = rows.kept
    else:
        form = _ColumnForm(ctx, names, with_settled(names, rows), axis)
        outer = [a for a in rows.kept if a is not axis]
    if not serial and not outer and isinstance(form, _ColumnForm) and form.is_static:
        return form.blocks(total)
    if serial or not outer:
        return axis_loops(names, outer, {}, form.emit), total
    shared, rest = [outer[0]], list(outer[1:])
    inner = dims.product(a.extent for a in rows.reduced)
    while rest and isinstance(rest[0].extent, int):
        if dims.bounds(dims.product(a.extent for a in rest) * inner)[1] <= ROW_BLOCK:
            break
        shared.append(rest.pop(0))
    body = parallel_loop(names, shared, lambda bound: axis_loops(names, rest, bound, form.emit))
    return body, rows_cost(replace(rows, kept=[a for a in rows.kept if a not in shared]))


def chunk_of_rows(
    ctx: LowerContext, names: Names, rows: Rows, outer: Sequence[Axis], bound: dict[str, DimLike]
) -> tuple[Stmt, ...]:
    """The rows at all points of the `outer` axes, one after the other, vectors along each; `bound` are the other
    kept ones."""
    axis = vector_axis(rows, rows.reduced)
    form = _RowForm(ctx, names, with_stashes(ctx, names, rows), axis)
    return axis_loops(names, outer, bound, form.emit)


def vector_axis(rows: Rows, axes: Sequence[Axis] | None = None) -> Axis | None:
    """The axis, of these or of all, along which most accesses are contiguous or constant; None where there is no axis
    at all."""
    axes = [*rows.kept, *rows.reduced] if axes is None else axes
    values = [v for p in rows.pass_values() for v in p]
    indices = index_values(values)

    def score(axis: Axis) -> tuple[int, int]:
        contiguous = sum(stride(i, axis) == 1 for i in indices) + sum(
            stride(e.offset, axis) == 1 for e in rows.along
        )
        constant = sum(stride(i, axis) == 0 for i in indices)
        return 2 * contiguous + constant, min(dims.bounds(axis.extent)[1], 64)

    return max(axes, key=score, default=None)


def rows_swept(target: Target | GpuTarget, rows: Rows) -> int:
    """How many rows to read along at a time where vectors run across rows; 1 where registers keep the sums."""
    if not isinstance(target, Target) or not rows.reduced:
        return 1
    if target.isa == "avx512" and target.multiply_adds == 1:
        return 1
    arrays = {
        e.buffer: e.dtype.itemsize
        for e in walk([v for p in rows.pass_values() for v in p])
        if isinstance(e, Load) and e.buffer.space == "global" and _varies_along(e, rows.reduced)
    }
    points = dims.bounds(dims.product(a.extent for a in [*rows.kept, *rows.reduced]))[1]
    if points * sum(arrays.values()) <= target.l2:
        return 1
    at_once = max(2, SWEPT_STREAMS // len(arrays))
    return at_once if dims.bounds(rows.reduced[-1].extent)[1] >= 2 * at_once else 1


def _varies_along(load: Load, axes: Sequence[Axis]) -> bool:
    return any(stride(i, axis) != 0 for i in load.index for axis in axes)


def tree(combine: str, values: Sequence[Expr]) -> Expr:
    """A balanced combination, always in the same shape."""
    values = list(values)
    while len(values) > 1:
        half = (len(values) + 1) // 2
        pairs = [SCALAR._apply(combine, a, b) for a, b in zip(values[:half], values[half:])]
        values = pairs + values[len(pairs) : half]
    return values[0]


class _Form:
    """What both forms share: passes over the reduced axes that store to stashes, and lane counts."""

    def __init__(self, ctx: LowerContext, names: Names, rows: Rows, axis: Axis | None):
        self.ctx = ctx
        self.names = names
        self.rows = rows
        self.axis = axis
        values = [v for p in rows.pass_values() for v in p]
        results = [r.dtype for s in rows.stages for r in s.reductions]
        self.lanes = lanes_along(ctx, axis, values, results) if axis is not None else 1
        self.vector = self.lanes
        loads = (e.buffer for e in walk(values) if isinstance(e, Load))
        self.reads_one = len({buffer for buffer in loads if buffer.space == "global"}) == 1

    def register(self, reduction: Reduction, copies: int) -> Buffer:
        return Buffer(self.names(f"acc_{reduction.name}"), reduction.dtype, (copies, self.lanes), "register")

    def settled_register(self, name: str, dtype: DType, copies: int) -> Buffer:
        return Buffer(self.names(f"row_{name}"), dtype, (copies, self.lanes), "register")


class _RowForm(_Form):
    """Vectors along a reduced axis."""

    def __init__(self, ctx: LowerContext, names: Names, rows: Rows, axis: Axis | None):
        super().__init__(ctx, names, rows, axis)
        costly = max((operations(values) for values in rows.pass_values()), default=0)
        if axis is not None:
            self.lanes *= interleaved(ctx, axis.extent, self.lanes, costly)

    def emit(self, bound: dict[str, DimLike]) -> tuple[Stmt, ...]:
        statements: tuple[Stmt, ...] = ()
        for number, stage in enumerate(self.rows.stages):
            statements += self._stage(stage, self.rows.stashes[number], bound)
        if self.rows.along:
            last = self.rows.stashes[len(self.rows.stages)]
            statements += self._along(last, bound)
        memo: dict[int, Expr] = {}
        once = [e.at(bound, memo).store() for e in self.rows.once]
        return statements + bind_shared(once, self.names)

    def _pass(
        self,
        bound: dict[str, DimLike],
        copies: int,
        body: Callable[[dict[str, DimLike], DimLike, DimLike], Sequence[Stmt]],
        beside: Callable[[dict[str, DimLike]], tuple[Stmt, ...]] | None = None,
    ) -> tuple[Stmt, ...]:
        """`body(bindings, lane, copy)` at every point of the reduced axes, `beside(bindings)` before each vector."""
        axis = self.axis
        assert axis is not None
        others = [a for a in self.rows.reduced if a is not axis]

        def vectors(outer: dict[str, DimLike]) -> tuple[Stmt, ...]:
            extent = dims.substitute(axis.extent, bound)
            return vector_loop(
                self.names,
                extent,
                self.lanes,
                lambda position, lane, copy: body({**outer, axis.var: position}, lane, copy),
                copies,
                apart=self.reads_one and dims.bounds(extent)[0] >= LONG,
                beside=None if beside is None else lambda position: beside({**outer, axis.var: position}),
            )

        return axis_loops(self.names, others, bound, vectors)

    def _stage(
        self, stage: Stage, stash: Sequence[tuple[Buffer, Expr]], bound: dict[str, DimLike]
    ) -> tuple[Stmt, ...]:
        if self.axis is None:
            # Nothing to reduce, and nothing to walk along: the results are the values.
            memo: dict[int, Expr] = {}
            return tuple(Let(r.name, instantiate(r.value, bound, memo)) for r in stage.reductions)
        longest = dims.bounds(self.axis.extent)[1]
        copies = max(1, ACCUMULATORS * self.vector // self.lanes)
        copies = copies if longest >= copies * self.lanes else 1
        registers = {r.name: self.register(r, copies) for r in stage.reductions}

        def start(lane: DimLike) -> list[Stmt]:
            return [
                Store(registers[r.name], (u, lane), identity(r.combine, r.dtype))
                for r in stage.reductions
                for u in range(copies)
            ]

        def step(bindings: dict[str, DimLike], lane: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
            memo: dict[int, Expr] = {}
            stores: list[Stmt] = [
                Store(b, (self._position(bindings),), instantiate(e, bindings, memo)) for b, e in stash
            ]
            for r in stage.reductions:
                where = (copy, lane)
                acc = registers[r.name]
                value = SCALAR._apply(r.combine, Load(acc, where), instantiate(r.value, bindings, memo))
                stores.append(Store(acc, where, value))
            return bind_shared(stores, self.names)

        statements = vector_block(self.names, self.lanes, self.lanes, start)
        ahead = stage is self.rows.stages[-1] and self._worth_fetching(stage)
        statements += self._pass(bound, copies, step, self._fetched if ahead else None)
        for r in stage.reductions:
            var = self.names("l")
            lane = dims.symbol(var, 0, self.lanes - 1)
            loads = [Load(registers[r.name], (u, lane)) for u in range(copies)]
            folded = LaneReduce(r.combine, var, self.lanes, tree(r.combine, loads))
            statements += (Let(r.name, folded),)
        return statements

    def _worth_fetching(self, stage: Stage) -> bool:
        """Whether the pass computes for so long that memory can meanwhile bring what the next ones wait for: rows that
        come from beyond the second-level cache, and are short enough for two of them to stay in it."""
        rows, target = self.rows, self.ctx.target
        if not isinstance(target, Target) or not rows.along or not rows.kept:
            return False
        if operations([r.value for r in stage.reductions]) < FETCH_COST:
            return False
        row = self._row_bytes()
        count = dims.bounds(dims.product(a.extent for a in rows.kept))[1]
        return row * ROWS_AT_ONCE <= target.l2 < row * count

    def _fetched(self, bindings: dict[str, DimLike]) -> tuple[Stmt, ...]:
        """Prefetches where the row's elements will be stored, and what the first pass over the next row will read."""
        axis, kept, target = self.axis, self.rows.kept[-1], self.ctx.target
        assert axis is not None and isinstance(target, Target)
        places: list[Load] = []
        for line in range(
            0, self.lanes, max(1, min(self.lanes, LINE // self.rows.along[0].value.dtype.itemsize))
        ):
            here = bindings | {axis.var: bindings[axis.var] + line}
            following = here | {kept.var: bindings.get(kept.var, kept.index) + 1}
            places += [Load(e.buffer, (dims.substitute(e.offset, here),)) for e in self.rows.along]
            for expr in walk([r.value for r in self.rows.stages[0].reductions]):
                if isinstance(expr, Load) and expr.buffer.space == "global":
                    index = tuple(dims.substitute(i, following) for i in expr.index)
                    if stride(expr.buffer.offset(expr.index), axis) == 1 and index != expr.index:
                        places.append(Load(expr.buffer, index))
        level = 1 if self._row_bytes() * ROWS_AT_ONCE <= target.l1 else 2
        return tuple(Prefetch(place, level) for place in places)

    def _row_bytes(self) -> int:
        itemsize = self.rows.along[0].value.dtype.itemsize
        return dims.bounds(dims.product(a.extent for a in self.rows.reduced))[1] * itemsize

    def _along(self, stash: Sequence[tuple[Buffer, Expr]], bound: dict[str, DimLike]) -> tuple[Stmt, ...]:
        def step(bindings: dict[str, DimLike], lane: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
            memo: dict[int, Expr] = {}
            return bind_shared([e.at(bindings, memo).store() for e in self.rows.along], self.names)

        if self.axis is None:
            return step(bound, 0, 0)
        return self._pass(bound, 1, step)

    def _position(self, bindings: Mapping[str, DimLike]) -> DimLike:
        """Where along the row: the stash's index."""
        position: DimLike = 0
        for axis in self.rows.reduced:
            position = position * axis.extent + bindings[axis.var]
        return position


class _ColumnForm(_Form):
    """Vectors across rows, along a kept axis."""

    def __init__(self, ctx: LowerContext, names: Names, rows: Rows, axis: Axis | None):
        super().__init__(ctx, names, rows, axis)
        self._swept = rows_swept(ctx.target, rows)

    @property
    def is_static(self) -> bool:
        return self.axis is not None and isinstance(self.axis.extent, int)

    def emit(self, bound: dict[str, DimLike]) -> tuple[Stmt, ...]:
        """All blocks along the axis: groups of several vectors, single ones, and a masked one."""
        axis = self.axis
        assert axis is not None
        if self._swept > 1:
            return self._pieces(axis.extent, lambda start, count: self._sweep(bound, start, count))
        group = ACCUMULATORS * self.lanes
        groups = dims.floordiv(axis.extent, group) if dims.bounds(axis.extent)[1] >= group else 0
        statements = serial_loop(
            self.names, groups, lambda g: self._block(bound, g * group, [self.lanes] * ACCUMULATORS)
        )
        start = groups * group
        rest = axis.extent - start if groups == 0 else dims.mod(axis.extent, group)
        whole = dims.floordiv(rest, self.lanes)
        statements += serial_loop(
            self.names, whole, lambda v: self._block(bound, start + v * self.lanes, [self.lanes])
        )
        tail = dims.mod(rest, self.lanes)
        if tail != 0:
            statements += self._block(bound, start + whole * self.lanes, [tail])
        return statements

    def blocks(self, total: DimLike) -> tuple[tuple[Stmt, ...], DimLike]:
        """A parallel loop over blocks of vectors along the axis, which is the only kept one."""
        axis = self.axis
        assert axis is not None and isinstance(axis.extent, int)
        vectors = -(-axis.extent // self.lanes)
        per_block = min(self._block_vectors(vectors), vectors)
        count = -(-vectors // per_block)
        var = self.names("p")
        start = dims.symbol(var, 0, count - 1) * (per_block * self.lanes)
        cost = dims.floordiv(total, count) if isinstance(total, int) else total
        if self._swept > 1:
            width = per_block * self.lanes
            left = dims.minimum(width, axis.extent - start) if axis.extent % width else width
            return (For(var, count, self._sweep({}, start, left), "parallel"),), cost
        counts: list[DimLike] = []
        for u in range(per_block):
            first = dims.minimum(start + u * self.lanes, axis.extent)
            counts.append(dims.minimum(axis.extent - first, self.lanes))
        return (For(var, count, self._block({}, start, counts), "parallel"),), cost

    def _block_vectors(self, vectors: int) -> int:
        """Vectors in a block. A plain sum takes half the registers, so that it reads long pieces of each row, but leaves
        four blocks to share."""
        rows = self.rows
        if self._swept > 1:
            return max(SWEPT_VECTORS, min(SWEPT_NUMBERS // self.lanes, vectors // 4))
        if len(rows.stages) > 1 or rows.along:
            return ACCUMULATORS
        held = self.ctx.target.registers // (2 * max(1, len(rows.stages[0].reductions)))
        return max(ACCUMULATORS, min(held, vectors // 4))

    def _pieces(
        self, total: DimLike, piece: Callable[[DimLike, DimLike], tuple[Stmt, ...]]
    ) -> tuple[Stmt, ...]:
        """`piece(start, count)` for all of the axis, in pieces whose sums the first cache holds."""
        if dims.bounds(total)[1] <= SWEPT_NUMBERS:
            return piece(0, total)
        whole = dims.floordiv(total, SWEPT_NUMBERS)
        statements = serial_loop(self.names, whole, lambda g: piece(g * SWEPT_NUMBERS, SWEPT_NUMBERS))
        rest = dims.mod(total, SWEPT_NUMBERS)
        return statements if rest == 0 else statements + piece(whole * SWEPT_NUMBERS, rest)

    def _sweep(self, bound: dict[str, DimLike], start: DimLike, count: DimLike) -> tuple[Stmt, ...]:
        """Columns `start ..`, as many as `count`, with the sums in memory: `_swept` rows at a time are read along."""
        capacity = dims.bounds(count)[1]

        def held(name: str, dtype: DType) -> _Held:
            buffer = Buffer(self.names(name), dtype, (capacity,), "stack")
            return lambda position, lane, copy: Load(buffer, (position - start,))

        def vectors(body: _Lanes) -> tuple[Stmt, ...]:
            return vector_loop(
                self.names, count, self.lanes, lambda at, lane, copy: body(start + at, lane, copy)
            )

        return self._reduced(bound, held, vectors, self._swept)

    def _block(
        self, bound: dict[str, DimLike], start: DimLike, counts: Sequence[DimLike]
    ) -> tuple[Stmt, ...]:
        """Columns `start ..`, with the sums in registers: as many vectors as there are counts, each masked to its."""

        def held(name: str, dtype: DType) -> _Held:
            buffer = Buffer(self.names(name), dtype, (len(counts), self.lanes), "register")
            return lambda position, lane, copy: Load(buffer, (copy, lane))

        def vectors(body: _Lanes) -> tuple[Stmt, ...]:
            return tuple(
                s
                for u, count in enumerate(counts)
                for s in vector_block(
                    self.names,
                    count,
                    self.lanes,
                    lambda lane, u=u: body(start + u * self.lanes + lane, lane, u),  # type: ignore[misc]
                )
            )

        return self._reduced(bound, held, vectors, 1)

    def _reduced(
        self,
        bound: dict[str, DimLike],
        hold: Callable[[str, DType], _Held],
        vectors: Callable[[_Lanes], tuple[Stmt, ...]],
        rows_at_once: int,
    ) -> tuple[Stmt, ...]:
        """The stages and elements for the columns that `vectors` walks, whose results are `held`."""
        axis, rows = self.axis, self.rows
        assert axis is not None
        held = {r.name: hold(f"acc_{r.name}", r.dtype) for s in rows.stages for r in s.reductions}
        for settled in rows.settled:
            for name, expr in settled:
                held[name] = hold(f"row_{name}", expr.dtype)

        def results(position: DimLike, lane: DimLike, copy: DimLike) -> dict[str, Expr]:
            return {name: place(position, lane, copy) for name, place in held.items()}

        def stored(place: Expr, value: Expr) -> Store:
            assert isinstance(place, Load)
            return Store(place.buffer, place.index, value)

        statements: tuple[Stmt, ...] = ()
        for number, stage in enumerate(rows.stages):

            def begin(position: DimLike, lane: DimLike, copy: DimLike, stage: Stage = stage) -> list[Stmt]:
                return [
                    stored(held[r.name](position, lane, copy), identity(r.combine, r.dtype))
                    for r in stage.reductions
                ]

            def step(
                outers: Sequence[dict[str, DimLike]],
                position: DimLike,
                lane: DimLike,
                copy: DimLike,
                stage: Stage = stage,
            ) -> tuple[Stmt, ...]:
                known = results(position, lane, copy)
                found = {r.name: known[r.name] for r in stage.reductions}
                for outer in outers:
                    bindings = {**outer, axis.var: position}
                    memo: dict[int, Expr] = {}
                    for r in stage.reductions:
                        value = instantiate(r.value, bindings, memo, known)
                        found[r.name] = SCALAR._apply(r.combine, found[r.name], value)
                return bind_shared([stored(known[n], value) for n, value in found.items()], self.names)

            def sweep(outers: Sequence[dict[str, DimLike]], step: Step = step) -> tuple[Stmt, ...]:
                return vectors(lambda position, lane, copy: step(outers, position, lane, copy))

            statements += vectors(begin)

            def settle(
                position: DimLike, lane: DimLike, copy: DimLike, number: int = number
            ) -> tuple[Stmt, ...]:
                bindings = {**bound, axis.var: position}
                memo: dict[int, Expr] = {}
                known = results(position, lane, copy)
                values = [(name, instantiate(e, bindings, memo, known)) for name, e in rows.settled[number]]
                return bind_shared([stored(known[n], v) for n, v in values], self.names)

            statements += self._walked(bound, rows_at_once, sweep)
            if rows.settled and rows.settled[number]:
                statements += vectors(settle)

        def store(outers: Sequence[dict[str, DimLike]], elements: Sequence[Element]) -> tuple[Stmt, ...]:
            def lanes(position: DimLike, lane: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
                known = results(position, lane, copy)
                body: list[Stmt] = []
                for outer in outers:
                    body += store_all(elements, {**outer, axis.var: position}, known)
                return bind_shared(body, self.names)

            return vectors(lanes)

        if rows.along:
            statements += self._walked(bound, rows_at_once, lambda outers: store(outers, rows.along))
        if rows.once:
            statements += store([bound], rows.once)
        return statements

    def _walked(
        self,
        bound: dict[str, DimLike],
        rows_at_once: int,
        body: Callable[[Sequence[dict[str, DimLike]]], tuple[Stmt, ...]],
    ) -> tuple[Stmt, ...]:
        """`body(points)` over all points of the reduced axes, so many of the last axis at a time."""
        if rows_at_once == 1:
            return axis_loops(self.names, self.rows.reduced, bound, lambda outer: body([outer]))
        *others, last = self.rows.reduced

        def groups(outer: dict[str, DimLike]) -> tuple[Stmt, ...]:
            extent = dims.substitute(last.extent, outer)
            whole = dims.floordiv(extent, rows_at_once)

            def group(g: DimLike) -> tuple[Stmt, ...]:
                return body([{**outer, last.var: g * rows_at_once + k} for k in range(rows_at_once)])

            statements = serial_loop(self.names, whole, group)
            start, rest = whole * rows_at_once, dims.mod(extent, rows_at_once)
            return statements + serial_loop(
                self.names, rest, lambda i: body([{**outer, last.var: start + i}])
            )

        return axis_loops(self.names, others, bound, groups)
