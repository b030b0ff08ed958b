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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar

from ..ir.dims import DimLike
from ..ir.graph import Graph, Node
from ..ir.half_precision import widens
from .fusion_build import Group, build_fused
from .fusion_columns import join_column_sums, sums_columns
from .fusion_gates import join_gates
from .fusion_index import Space, needs_memory, normal
from .fusion_loops import join_concatenations, joins, merge_dependent_loops
from .fusion_partition import PURE_VIEWS, Partition, Reason, Refusal, is_operand_view
from .fusion_traffic import compute_again, give_back
from .host import placed_lowering, runs_on_host
from .regions import own_results, with_bodies, with_group_names
from .waiting import Waits, without_waits

# Groups of one node, which nothing joins.
ALONE = ("single", "host", "scan", "attention")
ANCHORS = {name: name for name in ("reduce", "contraction", "window", "attention")}


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
        fuser = _Fuser(graph, self, waits)
        fuser.run()
        partition = fuser.partition
        fused = build_fused(graph, partition.groups, partition.inlined, fuser.accepts, waits)
        return FusionReport(fused, partition.refusals)

    def _with_fused_steps(self, graph: Graph) -> Graph:
        """Groups have names of their own in the whole program: those of scan number n begin with step_n."""
        numbers = count()

        def fused(body: Graph) -> Graph:
            name = f"step_{next(numbers)}"
            return with_group_names(replace(self.run(own_results(body)), name=name), f"{name}_")

        return with_bodies(graph, fused)


def kind_of(node: Node) -> str:
    """The kind of a group that holds just this node."""
    lowering = placed_lowering(node)
    if lowering == "host":
        return "host"
    if lowering == "region":
        return "scan"
    if lowering in ("pointwise", "view", "constant"):
        return "loop"
    if lowering == "reduce" and node.op.combine is None:
        return "single"
    return ANCHORS.get(lowering, "single")


def space_of(node: Node) -> Space:
    """The space of a group around this node."""
    if kind_of(node) == "reduce":
        operand = node.inputs[0].type
        dims = tuple(sorted(d for d in node.attrs["dims"] if d < operand.rank))
        return Space(operand.shape, dims)
    return Space(node.outputs[0].type.shape, linear=kind_of(node) in ("loop", "contraction"))


def _root(into: Mapping[Group, Group], group: Group) -> Group:
    """The group that this one has become part of."""
    while group in into:
        group = into[group]
    return group


