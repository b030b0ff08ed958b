"""Rows that are reduced in stages, on a GPU.

A row is shared by `lanes` threads. Each walks its part of the row with accumulators in registers; then they combine, in
a fixed tree: within a warp by shuffles, among warps through shared memory. Every thread ends with the row's result, and
goes on to the next stage. What several stages read stays in registers between them, where the row is short enough.
Which threads share a row is in `row_shapes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import WARP, Apply, Buffer, Expr, If, Index, Load, Shuffle, Stmt, Store
from ..lower.column_sums import without_column_sums
from ..lower.context import LowerContext, Names
from ..lower.nests import serial_loop
from ..lower.reduce_nest import tree
from ..lower.row_split import split_rows
from ..lower.rows import Rows, Stage, collapsed, identity, rows_cost, with_settled
from ..lower.template import (
    OPERATION_COST,
    Axis,
    bind_shared,
    free_arguments,
    index_values,
    instantiate,
    walk,
)
from ..scalar import SCALAR
from .grid import Unravel, blocks, ceil_div, guarded, inside, threads, unrolled
from .row_shapes import MAX_KEPT, RowShape, chunks_of, shape_of

# Of an operation whose result is kept in registers for later stages, in additions.
LEAST_COST = 8

Step = Callable[[dict[str, DimLike], DimLike], Sequence[Stmt]]


def rows_on_gpu(ctx: LowerContext, name: str, names: Names, rows: Rows) -> None:
    """One kernel; two where too few long rows would leave most of the machine idle, or where columns are summed too."""
    if rows.columns:
        for number, alone in enumerate(without_column_sums(ctx, names, rows)):
            rows_on_gpu(ctx, f"{name}_columns" if number else name, names, alone)
        return
    split = chunks_of(ctx, rows)
    if split is None:
        _launch(ctx, name, names, rows)
        return
    axis, chunks = split
    partial, combine = split_rows(ctx, names, rows, axis, chunks, even=True)
    _launch(ctx, f"{name}_partial", names, partial)
    _launch(ctx, f"{name}_combine", Names(), combine)


def _launch(ctx: LowerContext, name: str, names: Names, rows: Rows) -> None:
    cost = rows_cost(rows)
    rows = with_settled(names, collapsed(rows))
    form = _Form(names, rows, shape_of(ctx, rows))
    ctx.launch(name, form.body(), cost=cost, flops=cost, comment=str(form.shape))


class _Form:
    """The statements of a block."""

    def __init__(self, names: Names, rows: Rows, shape: RowShape):
        self.names = names
        self.rows = rows
        self.shape = shape
        self.count = dims.product(a.extent for a in rows.kept)
        self.length = dims.product(a.extent for a in rows.reduced)
        self.thread = names("t")
        self.results = {
            r.name: self.register(r.name, r.dtype) for stage in rows.stages for r in stage.reductions
        }
        for settled in rows.settled:
            self.results |= {n: self.register(n, e.dtype) for n, e in settled}
        # The chunks of `lanes * width` elements that a row is walked in.
        self.chunks = ceil_div(self.length, shape.lanes * shape.width)
        self.slot, self.owner = names("slot"), names("own")
        self.kept: list[dict[int, Buffer]] = [{} for _ in rows.pass_values()]
        self.reads: list[dict[int, Expr]] = [{} for _ in rows.pass_values()]
        self._keep()

    def register(self, name: str, dtype: DType, *shape: int) -> Buffer:
        return Buffer(self.names(name), dtype, (self.shape.threads, *shape), "thread")

    def shared(self, name: str, dtype: DType, *shape: int) -> Buffer:
        return Buffer(self.names(name), dtype, shape, "shared")

    # What stays in registers

    def _keep(self) -> None:
        """Values that one pass computes and a later one needs again: reads, and what takes many operations."""
        passes = self.rows.pass_values()
        shape = self.shape
        if len(passes) < 2 or not isinstance(self.chunks, int):
            return
        slots = self.chunks * shape.width
        if slots > MAX_KEPT:
            return
        variables = {a.var for a in self.rows.reduced}
        left = 2 * MAX_KEPT
        first: dict[int, int] = {}
        for number, expr in ((n, e) for n, values in enumerate(passes) for e in _free(values)):
            begin = first.setdefault(id(expr), number)
            if begin == number or id(expr) in self.reads[number]:
                continue
            if not _is_costly(expr) or not _varies(expr, variables):
                continue
            known = self.kept[begin].get(id(expr))
            if known is None:
                words = slots * max(1, expr.dtype.itemsize // 4)
                if words > left:
                    continue
                left -= words
                known = self.kept[begin][id(expr)] = self.register("row", expr.dtype, slots)
            own = dims.symbol(self.owner, 0, shape.threads - 1)
            self.reads[number][id(expr)] = Load(known, (own, dims.symbol(self.slot, 0, slots - 1)))

    # Statements

    def body(self) -> tuple[Stmt, ...]:
        shape = self.shape

        def block(b: DimLike) -> tuple[Stmt, ...]:
            statements: tuple[Stmt, ...] = ()
            for number, stage in enumerate(self.rows.stages):
                statements += self._stage(b, number, stage)
            return statements + self._stores(b)

        return blocks(self.names, ceil_div(self.count, shape.rows), block)

    def _place(self, t: DimLike) -> tuple[DimLike, DimLike]:
        """The row of a thread in its block, and its place among the threads of the row."""
        shape = self.shape
        if shape.apart:
            return dims.mod(t, shape.rows), dims.floordiv(t, shape.rows)
        return dims.floordiv(t, shape.lanes), dims.mod(t, shape.lanes)

    def _in_row(
        self, b: DimLike, t: DimLike, body: Sequence[Stmt], index: Unravel, row: DimLike
    ) -> tuple[Stmt, ...]:
        return guarded(inside(row, self.count), (*index.lets, *body))

    def _row(self, b: DimLike, t: DimLike) -> tuple[DimLike, Unravel]:
        row = b * self.shape.rows + self._place(t)[0]
        return row, Unravel(self.names, row, self.rows.kept)

    def _known(self, t: DimLike) -> dict[str, Expr]:
        return {name: Load(buffer, (t,)) for name, buffer in self.results.items()}

    def _stage(self, b: DimLike, number: int, stage: Stage) -> tuple[Stmt, ...]:
        shape, names = self.shape, self.names
        sums = {r.name: self.register(f"acc_{r.name}", r.dtype, shape.width) for r in stage.reductions}

        def walk_row(t: DimLike) -> tuple[Stmt, ...]:
            row, index = self._row(b, t)
            start = unrolled(
                names,
                shape.width,
                lambda u: [
                    Store(sums[r.name], (t, u), identity(r.combine, r.dtype)) for r in stage.reductions
                ],
            )

            def step(bindings: dict[str, DimLike], u: DimLike) -> tuple[Stmt, ...]:
                memo: dict[int, Expr] = {}
                known = self._known(t)
                stores: list[Stmt] = []
                by = self._read(number, bindings, memo)
                stores += self._kept_stores(number, bindings, memo, known, t)
                for r in stage.reductions:
                    value = instantiate(r.value, bindings, by, known)
                    combined = SCALAR._apply(r.combine, Load(sums[r.name], (t, u)), value)
                    stores.append(Store(sums[r.name], (t, u), combined))
                return bind_shared(stores, names)

            walked = self._walk(t, index.index, step)
            fold = tuple(
                Store(
                    sums[r.name],
                    (t, 0),
                    tree(r.combine, [Load(sums[r.name], (t, u)) for u in range(shape.width)]),
                )
                for r in stage.reductions
                if shape.width > 1
            )
            return (*start, *self._in_row(b, t, walked, index, row), *fold)

        statements = self._threads(walk_row)
        for r in stage.reductions:
            statements += self._combine(r.name, r.combine, sums[r.name])
        if self.rows.settled and self.rows.settled[number]:
            statements += self._settle(b, number)
        return statements

    def _threads(self, body: Callable[[DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
        return threads(self.names, self.shape.threads, body)

    def _settle(self, b: DimLike, number: int) -> tuple[Stmt, ...]:
        def settle(t: DimLike) -> tuple[Stmt, ...]:
            row, index = self._row(b, t)
            memo: dict[int, Expr] = {}
            known = self._known(t)
            stores: list[Stmt] = [
                Store(self.results[n], (t,), instantiate(e, index.index, memo, known))
                for n, e in self.rows.settled[number]
            ]
            return self._in_row(b, t, bind_shared(stores, self.names), index, row)

        return self._threads(settle)

    def _combine(self, name: str, combine: str, sums: Buffer) -> tuple[Stmt, ...]:
        """The accumulators of a row's threads, made one, in every thread's result."""
        shape, result = self.shape, self.results[name]
        if shape.lanes == 1:
            return self._threads(lambda t: [Store(result, (t,), Load(sums, (t, 0)))])
        if shape.apart:
            return self._combine_columns(name, combine, sums)
        if shape.lanes <= WARP:
            return self._shuffled(name, combine, sums, result)[0]
        folded, own = self._shuffled(name, combine, sums)
        warps = shape.lanes // WARP
        part = self.shared(f"part_{name}", result.dtype, shape.rows, warps)

        def put(t: DimLike) -> list[Stmt]:
            row, lane = self._place(t)
            first = Apply("eq", (Index(dims.mod(lane, WARP)), Index(0)), dtypes.bool_)
            return [If(first, (Store(part, (row, dims.floordiv(lane, WARP)), Load(own, (t, 0))),))]

        def take(t: DimLike) -> list[Stmt]:
            row, _ = self._place(t)
            return [Store(result, (t,), tree(combine, [Load(part, (row, w)) for w in range(warps)]))]

        return folded + self._threads(put) + self._threads(take)

    def _combine_columns(self, name: str, combine: str, sums: Buffer) -> tuple[Stmt, ...]:
        """The same of threads in different warps."""
        shape, result = self.shape, self.results[name]
        part = self.shared(f"part_{name}", result.dtype, shape.lanes, shape.rows)

        def put(t: DimLike) -> list[Stmt]:
            row, lane = self._place(t)
            return [Store(part, (lane, row), Load(sums, (t, 0)))]

        def take(t: DimLike) -> list[Stmt]:
            row, _ = self._place(t)
            return [Store(result, (t,), tree(combine, [Load(part, (k, row)) for k in range(shape.lanes)]))]

        return self._threads(put) + self._threads(take)

    def _shuffled(
        self, name: str, combine: str, sums: Buffer, result: Buffer | None = None
    ) -> tuple[tuple[Stmt, ...], Buffer]:
        """Within warps: the statements, and the buffer that has it then, which is `result` if that is given."""
        mask = min(self.shape.lanes, WARP) // 2
        statements: tuple[Stmt, ...] = ()
        source = sums
        while mask:
            target = result if mask == 1 else None
            if target is None:
                target = self.register(f"fold_{name}", sums.dtype, 1)

            def fold(
                t: DimLike, source: Buffer = source, target: Buffer = target, mask: int = mask
            ) -> list[Stmt]:
                own = Load(source, (t, 0))
                place = (t, 0)[: len(target.shape)]
                return [Store(target, place, SCALAR._apply(combine, own, Shuffle(own, mask)))]

            statements += self._threads(fold)
            source = target
            mask //= 2
        return statements, source

    def _walk(self, t: DimLike, bound: dict[str, DimLike], step: Step) -> tuple[Stmt, ...]:
        """`step(bindings, u)` at every element of the row that is this thread's; `u` counts neighbours."""
        shape, names = self.shape, self.names
        if self.length == 0:
            return ()
        if not self.rows.reduced:
            return tuple(step({**bound, self.slot: 0, self.owner: t}, 0))
        _, lane = self._place(t)
        last = self.rows.reduced[-1]
        narrow = [*self.rows.reduced[:-1], Axis(last.var, ceil_div(last.extent, shape.width))]
        items = dims.product(a.extent for a in narrow)

        def chunk(k: DimLike, always: bool) -> tuple[Stmt, ...]:
            item = k * shape.lanes + lane
            found = Unravel(names, item, narrow)

            def at(u: DimLike) -> Sequence[Stmt]:
                bindings = {**bound, **found.index, last.var: found.index[last.var] * shape.width + u}
                return step({**bindings, self.slot: k * shape.width + u, self.owner: t}, u)

            body = (*found.lets, *unrolled(names, shape.width, at))
            return body if always else guarded(inside(item, items), body)

        whole = dims.floordiv(items, shape.lanes)
        if any(self.kept):
            assert isinstance(self.chunks, int)
            return unrolled(names, self.chunks, lambda k: chunk(k, dims.mod(items, shape.lanes) == 0))
        statements = serial_loop(names, whole, lambda k: chunk(k, True))
        if dims.mod(items, shape.lanes) != 0:
            statements += chunk(whole, False)
        return statements

    def _read(self, number: int, bindings: Mapping[str, DimLike], memo: dict[int, Expr]) -> dict[int, Expr]:
        """The memo for instantiation in pass `number`: what is in registers is read from there."""
        for key, load in self.reads[number].items():
            memo[key] = instantiate(load, bindings)
        return memo

    def _kept_stores(
        self,
        number: int,
        bindings: Mapping[str, DimLike],
        memo: dict[int, Expr],
        known: dict[str, Expr],
        t: DimLike,
    ) -> list[Stmt]:
        if not self.kept[number]:
            return []
        exprs = {id(e): e for e in walk(self.rows.pass_values()[number])}
        return [
            Store(buffer, (t, bindings[self.slot]), instantiate(exprs[key], bindings, memo, known))
            for key, buffer in self.kept[number].items()
        ]

    def _stores(self, b: DimLike) -> tuple[Stmt, ...]:
        """What is stored along the row, and once for it."""
        rows, names = self.rows, self.names
        number = len(rows.stages)
        statements: tuple[Stmt, ...] = ()
        if rows.along:

            def along(t: DimLike) -> tuple[Stmt, ...]:
                row, index = self._row(b, t)

                def step(bindings: dict[str, DimLike], u: DimLike) -> tuple[Stmt, ...]:
                    memo: dict[int, Expr] = {}
                    known = self._known(t)
                    by = self._read(number, bindings, memo)
                    return bind_shared([e.at(bindings, by, known).store() for e in rows.along], names)

                return self._in_row(b, t, self._walk(t, index.index, step), index, row)

            statements += self._threads(along)
        if rows.once:

            def once(t: DimLike) -> tuple[Stmt, ...]:
                row, index = self._row(b, t)
                memo: dict[int, Expr] = {}
                stores = bind_shared(
                    [e.at(index.index, memo, self._known(t)).store() for e in rows.once], names
                )
                _, lane = self._place(t)
                return self._in_row(b, t, guarded(inside(lane, 1), stores), index, row)

            statements += self._threads(once)
        return statements


def _is_costly(expr: Expr) -> bool:
    """Whether it is dearer to compute than to keep."""
    if isinstance(expr, Load):
        return True
    return isinstance(expr, Apply) and OPERATION_COST.get(expr.op, 1) >= LEAST_COST


def _varies(expr: Expr, variables: set[str]) -> bool:
    return any(s.name in variables for i in index_values([expr]) for s in dims.symbols(i))


def _free(values: Sequence[Expr]) -> list[Expr]:
    """Every subexpression that is evaluated wherever the values are, each once."""
    found: dict[int, Expr] = {}
    stack = list(values)
    while stack:
        expr = stack.pop()
        if id(expr) not in found:
            found[id(expr)] = expr
            stack.extend(free_arguments(expr))
    return list(found.values())
