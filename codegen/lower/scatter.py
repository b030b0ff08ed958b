"""Adding, combining or writing elements at indices that are read from memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..loops.nodes import Expr, Load, Stmt, Store
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .elementwise import Lookup
from .indexing import BodyEvaluator, IndexTuple
from .nests import axis_loops, parallel_loop, vector_loop
from .spaces import linear
from .template import Axis, instantiate, make_axes

WORK_PER_ELEMENT = 8


def launch_scatter(
    ctx: LowerContext,
    name: str,
    body: Graph,
    args: Args,
    op: Node,
    *,
    space: Sequence[DimLike],
    serial: range,
    size: DimLike,
    code: int,
    index_at: Callable[[IndexTuple], IndexTuple],
    target_at: Callable[[IndexTuple, DimLike], IndexTuple],
    combine: Callable[[Expr, Expr], Expr] | None = SCALAR.add,
) -> None:
    """result[place] = combine(result[place], src[at]), or without `combine` src[at], for every `at` of `space`;
    `place` is target_at(at, index[index_at(at)]).

    Two elements can only meet in one place if they differ along the `serial` dims, which are walked in order.
    """
    if dims.product(space) == 0:
        return
    _, index, src = op.inputs
    (result,) = op.outputs
    names = Names()
    axes = make_axes(names, space)
    at = tuple(a.index for a in axes)
    evaluator = BodyEvaluator(
        body, {v: args[v] for v in body.inputs}, None, ctx.flat, {a.var: a.extent for a in axes}
    )
    read = SCALAR.cast(evaluator.at(index, index_at(at) if index.type.rank else ()), dtypes.i64)
    symbol = names("at")
    target = linear(target_at(at, dims.symbol(symbol)), result.type.shape)
    added = evaluator.at(src, at)
    out = ctx.flat(args[result])
    lookup = Lookup(symbol, read, size, code)

    def element(bindings: dict[str, DimLike]) -> tuple[Stmt, ...]:
        statements, found = lookup.bind(names, instantiate(read, bindings))
        place = (dims.substitute(target, {**bindings, symbol: found}),)
        value = instantiate(added, bindings)
        if combine is not None:
            value = combine(Load(out, place), value)
        return (*statements, Store(out, place, value))

    before, walked, after = axes[: serial.start], axes[serial.start : serial.stop], axes[serial.stop :]
    scatter = Scatter(names, before, walked, after, element, result.type.dtype)
    ctx.schedules.scatter(ctx, name, scatter)


@dataclass(frozen=True)
class Scatter:
    """`element(bindings)` for every point of the axes. Two points can only meet in one place if they differ along the
    `walked` axes, which are walked in order; `before` and `after` stand around them."""

    names: Names
    before: Sequence[Axis]
    walked: Sequence[Axis]
    after: Sequence[Axis]
    element: Callable[[dict[str, DimLike]], tuple[Stmt, ...]]
    dtype: DType

    @property
    def axes(self) -> list[Axis]:
        return [*self.before, *self.walked, *self.after]

    @property
    def size(self) -> DimLike:
        return dims.product(a.extent for a in self.axes)


def scatter_on_cpu(ctx: LowerContext, name: str, scatter: Scatter) -> None:
    """The first dims are shared among threads; the last dim is walked in vectors."""
    names, axes, before, after = scatter.names, scatter.axes, scatter.before, scatter.after
    stop = len(before) + len(scatter.walked)
    inner = after[-1] if after else None

    def innermost(bindings: dict[str, DimLike]) -> tuple[Stmt, ...]:
        if inner is None:
            return scatter.element(bindings)
        # Not in unrolled groups: each vector's stores must come after the loads of the one before.
        lanes = ctx.target.lanes(scatter.dtype)

        def emit(position: DimLike, lane: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
            return scatter.element({**bindings, inner.var: position})

        return vector_loop(names, inner.extent, lanes, emit)

    # Of the dims before, a parallel loop can take the first and those of a known size that follow.
    fixed = list(takewhile(lambda a: isinstance(a.extent, int), before[1:]))
    shared = [*before[:1], *fixed]

    def rest(bindings: dict[str, DimLike]) -> tuple[Stmt, ...]:
        return axis_loops(names, [*axes[len(shared) : stop], *after[:-1]], bindings, innermost)

    work = scatter.size * WORK_PER_ELEMENT
    if shared and dims.bounds(work)[1] > ctx.options.serial_below:
        each = dims.product(a.extent for a in axes[len(shared) :]) * WORK_PER_ELEMENT
        statements = parallel_loop(names, shared, rest)
    else:
        each = work
        statements = axis_loops(names, shared, {}, rest)
    ctx.launch(name, statements, cost=each, flops=scatter.size)
