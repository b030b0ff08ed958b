"""Groups of kind "window": pooling and its gradients, with pointwise work before and after.

A result element of a pooling is a short chain of combinations, written out where the window is small; a
large window is a reduction over the kernel's positions and is lowered like one. Gradients are gathered:
each element of the operand looks up the windows that it lies in. Where windows do not overlap,
`max_pool_grad` goes over the windows instead and stores each of their elements once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ...ir.dims import DimLike
from ...ir.graph import Graph, IRError, Node, Value
from ..loops.nodes import Buffer, Expr, Load, Var
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .elementwise import Nest, launch_nests
from .indexing import BodyEvaluator, Guard, Held, IndexTuple, condition, constant, number
from .rows import Reduction, Rows, Stage, accumulator_type, identity, launch_rows
from .spaces import linear, output_parts, parts, reindex
from .template import Element, make_axes
from .window_grad import MAX_WRITTEN_OUT, is_whole, lower_avg_pool_grad, lower_max_pool_grad
from .window_index import Offset, dilation_of, divisor, only_at, positions_of, window_element, winners


def lower_window(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    windows = [n for n in body.nodes if n.op.lowering == "window"]
    if len(windows) != 1:
        raise IRError(f"{node}: a window group holds one window op, got {[n.op.name for n in windows]}")
    (window,) = windows
    result = window.outputs[0]
    for value in body.outputs:
        if value.type.numel != result.type.numel:
            raise IRError(f"%{value.name}: an output of a window group has the window op's result shape")
    if window.op.name in TILES and _is_tiling(window):
        _lower_tiles(ctx, node, body, args, window)
        return
    if window.op.name in GRADIENTS:
        GRADIENTS[window.op.name](ctx, node, body, args, window)
        return
    if window.op.name in ("max_pool", "avg_pool") and math.prod(window.attrs["kernel"]) > MAX_WRITTEN_OUT:
        _lower_large(ctx, node, body, args, window)
        return
    rule = RULES.get(window.op.name)
    if rule is None:
        raise IRError(f"{window}: no lowering for this window op; there are {', '.join(RULES)}")
    names = Names()

    def hold(evaluator: BodyEvaluator) -> Mapping[Value, Held]:
        return {result: lambda index: rule(evaluator, window, index)}

    found = output_parts(ctx, names, body, args, body.outputs, hold)
    launch_nests(ctx, node.attrs["name"], [Nest(names, axes, elements) for axes, elements in found])


def _element(
    evaluator: BodyEvaluator, node: Node, index: IndexTuple, offset: Offset, operand: Value, otherwise: Expr
) -> Expr | None:
    """The operand's element at a kernel position, `otherwise` in the padding; None where that is certain."""
    where, guard = window_element(node, index, offset, operand)
    tests = evaluator.open_tests(guard)
    if tests is None:
        return None
    element = evaluator.at(operand, where)
    test = condition(tests)
    return element if test is None else SCALAR.select(test, element, otherwise)


def _max_pool(evaluator: BodyEvaluator, node: Node, index: IndexTuple) -> Expr:
    (x,) = node.inputs
    lowest = identity("max", x.type.dtype)
    found = [_element(evaluator, node, index, k, x, lowest) for k in positions_of(node)]
    return _chain(SCALAR.max, found, lowest)


def _chain(combine: Callable[[Expr, Expr], Expr], found: Sequence[Expr | None], otherwise: Expr) -> Expr:
    result: Expr | None = None
    for element in found:
        if element is not None:
            result = element if result is None else combine(result, element)
    return otherwise if result is None else result


def _avg_pool(evaluator: BodyEvaluator, node: Node, index: IndexTuple) -> Expr:
    (x,) = node.inputs
    wide = accumulator_type(x.type.dtype)
    zero = constant(0, x.type.dtype)
    found = []
    for k in positions_of(node):
        element = _element(evaluator, node, index, k, x, zero)
        found.append(None if element is None else SCALAR.cast(element, wide))
    return _average(_chain(SCALAR.add, found, constant(0, wide)), node, index, x)


def _average(total: Expr, node: Node, index: IndexTuple, x: Value) -> Expr:
    count = number(divisor(node, index, x.type.shape), total.dtype)
    return SCALAR.cast(SCALAR.div(total, count), x.type.dtype)


def _max_pool_gather(evaluator: BodyEvaluator, node: Node, index: IndexTuple) -> Expr:
    x, g = node.inputs
    lowest, zero = identity("max", x.type.dtype), constant(0, g.type.dtype)
    offsets = positions_of(node)
    chosen = winners([_element(evaluator, node, index, k, x, lowest) for k in offsets], lowest)
    result: Expr = zero
    for k, wins in zip(offsets, chosen):
        element = _element(evaluator, node, index, k, g, zero)
        if wins is not None and element is not None:
            result = SCALAR.select(wins, element, result)
    return result


RULES: dict[str, Callable[[BodyEvaluator, Node, IndexTuple], Expr]] = {
    "max_pool": _max_pool,
    "max_pool_gather": _max_pool_gather,
    "avg_pool": _avg_pool,
}


def _is_tiling(node: Node) -> bool:
    """Whether every element of the operand lies in at most one window, which lies inside, of several."""
    attrs = node.attrs
    return (
        attrs["kernel"] == attrs["stride"]
        and not any(attrs["padding"])
        and all(d == 1 for d in dilation_of(node))
        and not attrs["ceil_mode"]
        and math.prod(attrs["kernel"]) <= MAX_WRITTEN_OUT
        and not is_whole(node)
    )


