"""The tape: nodes that remember how a tensor came to be, and what its gradient needs.

A node is made when an op runs on tensors that require grad. It keeps an edge to the node behind each operand,
and of the operands and results only those that the op's gradient rule reads (`Op.saves`); for the rest it
keeps their types. Running a node means running the op's gradient rule over tensors, through an `OpBuilder`
that the engine passes in, so the same node works on arrays and under a trace. `autograd/engine.py` walks the
nodes."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .hooks import Hooks, RemovableHandle, register
from .ir import ops  # noqa: F401  (fills the registry)
from .ir.builder import GraphBuilder, OpBuilder
from .ir.op import Op, VJPContext, op_named
from .ir.types import TensorType
from .state import local
from .views import Views, apply_views, write_through

if TYPE_CHECKING:
    from .tensor import Tensor

_ADD = op_named("add")
_sequence = itertools.count()
ACCUMULATE_LAST = 1 << 62  # AccumulateGrad's sequence number: ready ones run before anything else

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have "
    "already "
    "been freed). Saved intermediate values of the graph are freed when you call .backward() or "
    "autograd.grad(). "
    "Specify retain_graph=True if you need to backward through the graph a second time or if you need to "
    "access saved "
    "tensors after calling backward."
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
        self.sequence_nr = next(_sequence)
        self._hooks: NodeHooks | None = None
        capture = local.backend.capture
        # While a function is compiled, the user's line that made the node: its gradient is reported there.
        self._metadata: dict[str, Any] | None = None if capture is None else {"location": capture.location}
        # Where PyTorch's node has fewer operands than the op behind it (a number among them): how many of the
        # edges it lists, counted from the end if negative; 0 for all.
        self.edges_shown = 0

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


class SavedTensor:
    """A tensor kept for the gradient, with the version it had: it must not change in place before its use."""

    __slots__ = ("grad_fn", "is_output", "output_nr", "storage", "tensor", "version")

    def __init__(self, tensor: Tensor, is_output: bool, number: int = 0):
        """`number`: which operand or result of the op it is."""
        self.is_output = is_output
        if is_output:
            # An alias without history: the tensor itself would close a cycle tensor -> node -> tensor.
            self.tensor = tensor._alias()
            self.output_nr = number
            self.grad_fn = None
        else:
            self.tensor = tensor
            self.output_nr = tensor._output_nr
            self.grad_fn = tensor._grad_fn
            scope = local.overwriting
            if scope is not None and tensor is scope.target:
                scope.saved.append(self)
        self.storage = tensor._storage
        self.version = self.storage.version

    def replace(self, tensor: Tensor) -> None:
        """Keep another tensor with the same value and history instead."""
        self.tensor = tensor
        self.storage = tensor._storage
        self.version = self.storage.version

    def unpack(self, node: Node) -> Tensor:
        tensor = self.tensor
        storage = tensor._storage
        if storage is self.storage and storage.version != self.version:
            raise RuntimeError(self._modified(node))
        if self.is_output:
            if not local.grad_enabled:
                return tensor
            alias = tensor._alias()
            alias._grad_fn, alias._output_nr, alias._requires_grad = node, self.output_nr, True
            return alias
        if tensor._grad_fn is not self.grad_fn:
            alias = tensor._alias()
            alias._grad_fn, alias._output_nr = self.grad_fn, self.output_nr
            alias._requires_grad = self.grad_fn is not None
            return alias
        return tensor

    def _modified(self, node: Node) -> str:
        tensor = self.tensor
        owner = node if self.is_output else tensor.grad_fn
        whose = "" if owner is None else f", which is output {self.output_nr} of {owner.forward_name()},"
        if local.detect_anomaly:
            hint = (
                "the backtrace further above shows the operation that failed to compute its gradient. The "
                "variable in "
                "question was changed in there or anywhere later. Good luck!"
            )
        else:
            hint = (
                "enable anomaly detection to find the operation that failed to compute its gradient, with "
                "torch.autograd.set_detect_anomaly(True, check_nan=False)."
            )
        return (
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            f"[{tensor.type()} {list(tensor.shape)}]{whose} is at version {tensor._storage.version}; "
            f"expected version "
            f"{self.version} instead. Hint: {hint}"
        )


class OverwriteScope:
    """While an in-place function computes its new value out of place: `target` is about to be overwritten.

    What the tape saves of `target` meanwhile is listed, so that those records get a copy of the old value
    before it is gone (PyTorch clones `self` in the same case)."""

    def __init__(self, target: Tensor):
        self.target = target
        self.saved: list[SavedTensor] = []

    def __enter__(self) -> OverwriteScope:
        self._outer = local.overwriting
        local.overwriting = self
        return self

    def __exit__(self, *_: Any) -> None:
        local.overwriting = self._outer


Kept = SavedTensor | TypeOnly


class OpNode(Node):
    """The gradient of one application of a declared op, by the op's own rule."""

    __slots__ = ("attrs", "inputs", "op", "outputs")
    inputs: list[Kept]
    outputs: list[Kept]

    def __init__(
        self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any], results: Sequence[Tensor]
    ):
        super().__init__(tuple(map(gradient_edge, operands)), tuple(r._type for r in results))
        self.op = op
        self.attrs: Mapping[str, Any] | None = attrs
        if op.saves:
            reads_input, reads_output = _reads(op, self.edges, operands, results, attrs)
            self.inputs = [
                SavedTensor(t, False, i) if i in reads_input else TypeOnly(t._type)
                for i, t in enumerate(operands)
            ]
            self.outputs = [
                SavedTensor(t, True, i) if i in reads_output else TypeOnly(t._type)
                for i, t in enumerate(results)
            ]
        else:
            self.inputs = [TypeOnly(t._type) for t in operands]
            self.outputs = [TypeOnly(t) for t in self.result_types]

    @property
    def released(self) -> bool:
        return self.attrs is None

    def differentiable_edges(self) -> tuple[Edge | None, ...]:
        types = [(k if isinstance(k, TypeOnly) else k.tensor)._type for k in self.inputs]
        return tuple(e for e, t in zip(self.edges, types) if t.dtype.kind in ("float", "complex"))

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        if self.attrs is None:
            raise RuntimeError(FREED)
        inputs = tuple(k if isinstance(k, TypeOnly) else k.unpack(self) for k in self.inputs)
        outputs = tuple(k if isinstance(k, TypeOnly) else k.unpack(self) for k in self.outputs)
        assert self.op.vjp is not None
        found = self.op.vjp(F, VJPContext(inputs, outputs, self.attrs, needs), *grads)
        return [
            None if g is None or not need else F.sum_to(g, value._type.shape)
            for g, need, value in zip(found, needs, inputs)
        ]

    def release(self) -> None:
        if any(isinstance(k, SavedTensor) for k in (*self.inputs, *self.outputs)):
            self.attrs = None
            self.inputs = [TypeOnly(k.tensor._type) if isinstance(k, SavedTensor) else k for k in self.inputs]
            self.outputs = [
                TypeOnly(k.tensor._type) if isinstance(k, SavedTensor) else k for k in self.outputs
            ]


