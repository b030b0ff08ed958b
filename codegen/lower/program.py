"""From a fused graph to a program: buffers, launches in order, where each buffer lies.

Outputs are the caller's buffers. An output that is tied to an input (donated) is written straight over that
input when every read of the old value happens before, or in the same launch at the same element; otherwise
it is computed in the arena and copied at the end, when nothing needs the old value any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.graph import Graph, IRError, Node, Value, told_symbols
from ...passes.memory_plan import Interval, plan_memory
from ..loops.nodes import Buffer, Held, HostCall, Launch, Program
from ..target import GpuTarget, Target
from .choices import Group, Question
from .context import Args, LowerContext, LowerOptions
from .copies import copy_buffer
from .dim_names import hidden, shown
from .finite import check_group
from .inplace import reads_before_writing
from .kinds import lowering_of
from .lending import Place, lend
from .lifetimes import intervals_of, memory_intervals, used, written
from .preparing import Prepared, prepare
from .reuse import group_key, operands_of, record
from .same_memory import Piece, pieces_for_scans, reshaped
from .scan import lower_scan
from .schedules import CpuSchedules, Schedules
from .streams import streamed
from .wide_chains import in_float32


def lower_graph(
    graph: Graph,
    target: Target | GpuTarget,
    options: LowerOptions | None = None,
    schedules: Schedules = CpuSchedules(),
    questions: list[Question] | None = None,
) -> Program:
    """The program that computes a fused graph, in the loops that the schedules choose. IRError names a node that is not
    `fused`, or that cannot be lowered. `questions` receives what `options.choices` was asked.

    `Program.outputs[i]` is the input's own buffer where output i is tied to an input.
    """
    graph, names = hidden(graph)
    ctx = LowerContext(target, schedules, options)
    inputs = {v: Buffer(ctx.fresh(v.name), v.type.dtype, v.type.shape) for v in graph.inputs}
    buffers = dict(inputs)
    for value in graph.outputs:
        if value not in buffers:
            buffers[value] = Buffer(ctx.fresh(value.name), value.type.dtype, value.type.shape)
    steady = frozenset(b for v, b in inputs.items() if v.name in ctx.options.steady_inputs)
    with ctx.repeated(steady):
        lower_nodes(ctx, graph, buffers)
    if questions is not None:
        questions += ctx.questions
    outside = {ctx.storage(b) for b in (*inputs.values(), *(buffers[v] for v in graph.outputs))}
    prepared = prepare(ctx, steady, outside)
    return shown(_Placement(ctx, graph, inputs, buffers, prepared).program(), names)


def lower_nodes(ctx: LowerContext, graph: Graph, buffers: dict[Value, Buffer]) -> None:
    """Append the launches of a fused graph's nodes. `buffers` holds the places of its inputs and results, and learns
    those of the other values. A value that is only another shape of one is the same memory, where that may be, and a
    piece of one that only scans go through is read there."""
    shaped = dict(found for node in graph.nodes if (found := reshaped(node)) is not None)
    for value, source in reversed(shaped.items()):
        if value in buffers and source not in buffers:
            buffers[source] = ctx.view(buffers[value], source.type.shape)
    pieces = pieces_for_scans(graph)
    read = {*graph.outputs, *(v for node in graph.nodes for v in node.inputs)}
    for node in graph.nodes:
        if all(v in pieces for v in node.outputs):
            continue
        if node.op.name not in ("fused", "scan"):
            raise IRError(f"{node}: only fused groups can be lowered; run the fusion pass first")
        for value in node.outputs:
            if value in shaped and value not in buffers:
                buffers[value] = ctx.view(buffers[shaped[value]], value.type.shape)
            elif value not in buffers:
                buffers[value] = Buffer(ctx.fresh(value.name), value.type.dtype, value.type.shape)
        if node.op.name == "scan":
            ctx.scans.append(_held(node, buffers, pieces))
            lower_scan(ctx, node, buffers, pieces, read, lower_nodes)
            ctx.scans.pop()
        elif not _in_place(ctx, node, shaped, buffers):
            lower_group(ctx, node, buffers)
            if ctx.options.check_finite:
                check_group(ctx, node, buffers, ctx.scans)


def _held(node: Node, buffers: Mapping[Value, Buffer], pieces: Mapping[Value, Piece]) -> Held:
    found = [pieces.get(v, Piece(v, 0)) for v in node.inputs]
    return Held(node, tuple((buffers[p.source], p.start) for p in found))


def _in_place(
    ctx: LowerContext, node: Node, shaped: Mapping[Value, Value], buffers: Mapping[Value, Buffer]
) -> bool:
    (value, *_) = node.outputs
    return value in shaped and ctx.storage(buffers[value]) is ctx.storage(buffers[shaped[value]])


def lower_group(ctx: LowerContext, node: Node, buffers: Mapping[Value, Buffer]) -> None:
    """Append the launches of one fused group."""
    (body,) = node.regions
    if not ctx.options.strict and node.attrs["kind"] in ("loop", "reduce", "contraction", "window"):
        body = in_float32(body, short=isinstance(ctx.target, Target))
    args: dict[Value, Buffer] = dict(zip(body.inputs, (buffers[v] for v in node.inputs)))
    for inside, outside in zip(body.outputs, node.outputs):
        if inside in args:
            raise IRError(f"{node}: %{inside.name} is twice an output of its body, or an input too")
        args[inside] = buffers[outside]
    if all(dims.bounds(v.type.numel)[1] == 0 for v in node.outputs) and not told_symbols(node):
        return
    launches_before, scratches_before = len(ctx.launches), len(ctx.scratches)
    key = group_key(ctx, node, body, args)
    operands = operands_of(ctx, body, args)
    if key in ctx.lowered:
        ctx.lowered[key].again(ctx, operands)
    else:
        steady = tuple(ctx.storage(args[v]) in ctx.fixed for v in body.inputs)
        ctx.group = None if key is None else Group(node, steady)
        lowering_of(node.attrs["kind"])(ctx, node, body, args)
        ctx.group = None
        made = record(ctx, operands, launches_before, scratches_before)
        if key is not None and made is not None:
            ctx.lowered[key] = made
    ctx.label_launches(launches_before, node.attrs["name"])


def _late(buffers: Iterable[Buffer], launches: Sequence[Launch]) -> dict[Buffer, int]:
    """The buffers whose size host calls tell, and the number of the call after which it is known."""
    calls = [x.kernel for x in launches if isinstance(x.kernel, HostCall)]
    teller = {s.name: number for number, call in enumerate(calls) for s in call.told}
    found: dict[Buffer, int] = {}
    for buffer in buffers if teller else ():
        names = [s.name for dim in buffer.shape for s in dims.symbols(dim)]
        number = max((teller[n] for n in names if n in teller), default=None)
        if number is not None:
            found[buffer] = number
    return found


@dataclass(frozen=True)
class _Copy:
    source: Buffer
    target: Buffer


class _Placement:
    """Decides which memory each value lives in, after the launches are known."""

    def __init__(
        self,
        ctx: LowerContext,
        graph: Graph,
        inputs: Mapping[Value, Buffer],
        buffers: Args,
        prepared: Prepared,
    ):
        self.ctx = ctx
        self.prepared = prepared
        self.graph = graph
        self.inputs = inputs
        self.buffers = buffers
        # A value's buffer, and the caller's that is written instead.
        self.moved: dict[Buffer, Buffer] = {}
        self.overwritten: set[Buffer] = set()
        self.copies: list[_Copy] = []
        self.outputs: list[Buffer] = []
        # Inputs that are outputs as they are.
        self.returned = {inputs[v] for v in graph.outputs if v in inputs}
        # The numbers of the launches that store to a buffer, and of those that use it.
        self.writers: dict[Buffer, list[int]] = {}
        self.readers: dict[Buffer, list[int]] = {}
        for number, launch in enumerate(ctx.launches):
            for buffer in written(launch):
                self.writers.setdefault(buffer, []).append(number)
            for buffer in used(launch):
                self.readers.setdefault(buffer, []).append(number)

    def program(self) -> Program:
        self._place_outputs()
        self._append_copies()
        ctx, graph = self.ctx, self.graph
        launches = tuple(self._rebound(launch) for launch in ctx.launches)
        if not ctx.repeats:
            given = set(self.inputs.values())
            launches = streamed(launches, [b for b in self.outputs if b not in given], ctx.target)
        prepared = self.prepared
        outside = {*self.inputs.values(), *self.outputs, *prepared.offsets}
        intervals = list(memory_intervals(launches, outside, ctx.repeats))
        arena = tuple(dict.fromkeys(b for launch in launches for b in used(launch) if b not in outside))
        late = _late([*arena, *self.outputs], launches)
        parts: dict[int, list[Interval]] = {-1: []}
        allocates = {b.name: number for b, number in late.items()}
        for interval in intervals:
            parts.setdefault(allocates.get(interval.name, -1), []).append(interval)
        lent = self._lent(launches, parts[-1], late)
        parts[-1] = [interval for interval in parts[-1] if interval.name not in lent]
        plans = {number: plan_memory(part) for number, part in parts.items()}
        offsets = {name: offset for plan in plans.values() for name, offset in plan.offsets.items()}
        offsets.update((name, place.offset) for name, place in lent.items())
        return Program(
            name=graph.name,
            inputs=tuple(self.inputs[v] for v in graph.inputs),
            outputs=tuple(self.outputs),
            arena=arena,
            launches=launches,
            dims=graph.symbols,
            offsets={b.name: offsets[b.name] for b in arena},
            arena_bytes=plans.pop(-1).arena_bytes,
            messages=dict(ctx.messages),
            lifetimes=tuple(parts[-1]),
            lenders={b: lent[b.name].result for b in arena if b.name in lent},
            repeats=tuple(ctx.repeats),
            late=late,
            late_bytes={number: plan.arena_bytes for number, plan in plans.items()},
            finite_checks=dict(ctx.finite_checks),
            prepared=prepared.offsets,
            prepared_bytes=prepared.nbytes,
            preparing=prepared.launches,
        )

    def _lent(
        self, launches: Sequence[Launch], values: Sequence[Interval], late: Mapping[Buffer, int]
    ) -> Mapping[str, Place]:
        """The places of values that lie in results which nothing has written yet."""
        if not self.ctx.options.lend:
            return {}
        given = set(self.inputs.values())
        fresh = {b.name: b for b in self.outputs if b not in late and b not in given}
        results = intervals_of(fresh.values(), launches, self.ctx.repeats)
        return lend([(fresh[i.name], i.first) for i in results], values)

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
                    self.overwritten.add(place)
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
        written. Where values are tested, what a bad one would overwrite stays as it was."""
        if self.ctx.options.check_finite:
            return False
        if place in self.overwritten or own.dtype is not place.dtype or own.shape != place.shape:
            return False
        if place in self.returned:
            return False  # the old value itself is returned, to wherever
        writers, readers = self.writers.get(own, []), self.readers.get(place, [])
        if not writers or any(own not in self.ctx.launches[i].args for i in writers):
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
                copy_buffer(self.ctx, free.source, free.target)
                pending.remove(free)
                continue
            first = pending[0]
            aside = self._set_aside(first.source)
            pending = [_Copy(aside, c.target) if c.source is first.source else c for c in pending]

    def _set_aside(self, source: Buffer) -> Buffer:
        aside = self.ctx.scratch(source.name, source.dtype, source.shape)
        copy_buffer(self.ctx, source, aside)
        return aside

    def _rebound(self, launch: Launch) -> Launch:
        args = tuple(self.moved.get(b, b) for b in launch.args)
        return Launch(launch.kernel, args, launch.source, launch.flops, launch.bytes)
