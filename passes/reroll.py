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

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from ..ir.builder import GraphBuilder, element
from ..ir.graph import Graph, Node, Value
from .base import Rewriter
from .reroll_plan import ScanPlan, Sliding, Spread, plan_of
from .reroll_runs import runs

# How many runs are looked at for one that is a loop.
ATTEMPTS = 64


@dataclass(frozen=True)
class Reroll:
    """`least`: the fewest turns that are worth a loop. Only blocks that hold a contraction or the like are: a chain of
    pointwise nodes is better off as one kernel."""

    least: int = 8
    name: ClassVar[str] = "reroll"

    def run(self, graph: Graph) -> Graph:
        while True:
            for run in islice(runs(graph, self.least), ATTEMPTS):
                plan = plan_of(graph, run)
                if plan is not None:
                    graph = _rewritten(graph, plan)
                    break
            else:
                return graph


def _rewritten(graph: Graph, plan: ScanPlan) -> Graph:
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
    def scan_of(self, plan: ScanPlan) -> None:
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

    def _stand_for(self, plan: ScanPlan, j: int, k: int, t: int, value: Value) -> None:
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
    plan: ScanPlan,
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
