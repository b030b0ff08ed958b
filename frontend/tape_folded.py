"""Nodes that are not the gradient of one op: functions made of several, writes through views, replaced values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .ir.builder import OpBuilder
from .ir.op import op_named
from .ir.types import TensorType
from .state import local
from .tape import ACCUMULATE_LAST, Edge, Node, gradient_edge, next_sequence_nr, node_class
from .views import Views, apply_views, write_through

if TYPE_CHECKING:
    from .tensor import Tensor


_ADD = op_named("add")


class FoldedNode(Node):
    """Several recorded ops shown as the one function that they make up (`LerpBackward0`).

    `inner` is where the function's result came from; the nodes made since `start` are its own, and gradients
    that leave them arrive at the function's operands."""

    __slots__ = ("inner", "owned")

    def __init__(self, edges: tuple[Edge | None, ...], inner: Edge, start: int):
        super().__init__(edges, (inner.node.result_types[inner.output_nr],))
        self.inner = inner
        self.owned = {inner.node}
        todo, known = [inner.node], set(edges)
        while todo:
            for edge in todo.pop().edges:
                if edge is None or edge.node in self.owned or edge in known:
                    continue
                if not start < edge.node.sequence_nr < ACCUMULATE_LAST:
                    raise AssertionError(f"{self.name()} reads {edge.node}, which is none of its operands")
                self.owned.add(edge.node)
                todo.append(edge.node)

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        waiting: dict[Node, list[Any]] = {}
        leaving: dict[Edge, Any] = {}

        def deliver(edge: Edge, grad: Any) -> None:
            if edge.node in self.owned:
                slots = waiting.setdefault(edge.node, [None] * len(edge.node.result_types))
                before = slots[edge.output_nr]
                slots[edge.output_nr] = grad if before is None else F.apply(_ADD, (before, grad), {})
            else:
                before = leaving.get(edge)
                leaving[edge] = grad if before is None else F.apply(_ADD, (before, grad), {})

        wanted = {edge for edge, need in zip(self.edges, needs) if need}
        deliver(self.inner, grads[0])
        while waiting:
            # Nodes are numbered as they are made, so the highest has no users left.
            node = max(waiting, key=lambda n: n.sequence_nr)
            inner_needs = tuple(e is not None and (e in wanted or e.node in self.owned) for e in node.edges)
            found = node.run(F, waiting.pop(node), inner_needs)
            for edge, grad in zip(node.edges, found):
                if edge is not None and grad is not None:
                    deliver(edge, grad)
        return [leaving.pop(edge, None) if edge is not None else None for edge in self.edges]

    def release(self) -> None:
        for node in self.owned:
            node.release()


def folded(name: str, inputs: Sequence[Any], compute: Callable[[], Tensor]) -> Tensor:
    """What `compute` returns, with one node called `name` for all its ops.

    `inputs` are the tensors that it reads, None where an optional one is absent, and numbers, which do not count.
    With strict numerics every op keeps its own node: the gradients of a graph are added up in that order.
    """
    if local.strict:
        return compute()
    start = next_sequence_nr()
    result = compute()
    node = result._grad_fn
    if node is None or not start < node.sequence_nr < ACCUMULATE_LAST:
        return result
    edges = tuple(
        None if t is None else gradient_edge(t) for t in inputs if t is None or hasattr(t, "_grad_fn")
    )
    result._base = None  # a view at most of memory that only this function saw
    result._grad_fn = node_class(name, FoldedNode)(edges, Edge(node, result._output_nr), start)
    result._output_nr = 0
    return result


class CopySlices(Node):
    """The history of a base after a write through one of its views: base' = write_back(base, new)."""

    __slots__ = ("steps",)

    def __init__(self, base: Edge | None, new: Edge | None, base_type: TensorType, steps: Views):
        super().__init__((base, new), (base_type,))
        self.steps = steps

    def name(self) -> str:
        return "torch::autograd::CopySlices"

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        grad = grads[0]
        to_new = apply_views(F, grad, self.steps) if needs[0] or needs[1] else None
        to_base = write_through(F, grad, self.steps, F.zeros_like(to_new)) if needs[0] else None
        return (to_base, to_new if needs[1] else None)


class ReplaceNode(Node):
    """The history of a tensor whose elements were all replaced (fill_, copy_): nothing flows to the old ones."""

    __slots__ = ()

    def __init__(self, old: Edge | None, new: Edge | None, type_: TensorType):
        super().__init__((old, new), (type_,))

    def differentiable_edges(self) -> tuple[Edge | None, ...]:
        return (
            self.edges
            if self.edges[1] is not None or type(self).__name__ == "CopyBackwards"
            else self.edges[:1]
        )

    def name(self) -> str:
        name = type(self).__name__
        return f"torch::autograd::{name}" if name == "CopyBackwards" else name

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        return (F.zeros_like(grads[0]) if needs[0] else None, grads[0] if needs[1] else None)


def without_gradient(function: str, operands: Sequence[Any], *results: Tensor) -> None:
    """Mark what a function without a derivative returns: to ask for the gradient of an operand is an error."""
    if local.grad_enabled and any(t is not None and t.requires_grad for t in operands):
        for result in results:
            result._grad_fn = NotImplementedNode(function, operands, result._type)
            result._requires_grad = True


class NotImplementedNode(Node):
    """Stands behind the result of a function that has no gradient: an error only if one is asked for."""

    __slots__ = ("function", "operands")

    def __init__(self, function: str, operands: Sequence[Any], result: TensorType):
        tensors = [t for t in operands if hasattr(t, "_grad_fn")]
        super().__init__(tuple(map(gradient_edge, tensors)), (result,))
        self.function = function
        self.operands = tuple(t._type for t in tensors)

    def name(self) -> str:
        return "torch::autograd::NotImplemented"

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        """In a graph the error is a host call: compiled code raises it when it runs, as eager code does."""
        return [
            F.missing_derivative(grads[0], function=self.function, shape=t.shape, dtype=t.dtype)
            if need
            else None
            for t, need in zip(self.operands, needs)
        ]
