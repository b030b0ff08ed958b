"""Rules for numbers one by one: arithmetic, conversions, choices and fills."""

from __future__ import annotations

import math

import ml_dtypes

from ..ir import dtypes
from ..ir.dtypes import DType
from ..ir.graph import Value
from .simplifier import Call, Number, Simplifier

# Arithmetic


def _neutral(op: str, dtype: DType) -> tuple[Number | None, Number | None]:
    """The numbers that leave the other operand as it is, on the left and on the right."""
    real = dtype.is_floating_point or dtype.is_complex
    match op:
        case "add":  # x + 0 makes +0 of -0; x + -0 is x
            return (-0.0, -0.0) if real else (0, 0)
        case "sub":
            return (None, 0.0) if real else (None, 0)
        case "mul":
            return (1, 1)
        case "div" | "pow":
            return (None, 1)
        case "floor_divide":  # rounds a float
            return (None, None) if real else (None, 1)
        case "maximum" if dtype.is_floating_point:
            return (-math.inf, -math.inf)
        case "minimum" if dtype.is_floating_point:
            return (math.inf, math.inf)
        case "logical_and" | "bitwise_and" if dtype.kind == "bool":
            return (True, True)
        case "logical_or" | "bitwise_or" | "logical_xor" | "bitwise_xor" if dtype.kind == "bool":
            return (False, False)
        case "bitwise_or" | "bitwise_xor":
            return (0, 0)
    return (None, None)


def neutral_element(s: Simplifier, call: Call) -> Value | None:
    left, right = call.inputs
    if call.type.dtype is not left.type.dtype:
        return None
    on_left, on_right = _neutral(call.op.name, left.type.dtype)
    if on_right is not None and s.is_filled(right, on_right):
        return left
    if on_left is not None and s.is_filled(left, on_left):
        return right
    return None


def absorbing_element(s: Simplifier, call: Call) -> Value | None:
    dtype = call.type.dtype
    if dtype.is_floating_point or dtype.is_complex or dtype is not call.inputs[0].type.dtype:
        return None
    absorbing: Number = 0
    if call.op.name == "logical_or":
        absorbing = True
    for value in call.inputs:
        if s.is_filled(value, absorbing) and (call.op.name in ("mul", "bitwise_and") or dtype.kind == "bool"):
            return value
    return None


def same_operands(s: Simplifier, call: Call) -> Value | None:
    """maximum(x, x), minimum(x, x), and the bitwise and and or of a value with itself."""
    left, right = call.inputs
    return left if left is right and call.type.dtype is left.type.dtype else None


def involution(s: Simplifier, call: Call) -> Value | None:
    """neg(neg(x)), not(not(x)) on bools."""
    inner = s.made_by(call.inputs[0], call.op.name)
    if inner is None or inner.inputs[0].type.dtype is not call.type.dtype:
        return None
    return inner.inputs[0]


def abs_of_sign_change(s: Simplifier, call: Call) -> Value | None:
    inner = s.made_by(call.inputs[0], "neg") or s.made_by(call.inputs[0], "abs")
    if inner is None or call.type.dtype.is_complex:
        return None
    result: Value = s.abs(inner.inputs[0])
    return result


def negated_operand(s: Simplifier, call: Call) -> Value | None:
    """x + (-y) is x - y, and x - (-y) is x + y."""
    left, right = call.inputs
    result: Value | None = None
    if (inner := s.made_by(right, "neg")) is not None:
        other = s.sub if call.op.name == "add" else s.add
        result = other(left, inner.inputs[0])
    elif call.op.name == "add" and (inner := s.made_by(left, "neg")) is not None:
        result = s.sub(right, inner.inputs[0])
    return result


def times_minus_one(s: Simplifier, call: Call) -> Value | None:
    left, right = call.inputs
    dtype = call.type.dtype
    if not (dtype.is_floating_point or dtype.kind == "int"):
        return None
    result: Value | None = None
    if s.is_filled(right, -1):
        result = s.neg(left)
    elif s.is_filled(left, -1):
        result = s.neg(right)
    return result


def divided_by_power_of_two(s: Simplifier, call: Call) -> Value | None:
    """x / c is x * (1/c) where 1/c is exact: the same real number, rounded once. A division costs four
    multiplications or more on every target."""
    left, right = call.inputs
    number = s.filled_with(right)
    dtype = call.type.dtype
    if number is None or number == 1 or not dtype.is_floating_point or left.type.dtype is not dtype:
        return None
    c = float(number)
    info = ml_dtypes.finfo(dtype.numpy)
    smallest, largest = float(info.smallest_normal), float(info.max)
    if (
        not (smallest <= abs(c) <= largest and smallest <= 1 / abs(c) <= largest)
        or abs(math.frexp(c)[0]) != 0.5
    ):
        return None
    result: Value = s.mul(left, s.constant(1 / c, dtype))
    return result


def small_power(s: Simplifier, call: Call) -> Value | None:
    """pow(x, 2) is x * x and pow(x, 3) is x * x * x, as PyTorch computes them; pow(x, 4) is the square of the square. Of
    floats, the latter two are for those that products do not round to few digits."""
    base, exponent = call.inputs
    if s.is_filled(exponent, 2):
        found: Value = s.mul(base, base)
        return found
    dtype = base.type.dtype
    if exponent.type.rank or not (dtype.is_integral or dtype in (dtypes.f32, dtypes.f64)):
        return None
    for number in (3, 4):
        if s.is_filled(exponent, number):
            squared = s.mul(base, base)
            found = s.mul(squared, base if number == 3 else squared)
            return found
    return None