Reads = tuple[frozenset[int], frozenset[int]]
_reads_of: dict[Any, Reads] = {}


def _reads(
    op: Op,
    edges: tuple[Edge | None, ...],
    operands: Sequence[Tensor],
    results: Sequence[Tensor],
    attrs: Mapping[str, Any],
) -> Reads:
    """The numbers of the operands and results to keep: of those in `op.saves`, what the wanted gradients read.

    `x * 2` needs no `x` for the gradient of x. Which ones a rule reads is seen by running it once on graph values.
    """
    needs = tuple([edge is not None for edge in edges])
    modes = [v for v in attrs.values() if type(v) is bool or type(v) is str]
    key = (op, needs, *[t.ndim for t in operands], *modes)
    found = _reads_of.get(key)
    if found is None:
        declared = tuple(_declared(op, side, len(v)) for side, v in (("input", operands), ("output", results)))
        found = (declared[0], declared[1])
        if not all(needs):
            seen = _seen_reads(op, needs, [t._type for t in operands], [t._type for t in results], attrs)
            found = (found[0] & seen[0], found[1] & seen[1])
        _reads_of[key] = found
    return found


def _declared(op: Op, side: str, count: int) -> frozenset[int]:
    numbers = {entry.partition(":")[2] for entry in op.saves if entry.startswith(side + ":")}
    return frozenset(range(count)) if "*" in numbers else frozenset(map(int, numbers))


