"""From a partition of a graph's nodes to a fused graph: bodies, their inputs and outputs, and the order of
groups.

A group owns its nodes. Besides, it gets copies of `inlined` nodes (constants, views, cheap arithmetic) that
it reads: they belong to no group, and are computed wherever they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import count

from ..ir.graph import Graph, IRError, Node, Value, replace_values, told_symbols
from ..ir.op import op_named
from ..ir.printer import node_symbols
from .host import runs_on_host
from .waiting import Waits


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel, in graph order. Compared by identity."""

    kind: str
    nodes: list[Node] = field(default_factory=list)
    name: str = ""

    @property
    def anchor(self) -> Node:
        """The node that gives the group its kind; for a loop group, its first."""
        wanted = {"gates": "contraction", "expansion": "contraction"}.get(self.kind, self.kind)
        return next((n for n in self.nodes if n.op.lowering == wanted), self.nodes[0])

    def __repr__(self) -> str:
        return f"<{self.kind} group of {', '.join(n.op.name for n in self.nodes)}>"


# Whether a group may hold a copy of an inlined node that `consumer`, one of its nodes, reads.
Accepts = Callable[[Group, Node, Node], bool]


def build_fused(
    graph: Graph,
    groups: Sequence[Group],
    inlined: Collection[Node],
    accepts: Accepts,
    waits: Waits,
) -> Graph:
    """The graph with a `fused` node for each group. Inlined nodes whose value must exist in memory (an
    output, or read by a group that does not take a copy) get a loop group of their own."""
    builder = _Builder(graph, inlined, accepts, waits)
    return builder.build(groups)


