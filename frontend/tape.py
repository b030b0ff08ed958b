"""The tape: nodes that remember how a tensor came to be, and what its gradient needs.

A node is made when an op runs on tensors that require grad. It keeps an edge to the node behind each operand,
and of the operands and results only those that the op's gradient rule reads (`Op.saves`); for the rest it
keeps their types. Running a node means running the op's gradient rule over tensors, through an `OpBuilder`
that the engine passes in, so the same node works on arrays and under a trace. `autograd/engine.py` walks the
nodes."""

from __future__ import annotations

import itertools
import os
import traceback
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .hooks import Hooks, RemovableHandle, register
from .ir import ops  # noqa: F401  (fills the registry)
from .ir.builder import OpBuilder
from .ir.op import VJPContext
from .ir.types import TensorType
from .state import local
from .views import Views

if TYPE_CHECKING:
    from .tensor import Tensor

_sequence = itertools.count()
_OWN_FILES = os.path.dirname(__file__) + os.sep
ACCUMULATE_LAST = 1 << 62  # AccumulateGrad's sequence number: ready ones run before anything else


def next_sequence_nr() -> int:
    """The number of the next node, used up: nodes made from now on have higher ones."""
    return next(_sequence)


FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
    "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
    "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
    "saved tensors after calling backward."
)


class Edge(NamedTuple):
    """Where a gradient flows next: a node, and which of its results it belongs to."""

    node: Node
    output_nr: int


class TypeOnly:
    """Stands for an operand or result that the gradient rule does not read: only its type is known."""

    __slots__ = ("_type",)

    def __init__(self, type_: TensorType):
        self._type = type_


class NodeHooks:
    """Hooks of a node, in the order in which they run."""

    __slots__ = ("post", "pre", "retain", "tensor")

    def __init__(self) -> None:
        self.tensor: dict[int, Hooks] = {}  # of the tensors that are its results, by result number
        self.pre: Hooks = {}
        self.retain: dict[int, weakref.ref[Tensor]] = {}  # whose .grad to fill
        self.post: Hooks = {}


class Node:
    """A step of the tape. Subclasses are named as PyTorch names the node (`AddBackward0`)."""

    __slots__ = ("__weakref__", "_hooks", "_metadata", "edges", "edges_shown", "result_types", "sequence_nr")
    edges: tuple[Edge | None, ...]
    result_types: tuple[TensorType, ...]

    def __init__(self, edges: tuple[Edge | None, ...], result_types: tuple[TensorType, ...]):
        self.edges = edges
        self.result_types = result_types
        self.sequence_nr = next_sequence_nr()
        self._hooks: NodeHooks | None = None
        capture = local.backend.capture
        # While a function is compiled, the user's line that made the node: its gradient is reported there.
        self._metadata: dict[str, Any] | None = None if capture is None else {"location": capture.location}
        if local.detect_anomaly:
            self._remember_origin()
        # Where PyTorch's node has fewer operands than the op behind it (a number among them): how many of the
        # edges it lists, counted from the end if negative; 0 for all.
        self.edges_shown = 0

    def _remember_origin(self) -> None:
        """For anomaly mode: the calls that made the node, and the node whose gradient they compute, if any."""
        calls = [f for f in traceback.extract_stack() if not f.filename.startswith(_OWN_FILES)]
        self.metadata["traceback_"] = traceback.format_list(calls)
        if local.walks and local.walks[-1].running is not None:
            self.metadata["parent_"] = local.walks[-1].running

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        """Gradients for the edges (None where nothing flows or `needs` does not ask), from those of the
        results.
        """
        raise NotImplementedError

    def release(self) -> None:
        """Let go of the saved tensors; running the node again is then an error if it had any."""

    @property
    def released(self) -> bool:
        """Whether saved tensors that the node needs are gone."""
        return False

    def differentiable_edges(self) -> tuple[Edge | None, ...]:
        """The edges that PyTorch lists: one per operand that can have a gradient."""
        return self.edges

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        edges, shown = self.differentiable_edges(), self.edges_shown
        if shown:
            edges = edges[:shown] if shown > 0 else edges[shown:]
        return tuple((None, 0) if e is None else (e.node, e.output_nr) for e in edges)

    @property
    def metadata(self) -> dict[str, Any]:
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @property
    def hooks(self) -> NodeHooks:
        if self._hooks is None:
            self._hooks = NodeHooks()
        return self._hooks

    def name(self) -> str:
        return type(self).__name__

    def forward_name(self) -> str:
        """What the node differentiates, as messages call it: `Exp` for ExpBackward0."""
        return self.name().partition("Backward")[0]

    def register_hook(self, hook: Any) -> RemovableHandle:
        """`hook(grad_inputs, grad_outputs) -> None or new grad_inputs` runs after the node."""
        return register(self.hooks.post, hook)

    def register_prehook(self, hook: Any) -> RemovableHandle:
        """`hook(grad_outputs) -> None or new grad_outputs` runs before the node."""
        return register(self.hooks.pre, hook)

    def _sequence_nr(self) -> int:
        return self.sequence_nr

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {hex(id(self))}>"


