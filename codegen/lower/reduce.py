"""Groups of kind "reduce": reductions of one shape over the same dims, with what stands between and around
them.

The body becomes `Rows`: for every point of the kept axes (a row), stages of reductions, each a pass over
the row that may use the results of earlier ones, then elements stored along the row and elements stored
once per row. A full reduction is split into a fixed number of partial results, so that its bits do not
depend on the number of threads.
"""

from __future__ import annotations

from ...ir import dims, dtypes
from ...ir.graph import Graph, IRError, Node, Value
from ..loops.nodes import Expr, Load, Var
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .indexing import BodyEvaluator, Held, IndexTuple
from .reduce_nest import Reduction, Rows, Stage, accumulator_type, lower_rows, rows_cost
from .spaces import linear, reindex
from .template import Axis, Element, make_axes


def lower_reduce(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """One kernel, or two where a few large reductions are worth sharing among threads."""
    names = Names()
    rows = _rows(ctx, names, body, args)
    name = node.attrs["name"]
    flops = rows_cost(rows)
    split = _split_axis(ctx, rows)
    if split is None:
        statements, cost = lower_rows(ctx, names, rows)
        ctx.launch(name, statements, cost=cost, flops=flops)
        return
    partial, combine = _split(ctx, names, rows, split)
    statements, cost = lower_rows(ctx, names, partial)
    ctx.launch(f"{name}_partial", statements, cost=cost, flops=flops)
    names = Names()
    statements, cost = lower_rows(ctx, names, combine)
    ctx.launch(f"{name}_combine", statements, cost=cost, flops=rows_cost(combine))


def reduced_dims(node: Node) -> tuple[int, ...]:
    """The dims a reduce node reduces, ascending; a 0-d operand has none, even if dim 0 is named."""
    rank = node.inputs[0].type.rank
    return tuple(sorted(d for d in node.attrs["dims"] if d < rank))


def _rows(ctx: LowerContext, names: Names, body: Graph, args: Args) -> Rows:
    reduces = [n for n in body.nodes if n.op.lowering == "reduce"]
    if not reduces:
        raise IRError(f"{body.name}: a reduce group without a reduction")
    shape, over = reduces[0].inputs[0].type.shape, reduced_dims(reduces[0])
    for node in reduces:
        if node.inputs[0].type.shape != shape or reduced_dims(node) != over:
            raise IRError(f"{node} reduces another shape or other dims than {reduces[0]}")
    axes = make_axes(names, shape)
    kept = [a for d, a in enumerate(axes) if d not in over]
    index = tuple(a.index for a in axes)
    row_shape = tuple(a.extent for a in kept)
    row_index = tuple(a.index for a in kept)

    levels = _levels(body)
    results: dict[Value, Reduction] = {}
    evaluator = BodyEvaluator(
        body,
        {v: args[v] for v in body.inputs},
        flatten=ctx.flat,
        extents={a.var: a.extent for a in axes},
    )
    stages: list[Stage] = [Stage([]) for _ in range(1 + max(levels[n.outputs[0]] for n in reduces))]
    for node in reduces:
        (value,) = node.outputs
        dtype = accumulator_type(value.type.dtype)
        element = SCALAR.cast(evaluator.at(node.inputs[0], index), dtype)
        assert node.op.combine is not None
        reduction = Reduction(names("r"), node.op.combine, dtype, element)
        results[value] = reduction
        evaluator.held[value] = _result_at(value, reduction, row_index, over, node.attrs["keepdim"])
        stages[levels[value]].reductions.append(reduction)

    along: list[Element] = []
    once: list[Element] = []
    row_numel, numel = dims.product(row_shape), dims.product(shape)
    for value in body.outputs:
        buffer = ctx.flat(args[value])
        size = value.type.numel
        if size == row_numel and (size != numel or value in results):
            own = reindex(row_index, row_shape, value.type.shape)
            once.append(Element(buffer, linear(row_index, row_shape), evaluator.at(value, own)))
        elif size == numel:
            own = index if value.type.shape == shape else reindex(index, shape, value.type.shape)
            along.append(Element(buffer, linear(index, shape), evaluator.at(value, own)))
        else:
            raise IRError(f"%{value.name}: a reduce group's outputs are shaped as before or after reducing")
    return Rows(kept, [axes[d] for d in over], stages, along, once)


def _result_at(
    value: Value, reduction: Reduction, row: IndexTuple, over: tuple[int, ...], keepdim: bool
) -> Held:
    """The reduction's result as an element of its value: there is one per row, so only this row's can be
    asked for."""
    expected = list(row)
    if keepdim:
        for d in over:
            expected.insert(d, 0)
    result = SCALAR.cast(Var(reduction.name, reduction.dtype), value.type.dtype)
    # An axis of extent 1 may be asked for at 0 or by its variable.
    sizes = value.type.shape

    def held(index: IndexTuple) -> Expr:
        if any(i != e for i, e, size in zip(index, expected, sizes, strict=True) if size != 1):
            where = list(map(str, index))
            raise IRError(f"%{value.name} is read at {where}, which is not the row being reduced")
        return result

    return held


def _levels(body: Graph) -> dict[Value, int]:
    """How many reductions stand before each value, one after the other; for a reduction's result, its own
    stage."""
    before: dict[Value, int] = dict.fromkeys(body.inputs, 0)
    stage: dict[Value, int] = {}
    for node in body.nodes:
        depth = max((before[v] for v in node.inputs), default=0)
        for value in node.outputs:
            stage[value] = depth
            before[value] = depth + 1 if node.op.lowering == "reduce" else depth
    return stage


def _split_axis(ctx: LowerContext, rows: Rows) -> Axis | None:
    """The reduced axis to split among chunks, where the rows alone are too few to keep threads busy."""
    if len(rows.stages) != 1 or rows.along or not rows.reduced:
        return None
    chunks = ctx.options.reduce_chunks
    kept = dims.bounds(dims.product(a.extent for a in rows.kept))[1]
    total = dims.bounds(rows_cost(rows))[1]
    lanes = ctx.target.lanes(dtypes.f32)
    if kept >= 4 * lanes or total < 4 * ctx.options.serial_below:
        return None
    axis = max(rows.reduced, key=lambda a: dims.bounds(a.extent)[1])
    longest = dims.bounds(axis.extent)[1]
    # Many rows of a decent length share well without partial results.
    return axis if longest >= 4 * chunks and (kept < 4 or axis is rows.reduced[0]) else None


def _split(ctx: LowerContext, names: Names, rows: Rows, axis: Axis) -> tuple[Rows, Rows]:
    """Partial results per chunk of the axis, and the rows that combine them."""
    chunks = ctx.options.reduce_chunks
    size = dims.floordiv(axis.extent + (chunks - 1), chunks)
    chunk = Axis(names("c"), chunks)
    start = dims.minimum(chunk.index * size, axis.extent)
    part = Axis(names("i"), dims.minimum(size, axis.extent - start))
    if isinstance(axis.extent, int) and axis.extent % chunks == 0:
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
        stage.append(reduction.at(moved))
        partial_once.append(Element(ctx.flat(buffer), offset, Var(reduction.name, reduction.dtype)))
        gathered.append(reduction.with_value(Load(ctx.flat(buffer), (offset,))))
    reduced = [part if a is axis else a for a in rows.reduced]
    partial = Rows([chunk, *rows.kept], reduced, [Stage(stage)], [], partial_once)
    return partial, Rows(rows.kept, [chunk], [Stage(gathered)], [], rows.once)


__all__ = ["lower_reduce", "reduced_dims"]