def _seen_reads(
    op: Op,
    needs: tuple[bool, ...],
    operands: Sequence[TensorType],
    results: Sequence[TensorType],
    attrs: Mapping[str, Any],
) -> Reads:
    """Which operands and results the rule hands to an op, when it is asked for the gradients in `needs`."""
    F = GraphBuilder("gradient")
    inputs = tuple(F.input("x", t) for t in operands)
    outputs = tuple(F.input("y", t) for t in results)
    assert op.vjp is not None
    grads = op.vjp(F, VJPContext(inputs, outputs, attrs, needs), *(F.input("dy", t) for t in results))
    used = {value for node in F.nodes for value in node.inputs}
    used.update(g for g in grads if g is not None)
    return (
        frozenset(i for i, value in enumerate(inputs) if value in used),
        frozenset(i for i, value in enumerate(outputs) if value in used),
    )


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
    """
    start = next(_sequence)
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
        return self.edges if self.edges[1] is not None or type(self).__name__ == "CopyBackwards" else self.edges[:1]

    def name(self) -> str:
        name = type(self).__name__
        return f"torch::autograd::{name}" if name == "CopyBackwards" else name

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        return (F.zeros_like(grads[0]) if needs[0] else None, grads[0] if needs[1] else None)


class NotImplementedNode(Node):
    """Stands behind the result of a function that has no gradient: an error only if one is asked for."""

    __slots__ = ("function",)

    def __init__(self, function: str, operands: Sequence[Any], result: TensorType):
        super().__init__(tuple(gradient_edge(t) for t in operands if hasattr(t, "_grad_fn")), (result,))
        self.function = function

    def name(self) -> str:
        return "torch::autograd::NotImplemented"

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        raise RuntimeError(f"derivative for aten::{self.function} is not implemented")


class AccumulateGrad(Node):
    """Where a gradient reaches a leaf: adds it to `variable.grad`."""

    __slots__ = ("variable",)

    def __init__(self, variable: Tensor):
        super().__init__((), (variable._type,))
        self.sequence_nr = ACCUMULATE_LAST
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
        return Edge(tensor._grad_fn, tensor._output_nr)
    return Edge(accumulator(tensor), 0) if tensor._requires_grad else None


def refresh_view(view: Tensor) -> None:
    """Start the history of a view again at its base, if that was written to since (by whichever view)."""
    base = view._base
    if base is None or view._view_version == base._storage.version:
        return
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


def default_name(op: Op) -> str:
    """How PyTorch would call the node of an op that does not say: `log_softmax` -> LogSoftmaxBackward0."""
    return op.grad_name or "".join(part.capitalize() for part in op.name.split("_")) + "Backward0"


def record(
    op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any], results: Sequence[Tensor], name: str | None
) -> None:
    """Put an application of `op` on the tape: its floating-point results get a grad_fn."""
    if not any(r._type.dtype.kind in ("float", "complex") for r in results):
        return
    node = node_class(name or default_name(op), OpNode)(op, operands, attrs, results)
    for number, result in enumerate(results):
        if result._type.dtype.kind in ("float", "complex"):
            result._grad_fn, result._output_nr, result._requires_grad = node, number, True
