"""From a fused graph to a program: buffers, launches in order, where each buffer lies.

Outputs are the caller's buffers. An output that is tied to an input (donated) is written straight over that
input when every read of the old value happens before, or in the same launch at the same element; otherwise
it is computed in the arena and copied at the end, when nothing needs the old value any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.builder import GraphBuilder
from ...ir.graph import Graph, IRError, Node, Value
from ...ir.types import TensorType
from ...passes.memory_plan import Interval, plan_memory
from ..loops.nodes import Buffer, Launch, Load, Program
from ..target import Target
from .context import Args, LowerContext, LowerOptions, Names
from .elementwise import Nest
from .inplace import reads_before_writing
from .kinds import lowering_of
from .template import Axis, Element


def lower_graph(graph: Graph, target: Target, options: LowerOptions | None = None) -> Program:
    """The program that computes a fused graph. IRError names a node that is not `fused`, or that cannot be
    lowered.

    `Program.outputs[i]` is the input's own buffer where output i is tied to an input.
    """
    ctx = LowerContext(target, options)
    inputs = {v: Buffer(ctx.fresh(v.name), v.type.dtype, v.type.shape) for v in graph.inputs}
    buffers = dict(inputs)
    for node in graph.nodes:
        if node.op.name != "fused":
            raise IRError(f"{node}: only fused groups can be lowered; run the fusion pass first")
        for value in node.outputs:
            buffers[value] = Buffer(ctx.fresh(value.name), value.type.dtype, value.type.shape)
        lower_group(ctx, node, buffers)
    return _Placement(ctx, graph, inputs, buffers).program()


def lower_group(ctx: LowerContext, node: Node, buffers: Mapping[Value, Buffer]) -> None:
    """Append the launches of one fused group."""
    (body,) = node.regions
    args: dict[Value, Buffer] = dict(zip(body.inputs, (buffers[v] for v in node.inputs)))
    for inside, outside in zip(body.outputs, node.outputs):
        if inside in args:
            raise IRError(f"{node}: %{inside.name} is twice an output of its body, or an input too")
        args[inside] = buffers[outside]
    if all(dims.bounds(v.type.numel)[1] == 0 for v in node.outputs):
        return
    launches_before = len(ctx.launches)
    lowering_of(node.attrs["kind"])(ctx, node, body, args)
    ctx.label_launches(launches_before, node.attrs["name"])


@dataclass(frozen=True)
class _Copy:
    source: Buffer
    target: Buffer


class _Placement:
    """Decides which memory each value lives in, after the launches are known."""

    def __init__(self, ctx: LowerContext, graph: Graph, inputs: Mapping[Value, Buffer], buffers: Args):
        self.ctx = ctx
        self.graph = graph
        self.inputs = inputs
        self.buffers = buffers
        # A value's buffer, and the caller's that is written instead.
        self.moved: dict[Buffer, Buffer] = {}
        self.copies: list[_Copy] = []
        self.outputs: list[Buffer] = []

    def program(self) -> Program:
        self._place_outputs()
        self._append_copies()
        ctx, graph = self.ctx, self.graph
        launches = tuple(self._rebound(launch) for launch in ctx.launches)
        outside = {*self.inputs.values(), *self.outputs}
        intervals = list(memory_intervals(launches, outside))
        plan = plan_memory(intervals)
        arena = tuple(dict.fromkeys(b for launch in launches for b in launch.args if b not in outside))
        return Program(
            name=graph.name,
            inputs=tuple(self.inputs[v] for v in graph.inputs),
            outputs=tuple(self.outputs),
            arena=arena,
            launches=launches,
            dims=graph.symbols,
            offsets={b.name: plan.offsets[b.name] for b in arena},
            arena_bytes=plan.arena_bytes,
            messages=dict(ctx.messages),
            lifetimes=tuple(intervals),
        )

    def _place_outputs(self) -> None:
        graph = self.graph
        taken: set[Value] = set()
        # Tied outputs first: a value that is an output twice is then written in place and copied from there.
        for index in sorted(range(len(graph.outputs)), key=lambda i: i not in graph.aliases):
            value = graph.outputs[index]
            own = self.buffers[value]
            if index in graph.aliases:
                place = self.inputs[graph.inputs[graph.aliases[index]]]
                if own is place:
                    pass
                elif value not in taken and value not in self.inputs and self._may_overwrite(own, place):
                    self.moved[own] = place
                else:
                    self.copies.append(_Copy(own, place))
            elif value in taken or value in self.inputs:
                place = Buffer(self.ctx.fresh(f"{value.name}_out"), own.dtype, own.shape)
                self.copies.append(_Copy(own, place))
            else:
                place = own
            taken.add(value)
            self.outputs.append(place)
        order = sorted(range(len(graph.outputs)), key=lambda i: i not in graph.aliases)
        self.outputs = [place for _, place in sorted(zip(order, self.outputs))]

    def _may_overwrite(self, own: Buffer, place: Buffer) -> bool:
        """Whether `own` may live in the input's buffer: nothing reads the old value once it is being
        written."""
        if place in self.moved.values() or own.dtype is not place.dtype or own.shape != place.shape:
            return False
        if place in (self.inputs.get(v) for v in self.graph.outputs):
            return False  # the old value itself is returned, to wherever
        writers = [i for i, launch in enumerate(self.ctx.launches) if own in written(launch)]
        readers = [i for i, launch in enumerate(self.ctx.launches) if place in launch.args]
        if not writers:
            return False
        first = writers[0]
        if any(r > first for r in readers):
            return False
        return first not in readers or reads_before_writing(self.ctx.launches[first], place, own)

    def _append_copies(self) -> None:
        """The copies that remain, as launches: each before its target is needed no more as a source. Where
        they go in a circle, one value is put aside."""
        pending = list(self.copies)
        while pending:
            free = next(
                (c for c in pending if all(o.source is not c.target for o in pending if o is not c)), None
            )
            if free is not None:
                self._copy(free.source, free.target)
                pending.remove(free)
                continue
            first = pending[0]
            aside = self._set_aside(first.source)
            pending = [_Copy(aside, c.target) if c.source is first.source else c for c in pending]

    def _set_aside(self, source: Buffer) -> Buffer:
        aside = self.ctx.scratch(source.name, source.dtype, source.shape)
        self._copy(source, aside)
        return aside

    def _copy(self, source: Buffer, target: Buffer) -> None:
        if source.numel == 0:
            return
        if source.dtype.is_complex:  # kernels do not touch complex numbers
            graph, value = _identity(source)
            args = {graph.inputs[0]: source, value: target}
            self.ctx.launch_host(f"copy_{source.name}", graph, args, None)
            return
        names = Names()
        axis = Axis(names("i"), source.numel)
        element = Element(self.ctx.flat(target), axis.index, Load(self.ctx.flat(source), (axis.index,)))
        statements, cost = Nest(names, [axis], [element]).parallel(self.ctx)
        self.ctx.launch(f"copy_{source.name}", statements, cost=cost)

    def _rebound(self, launch: Launch) -> Launch:
        args = tuple(self.moved.get(b, b) for b in launch.args)
        return Launch(launch.kernel, args, launch.source, launch.flops, launch.bytes)


def _identity(buffer: Buffer) -> tuple[Graph, Value]:
    builder = GraphBuilder("copy")
    value = builder.detach(builder.input("x", TensorType(buffer.shape, buffer.dtype)))
    return builder.finish([value]), value


def written(launch: Launch) -> set[Buffer]:
    """The program's buffers that a launch may store to."""
    return {b for p, b in zip(launch.kernel.params, launch.args) if p.name in launch.kernel.writes}


def memory_intervals(launches: Sequence[Launch], outside: Iterable[Buffer]) -> Iterable[Interval]:
    """Lifetimes of the buffers that the launches use, but for those outside the arena."""
    outside = set(outside)
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for i, launch in enumerate(launches):
        for buffer in launch.args:
            first.setdefault(buffer, i)
            last[buffer] = i
    for buffer, born in first.items():
        if buffer in outside:
            continue
        launch = launches[born]
        if buffer not in written(launch) and buffer.numel != 0:
            raise IRError(f"{launch.kernel.name} reads {buffer.name}, which nothing has written")
        partners = tuple(
            old.name
            for old in dict.fromkeys(launch.args)
            if old is not buffer
            and old not in outside
            and last[old] == born
            and first[old] < born
            and old.dtype.itemsize == buffer.dtype.itemsize
            and old.numel == buffer.numel
            and reads_before_writing(launch, old, buffer)
        )
        yield Interval(buffer.name, buffer.nbytes, born, last[buffer], partners)
