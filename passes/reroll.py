"""Loops that tracing wrote out, found again: runs of nodes that repeat become scans.

    for t in range(100): h = cell(x[t], h)        # 100 times the same nodes, in the trace

A run is a block of nodes that follows itself several times: same ops, attributes, types and lines. It becomes a scan
where each operand of the block is, in every turn, one of

- what the same node of the block gave, in this turn or in the one before (a state),
- the same value from outside (an invariant),
- a slice of one value from outside, moving by its own length from turn to turn (a sequence).

What a turn adds to zeros at a place that moves likewise (the gradient of a slice) is stacked and added once.

Anything else, and the run stays as it is. Slices may move either way, so that the backward part of such a loop, which
goes through the steps in reverse, is found like the forward part. Steps at the ends that differ (the last one of a
backward part has no gradient to hand on) stay before and after the scan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from ..ir.builder import GraphBuilder, element
from ..ir.graph import Graph, Node, Value
from .base import Rewriter
from .cse import attrs_key
from .host import runs_on_host

# How many runs are looked at for one that is a loop.
ATTEMPTS = 64
# How many places of a run are tried as the beginning of its block.
SHIFTS = 32
# Views that lie between a slice and what reads it.
RESHAPES = ("reshape",)


@dataclass(frozen=True)
class Reroll:
    """`least`: the fewest turns that are worth a loop. Only blocks that hold a contraction or the like are: a chain of
    pointwise nodes is better off as one kernel."""

    least: int = 8
    name: ClassVar[str] = "reroll"

    def run(self, graph: Graph) -> Graph:
        while True:
            for run in islice(_runs(graph, self.least), ATTEMPTS):
                plan = _plan(graph, run)
                if plan is not None:
                    graph = _rewritten(graph, plan)
                    break
            else:
                return graph


@dataclass(frozen=True)
class Run:
    """`count` blocks of `period` nodes, the first at node number `start`."""

    start: int
    period: int
    count: int


def _runs(graph: Graph, least: int) -> Iterator[Run]:
    """Where the nodes repeat, those with the most nodes first."""
    heavy = [node.op.flops is not None for node in graph.nodes]
    lines = Counter((n.op.name, str(n.location)) for n, h in zip(graph.nodes, heavy) if h)
    if max(lines.values(), default=0) < least:
        return
    numbers: dict[Any, int] = {}
    tokens = [numbers.setdefault(_token(node), len(numbers)) for node in graph.nodes]
    previous: dict[int, int] = {}
    periods: Counter[int] = Counter()
    for i, token in enumerate(tokens):
        if token in previous:
            periods[i - previous[token]] += 1
        previous[token] = i
    found: list[Run] = []
    for period, times in periods.items():
        if times < least - 1 or period * least > len(tokens):
            continue
        start = 0
        while start + period < len(tokens):
            end = start
            while end + period < len(tokens) and tokens[end] == tokens[end + period]:
                end += 1
            for shift in range(min(period, end - start, SHIFTS)):
                count = (end - start - shift) // period + 1
                if count >= least:
                    found.append(Run(start + shift, period, count))
            start = end + 1
    found = [r for r in found if any(heavy[r.start : r.start + r.period])]
    # A multiple of a period is one too: of equals, the shorter.
    yield from sorted(found, key=lambda r: (-r.period * r.count, r.period, r.start))


def _token(node: Node) -> Any:
    """Equal for nodes that may be the same one in two turns. Where a slice or what is padded lies may differ."""
    if node.regions or runs_on_host(node) or node.op.lowering in ("random", "check"):
        return id(node)
    attrs = () if node.op.name in ("slice", "pad") else attrs_key(node.attrs)
    types = tuple(str(v.type) for v in (*node.inputs, *node.outputs))
    return node.op.name, attrs, types, str(node.location), node.location and node.location.file


@dataclass(frozen=True)
class Sliding:
    """Slices of `base` along `dim`: `size` elements in turn 0 from `first` on, the next turn's `step` (1 or -1) times
    as many further on; `shape` is what they are seen as."""

    base: Value
    dim: int
    first: int
    size: int
    step: int
    shape: tuple[Any, ...]


@dataclass(frozen=True)
class Spread:
    """A sum over the turns of zeros with one value in them, at another place in each turn: node `pad` of the block puts
    result `value` (node, number) of the block into zeros, `add` adds that to what was `initial`. In turn 0 the value
    lies at `first` along `dim`; `step` is 1 or -1 times its own length."""

    pad: int
    add: int
    value: tuple[int, int]
    initial: Value
    dim: int
    first: int
    step: int


@dataclass
class _Plan:
    """What a run is as a scan. Values of the block are those of its first turn."""

    run: Run
    # By what the turn before gave and what stands for it in the first.
    carries: dict[tuple[Value, Value], int] = field(default_factory=dict)
    sequences: list[Sliding] = field(default_factory=list)
    invariants: dict[Value, int] = field(default_factory=dict)
    # By node of the block and operand: "carry", "sequence" or "invariant", and which; absent for the block's own.
    operands: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)
    # Nodes of the block that are elements of sequences.
    elements: dict[int, int] = field(default_factory=dict)
    # Nodes of the block that give the same in every turn.
    fixed: set[int] = field(default_factory=set)
    spreads: list[Spread] = field(default_factory=list)

    @property
    def outside(self) -> set[int]:
        """Nodes of the block that are not in the body."""
        return {*self.elements, *(j for s in self.spreads for j in (s.pad, s.add))}

    def sequence(self, sliding: Sliding) -> int:
        """The number of the sequence, entered if it is new."""
        if sliding not in self.sequences:
            self.sequences.append(sliding)
        return self.sequences.index(sliding)


# Turn, node of the block, result.
Place = tuple[int, int, int]
OWN = ("own", 0)


def _plan(graph: Graph, run: Run) -> _Plan | None:
    """The run as a scan; None where an operand is none of what it may be."""
    start, period = run.start, run.period
    blocks = [graph.nodes[start + period * t : start + period * (t + 1)] for t in range(run.count)]
    producers = graph.producers()
    home: dict[Value, Place] = {
        value: (t, j, k)
        for t, block in enumerate(blocks)
        for j, node in enumerate(block)
        for k, value in enumerate(node.outputs)
    }
    plan = _Plan(run)
    uses = graph.uses()
    for j in range(period):
        turns = [block[j] for block in blocks]
        if any(j == s.add for s in plan.spreads):
            continue
        if turns[0].op.name == "pad" and any(attrs_key(n.attrs) != attrs_key(turns[0].attrs) for n in turns):
            spread = _spread(graph, blocks, j, home, uses)
            if spread is None:
                return None
            plan.spreads.append(spread)
            continue
        if turns[0].op.name in ("slice", *RESHAPES):
            sliding = _sliding([n.outputs[0] for n in turns], producers)
            if sliding is not None and sliding.base not in home:
                plan.elements[j] = plan.sequence(sliding)
                continue
            if any(attrs_key(n.attrs) != attrs_key(turns[0].attrs) for n in turns):
                return None
        for k in range(len(turns[0].inputs)):
            values = [node.inputs[k] for node in turns]
            found = _operand(plan, blocks[0], values, [home.get(v) for v in values], producers)
            if found is None:
                return None
            if found != OWN:
                plan.operands[j, k] = found
        operands = [plan.operands.get((j, k), OWN)[0] for k in range(len(turns[0].inputs))]
        places = [home.get(v) for v in turns[0].inputs]
        if all(
            w == "invariant" or (w == "own" and p is not None and p[1] in plan.fixed)
            for w, p in zip(operands, places)
        ):
            plan.fixed.add(j)
    return plan if plan.carries else None


def _spread(
    graph: Graph,
    blocks: Sequence[Sequence[Node]],
    j: int,
    home: Mapping[Value, Place],
    uses: Mapping[Value, Sequence[Node]],
) -> Spread | None:
    """The sum that node j, a padding, and the addition of its result are, if they are one."""
    pads = [block[j] for block in blocks]
    value = home.get(pads[0].inputs[0])
    if value is None or any(home.get(n.inputs[0]) != (t, *value[1:]) for t, n in enumerate(pads)):
        return None
    low, following = pads[0].attrs["low"], pads[1].attrs["low"]
    moving = [d for d, (a, b) in enumerate(zip(low, following)) if a != b]
    if len(moving) != 1 or pads[0].attrs["value"] != 0 or any(n.attrs["value"] != 0 for n in pads):
        return None
    (dim,) = moving
    size = pads[0].inputs[0].type.shape[dim]
    if not isinstance(size, int) or abs(following[dim] - low[dim]) != size:
        return None
    step = 1 if following[dim] > low[dim] else -1
    for t, node in enumerate(pads):
        wanted = [0] * len(low)
        wanted[dim] = low[dim] + step * size * t
        elsewhere = (*node.attrs["high"][:dim], *node.attrs["high"][dim + 1 :])
        if node.attrs["low"] != tuple(wanted) or any(elsewhere):
            return None
    adds = [uses[n.outputs[0]] for n in pads]
    if any(len(a) != 1 or n.outputs[0] in graph.outputs for a, n in zip(adds, pads)):
        return None
    at = home.get(adds[0][0].outputs[0])
    if at is None or adds[0][0].op.name != "add":
        return None
    before = initial = pads[0].inputs[0]
    for t, (node,) in enumerate(adds):
        if node is not blocks[t][at[1]] or len(node.inputs) != 2:
            return None
        others = [v for v in node.inputs if v is not pads[t].outputs[0]]
        if len(others) != 1 or (t and (others[0] is not before or len(uses[others[0]]) != 1)):
            return None
        if t and others[0] in graph.outputs:
            return None
        initial = others[0] if t == 0 else initial
        before = node.outputs[0]
    if initial in home:
        return None
    return Spread(j, at[1], value[1:], initial, dim, low[dim], step)


def _operand(
    plan: _Plan,
    block: Sequence[Node],
    values: Sequence[Value],
    places: Sequence[Place | None],
    producers: Mapping[Value, Node],
) -> tuple[str, int] | None:
    """What an operand is, given its values in all turns and their places in the run; None where it is nothing that an
    operand may be."""
    first, second = places[:2]
    if all(p is None for p in places):
        if all(v is values[0] for v in values):
            return "invariant", plan.invariants.setdefault(values[0], len(plan.invariants))
        sliding = _sliding(values, producers)
        return None if sliding is None else ("sequence", plan.sequence(sliding))
    if first is not None:
        return OWN if all(p == (t, *first[1:]) for t, p in enumerate(places)) and first[0] == 0 else None
    if second is None or any(p != (t, *second[1:]) for t, p in enumerate(places[1:])):
        return None
    given = block[second[1]].outputs[second[2]]
    if given.type != values[0].type:
        return None
    return "carry", plan.carries.setdefault((given, values[0]), len(plan.carries))


def _sliding(values: Sequence[Value], producers: Mapping[Value, Node]) -> Sliding | None:
    """The values of the turns as one moving slice, perhaps seen in another shape."""
    slices: list[Node] = []
    for value in values:
        node = producers.get(value)
        while node is not None and node.op.name in RESHAPES:
            node = producers.get(node.inputs[0])
        if node is None or node.op.name != "slice":
            return None
        slices.append(node)
    first, second = slices[0].attrs, slices[1].attrs
    base = slices[0].inputs[0]
    moving = [d for d, (a, b) in enumerate(zip(first["starts"], second["starts"])) if a != b]
    if len(moving) != 1 or any(n.inputs[0] is not base or set(n.attrs["steps"]) != {1} for n in slices):
        return None
    (dim,) = moving
    begin, end, following = first["starts"][dim], first["stops"][dim], second["starts"][dim]
    if not all(isinstance(x, int) for x in (begin, end, following)) or abs(following - begin) != end - begin:
        return None
    size, step = end - begin, 1 if following > begin else -1
    for t, node in enumerate(slices):
        starts, stops = list(first["starts"]), list(first["stops"])
        starts[dim] += step * size * t
        stops[dim] += step * size * t
        if node.attrs["starts"] != tuple(starts) or node.attrs["stops"] != tuple(stops):
            return None
    others = [d for d in range(base.type.rank) if d != dim]
    if any(first["starts"][d] != 0 or first["stops"][d] != base.type.shape[d] for d in others):
        return None
    return Sliding(base, dim, begin, size, step, values[0].type.shape)


def _rewritten(graph: Graph, plan: _Plan) -> Graph:
    run = plan.run
    end = run.start + run.period * run.count
    builder = _Reroller(graph)
    for node in graph.nodes[: run.start]:
        builder.keep(node)
    builder.location = graph.nodes[run.start].location
    builder.scan_of(plan)
    for node in graph.nodes[end:]:
        builder.keep(node)
    return builder.done()


class _Reroller(Rewriter):
    def scan_of(self, plan: _Plan) -> None:
        """Append the scan, and let what it gives stand for what is read of the run after it."""
        graph, run = self.graph, plan.run
        end = run.start + run.period * run.count
        block = graph.nodes[run.start : run.start + run.period]
        after = {v for node in graph.nodes[end:] for v in node.inputs} | set(graph.outputs)
        # Which results of the block are read outside, of which turns.
        read: dict[tuple[int, int], list[int]] = {}
        for t in range(run.count):
            first = run.start + run.period * t
            for j, node in enumerate(graph.nodes[first : first + run.period]):
                if j in plan.elements or (j in plan.fixed and t == 0):
                    self.keep(node)
                elif j in plan.fixed:
                    self.mapping.update(zip(node.outputs, self.mapped(block[j].outputs)))
                if j in plan.outside or j in plan.fixed:
                    continue
                for k, value in enumerate(node.outputs):
                    if value in after:
                        read.setdefault((j, k), []).append(t)
        finals = {key for key, turns in read.items() if turns == [run.count - 1]}
        stacked = list(
            dict.fromkeys([*(key for key in read if key not in finals), *(s.value for s in plan.spreads)])
        )
        carries = dict(plan.carries)
        given = {block[j].outputs[k]: (j, k) for j, k in read}
        for j, k in finals:
            value = block[j].outputs[k]
            if all(v is not value for v, _ in carries):
                carries[value, self.zeros_like(value)] = len(carries)
        reverse = bool(plan.sequences) and all(s.step < 0 for s in plan.sequences)
        sequences = [self._sequence(s, run.count, reverse) for s in plan.sequences]

        def step(F: Any, state: Any, elements: Any, weights: Any) -> Any:
            inside = _block(F, block, plan, state, elements, weights)
            following = [inside[value] for value, _ in carries]
            return following, [inside[block[j].outputs[k]] for j, k in stacked]

        final, results = self.scan(
            step,
            self.mapped(initial for _, initial in carries),
            sequences,
            self.mapped(plan.invariants),
            length=run.count,
            reverse=reverse,
        )
        last = dict(zip((value for value, _ in carries), final))
        for value, (j, k) in given.items():
            if (j, k) in finals:
                self._stand_for(plan, j, k, run.count - 1, last[value])
        for (j, k), whole in zip(stacked, results):
            for t in read.get((j, k), ()):
                at = run.count - 1 - t if reverse else t
                self._stand_for(plan, j, k, t, element(self, whole, at))

        for spread in plan.spreads:
            total = self._spread(spread, results[stacked.index(spread.value)], run.count, reverse)
            self._stand_for(plan, spread.add, 0, run.count - 1, total)

    def _spread(self, s: Spread, whole: Value, count: int, reverse: bool) -> Value:
        """The sum, from the values of all turns."""
        (initial,) = self.mapped([s.initial])
        if (s.step < 0) != reverse:
            whole = self.flip(whole, dims=(0,))
        shape = whole.type.shape[1:]
        rank = len(shape)
        if s.dim:
            whole = self.permute(whole, dims=(*range(1, s.dim + 1), 0, *range(s.dim + 1, rank + 1)))
        size = int(shape[s.dim])
        whole = self.reshape(whole, shape=(*shape[: s.dim], count * size, *shape[s.dim + 1 :]))
        low, high = [0] * rank, [0] * rank
        low[s.dim] = s.first if s.step > 0 else s.first - size * (count - 1)
        high[s.dim] = int(initial.type.shape[s.dim]) - low[s.dim] - count * size
        total: Value = self.add(initial, self.pad(whole, low=tuple(low), high=tuple(high), value=0))
        return total

    def _stand_for(self, plan: _Plan, j: int, k: int, t: int, value: Value) -> None:
        node = self.graph.nodes[plan.run.start + plan.run.period * t + j]
        self.mapping[node.outputs[k]] = value

    def _sequence(self, s: Sliding, count: int, reverse: bool) -> Value:
        """The slices as one value, a slice in each place of its first dim; in the order of the turns, or backwards."""
        (base,) = self.mapped([s.base])
        shape = base.type.shape
        low = s.first if s.step > 0 else s.first - s.size * (count - 1)
        starts = tuple(low if d == s.dim else 0 for d in range(len(shape)))
        stops = tuple(low + s.size * count if d == s.dim else n for d, n in enumerate(shape))
        part = self.slice(base, starts=starts, stops=stops, steps=(1,) * len(shape))
        part = self.reshape(part, shape=(*shape[: s.dim], count, s.size, *shape[s.dim + 1 :]))
        if s.dim:
            order = (s.dim, *(d for d in range(len(shape) + 1) if d != s.dim))
            part = self.permute(part, dims=order)
        if (s.step < 0) != reverse:
            part = self.flip(part, dims=(0,))
        result: Value = self.reshape(part, shape=(count, *s.shape))
        return result


def _block(
    F: GraphBuilder,
    block: Sequence[Node],
    plan: _Plan,
    state: Sequence[Value],
    elements: Sequence[Value],
    weights: Sequence[Value],
) -> dict[Value, Value]:
    """Append the nodes of the first turn to a body; what stands there for each of their results."""
    given = {"carry": state, "sequence": elements, "invariant": weights}
    inside: dict[Value, Value] = {}
    for j, node in enumerate(block):
        if j in plan.elements:
            inside[node.outputs[0]] = elements[plan.elements[j]]
        if j in plan.outside:
            continue
        operands = []
        for k, value in enumerate(node.inputs):
            what = plan.operands.get((j, k))
            operands.append(inside[value] if what is None else given[what[0]][what[1]])
        outputs = tuple(Value(F.fresh_name(), v.type) for v in node.outputs)
        F.nodes.append(Node(node.op, tuple(operands), node.attrs, outputs, node.location))
        inside.update(zip(node.outputs, outputs))
    return inside
