"""Rules of elementwise ops: arithmetic, comparisons, logic, activations, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

import vitrify as torch
import vitrify.nn.functional as F

from ..ir.dtypes import DType
from ..tensor import Tensor
from .narrow import is_narrow, narrow_type, narrowed, widened
from .table import Call, ONNXError, Value, as_tensor, dtype_of, rule

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not, "Ceil": torch.ceil,
    "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "IsNaN": torch.isnan, "Log": torch.log, "Mish": F.mish, "Neg": torch.neg,
    "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round,
    "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Softsign": F.softsign,
    "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "And": torch.logical_and, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Less": torch.lt, "LessOrEqual": torch.le, "Mul": torch.mul, "Or": torch.logical_or, "Sub": torch.sub,
    "Xor": torch.logical_xor,
}  # fmt: skip


def aligned(call: Call, first: Tensor, second: Tensor) -> Tensor:
    """The second operand of operator set 6 and older, whose `axis` says where its dims stand among the first's."""
    axis = call.attr("axis")
    if axis is None or not call.attr("broadcast", 0):
        return second
    trailing = first.ndim - int(axis) % first.ndim - second.ndim
    return second.reshape([*second.shape, *[1] * trailing])


def _enter() -> None:
    for name, unary in _UNARY.items():
        rule(name)(lambda call, f=unary: f(call.tensor(0)))  # type: ignore[misc]
    for name, binary in _BINARY.items():
        rule(name)(
            lambda call, f=binary: f(call.tensor(0), aligned(call, call.tensor(0), call.tensor(1)))  # type: ignore[misc]
        )


_enter()


@rule("Identity", folds=True)
def identity(call: Call) -> Any:
    return call.inputs[0]


@rule("Div")
def div(call: Call) -> Tensor:
    a, b = call.tensor(0), call.tensor(1)
    b = aligned(call, a, b)
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@rule("Mod")
def mod(call: Call) -> Tensor:
    """`fmod=1` keeps the sign of the dividend, as C does; otherwise that of the divisor, as Python."""
    return (torch.fmod if call.attr("fmod", 0) else torch.remainder)(call.tensor(0), call.tensor(1))


@rule("Pow")
def power(call: Call) -> Tensor:
    """The result has the base's dtype, whatever the exponent's is."""
    base, exponent = call.tensor(0), call.tensor(1)
    exponent = aligned(call, base, exponent)
    if base.is_floating_point() or not exponent.is_floating_point():
        return torch.pow(base, exponent).to(base.dtype)
    return torch.pow(base.to(exponent.dtype), exponent).to(base.dtype)


@rule("BitShift")
def bit_shift(call: Call) -> Tensor:
    shift = torch.bitwise_left_shift if call.required("direction") == "LEFT" else torch.bitwise_right_shift
    return shift(call.tensor(0), call.tensor(1))


@rule("Max")
def maximum(call: Call) -> Tensor:
    return reduce(torch.maximum, call.tensors())


@rule("Min")
def minimum(call: Call) -> Tensor:
    return reduce(torch.minimum, call.tensors())


@rule("Sum")
def total(call: Call) -> Tensor:
    return reduce(torch.add, call.tensors())


@rule("Mean")
def mean(call: Call) -> Tensor:
    return reduce(torch.add, call.tensors()) / len(call.tensors())


@rule("Where")
def where(call: Call) -> Tensor:
    return torch.where(call.tensor(0), call.tensor(1), call.tensor(2))


@rule("Clip", static=(1, 2))
def clip(call: Call) -> Tensor:
    x = call.tensor(0)
    if call.version < 11:
        low, high = call.attr("min"), call.attr("max")
    else:
        low, high = (call.inputs[i] if call.has(i) else None for i in (1, 2))
    for bound, closer in ((low, torch.maximum), (high, torch.minimum)):
        if isinstance(bound, np.ndarray):
            bound = bound.reshape(()).item()
        if isinstance(bound, Tensor):
            x = closer(x, bound)
        elif bound is not None and math.isfinite(bound):
            x = torch.clamp(x, min=bound) if closer is torch.maximum else torch.clamp(x, max=bound)
    return x


@rule("IsInf")
def is_inf(call: Call) -> Tensor:
    x = call.tensor(0)
    if not call.attr("detect_negative", 1):
        return torch.isposinf(x) if call.attr("detect_positive", 1) else torch.zeros_like(x, dtype=torch.bool)
    return torch.isinf(x) if call.attr("detect_positive", 1) else torch.isneginf(x)