_classes: dict[tuple[str, type[Node]], type[Any]] = {}


def node_class(name: str, base: type[Node]) -> type[Any]:
    """The subclass of `base` called `name`, so that `type(grad_fn).__name__` and repr read as PyTorch's."""
    found = _classes.get((name, base))
    if found is None:
        found = _classes[name, base] = type(name, (base,), {"__slots__": ()})
    return found


class ViewNode(Node):
    """The gradient of a chain of views, whose rules read types only."""

    __slots__ = ("steps", "types")

    def __init__(self, edge: Edge | None, steps: Views, types: Sequence[TensorType]):
        """`types`: of the operand of the first step, and of every step's result."""
        super().__init__((edge,), (types[-1],))
        self.steps = steps
        self.types = types

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        grad = grads[0]
        for step, operand, result in zip(
            reversed(self.steps), reversed(self.types[:-1]), reversed(self.types)
        ):
            assert step.op.vjp is not None
            context = VJPContext((TypeOnly(operand),), (TypeOnly(result),), step.attrs, (True,))
            grad = F.sum_to(step.op.vjp(F, context, grad)[0], operand.shape)
        return (grad,)


class AccumulateGrad(Node):
    """Where a gradient reaches a leaf: adds it to `variable.grad`."""

    __slots__ = ("variable",)

    def __init__(self, variable: Tensor):
        # Not by Node's: a leaf gets one again for each op whose result is dropped, so this takes no number.
        self.edges = ()
        self.result_types = (variable._type,)
        self.sequence_nr = ACCUMULATE_LAST
        self._hooks = self._metadata = None
        self.edges_shown = 0
        self.variable = variable

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"


def accumulator(leaf: Tensor) -> AccumulateGrad:
    """The leaf's AccumulateGrad node: the same one as long as anything refers to it."""
    extra = leaf._autograd_extra()
    found = extra.accumulator() if extra.accumulator is not None else None
    if found is None:
        found = AccumulateGrad(leaf)
        extra.accumulator = weakref.ref(found)
    return found


def gradient_edge(tensor: Tensor) -> Edge | None:
    """Where the tensor's gradient flows; None if it requires none."""
    if tensor._base is not None:
        refresh_view(tensor)
    if tensor._grad_fn is not None:
        return _new_tuple(Edge, (tensor._grad_fn, tensor._output_nr))
    return _new_tuple(Edge, (accumulator(tensor), 0)) if tensor._requires_grad else None


# A named tuple's own constructor is Python code and takes four times as long.
_new_tuple: Any = tuple.__new__


def refresh_view(view: Tensor) -> None:
    """Start the history of a view again at its base, if that was written to since (by whichever view)."""
    base = view._base
    if base is None or view._view_version == base._storage.version:
        return
    notify = local.backend.on_history_set
    if notify is not None:
        notify(view)
    if base._requires_grad:
        steps = view._views[len(base._views) :]
        view._grad_fn = view_node("AsStridedBackward0", base, steps)
        view._output_nr = 0
        view._requires_grad = True
    view._view_version = base._storage.version


def view_node(
    name: str, operand: Tensor, steps: Views, types: Sequence[TensorType] | None = None
) -> ViewNode:
    """A node called `name` for the view of `operand` that the steps lead to."""
    if types is None:
        found = [operand._type]
        for step in steps:
            found += step.op.infer_types([found[-1]], step.attrs)
        types = found
    node: ViewNode = node_class(name, ViewNode)(gradient_edge(operand), steps, types)
    return node
