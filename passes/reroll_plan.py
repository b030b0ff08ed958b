"""What a run of nodes that repeat is as a scan: which of its operands are states, sequences and invariants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ir.graph import Graph, Node, Value
from .cse import attrs_key
from .reroll_runs import Run


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
class ScanPlan:
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


def plan_of(graph: Graph, run: Run) -> ScanPlan | None:
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
    plan = ScanPlan(run)
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
        if turns[0].op.name in ("slice", "reshape"):
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
    plan: ScanPlan,
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
        while node is not None and node.op.name == "reshape":
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
