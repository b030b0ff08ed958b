"""A graph as it will be launched, for recomputation: what lies in memory when, and how values are computed again.

What is computed again stands right before the first launch that reads it, and reads its operands through `later`, so
that neither CSE nor fusion makes it one with what was computed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..ir.dims import evaluate
from ..ir.graph import Graph, Node, Value
from ..ir.op import op_named
from .dce import DeadCodeElimination
from .fusion import Fusion
from .fusion_partition import PURE_VIEWS
from .memory_plan import Interval, lower_bound


class Schedule:
    """A graph as it will be launched: its nodes by launch, what each launch leaves in memory, when there is most."""

    def __init__(self, graph: Graph, fusion: Fusion, bindings: Mapping[str, int]):
        self.graph = graph
        self.fusion = fusion
        self.bindings = bindings
        self.fused = fusion.run(graph)
        self.peak, self.bytes_at = footprint(self.fused, bindings)
        self.at = max(range(len(self.bytes_at)), key=self.bytes_at.__getitem__, default=0)

    def nbytes(self, value: Value) -> int:
        return evaluate(value.type.nbytes, self.bindings)

    @cached_property
    def launches(self) -> list[list[Node]]:
        """The nodes of the graph that each launch is the first to compute, in order."""
        made = {v.name: node for node in self.graph.nodes for v in node.outputs}
        seen: set[Node] = set()
        found: list[list[Node]] = []

        def reach(node: Node) -> None:
            """What the node reads comes before it, `later` and what is inlined with the first that reads it."""
            if node not in seen:
                seen.add(node)
                for value in node.inputs:
                    if value.name in made:
                        reach(made[value.name])
                found[-1].append(node)

        for launch in self.fused.nodes:
            found.append([])
            for member in launch.regions[0].nodes if launch.op.name == "fused" else (launch,):
                reach(made[member.outputs[0].name])
        return found

    def computing_again(self, again: frozenset[Node], at: int) -> Schedule:
        """The schedule with nodes of the launches up to `at` computed again after those."""
        copier = _Copier(self, again, at)
        copier.run()
        return Schedule(copier.graph(), self.fusion, self.bindings)

    @cached_property
    def inlined(self) -> set[Node]:
        """What is computed wherever it is read: keeping its value would be keeping what it reads."""
        owned = {v for launch in self.fused.nodes for v in launch.outputs}
        return {
            n
            for n in self.graph.nodes
            if n.op.name == "later"
            or ((n.op.lowering == "constant" or n.op.name in PURE_VIEWS) and owned.isdisjoint(n.outputs))
        }


def footprint(fused: Graph, bindings: Mapping[str, int]) -> tuple[int, list[int]]:
    """Bytes of values in memory: the most at a time, and at each launch. Inputs and outputs have places of their own."""
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for at, launch in enumerate(fused.nodes):
        last.update(dict.fromkeys(launch.inputs, at))
        first.update(dict.fromkeys(launch.outputs, at))
    own = set(first).difference(fused.outputs)
    sizes = {v: evaluate(v.type.nbytes, bindings) for v in own}
    intervals = []
    bytes_at = [0] * len(fused.nodes)
    for value in own:
        start, end = first[value], last.get(value, first[value])
        launch = fused.nodes[start]
        in_place = launch.attrs.get("kind") in ("loop", "reduce")
        partners = [v for v in launch.inputs if in_place and v in own and last[v] == start]
        names = tuple(v.name for v in partners if sizes[v] == sizes[value])
        intervals.append(Interval(value.name, sizes[value], start, end, names))
        for at in range(start, end + 1):
            bytes_at[at] += sizes[value]
    return lower_bound(intervals), bytes_at


def operands_read(node: Node) -> Sequence[Value]:
    """What has to be there to compute the node again."""
    return node.inputs[:1] if node.op.name == "later" else node.inputs


@dataclass
class _Copier:
    """Writes a graph down in the order of its launches, with what is computed again before the launch that first reads
    it."""

    schedule: Schedule
    again: frozenset[Node]
    cut: int
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        graph = self.schedule.graph
        self.producer = graph.producers()
        self.names = {v.name for v in graph.values()}
        self.made: dict[Value, Value] = {}  # what stands for a value after the peak
        self.delayed: dict[Value, Value] = {}  # operands of what is being computed again, through `later`
        self.after: Value | None = None
        self.anew: dict[Node, bool] = {}

    def run(self) -> None:
        schedule = self.schedule
        for at, members in enumerate(schedule.launches):
            if at <= self.cut:
                self.nodes += members
                continue
            self.after = self._last_kept() if at == self.cut + 1 else schedule.fused.nodes[at - 1].outputs[0]
            self.delayed = {}
            for node in members:
                self._compute(v for v in node.inputs)
            for node in members:
                inputs = tuple(self.made.get(v, v) for v in node.inputs)
                self.nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))

    def _last_kept(self) -> Value | None:
        """A value that is there at the cut and stays, the last of them."""
        later = {v for members in self.schedule.launches[self.cut + 1 :] for n in members for v in n.inputs}
        for launch in reversed(self.schedule.fused.nodes[: self.cut + 1]):
            for value in launch.outputs:
                if value in later and not self._is_anew(self.producer[value]):
                    return value
        return None

    def graph(self) -> Graph:
        return DeadCodeElimination().run(replace(self.schedule.graph, nodes=tuple(self.nodes)))

    def _is_anew(self, node: Node) -> bool:
        """Whether the node has to be there twice: not what fusion computes where it is read, from what is kept."""
        known = self.anew.get(node)
        if known is None:
            known = node in self.again and (
                node not in self.schedule.inlined
                or any(self._is_anew(self.producer[v]) for v in operands_read(node) if v in self.producer)
            )
            self.anew[node] = known
        return known

    def _compute(self, values: Iterable[Value]) -> None:
        """Append the nodes that compute these values again, so far as that is how they are had."""
        for value in values:
            node = self.producer.get(value)
            if node is None or value in self.made or not self._is_anew(node):
                continue
            self._compute(operands_read(node))
            if node.op.name == "later":
                self.made[value] = self.made[node.inputs[0]]
                continue
            inputs = tuple(self.made[v] if v in self.made else self._later(v) for v in node.inputs)
            outputs = tuple(Value(self._name(f"{v.name}_again"), v.type) for v in node.outputs)
            self.nodes.append(replace(node, inputs=inputs, outputs=outputs))
            self.made.update(zip(node.outputs, outputs))

    def _later(self, value: Value) -> Value:
        node = self.producer.get(value)
        if node is not None and node.op.lowering == "constant":
            return value
        if self.after is None:
            return value
        if value not in self.delayed:
            delayed = Value(self._name(f"{value.name}_later"), value.type)
            self.nodes.append(Node(op_named("later"), (value, self.after), {}, (delayed,)))
            self.delayed[value] = delayed
        return self.delayed[value]

    def _name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.names:
            name, number = f"{wanted}_{number}", number + 1
        self.names.add(name)
        return name