def broadcast_operands(s: Simplifier, call: Call) -> Value | None:
    """A pointwise op broadcasts by itself: an `expand` before it, or a `full` of more than one element, is
    not needed where another operand has the result's shape."""
    inputs = list(call.inputs)
    for i, value in enumerate(inputs):
        node = s.producer(value)
        if node is None:
            continue
        replacement = None
        if node.op.name == "expand":
            replacement = node.inputs[0]
        elif node.op.name == "full" and value.type.rank:
            replacement = s.constant(node.attrs["value"], value.type.dtype)
        if replacement is None:
            continue
        shorter = [*inputs[:i], replacement, *inputs[i + 1 :]]
        if call.op.infer_types([v.type for v in shorter], call.attrs) == (call.type,):
            inputs = shorter
    if inputs == list(call.inputs):
        return None
    result: Value = s.apply(call.op, inputs, call.attrs)
    return result


# Conversions


def convert_twice(s: Simplifier, call: Call) -> Value | None:
    """To the dtype it has already; or by way of a dtype that holds every value of the first."""
    (value,) = call.inputs
    dtype: DType = call.attrs["dtype"]
    if value.type.dtype is dtype:
        return value
    inner = s.made_by(value, "convert")
    if inner is None or not holds_every(value.type.dtype, inner.inputs[0].type.dtype):
        return None
    result: Value = s.convert(inner.inputs[0], dtype=dtype)
    return result


def holds_every(wide: DType, narrow: DType) -> bool:
    """Is every value of `narrow` a value of `wide`?"""
    if wide is narrow or narrow.kind == "bool":
        return True
    if wide.is_floating_point:
        digits = ml_dtypes.finfo(wide.numpy).nmant + 1
        if narrow.is_floating_point:
            mine, theirs = ml_dtypes.finfo(wide.numpy), ml_dtypes.finfo(narrow.numpy)
            return bool(
                mine.nmant >= theirs.nmant and mine.maxexp >= theirs.maxexp and mine.minexp <= theirs.minexp
            )
        return narrow.is_integral and digits >= 8 * narrow.itemsize and wide.itemsize > 2
    if wide.kind == "int":
        return narrow.is_integral and wide.itemsize > narrow.itemsize
    return wide.kind == "uint" and narrow.kind == "uint" and wide.itemsize > narrow.itemsize


# Choices


def where_decided(s: Simplifier, call: Call) -> Value | None:
    """The same on both sides, or a condition that is known."""
    condition, a, b = call.inputs
    if a is b:
        return a
    known = s.filled_with(condition)
    return None if known is None else a if known else b


def where_negated(s: Simplifier, call: Call) -> Value | None:
    condition, a, b = call.inputs
    inner = s.made_by(condition, "logical_not")
    if inner is None or inner.inputs[0].type.dtype.kind != "bool":
        return None
    result: Value = s.where(inner.inputs[0], b, a)
    return result


def where_within(s: Simplifier, call: Call) -> Value | None:
    """where(c, where(c, a, _), b) is where(c, a, b), and so on the other side."""
    condition, a, b = call.inputs
    inner_a, inner_b = s.made_by(a, "where"), s.made_by(b, "where")
    if inner_a is not None and inner_a.inputs[0] is condition:
        a = inner_a.inputs[1]
    if inner_b is not None and inner_b.inputs[0] is condition:
        b = inner_b.inputs[2]
    if (a, b) == call.inputs[1:]:
        return None
    result: Value = s.where(condition, a, b)
    return result


def where_clamped(s: Simplifier, call: Call) -> Value | None:
    """where(x <= min or x >= max, clamp(x, min, max), x) is the clamp: between the limits, and for NaN, that is x."""
    condition, clamped, x = call.inputs
    clamp, either = s.made_by(clamped, "clamp"), s.made_by(condition, "logical_or")
    if clamp is None or either is None or clamp.inputs[0] is not x:
        return None
    for value, test, limit in zip(either.inputs, ("le", "ge"), ("min", "max")):
        node = s.made_by(value, test)
        number = clamp.attrs[limit]
        if (
            node is None
            or node.inputs[0] is not x
            or number is None
            or not s.is_filled(node.inputs[1], number)
        ):
            return None
    return clamped


# Fills


def number_of_the_dtype(s: Simplifier, call: Call) -> Value | None:
    """A fill's number is written as its dtype has it, so that fills of 0 and of 0.0 are one common
    subexpression."""
    number, dtype = call.attrs["value"], call.type.dtype
    kind: type = {"float": float, "int": int, "uint": int, "bool": bool}.get(dtype.kind, type(number))
    if type(number) is kind or (isinstance(number, float) and not math.isfinite(number)):
        return None
    same = kind(number)
    if same != number:  # a large int that no float is, or a float with a fraction: the op rounds it
        return None
    result: Value = s.full(**{**call.attrs, "value": same})
    return result