def _max_tile(reader: BodyEvaluator, node: Node, index: IndexTuple) -> list[Expr]:
    x, dy = node.inputs
    lowest, zero = identity("max", x.type.dtype), constant(0, dy.type.dtype)
    elements = [reader.at(x, window_element(node, index, k, x)[0]) for k in positions_of(node)]
    gradient = reader.at(dy, index)
    return [SCALAR.select(wins, gradient, zero) for wins in winners(elements, lowest) if wins is not None]


def _avg_tile(reader: BodyEvaluator, node: Node, index: IndexTuple) -> list[Expr]:
    (dy,) = node.inputs
    wide = accumulator_type(dy.type.dtype)
    count = math.prod(node.attrs["kernel"])
    share = SCALAR.cast(SCALAR.div(SCALAR.cast(reader.at(dy, index), wide), float(count)), dy.type.dtype)
    return [share] * count


GRADIENTS: dict[str, Callable[[LowerContext, Node, Graph, Args, Node], None]] = {
    "max_pool_grad": lower_max_pool_grad,
    "avg_pool_grad": lower_avg_pool_grad,
}
TILES: dict[str, Callable[[BodyEvaluator, Node, IndexTuple], list[Expr]]] = {
    "max_pool_grad": _max_tile,
    "avg_pool_grad": _avg_tile,
}


def _lower_tiles(ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node) -> None:
    """A gradient, over the windows: each stores the gradients of all its elements. Elements beyond the last
    window get 0."""
    dy, result = window.inputs[-1], window.outputs[0]
    kernel = window.attrs["kernel"]
    shape = result.type.shape
    rank = len(kernel)
    lead, counts = dy.type.shape[: dy.type.rank - rank], dy.type.shape[dy.type.rank - rank :]
    names = Names()
    zero = constant(0, dy.type.dtype)
    loads: dict[tuple[Buffer, DimLike], Load] = {}

    def reader(extents: Mapping[str, DimLike]) -> BodyEvaluator:
        inputs = {v: args[v] for v in body.inputs}
        return BodyEvaluator(body, inputs, None, ctx.flat, extents, loads)

    def outputs_at(evaluator: BodyEvaluator, index: IndexTuple, gradient: Expr) -> list[Element]:
        """The group's outputs at an element whose gradient is known."""
        evaluator.held[result] = only_at(result, index, gradient)
        elements = []
        for value in body.outputs:
            own = index if value.type.shape == shape else reindex(index, shape, value.type.shape)
            elements.append(Element(ctx.flat(args[value]), linear(index, shape), evaluator.at(value, own)))
        return elements

    def windows(index: IndexTuple, extents: Mapping[str, DimLike]) -> tuple[list[Element], Sequence[Guard]]:
        elements: list[Element] = []
        shared = reader(extents)
        gradients = TILES[window.op.name](shared, window, index)
        for k, gradient in zip(positions_of(window), gradients, strict=True):
            where, _ = window_element(window, index, k, result)
            elements += outputs_at(reader(extents), where, gradient)
        # Each output's elements side by side: their stores fill adjacent memory.
        count = len(body.outputs)
        return [e for n in range(count) for e in elements[n::count]], shared.undecided

    found = parts(ctx, names, make_axes(names, dy.type.shape), windows)
    # What is left over along each dim, beside the windows of the dims before it.
    for d in range(rank):
        at = len(lead) + d
        covered = counts[d] * kernel[d]
        if shape[at] == covered:
            continue
        before = [n * k for n, k in zip(counts[:d], kernel)]
        rest = (*lead, *before, shape[at] - covered, *shape[at + 1 :])

        def beyond(
            index: IndexTuple, extents: Mapping[str, DimLike], at: int = at, covered: DimLike = covered
        ) -> tuple[list[Element], Sequence[Guard]]:
            evaluator = reader(extents)
            where = (*index[:at], index[at] + covered, *index[at + 1 :])
            return outputs_at(evaluator, where, zero), evaluator.undecided

        found += parts(ctx, names, make_axes(names, rest), beyond)
    launch_nests(ctx, node.attrs["name"], [Nest(names, axes, elements) for axes, elements in found])


def _lower_large(ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node) -> None:
    """A pooling whose window is too large to write out: a reduction over the kernel's positions."""
    (x,) = window.inputs
    result = window.outputs[0]
    shape = result.type.shape
    names = Names()
    kept, positions = make_axes(names, shape), make_axes(names, window.attrs["kernel"], "k")
    index = tuple(a.index for a in kept)
    extents = {a.var: a.extent for a in [*kept, *positions]}
    evaluator = BodyEvaluator(body, {v: args[v] for v in body.inputs}, None, ctx.flat, extents)
    dtype = accumulator_type(x.type.dtype)
    combine = "max" if window.op.name == "max_pool" else "add"
    where, guard = window_element(window, index, tuple(a.index for a in positions), x)
    tests = evaluator.open_tests(guard)
    if tests is None:
        raise IRError(f"{window}: every window lies in the padding")
    element = SCALAR.cast(evaluator.at(x, where), dtype)
    test = condition(tests)
    if test is not None:
        element = SCALAR.select(test, element, identity(combine, dtype))
    reduction = Reduction(names("r"), combine, dtype, element)
    total: Expr = Var(reduction.name, dtype)
    total = _average(total, window, index, x) if combine == "add" else SCALAR.cast(total, x.type.dtype)
    evaluator.held[result] = only_at(result, index, total)
    once = []
    for value in body.outputs:
        own = index if value.type.shape == shape else reindex(index, shape, value.type.shape)
        once.append(Element(ctx.flat(args[value]), linear(index, shape), evaluator.at(value, own)))
    rows = Rows(kept, positions, [Stage([reduction])], [], once)
    launch_rows(ctx, node.attrs["name"], names, rows)
