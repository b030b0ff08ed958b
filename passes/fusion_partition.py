"""A partition under construction: which group each node is in, what may join what, and why not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..ir import dims
from ..ir.dims import DimLike
from ..ir.graph import Graph, Node, Value, told_symbols
from ..ir.printer import node_symbols
from ..ir.special_functions import FORMULAS
from .fusion_build import Group
from .fusion_index import Index, Space, reads

# Views that only rename indices: free wherever they are read.
PURE_VIEWS = frozenset({"reshape", "permute", "expand", "slice", "flip", "detach"})
# A contraction's operands are read through these, straight from memory.
OPERAND_VIEWS = frozenset({"reshape", "permute", "expand", "slice", "detach"})
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
    """Nodes in groups, nodes that are inlined (computed wherever they are read), and nodes not yet placed."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.producer = graph.producers()
        self.uses = graph.uses()
        self.returned = set(graph.outputs)
        self.group_of: dict[Node, Group] = {}
        self.inlined: set[Node] = set()
        self.spaces: dict[Group, Space] = {}
        self.tellers = {s.name: node for node in graph.nodes for s in told_symbols(node)}
        self._reasons: dict[tuple[Node, Node], Reason] = {}
        self._consumers: dict[Node, list[Node]] = {}
        self._spans: list[tuple[int, int]] | None = (
            None  # first and last positions of groups, where they differ
        )

    @property
    def groups(self) -> list[Group]:
        return sorted(set(self.group_of.values()), key=lambda g: self.position[g.nodes[0]])

    def add_group(self, kind: str, node: Node, space: Space) -> Group:
        group = Group(kind, [node])
        self.group_of[node] = group
        self.spaces[group] = space
        return group

    def place(self, node: Node, group: Group) -> None:
        self._spans = None
        group.nodes = sorted([*group.nodes, node], key=self.position.__getitem__)
        self.group_of[node] = group

    def merge(self, into: Group, other: Group) -> None:
        self._spans = None
        into.nodes = sorted([*into.nodes, *other.nodes], key=self.position.__getitem__)
        for node in other.nodes:
            self.group_of[node] = into
        del self.spaces[other]

    def inline(self, node: Node) -> None:
        self.inlined.add(node)
        self._consumers.clear()

    def materialize(self, node: Node) -> None:
        self.inlined.discard(node)
        self._consumers.clear()

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
        if node.op.lowering in ("pointwise", "view", "constant"):
            return list(reads(node, index, self.enter))
        return [pair for value in node.inputs for pair in self.through(value, index)]

    def through(self, value: Value, index: Index) -> list[tuple[Value, Index]]:
        """The value at an index; of one that is computed where it is read, what that reads."""
        inner = self.enter(value)
        return [(value, index)] if inner is None else list(reads(inner, index, self.enter))

    def sources(self, node: Node) -> list[Node]:
        """The nodes that a node reads from, through inlined ones, and those that tell dims that it has."""
        found: dict[Node, None] = {}
        stack = [*node.inputs, *self._told_to(node)]
        while stack:
            inner = self.producer.get(stack.pop())
            if inner is None or inner in found or inner is node:
                continue
            if inner in self.inlined:
                stack.extend([*inner.inputs, *self._told_to(inner)])
            else:
                found[inner] = None
        return list(found)

    def _told_to(self, node: Node) -> list[Value]:
        """A result of each node that tells one of the node's dims."""
        if not self.tellers:
            return []
        return [self.tellers[s.name].outputs[0] for s in node_symbols(node) if s.name in self.tellers]

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
        """The nodes that read a node's results or have a dim that it tells."""
        found = [user for value in node.outputs for user in self.uses[value]]
        if self.tellers:
            names = {s.name for s in told_symbols(node)}
            if names:
                found += [n for n in self.graph.nodes if any(s.name in names for s in node_symbols(n))]
        return found

    def is_returned(self, node: Node) -> bool:
        """Whether a result of the node, or a view of one, is an output of the graph."""
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
        limit = self._horizon(max(self.position[n] for n in members))
        seen: set[Node | Group] = set()
        stack: list[Node] = list(members)
        while stack:
            node = stack.pop()
            for user in self.consumers(node):
                if user in members:
                    if node not in members:
                        return True
                    continue
                unit = self.group_of.get(user, user)
                if unit in seen:
                    continue
                seen.add(unit)
                nodes: Sequence[Node] = unit.nodes if isinstance(unit, Group) else [unit]
                if self.position[nodes[0]] <= limit:
                    stack.extend(nodes)
        return False

    def _horizon(self, position: int) -> int:
        """The position after which nothing leads back to `position` or before: groups that reach over a
        position lead from after it to before it."""
        if self._spans is None:
            spans = ((self.position[g.nodes[0]], self.position[g.nodes[-1]]) for g in self.spaces)
            self._spans = sorted(span for span in spans if span[0] < span[1])
        for first, last in self._spans:
            if first > position:
                break
            position = max(position, last)
        return position

    def numel(self, node: Node) -> int:
        """The number of elements of a node's result, at most."""
        return self.numel_of(node.outputs[0].type.shape)

    def numel_of(self, shape: Sequence[DimLike]) -> int:
        """The number of elements, at most."""
        return dims.bounds(dims.product(shape))[1]
