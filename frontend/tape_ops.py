"""Nodes of ops: what the tape keeps of an op that ran, and how its gradient rule is run.

Of the operands and results only those are kept that the rule reads (`Op.saves`) for the gradients that are wanted.
An in-place change of a kept tensor is noticed by its version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .ir import dtypes
from .ir.builder import GraphBuilder, OpBuilder
from .ir.half_precision import gradients
from .ir.op import Op, VJPContext
from .ir.types import TensorType
from .state import local
from .tape import FREED, Edge, Node, TypeOnly, gradient_edge, node_class

if TYPE_CHECKING:
    from .tensor import Tensor


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
                "the backtrace further above shows the operation that failed to compute its gradient. The variable "
                "in question was changed in there or anywhere later. Good luck!"
            )
        else:
            hint = (
                "enable anomaly detection to find the operation that failed to compute its gradient, with "
                "torch.autograd.set_detect_anomaly(True, check_nan=False)."
            )
        return (
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            f"[{tensor.type()} {list(tensor.shape)}]{whose} is at version {tensor._storage.version}; expected "
            f"version {self.version} instead. Hint: {hint}"
        )


class PackedTensor(SavedTensor):
    """A tensor kept as what a `saved_tensors_hooks` made of it; it is unpacked when the gradient reads it."""

    __slots__ = ("edge", "packed", "unpack_hook")

    def __init__(self, tensor: Tensor, is_output: bool, number: int = 0):
        pack, self.unpack_hook = local.saved_hooks[-1]
        self.is_output = is_output
        self.output_nr = number if is_output else tensor._output_nr
        self.grad_fn = None
        self.edge = None if is_output else gradient_edge(tensor)
        before, local.grad_enabled = local.grad_enabled, False
        try:
            self.packed = pack(tensor._alias())
        finally:
            local.grad_enabled = before
        self.tensor: Any = TypeOnly(tensor._type)
        self.storage: Any = None

    def replace(self, tensor: Tensor) -> None:
        """Nothing: the hook has had its look at the value."""

    def unpack(self, node: Node) -> Tensor:
        before, local.grad_enabled = local.grad_enabled, False
        try:
            found = self.unpack_hook(self.packed)
        finally:
            local.grad_enabled = before
        if not hasattr(found, "_alias"):
            raise TypeError(
                "Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                f"{type(found).__name__}"
            )
        alias: Tensor = found._alias()
        edge = Edge(node, self.output_nr) if self.is_output else self.edge
        if edge is not None and local.grad_enabled:
            alias._grad_fn, alias._output_nr, alias._requires_grad = edge.node, edge.output_nr, True
        return alias


def save(tensor: Tensor, is_output: bool, number: int = 0) -> SavedTensor:
    """The tensor as the tape keeps it. RuntimeError for one that was made in inference mode."""
    if tensor._storage.epoch < 0 and not local.inference:
        raise RuntimeError(
            "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in "
            "computation tracked by autograd. To work around this, you can make a clone to get a normal tensor and use "
            "it in autograd, or use `torch.no_grad()` instead of `torch.inference_mode()`."
        )
    return (PackedTensor if local.saved_hooks else SavedTensor)(tensor, is_output, number)


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


DIFFERENTIABLE = frozenset(d for d in dtypes.ALL if d.kind in ("float", "complex"))


class OpNode(Node):
    """The gradient of one application of a declared op, by the op's own rule."""

    __slots__ = ("attrs", "inputs", "op", "outputs")
    # Per operand and per result: the tensor where the gradient reads it, else its type.
    inputs: list[Any]
    outputs: list[Any]

    def __init__(
        self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any], results: Sequence[Tensor]
    ):
        edges = tuple([gradient_edge(t) for t in operands])
        super().__init__(edges, tuple([r._type for r in results]))
        self.op = op
        self.attrs: Mapping[str, Any] | None = attrs
        self.inputs = [t._type for t in operands]
        self.outputs = list(self.result_types)
        if op.saves:
            reads_input, reads_output = _reads(op, edges, operands, results, attrs)
            for i in reads_input:
                self.inputs[i] = save(operands[i], False, i)
            for i in reads_output:
                self.outputs[i] = save(results[i], True, i)

    @property
    def released(self) -> bool:
        return self.attrs is None

    def differentiable_edges(self) -> tuple[Edge | None, ...]:
        types = [k.tensor._type if isinstance(k, SavedTensor) else k for k in self.inputs]
        return tuple(e for e, t in zip(self.edges, types) if t.dtype in DIFFERENTIABLE)

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        if self.attrs is None:
            raise RuntimeError(FREED)
        inputs, outputs = (
            tuple([k.unpack(self) if isinstance(k, SavedTensor) else TypeOnly(k) for k in kept])
            for kept in (self.inputs, self.outputs)
        )
        found = gradients(self.op, F, VJPContext(inputs, outputs, self.attrs, needs), grads)
        return [
            None if g is None or not need else F.sum_to(g, value._type.shape)
            for g, need, value in zip(found, needs, inputs)
        ]

    def __getattr__(self, name: str) -> Any:
        """`_saved_self`, `_saved_other`, `_saved_result`: what the tape kept, as PyTorch's nodes show it."""
        kept, at = _SAVED_NAMES.get(name, ("", 0))
        entries: Any = getattr(self, kept) if kept else ()
        if at >= len(entries) or (kept == "outputs" and not isinstance(entries[at], SavedTensor)):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        if self.attrs is None:
            raise RuntimeError(FREED)
        entry = entries[at]
        return entry.unpack(self) if isinstance(entry, SavedTensor) else None

    def release(self) -> None:
        for kept in (self.inputs, self.outputs):
            for i, entry in enumerate(kept):
                if isinstance(entry, SavedTensor):
                    kept[i] = entry.tensor._type
                    self.attrs = None


