"""Gradients of pooling, gathered: each element of the operand looks up the windows that it lies in.

With a stride s, element s*q + r lies at kernel positions k with (r + padding - k*dilation) divisible by s,
and there in window q + (r + padding - k*dilation) / s: linear in q for each remainder r. So a kernel goes
over q, computes the s remainders side by side and stores them together.

For a maximum, a first launch writes down at which kernel position each window has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product as every

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, IRError, Node, Value
from ..loops.nodes import Buffer, Expr, Load, Var
from ..scalar import SCALAR
from .context import Args, LowerContext
from .elementwise import Nest, launch_nests
from .indexing import BodyEvaluator, Guard, IndexTuple, Loads, condition, constant, number
from .names import Names
from .rows import Reduction, Rows, Stage, accumulator_type, identity, launch_rows
from .spaces import linear, parts, reindex
from .template import Element, make_axes
from .window_index import beats, dilation_of, divisor, only_at, positions_of, window_element

# Kernel positions that are written out one by one.
MAX_WRITTEN_OUT = 64
# What a window adds to an element at one of its kernel positions: from a reader, the window and the position.
Share = Callable[[BodyEvaluator, IndexTuple, DimLike], Expr]


def lower_max_pool_grad(ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node) -> None:
    dy = window.inputs[1]
    count = math.prod(window.attrs["kernel"])
    winner = ctx.scratch("winner", dtypes.u8 if count <= 256 else dtypes.i32, dy.type.shape)
    if count <= MAX_WRITTEN_OUT:
        _find_winners(ctx, node, body, args, window, winner)
    else:
        _reduce_to_winners(ctx, node, body, args, window, winner)
    zero = constant(0, accumulator_type(dy.type.dtype))

    def share(reader: BodyEvaluator, index: IndexTuple, position: DimLike) -> Expr:
        place = Load(ctx.flat(winner), (linear(index, dy.type.shape),))
        gradient = SCALAR.cast(reader.at(dy, index), zero.dtype)
        return SCALAR.select(SCALAR.eq(place, number(position, winner.dtype)), gradient, zero)

    gather_gradient(ctx, node, body, args, window, share)


def lower_avg_pool_grad(ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node) -> None:
    (dy,) = window.inputs
    wide = accumulator_type(dy.type.dtype)

    def share(reader: BodyEvaluator, index: IndexTuple, position: DimLike) -> Expr:
        size = number(divisor(window, index, window.outputs[0].type.shape), wide)
        return SCALAR.div(SCALAR.cast(reader.at(dy, index), wide), size)

    gather_gradient(ctx, node, body, args, window, share)


def _find_winners(
    ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node, winner: Buffer
) -> None:
    """The number of the kernel position where each window has its maximum: the first one, or the last NaN,
    as PyTorch's loop (`value > best or isnan(value)`) chooses. In the padding there is the lowest value."""
    x, dy = window.inputs
    names = Names()
    lowest = identity("max", x.type.dtype)

    def make(index: IndexTuple, extents: Mapping[str, DimLike]) -> tuple[list[Element], Sequence[Guard]]:
        reader = _reader(ctx, body, args, extents)
        best: Expr | None = None
        place: Expr = constant(0, dtypes.i32)
        for k, offset in enumerate(positions_of(window)):
            where, guard = window_element(window, index, offset, x)
            tests = reader.open_tests(guard)
            element: Expr = lowest
            if tests is not None:
                test = condition(tests)
                element = reader.at(x, where)
                element = element if test is None else SCALAR.select(test, element, lowest)
            if best is None:
                best = element
            elif tests is not None:
                wins = beats(element, best)
                best = SCALAR.select(wins, element, best)
                place = SCALAR.select(wins, k, place)
        offset_ = linear(index, dy.type.shape)
        return [Element(ctx.flat(winner), offset_, SCALAR.cast(place, winner.dtype))], reader.undecided

    found = parts(ctx, names, make_axes(names, dy.type.shape), make)
    launch_nests(ctx, f"{node.attrs['name']}_winners", [Nest(names, *part) for part in found])


