"""Groups of kind "single": ops that index by data, positions of extremes, running sums, random numbers.

An index read from memory is checked against its dim and clamped, so that a bad one stops nothing and is
reported when the run ends. Scatters add in the order of the source, each destination slice by one thread:
bits do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, IRError, Node, Value
from ..loops.nodes import Expr, Index, Var
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .elementwise import Lookup, Nest, launch_nests
from .indexing import BodyEvaluator, IndexTuple, constant
from .random import lower_random_uniform
from .rows import Reduction, Rows, Stage, identity, launch_rows
from .running import COMBINES, lower_running
from .scatter import launch_scatter
from .spaces import linear, output_parts
from .template import Element, make_axes


def lower_single(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    found = [n for n in body.nodes if n.op.lowering not in ("pointwise", "view", "constant")]
    if len(found) != 1:
        raise IRError(f"{node}: a single group holds one op of its own, got {[n.op.name for n in found]}")
    (op,) = found
    rule = RULES.get(op.op.name)
    if rule is None:
        raise IRError(f"{op}: no lowering for this op; there are {', '.join(RULES)}")
    if tuple(body.outputs) != op.outputs:
        raise IRError(f"{node}: a single group's output is its op's result")
    rule(ctx, node.attrs["name"], body, args, op)


def reader(ctx: LowerContext, body: Graph, args: Args, extents: Mapping[str, DimLike]) -> BodyEvaluator:
    return BodyEvaluator(body, {v: args[v] for v in body.inputs}, None, ctx.flat, extents)


def looked_up(names: Names, index: Expr, size: DimLike, code: int) -> tuple[Lookup, DimLike]:
    """An index read from memory, and the symbol that stands for it."""
    name = names("at")
    return Lookup(name, SCALAR.cast(index, dtypes.i64), size, code), dims.symbol(name)


def _lower_gather(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    x = op.inputs[0]
    dim = op.attrs["dim"]
    size = x.type.shape[dim] if x.type.rank else 1
    code = ctx.check_code(f"index out of bounds for dimension {dim} with size {size}")

    def source(at: IndexTuple, found: DimLike) -> IndexTuple:
        return (*at[:dim], found, *at[dim + 1 :]) if x.type.rank else ()

    _lookups(ctx, name, body, args, op, size, code, lambda at: at, source)


def _lower_index_select(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    x, index = op.inputs
    dim, rank = op.attrs["dim"], index.type.rank
    code = ctx.check_code("index out of range in self")
    _lookups(
        ctx,
        name,
        body,
        args,
        op,
        x.type.shape[dim],
        code,
        lambda at: at[dim : dim + rank],
        lambda at, found: (*at[:dim], found, *at[dim + rank :]),
    )


def _lookups(
    ctx: LowerContext,
    name: str,
    body: Graph,
    args: Args,
    op: Node,
    size: DimLike,
    code: int,
    index_at: Callable[[IndexTuple], IndexTuple],
    source_at: Callable[[IndexTuple, DimLike], IndexTuple],
) -> None:
    """result[at] = x[source_at(at, index[index_at(at)])]."""
    x, index = op.inputs
    (result,) = op.outputs
    names = Names()
    axes = make_axes(names, result.type.shape)
    at = tuple(a.index for a in axes)
    evaluator = reader(ctx, body, args, {a.var: a.extent for a in axes})
    read = evaluator.at(index, index_at(at) if index.type.rank else ())
    lookup, found = looked_up(names, read, size, code)
    value = evaluator.at(x, source_at(at, found))
    element = Element(ctx.flat(args[result]), linear(at, result.type.shape), value)
    launch_nests(ctx, name, [Nest(names, axes, [element], [lookup])])


def _lower_check_index(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    (index,), (result,) = op.inputs, op.outputs
    (size,), ignored = op.attrs["size"], op.attrs["ignored"]
    code = ctx.check_code(f"{op.attrs['what']} is out of bounds.")
    names = Names()
    axes = make_axes(names, result.type.shape)
    at = tuple(a.index for a in axes)
    given = reader(ctx, body, args, {a.var: a.extent for a in axes}).at(index, at)
    tested = given if ignored is None else SCALAR.select(SCALAR.eq(given, ignored), 0, given)
    lookup, _ = looked_up(names, tested, size, code)
    element = Element(ctx.flat(args[result]), linear(at, result.type.shape), given)
    launch_nests(ctx, name, [Nest(names, axes, [element], [lookup])])


_COMBINES = {"mul": SCALAR.mul, "max": SCALAR.max, "min": SCALAR.min}


def _scatter_combine(op: Node) -> Callable[[Expr, Expr], Expr] | None:
    """What happens where an element of the source meets its place; None: it replaces what is there."""
    if op.op.name in ("scatter_update", "index_update"):
        return None
    return _COMBINES[op.attrs["combine"]] if op.op.name == "scatter_combine" else SCALAR.add


def _lower_scatter(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    base, index, _ = op.inputs
    dim = op.attrs["dim"]
    size = base.type.shape[dim] if base.type.rank else 1
    code = ctx.check_code(f"index out of bounds for dimension {dim} with size {size}")
    _copy_base(ctx, name, body, args, op)
    launch_scatter(
        ctx,
        name,
        body,
        args,
        op,
        space=index.type.shape,
        serial=range(dim, dim + 1) if index.type.rank else range(0),
        size=size,
        code=code,
        index_at=lambda at: at,
        target_at=lambda at, found: (*at[:dim], found, *at[dim + 1 :]) if base.type.rank else (),
        combine=_scatter_combine(op),
    )


def _lower_index_scatter(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    base, index, src = op.inputs
    dim, rank = op.attrs["dim"], index.type.rank
    code = ctx.check_code("index out of range in self")
    _copy_base(ctx, name, body, args, op)
    launch_scatter(
        ctx,
        name,
        body,
        args,
        op,
        space=src.type.shape,
        serial=range(dim, dim + rank),
        size=base.type.shape[dim],
        code=code,
        index_at=lambda at: at[dim : dim + rank],
        target_at=lambda at, found: (*at[:dim], found, *at[dim + rank :]),
        combine=_scatter_combine(op),
    )


def _copy_base(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    base, (result,) = op.inputs[0], op.outputs
    names = Names()

    def hold(evaluator: BodyEvaluator) -> Mapping[Value, Callable[[IndexTuple], Expr]]:
        return {result: lambda index: evaluator.at(base, index)}

    found = output_parts(ctx, names, body, args, [result], hold)
    launch_nests(ctx, f"{name}_base", [Nest(names, axes, elements) for axes, elements in found])


def _lower_extreme_position(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    """argmax and argmin: first the extreme of the row, which is NaN if there is one, then the first index
    where it is; in 32 bits where those hold any, for twice the lanes.
    """
    (x,) = op.inputs
    (result,) = op.outputs
    combine = "max" if op.op.name == "argmax" else "min"
    names = Names()
    shape: Sequence[DimLike] = x.type.shape
    if not shape:
        _fill(ctx, name, args, result, 0)
        return
    dim = op.attrs["dim"]
    axes = make_axes(names, shape)
    index = tuple(a.index for a in axes)
    element = reader(ctx, body, args, {a.var: a.extent for a in axes}).at(x, index)
    if element.dtype is dtypes.bool_:
        element = SCALAR.cast(element, dtypes.i32)
    best = Reduction(names("r"), combine, element.dtype, element)
    found = SCALAR.eq(element, Var(best.name, best.dtype))
    if element.dtype.is_floating_point:
        found = SCALAR.or_(found, SCALAR.ne(element, element))
    short = dims.bounds(axes[dim].extent)[1] < 1 << 31
    position = SCALAR.cast(Index(axes[dim].index), dtypes.i32 if short else dtypes.i64)
    last = identity("min", position.dtype)
    first = Reduction(names("r"), "min", position.dtype, SCALAR.select(found, position, last))
    kept = [a for d, a in enumerate(axes) if d != dim]
    row_shape, row = tuple(a.extent for a in kept), tuple(a.index for a in kept)
    value = SCALAR.cast(Var(first.name, first.dtype), dtypes.i64)
    once = Element(ctx.flat(args[result]), linear(row, row_shape), value)
    rows = Rows(kept, [axes[dim]], [Stage([best]), Stage([first])], [], [once])
    launch_rows(ctx, name, names, rows)


def _fill(ctx: LowerContext, name: str, args: Args, result: Value, value: int) -> None:
    names = Names()
    axes = make_axes(names, result.type.shape)
    offset = linear(tuple(a.index for a in axes), result.type.shape)
    element = Element(ctx.flat(args[result]), offset, constant(value, result.type.dtype))
    launch_nests(ctx, name, [Nest(names, axes, [element])])


RULES: dict[str, Callable[[LowerContext, str, Graph, Args, Node], None]] = {
    "gather": _lower_gather,
    "index_select": _lower_index_select,
    "scatter_add": _lower_scatter,
    "scatter_update": _lower_scatter,
    "scatter_combine": _lower_scatter,
    "index_add": _lower_index_scatter,
    "index_update": _lower_index_scatter,
    "check_index": _lower_check_index,
    "argmax": _lower_extreme_position,
    "argmin": _lower_extreme_position,
    "random_uniform": lower_random_uniform,
    **dict.fromkeys(COMBINES, lower_running),
}