_SAVED_NAMES = {
    "_saved_self": ("inputs", 0), "_saved_input": ("inputs", 0), "_saved_other": ("inputs", 1),
    "_saved_mat2": ("inputs", 1), "_saved_weight": ("inputs", 1), "_saved_result": ("outputs", 0),
}  # fmt: skip
Reads = tuple[frozenset[int], frozenset[int]]


_reads_of: dict[Any, Reads] = {}
_DECIDING = frozenset({bool, str, tuple})


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
    # Numbers do not decide what a rule reads; choices do, and how many steps, dims or pieces there are.
    modes = [v for v in attrs.values() if type(v) in _DECIDING]
    key = (op, needs, *[t.ndim for t in operands], *modes)
    found = _reads_of.get(key)
    if found is None:
        if len(_reads_of) >= 1 << 14:
            _reads_of.clear()
        declared = tuple(
            _declared(op, side, len(v)) for side, v in (("input", operands), ("output", results))
        )
        found = (declared[0], declared[1])
        if not all(needs):
            seen = _seen_reads(op, needs, [t._type for t in operands], [t._type for t in results], attrs)
            found = (found[0] & seen[0], found[1] & seen[1])
        _reads_of[key] = found
    return found


def _declared(op: Op, side: str, count: int) -> frozenset[int]:
    numbers = {entry.partition(":")[2] for entry in op.saves if entry.startswith(side + ":")}
    if "*" in numbers:
        return frozenset(range(count))
    return frozenset(n for n in map(int, numbers) if n < count)  # an optional operand may be absent


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
    ctx = VJPContext(inputs, outputs, attrs, needs)
    grads = gradients(op, F, ctx, [F.input("dy", t) for t in results])
    used = {value for node in F.nodes for value in node.inputs}
    used.update(g for g in grads if g is not None)
    return (
        frozenset(i for i, value in enumerate(inputs) if value in used),
        frozenset(i for i, value in enumerate(outputs) if value in used),
    )


def default_name(op: Op) -> str:
    """How PyTorch would call the node of an op that does not say: `log_softmax` -> LogSoftmaxBackward0."""
    return op.grad_name or "".join(part.capitalize() for part in op.name.split("_")) + "Backward0"


def record(
    op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any], results: Sequence[Tensor], name: str | None
) -> None:
    """Put an application of `op` on the tape: its floating-point results get a grad_fn."""
    if name is not None:
        cls = node_class(name, OpNode)
    else:
        cls = _node_classes.get(op) or _node_classes.setdefault(op, node_class(default_name(op), OpNode))
    node: OpNode | None = None
    for number, result in enumerate(results):
        if result._type.dtype in DIFFERENTIABLE:
            if node is None:
                node = cls(op, operands, attrs, results)
            result._grad_fn, result._output_nr, result._requires_grad = node, number, True


_node_classes: dict[Op, Any] = {}