def _reduce_to_winners(
    ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node, winner: Buffer
) -> None:
    """The same for kernels too large to write out: the maximum first, then where it is."""
    x, dy = window.inputs
    names = Names()
    kept, positions = make_axes(names, dy.type.shape), make_axes(names, window.attrs["kernel"], "k")
    index, offset = tuple(a.index for a in kept), tuple(a.index for a in positions)
    reader = _reader(ctx, body, args, {a.var: a.extent for a in [*kept, *positions]})
    where, guard = window_element(window, index, offset, x)
    tests = reader.open_tests(guard)
    lowest = identity("max", x.type.dtype)
    element: Expr = lowest if tests is None else reader.at(x, where)
    test = None if tests is None else condition(tests)
    if test is not None:
        element = SCALAR.select(test, element, lowest)
    position = number(linear(offset, window.attrs["kernel"]), dtypes.i64)
    best = Reduction(names("r"), "max", x.type.dtype, element)
    found = SCALAR.eq(element, Var(best.name, best.dtype))
    last = identity("min", dtypes.i64)
    first = Reduction(names("r"), "min", dtypes.i64, SCALAR.select(found, position, last))
    stages = [Stage([best]), Stage([first])]
    place: Expr = Var(first.name, dtypes.i64)
    if x.type.dtype.is_floating_point:
        nan = SCALAR.select(SCALAR.ne(element, element), position, -1)
        last_nan = Reduction(names("r"), "max", dtypes.i64, nan)
        stages[1].reductions.append(last_nan)
        is_nan = SCALAR.ge(Var(last_nan.name, dtypes.i64), 0)
        place = SCALAR.select(is_nan, Var(last_nan.name, dtypes.i64), place)
    once = Element(ctx.flat(winner), linear(index, dy.type.shape), SCALAR.cast(place, winner.dtype))
    rows = Rows(kept, positions, stages, [], [once])
    launch_rows(ctx, f"{node.attrs['name']}_winners", names, rows)


def gather_gradient(
    ctx: LowerContext, node: Node, body: Graph, args: Args, window: Node, share: Share
) -> None:
    """The group's outputs, the gradient at each element being the sum of its windows' shares, in kernel
    order."""
    result = window.outputs[0]
    attrs = window.attrs
    rank = len(attrs["kernel"])
    sizes = result.type.shape[result.type.rank - rank :]
    linear_steps = all(isinstance(n, int) or s == 1 for n, s in zip(sizes, attrs["stride"]))
    names = Names()
    written_out = math.prod(attrs["kernel"]) <= MAX_WRITTEN_OUT and not is_whole(window)
    if linear_steps and written_out:
        makers = list(_by_remainder(ctx, body, args, window, share))
    else:
        makers = [(result.type.shape, _by_division(ctx, body, args, window, share))]
    found = [part for shape, make in makers for part in parts(ctx, names, make_axes(names, shape), make)]
    launch_nests(ctx, node.attrs["name"], [Nest(names, *part) for part in found])


def is_whole(window: Node) -> bool:
    """Whether the one window of each image is all of it: its elements lie side by side, and windows far apart. With
    lanes along windows, a mean over 7 x 7 was 49 scattered stores, which LLVM took six seconds for where there is no
    such instruction.
    """
    attrs, result, dy = window.attrs, window.outputs[0], window.inputs[-1]
    rank = len(attrs["kernel"])
    plain = not any(attrs["padding"]) and all(d == 1 for d in dilation_of(window))
    whole = tuple(attrs["kernel"]) == tuple(result.type.shape[-rank:])
    return plain and whole and all(n == 1 for n in dy.type.shape[-rank:])


Make = Callable[[IndexTuple, Mapping[str, DimLike]], tuple[list[Element], Sequence[Guard]]]


