"""Scans: the launches of a step, repeated.

A sequence or a stacked result is a row of parts, of which a step sees one. A state has two places, which take turns: a
step reads one and writes the other, so nothing is copied from step to step, and no step writes what it reads. What
all steps would compute alike, such as weights packed for a matmul, is computed once, before the first.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ..loops.nodes import Buffer, Check, Kernel, Launch, Part, Repeat
from ..loops.walk import statements
from .context import LowerContext
from .copies import copy_buffer
from .same_memory import Piece

# Appends the launches of a graph's nodes, given the buffers of its inputs and of some results.
LowerNodes = Callable[[LowerContext, Graph, dict[Value, Buffer]], None]


def lower_scan(
    ctx: LowerContext,
    node: Node,
    buffers: Mapping[Value, Buffer],
    pieces: Mapping[Value, Piece],
    wanted: Container[Value],
    lower_nodes: LowerNodes,
) -> None:
    """Append the launches of a scan whose body is fused: copies of the initial states, the steps under a repeat, copies
    of the final states, those that are `wanted`. A sequence among the `pieces` is read from what it is a piece of."""
    (body,) = node.regions
    start = len(ctx.launches)
    carries, sequences, count = node.attrs["carries"], node.attrs["sequences"], node.attrs["length"]
    var = ctx.fresh("step")
    step: DimLike = dims.symbol(var, 0, max(0, dims.bounds(count)[1] - 1))
    position = count - 1 - step if node.attrs["reverse"] else step
    inner: dict[Value, Buffer] = {}
    pairs: list[Buffer] = []
    for initial, before, after in zip(node.inputs[:carries], body.inputs, body.outputs):
        pair = ctx.scratch(f"{initial.name}_states", initial.type.dtype, (2, *initial.type.shape))
        pairs.append(pair)
        copy_buffer(ctx, buffers[initial], part_of(ctx, pair, 0))
        inner[before] = part_of(ctx, pair, dims.mod(step, 2))
        inner[after] = part_of(ctx, pair, dims.mod(step + 1, 2))
    for number, (outside, inside) in enumerate(zip(node.inputs[carries:], body.inputs[carries:])):
        if number >= sequences:
            inner[inside] = buffers[outside]
            continue
        piece = pieces.get(outside, Piece(outside, 0))
        offset: DimLike = dims.exact_div(piece.start, inside.type.numel) if piece.start else 0
        inner[inside] = part_of(ctx, buffers[piece.source], offset + position, inside.type.shape)
    for outside, inside in zip(node.outputs[carries:], body.outputs[carries:]):
        inner[inside] = part_of(ctx, buffers[outside], position)
    first = len(ctx.launches)
    fixed = {ctx.storage(buffers[v]) for v in node.inputs[carries + sequences :]}
    with ctx.repeated(fixed):
        lower_nodes(ctx, body, inner)
    first = _hoist(ctx, first)
    if len(ctx.launches) > first:
        ctx.repeats.append(Repeat(first, len(ctx.launches), count, var))
    for pair, final in zip(pairs, node.outputs):
        if final in wanted:
            copy_buffer(ctx, part_of(ctx, pair, dims.mod(count, 2)), buffers[final])
    ctx.label_launches(start, body.name)


def part_of(
    ctx: LowerContext, buffer: Buffer, index: DimLike, shape: tuple[DimLike, ...] | None = None
) -> Part:
    """Part number `index` of a buffer; along its first dim, if no shape is given."""
    shape = buffer.shape[1:] if shape is None else shape
    return Part(ctx.fresh(f"{buffer.name}_part"), buffer.dtype, shape, of=ctx.storage(buffer), index=index)


def _hoist(ctx: LowerContext, first: int) -> int:
    """Move the launches from number `first` on that do the same in every step to before the others; the number of the
    first that stays."""
    inside = [r for r in ctx.repeats if r.first >= first]
    nested = {n for r in inside for n in range(r.first, r.end)}
    launches = ctx.launches[first:]
    writers: dict[Buffer, int] = {}
    for launch in launches:
        for buffer in _written(launch):
            writers[buffer] = writers.get(buffer, 0) + 1
    settled: set[Buffer] = set()
    moved: list[int] = []
    for number, launch in enumerate(launches, first):
        own = _written(launch)
        steady = all(
            not isinstance(b, Part) and (writers[b] == 1 if b in own else b not in writers or b in settled)
            for b in launch.args
        )
        if steady and number not in nested and not _can_fail(launch):
            moved.append(number)
            settled |= own
    if not moved:
        return first
    front = set(moved)
    staying = [n for n in range(first, len(ctx.launches)) if n not in front]
    place = {n: at for at, n in enumerate([*moved, *staying], first)}
    ctx.launches[first:] = [ctx.launches[n] for n in (*moved, *staying)]
    ctx.repeats = [
        replace(r, first=place[r.first], end=place[r.end - 1] + 1) if r in inside else r for r in ctx.repeats
    ]
    return first + len(moved)


def _written(launch: Launch) -> set[Buffer]:
    return {b for p, b in zip(launch.kernel.params, launch.args) if p.name in launch.kernel.writes}


def _can_fail(launch: Launch) -> bool:
    """A check must not fail that would not have been reached."""
    return not isinstance(launch.kernel, Kernel) or any(
        isinstance(s, Check) for s in statements(launch.kernel.body)
    )
