"""Loops for rows that are reduced in stages.

Two forms. Where a reduced axis is the contiguous one, vectors run along the row and are folded at its end
by a fixed tree. Where a kept axis is contiguous (a sum over the batch), vectors hold neighbouring rows and
nothing needs folding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Apply, Buffer, Const, Expr, For, LaneReduce, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from .context import LowerContext, Names
from .elementwise import lanes_along
from .nests import axis_loops, parallel_loop, serial_loop, vector_block, vector_loop
from .template import (
    OPERATION_COST,
    Axis,
    Element,
    bind_shared,
    collapse,
    index_values,
    instantiate,
    operations,
    stride,
    walk,
)

# Independent accumulators: an add takes about four cycles and two can start in each.
ACCUMULATORS = 4
# Rows are worth a parallel iteration each from this much work on.
ROW_BLOCK = 4096


Step = Callable[..., tuple[Stmt, ...]]


@dataclass(frozen=True)
class Reduction:
    """`name` = the combination of `value`, over the kept and reduced axes, over the reduced ones."""

    name: str
    combine: str
    dtype: DType
    value: Expr

    def with_value(self, value: Expr) -> Reduction:
        return replace(self, value=value)

    def at(self, bindings: Mapping[str, DimLike]) -> Reduction:
        return self.with_value(instantiate(self.value, bindings))


@dataclass
class Stage:
    """Reductions made in one pass over the row."""

    reductions: list[Reduction]


@dataclass
class Rows:
    """For each point of `kept`: the stages in order, then `along` at each point of `reduced`, and `once`.

    Values of later stages and of the elements name the results of earlier stages.
    """

    kept: list[Axis]
    reduced: list[Axis]
    stages: list[Stage]
    along: list[Element]
    once: list[Element]
    stashes: list[list[tuple[Buffer, Expr]]] = field(default_factory=list)

    def pass_values(self) -> list[list[Expr]]:
        """What each pass over the row computes: the stages', then the elements along the row."""
        passes = [[r.value for r in stage.reductions] for stage in self.stages]
        return [*passes, [e.value for e in self.along]] if self.along else passes


def accumulator_type(dtype: DType) -> DType:
    """Sums of narrow floats are carried in float32 and rounded once."""
    return dtypes.f32 if dtype in (dtypes.f16, dtypes.bf16) else dtype


def identity(combine: str, dtype: DType) -> Const:
    """What leaves the other argument of the combination as it is."""
    match combine:
        case "add":
            return Const(0.0 if dtype.is_floating_point else 0, dtype)
        case "mul":
            return Const(1.0 if dtype.is_floating_point else 1, dtype)
        case "and":
            return Const(True if dtype.kind == "bool" else -1, dtype)
        case "or":
            return Const(False if dtype.kind == "bool" else 0, dtype)
    sign = -1 if combine == "max" else 1
    if dtype.is_floating_point:
        return Const(sign * float("inf"), dtype)
    bits = 8 * dtype.itemsize
    if dtype.kind == "uint":
        return Const(0 if combine == "max" else (1 << bits) - 1, dtype)
    return Const(-(1 << (bits - 1)) if combine == "max" else (1 << (bits - 1)) - 1, dtype)


def rows_cost(rows: Rows) -> DimLike:
    """Operations in all rows together."""
    each = max(1, sum(operations(values) + len(values) for values in rows.pass_values()))
    row = dims.product(a.extent for a in rows.reduced) * each
    row = row + max(1, operations(e.value for e in rows.once))
    return dims.product(a.extent for a in rows.kept) * row


def lower_rows(ctx: LowerContext, names: Names, rows: Rows) -> tuple[tuple[Stmt, ...], DimLike]:
    """Statements, and the cost of one iteration of their parallel loop (if they have one)."""
    rows = _collapsed(rows)
    total = rows_cost(rows)
    axis = _vector_axis(rows)
    serial = dims.bounds(total)[1] <= ctx.options.serial_below
    if axis is None or axis in rows.reduced:
        form: _RowForm | _ColumnForm = _RowForm(ctx, names, _with_stashes(ctx, names, rows), axis)
        outer = rows.kept
    else:
        form = _ColumnForm(ctx, names, rows, axis)
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


