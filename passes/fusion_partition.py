"""A partition under construction: which group each node is in, what may join what, and why not."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from operator import itemgetter

from ..ir import dims
from ..ir.dims import DimLike
from ..ir.graph import Graph, Node, Value, told_symbols
from ..ir.half_precision import widens
from ..ir.printer import node_symbols
from ..ir.special_functions import FORMULAS
from .fusion_build import Group
from .fusion_index import Index, Space, reads
from .waiting import Waits

# Views that only rename indices: free wherever they are read.
PURE_VIEWS = frozenset({"reshape", "permute", "expand", "slice", "flip", "detach"})
# A contraction's operands are read through these, straight from memory.
OPERAND_VIEWS = frozenset({"reshape", "permute", "expand", "slice", "detach"})


def is_operand_view(node: Node) -> bool:
    """Sums of products are float32 for sixteen-bit factors anyway: that these are converted first costs nothing."""
    return node.op.name in OPERAND_VIEWS or widens(node)


# Operations, about, that a pointwise op takes; the others take one.
COSTS = {
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "sigmoid", "sin", "cos", "tan", "tanh", "erf"), 16),
    **dict.fromkeys(("asin", "acos", "atan", "asinh", "acosh", "atanh"), 24),
    **dict.fromkeys(("pow", "atan2"), 40),
    **dict.fromkeys(FORMULAS, 80),
    **dict.fromkeys(("div", "sqrt", "rsqrt", "reciprocal"), 4),
    **dict.fromkeys(("floor_divide", "remainder"), 8),
}


class Reason(StrEnum):
    """Why two nodes did not become one kernel."""

    DIFFERENT_SPACE = "different_iteration_space"
    DIFFERENT_REDUCTION = "different_reduction"
    ANOTHER_INDEX = "read_at_another_index"
    CYCLE = "would_create_cycle"
    CONSUMER_OUTSIDE = "consumer_outside"
    KIND = "kind_takes_no_such_node"
    ONE_ANCHOR = "one_anchor_per_group"
    RECOMPUTED = "would_be_recomputed"
    TOO_LARGE = "group_too_large"
    OPERAND_IN_MEMORY = "operand_must_be_in_memory"


@dataclass(frozen=True)
class Refusal:
    """Values by name: the producer's result was not computed in the consumer's kernel."""

    producer: str
    consumer: str
    reason: Reason

    def __str__(self) -> str:
        return f"%{self.producer} and %{self.consumer}: {self.reason}"


class Partition:
    """Nodes in groups, nodes that are inlined (computed wherever they are read), and nodes not yet placed. `max_nodes`,
    `max_outputs`: the largest group."""

    def __init__(self, graph: Graph, waits: Waits, max_nodes: int, max_outputs: int):
        self.graph = graph
        self.waits = waits
        self.max_nodes, self.max_outputs = max_nodes, max_outputs
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.producer = graph.producers()
        self.uses = graph.uses()
        self.returned = set(graph.outputs)
        self.group_of: dict[Node, Group] = {}
        self.inlined: set[Node] = set()
        self.spaces: dict[Group, Space] = {}
        self.tellers = {s.name: node for node in graph.nodes for s in told_symbols(node)}
        self._waiting: dict[Node, list[Node]] = defaultdict(list)
        for node, values in waits.items():
            for value in values:
                self._waiting[self.producer[value]].append(node)
        self._reasons: dict[tuple[Node, Node], Reason] = {}
        # What is remembered until something that it goes through is inlined, or no longer.
        self._consumers: dict[Node, list[Node]] = {}
        self._sources: dict[Node, list[Node]] = {}
        self._is_returned: dict[Node, bool] = {}
        self._reads: dict[Node, dict[Index, list[tuple[Value, Index]]]] = {}
        # The positions that groups reach over, from the first to the last, in order; groups only grow.
        self._stretches: list[tuple[int, int]] = []

    @property
    def groups(self) -> list[Group]:
        return sorted(set(self.group_of.values()), key=lambda g: self.position[g.nodes[0]])

    @property
    def unplaced(self) -> list[Node]:
        return [n for n in self.graph.nodes if n not in self.group_of and n not in self.inlined]

    def add_group(self, kind: str, node: Node, space: Space) -> Group:
        group = Group(kind, [node])
        self.group_of[node] = group
        self.spaces[group] = space
        return group

    def place(self, node: Node, group: Group) -> None:
        group.nodes = sorted([*group.nodes, node], key=self.position.__getitem__)
        self.group_of[node] = group
        self._stretch(group)

    def displace(self, node: Node) -> None:
        """Take a node out of its group, which keeps others."""
        group = self.group_of.pop(node)
        group.nodes = [n for n in group.nodes if n is not node]

    def merge(self, into: Group, other: Group) -> None:
        into.nodes = sorted([*into.nodes, *other.nodes], key=self.position.__getitem__)
        for node in other.nodes:
            self.group_of[node] = into
        del self.spaces[other]
        self._stretch(into)

    def inline(self, node: Node) -> None:
        self.inlined.add(node)
        self._forget_around(node)

    def materialize(self, node: Node) -> None:
        self.inlined.discard(node)
        self._forget_around(node)

    def _forget_around(self, node: Node) -> None:
        """Forget what goes through the node: what its readers read, and who reads its operands."""
        stack, seen = self._users(node), {node}
        while stack:
            user = stack.pop()
            if user in seen:
                continue
            seen.add(user)
            self._sources.pop(user, None)
            self._reads.pop(user, None)
            if user in self.inlined:
                stack += self._users(user)
        values, seen = [*node.inputs, *self._awaited(node)], {node}
        while values:
            source = self.producer.get(values.pop())
            if source is None or source in seen:
                continue
            seen.add(source)
            self._consumers.pop(source, None)
            self._is_returned.pop(source, None)
            if source in self.inlined:
                values += [*source.inputs, *self._awaited(source)]

    def refuse(self, producer: Node, consumer: Node, reason: Reason) -> None:
        """Record why; of several reasons for one pair the last one stands."""
        self._reasons[producer, consumer] = reason

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The pairs that are still apart, and why."""
        return tuple(
            Refusal(a.outputs[0].name, b.outputs[0].name, reason)
            for (a, b), reason in self._reasons.items()
            if a not in self.inlined and b not in self.inlined and self.group_of[a] is not self.group_of[b]
        )

    # What is read

    def enter(self, value: Value) -> Node | None:
        """The producer of a value that is computed where it is read."""
        node = self.producer.get(value)
        return node if node in self.inlined else None

    def reads(self, node: Node, index: Index) -> Iterable[tuple[Value, Index]]:
        """What a placed node reads at its natural index, through inlined nodes."""
        known = self._reads.setdefault(node, {})
        if index not in known:
            if node.op.lowering in ("pointwise", "view", "constant"):
                known[index] = list(reads(node, index, self.enter))
            else:
                known[index] = [pair for value in node.inputs for pair in self.through(value, index)]
        return known[index]

    def through(self, value: Value, index: Index) -> list[tuple[Value, Index]]:
        """The value at an index; of one that is computed where it is read, what that reads."""
        inner = self.enter(value)
        return [(value, index)] if inner is None else list(reads(inner, index, self.enter))

    def sources(self, node: Node) -> list[Node]:
        """The nodes that a node reads from, through inlined ones, and those that it waits for otherwise."""
        known = self._sources.get(node)
        if known is None:
            known = self._sources[node] = self._find_sources(node)
        return known

    def _find_sources(self, node: Node) -> list[Node]:
        found: dict[Node, None] = {}
        stack = [*node.inputs, *self._awaited(node)]
        while stack:
            inner = self.producer.get(stack.pop())
            if inner is None or inner in found or inner is node:
                continue
            if inner in self.inlined:
                stack.extend([*inner.inputs, *self._awaited(inner)])
            else:
                found[inner] = None
        return list(found)

    def _awaited(self, node: Node) -> list[Value]:
        """What the node waits for besides its operands: a result of each node that tells one of its dims, and what is
        to be computed before."""
        waits = list(self.waits.get(node, ()))
        if not self.tellers:
            return waits
        return waits + [self.tellers[s.name].outputs[0] for s in node_symbols(node) if s.name in self.tellers]

    def consumers(self, node: Node) -> list[Node]:
        """The nodes that read a node's results, through inlined ones."""
        known = self._consumers.get(node)
        if known is None:
            known = self._consumers[node] = self._find_consumers(node)
        return known

    def _find_consumers(self, node: Node) -> list[Node]:
        found: dict[Node, None] = {}
        stack = self._users(node)
        seen: set[Node] = {node}
        while stack:
            user = stack.pop()
            if user in seen:
                continue
            seen.add(user)
            if user in self.inlined:
                stack.extend(self._users(user))
            else:
                found[user] = None
        return list(found)

    def _users(self, node: Node) -> list[Node]:
        """The nodes that read a node's results, have a dim that it tells or wait for it."""
        found = [user for value in node.outputs for user in self.uses[value]]
        found += self._waiting.get(node, ())
        if self.tellers:
            names = {s.name for s in told_symbols(node)}
            if names:
                found += [n for n in self.graph.nodes if any(s.name in names for s in node_symbols(n))]
        return found

    def is_returned(self, node: Node) -> bool:
        """Whether a result of the node, or a view of one, is an output of the graph."""
        known = self._is_returned.get(node)
        if known is None:
            known = self._is_returned[node] = self._find_returned(node)
        return known

    def _find_returned(self, node: Node) -> bool:
        stack = list(node.outputs)
        while stack:
            value = stack.pop()
            if value in self.returned:
                return True
            stack.extend(v for user in self.uses[value] if user in self.inlined for v in user.outputs)
        return False

    def cost(self, node: Node) -> int:
        """Operations for one element, those of inlined operands included."""
        if node.op.lowering != "pointwise":
            own = 0
        else:
            own = COSTS.get(node.op.name, 1)
        return own + sum(self.cost(self.producer[v]) for v in node.inputs if self.enter(v) is not None)

    # Cycles

    def creates_cycle(self, members: Collection[Node]) -> bool:
        """Whether something outside both reads from and is read by these nodes, groups counting as one."""
        members = set(members)
        # From both ends in turn: whichever has less to look at comes to the answer first.
        searches = self._search(members, ahead=True), self._search(members, ahead=False)
        for search in cycle(searches):
            found = next(search)
            if found is not None:
                return found
        raise AssertionError("each search ends with an answer")

    def _search(self, members: set[Node], ahead: bool) -> Iterator[bool | None]:
        """Whether a path leads out of the members and back, along the edges or against them; None for each node on the
        way to the answer."""
        near = self.consumers if ahead else self.sources
        positions = [self.position[n] for n in members]
        limit = self._stretch_at(max(positions) if ahead else min(positions))[ahead]
        seen: set[Node | Group] = set()
        stack: list[Node] = list(members)
        while stack:
            yield None
            node = stack.pop()
            for other in near(node):
                if other in members:
                    if node not in members:
                        yield True
                    continue
                unit = self.group_of.get(other, other)
                if unit in seen:
                    continue
                seen.add(unit)
                nodes: Sequence[Node] = unit.nodes if isinstance(unit, Group) else [unit]
                within = self.position[nodes[0]] <= limit if ahead else self.position[nodes[-1]] >= limit
                if within:
                    stack.extend(nodes)
        yield False

    def _stretch(self, group: Group) -> None:
        """The group reaches from its first node to its last; stretches that overlap are one."""
        first, last = self.position[group.nodes[0]], self.position[group.nodes[-1]]
        low = bisect_left(self._stretches, first, key=itemgetter(1))
        high = bisect_right(self._stretches, last, key=itemgetter(0))
        overlapping = self._stretches[low:high]
        if overlapping:
            first, last = min(first, overlapping[0][0]), max(last, overlapping[-1][1])
        self._stretches[low:high] = [(first, last)]

    def _stretch_at(self, position: int) -> tuple[int, int]:
        """The positions before and after which nothing leads past `position` the other way: groups that reach over a
        position lead from after it to before it."""
        at = bisect_right(self._stretches, position, key=itemgetter(0)) - 1
        if at >= 0 and self._stretches[at][1] >= position:
            return self._stretches[at]
        return position, position

    def numel(self, node: Node) -> int:
        """The number of elements of a node's result, at most."""
        return self.numel_of(node.outputs[0].type.shape)

    def numel_of(self, shape: Sequence[DimLike]) -> int:
        """The number of elements, at most."""
        return dims.bounds(dims.product(shape))[1]
