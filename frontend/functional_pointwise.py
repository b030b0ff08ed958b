"""Functions of one element each: arithmetic, comparisons, elementary functions."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

from . import promotion
from .arguments import operand, tensor_argument
from .dispatch import apply, constant, op_named
from .functional_host import nonzero
from .inplace import into
from .ir import dtypes
from .ir.op import Op
from .promotion import as_operand, convert, promoted, result_dtype
from .tape import NotImplementedNode, folded
from .tensor import Tensor, cxx_name, scalar_type_name

_ADD, _SUB, _MUL, _DIV, _POW = map(op_named, ("add", "sub", "mul", "div", "pow"))


def _pair(input: Any, other: Any, floating: bool = False) -> tuple[Tensor, Tensor]:
    """The two operands in the dtype they have in common."""
    if isinstance(input, Tensor):
        dtype = input._type.dtype
        if isinstance(other, Tensor):
            if dtype is other._type.dtype and (not floating or dtype.kind == "float"):
                return input, other
        elif dtype.kind == "float" and not isinstance(other, complex):
            return input, constant(other, dtype)
    first, second = promoted(input, other, floating=floating)
    return first, second


def _finish(result: Tensor, out: Tensor | None, name: str) -> Tensor:
    return result if out is None else into(out, result, name)


def _hide(result: Tensor, shown: int = 1) -> Tensor:
    """A number operand that PyTorch's node does not list among its next_functions."""
    if result._grad_fn is not None:
        result._grad_fn.edges_shown = shown
    return result


# Arithmetic


