"""Reducing a few long rows in parts: partial results of chunks of each row, then the rows of those."""

from __future__ import annotations

from ...ir import dims, dtypes
from ..loops.nodes import Load, Var
from ..scalar import SCALAR
from .choices import Candidate
from .column_sums import CHUNK_ROWS, with_column_sums
from .context import LowerContext, Names
from .contraction_cycles import typical
from .indexing import condition
from .reduce_nest import SWEPT_NUMBERS, lower_rows, rows_swept, vector_axis
from .rows import Reduction, Rows, Stage, identity, rows_cost
from .spaces import linear
from .template import Axis, Element


def rows_on_cpu(ctx: LowerContext, name: str, names: Names, rows: Rows) -> None:
    """One kernel, or two where a few large reductions are worth sharing among threads."""
    if rows.columns:
        with_column_sums(ctx, name, names, rows)
        return
    axis = split_axis(ctx, rows)
    parts = 1
    if axis is not None:
        parts = ctx.choose("reduction", lambda count: _ranked_parts(ctx, rows, axis, count))
    if axis is None or parts == 1:
        statements, cost = lower_rows(ctx, names, rows)
        ctx.launch(name, statements, cost=cost, flops=rows_cost(rows))
        return
    partial, combine = split_rows(ctx, names, rows, axis, parts)
    statements, cost = lower_rows(ctx, names, partial)
    ctx.launch(f"{name}_partial", statements, cost=cost, flops=rows_cost(rows))
    statements, cost = lower_rows(ctx, Names(), combine)
    ctx.launch(f"{name}_combine", statements, cost=cost, flops=rows_cost(combine))


def split_axis(ctx: LowerContext, rows: Rows) -> Axis | None:
    """The reduced axis that might be split among chunks, where the rows alone are too few to keep threads busy."""
    if len(rows.stages) != 1 or rows.along or not rows.reduced:
        return None
    kept = dims.bounds(dims.product(a.extent for a in rows.kept))[1]
    total = dims.bounds(rows_cost(rows))[1]
    lanes = ctx.target.lanes(dtypes.f32)
    if total < 4 * ctx.options.serial_below:
        return None
    axis = max(rows.reduced, key=lambda a: dims.bounds(a.extent)[1])
    if kept >= 4 * lanes:
        # Too narrow for blocks of columns that are long pieces of each row.
        long = dims.bounds(axis.extent)[1] >= ctx.options.reduce_chunks * CHUNK_ROWS
        narrow = kept < 4 * SWEPT_NUMBERS and axis is rows.reduced[0] and vector_axis(rows) in rows.kept
        return axis if long and narrow and rows_swept(ctx.target, rows) > 1 else None
    return axis if dims.bounds(axis.extent)[1] >= 4 * ctx.options.reduce_chunks else None


def _ranked_parts(ctx: LowerContext, rows: Rows, axis: Axis, count: int) -> list[Candidate[int]]:
    """Into how many parts to split rows along the axis, `count` ways at most; 1 for not at all."""
    kept = dims.bounds(dims.product(a.extent for a in rows.kept))[1]
    usual = ctx.options.reduce_chunks
    # Many rows of a decent length share well without partial results.
    first = usual if kept < 4 or axis is rows.reduced[0] else 1
    parts = dict.fromkeys((first, usual, 1, 2 * usual, usual // 2, 4 * usual))
    cycles = typical(rows_cost(rows)) / ctx.target.lanes(dtypes.f32)
    found = [p for p in parts if p and 4 * p <= dims.bounds(axis.extent)[1]]
    return [Candidate(f"in {p} parts" if p > 1 else "whole rows", cycles, p) for p in found[:count]]


def split_rows(
    ctx: LowerContext, names: Names, rows: Rows, axis: Axis, chunks: int, even: bool = False
) -> tuple[Rows, Rows]:
    """Partial results per chunk of the axis, and the rows that combine them. All chunks are as long if they are to be
    `even`; what lies past the end of the axis then changes nothing."""
    size = dims.floordiv(axis.extent + (chunks - 1), chunks)
    chunk = Axis(names("c"), chunks)
    start = dims.minimum(chunk.index * size, axis.extent)
    part = Axis(names("i"), dims.minimum(size, axis.extent - start))
    if isinstance(axis.extent, int) and axis.extent % chunks == 0:
        start, part = chunk.index * size, Axis(part.var, size)
        even = False
    elif even:
        start, part = chunk.index * size, Axis(part.var, size)
    moved = {axis.var: start + part.index}
    kept_shape = tuple(a.extent for a in rows.kept)
    kept_index = tuple(a.index for a in rows.kept)
    partial_once: list[Element] = []
    gathered: list[Reduction] = []
    stage: list[Reduction] = []
    for reduction in rows.stages[0].reductions:
        buffer = ctx.scratch(f"partial_{reduction.name}", reduction.dtype, (chunks, *kept_shape))
        offset = linear((chunk.index, *kept_index), (chunks, *kept_shape))
        own = reduction.at(moved)
        if even:
            inside = condition([(0, start + part.index, axis.extent)])
            assert inside is not None
            own = own.with_value(SCALAR.select(inside, own.value, identity(own.combine, own.dtype)))
        stage.append(own)
        partial_once.append(Element(ctx.flat(buffer), offset, Var(reduction.name, reduction.dtype)))
        gathered.append(reduction.with_value(Load(ctx.flat(buffer), (offset,))))
    reduced = [part if a is axis else a for a in rows.reduced]
    partial = Rows([chunk, *rows.kept], reduced, [Stage(stage)], [], partial_once)
    return partial, Rows(rows.kept, [chunk], [Stage(gathered)], [], rows.once)
