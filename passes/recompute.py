"""Recomputation: less memory for a training step, by computing values again where the backward part reads them.

Where a step needs most memory, about where forward turns to backward, most of it is what the forward part keeps for the
backward one; that a network needs to keep no more than a part of its activations is Chen et al., "Training Deep Nets
with Sublinear Memory Cost", 2016. At a price for work, what to keep is a minimum cut (`recompute_cut.py`): the lower
the price, the less is kept. What the price must be for a given amount of memory is searched for here: each plan is
fused, and the lifetimes of what the kernels leave in memory tell its peak (`recompute_schedule.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph, Node
from .fusion import Fusion
from .recompute_cut import Cut, work
from .recompute_schedule import Schedule

# Sizes that depend on a symbolic dim are compared as if it were this, or the nearest value it may have.
TYPICAL_DIM = 64
# Halvings of the interval of prices that holds the right one; cuts of one plan.
HALVINGS, ROUNDS = 2, 4
# Of the lowest peak: work that saves less is not worth it.
NEAR = 1.02


@dataclass(frozen=True)
class Recomputation:
    """What the pass did. `peak_before`, `peak`: bytes of values in memory at most, before and after, scratch memory of
    kernels not counted; `nodes`: what is computed again, `work`: operations, about."""

    graph: Graph
    peak_before: int
    peak: int
    nodes: tuple[Node, ...] = ()
    work: int = 0


def typical_dims(graph: Graph) -> dict[str, int]:
    """Values of the graph's symbolic dims by which sizes are compared."""
    return {s.name: min(max(TYPICAL_DIM, s.low), s.high) for s in graph.symbols}


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
        bindings = {s.name: s.high for s in graph.symbols} if in_bytes else typical_dims(graph)
        schedule = Schedule(graph, Fusion(self.fuse, strict=self.strict), bindings)
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


# After which launch, and what is computed again.
_CutMade = tuple[int, frozenset[Node]]


class _Search:
    """Plans by price."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        self.nothing = Recomputation(schedule.graph, schedule.peak, schedule.peak)
        self.prices = Cut(schedule, schedule.at).prices()
        self._plans: dict[float | None, Recomputation] = {}
        self._rounds: dict[tuple[_CutMade, ...], Schedule] = {}

    def plan(self, price: float | None) -> Recomputation:
        """The plan at a price in bytes for an operation; None: only what is cheap is computed again.

        Cuts are made after the launch at which there is most, or before it. Where one moves the peak elsewhere, there is
        another one there, as long as that helps."""
        if price not in self._plans:
            schedule, cuts = self.schedule, tuple[_CutMade, ...]()
            for _ in range(ROUNDS):
                for at in (schedule.at, schedule.at - 1):
                    again = Cut(schedule, at).computed_again(price)
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
