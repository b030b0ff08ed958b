"""Fusion: the nodes of a graph in groups, each of which becomes one kernel.

Greedy, by anchors. Contractions take the pointwise work on their results; reductions over the same rows
come together with what stands between them; pooling takes cheap work on its operands and the work on its
results; what is left forms loops. Constants and views, and arithmetic too cheap to go through memory, are
computed wherever they are read. Why two nodes are not in one kernel is recorded (`run_with_report`).

What runs on the host (`host.py`) is a group of its own, of kind `host`: nothing is fused across it.

    conv(x, w) -> add bias -> relu -> max_pool          [conv, add, relu] [max_pool]
    amax, sub, exp, sum, log, sub                       [log_softmax, one pass per reduction]
    matmul -> slices -> sigmoid, tanh, mul, add         [the gates of an LSTM] (`fusion_gates.py`)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import ClassVar

from ..ir.graph import Graph
from .fusion_build import Group, build_fused
from .fusion_columns import join_column_sums
from .fusion_expansion import join_expansions
from .fusion_gates import join_gates
from .fusion_inline import inline_for_pointwise_readers, inline_free_nodes, inline_widened_operands
from .fusion_join import join_consumers, join_producers
from .fusion_kinds import kind_of, space_of
from .fusion_legality import accepts
from .fusion_loops import join_concatenations, merge_dependent_loops, merge_small_loops
from .fusion_partition import Partition, Refusal
from .fusion_prologues import join_prologues
from .fusion_reductions import merge_reductions
from .fusion_traffic import compute_again, give_back
from .regions import own_results, with_bodies, with_group_names
from .waiting import without_waits


@dataclass(frozen=True)
class FusionReport:
    """The fused graph, and why pairs of a value and its reader were kept apart."""

    graph: Graph
    refusals: tuple[Refusal, ...]

    def __str__(self) -> str:
        lines = []
        for node in self.graph.nodes:
            ops = ", ".join(n.op.name for n in node.regions[0].nodes)
            name = f"{node.attrs['name']} ({node.attrs['kind']})" if node.op.name == "fused" else node.op.name
            lines.append(f"{name}: {ops}")
        return "\n".join([*lines, *map(str, self.refusals)])


@dataclass(frozen=True)
class Fusion:
    """`cheap`: operations per element that may be repeated to save a trip through memory. `max_nodes`,
    `max_outputs`: the largest group. `merge_below`: loops of at most this many elements are put side by
    side in one kernel. `strict`: only loops are put together, whose bits do not depend on company; in what order
    other kernels add up may depend on what they read."""

    enabled: bool = True
    cheap: int = 8
    max_nodes: int = 96
    max_outputs: int = 16
    merge_below: int = 1 << 16
    strict: bool = False
    name: ClassVar[str] = "fusion"

    def run(self, graph: Graph) -> Graph:
        return self.run_with_report(graph).graph

    def run_with_report(self, graph: Graph) -> FusionReport:
        """The body of a scan is fused by itself."""
        graph, waits = without_waits(self._with_fused_steps(graph))
        if not self.enabled:
            groups = [Group(kind_of(n), [n]) for n in graph.nodes]
            return FusionReport(
                build_fused(graph, groups, (), lambda group, node, consumer: False, waits), ()
            )
        p = Partition(graph, waits, self.max_nodes, self.max_outputs)
        self._fuse(p)
        fused = build_fused(graph, p.groups, p.inlined, partial(accepts, p), waits)
        return FusionReport(fused, p.refusals)

    def _with_fused_steps(self, graph: Graph) -> Graph:
        """Groups have names of their own in the whole program: those of scan number n begin with step_n."""
        numbers = count()

        def fused(body: Graph) -> Graph:
            name = f"step_{next(numbers)}"
            return with_group_names(replace(self.run(own_results(body)), name=name), f"{name}_")

        return with_bodies(graph, fused)

    def _fuse(self, p: Partition) -> None:
        """Place every node in a group, or have it computed where it is read."""
        inline_free_nodes(p, self.cheap, self.strict)
        if not self.strict:
            inline_widened_operands(p)
        for node in p.graph.nodes:
            if kind_of(node) != "loop" and node not in p.inlined:
                p.add_group(kind_of(node), node, space_of(node))
        inline_for_pointwise_readers(p)
        if not self.strict:
            self._join_anchors(p)
        join_producers(p, {"loop"})
        merge_dependent_loops(p)
        join_concatenations(p)
        if not self.strict:
            join_gates(p)
            compute_again(p, self.cheap // 2)
            join_prologues(p)
            join_expansions(p)
        merge_small_loops(p, self.merge_below)

    def _join_anchors(self, p: Partition) -> None:
        """What stands around contractions, reductions and windows joins them."""
        anchored = {"contraction", "window", "reduce"}
        # Scalars last: a loss' last division must not tie two small reductions together before the passes over large
        # arrays, which it may stand between, have found each other.
        join_producers(p, anchored, scalars=False)
        merge_reductions(p)
        give_back(p)
        join_producers(p, anchored)
        merge_reductions(p)
        join_consumers(p, self.cheap)
        join_column_sums(p)
