"""Through which graph values gradients flow, where a traced forward graph is differentiated afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..ir.builder import GraphBuilder
from ..ir.graph import Value
from ..ir.op import Op, op_named
from ..state import local
from ..tensor import Tensor


class GradientFlow:
    """`active`: the values to which gradients flow. Where eager code would let none flow to an operand that is active
    all the same, its edge is cut. `only_on_tape`: whether a tensor's gradients flow where its value does not come from:
    to a weight that was clamped under `no_grad`, then used."""

    def __init__(self, builder: GraphBuilder):
        self.active: set[Value] = set()
        self.only_on_tape = False
        # Through which gradients flow, leaves or not of the trace.
        self.tensors: dict[Tensor, None] = {}
        self._builder = builder
        self._cuts: list[tuple[int, int]] = []  # (number of a node, of its operand)

    def mark(
        self, op: Op, operands: Sequence[Tensor], values: Sequence[Value], results: Sequence[Value]
    ) -> None:
        """Gradients flow from a node's results to an operand only if eager code would let them: grad mode is on and the
        operand requires grad. Where the operand's value is active all the same (it was detached), the edge is cut."""
        enabled = local.grad_enabled
        flows = False
        for position, (tensor, value) in enumerate(zip(operands, values)):
            wanted = enabled and tensor.requires_grad
            if wanted and (tensor._array is not None or tensor._grad_fn is None):
                self.tensors[tensor] = None
            if value not in self.active:
                self.only_on_tape |= wanted
                continue
            if wanted:
                flows = True
            else:
                self._cuts.append((len(self._builder.nodes) - 1, position))
        if flows and op.vjp is not None:
            self.active.update(v for v in results if v.type.dtype.kind in ("float", "complex"))

    def detached(self, values: Sequence[Value], keep: set[int]) -> tuple[list[Value], GraphBuilder]:
        """The graph with a `detach` on every cut edge, for differentiating it: new outputs, new builder.

        Outputs whose position is not in `keep` are detached too.
        """
        detach = op_named("detach")
        builder = GraphBuilder(self._builder.name)
        mapping: dict[Value, Value] = {v: builder.input(v.name, v.type) for v in self._builder.inputs}
        cut_at: dict[int, list[int]] = {}
        for number, position in self._cuts:
            cut_at.setdefault(number, []).append(position)
        detached: dict[Value, Value] = {}

        def cut(value: Value) -> Value:
            if value not in detached:
                detached[value] = builder.apply(detach, (mapping[value],), {})
            return detached[value]

        for at, node in enumerate(self._builder.nodes):
            builder.location = node.location
            positions = cut_at.get(at, ())
            inputs = tuple(cut(v) if i in positions else mapping[v] for i, v in enumerate(node.inputs))
            # Not by value: one operand of `where(mask, y.detach(), y)` is cut, the other is not.
            copied = replace(
                node, inputs=inputs, outputs=tuple(Value(builder.fresh_name(), v.type) for v in node.outputs)
            )
            builder.nodes.append(copied)
            mapping.update(zip(node.outputs, copied.outputs))
        outputs = [mapping[v] if i in keep else cut(v) for i, v in enumerate(values)]
        return outputs, builder
