"""Rules on float16 and bfloat16: computed in float32, rounded once.

A gradient rule or a decomposition is many ops, and a sixteen-bit result of each of them would be rounded. PyTorch's
kernels load such numbers, compute in float32 and round what they store. So the drivers run rules through `gradients`
and `decomposed`, which give a rule on sixteen-bit operands a builder that converts them where they enter arithmetic,
and convert what the rule returns. What only moves elements moves the short ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import dtypes
from .builder import OpBuilder, Step
from .dims import DimLike
from .dtypes import DType
from .graph import Node
from .op import Op, VJPContext, op_named
from .types import TensorType

HALF = frozenset({dtypes.f16, dtypes.bf16})
_ARITHMETIC = frozenset({"pointwise", "reduce", "window", "attention", "none"})  # "none": composites
_MOVING = frozenset({"view", "gather", "scatter"})


class Float32Builder(OpBuilder):
    """Applies ops through another builder; to a rule its sixteen-bit values look like float32."""

    def __init__(self, F: OpBuilder):
        self.F = F
        self._converted: dict[int, tuple[Any, Any]] = {}

    def type_of(self, value: Any) -> TensorType:
        found = self.F.type_of(value)
        return TensorType(found.shape, dtypes.f32) if found.dtype in HALF else found

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Any:
        return self.F.constant(value, dtype)

    def in_float32(self, value: Any) -> Any:
        if self.F.type_of(value).dtype not in HALF:
            return value
        found = self._converted.get(id(value))
        if found is None:  # the value is kept, so that its id stays its own
            found = value, self.F.apply(op_named("convert"), (value,), {"dtype": dtypes.f32})
            self._converted[id(value)] = found
        return found[1]

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        operands = self._lift(operands)
        if op.name == "convert" and self.type_of(operands[0]).dtype is attrs["dtype"]:
            return self.in_float32(operands[0])
        types = [self.F.type_of(v).dtype for v in operands]
        if op.lowering == "attention" and _operands_of_attention(op, types):
            return self.F.apply(op, operands, attrs)
        if op.lowering not in _MOVING or not all(t in HALF or not t.is_floating_point for t in types):
            operands = [self.in_float32(v) for v in operands]
        return self.F.apply(op, operands, attrs)

    def scan(
        self,
        body: Step,
        carries: Sequence[Any],
        sequences: Sequence[Any] = (),
        invariants: Sequence[Any] = (),
        *,
        length: DimLike,
        reverse: bool = False,
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        states, elements, constant = (
            [self.in_float32(v) for v in vs] for vs in (carries, sequences, invariants)
        )
        return self.F.scan(body, states, elements, constant, length=length, reverse=reverse)


def _operands_of_attention(op: Op, types: Sequence[DType]) -> bool:
    """Whether the op takes them as they are: its kernels convert where they multiply, and their results are rounded."""
    short = types[:3] if op.name == "attention" else types[:4]
    return short[0] in HALF and len(set(short)) == 1


def _rounded(F: OpBuilder, value: Any, dtype: DType) -> Any:
    if dtype in HALF and F.type_of(value).dtype is dtypes.f32:
        return F.apply(op_named("convert"), (value,), {"dtype": dtype})
    return value


def widens(node: Node) -> bool:
    """A conversion of a sixteen-bit type to float32, or of 8-bit integers to int32."""
    if node.op.name != "convert":
        return False
    source, wide = node.inputs[0].type.dtype, node.attrs["dtype"]
    return wide is dtypes.f32 if source in HALF else wide is dtypes.i32 and source in (dtypes.i8, dtypes.u8)


def _is_arithmetic(op: Op) -> bool:
    """An op with an attribute `dtype` reads its operand's bits, or says itself what it computes in."""
    return op.lowering in _ARITHMETIC and "dtype" not in op.attrs


def gradients(op: Op, F: OpBuilder, ctx: VJPContext, cotangents: Sequence[Any]) -> Sequence[Any]:
    """What the op's gradient rule gives: a cotangent, or None, for each operand."""
    assert op.vjp is not None
    if not _is_arithmetic(op) or F.type_of(ctx.outputs[0]).dtype not in HALF:
        return op.vjp(F, ctx, *cotangents)
    found = op.vjp(Float32Builder(F), ctx, *cotangents)
    return [
        None if grad is None else _rounded(F, grad, F.type_of(operand).dtype)
        for grad, operand in zip(found, ctx.inputs, strict=True)
    ]


def decomposed(op: Op, F: OpBuilder, operands: Sequence[Any], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The op's results by its decomposition."""
    assert op.decompose is not None
    types = [F.type_of(v) for v in operands]
    half = _is_arithmetic(op) and any(t.dtype in HALF for t in types)
    found = op.decompose(Float32Builder(F) if half else F, *operands, **attrs)
    results = found if isinstance(found, tuple) else (found,)
    if not half:
        return results
    return tuple(_rounded(F, v, t.dtype) for v, t in zip(results, op.infer_types(types, attrs), strict=True))
