"""Gradients that only the tape knows: of custom `autograd.Function`s, with hooks, of what `saved_tensors_hooks` packed.

The autodiff pass differentiates the ops of a traced graph and sees none of these. Where the tape of a traced call
has them, the tape itself runs, still under the tracer, from stand-ins for the cotangents to the inputs; what it
appends to the graph makes the same joint graph that the pass would have made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..autograd import engine
from ..autograd.function import BackwardNode
from ..func.levels import LevelInput
from ..func.vmap_function import GeneratedNode
from ..ir.graph import Value
from ..state import local
from ..tape import Edge, Node, accumulator, gradient_edge
from ..tape_folded import NotImplementedNode, ReplaceNode
from ..tape_ops import OpNode, PackedTensor
from ..tensor import Tensor
from .histories import GivenHistory
from .sources import ArgumentSource, TensorSource
from .tracer import Tracer


def has_own_gradients(results: Sequence[Tensor], placeholders: Mapping[int, Tensor]) -> bool:
    """Whether the tape of a traced call's results has gradients that the graph does not have."""
    if any(t._extra is not None and t._extra.hooks for t in placeholders.values()):
        return True
    seen: set[Node] = set()
    waiting = [t.grad_fn for t in results]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if _is_own(node):
            return True
        waiting += [edge.node for edge in node.edges if edge is not None]
    return False


def _is_own(node: Node) -> bool:
    if isinstance(node, BackwardNode | GeneratedNode | NotImplementedNode):
        return True
    if isinstance(node, LevelInput) and local.strict:
        return True  # adds up by itself what the transform's input gets: another order than the graph's
    if isinstance(node, ReplaceNode) and type(node).__name__ != "CopyBackwards":
        return True  # zeros to what a fill_ or zero_ replaced, which the graph does not read
    hooks = node._hooks
    if (
        hooks is not None
        and (node.edges or isinstance(node, GivenHistory))
        and (hooks.pre or hooks.post or any(hooks.tensor.values()))
    ):
        return True
    return isinstance(node, OpNode) and any(
        isinstance(k, PackedTensor) for k in (*node.inputs, *node.outputs)
    )


def append_tape(
    tracer: Tracer, results: Sequence[Tensor], placeholders: Mapping[int, Tensor]
) -> tuple[list[Value], dict[Tensor | ArgumentSource, Value]]:
    """Run the tape of the results under the tracer: the inputs that stand for the cotangents, and the gradients by the
    tensor that they belong to."""
    cotangents, roots = [], []
    for result in results:
        value = tracer.builder.input("cotangent", result._type)
        cotangents.append(value)
        edge = gradient_edge(result)
        assert edge is not None
        roots.append((edge, tracer.wrap(value)))
    outside = _outside(tracer)
    receivers: dict[Tensor | ArgumentSource, Edge] = {}
    for source in tracer.sources:
        if isinstance(source, ArgumentSource) and source.position in placeholders:
            edge = _edge_of_argument(tracer, source, placeholders[source.position])
            if edge is not None:
                receivers[source] = edge
    for tensor in outside:
        edge = _edge_before(tracer, tensor)
        if edge is not None:
            receivers[tensor] = edge
    with _without_hooks(outside):
        found = engine.run(roots, True, False, list(receivers.values()), accumulate=False)
    gradients = {
        receiver: tracer.read(gradient)
        for receiver, gradient in zip(receivers, found)
        if gradient is not None
    }
    return cotangents, gradients


def _outside(tracer: Tracer) -> list[Tensor]:
    """The real tensors that the graph reads, and others through which gradients flow."""
    read = [s.tensor for s in tracer.sources if isinstance(s, TensorSource)]
    more = [t for t in tracer.flow.tensors if tracer.effects.is_outside(t)]
    return list(dict.fromkeys((*read, *more)))


def has_other_receivers(tracer: Tracer) -> bool:
    """Whether gradients flow to tensors that are not the ones of the graph's inputs: to another over the same memory, or
    to one that was written to under `no_grad` and then used."""
    read = {s.tensor for s in tracer.sources if isinstance(s, TensorSource)}
    return tracer.flow.only_on_tape or any(t not in read for t in _outside(tracer))


def _edge_of_argument(tracer: Tracer, source: ArgumentSource, stand_in: Tensor) -> Edge | None:
    """Where the gradient of what a call is given flows."""
    given = tracer.given_histories.get(source.position)
    if given is not None:
        return Edge(given, 0)
    return gradient_edge(stand_in) if stand_in.is_leaf else None  # it has a history if it was written to


def _edge_before(tracer: Tracer, tensor: Tensor) -> Edge | None:
    """Where the gradient of what a tensor outside held flows."""
    before = tracer.effects.histories_before.get(tensor)
    if before is None:
        return gradient_edge(tensor)
    node, output_nr, requires_grad, _ = before
    if node is not None:
        return Edge(node, output_nr)
    return Edge(accumulator(tensor), 0) if requires_grad else None


@contextmanager
def _without_hooks(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Hooks of tensors from outside run when the call's gradients arrive there."""
    leaves: list[tuple[Any, Any]] = []
    nodes: list[tuple[Node, Any]] = []
    for tensor in tensors:
        if tensor._extra is not None:
            leaves.append((tensor._extra, tensor._extra.hooks))
            tensor._extra.hooks = {}
        node = tensor.grad_fn
        if node is not None:
            nodes.append((node, node._hooks))
            node._hooks = None
    try:
        yield
    finally:
        for extra, hooks in reversed(leaves):
            extra.hooks = hooks
        for node, node_hooks in reversed(nodes):
            node._hooks = node_hooks