def _collapsed(rows: Rows) -> Rows:
    elements = [*rows.along, *rows.once]
    values = [v for p in rows.pass_values() for v in p] + [e.value for e in rows.once]
    indices = [*index_values(values), *(e.offset for e in elements)]
    # Where one axis' extent depends on another, that one has to stay itself.
    indices += [a.extent for a in [*rows.kept, *rows.reduced]]
    kept, bindings = collapse(rows.kept, indices)
    reduced, inner = collapse(rows.reduced, indices)
    bindings |= inner
    memo: dict[int, Expr] = {}
    return Rows(
        kept,
        reduced,
        [
            Stage([r.with_value(instantiate(r.value, bindings, memo)) for r in s.reductions])
            for s in rows.stages
        ],
        [e.at(bindings, memo) for e in rows.along],
        [e.at(bindings, memo) for e in rows.once],
    )


def _with_stashes(ctx: LowerContext, names: Names, rows: Rows) -> Rows:
    """Costly values that several passes need are computed in the first and kept in a stack buffer for the
    others."""
    passes = rows.pass_values()
    length = dims.product(a.extent for a in rows.reduced)
    rows.stashes = [[] for _ in range(len(rows.stages) + 1)]
    if len(passes) < 2 or dims.bounds(length)[1] > ctx.options.stash_limit or not rows.reduced:
        return rows
    position: DimLike = 0
    for axis in rows.reduced:
        position = position * axis.extent + axis.index
    capacity = dims.bounds(length)[1]
    variables = {a.var for a in rows.reduced}
    replaced: dict[int, Expr] = {}
    for number, values in enumerate(passes[1:], 1):
        earlier = [{id(e) for e in walk(p)} for p in passes[:number]]
        for expr in _costly(values, variables):
            first = next((i for i, seen in enumerate(earlier) if id(expr) in seen), None)
            if first is None or id(expr) in replaced:
                continue
            buffer = Buffer(names("row"), expr.dtype, (capacity,), "stack")
            rows.stashes[first].append((buffer, expr))
            replaced[id(expr)] = Load(buffer, (position,))
    if not replaced:
        return rows
    stages = list(rows.stages)
    for number in range(1, len(rows.stages)):
        reductions = rows.stages[number].reductions
        usable = _usable(rows.stashes, replaced, number)
        stages[number] = Stage([r.with_value(_replace(r.value, usable)) for r in reductions])
    usable = _usable(rows.stashes, replaced, len(rows.stages))
    along = [replace(e, value=_replace(e.value, usable)) for e in rows.along]
    return replace(rows, stages=stages, along=along, stashes=rows.stashes)


def _usable(
    stashes: Sequence[Sequence[tuple[Buffer, Expr]]], replaced: Mapping[int, Expr], number: int
) -> dict[int, Expr]:
    """The stashes filled before pass `number`."""
    return {id(e): replaced[id(e)] for stash in stashes[:number] for _, e in stash}


def _costly(values: Sequence[Expr], variables: set[str]) -> list[Expr]:
    """The outermost subexpressions that vary along the row and cost more than going through memory."""
    found: list[Expr] = []
    seen: set[int] = set()
    stack = list(values)
    while stack:
        expr = stack.pop()
        if id(expr) in seen or not isinstance(expr, Apply):
            continue
        seen.add(id(expr))
        own = OPERATION_COST.get(expr.op, 1)
        if own >= 8 and any(s.name in variables for i in index_values([expr]) for s in dims.symbols(i)):
            found.append(expr)
        stack.extend(expr.args)
    return found


def _replace(expr: Expr, by: Mapping[int, Expr], memo: dict[int, Expr] | None = None) -> Expr:
    memo = {} if memo is None else memo
    if id(expr) in by:
        return by[id(expr)]
    if id(expr) not in memo:
        result = expr
        if isinstance(expr, Apply):
            args = tuple(_replace(a, by, memo) for a in expr.args)
            if any(a is not b for a, b in zip(args, expr.args)):
                result = Apply(expr.op, args, expr.dtype)
        memo[id(expr)] = result
    return memo[id(expr)]


def _vector_axis(rows: Rows) -> Axis | None:
    """The axis along which most accesses are contiguous or constant; None where there is no axis at all."""
    axes = [*rows.kept, *rows.reduced]
    values = [v for p in rows.pass_values() for v in p]
    indices = index_values(values)

    def score(axis: Axis) -> tuple[int, int]:
        contiguous = sum(stride(i, axis) == 1 for i in indices) + sum(
            stride(e.offset, axis) == 1 for e in rows.along
        )
        constant = sum(stride(i, axis) == 0 for i in indices)
        return 2 * contiguous + constant, min(dims.bounds(axis.extent)[1], 64)

    return max(axes, key=score, default=None)


def _tree(combine: str, values: Sequence[Expr]) -> Expr:
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

    def register(self, reduction: Reduction, copies: int) -> Buffer:
        return Buffer(self.names(f"acc_{reduction.name}"), reduction.dtype, (copies, self.lanes), "register")


