"""Rows that are reduced in stages, and what makes them cheaper before any loop is chosen: axes that are walked as one
are one, what several passes need is kept between them, what a whole row shares is computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.half_precision import HALF
from ..loops.nodes import Apply, Buffer, Const, Expr, Load, Var
from .context import LowerContext, Names
from .template import (
    OPERATION_COST,
    Axis,
    Element,
    collapse,
    index_values,
    instantiate,
    operations,
    walk,
)

# What a kernel may take of a thread's stack for rows: half of a usual second-level cache, and a small part of a stack.
STASH_BYTES = 1 << 18
# Of a row of sixteen-bit numbers: converting them costs less than a store and two loads.
WIDENED_PASSES = 3


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


@dataclass
class Stage:
    """Reductions made in one pass over the row."""

    reductions: list[Reduction]


@dataclass
class Rows:
    """For each point of `kept`: the stages in order, then `along` at each point of `reduced`, and `once`.

    Values of later stages and of the elements name the results of earlier stages. `columns` are reductions over `kept`,
    for each point of `reduced`, made in the pass that stores `along`; `column_elements` name their results.
    """

    kept: list[Axis]
    reduced: list[Axis]
    stages: list[Stage]
    along: list[Element]
    once: list[Element]
    columns: list[Reduction] = field(default_factory=list)
    column_elements: list[Element] = field(default_factory=list)
    stashes: list[list[tuple[Buffer, Expr]]] = field(default_factory=list)
    settled: list[list[tuple[str, Expr]]] = field(default_factory=list)

    def pass_values(self) -> list[list[Expr]]:
        """What each pass over the row computes: the stages', then the elements along the row."""
        passes = [[r.value for r in stage.reductions] for stage in self.stages]
        last = [e.value for e in self.along] + [r.value for r in self.columns]
        return [*passes, last] if last else passes


def rows_cost(rows: Rows) -> DimLike:
    """Operations in all rows together."""
    each = max(1, sum(operations(values) + len(values) for values in rows.pass_values()))
    row = dims.product(a.extent for a in rows.reduced) * each
    row = row + max(1, operations(e.value for e in rows.once))
    return dims.product(a.extent for a in rows.kept) * row


def collapsed(rows: Rows) -> Rows:
    elements = [*rows.along, *rows.once, *rows.column_elements]
    values = [v for p in rows.pass_values() for v in p] + [e.value for e in elements[len(rows.along) :]]
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
        [r.with_value(instantiate(r.value, bindings, memo)) for r in rows.columns],
        [e.at(bindings, memo) for e in rows.column_elements],
    )


def with_stashes(ctx: LowerContext, names: Names, rows: Rows) -> Rows:
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
    left = STASH_BYTES
    variables = {a.var for a in rows.reduced}
    replaced: dict[int, Expr] = {}
    reads = _widened_reads(passes)
    for number, values in enumerate(passes[1:], 1):
        earlier = [{id(e) for e in walk(p)} for p in passes[:number]]
        for expr in _costly(values, variables):
            first = next((i for i, seen in enumerate(earlier) if id(expr) in seen), None)
            if first is None or id(expr) in replaced or left < capacity * expr.dtype.itemsize:
                continue
            if 0 < reads[id(expr)] < WIDENED_PASSES:
                continue
            left -= capacity * expr.dtype.itemsize
            buffer = Buffer(names("row"), expr.dtype, (capacity,), "stack")
            rows.stashes[first].append((buffer, expr))
            replaced[id(expr)] = Load(buffer, (position,))
    if not replaced:
        return rows
    stages = list(rows.stages)
    for number in range(1, len(rows.stages)):
        reductions = rows.stages[number].reductions
        usable = _usable(rows.stashes, replaced, number)
        stages[number] = Stage([r.with_value(replace_in(r.value, usable)) for r in reductions])
    usable = _usable(rows.stashes, replaced, len(rows.stages))
    along = [replace(e, value=replace_in(e.value, usable)) for e in rows.along]
    return replace(rows, stages=stages, along=along, stashes=rows.stashes)