# Activations. https://onnx.ai/onnx/operators/


@rule("LeakyRelu")
def leaky_relu(call: Call) -> Tensor:
    return F.leaky_relu(call.tensor(0), call.attr("alpha", 0.01))


@rule("Elu")
def elu(call: Call) -> Tensor:
    return F.elu(call.tensor(0), call.attr("alpha", 1.0))


@rule("Celu")
def celu(call: Call) -> Tensor:
    return F.celu(call.tensor(0), call.attr("alpha", 1.0))


@rule("Selu")
def selu(call: Call) -> Tensor:
    x = call.tensor(0)
    alpha = call.attr("alpha", 1.67326319217681884765625)
    return call.attr("gamma", 1.05070102214813232421875) * torch.where(x > 0, x, alpha * torch.expm1(x))


@rule("Gelu")
def gelu(call: Call) -> Tensor:
    return F.gelu(call.tensor(0), approximate=call.attr("approximate", "none"))


@rule("HardSigmoid")
def hard_sigmoid(call: Call) -> Tensor:
    return torch.clamp(call.attr("alpha", 0.2) * call.tensor(0) + call.attr("beta", 0.5), 0, 1)


@rule("HardSwish")
def hard_swish(call: Call) -> Tensor:
    return F.hardswish(call.tensor(0))


@rule("PRelu")
def prelu(call: Call) -> Tensor:
    x, slope = call.tensor(0), call.tensor(1)
    if call.version < 7 and slope.ndim == 1:
        slope = slope.reshape([-1, *[1] * (x.ndim - 2)])
    return torch.where(x < 0, x * slope, x)


@rule("Shrink")
def shrink(call: Call) -> Tensor:
    x, bias, threshold = call.tensor(0), call.attr("bias", 0.0), call.attr("lambd", 0.5)
    moved = torch.where(x > threshold, x - bias, torch.zeros_like(x))
    return torch.where(x < -threshold, x + bias, moved).to(x.dtype)


@rule("Softplus")
def softplus(call: Call) -> Tensor:
    return F.softplus(call.tensor(0))


@rule("Swish")
def swish(call: Call) -> Tensor:
    x = call.tensor(0)
    return x * torch.sigmoid(call.attr("alpha", 1.0) * x)


@rule("ThresholdedRelu")
def thresholded_relu(call: Call) -> Tensor:
    x = call.tensor(0)
    return torch.where(x > call.attr("alpha", 1.0), x, torch.zeros_like(x))


def _cast(call: Call, narrow: np.dtype[Any] | None, dtype: DType | None) -> Value:
    if narrow is not None:
        saturate = bool(call.attr("saturate", 1))
        return narrowed(call.value(0), narrow, saturate, call.attr("round_mode", "up"))
    assert dtype is not None
    return as_tensor(widened(call.value(0))).to(dtype)


@rule("Cast")
def cast(call: Call) -> Value:
    to = call.required("to")
    narrow = narrow_type(to)
    return _cast(call, narrow, None if narrow is not None else dtype_of(to))


@rule("CastLike")
def cast_like(call: Call) -> Value:
    like = call.value(1)
    if isinstance(like, np.ndarray) and like.dtype == object:
        return call.tensor(0).to(torch.int64)
    if is_narrow(like):
        return _cast(call, like.dtype, None)
    return _cast(call, None, like.dtype if isinstance(like, Tensor) else call.tensor(1).dtype)


@rule("BitCast")
def bit_cast(call: Call) -> Tensor:
    return call.tensor(0).view(dtype_of(call.required("to")))


@rule("Dropout", static=(1, 2), folds=False)
def dropout(call: Call) -> tuple[Tensor, Tensor]:
    """Older operator sets drop nothing; since 12 the input `training_mode` says."""
    x = call.tensor(0)
    ratio = call.number(1, 0.5) if call.version >= 12 else call.attr("ratio", 0.5)
    kept = torch.ones_like(x, dtype=torch.bool)
    if call.version >= 12 and call.number(2, False) and ratio:
        if not 0 <= ratio < 1:
            raise ONNXError(f"the ratio of Dropout must be in [0, 1), not {ratio}")
        kept = torch.rand(x.shape) >= ratio
        return torch.where(kept, x / (1 - ratio), torch.zeros_like(x)), kept
    return x, kept


@rule("Binarizer", domain="ai.onnx.ml")
def binarizer(call: Call) -> Tensor:
    x = call.tensor(0)
    return (x > call.attr("threshold", 0.0)).to(x.dtype)