def add(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """input + alpha * other."""
    first, second = operand(input, "add", "input", 1), operand(other, "add")
    if type(alpha) is int and alpha == 1:
        return _finish(apply(_ADD, _pair(first, second)), out, "add")
    if not isinstance(second, Tensor):
        return _finish(apply(_ADD, _pair(first, _scaled(first, second, alpha))), out, "add")
    result = folded("AddBackward0", (first, second), lambda: add(first, _scaled(first, second, alpha)))
    return _finish(result, out, "add")


def sub(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """input - alpha * other."""
    first, second = operand(input, "sub", "input", 1), operand(other, "sub")
    if type(alpha) is int and alpha == 1:
        return _finish(apply(_SUB, _pair(first, second)), out, "sub")
    if not isinstance(second, Tensor):
        return _finish(apply(_SUB, _pair(first, _scaled(first, second, alpha))), out, "sub")
    result = folded("SubBackward0", (first, second), lambda: sub(first, _scaled(first, second, alpha)))
    return _finish(result, out, "sub")


def _scaled(input: Any, other: Any, alpha: Any) -> Any:
    dtype = result_dtype(input, other)
    if dtype.is_integral and isinstance(alpha, float):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, bool) and dtype is not dtypes.bool_:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if not isinstance(other, Tensor):
        return other * alpha
    first = as_operand(other, dtype)
    return apply(_MUL, (first, as_operand(alpha, dtype)))


def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input."""
    if type(alpha) is not int or alpha != 1:
        return folded("RsubBackward0", (input, other), lambda: sub(other, mul(input, alpha)))
    second, first = _pair(input, operand(other, "rsub"))
    if isinstance(other, Tensor):
        return folded("RsubBackward0", (input, other), lambda: apply(_SUB, (first, second)))
    return _hide(apply(_SUB, (first, second), grad_name="RsubBackward1"), -1)


def mul(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """input * other."""
    pair = _pair(operand(input, "mul", "input", 1), operand(other, "mul"))
    return _finish(apply(_MUL, pair), out, "mul")


def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """input / other; `rounding_mode` "trunc" or "floor" rounds the quotient."""
    first, second = operand(input, "div", "input", 1), operand(other, "div")
    if rounding_mode is None:
        result = apply(_DIV, _pair(first, second, floating=True))
    elif rounding_mode == "floor":
        result = apply(_FLOOR_DIVIDE, _pair(first, second), grad_name="DivBackward2")
    elif rounding_mode == "trunc":
        result = folded("DivBackward2", (first, second), lambda: _truncated(*_pair(first, second)))
    else:
        raise RuntimeError(
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '"
            + rounding_mode
            + "'"
        )
    return _finish(result, out, "div")


_FLOOR_DIVIDE, _TRUNC, _REMAINDER = map(op_named, ("floor_divide", "trunc", "remainder"))


def floor_divide(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """floor(input / other)."""
    pair = _pair(operand(input, "floor_divide", "input", 1), operand(other, "floor_divide"))
    _refuse_bool("div_floor_cpu", pair[0])
    result: Tensor = apply(_FLOOR_DIVIDE, pair)
    if result._grad_fn is not None:
        result._grad_fn = NotImplementedNode("floor_divide", (input, other), result._type)
    return _finish(result, out, "floor_divide")


def remainder(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Python's modulus: the result has the sign of `other`."""
    pair = _pair(operand(input, "remainder", "input", 1), operand(other, "remainder"))
    _refuse_bool("remainder_cpu", pair[0])
    if isinstance(other, Tensor):
        return _finish(apply(_REMAINDER, pair, grad_name="RemainderBackward1"), out, "remainder")
    return _finish(_hide(apply(_REMAINDER, pair, grad_name="RemainderBackward0")), out, "remainder")


def fmod(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
    """C's fmod: the result has the sign of `input`."""
    second = operand(other, "fmod")

    def compute() -> Tensor:
        a, b = _pair(input, second)
        result: Tensor = apply(_SUB, (a, apply(_MUL, (_truncated(a, b), b))))
        return result

    name = "FmodBackward1" if isinstance(second, Tensor) else "FmodBackward0"
    return _finish(folded(name, (input, second), compute), out, "fmod")


def _truncated(first: Tensor, second: Tensor) -> Tensor:
    """The quotient rounded towards zero, as the op itself does for integers."""
    quotient: Tensor = apply(_DIV, (first, second))
    if first.dtype.kind == "float":
        quotient = apply(_TRUNC, (quotient,))
    return quotient


def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """input to the exponent."""
    base, exponent = operand(input, "pow", "input", 1), operand(exponent, "pow", "exponent")
    if isinstance(base, Tensor) and not isinstance(exponent, Tensor):
        result = _hide(_number_power(base, exponent))
    elif isinstance(exponent, Tensor) and not isinstance(base, Tensor):
        pair = _pair(base, exponent)
        _refuse_bool("pow", pair[0])
        result = _hide(apply(_POW, pair, grad_name="PowBackward2"), -1)
    else:
        pair = _pair(base, exponent)
        _refuse_bool("pow", pair[0])
        result = apply(_POW, pair, grad_name="PowBackward1")
    return _finish(result, out, "pow")


def _refuse_bool(kernel: str, value: Tensor) -> None:
    if value.dtype is dtypes.bool_:
        raise NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'")


def _number_power(base: Tensor, exponent: Any) -> Tensor:
    """The common exponents are computed as PyTorch computes them: a product, a root."""
    first, second = _pair(base, exponent)
    dtype = first.dtype
    if dtype.is_integral and isinstance(exponent, int) and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if dtype is dtypes.bool_:  # True ** False is True, anything else changes nothing
        return first if exponent else as_operand(True, dtype) | first
    if exponent == 2 and dtype.kind in ("float", "int", "uint"):
        return apply(_MUL, (first, first), grad_name="PowBackward0")
    if exponent == 0.5 and dtype.kind == "float":
        return apply(op_named("sqrt"), (first,), grad_name="PowBackward0")
    return apply(_POW, (first, second), grad_name="PowBackward0")


def square(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """input ** 2."""
    return pow(input, 2, out=out)


def neg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """-input."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a "
            "mask, use "
            "the `~` or `logical_not()` operator instead."
        )
    return _finish(apply(_NEG, (input,)), out, "neg")


_NEG = op_named("neg")


def positive(input: Tensor) -> Tensor:
    """The tensor itself."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


# Functions of one tensor


def _unary(name: str, doc: str, floating: bool = True) -> Callable[..., Tensor]:
    """A function of one tensor by the op of the same name. `floating`: integers become the default dtype
    first.
    """
    op = op_named(name)

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        tensor_argument(input, name)
        kind = input._type.dtype.kind
        if floating and kind != "float" and kind != "complex":
            input = convert(input, promotion.get_default_dtype())
        result: Tensor = apply(op, (input,))
        return result if out is None else into(out, result, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


exp = _unary("exp", "e to the input.")
expm1 = _unary("expm1", "exp(input) - 1, accurate near 0.")
log = _unary("log", "The natural logarithm.")
log1p = _unary("log1p", "log(1 + input), accurate near 0.")
sqrt = _unary("sqrt", "The square root.")
rsqrt = _unary("rsqrt", "1 / sqrt(input).")
reciprocal = _unary("reciprocal", "1 / input.")
sin = _unary("sin", "The sine, of radians.")
cos = _unary("cos", "The cosine, of radians.")
tan = _unary("tan", "The tangent, of radians.")
tanh = _unary("tanh", "The hyperbolic tangent.")
erf = _unary("erf", "The error function.")
sigmoid = _unary("sigmoid", "1 / (1 + exp(-input)).")
isnan = _unary("isnan", "Where the input is NaN.", floating=False)
isinf = _unary("isinf", "Where the input is infinite.", floating=False)
isfinite = _unary("isfinite", "Where the input is neither NaN nor infinite.", floating=False)
abs = _unary("abs", "The absolute value.", floating=False)
sign = _unary("sign", "-1, 0 or 1.", floating=False)
relu = _unary("relu", "max(input, 0).", floating=False)
logical_not = _unary("logical_not", "Whether the input is zero.", floating=False)


def _step(name: str, doc: str) -> Callable[..., Tensor]:
    """A rounding function: integers are returned as they are."""
    op = op_named(name)

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if tensor_argument(input, name).dtype.is_integral:
            return _finish(convert_copy(input), out, name)
        return _finish(apply(op, (input,)), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def convert_copy(input: Tensor) -> Tensor:
    """A copy of the tensor, by an op of its own (`clone`)."""
    result: Tensor = apply(_CONVERT, (input,), {"dtype": input.dtype}, "CloneBackward0")
    return result


_CONVERT = op_named("convert")

floor = _step("floor", "The largest integer that is not greater.")
ceil = _step("ceil", "The smallest integer that is not less.")
trunc = _step("trunc", "The integer part.")


def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """The nearest integer, halves to the even one; to `decimals` decimal places."""
    if input.dtype.is_integral:
        return _finish(convert_copy(input), out, "round")
    if decimals == 0:
        return _finish(apply(_ROUND, (input,)), out, "round")
    scale = constant(10.0 ** builtins.abs(decimals), input.dtype)
    up, down = (_MUL, _DIV) if decimals > 0 else (_DIV, _MUL)

    def compute() -> Tensor:
        result: Tensor = apply(down, (apply(_ROUND, (apply(up, (input, scale)),)), scale))
        return result

    return _finish(folded("RoundBackward1", (input,), compute), out, "round")


_ROUND = op_named("round")


def _composed(name: str, doc: str, compute: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A function of one tensor made of others, with a node of its own."""

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        tensor_argument(input, name)
        return _finish(folded(f"{name.capitalize()}Backward0", (input,), lambda: compute(input)), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _sinh(x: Tensor) -> Tensor:
    grown = expm1(x)  # accurate near 0, where exp(x) - exp(-x) cancels
    return mul(add(grown, div(grown, add(grown, 1))), 0.5)


log2 = _composed("log2", "The logarithm to base 2.", lambda x: div(log(x), math.log(2)))
log10 = _composed("log10", "The logarithm to base 10.", lambda x: div(log(x), math.log(10)))
sinh = _composed("sinh", "The hyperbolic sine.", _sinh)
cosh = _composed("cosh", "The hyperbolic cosine.", lambda x: mul(add(exp(x), exp(neg(x))), 0.5))
exp2 = _composed("exp2", "2 to the input.", lambda x: exp(mul(x, math.log(2))))


# Two tensors


def _binary(name: str, doc: str, numbers: bool = True) -> Callable[..., Tensor]:
    """A function of a tensor and a tensor, or number where `numbers`."""
    op = op_named(name)

    def function(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
        if not isinstance(input, Tensor):
            raise _invalid_combination(name, input, other) if numbers else _not_a_tensor(name, "input", 1, input)
        if not numbers:
            tensor_argument(other, name, "other", 2)
        result: Tensor = apply(op, _pair(input, operand(other, name)))
        return result if out is None else into(out, result, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _invalid_combination(name: str, input: Any, other: Any) -> TypeError:
    given = ", ".join(type(v).__name__ for v in (input, other))
    return TypeError(
        f"{name}() received an invalid combination of arguments - got ({given}), but expected one of:\n"
        " * (Tensor input, Tensor other, *, Tensor out = None)\n"
        " * (Tensor input, Number other, *, Tensor out = None)\n"
    )


def _not_a_tensor(name: str, argument: str, position: int, value: Any) -> TypeError:
    return TypeError(
        f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}"
    )


maximum = _binary("maximum", "The larger of the two, element by element.", numbers=False)
minimum = _binary("minimum", "The smaller of the two, element by element.", numbers=False)
lt = _binary("lt", "input < other.")
le = _binary("le", "input <= other.")
gt = _binary("gt", "input > other.")
ge = _binary("ge", "input >= other.")
eq = _binary("eq", "input == other.")
ne = _binary("ne", "input != other.")
logical_and = _binary("logical_and", "Whether both are nonzero.", numbers=False)
logical_or = _binary("logical_or", "Whether one is nonzero.", numbers=False)
logical_xor = _binary("logical_xor", "Whether exactly one is nonzero.", numbers=False)


def _bitwise(name: str, doc: str) -> Callable[..., Tensor]:
    op: Op = op_named(name)

    def function(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        pair = _pair(operand(input, name, "input", 1), operand(other, name))
        kind = pair[0].dtype.kind
        if kind == "float" or kind == "complex":
            raise NotImplementedError(
                f"\"{name}_cpu\" not implemented for '{scalar_type_name(pair[0].dtype)}'"
            )
        return _finish(apply(op, pair), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def bitwise_left_shift(input: Any, other: Any) -> Tensor:
    """input times 2 to the other."""
    return mul(input, _power_of_two(input, other, "lshift"))


def bitwise_right_shift(input: Any, other: Any) -> Tensor:
    """input divided by 2 to the other, rounded down."""
    return floor_divide(input, _power_of_two(input, other, "rshift"))


def _power_of_two(input: Any, other: Any, name: str) -> Any:
    dtype = result_dtype(input, other)
    if not dtype.is_integral:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{scalar_type_name(dtype)}'")
    if isinstance(other, Tensor):
        return apply(_POW, (as_operand(2, dtype), convert(other, dtype)))
    return as_operand(2**other, dtype)


bitwise_and = _bitwise("bitwise_and", "input & other.")
bitwise_or = _bitwise("bitwise_or", "input | other.")
bitwise_xor = _bitwise("bitwise_xor", "input ^ other.")


def bitwise_not(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """~input: of bool the negation."""
    if input.dtype.kind in ("float", "complex"):
        raise NotImplementedError(
            f"\"bitwise_not_cpu\" not implemented for '{scalar_type_name(input.dtype)}'"
        )
    return _finish(apply(op_named("bitwise_not"), (input,)), out, "bitwise_not")


# Three tensors


def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Tensor | None = None) -> Any:
    """`input` where the condition holds, else `other`; with the condition alone, the indices where it does."""
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if condition.dtype not in (dtypes.bool_, dtypes.u8):
        raise RuntimeError(
            "where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{scalar_type_name(condition.dtype)}"
        )
    first, second = _pair(operand(input, "where", "input"), operand(other, "where", "other", 3))
    return _finish(apply(_WHERE, (convert(condition, dtypes.bool_), first, second)), out, "where")


_WHERE = op_named("where")


def clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Tensor | None = None) -> Tensor:
    """input limited to [min, max]; the bounds are numbers or tensors, one of them may be absent."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if isinstance(min, Tensor) or isinstance(max, Tensor):

        def compute() -> Tensor:
            raised = input if min is None else maximum(input, min)
            return raised if max is None else minimum(raised, max)

        return _finish(folded("ClampBackward0", (input, min, max), compute), out, "clamp")
    numbers = [operand(v, "clamp", "min") for v in (min, max) if v is not None]
    dtype = result_dtype(input, *numbers)
    bounds = [None if v is None else (float(v) if dtype.kind == "float" else v) for v in (min, max)]
    result = apply(op_named("clamp"), (convert(input, dtype),), {"min": bounds[0], "max": bounds[1]})
    return _finish(result, out, "clamp")


clip = clamp


def clamp_min(input: Tensor, min: Any, *, out: Tensor | None = None) -> Tensor:
    """`clamp` from below."""
    return clamp(input, min=min, out=out)


def clamp_max(input: Tensor, max: Any, *, out: Tensor | None = None) -> Tensor:
    """`clamp` from above."""
    return clamp(input, max=max, out=out)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """input with the elements where the mask holds replaced by the value."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(
            f"masked_fill_ only supports boolean masks, but got mask with dtype {cxx_name(mask.dtype)}"
        )
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(
            "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{value.ndim} dimension(s)."
        )
    filling = operand(value, "masked_fill", "value", 3)

    def compute() -> Tensor:
        result: Tensor = apply(_WHERE, (mask, as_operand(filling, input.dtype), input))
        return result

    name = "MaskedFillBackward1" if isinstance(value, Tensor) else "MaskedFillBackward0"
    return folded(name, (input, filling), compute)


def lerp(input: Tensor, end: Tensor, weight: Any, *, out: Tensor | None = None) -> Tensor:
    """input + weight * (end - input)."""
    name = "LerpBackward1" if isinstance(weight, Tensor) else "LerpBackward0"
    result = folded(name, (input, end, weight), lambda: add(input, mul(sub(end, input), weight)))
    return _finish(result, out, "lerp")


def addcmul(
    input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None
) -> Tensor:
    """input + value * tensor1 * tensor2."""

    def compute() -> Tensor:
        product = mul(tensor1, tensor2)
        return add(input, product if _is_one(value) else mul(product, value))

    return _finish(folded("AddcmulBackward0", (input, tensor1, tensor2), compute), out, "addcmul")


def addcdiv(
    input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None
) -> Tensor:
    """input + value * tensor1 / tensor2."""
    if tensor1.dtype.is_integral and tensor2.dtype.is_integral:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a "
            "true division of tensor1 and tensor2. The historic addcdiv behavior can be implemented as (input + value "
            "* torch.trunc(tensor1 / tensor2)).to(input.dtype) for integer inputs and as (input + value * tensor1 / "
            "tensor2) for float inputs. The future addcdiv behavior is just the latter implementation: (input + value "
            "* tensor1 / tensor2), for all dtypes."
        )

    def compute() -> Tensor:
        quotient = div(tensor1, tensor2)
        return add(input, quotient if _is_one(value) else mul(quotient, value))

    return _finish(folded("AddcdivBackward0", (input, tensor1, tensor2), compute), out, "addcdiv")


def _is_one(value: Any) -> bool:
    return not isinstance(value, Tensor) and value == 1


subtract, multiply, divide, true_divide, negative, absolute = sub, mul, div, div, neg, abs
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
fix = trunc

# The names of `torch` that are defined here.
__all__ = [
    "abs",
    "absolute",
    "add",
    "addcdiv",
    "addcmul",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "cos",
    "cosh",
    "div",
    "divide",
    "eq",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "fix",
    "floor",
    "floor_divide",
    "fmod",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "lerp",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "ne",
    "neg",
    "negative",
    "not_equal",
    "positive",
    "pow",
    "reciprocal",
    "relu",
    "remainder",
    "round",
    "rsqrt",
    "rsub",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "sub",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
    "where",
]  # fmt: skip
