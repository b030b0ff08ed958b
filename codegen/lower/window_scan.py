"""The gradient of a max pooling whose windows overlap, are padded or dilated: plane by plane, window by
window, each dy is added where its window's maximum is."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ..loops.nodes import Buffer, Expr, If, Index, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .indexing import BodyEvaluator, Held, IndexTuple, condition, constant
from .nests import axis_loops, loop_index, parallel_loop, vector_loop
from .pointwise import Nest, launch_nests
from .reduce_nest import accumulator_type, identity
from .spaces import linear, output_parts
from .template import bind_shared, make_axes
from .window_index import beats, positions_of, window_element


def lower_max_pool_grad(ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node) -> None:
    x, dy = window.inputs
    result = window.outputs[0]
    shape = x.type.shape
    wide = accumulator_type(x.type.dtype)
    direct = tuple(body.outputs) == (result,) and wide is x.type.dtype
    grad = args[result] if direct else ctx.scratch(f"{result.name}_sum", wide, shape)
    names = Names()
    rank = len(window.attrs["kernel"])
    axes = make_axes(names, dy.type.shape)
    lead, sliding = axes[: len(axes) - rank], axes[len(axes) - rank :]
    evaluator = BodyEvaluator(
        body, {v: args[v] for v in body.inputs}, None, ctx.flat, {a.var: a.extent for a in axes}
    )
    step = _Step(ctx, names, evaluator, window, ctx.flat(grad))
    plane_size = dims.product(shape[len(lead) :])

    def plane(bound: dict[str, DimLike]) -> tuple[Stmt, ...]:
        start = linear((*(bound.get(a.var, 0) for a in lead), *[0] * rank), shape)

        def clear(position: DimLike, lane: DimLike, copy: DimLike) -> list[Stmt]:
            return [Store(ctx.flat(grad), (start + position,), constant(0, wide))]

        cleared = vector_loop(names, plane_size, ctx.target.lanes(wide), clear)
        return cleared + axis_loops(names, sliding, bound, step.statements)

    work = dims.product(dy.type.shape[len(lead) :]) * (8 * len(positions_of(window)))
    body_statements = parallel_loop(names, lead, plane) if lead else plane({})
    flops = work * dims.product(a.extent for a in lead)
    ctx.launch(node.attrs["name"], body_statements, cost=work, flops=flops)
    if direct:
        return
    names = Names()

    def hold(evaluator: BodyEvaluator) -> Mapping[Value, Held]:
        def held(index: IndexTuple) -> Expr:
            return SCALAR.cast(Load(ctx.flat(grad), (linear(index, shape),)), x.type.dtype)

        return {result: held}

    found = output_parts(ctx, names, body, args, body.outputs, hold)
    launch_nests(ctx, node.attrs["name"], [Nest(names, axes, elements) for axes, elements in found])


class _Step:
    """One window: find its maximum, add dy there."""

    def __init__(self, ctx: LowerContext, names: Names, evaluator: BodyEvaluator, window: Node, grad: Buffer):
        self.ctx = ctx
        self.names = names
        self.evaluator = evaluator
        self.window = window
        self.grad = grad

    def statements(self, bound: dict[str, DimLike]) -> tuple[Stmt, ...]:
        x, dy = self.window.inputs
        index = tuple(bound.get(v, 0) for v in self._axes())
        lowest = identity("max", x.type.dtype)
        best: Expr | None = None
        at: Expr = Index(0)
        inside: Expr = constant(True, dtypes.bool_)
        for offset in positions_of(self.window):
            where, guard = window_element(self.window, index, offset, x)
            tests = self.evaluator.open_tests(guard)
            element: Expr
            here: Expr
            holds: Expr
            if tests is None:
                element, here, holds = lowest, Index(0), constant(False, dtypes.bool_)
            else:
                test = condition(tests)
                element = self.evaluator.at(x, where)
                element = element if test is None else SCALAR.select(test, element, lowest)
                here, holds = Index(linear(where, x.type.shape)), test or constant(True, dtypes.bool_)
            if best is None:
                best, at, inside = element, here, holds
                continue
            wins = beats(element, best)
            best = SCALAR.select(wins, element, best)
            at, inside = SCALAR.select(wins, here, at), SCALAR.select(wins, holds, inside)
        place = self.names("at")
        where_max = loop_index(place, x.type.numel)
        sum_here = SCALAR.add(
            Load(self.grad, (where_max,)), SCALAR.cast(self.evaluator.at(dy, index), self.grad.dtype)
        )
        test_name = self.names("inside")
        lets = bind_shared([Let(place, at), Let(test_name, inside)], self.names)
        return (*lets, If(Var(test_name, dtypes.bool_), (Store(self.grad, (where_max,), sum_here),)))

    def _axes(self) -> list[str]:
        return list(self.evaluator.extents)