def with_settled(names: Names, rows: Rows) -> Rows:
    """What is the same along the whole row and takes a division or more is computed once, when the stage is done whose
    results it needs: 1 / sqrt(variance + eps), say. `settled[n]`: names and values after stage n."""
    stage_of = {r.name: n for n, stage in enumerate(rows.stages) for r in stage.reductions}
    variables = {a.var for a in rows.reduced}
    settled: list[list[tuple[str, Expr]]] = [[] for _ in rows.stages]
    replaced: dict[int, Expr] = {}
    later = [r.value for stage in rows.stages[1:] for r in stage.reductions] + [e.value for e in rows.along]
    seen: set[int] = set()
    while later:
        expr = later.pop()
        if id(expr) in seen or not isinstance(expr, Apply):
            continue
        seen.add(id(expr))
        inner = list(walk([expr]))
        needs = [stage_of[e.name] for e in inner if isinstance(e, Var) and e.name in stage_of]
        costly = any(isinstance(e, Apply) and OPERATION_COST.get(e.op, 1) >= 4 for e in inner)
        if needs and costly and not _varies(expr, variables):
            name = names("settled")
            settled[max(needs)].append((name, expr))
            replaced[id(expr)] = Var(name, expr.dtype)
        else:
            later.extend(expr.args)
    if not replaced:
        return rows
    memo: dict[int, Expr] = {}
    stages = [
        Stage([r.with_value(replace_in(r.value, replaced, memo)) for r in s.reductions]) for s in rows.stages
    ]
    along = [replace(e, value=replace_in(e.value, replaced, memo)) for e in rows.along]
    return replace(rows, stages=stages, along=along, settled=settled)


def _varies(expr: Expr, variables: set[str]) -> bool:
    """Whether what the expression reads depends on one of these axes."""
    return any(s.name in variables for i in index_values([expr]) for s in dims.symbols(i))


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
        if (own >= 8 or _is_widened(expr)) and _varies(expr, variables):
            found.append(expr)
        stack.extend(expr.args)
    return found


def _widened_reads(passes: Sequence[Sequence[Expr]]) -> Counter[int]:
    """In how many passes each sixteen-bit number is converted, if what is costly is computed once."""
    found: Counter[int] = Counter()
    known: set[int] = set()
    for values in passes:
        seen: set[int] = set()
        stack = list(values)
        while stack:
            expr = stack.pop()
            if id(expr) in seen or id(expr) in known or not isinstance(expr, Apply):
                continue
            seen.add(id(expr))
            found[id(expr)] += _is_widened(expr)
            stack.extend(expr.args)
        known |= {id(e) for e in walk(values) if isinstance(e, Apply) and OPERATION_COST.get(e.op, 1) >= 8}
    return found


def _is_widened(expr: Expr) -> bool:
    """Whether it is a sixteen-bit number read as float32."""
    return (
        isinstance(expr, Apply)
        and expr.op == "cast"
        and isinstance(expr.args[0], Load)
        and expr.args[0].dtype in HALF
    )


def replace_in(expr: Expr, by: Mapping[int, Expr], memo: dict[int, Expr] | None = None) -> Expr:
    """The expression with others in place of those of these ids."""
    memo = {} if memo is None else memo
    if id(expr) in by:
        return by[id(expr)]
    if id(expr) not in memo:
        result = expr
        if isinstance(expr, Apply):
            args = tuple(replace_in(a, by, memo) for a in expr.args)
            if any(a is not b for a, b in zip(args, expr.args)):
                result = Apply(expr.op, args, expr.dtype)
        memo[id(expr)] = result
    return memo[id(expr)]


def launch_rows(ctx: LowerContext, name: str, names: Names, rows: Rows) -> None:
    """Kernels that reduce the rows and store their elements."""
    ctx.schedules.rows(ctx, name, names, rows)
