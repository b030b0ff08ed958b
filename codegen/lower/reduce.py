"""Groups of kind "reduce": reductions of one shape over the same dims, with what stands between and around
them.

The body becomes `Rows`: for every point of the kept axes (a row), stages of reductions, each a pass over
the row that may use the results of earlier ones, then elements stored along the row and elements stored
once per row. A full reduction is split into a fixed number of partial results, so that its bits do not
depend on the number of threads.
"""

from __future__ import annotations

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, IRError, Node, Value
from ...ir.half_precision import HALF, widens
from ..loops.nodes import Buffer, Expr, Load, Var
from ..scalar import SCALAR
from ..target import GpuTarget
from .context import Args, LowerContext, Names
from .elementwise import Nest, launch_nests
from .indexing import BodyEvaluator, Held, IndexTuple
from .rows import Reduction, Rows, Stage, accumulator_type, launch_rows
from .spaces import linear, reindex
from .template import Element, make_axes

# Fewer rows than this do not pay for a copy of what they all read.
LEAST_ROWS = 8


def lower_reduce(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """Rows of one shape, in stages."""
    names = Names()
    launch_rows(ctx, node.attrs["name"], names, _rows(ctx, names, body, args))


def reduced_dims(node: Node) -> tuple[int, ...]:
    """The dims a reduce node reduces, ascending; a 0-d operand has none, even if dim 0 is named."""
    rank = node.inputs[0].type.rank
    return tuple(sorted(d for d in node.attrs["dims"] if d < rank))


def _rows(ctx: LowerContext, names: Names, body: Graph, args: Args) -> Rows:
    reduces = [n for n in body.nodes if n.op.lowering == "reduce"]
    if not reduces:
        raise IRError(f"{body.name}: a reduce group without a reduction")
    shape = reduces[0].inputs[0].type.shape
    # Where there are sums over columns too, rows are what ends with the last dim.
    first = next((n for n in reduces if len(shape) - 1 in reduced_dims(n)), reduces[0])
    over = reduced_dims(first)
    across = tuple(d for d in range(len(shape)) if d not in over)
    for node in reduces:
        if node.inputs[0].type.shape != shape or reduced_dims(node) not in (over, across):
            raise IRError(f"{node} reduces another shape or other dims than {first}")
    axes = make_axes(names, shape)
    kept = [a for d, a in enumerate(axes) if d not in over]
    index = tuple(a.index for a in axes)
    row_shape = tuple(a.extent for a in kept)
    row_index = tuple(a.index for a in kept)

    levels = _levels(body)
    given = {v: args[v] for v in body.inputs}
    given |= _converted(ctx, body, args, dims.product(axes[d].extent for d in over), dims.product(row_shape))
    results: dict[Value, Reduction] = {}
    evaluator = BodyEvaluator(
        body,
        given,
        flatten=ctx.flat,
        extents={a.var: a.extent for a in axes},
    )
    summed = [n for n in reduces if reduced_dims(n) != over]
    reduces = [n for n in reduces if reduced_dims(n) == over]
    stages: list[Stage] = [Stage([]) for _ in range(1 + max(levels[n.outputs[0]] for n in reduces))]
    for node in reduces:
        (value,) = node.outputs
        dtype = accumulator_type(value.type.dtype)
        element = SCALAR.cast(evaluator.at(node.inputs[0], index), dtype)
        assert node.op.combine is not None
        stage = stages[levels[value]].reductions
        same = (r for r in stage if r.combine == node.op.combine and r.value is element)
        reduction = next(same, None) or Reduction(names("r"), node.op.combine, dtype, element)
        results[value] = reduction
        evaluator.held[value] = _result_at(value, reduction, row_index, over, node.attrs["keepdim"])
        if reduction not in stage:
            stage.append(reduction)

    along: list[Element] = []
    once: list[Element] = []
    row_numel, numel = dims.product(row_shape), dims.product(shape)
    columns: dict[Value, Reduction] = {}
    for node in summed:
        (value,) = node.outputs
        dtype = accumulator_type(value.type.dtype)
        element = SCALAR.cast(evaluator.at(node.inputs[0], index), dtype)
        assert node.op.combine is not None
        columns[value] = Reduction(names("r"), node.op.combine, dtype, element)
    column_shape = tuple(shape[d] for d in over)
    column_elements: list[Element] = []
    for value in body.outputs:
        buffer = ctx.flat(args[value])
        if value in columns:
            result = SCALAR.cast(Var(columns[value].name, columns[value].dtype), value.type.dtype)
            offset = linear(tuple(index[d] for d in over), column_shape)
            column_elements.append(Element(buffer, offset, result))
            continue
        size = value.type.numel
        if size == row_numel and (size != numel or value in results):
            own = reindex(row_index, row_shape, value.type.shape)
            once.append(Element(buffer, linear(row_index, row_shape), evaluator.at(value, own)))
        elif size == numel:
            own = index if value.type.shape == shape else reindex(index, shape, value.type.shape)
            along.append(Element(buffer, linear(index, shape), evaluator.at(value, own)))
        else:
            raise IRError(f"%{value.name}: a reduce group's outputs are shaped as before or after reducing")
    reduced = [axes[d] for d in over]
    return Rows(kept, reduced, stages, along, once, list(columns.values()), column_elements)


def _converted(
    ctx: LowerContext, body: Graph, args: Args, length: DimLike, rows: DimLike
) -> dict[Value, Buffer]:
    """Sixteen-bit operands of the length of a row that all rows read, such as the weights of a norm, in float32: once
    for all rows (and once for all calls, where they are steady)."""
    if isinstance(ctx.target, GpuTarget) or dims.bounds(rows)[0] < LEAST_ROWS:
        return {}
    found: dict[Value, Buffer] = {}
    for value in body.inputs:
        readers = [n for n in body.nodes if value in n.inputs]
        if value.type.dtype not in HALF or value.type.numel != length or value in body.outputs:
            continue
        if not readers or not all(map(widens, readers)):
            continue
        source, target = args[value], ctx.scratch("converted", dtypes.f32, value.type.shape)
        names = Names()
        axes = make_axes(names, value.type.shape)
        offset = linear(tuple(a.index for a in axes), value.type.shape)
        number = SCALAR.cast(Load(ctx.flat(source), (offset,)), dtypes.f32)
        launch_nests(
            ctx, "converted_operand", [Nest(names, axes, [Element(ctx.flat(target), offset, number)])]
        )
        found[value] = target
    return found


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
