"""Rows that are reduced, and sums over all rows made in the same pass.

The rows are walked in chunks. Each chunk adds up its rows into sums of its own, one after the other, and a second
kernel adds up the chunks': how many there are depends on the shape alone, so the bits do not depend on the number of
threads. The sums of a chunk are read and written once per row, but stay in the first cache.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Expr, For, Load, Stmt, Store, Var
from ..scalar import SCALAR
from .choices import Candidate
from .context import LowerContext, Names
from .contraction_cycles import typical
from .falling import with_powers_below
from .nests import loop_index, vector_loop
from .reduce_nest import chunk_of_rows, lower_rows
from .rows import Reduction, Rows, Stage, collapsed, identity, rows_cost
from .spaces import linear
from .template import Axis, Element, instantiate

# Rows in a chunk, at least, where there are enough: beginning and adding up its sums then takes little.
CHUNK_ROWS = 32


def with_column_sums(ctx: LowerContext, name: str, names: Names, rows: Rows) -> None:
    """A kernel for the rows and the sums of chunks, and one that adds those up."""
    rows = with_powers_below(ctx.target, collapsed(rows))
    cost = rows_cost(rows)
    row = dims.product(a.extent for a in rows.reduced)
    at_column = linear(tuple(a.index for a in rows.reduced), tuple(a.extent for a in rows.reduced))
    if not rows.kept:
        rows.kept = [Axis(names("i"), 1)]
    split = max(rows.kept, key=lambda a: dims.bounds(a.extent)[1])
    chunks = ctx.choose("column sums", lambda count: _ranked_chunks(ctx, split.extent, cost, count))
    size = dims.floordiv(split.extent + (chunks - 1), chunks)
    chunk = Axis(names("p"), chunks)
    start = dims.minimum(chunk.index * size, split.extent)
    part = Axis(names("i"), dims.minimum(size, split.extent - start))

    adding: list[Element] = []
    combining: list[Reduction] = []
    sums: list[tuple[Buffer, Expr]] = []
    for column in rows.columns:
        buffer = ctx.flat(ctx.scratch(f"partial_{column.name}", column.dtype, (chunks, row)))
        offset = chunk.index * row + at_column
        added = SCALAR._apply(column.combine, Load(buffer, (offset,)), column.value)
        adding.append(Element(buffer, offset, added))
        combining.append(column.with_value(Load(buffer, (offset,))))
        sums.append((buffer, identity(column.combine, column.dtype)))

    def begin(position: DimLike, lane: DimLike, copy: DimLike) -> list[Stmt]:
        return [Store(buffer, (chunk.index * row + position,), zero) for buffer, zero in sums]

    whole = replace(rows, along=[*rows.along, *adding], columns=[], column_elements=[])
    moved = _moved(whole, {split.var: start + part.index})
    outer = [part if a is split else a for a in rows.kept]
    lanes = min(ctx.target.lanes(c.dtype) for c in rows.columns)
    body = (
        *vector_loop(names, row, lanes, begin),
        *chunk_of_rows(
            ctx, names, replace(moved, kept=outer), outer, {chunk.var: loop_index(chunk.var, chunks)}
        ),
    )
    each = dims.floordiv(cost, chunks)
    ctx.launch(name, (For(chunk.var, chunks, body, "parallel"),), cost=each, flops=cost)
    combine = Rows(rows.reduced, [chunk], [Stage(combining)], [], rows.column_elements)
    statements, cost = lower_rows(ctx, names, combine)
    ctx.launch(f"{name}_columns", statements, cost=cost, flops=rows_cost(combine))


def without_column_sums(ctx: LowerContext, names: Names, rows: Rows) -> tuple[Rows, Rows]:
    """The rows, and the sums as rows of their own, which read from memory what the rows' stages found: for machines
    whose rows run side by side."""
    found: dict[str, Expr] = {}
    once = list(rows.once)
    kept = tuple(a.extent for a in rows.kept)
    offset = linear(tuple(a.index for a in rows.kept), kept)
    for reduction in (r for stage in rows.stages for r in stage.reductions):
        buffer = ctx.flat(ctx.scratch(f"row_{reduction.name}", reduction.dtype, kept))
        once.append(Element(buffer, offset, Var(reduction.name, reduction.dtype)))
        found[reduction.name] = Load(buffer, (offset,))
    memo: dict[int, Expr] = {}
    columns = [r.with_value(instantiate(r.value, {}, memo, found)) for r in rows.columns]
    alone = replace(rows, once=once, columns=[], column_elements=[])
    return alone, Rows(rows.reduced, rows.kept, [Stage(columns)], [], rows.column_elements)


def _ranked_chunks(ctx: LowerContext, extent: DimLike, cost: DimLike, count: int) -> list[Candidate[int]]:
    """How many chunks to make of so many rows, `count` ways at most: from `reduce_chunks` to four times as many, as
    there are rows; fewer only where a row each is fewer."""
    most = dims.bounds(extent)[1]
    wanted = max(ctx.options.reduce_chunks, min(4 * ctx.options.reduce_chunks, most // CHUNK_ROWS))
    sizes = dict.fromkeys(max(1, min(n, most)) for n in (wanted, wanted // 2, 2 * wanted, wanted // 4))
    cycles = typical(cost) / ctx.target.lanes(dtypes.f32)
    return [Candidate(f"{n} chunks of rows", cycles, n) for n in list(sizes)[:count]]


def _moved(rows: Rows, bindings: dict[str, DimLike]) -> Rows:
    memo: dict[int, Expr] = {}
    return replace(
        rows,
        stages=[
            Stage([r.with_value(instantiate(r.value, bindings, memo)) for r in stage.reductions])
            for stage in rows.stages
        ],
        along=[e.at(bindings, memo) for e in rows.along],
        once=[e.at(bindings, memo) for e in rows.once],
    )
