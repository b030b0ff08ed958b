"""Fetches of what a tile's sums will read in their next turn: a convolution's image, whose channels lie far apart; or
weights, which the next tiles read.

The weights of all channels, a panel that each tile reads anew, push the image's rows out of the first-level cache, and
processors do not foresee a few short rows in each of many pages: 3x3 with stride 2, 128 channels of 56 x 56, takes
0.89 of the time with them on a core with two multiply-adds a cycle (AMD Zen 3), and 1x1, 256 to 64 channels, where
vectors are lines (Granite Rapids). One with half of that has time to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, prod

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Load, Prefetch, Stmt
from ..target import LINE, Target
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .contraction_cycles import FAR_STRIDE, Core, typical
from .contraction_nest import Before
from .contraction_tile import Bindings
from .contraction_words import Words
from .tiling import Plan

# Lines of a turn at most, and multiply-adds for each at least.
MOST_LINES, LEAST_WORK = 16, 5
# Weights of more than this of the second-level cache have left it when their turn comes again, for those of others:
# the next panel is fetched where not more tiles than these share one (GPT of 6 layers, 128 tokens: 0.91 of the time on a
# Granite Rapids, whose third-level cache is far; 1x1, 320 to 1280 channels of 7x7, 0.72).
STEADY, MOST_TILES = 0.1, 32
# A line is on its way for so many cycles, and no more turns than these are fetched before.
LATENCY, MOST_AHEAD = 200, 8


def fetched_ahead(problem: Contraction[Access], plan: Plan, target: Target) -> Before | None:
    """What fetches, at each position of the outermost reduction axis, the lines of the next one. None where lines are
    near, or many for the work, or where all that a tile reads stays in the first-level cache."""
    outer, *inner = problem.reduction
    core = Core.of(target, problem.accumulator)
    extents = [axis.extent for axis in problem.reduction]
    if core.per_cycle == 1 or plan.lane in (a.name for a in problem.reduction):
        return None
    if plan.rows or (not inner and core.lanes * problem.accumulator.itemsize < LINE):
        return None
    if not all(isinstance(n, int) and n > 0 for n in extents) or outer.name in problem.windows:
        return None
    steps = prod(typical(n) for n in extents)
    panel = steps * plan.vectors * plan.lanes * problem.accumulator.itemsize
    work = prod(plan.tiles.values()) * plan.vectors * steps // typical(outer.extent)
    found: list[tuple[Access, list[Bindings]]] = []
    for number, operand in enumerate(problem.operands):
        stride = operand.stride(outer.name)
        size = operand.buffer.dtype.itemsize
        if number in plan.packed or isinstance(operand, Words):
            continue
        if not isinstance(stride, int) or stride * size < FAR_STRIDE:
            continue
        places = _places(operand, problem, plan, inner)
        lines = typical(outer.extent) * len(places) * LINE
        if not places or len(places) * LEAST_WORK > work or panel + lines <= target.l1:
            return None
        found.append((operand, places))
    if not found:
        return None

    ahead = min(MOST_AHEAD, ceil(LATENCY * core.per_cycle / work))

    def each(bindings: Bindings) -> tuple[Stmt, ...]:
        then = {outer.name: dims.minimum(bindings[outer.name] + ahead, outer.extent - 1)}
        fetches: list[Stmt] = []
        for operand, places in found:
            for place in places:
                at = {n: _within(bindings, problem.axes[n], k) for n, k in place.items()}
                source = operand.at(bindings | at | then)
                assert isinstance(source, Load)
                fetches.append(Prefetch(source))
        return tuple(fetches)

    return Before(0, (), each, outer.name)


def next_panel(ctx: LowerContext, problem: Contraction[Access], plan: Plan) -> Before | None:
    """What fetches the panel of weights behind the one that tiles read, each tile its share of the lines, step by step.
    None where one tile reads it, or so many that the first of them does not count; and on slower processors, which have
    time to wait (measured was one of Intel's for servers, whose third-level cache is far)."""
    found = [i for i, axis in plan.packed.items() if axis == plan.lane and i in problem.resident]
    known = all(isinstance(a.extent, int) for a in problem.axes.values())
    if not found or plan.rows or plan.windows or not known:
        return None
    assert isinstance(ctx.target, Target)
    if not ctx.target.adds_two_widest:
        return None
    operand = problem.operands[found[0]]
    others = [a.name for a in problem.parallel if a.name != plan.lane]
    if any(map(operand.depends_on, others)) or typical(operand.buffer.nbytes) <= ctx.target.l2 * STEADY:
        return None
    inside = plan.order[plan.order.index(plan.lane) + 1 :]
    tiles = [ceil(typical(problem.axes[name].extent) / plan.tile(name)) for name in inside]
    tiles = [min(count, plan.blocks.get(name, count)) for name, count in zip(inside, tiles, strict=True)]
    outer, size = problem.reduction[0], operand.buffer.dtype.itemsize
    panel = plan.tile(plan.lane) * prod(typical(a.extent) for a in problem.reduction)
    lines, steps = panel * size // LINE, typical(outer.extent)
    count = ceil(lines / (prod(tiles) * steps))
    if not 2 <= prod(tiles) <= MOST_TILES or count > MOST_LINES:
        return None
    row, zeros = ctx.flat(operand.buffer), dict.fromkeys((a.name for a in problem.reduction), 0)

    def each(bindings: Bindings) -> tuple[Stmt, ...]:
        tile: DimLike = 0
        for name, number in zip(inside, tiles, strict=True):
            tile = tile * number + dims.mod(dims.floordiv(bindings[name], plan.tile(name)), number)
        first = dims.floordiv((tile * steps + bindings[outer.name]) * lines, prod(tiles) * steps)
        here = operand.at({plan.lane: bindings[plan.lane], **zeros})
        assert isinstance(here, Load)
        places = (
            operand.buffer.offset(here.index) + panel + (first + n) * (LINE // size) for n in range(count)
        )
        return tuple(Prefetch(Load(row, (dims.minimum(at, row.numel - 1),)), 2) for at in places)

    return Before(0, (), each, outer.name)


def _within(bindings: Bindings, axis: Axis, distance: DimLike) -> DimLike:
    """So far along an axis from where the tile starts, or from its beginning, but not past its end."""
    if axis.name not in bindings:
        return distance
    return dims.minimum(bindings[axis.name] + distance, axis.extent - 1)


def _places(
    operand: Access, problem: Contraction[Access], plan: Plan, inner: Sequence[Axis]
) -> list[Bindings]:
    """Where the lines begin that a tile reads of the operand in one turn, by distances along the axes from the tile's
    start; none where they are too many."""
    size = operand.buffer.dtype.itemsize
    counts = {axis.name: typical(axis.extent) for axis in inner}
    counts |= {axis.name: min(plan.tile(axis.name), typical(axis.extent)) for axis in problem.parallel}
    near: Bindings = {}
    choices: dict[str, list[int]] = {}
    longest, length, each = "", 0, 1
    for name, count in counts.items():
        stride = operand.stride(name)
        nbytes = abs(stride) * size if isinstance(stride, int) else LINE
        if nbytes == 0 or count == 1:
            near[name] = 0
        elif nbytes < LINE:
            near[name] = count - 1
            if count > length:
                longest, length, each = name, count, LINE // nbytes
        else:
            choices[name] = list(range(count))
    first: Bindings = dict.fromkeys(near, 0)
    row = [first]
    if longest:
        row = [first | {longest: start} for start in range(0, length - 1, each)] + [near]
    if prod(map(len, choices.values())) * len(row) > MOST_LINES:
        return []
    return [
        {**dict(zip(choices, far, strict=True)), **at} for far in product(*choices.values()) for at in row
    ]
