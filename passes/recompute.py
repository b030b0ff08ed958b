"""Recomputation: less memory for a training step, by computing values again where the backward part reads them.

Where a step needs most memory, about where forward turns to backward, most of it is what the forward part keeps for the
backward one. What to keep is a minimum cut, as in functorch's min-cut rematerialization partitioner (Horace He; PyTorch,
`torch/_functorch/partitioners.py`); that a network needs to keep no more than a part of its activations is Chen et al.,
"Training Deep Nets with Sublinear Memory Cost", 2016. A value that is kept costs its bytes, a node that is computed
again its work times a price; the cheapest set of both that gives the later launches all they read is a minimum cut. The
lower the price, the less is kept. What the price must be for a given amount of memory is searched for: each plan is
fused, and the lifetimes of what the kernels leave in memory tell its peak.

Arithmetic, views and fills are computed again for nothing. So are random numbers, whose price is their work: they are
functions of the generator's state and the element's index, hence the same. Never what runs on the host, fails or tells a
size. What is computed again stands right before the first launch that reads it, and reads its operands through `later`,
so that neither CSE nor fusion makes it one with what was computed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from ..ir.dims import DimLike, evaluate, product
from ..ir.graph import Graph, Node, Value, told_symbols
from ..ir.op import op_named
from .dce import DeadCodeElimination
from .fusion import Fusion
from .fusion_partition import COSTS, PURE_VIEWS
from .host import runs_on_host
from .memory_plan import Interval, lower_bound

# Sizes that depend on a symbolic dim are compared as if it were this, or the nearest value it may have.
TYPICAL_DIM = 64
# Prices tried at first, from the highest to the lowest; so many halvings of the interval that holds the right one; cuts
# of one plan.
PRICES, HALVINGS, ROUNDS = 7, 2, 4
# Of the lowest peak: work that saves less is not worth it.
NEAR = 1.02
# What a byte weighs in a cut, so that prices below a byte an operation, and choices among equals, are integers.
BYTE = 64
RANDOM_WORK = 40  # operations for a Philox number, about


@dataclass(frozen=True)
class Recomputation:
    """What the pass did. `peak_before`, `peak`: bytes of values in memory at most, before and after, scratch memory of
    kernels not counted; `nodes`: what is computed again, `work`: operations, about."""

    graph: Graph
    peak_before: int
    peak: int
    nodes: tuple[Node, ...] = ()
    work: int = 0


def recomputed(before: Graph, after: Graph) -> list[Node]:
    """The nodes that the pass added to a graph: those that compute something again."""
    known = set(before.values())
    return [n for n in after.nodes if n.op.name != "later" and known.isdisjoint(n.outputs)]


@dataclass(frozen=True)
class Recompute:
    """`budget`: an int is bytes, from which `slack` goes off for what is not counted here. A float is a share: at 1.0
    what is cheap is computed again, as PyTorch's compiler does by default; below, the peak is to be at most so much of
    the peak at 1.0; at 0.0 it is as low as can be. Where no plan is within the budget, the one with the lowest peak is
    taken. `strict`, `fuse`: how the graph will be fused."""

    budget: float | int
    slack: int = 0
    strict: bool = False
    fuse: bool = True
    name: ClassVar[str] = "recompute"

    def run(self, graph: Graph) -> Graph:
        return self.run_with_report(graph).graph

    def run_with_report(self, graph: Graph) -> Recomputation:
        in_bytes = isinstance(self.budget, int)
        bindings = {
            s.name: s.high if in_bytes else min(max(TYPICAL_DIM, s.low), s.high) for s in graph.symbols
        }
        schedule = _Schedule(graph, Fusion(self.fuse, strict=self.strict), bindings)
        if not schedule.bytes_at:
            return Recomputation(graph, 0, 0)
        search = _Search(schedule)
        if in_bytes:
            target: float = self.budget - self.slack
            if schedule.peak <= target:
                return search.nothing
        else:
            target = self.budget * search.plan(None).peak
        return search.first_within(target)


class _Schedule:
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

    def computing_again(self, again: frozenset[Node], at: int) -> _Schedule:
        """The schedule with nodes of the launches up to `at` computed again after those."""
        copier = _Copier(self, again, at)
        copier.run()
        return _Schedule(copier.graph(), self.fusion, self.bindings)

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


# After which launch, and what is computed again.
_CutMade = tuple[int, frozenset[Node]]


class _Search:
    """Plans by price."""

    def __init__(self, schedule: _Schedule):
        self.schedule = schedule
        self.nothing = Recomputation(schedule.graph, schedule.peak, schedule.peak)
        self.prices = _Cut(schedule, schedule.at).prices()
        self._plans: dict[float | None, Recomputation] = {}
        self._rounds: dict[tuple[_CutMade, ...], _Schedule] = {}

    def plan(self, price: float | None) -> Recomputation:
        """The plan at a price in bytes for an operation; None: only what is cheap is computed again.

        Cuts are made after the launch at which there is most, or before it. Where one moves the peak elsewhere, there is
        another one there, as long as that helps."""
        if price not in self._plans:
            schedule, cuts = self.schedule, tuple[_CutMade, ...]()
            for _ in range(ROUNDS):
                for at in (schedule.at, schedule.at - 1):
                    again = _Cut(schedule, at).computed_again(price)
                    key = (*cuts, (at, again))
                    if again and key not in self._rounds:
                        self._rounds[key] = schedule.computing_again(again, at)
                    if again and self._rounds[key].peak < schedule.peak:
                        break
                else:
                    break
                cuts = key
                schedule = self._rounds[key]
            copies = recomputed(self.schedule.graph, schedule.graph)
            spent = sum(work(node, schedule.bindings) for node in copies)
            self._plans[price] = Recomputation(
                schedule.graph, self.schedule.peak, schedule.peak, tuple(copies), spent
            )
        return self._plans[price]

    def _useful_prices(self) -> Iterator[float]:
        """The prices, down to where less is kept but peaks rise: ways back that are too long hold as much again."""
        rises, before = 0, self.plan(None).peak
        for price in self.prices:
            yield price
            peak = self.plan(price).peak
            rises = rises + 1 if peak > before else 0
            if rises == 2:
                return
            before = peak

    def least(self) -> Recomputation:
        """The plan with the lowest peak, or near it for less work, looked for on both sides of the best price too."""
        prices = list(self._useful_prices())
        peaks = [self.plan(price).peak for price in prices]
        if peaks and min(peaks) < self.plan(None).peak:
            at = peaks.index(min(peaks))
            for low, high in zip(prices[max(at - 1, 0) : at + 1], prices[max(at, 1) : at + 2]):
                self.plan((low * high) ** 0.5)
        plans = [self.nothing, *self._plans.values()]
        enough = NEAR * min(p.peak for p in plans)
        return min((p for p in plans if p.peak <= enough), key=lambda p: (p.work, p.peak))

    def first_within(self, target: float) -> Recomputation:
        """The plan that computes least again among those whose peak is within the target; where none is, the one with
        the lowest peak."""
        if self.plan(None).peak <= target:
            return self.plan(None)
        price = high = None
        for price in self._useful_prices():
            if self.plan(price).peak <= target:
                break
            high = price
        else:
            best = self.least()
            if best.peak > target:
                return best
        for _ in range(HALVINGS if high is not None and self.plan(price).peak <= target else 0):
            assert high is not None and price is not None
            middle = (high * price) ** 0.5
            if self.plan(middle).peak <= target:
                price = middle
            else:
                high = middle
        return min((p for p in self._plans.values() if p.peak <= target), key=lambda p: (p.work, p.peak))


class _Cut:
    """The network of which plans are minimum cuts.

    A node on the sink's side is computed again, a value there is wanted by what comes later; where the value is wanted
    and its node is not computed again, it is kept.
    """

    def __init__(self, schedule: _Schedule, at: int):
        """A cut after the launch of this number."""
        self.schedule = schedule
        ahead = [n for members in schedule.launches[: at + 1] for n in members]
        producer = {v: n for n in ahead for v in n.outputs}
        read = [v for members in schedule.launches[at + 1 :] for n in members for v in n.inputs]
        self.read = [v for v in dict.fromkeys(read) if v in producer]
        told = {s.name for n in schedule.graph.nodes for s in told_symbols(n)}
        wanted: dict[Node, None] = {}
        stack = list(self.read)
        while stack:
            node = producer.get(stack.pop())
            if node is not None and node not in wanted:
                wanted[node] = None
                stack.extend(_read(node))
        self.nodes = [n for n in ahead if n in wanted]
        self.fixed = {n for n in self.nodes if not _may_run_twice(n, told)}
        self.works = {
            n: work(n, schedule.bindings) for n in self.nodes if n not in self.fixed and not is_cheap(n)
        }

    def prices(self) -> list[float]:
        """In equal steps of their logarithms, from where no dear node is worth its work to where all are."""
        size = {n: sum(map(self.schedule.nbytes, n.outputs)) for n in self.works}
        ratios = [size[n] / spent for n, spent in self.works.items() if spent and size[n]]
        if not ratios:
            return []
        high, low = 2 * max(ratios), min(ratios) / 8
        return [high * (low / high) ** (i / (PRICES - 1)) for i in range(PRICES)]

    def computed_again(self, price: float | None) -> frozenset[Node]:
        import networkx
        from networkx.algorithms.flow import boykov_kolmogorov

        network = networkx.DiGraph()
        network.add_nodes_from(["source", "sink"])
        returned, inlined = set(self.schedule.graph.outputs), self.schedule.inlined
        count = len(self.nodes)
        for position, node in enumerate(self.nodes):
            if node in self.fixed or (node in self.works and price is None):
                network.add_edge("source", node)
            elif node in self.works and price is not None:
                # Of equal layers the first are the ones to compute again: they are kept for longest.
                dearer = 1 + position / count
                network.add_edge("source", node, capacity=1 + int(price * self.works[node] * BYTE * dearer))
            elif node not in inlined:
                network.add_edge("source", node, capacity=1)
            for value in _read(node):
                network.add_edge(value, node)
            for value in node.outputs:
                if node in inlined:
                    network.add_edge(node, value)
                elif value not in returned:
                    # Of equals, what a view was taken of: the view would be written out once more.
                    rest = 2 if node.op.lowering == "view" else 1
                    network.add_edge(node, value, capacity=self.schedule.nbytes(value) * BYTE + rest)
        for value in self.read:
            network.add_edge(value, "sink")
        _, (_, wanted) = networkx.minimum_cut(network, "source", "sink", flow_func=boykov_kolmogorov)
        return frozenset(n for n in self.nodes if n in wanted)


def _read(node: Node) -> Sequence[Value]:
    """What has to be there to compute the node again."""
    return node.inputs[:1] if node.op.name == "later" else node.inputs


def is_cheap(node: Node) -> bool:
    """Whether the node may be computed again without thought: arithmetic, views and fills."""
    return node.op.lowering in ("pointwise", "view", "constant") or node.op.name == "later"


def _may_run_twice(node: Node, told: set[str]) -> bool:
    if runs_on_host(node) or told_symbols(node) or node.op.lowering == "check":
        return False
    return not any(s.name in told for v in node.outputs for s in v.type.symbols)


def work(node: Node, bindings: Mapping[str, int]) -> int:
    """The node's operations, about."""
    if node.regions:
        steps = evaluate(node.attrs.get("length", 1), bindings)
        return steps * sum(work(inner, bindings) for body in node.regions for inner in body.nodes)
    if node.op.flops is not None:
        return evaluate(node.op.flops(*(v.type for v in node.inputs), **node.attrs), bindings)
    results = sum(evaluate(v.type.numel, bindings) for v in node.outputs)
    match node.op.lowering:
        case "view" | "constant" | "none":
            return 0
        case "pointwise":
            return COSTS.get(node.op.name, 1) * results
        case "random":
            return RANDOM_WORK * results
        case "window":
            kernel: Sequence[DimLike] = node.attrs.get("kernel", ())
            return results * evaluate(product(kernel), bindings)
    return results + sum(evaluate(v.type.numel, bindings) for v in node.inputs)


@dataclass
class _Copier:
    """Writes a graph down in the order of its launches, with what is computed again before the launch that first reads
    it."""

    schedule: _Schedule
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
                or any(self._is_anew(self.producer[v]) for v in _read(node) if v in self.producer)
            )
            self.anew[node] = known
        return known

    def _compute(self, values: Iterable[Value]) -> None:
        """Append the nodes that compute these values again, so far as that is how they are had."""
        for value in values:
            node = self.producer.get(value)
            if node is None or value in self.made or not self._is_anew(node):
                continue
            self._compute(_read(node))
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