class _Fuser:
    def __init__(self, graph: Graph, options: Fusion, waits: Waits):
        self.options = options
        self.graph = graph
        self.partition = Partition(graph, waits)
        self._space_reads: dict[tuple[Node, DimLike], tuple[list[Node], set[str]]] = {}

    def run(self) -> None:
        self._inline_free_nodes()
        self._inline_widened_operands()
        for node in self.graph.nodes:
            if kind_of(node) != "loop" and node not in self.partition.inlined:
                self.partition.add_group(kind_of(node), node, space_of(node))
        self._inline_for_pointwise_readers()
        if not self.options.strict:
            self._join_anchors()
        self._join_producers({"loop"})
        merge_dependent_loops(self.partition, self._why_not_hold)
        join_concatenations(self.partition, self._why_not_hold)
        if not self.options.strict:
            join_gates(self.partition)
            compute_again(self.partition, self.options.cheap // 2, self._takes_copies, self._fits)
        self._merge_small_loops()

    def _join_anchors(self) -> None:
        """What stands around contractions, reductions and windows joins them."""
        anchored = {"contraction", "window", "reduce"}
        # Scalars last: a loss' last division must not tie two small reductions together before the passes
        # over
        # large arrays, which it may stand between, have found each other.
        self._join_producers(anchored, scalars=False)
        self._merge_reductions()
        give_back(self.partition, self._why_not_hold)
        self._join_producers(anchored)
        self._merge_reductions()
        self._join_consumers()
        self._space_reads.clear()
        join_column_sums(self.partition, self._why_not_hold, lambda a, b: bool(self._links([a, b])))

    def _unplaced(self) -> list[Node]:
        p = self.partition
        return [n for n in self.graph.nodes if n not in p.group_of and n not in p.inlined]

    # What is computed wherever it is read

    def _inline_free_nodes(self) -> None:
        p = self.partition
        for node in self.graph.nodes:
            scalar = node.op.lowering == "pointwise" and p.numel(node) == 1 and not runs_on_host(node)
            scalar = scalar and all(v.type.numel == 1 for v in node.inputs) and not p.is_returned(node)
            if self.options.strict and not all(kind_of(reader) == "loop" for reader in p.consumers(node)):
                continue
            if (
                node.op.lowering == "constant"
                or node.op.name in PURE_VIEWS
                or (scalar and p.cost(node) <= self.options.cheap and self._reads_no_result(node))
            ):
                p.inline(node)

    def _inline_widened_operands(self) -> None:
        """Short numbers that contractions want wide are converted as they are loaded. Not where results must be those of
        the ops one by one: such a product may be rounded in another order (`codegen/packed.py`)."""
        p = self.partition
        if self.options.strict:
            return
        for node in self._unplaced():
            if widens(node) and not p.is_returned(node):
                lowerings = {reader.op.lowering for reader in p.consumers(node)}
                if "contraction" in lowerings and lowerings <= {"contraction", "pointwise", "reduce"}:
                    p.inline(node)

    def _reads_no_result(self, node: Node) -> bool:
        """Whether all that a node reads, through inlined nodes, are inputs of the graph: then it delays
        nothing."""
        return not self.partition.sources(node)

    def _inline_for_pointwise_readers(self) -> None:
        """Cheap functions of one array, such as the mask of a relu's gradient: their readers read that
        array instead."""
        p = self.partition
        for node in reversed(self._unplaced()):
            if node.op.lowering != "pointwise" or p.is_returned(node) or not self._is_light(node, 2):
                continue
            readers = p.consumers(node)
            if readers and all(placed_lowering(r) == "pointwise" for r in readers):
                p.inline(node)

    def _is_light(self, node: Node, cost: int) -> bool:
        """Whether recomputing the node costs little: few operations, and no more than one array to read."""
        p = self.partition
        if p.cost(node) > cost or len(p.consumers(node)) > 4:
            return False
        return len(self._arrays(node)) <= 1

    def _arrays(self, node: Node) -> set[str]:
        """The arrays of the node's own size that it reads, through inlined nodes."""
        p = self.partition
        found: set[str] = set()
        stack = list(node.inputs)
        while stack:
            value = stack.pop()
            inner = p.enter(value)
            if inner is not None:
                stack.extend(inner.inputs)
            elif value.type.numel == node.outputs[0].type.numel:
                found.add(value.name)
        return found

    # A node joins the group of what it reads

    def _join_producers(self, kinds: set[str], scalars: bool = True) -> None:
        p = self.partition
        for node in self._unplaced():
            if not scalars and p.numel(node) == 1:
                continue
            groups = {p.group_of[s]: s for s in p.sources(node) if s in p.group_of}
            for group, source in sorted(
                groups.items(), key=lambda pair: p.position[pair[0].nodes[-1]], reverse=True
            ):
                if group.kind not in kinds:
                    continue
                reason = self._why_not_join(group, node)
                if reason is None:
                    p.place(node, group)
                    break
                p.refuse(source, node, reason)
            else:
                if "loop" in kinds:
                    p.add_group("loop", node, space_of(node))

    def _why_not_join(self, group: Group, node: Node) -> Reason | None:
        p = self.partition
        if node.op.lowering != "pointwise" and group.kind != "loop":
            return Reason.KIND
        space = p.spaces[group]
        natural = space.natural(node.outputs[0])
        if natural is None:
            return Reason.DIFFERENT_SPACE
        return self._why_not_hold(group, [node])

    def _why_not_hold(self, group: Group, nodes: Sequence[Node]) -> Reason | None:
        """Whether the group could have these nodes as well: everything in it is read where it stands, and
        no cycle."""
        p = self.partition
        members = {*group.nodes, *nodes}
        most = self.options.max_outputs
        if len(members) > self.options.max_nodes or (len(members) > most and self._outputs(members) > most):
            return Reason.TOO_LARGE
        if not self._reads_in_place(p.spaces[group], members, group):
            return Reason.ANOTHER_INDEX
        if self._adds_no_path(group, nodes) or not p.creates_cycle(members):
            return None
        return Reason.CYCLE

    def _adds_no_path(self, group: Group, nodes: Sequence[Node]) -> bool:
        """Whether it is plain that no cycle arises: a single node that reads nothing but the group, or that nothing
        but the group reads. A way out of the group and back through it would have been one before."""
        if len(nodes) != 1:
            return False
        inside = set(group.nodes)
        sources, readers = self.partition.sources(nodes[0]), self.partition.consumers(nodes[0])
        return any(near and inside.issuperset(near) for near in (sources, readers))

    def _outputs(self, members: set[Node]) -> int:
        p = self.partition
        return sum(p.is_returned(n) or any(c not in members for c in p.consumers(n)) for n in members)

    def _reads_in_place(self, space: Space, members: set[Node], group: Group) -> bool:
        """Whether each member reads the results of members at their natural indices."""
        p = self.partition
        anchor = group.anchor if group.kind in ("contraction", "window", *ALONE) else None
        for node in members:
            if node is anchor:
                if any(source in members for source in p.sources(node)):
                    return False
                continue
            at = space.natural(node.outputs[0])
            if node.op.lowering == "reduce":
                at = space.natural(node.inputs[0])
            if at is not None:
                reads = p.reads(node, at)
            elif group.kind == "loop" and joins(node, space):
                reads = [
                    pair for v in node.inputs for pair in p.through(v, normal(space.point, v.type.shape))
                ]
            else:
                return False
            for value, where in reads:
                source = p.producer.get(value)
                if source in members and (space.natural(value) != where or sums_columns(source, space)):
                    return False
        return True

    # Reductions over the same rows

    def _merge_reductions(self) -> None:
        """The largest first: small ones must not stand in the way of a pass over a large array less."""
        p = self.partition
        groups = [g for g in p.groups if g.kind == "reduce"]
        groups.sort(key=lambda g: (-p.numel_of(p.spaces[g].shape), p.position[g.nodes[0]]))
        self._space_reads.clear()
        # A pair that was refused is tried again when one of the two has grown.
        refused: set[tuple[Group, Group, int, int]] = set()
        merged = True
        while merged:
            merged = False
            into: dict[Group, Group] = {}
            for first, second, link in self._links(groups):
                first, second = _root(into, first), _root(into, second)
                attempt = (first, second, len(first.nodes), len(second.nodes))
                if first is second or attempt in refused:
                    continue
                reason: Reason | None = Reason.DIFFERENT_REDUCTION
                if p.spaces[first] == p.spaces[second]:
                    reason = self._why_not_hold(first, second.nodes)
                if reason is not None:
                    p.refuse(*link, reason)
                    refused.add(attempt)
                    continue
                p.merge(first, second)
                into[second] = first
                groups.remove(second)
                merged = True

    def _links(self, groups: Sequence[Group]) -> list[tuple[Group, Group, tuple[Node, Node]]]:
        """The pairs of groups of which one reads from the other, or both from the same array, in the order of the
        groups; with each pair a node of one and one of the other to tell it by."""
        p = self.partition
        rank = {group: i for i, group in enumerate(groups)}
        found: dict[tuple[int, int], tuple[Node, Node]] = {}
        readers: dict[str, list[tuple[int, Node]]] = {}
        for i, group in enumerate(groups):
            for node in group.nodes:
                sources, arrays = self._reads_of_space(node, p.spaces[group])
                for source in sources:
                    j = rank.get(p.group_of.get(source, group), i)
                    if j != i:
                        found.setdefault((min(i, j), max(i, j)), (source, node))
                for name in arrays:
                    readers.setdefault(name, []).append((i, node))
        for entries in readers.values():
            for at, (i, node) in enumerate(entries):
                for j, other in entries[at + 1 :]:
                    if i != j:
                        found.setdefault((i, j), (node, other))
        return [(groups[i], groups[j], found[i, j]) for i, j in sorted(found)]

    def _reads_of_space(self, node: Node, space: Space) -> tuple[list[Node], set[str]]:
        """The nodes that a node reads from and the arrays of the space; remembered: merging groups changes
        neither."""
        key = (node, space.numel)
        if key not in self._space_reads:
            self._space_reads[key] = (self.partition.sources(node), self._arrays_of_space(node, space))
        return self._space_reads[key]

    def _arrays_of_space(self, node: Node, space: Space) -> set[str]:
        """The arrays as large as the space that a node reads, through nodes that are inlined or not yet
        placed."""
        p = self.partition
        found: set[str] = set()
        seen: set[Node] = set()
        stack = list(node.inputs)
        while stack:
            value = stack.pop()
            inner = p.producer.get(value)
            if inner is not None and inner not in p.group_of:
                if inner not in seen:
                    seen.add(inner)
                    stack.extend(inner.inputs)
            elif value.type.numel == space.numel:
                found.add(value.name)
        return found

    # A node joins the group of what reads it

    def _join_consumers(self) -> None:
        p = self.partition
        for node in reversed(self._unplaced()):
            readers = p.consumers(node)
            if not readers or node.op.lowering not in ("pointwise", "view"):
                continue
            units = {p.group_of.get(r, r) for r in readers}
            (unit, *others) = units
            if not others and isinstance(unit, Group):
                reason = self._why_not_feed(unit, node)
                if reason is None:
                    p.place(node, unit)
                    continue
            else:
                reason = Reason.CONSUMER_OUTSIDE
            blocked = self._why_not_inline(node, readers)
            if blocked is None:
                p.inline(node)
                continue
            for reader in readers:
                p.refuse(node, reader, blocked if reason is Reason.CONSUMER_OUTSIDE else reason)

    def _why_not_feed(self, group: Group, node: Node) -> Reason | None:
        p = self.partition
        if group.kind in ALONE or node.op.lowering != "pointwise":
            return Reason.KIND
        if group.kind in ("contraction", "window") and group.anchor in p.consumers(node):
            return Reason.OPERAND_IN_MEMORY
        if not p.spaces[group].holds(node.outputs[0]):
            return Reason.DIFFERENT_SPACE
        return self._why_not_hold(group, [node])

    def _why_not_inline(self, node: Node, readers: list[Node]) -> Reason | None:
        """Whether the node may be computed anew by each of its readers."""
        p = self.partition
        if node.op.lowering != "pointwise" or p.is_returned(node):
            return Reason.CONSUMER_OUTSIDE
        for reader in readers:
            group = p.group_of.get(reader)
            if group is not None and not self._takes_copies(group, reader):
                return Reason.OPERAND_IN_MEMORY
        times = sum(self._times_read(reader, node) for reader in readers)
        light = self._is_light(node, self.options.cheap)
        if (times > 1 or len(readers) > 1) and not (light and times * p.cost(node) <= 4 * self.options.cheap):
            return Reason.RECOMPUTED
        alone = len(readers) == 1 and p.group_of.get(readers[0]) is None
        if alone and space_of(readers[0]).holds(node.outputs[0]) and self._is_natural(node, readers[0]):
            return Reason.CONSUMER_OUTSIDE  # no need: they will form a loop together
        p.inline(node)
        held = {p.group_of[r] for r in readers if r in p.group_of}
        fits = all(map(self._fits, held))
        p.materialize(node)
        return None if fits else Reason.ANOTHER_INDEX

    def _fits(self, group: Group) -> bool:
        """Whether the group's members read one another where they stand; gates stand at several places."""
        space = self.partition.spaces[group]
        return group.kind != "gates" and self._reads_in_place(space, set(group.nodes), group)

    def _takes_copies(self, group: Group, reader: Node) -> bool:
        """Whether the group computes inlined arithmetic that this node of it reads."""
        return group.kind not in ALONE and not (group.kind == "contraction" and reader is group.anchor)

    def _is_natural(self, node: Node, reader: Node) -> bool:
        p = self.partition
        space = space_of(reader)
        at = space.natural(reader.outputs[0])
        if at is None or reader.op.lowering not in ("pointwise", "view"):
            return False
        return all(
            where == space.natural(value) for value, where in p.reads(reader, at) if value in node.outputs
        )

    def _times_read(self, reader: Node, node: Node) -> int:
        """How often the reader's kernel computes an element of the node, about."""
        p = self.partition
        size = max(p.numel(node), 1)
        if reader.op.lowering == "window":
            kernel, stride = reader.attrs["kernel"], reader.attrs["stride"]
            times = 1
            for k, s in zip(kernel, stride):
                times *= -(-k // s)
            return times
        if reader.op.lowering == "reduce":
            return max(1, p.numel_of(reader.inputs[0].type.shape) // size)
        if reader.op.lowering not in ("pointwise", "view"):
            return 1
        at = space_of(reader).point
        reads = sum(value in node.outputs for value, _ in p.reads(reader, at))
        if reader.op.lowering == "view":
            return reads  # padding and the like read each element at most once
        return reads * max(1, p.numel(reader) // size)

    # Loops side by side

    def _merge_small_loops(self) -> None:
        """Independent small loops become one kernel, so that an optimizer's step is not a launch per
        parameter. What reads the graph's inputs alone, such as a step's bias corrections, waits for nothing else: what
        waits for it in turn would hold its operands in memory for as long."""
        p = self.partition
        loops = [
            g
            for g in p.groups
            if g.kind == "loop" and p.numel_of(p.spaces[g].shape) <= self.options.merge_below
        ]
        of_inputs = {g for g in loops if all(p.group_of.get(s) is g for n in g.nodes for s in p.sources(n))}
        for side in (of_inputs, set(loops) - of_inputs):
            self._merge_side_by_side([g for g in loops if g in side])

    def _merge_side_by_side(self, loops: Sequence[Group]) -> None:
        p = self.partition
        current: Group | None = None
        for group in loops:
            if current is None:
                current = group
                continue
            members = {*current.nodes, *group.nodes}
            if (
                len(members) <= self.options.max_nodes
                and self._outputs(members) <= 2 * self.options.max_outputs
                and not self._depend(current, group)
                and not p.creates_cycle(members)
            ):
                space = p.spaces[current]
                p.merge(current, group)
                p.spaces[current] = space
            else:
                current = group

    def _depend(self, first: Group, second: Group) -> bool:
        p = self.partition
        pairs = ((first, second), (second, first))
        return any(p.group_of.get(s) is a for a, b in pairs for n in b.nodes for s in p.sources(n))

    # What groups hold besides their own nodes

    def accepts(self, group: Group, node: Node, consumer: Node) -> bool:
        """Whether the group takes a copy of an inlined node that one of its nodes reads."""
        if needs_memory(consumer) or group.kind == "scan":
            return False
        if group.kind in ("contraction", "gates") and consumer in self._operand_path(group):
            return is_operand_view(node) and not needs_memory(node)
        if group.kind in ("single", "host", "attention"):
            is_random = group.anchor.op.lowering == "random"
            return not is_random and (node.op.lowering == "constant" or node.op.name in PURE_VIEWS)
        return True

    def _operand_path(self, group: Group) -> set[Node]:
        """The contraction, and the inlined views through which it reads its operands."""
        p = self.partition
        path = {group.anchor}
        stack = [group.anchor]
        while stack:
            for value in stack.pop().inputs:
                inner = p.enter(value)
                if inner is not None and is_operand_view(inner) and inner not in path:
                    path.add(inner)
                    stack.append(inner)
        return path
