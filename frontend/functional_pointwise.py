"""Functions of one element each: arithmetic, comparisons, elementary functions."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes

from . import promotion
from .arguments import operand, tensor_argument
from .dispatch import apply, constant, op_named
from .functional_arithmetic import add, div, floor_divide, mul, neg, pair_of, sub
from .functional_host import nonzero
from .inplace import finish, into
from .ir import dtypes
from .ir.op import Op
from .promotion import as_operand, convert, result_dtype
from .tape_folded import folded
from .tensor import Tensor, cxx_name, scalar_type_name

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
            return finish(convert_copy(input), out, name)
        return finish(apply(op, (input,)), out, name)

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
        return finish(convert_copy(input), out, "round")
    if decimals == 0:
        return finish(apply(_ROUND, (input,)), out, "round")
    scale = constant(10.0 ** builtins.abs(decimals), input.dtype)
    up, down = (mul, div) if decimals > 0 else (div, mul)

    def compute() -> Tensor:
        return down(apply(_ROUND, (up(input, scale),)), scale)

    return finish(folded("RoundBackward1", (input,), compute), out, "round")


_ROUND = op_named("round")


def _composed(
    name: str, doc: str, compute: Callable[[Tensor], Tensor], node: str = ""
) -> Callable[..., Tensor]:
    """A function of one tensor made of others, with a node of its own."""

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        tensor_argument(input, name)
        return finish(
            folded(node or f"{name.capitalize()}Backward0", (input,), lambda: compute(input)), out, name
        )

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
            raise (
                _invalid_combination(name, input, other)
                if numbers
                else _not_a_tensor(name, "input", 1, input)
            )
        if not numbers:
            tensor_argument(other, name, "other", 2)
        result: Tensor = apply(op, pair_of(input, operand(other, name)))
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
        pair = pair_of(operand(input, name, "input", 1), operand(other, name))
        kind = pair[0].dtype.kind
        if kind == "float" or kind == "complex":
            raise NotImplementedError(
                f"\"{name}_cpu\" not implemented for '{scalar_type_name(pair[0].dtype)}'"
            )
        return finish(apply(op, pair), out, name)

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
        return apply(op_named("pow"), (as_operand(2, dtype), convert(other, dtype)))
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
    return finish(apply(op_named("bitwise_not"), (input,)), out, "bitwise_not")


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
    first, second = pair_of(operand(input, "where", "input"), operand(other, "where", "other", 3))
    return finish(apply(_WHERE, (convert(condition, dtypes.bool_), first, second)), out, "where")


_WHERE = op_named("where")


def clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Tensor | None = None) -> Tensor:
    """input limited to [min, max]; the bounds are numbers or tensors, one of them may be absent."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if isinstance(min, Tensor) or isinstance(max, Tensor):

        def compute() -> Tensor:
            raised = input if min is None else maximum(input, min)
            return raised if max is None else minimum(raised, max)

        return finish(folded("ClampBackward0", (input, min, max), compute), out, "clamp")
    numbers = [operand(v, "clamp", "min") for v in (min, max) if v is not None]
    dtype = result_dtype(input, *numbers)
    bounds = [None if v is None else (float(v) if dtype.kind == "float" else v) for v in (min, max)]
    result = apply(op_named("clamp"), (convert(input, dtype),), {"min": bounds[0], "max": bounds[1]})
    return finish(result, out, "clamp")


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
            f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} "
            "dimension(s)."
        )
    filling = operand(value, "masked_fill", "value", 3)

    def compute() -> Tensor:
        result: Tensor = apply(_WHERE, (mask, as_operand(filling, input.dtype), input))
        return result

    name = "MaskedFillBackward1" if isinstance(value, Tensor) else "MaskedFillBackward0"
    return folded(name, (input, filling), compute)


def hypot(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """sqrt(input² + other²), without overflow in between."""

    def compute() -> Tensor:
        a, b = abs(input), abs(other)
        high = maximum(a, b)
        scale = where(eq(high, 0), constant(1, high.dtype), high).detach()
        x, y = div(a, scale), div(b, scale)
        return mul(sqrt(add(mul(x, x), mul(y, y))), scale)

    return finish(folded("HypotBackward0", (input, other), compute), out, "hypot")


def logaddexp(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """log(exp(input) + exp(other)), without overflow."""

    def compute() -> Tensor:
        high, low = maximum(input, other), minimum(input, other)
        infinite = isinf(high)  # where the difference would be NaN
        apart = sub(where(infinite, high, low), high)
        return where(infinite, high, add(high, log1p(exp(where(infinite, constant(0, high.dtype), apart)))))

    return finish(folded("LogaddexpBackward0", (input, other), compute), out, "logaddexp")


def nan_to_num(
    input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN replaced by `nan` (0), the infinities by `posinf` and `neginf` (the largest finite numbers)."""
    if input.dtype.kind != "float":
        return convert_copy(input)
    limit = float(ml_dtypes.finfo(input.dtype.numpy).max)
    high, low = limit if posinf is None else posinf, -limit if neginf is None else neginf

    def compute() -> Tensor:
        finite = where(isnan(input), constant(nan or 0.0, input.dtype), input)
        finite = where(eq(finite, math.inf), constant(high, input.dtype), finite)
        return where(eq(finite, -math.inf), constant(low, input.dtype), finite)

    return folded("NanToNumBackward0", (input,), compute)


erfc = _composed("erfc", "1 - erf(input).", lambda x: sub(1, erf(x)))
deg2rad = _composed("deg2rad", "Degrees as radians.", lambda x: mul(x, math.pi / 180), "Deg2RadBackward0")
rad2deg = _composed("rad2deg", "Radians as degrees.", lambda x: mul(x, 180 / math.pi), "Rad2DegBackward0")

absolute = abs
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
fix = trunc


# The names of `torch` that are defined here.
__all__ = [
    "abs",
    "absolute",
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
    "deg2rad",
    "eq",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "fix",
    "floor",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "maximum",
    "minimum",
    "nan_to_num",
    "ne",
    "not_equal",
    "rad2deg",
    "reciprocal",
    "relu",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "where",
]  # fmt: skip
