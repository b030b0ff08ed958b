"""The walk over the tape: from the roots to the leaves, each node once all its gradients have come in.

Nodes become ready by counting the edges that lead to them, and of the ready ones the youngest runs first, as
in PyTorch's engine (torch/csrc/autograd/engine.cpp). Nothing recurses, so a graph may be as deep as memory
allows."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from .. import dispatch
from ..dispatch import EMPTY, TENSORS, UnrecordedBuilder, op_named
from ..ir.builder import OpBuilder
from ..placement import gpu_under, on_gpu
from ..state import local
from ..tape import AccumulateGrad, Edge, Node, ViewNode
from ..tape_folded import FoldedNode
from ..tape_ops import OpNode
from ..tensor import Storage, Tensor, new_storages_float
from .anomaly_mode import check_nan, warn_of_origin

_ADD, _CONVERT = map(op_named, ("add", "convert"))


def run(
    roots: Sequence[tuple[Edge, Tensor]],
    keep_graph: bool,
    create_graph: bool,
    captures: Sequence[Edge] | None,
    accumulate: bool,
) -> list[Tensor | None]:
    """Carry the roots' gradients through the graph.

    Without `captures` every node runs and leaves accumulate into `.grad`. With them only the nodes that lead
    to one of these edges run; the gradients that arrive there are returned, or with `accumulate` go into the
    leaves' `.grad`."""
    before, local.grad_enabled = local.grad_enabled, create_graph
    walks = len(local.walks)
    try:
        return Walk(roots, keep_graph, create_graph, captures, accumulate).go()
    finally:
        del local.walks[walks:]
        local.grad_enabled = before
        capture = local.backend.capture
        if capture is not None:
            capture.differentiating(None)


_OUR_NODES = (OpNode, FoldedNode, ViewNode)