class _Builder:
    def __init__(self, graph: Graph, inlined: Collection[Node], accepts: Accepts, waits: Waits):
        self.graph = graph
        self.waits = waits
        self.inlined = set(inlined)
        self.accepts = accepts
        self.producer = graph.producers()
        self.position = {node: i for i, node in enumerate(graph.nodes)}

    def build(self, groups: Sequence[Group]) -> Graph:
        groups = list(groups)
        bodies = {g: self._members(g) for g in groups}
        owned = {node for g in groups for node in g.nodes}
        wanted = list(self.graph.outputs)
        wanted += [v for members in bodies.values() for v in self._reads(members)]
        while wanted:
            node = self.producer.get(wanted.pop())
            if node is not None and node not in owned:
                group = Group("host" if runs_on_host(node) else "loop", [node])
                groups.append(group)
                owned.add(node)
                bodies[group] = self._members(group)
                wanted += self._reads(bodies[group])
        memory = set(self.graph.outputs) | {v for m in bodies.values() for v in self._reads(m)}
        nodes = []
        for number, group in enumerate(self._ordered(groups, bodies)):
            name = group.name or f"{'host' if group.kind == 'host' else 'fused'}_{number}"
            nodes.append(self._fused(group, name, bodies[group], memory))
        return replace(self.graph, nodes=tuple(nodes))

    def _members(self, group: Group) -> list[Node]:
        """The group's nodes and the copies it takes, in graph order."""
        members = set(group.nodes)
        stack = list(group.nodes)
        while stack:
            consumer = stack.pop()
            for value in consumer.inputs:
                node = self.producer.get(value)
                if node is None or node in members or node not in self.inlined:
                    continue
                if self.accepts(group, node, consumer):
                    members.add(node)
                    stack.append(node)
        return sorted(members, key=self.position.__getitem__)

    def _reads(self, members: Sequence[Node]) -> list[Value]:
        """What comes from outside, in order of first use."""
        inside = {v for node in members for v in node.outputs}
        return list(dict.fromkeys(v for node in members for v in node.inputs if v not in inside))

    def _awaited(self, members: Sequence[Node]) -> set[Value]:
        """What these nodes wait for, as the partition saw it: in place of inlined nodes' results what those read, also
        where such a result has a group of its own, which may read the group that waits."""
        found: set[Value] = set()
        seen: set[Value] = set()
        stack = [v for node in members for v in self.waits.get(node, ())]
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            node = self.producer.get(value)
            if node in self.inlined:
                stack += [*node.inputs, *self.waits.get(node, ())]
            else:
                found.add(value)
        return found

    def _fused(self, group: Group, name: str, members: Sequence[Node], memory: Collection[Value]) -> Node:
        if group.kind == "scan":
            return group.anchor
        mapping: dict[Value, Value] = {}
        reads = self._reads(members)
        for value in reads:
            mapping[value] = Value(value.name, value.type)
        nodes = []
        for node in members:
            outputs = tuple(Value(v.name, v.type) for v in node.outputs)
            nodes.append(replace(node, inputs=replace_values(node.inputs, mapping), outputs=outputs))
            mapping.update(zip(node.outputs, outputs))
        results = tuple(v for node in group.nodes for v in node.outputs if v in memory)
        if not results and any(told_symbols(node) for node in group.nodes):
            results = group.nodes[0].outputs[:1]  # only its size is wanted
        if not results:
            raise IRError(f"{group}: nothing reads what it computes; run dead code elimination first")
        body = Graph(name, tuple(mapping[v] for v in reads), tuple(nodes), replace_values(results, mapping))
        op = op_named("fused")
        attrs = op.normalise_attrs({"name": name, "kind": group.kind})
        return Node(op, tuple(reads), attrs, results, group.anchor.location, (body,))

    def _ordered(self, groups: Sequence[Group], bodies: dict[Group, list[Node]]) -> list[Group]:
        """Groups after those they read from, else in the order of their anchors, or of the first that waits for them;
        IRError for a cycle.

        What reads a donated input comes before what computes the value written over it, where that is
        possible: then the new value can be written in place.
        """
        home = {v: g for g in groups for node in g.nodes for v in node.outputs}
        reads = {g: self._reads(bodies[g]) for g in groups}
        before = {g: {home[v] for v in values if v in home} for g, values in reads.items()}
        tellers = {s.name: g for g in groups for node in g.nodes for s in told_symbols(node)}
        for group in groups if tellers else ():
            used = {s.name for node in bodies[group] for s in node_symbols(node)}
            before[group] |= {tellers[name] for name in used & tellers.keys()} - {group}
        for group in groups if self.waits else ():
            before[group] |= {home[v] for v in self._awaited(bodies[group]) if v in home} - {group}
        for output, position in self.graph.aliases.items():
            writer = home.get(self.graph.outputs[output])
            if writer is None:
                continue
            old = self.graph.inputs[position]
            for reader in groups:
                if reader is not writer and old in reads[reader] and not _precedes(writer, reader, before):
                    before[writer].add(reader)
        rank = {g: self.position[g.anchor if g.kind != "loop" else g.nodes[-1]] for g in groups}
        followers: dict[Group, list[Group]] = {g: [] for g in groups}
        for group, sources in before.items():
            for source in sources:
                followers[source].append(group)
        _inherit(rank, before)
        missing = {g: len(sources) for g, sources in before.items()}
        number = count()
        ready = [(rank[g], next(number), g) for g in groups if not missing[g]]
        heapify(ready)
        order: list[Group] = []
        while ready:
            group = heappop(ready)[2]
            order.append(group)
            for follower in followers[group]:
                missing[follower] -= 1
                if not missing[follower]:
                    heappush(ready, (rank[follower], next(number), follower))
        if len(order) < len(groups):
            done = set(order)
            stuck = next(g for g in groups if g not in done)
            raise IRError(f"{stuck} is part of a cycle of groups")
        return order


def _inherit(rank: dict[Group, int], before: Mapping[Group, Collection[Group]]) -> None:
    """What a group waits for comes in time for it, wherever in the graph it stands: an optimizer's scalars, written down
    after the backward part, would hold back every update, and the gradients' operands with it."""
    for group in sorted(rank, key=rank.__getitem__):
        own = rank[group]
        stack = [group]
        while stack:
            for source in before[stack.pop()]:
                if rank[source] > own:
                    rank[source] = own
                    stack.append(source)


def _precedes(first: Group, second: Group, before: dict[Group, set[Group]]) -> bool:
    """Whether `second` has to come after `first`."""
    seen: set[Group] = set()
    stack = [second]
    while stack:
        group = stack.pop()
        if group is first:
            return True
        for source in before[group]:
            if source not in seen:
                seen.add(source)
                stack.append(source)
    return False