class _RowForm(_Form):
    """Vectors along a reduced axis."""

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
    ) -> tuple[Stmt, ...]:
        """`body(bindings, lane, copy)` at every point of the reduced axes."""
        axis = self.axis
        assert axis is not None
        others = [a for a in self.rows.reduced if a is not axis]

        def vectors(outer: dict[str, DimLike]) -> tuple[Stmt, ...]:
            return vector_loop(
                self.names,
                dims.substitute(axis.extent, bound),
                self.lanes,
                lambda position, lane, copy: body({**outer, axis.var: position}, lane, copy),
                copies,
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
        copies = ACCUMULATORS if longest >= ACCUMULATORS * self.lanes else 1
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
        statements += self._pass(bound, copies, step)
        for r in stage.reductions:
            var = self.names("l")
            lane = dims.symbol(var, 0, self.lanes - 1)
            loads = [Load(registers[r.name], (u, lane)) for u in range(copies)]
            folded = LaneReduce(r.combine, var, self.lanes, _tree(r.combine, loads))
            statements += (Let(r.name, folded),)
        return statements

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

    @property
    def is_static(self) -> bool:
        return self.axis is not None and isinstance(self.axis.extent, int)

    def emit(self, bound: dict[str, DimLike]) -> tuple[Stmt, ...]:
        """All blocks along the axis: groups of several vectors, single ones, and a masked one."""
        axis = self.axis
        assert axis is not None
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
        per_block = min(ACCUMULATORS, vectors)
        count = -(-vectors // per_block)
        var = self.names("p")
        start = dims.symbol(var, 0, count - 1) * (per_block * self.lanes)
        counts: list[DimLike] = []
        for u in range(per_block):
            first = dims.minimum(start + u * self.lanes, axis.extent)
            counts.append(dims.minimum(axis.extent - first, self.lanes))
        body = self._block({}, start, counts)
        cost = dims.floordiv(total, count) if isinstance(total, int) else total
        return (For(var, count, body, "parallel"),), cost

    def _block(
        self, bound: dict[str, DimLike], start: DimLike, counts: Sequence[DimLike]
    ) -> tuple[Stmt, ...]:
        """Rows `start ..` of as many vectors as there are counts, each masked to its count."""
        axis, rows = self.axis, self.rows
        assert axis is not None
        registers = {r.name: self.register(r, len(counts)) for s in rows.stages for r in s.reductions}

        def vectors(body: Callable[[DimLike, DimLike, int], Sequence[Stmt]]) -> tuple[Stmt, ...]:
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

        def results(lane: DimLike, copy: DimLike) -> dict[str, Expr]:
            return {name: Load(acc, (copy, lane)) for name, acc in registers.items()}

        statements: tuple[Stmt, ...] = ()
        for stage in rows.stages:

            def begin(position: DimLike, lane: DimLike, copy: DimLike, stage: Stage = stage) -> list[Stmt]:
                return [
                    Store(registers[r.name], (copy, lane), identity(r.combine, r.dtype))
                    for r in stage.reductions
                ]

            def step(
                outer: dict[str, DimLike],
                position: DimLike,
                lane: DimLike,
                copy: DimLike,
                stage: Stage = stage,
            ) -> tuple[Stmt, ...]:
                bindings = {**outer, axis.var: position}
                memo: dict[int, Expr] = {}
                known = results(lane, copy)
                stores = []
                for r in stage.reductions:
                    value = instantiate(r.value, bindings, memo, known)
                    combined = SCALAR._apply(r.combine, Load(registers[r.name], (copy, lane)), value)
                    stores.append(Store(registers[r.name], (copy, lane), combined))
                return bind_shared(stores, self.names)

            def sweep(outer: dict[str, DimLike], step: Step = step) -> tuple[Stmt, ...]:
                return vectors(lambda position, lane, copy: step(outer, position, lane, copy))

            statements += vectors(begin)
            statements += axis_loops(self.names, rows.reduced, bound, sweep)

        def store(outer: dict[str, DimLike], elements: Sequence[Element]) -> tuple[Stmt, ...]:
            def lanes(position: DimLike, lane: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
                memo: dict[int, Expr] = {}
                bindings = {**outer, axis.var: position}
                known = results(lane, copy)
                return bind_shared([e.at(bindings, memo, known).store() for e in elements], self.names)

            return vectors(lanes)

        if rows.along:
            statements += axis_loops(self.names, rows.reduced, bound, lambda outer: store(outer, rows.along))
        if rows.once:
            statements += store(bound, rows.once)
        return statements


__all__ = ["Reduction", "Rows", "Stage", "Var", "accumulator_type", "lower_rows", "rows_cost"]