def _by_remainder(
    ctx: LowerContext, body: Graph, args: Args, window: Node, share: Share
) -> Iterator[tuple[tuple[DimLike, ...], Make]]:
    """Spaces of quotients, and what is stored at each point: the whole strides, then what is left of each
    dim."""
    result, dy = window.outputs[0], window.inputs[-1]
    attrs = window.attrs
    rank = len(attrs["kernel"])
    lead = result.type.shape[: result.type.rank - rank]
    sizes = result.type.shape[len(lead) :]
    pieces = []
    for size, s in zip(sizes, attrs["stride"]):
        whole, left = dims.floordiv(size, s), dims.mod(size, s)
        assert isinstance(left, int)
        pieces.append(([(0, whole, s)] if whole != 0 else []) + ([(whole, 1, left)] if left else []))
    for chosen in every(*pieces):

        def make(
            index: IndexTuple,
            extents: Mapping[str, DimLike],
            chosen: tuple[tuple[DimLike, DimLike, int], ...] = chosen,
        ) -> tuple[list[Element], Sequence[Guard]]:
            first = index[: len(lead)]
            quotients = tuple(q + start for q, (start, _, _) in zip(index[len(lead) :], chosen))
            loads: Loads = {}
            reader = _reader(ctx, body, args, extents, loads)
            elements: list[Element] = []
            for remainders in every(*(range(left) for _, _, left in chosen)):
                shares = []
                for offset in positions_of(window):
                    shifts = [
                        r + p - k * d
                        for r, p, k, d in zip(remainders, attrs["padding"], offset, dilation_of(window))
                    ]
                    if any(shift % s for shift, s in zip(shifts, attrs["stride"])):
                        continue
                    at = tuple(q + shift // s for q, shift, s in zip(quotients, shifts, attrs["stride"]))
                    position = linear(offset, attrs["kernel"])
                    shares.append(_guarded(reader, dy, (*first, *at), position, share))
                where = tuple(q * s + r for q, s, r in zip(quotients, attrs["stride"], remainders))
                elements += _outputs_at(
                    ctx, body, args, window, (*first, *where), _sum(shares, window), extents, loads
                )
            count = len(body.outputs)
            return [e for n in range(count) for e in elements[n::count]], reader.undecided

        yield (*lead, *(extent for _, extent, _ in chosen)), make


def _by_division(ctx: LowerContext, body: Graph, args: Args, window: Node, share: Share) -> Make:
    """For each element the windows that may reach it, counted back from the last one that starts before
    it."""
    dy = window.inputs[-1]
    attrs = window.attrs
    rank = len(attrs["kernel"])
    if any(d != 1 for d in dilation_of(window)):
        raise IRError(f"{window}: no lowering for a large dilated kernel")

    def make(index: IndexTuple, extents: Mapping[str, DimLike]) -> tuple[list[Element], Sequence[Guard]]:
        first, inner = index[: len(index) - rank], index[len(index) - rank :]
        loads: Loads = {}
        reader = _reader(ctx, body, args, extents, loads)
        shares = []
        reach = [range(-(-k // s)) for k, s in zip(attrs["kernel"], attrs["stride"])]
        for back in every(*reach):
            steps = zip(inner, attrs["padding"], attrs["stride"], back)
            at = tuple(dims.floordiv(i + p, s) - b for i, p, s, b in steps)
            offset = tuple(i + p - o * s for i, p, o, s in zip(inner, attrs["padding"], at, attrs["stride"]))
            inside = [(0, k, size) for k, size in zip(offset, attrs["kernel"])]
            position = linear(offset, attrs["kernel"])
            shares.append(_guarded(reader, dy, (*first, *at), position, share, inside))
        gradient = _sum(shares, window)
        elements = _outputs_at(ctx, body, args, window, index, gradient, extents, loads)
        return elements, reader.undecided

    return make


def _guarded(
    reader: BodyEvaluator,
    dy: Value,
    index: IndexTuple,
    position: DimLike,
    share: Share,
    inside: Sequence[Guard] = (),
) -> Expr | None:
    """The share of a window, 0 where there is no such window; None where that is certain."""
    windows = [(0, i, n) for i, n in zip(index, dy.type.shape)]
    tests = reader.open_tests([*inside, *windows])
    if tests is None:
        return None
    element = share(reader, index, position)
    test = condition(tests)
    return element if test is None else SCALAR.select(test, element, constant(0, element.dtype))


def _sum(shares: Sequence[Expr | None], window: Node) -> Expr:
    dtype = window.outputs[0].type.dtype
    total: Expr | None = None
    for element in shares:
        if element is not None:
            total = element if total is None else SCALAR.add(total, element)
    return constant(0, dtype) if total is None else SCALAR.cast(total, dtype)


def _outputs_at(
    ctx: LowerContext,
    body: Graph,
    args: Args,
    window: Node,
    index: IndexTuple,
    gradient: Expr,
    extents: Mapping[str, DimLike],
    loads: Loads,
) -> list[Element]:
    """The group's outputs at an element whose gradient is known."""
    result = window.outputs[0]
    shape = result.type.shape
    evaluator = _reader(ctx, body, args, extents, loads)
    evaluator.held[result] = only_at(result, index, gradient)
    elements = []
    for value in body.outputs:
        own = index if value.type.shape == shape else reindex(index, shape, value.type.shape)
        elements.append(Element(ctx.flat(args[value]), linear(index, shape), evaluator.at(value, own)))
    return elements


def _reader(
    ctx: LowerContext, body: Graph, args: Args, extents: Mapping[str, DimLike], loads: Loads | None = None
) -> BodyEvaluator:
    return BodyEvaluator(body, {v: args[v] for v in body.inputs}, None, ctx.flat, extents, loads)