class Walk:
    def __init__(
        self,
        roots: Sequence[tuple[Edge, Tensor]],
        keep_graph: bool,
        create_graph: bool,
        captures: Sequence[Edge] | None,
        accumulate: bool,
    ):
        self.keep_graph = keep_graph
        self.create_graph = create_graph
        self.captures = captures
        self.targets = frozenset(captures or ())
        self.accumulate = accumulate
        self.captured: dict[Edge, Tensor] = {}
        self.buffers: dict[Node, list[Tensor | None]] = {}
        self.shared: set[int] = set()  # ids of storages that more than one owner may hold
        self.waiting: dict[Node, int] = {}
        self.wanted: set[Node] | None = None
        self.ready: list[tuple[int, int, Node]] = []
        self.order = 0
        self.running: Node | None = None
        self.roots = roots
        self.rules = self._rules()
        self._count(dict.fromkeys(edge.node for edge, _ in roots))
        if captures is not None:
            self.wanted = self._leading_to(captures)
        for edge, grad in roots:
            self.shared.add(id(grad._storage))
            self._deliver(edge, grad)
        for node in dict.fromkeys(edge.node for edge, _ in roots):
            if not self.waiting.get(node):
                self._push(node)

    def _rules(self) -> OpBuilder:
        """What computes the gradient rules (mixed precision leaves them alone)."""
        return TENSORS if self.create_graph else UnrecordedBuilder(local.backend)

    def _count(self, roots: dict[Node, None]) -> None:
        """For every reachable node the number of edges that lead to it."""
        seen, todo, waiting = set(roots), list(roots), self.waiting
        while todo:
            for edge in todo.pop().edges:
                if edge is not None:
                    node = edge.node
                    waiting[node] = waiting.get(node, 0) + 1
                    if node not in seen:
                        seen.add(node)
                        todo.append(node)

    def _leading_to(self, captures: Sequence[Edge]) -> set[Node]:
        """The nodes that have to run: those from which a captured edge can be reached."""
        targets = {edge.node for edge in captures}
        wanted, done = set(), set()
        todo: list[tuple[Node, bool]] = [(edge.node, False) for edge, _ in self.roots]
        while todo:
            node, visited = todo.pop()
            if visited:
                if node in targets or any(e is not None and e.node in wanted for e in node.edges):
                    wanted.add(node)
            elif node not in done:
                done.add(node)
                todo.append((node, True))
                todo.extend((e.node, False) for e in node.edges if e is not None and e.node not in done)
        return wanted

    def _push(self, node: Node) -> None:
        self.order += 1
        heapq.heappush(self.ready, (-node.sequence_nr, self.order, node))

    def _deliver(self, edge: Edge, grad: Tensor) -> None:
        buffer = self.buffers.get(edge.node)
        if buffer is None:
            buffer = self.buffers[edge.node] = [None] * len(edge.node.result_types)
        before = buffer[edge.output_nr]
        buffer[edge.output_nr] = grad if before is None else self.rules.apply(_ADD, (before, grad), EMPTY)

    def go(self) -> list[Tensor | None]:
        local.walks.append(self)
        while self.ready:
            self.running = node = heapq.heappop(self.ready)[2]
            grads = self.buffers.pop(node, None) or [None] * len(node.result_types)
            for edge, grad in zip(node.edges, self._run(node, grads)):
                if edge is None:
                    continue
                if grad is not None:
                    self._deliver(edge, grad)
                left = self.waiting[edge.node] = self.waiting[edge.node] - 1
                if not left:
                    self._push(edge.node)
        if self.captures is None:
            return []
        return [self.captured.get(edge) for edge in self.captures]

    def _run(self, node: Node, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """One node: hooks, capture, gradient rule, hooks; the gradients for its edges."""
        nothing: tuple[None, ...] = (None,) * len(node.edges)
        wanted = self.wanted
        if wanted is not None and node not in wanted:
            return nothing
        if all(g is None for g in grads):
            return nothing
        _before(node, grads)
        if self.captures is not None:
            for number, grad in enumerate(grads):
                if grad is not None and not self.accumulate and (node, number) in self.targets:
                    self.captured[Edge(node, number)] = grad
        if isinstance(node, AccumulateGrad):
            if self.captures is None or self.accumulate:
                (grad,) = grads
                assert grad is not None
                extra = node.variable._extra
                seen = extra is not None and extra.hooks  # a hook may have kept it
                own = not seen and id(grad._storage) not in self.shared
                accumulate_grad(node.variable, grad, own, self.rules)
                if node._hooks is not None and node._hooks.post:
                    _after(node, (), grads)
            return ()
        if wanted is None:
            needs = tuple([edge is not None for edge in node.edges])
        else:
            needs = tuple([edge is not None and edge.node in wanted for edge in node.edges])
            if not any(needs):
                return nothing
        given = [None if g is None else g._storage for g in grads]
        capture = local.backend.capture
        if capture is not None:
            capture.differentiating(node)
        if new_storages_float[0] and isinstance(node, _OUR_NODES):
            # What a gradient rule makes on the way is made where the gradients are.
            with on_gpu(next((gpu_under(g) for g in grads if g is not None), None)):
                found = self._found(node, grads, needs)
        else:
            found = self._found(node, grads, needs)
        hooks = node._hooks
        if hooks is not None and hooks.post:
            found = _after(node, found, grads)
        if not self.keep_graph:
            node.release()
        self._note_shared(node, found, given)
        return found

    def _found(
        self, node: Node, grads: Sequence[Tensor | None], needs: tuple[bool, ...]
    ) -> Sequence[Tensor | None]:
        if local.detect_anomaly:
            return self._watched(node, grads, needs)
        return node.run(self.rules, grads, needs)

    def _watched(
        self, node: Node, grads: Sequence[Tensor | None], needs: tuple[bool, ...]
    ) -> Sequence[Tensor | None]:
        """`node.run` in anomaly mode."""
        try:
            found = node.run(self.rules, grads, needs)
            if local.check_nan and local.backend.capture is None:  # compiled code has tests of its own
                check_nan(node, found)
        except Exception:
            warn_of_origin(node)
            raise
        return found

    def will_run(self, node: Node) -> bool:
        """Whether this walk comes by the node."""
        if self.wanted is not None:
            return node in self.wanted
        return node in self.waiting or any(edge.node is node for edge, _ in self.roots)

    def _note_shared(
        self, node: Node, found: Sequence[Tensor | None], given: Sequence[Storage | None]
    ) -> None:
        """Remember the gradients whose memory something else may hold, so that `.grad` becomes a copy of
        them.
        """
        seen: set[int] = {id(s) for s in given if s is not None}
        ours = isinstance(node, _OUR_NODES)
        if not ours:
            self.shared |= seen
        for grad in found:
            if grad is not None:
                key = id(grad._storage)
                if not ours or key in seen:
                    self.shared.add(key)
                seen.add(key)


def _before(node: Node, grads: list[Tensor | None]) -> None:
    """The hooks that see a node's incoming gradients: of the tensors, of the node, then retain_grad."""
    if isinstance(node, AccumulateGrad):
        extra = node.variable._extra
        if extra is not None and extra.hooks:
            grads[0] = _hooked(list(extra.hooks.values()), grads[0])
    hooks = node._hooks
    if hooks is None:
        return
    for number, table in hooks.tensor.items():
        grads[number] = _hooked(list(table.values()), grads[number])
    for hook in list(hooks.pre.values()):
        changed = hook(tuple(grads))
        if changed is not None:
            grads[:] = changed if isinstance(changed, tuple | list) else [changed]
    for number, reference in hooks.retain.items():
        tensor, grad = reference(), grads[number]
        if tensor is not None and grad is not None:
            kept = tensor._grad
            tensor._set_grad(_copied(grad) if kept is None else dispatch.apply(_ADD, (kept, grad)))


def _hooked(hooks: Sequence[Any], grad: Tensor | None) -> Tensor | None:
    for hook in hooks:
        if grad is not None:
            changed = hook(grad)
            if changed is not None:
                _check_replacement(grad, changed)
                grad = changed
    return grad


def _check_replacement(grad: Tensor, changed: Any) -> None:
    if not isinstance(changed, Tensor):
        raise TypeError(f"hook returned {type(changed).__name__}, expected a Tensor or None")
    if changed.dtype is not grad.dtype:
        raise RuntimeError(
            f"hook '<unknown>' has changed the type of value (was {grad.type()} got {changed.type()})"
        )
    if tuple(changed.shape) != tuple(grad.shape):
        raise RuntimeError("hook '<unknown>' has changed the size of value")


def _after(
    node: Node, found: Sequence[Tensor | None], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    assert node._hooks is not None
    result = tuple(found)
    for hook in list(node._hooks.post.values()):
        changed = hook(result, tuple(grads))
        if changed is not None:
            changed = changed if isinstance(changed, tuple) else (changed,)
            if len(changed) != len(result):
                raise RuntimeError(
                    f"hook has returned an incorrect number of values (got {len(changed)}, but expected "
                    f"{len(result)})"
                )
            result = changed
    return result


def _copied(grad: Tensor) -> Tensor:
    copy: Tensor = dispatch.apply(_CONVERT, (grad,), {"dtype": grad.dtype}, "CloneBackward0")
    return copy


def accumulate_grad(variable: Tensor, grad: Tensor, own: bool, rules: OpBuilder) -> None:
    """Add to the leaf's `.grad`: in place, unless the sum is to be differentiated again.

    `own`: nothing else holds the gradient's memory, so that it may become `.grad` itself. `rules` computes.
    """
    if not variable._requires_grad:
        return
    old, extra = variable.grad, variable._extra
    if extra is not None and extra.grad_dtype not in ("own", None, grad.dtype):
        grad = dispatch.apply(_CONVERT, (grad,), {"dtype": extra.grad_dtype})
    if old is None:
        if local.grad_enabled:
            new = _copied(grad)
        elif own and not grad._views:
            new = grad if not grad._requires_grad else grad.detach()
        else:
            new = rules.apply(_CONVERT, (grad.detach(),), {"dtype": grad.dtype})
        variable._set_grad(new)
    elif local.grad_enabled or old.requires_grad:
        variable._set_grad(dispatch.apply(_ADD, (old, grad)))
    else:
        dispatch.write(old, rules.apply(_ADD, (old, grad), EMPTY))
    if extra is not None:
        for hook in list(extra.post_accumulate.values()):
            hook(variable)
