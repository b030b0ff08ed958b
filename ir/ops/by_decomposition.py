"""A composite's gradient from its decomposition: the ops it is made of, recorded, and gone back through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..builder import OpBuilder
from ..dtypes import DType
from ..half_precision import gradients
from ..op import Op, VJPContext
from ..types import TensorType


class _Recorder(OpBuilder):
    """Applies ops through another builder and keeps what was applied."""

    def __init__(self, F: OpBuilder):
        self.F = F
        self.calls: list[tuple[Op, tuple[Any, ...], Mapping[str, Any], tuple[Any, ...]]] = []

    def type_of(self, value: Any) -> TensorType:
        return self.F.type_of(value)

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Any:
        return self.F.constant(value, dtype)

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        lifted, full = tuple(self._lift(operands)), op.normalise_attrs(attrs)
        found = self.F.apply(op, lifted, full)
        self.calls.append((op, lifted, full, found if isinstance(found, tuple) else (found,)))
        return found


def vjp_by_decomposition(decompose: Callable[..., Any]) -> Callable[..., list[Any]]:
    """A gradient rule that reads all operands and computes the op again, piece by piece. Where a composite has no
    better one: for the gradients of gradients."""

    def rule(F: Any, ctx: VJPContext, *cotangents: Any) -> list[Any]:
        recorder = _Recorder(F)
        # Operands may be one and the same value; as views they are told apart.
        inputs = [F.reshape(x, shape=F.type_of(x).shape) for x in ctx.inputs]
        results = decompose(recorder, *inputs, **ctx.attrs)
        flowing: dict[int, Any] = {}

        def deliver(value: Any, grad: Any) -> None:
            if grad is not None:
                before = flowing.get(id(value))
                flowing[id(value)] = grad if before is None else F.add(before, grad)

        for value, cotangent in zip(results if isinstance(results, tuple) else (results,), cotangents):
            deliver(value, cotangent)
        for op, operands, attrs, outputs in reversed(recorder.calls):
            incoming = [flowing.get(id(y)) for y in outputs]
            if op.vjp is None or all(g is None for g in incoming):
                continue
            needs = tuple(F.type_of(x).dtype.kind in ("float", "complex") for x in operands)
            found = gradients(op, F, VJPContext(operands, outputs, attrs, needs), incoming)
            for operand, grad in zip(operands, found):
                if grad is not None:
                    deliver(operand, F.sum_to(grad, F.type_of(operand).shape))
        return [flowing.get(id(x)) if need else None for x, need in zip(inputs, ctx.needs)]

    return rule
