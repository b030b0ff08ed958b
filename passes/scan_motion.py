"""Work of a scan's steps that is one large product over all steps.

Before the loop: a matmul of what comes from sequences with an invariant, such as the projection of a cell's input. It
becomes one matmul of the sequence, and its result a sequence.

After the loop: a result that is the product of a matrix and an invariant one, such as the gradient of a cell's input:
the matrices are stacked, and the product is one. And a state that only adds up products, such as the gradient of a
weight over the steps: the factors are stacked, and the sum of products is one product over all rows. Its terms are
added in another order than in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.builder import GraphBuilder
from ..ir.dims import DimLike
from ..ir.graph import Graph, Node, Value
from .base import Rewriter
from .host import runs_on_host
from .regions import with_bodies


@dataclass(frozen=True)
class ScanMotion:
    """Leaves what has become dead to `dce.py`."""

    name: ClassVar[str] = "scan_motion"

    def run(self, graph: Graph) -> Graph:
        if all(node.op.name != "scan" for node in graph.nodes):
            return graph
        graph = with_bodies(graph, self.run)
        builder = Rewriter(graph)
        for node in graph.nodes:
            builder.location = node.location
            if node.op.name == "scan":
                _Mover(builder, node).move()
            else:
                builder.keep(node)
        return builder.done()


class _Mover:
    """One scan: what of it moves out, and the scan that is left."""

    def __init__(self, builder: Rewriter, node: Node):
        self.builder = builder
        self.node = node
        (self.body,) = node.regions
        carries, sequences = node.attrs["carries"], node.attrs["sequences"]
        self.length: DimLike = node.attrs["length"]
        self.operands = builder.mapped(node.inputs)
        self.producers = self.body.producers()
        inside = self.body.inputs
        self.states = inside[:carries]
        # What stands outside for a value of the body: of an invariant the same, of others all of its elements.
        self.fixed = dict(zip(inside[carries + sequences :], self.operands[carries + sequences :]))
        self.lifted = dict(zip(inside[carries : carries + sequences], self.operands[carries:]))
        self.moved: dict[Value, Value] = {}
        self.stacked: dict[Value, int] = {
            v: i for i, v in reversed(list(enumerate(self.body.outputs[carries:])))
        }
        self.more: list[Value] = []
        self.uses = self.body.uses()

    def move(self) -> None:
        builder, node, body = self.builder, self.node, self.body
        for inner in body.nodes:
            if (
                inner.op.name == "matmul"
                and inner.outputs[0] not in self.moved
                and self._is_projection(inner)
            ):
                value = self._lift(inner.outputs[0])
                if value is not None:
                    self.moved[inner.outputs[0]] = value
        sums = {}
        for number, (state, after) in enumerate(zip(self.states, body.outputs)):
            total = self._sum(state, after)
            if total is not None:
                sums[number] = total
        late = {}
        for number, value in enumerate(body.outputs[len(self.states) :], len(self.states)):
            projected = self._late(value) if body.outputs.count(value) == 1 and not self.uses[value] else None
            if projected is not None:
                late[number] = projected
        if not self.moved and not sums and not late:
            builder.keep(node)
            return
        scan = self._scan()
        results = scan.outputs[: len(node.outputs)]
        carries = node.attrs["carries"]
        stacks = [*scan.outputs[carries:]]
        found = list(results)
        for number, total in sums.items():
            found[number] = builder.add(self.operands[number], total(stacks))
        for number, projected in late.items():
            found[number] = projected(stacks)
        builder.substitute(node, found)

    def _scan(self) -> Node:
        """The scan with what moved before it as further sequences, and further stacked results."""
        node, body = self.node, self.body
        carries, sequences = node.attrs["carries"], node.attrs["sequences"]
        inner = GraphBuilder(body.name)
        mapping = {v: inner.input(v.name, v.type) for v in body.inputs[: carries + sequences]}
        mapping |= {v: inner.input(f"x.{v.name}", v.type) for v in self.moved}
        mapping |= {v: inner.input(v.name, v.type) for v in body.inputs[carries + sequences :]}
        for part in body.nodes:
            if part.outputs[0] not in self.moved:
                inner.append(part, mapping)
        step = inner.finish(mapping[v] for v in (*body.outputs, *self.more))
        operands = (
            *self.operands[: carries + sequences],
            *self.moved.values(),
            *self.operands[carries + sequences :],
        )
        attrs = {**node.attrs, "sequences": sequences + len(self.moved)}
        assert node.op.region is not None
        _, types = node.op.region.types(
            tuple(v.type for v in operands), tuple(v.type for v in step.outputs), attrs
        )
        self.builder.region_node(node.op, operands, attrs, (step,), types)
        return self.builder.nodes[-1]

    # Before the loop

    def _is_projection(self, node: Node) -> bool:
        left, right = node.inputs
        return left.type.rank == right.type.rank == 2 and not runs_on_host(node)

    def _fix(self, value: Value) -> Value | None:
        """The value outside, if it depends on invariants only."""
        if value not in self.fixed:
            node = self.producers.get(value)
            if node is None or node.regions or len(node.outputs) != 1:
                return None
            operands = [self._fix(v) for v in node.inputs]
            if any(v is None for v in operands):
                return None
            self.fixed[value] = self.builder.apply(node.op, operands, node.attrs)
        return self.fixed[value]

    def _lift(self, value: Value) -> Value | None:
        """All elements of the value, stacked, if it depends on sequences and invariants only."""
        if value not in self.lifted:
            node = self.producers.get(value)
            found = None if node is None or len(node.outputs) != 1 else self._lift_node(node)
            if found is None:
                return None
            self.lifted[value] = found
        return self.lifted[value]

    def _lift_node(self, node: Node) -> Value | None:
        F, attrs = self.builder, node.attrs
        (out,) = node.outputs
        if node.op.name == "matmul":
            left, right = self._lift(node.inputs[0]), self._fix(node.inputs[1])
            return None if left is None or right is None else F.matmul(left, right)
        if node.op.lowering == "pointwise" and not runs_on_host(node):
            return self._lift_pointwise(node)
        if node.op.name not in ("reshape", "permute", "slice"):
            return None
        whole = self._lift(node.inputs[0])
        if whole is None:
            return None
        if node.op.name == "reshape":
            return F.reshape(whole, shape=(self.length, *out.type.shape))
        if node.op.name == "permute":
            return F.permute(whole, dims=(0, *(d % out.type.rank + 1 for d in attrs["dims"])))
        starts, stops = (0, *attrs["starts"]), (self.length, *attrs["stops"])
        return F.slice(whole, starts=starts, stops=stops, steps=(1, *attrs["steps"]))

    def _lift_pointwise(self, node: Node) -> Value | None:
        operands = []
        for value in node.inputs:
            found = self._fix(value)
            if found is None:
                found = self._lift(value)
                if found is None:
                    return None
                missing = node.outputs[0].type.rank - value.type.rank
                if missing:
                    found = self.builder.reshape(
                        found, shape=(self.length, *(1,) * missing, *value.type.shape)
                    )
            operands.append(found)
        lifted: Value = self.builder.apply(node.op, operands, node.attrs)
        return lifted

    # After the loop

    def _sum(self, state: Value, after: Value) -> Callable[[Sequence[Value]], Value] | None:
        """How to sum what the steps add to a state that is nothing but a sum of products, from the stacked results."""
        node = self.producers.get(after)
        if node is None or node.op.name != "add" or state not in node.inputs or len(set(node.inputs)) != 2:
            return None
        if len(self.uses[state]) != 1 or self.uses[after] or self.body.outputs.count(after) != 1:
            return None
        if state in self.body.outputs or not state.type.dtype.is_floating_point:
            return None
        (term,) = (v for v in node.inputs if v is not state)
        # One term may be added to several states: one gradient for two biases.
        if term.type != state.type or any(
            u.op.name != "add" or set(self.states).isdisjoint(u.inputs) for u in self.uses[term]
        ):
            return None
        return self._sum_of(term)

    def _sum_of(self, term: Value) -> Callable[[Sequence[Value]], Value] | None:
        F = self.builder
        node = self.producers.get(term)
        if node is None or runs_on_host(node):
            return None
        attrs = node.attrs
        if node.op.name == "permute":
            inner = self._sum_of(node.inputs[0])
            return None if inner is None else lambda stacks: F.permute(inner(stacks), dims=attrs["dims"])
        if node.op.name == "sum" and not attrs["keepdim"]:
            rows = self._stack(node.inputs[0])
            rank = node.inputs[0].type.rank
            over = (0, *(d % rank + 1 for d in attrs["dims"]))
            return lambda stacks: F.sum(rows(stacks), dims=over, keepdim=False)
        if node.op.name != "matmul" or any(v.type.rank != 2 for v in node.inputs):
            return None
        left, right = node.inputs
        turned = self.producers.get(left)
        if turned is None or turned.op.name != "permute" or tuple(turned.attrs["dims"]) != (1, 0):
            return None
        a, b = self._stack(turned.inputs[0]), self._stack(right)
        count = self.length * right.type.shape[0]

        def product(stacks: Sequence[Value]) -> Value:
            rows = F.reshape(a(stacks), shape=(count, left.type.shape[0]))
            found: Value = F.matmul(
                F.permute(rows, dims=(1, 0)), F.reshape(b(stacks), shape=(count, right.type.shape[1]))
            )
            return found

        return product

    def _late(self, value: Value) -> Callable[[Sequence[Value]], Value] | None:
        """How to compute all elements of a result that no step reads, the product of a matrix and an invariant one."""
        F = self.builder
        node = self.producers.get(value)
        if node is None or runs_on_host(node):
            return None
        if node.op.name == "reshape" and self.uses[node.inputs[0]] == [node]:
            inner = self._late(node.inputs[0])
            shape = (self.length, *value.type.shape)
            return None if inner is None else lambda stacks: F.reshape(inner(stacks), shape=shape)
        if node.op.name != "matmul" or not self._is_projection(node):
            return None
        right = self._fix(node.inputs[1])
        if right is None or node.inputs[0] in self.body.inputs:
            return None
        rows = self._stack(node.inputs[0])
        return lambda stacks: F.matmul(rows(stacks), right)

    def _stack(self, value: Value) -> Callable[[Sequence[Value]], Value]:
        """All elements of a value of the body, once the stacked results are there."""
        if value in self.lifted:
            whole = self.lifted[value]
            return lambda stacks: whole
        if value not in self.stacked:
            self.stacked[value] = len(self.body.outputs) - len(self.states) + len(self.more)
            self.more.append(value)
        number = self.stacked[value]
        return lambda stacks: stacks[number]
