"""Equal groups are lowered once: a network's layers repeat, and so do the kernels that compute them.

Two groups are equal if their bodies are the same up to the names of values, and if their buffers have the same shapes
and coincide in the same places. The launches of the second are those of the first on its own buffers: the same
`Kernel` objects, which code generation then emits once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ...ir.graph import Graph, Node, Value, told_symbols
from ...passes.cse import attrs_key
from ..loops.nodes import Buffer, HostCall, Launch
from .context import Args, LowerContext


@dataclass(frozen=True)
class Lowered:
    """What a group was lowered to: launches, over the memory of its `operands` and over `scratches` of its own, with
    the stems of their names."""

    operands: tuple[Buffer, ...]
    scratches: tuple[tuple[str, Buffer], ...]
    launches: tuple[Launch, ...]

    def again(self, ctx: LowerContext, operands: Sequence[Buffer]) -> None:
        """Append the launches over these operands."""
        places = dict(zip(self.operands, operands, strict=True))
        for stem, buffer in self.scratches:
            places[buffer] = ctx.scratch(stem, buffer.dtype, buffer.shape)
        for launch in self.launches:
            args = tuple(places[b] for b in launch.args)
            ctx.launches.append(Launch(launch.kernel, args, launch.source, launch.flops, launch.bytes))


def operands_of(ctx: LowerContext, body: Graph, args: Args) -> tuple[Buffer, ...]:
    """The program's buffers behind what the body reads and writes."""
    return tuple(ctx.storage(args[v]) for v in (*body.inputs, *body.outputs))


def record(ctx: LowerContext, operands: tuple[Buffer, ...], launches: int, scratches: int) -> Lowered | None:
    """What was lowered since there were so many launches and scratch buffers; None if it cannot be repeated."""
    made, own = tuple(ctx.launches[launches:]), tuple(ctx.scratches[scratches:])
    known = {*operands, *(buffer for _, buffer in own)}
    if any(isinstance(x.kernel, HostCall) or not known.issuperset(x.args) for x in made):
        return None
    return Lowered(operands, own, made)


def group_key(ctx: LowerContext, node: Node, body: Graph, args: Args) -> Hashable | None:
    """Equal for equal groups; None for a group that is lowered on its own."""
    if node.attrs["kind"] == "host" or told_symbols(node):
        return None
    numbers: dict[Value, int] = {v: i for i, v in enumerate(body.inputs)}
    computed: list[Hashable] = []
    for inner in body.nodes:
        if inner.regions:
            return None
        reads = tuple(numbers[v] for v in inner.inputs)
        computed.append((inner.op.name, attrs_key(inner.attrs), reads, tuple(v.type for v in inner.outputs)))
        for value in inner.outputs:
            numbers[value] = len(numbers)
    values = (*body.inputs, *body.outputs)
    buffers = [args[v] for v in values]
    storages = [ctx.storage(b) for b in buffers]
    first_buffer, first_storage = _first_places(buffers), _first_places(storages)
    places = tuple(
        (numbers[v], v.type, b.dtype, b.shape, s.shape, first_buffer[b], first_storage[s], s in ctx.fixed)
        for v, b, s in zip(values, buffers, storages)
    )
    return node.attrs["kind"], tuple(computed), len(body.inputs), places


def _first_places(buffers: Sequence[Buffer]) -> dict[Buffer, int]:
    found: dict[Buffer, int] = {}
    for position, buffer in enumerate(buffers):
        found.setdefault(buffer, position)
    return found
