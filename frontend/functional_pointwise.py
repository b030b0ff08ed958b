"""Functions of one element each: arithmetic, comparisons, elementary functions."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes

from .arguments import not_implemented, operand, tensor_argument
from .dispatch import apply, constant, op_named
from .elementwise import binary, composed, named, unary
from .functional_arithmetic import div, mul, pair_of
from .functional_host import nonzero
from .inplace import finish
from .ir import dtypes
from .ir.op import Op
from .promotion import as_operand, convert, number_in, result_dtype
from .tape_folded import folded
from .tensor import Tensor, cxx_name, scalar_type_name

# Functions of one tensor


exp = unary("exp", "e to the input.")
expm1 = unary("expm1", "exp(input) - 1, accurate near 0.")
log = unary("log", "The natural logarithm.")
log1p = unary("log1p", "log(1 + input), accurate near 0.")
sqrt = unary("sqrt", "The square root.")
rsqrt = unary("rsqrt", "1 / sqrt(input).")
reciprocal = unary("reciprocal", "1 / input.")
sin = unary("sin", "The sine, of radians.")
cos = unary("cos", "The cosine, of radians.")
tan = unary("tan", "The tangent, of radians.")
tanh = unary("tanh", "The hyperbolic tangent.")
erf = unary("erf", "The error function.")
erfc = unary("erfc", "1 - erf(input), accurate where that is small.")
asin = unary("asin", "The angle in [-pi/2, pi/2] with this sine.")
acos = unary("acos", "The angle in [0, pi] with this cosine.")
atan = unary("atan", "The angle in [-pi/2, pi/2] with this tangent.")
asinh = unary("asinh", "The inverse of sinh.")
acosh = unary("acosh", "The non-negative inverse of cosh.")
atanh = unary("atanh", "The inverse of tanh.")
sinh = unary("sinh", "The hyperbolic sine.")
cosh = unary("cosh", "The hyperbolic cosine.")
sigmoid = unary("sigmoid", "1 / (1 + exp(-input)).")
abs = unary("abs", "The absolute value.", float_only=False, kernel="abs_cpu")


def everywhere(input: Tensor, value: bool) -> Tensor:
    """A bool tensor of the input's shape."""
    attrs = {"shape": tuple(input.shape), "value": value, "dtype": dtypes.bool_}
    made: Tensor = apply(op_named("full"), (), attrs)
    return made


def _test_of_floats(name: str, doc: str, of_integers: bool) -> Callable[..., Tensor]:
    """A question that has one answer for all integers."""
    op = op_named(name)

    def function(input: Tensor) -> Tensor:
        kind = tensor_argument(input, name).dtype.kind
        if kind != "float" and kind != "complex":
            return everywhere(input, of_integers)
        result: Tensor = apply(op, (input,))
        return result

    return named(function, name, doc)


isnan = _test_of_floats("isnan", "Where the input is NaN.", False)
isinf = _test_of_floats("isinf", "Where the input is infinite.", False)
isfinite = _test_of_floats("isfinite", "Where the input is neither NaN nor infinite.", True)


def sign(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """-1, 0 or 1; of a bool itself."""
    if tensor_argument(input, "sign").dtype is dtypes.bool_:
        return finish(convert_copy(input), out, "sign")
    return finish(apply(op_named("sign"), (input,)), out, "sign")


relu = unary("relu", "max(input, 0).", float_only=False)
logical_not = unary("logical_not", "Whether the input is zero.", float_only=False)


def _step(name: str, doc: str) -> Callable[..., Tensor]:
    """A rounding function: integers are returned as they are."""
    op = op_named(name)

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if tensor_argument(input, name).dtype.is_integral:
            return finish(convert_copy(input), out, name)
        if input.dtype is dtypes.bool_:
            raise not_implemented(f"{name}_vml_cpu", input)
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
    if input.dtype is dtypes.bool_:
        raise not_implemented("round_vml_cpu", input)
    if decimals == 0:
        return finish(apply(_ROUND, (input,)), out, "round")
    scale = constant(10.0 ** builtins.abs(decimals), input.dtype)
    up, down = (mul, div) if decimals > 0 else (div, mul)

    def compute() -> Tensor:
        return down(apply(_ROUND, (up(input, scale),)), scale)

    return finish(folded("RoundBackward1", (input,), compute), out, "round")


_ROUND = op_named("round")


log2 = composed("log2", "The logarithm to base 2.", lambda x: div(log(x), math.log(2)))
log10 = composed("log10", "The logarithm to base 10.", lambda x: div(log(x), math.log(10)))
exp2 = composed("exp2", "2 to the input.", lambda x: apply(op_named("pow"), (constant(2.0, x.dtype), x)))


# Two tensors


atan2 = binary("atan2", "The angle of the point (other, input).", numbers=False, float_only=True)
arctan2 = atan2
maximum = binary("maximum", "The larger of the two, element by element.", numbers=False)
minimum = binary("minimum", "The smaller of the two, element by element.", numbers=False)
lt = binary("lt", "input < other.")
le = binary("le", "input <= other.")
gt = binary("gt", "input > other.")
ge = binary("ge", "input >= other.")
eq = binary("eq", "input == other.")
ne = binary("ne", "input != other.")
logical_and = binary("logical_and", "Whether both are nonzero.", numbers=False)
logical_or = binary("logical_or", "Whether one is nonzero.", numbers=False)
logical_xor = binary("logical_xor", "Whether exactly one is nonzero.", numbers=False)


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


def _shift(name: str, doc: str, kernel: str) -> Callable[..., Tensor]:
    op: Op = op_named(name)

    def function(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        pair = pair_of(operand(input, name, "input", 1), operand(other, name))
        if not pair[0].dtype.is_integral:
            raise not_implemented(kernel, pair[0])
        return finish(apply(op, pair), out, name)

    return named(function, name, doc)


bitwise_left_shift = _shift("bitwise_left_shift", "input times 2 to the other.", "lshift_cpu")
bitwise_right_shift = _shift(
    "bitwise_right_shift", "input divided by 2 to the other, rounded down.", "rshift_cpu"
)
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
    bounds = [
        None if v is None else (float(v) if dtype.kind == "float" else number_in(v, dtype))
        for v in (min, max)
    ]
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


hypot = binary("hypot", "sqrt(input² + other²), without overflow.", numbers=False, kernel="hypot_cpu")
logaddexp = binary(
    "logaddexp",
    "log(exp(input) + exp(other)), without overflow.",
    numbers=False,
    kernel="logaddexp_cpu",
)
logaddexp2 = binary(
    "logaddexp2", "log2(2^input + 2^other), without overflow.", numbers=False, kernel="logaddexp2_cpu"
)


def nan_to_num(
    input: Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """NaN replaced by `nan` (0), the infinities by `posinf` and `neginf` (the largest finite numbers)."""
    if input.dtype.kind != "float":
        return finish(convert_copy(input), out, "nan_to_num")
    limit = float(ml_dtypes.finfo(input.dtype.numpy).max)
    high, low = limit if posinf is None else posinf, -limit if neginf is None else neginf

    def compute() -> Tensor:
        finite = where(isnan(input), constant(nan or 0.0, input.dtype), input)
        finite = where(eq(finite, math.inf), constant(high, input.dtype), finite)
        return where(eq(finite, -math.inf), constant(low, input.dtype), finite)

    return finish(folded("NanToNumBackward0", (input,), compute), out, "nan_to_num")


deg2rad = composed("deg2rad", "Degrees as radians.", lambda x: mul(x, math.pi / 180), "Deg2RadBackward0")
rad2deg = composed("rad2deg", "Radians as degrees.", lambda x: mul(x, 180 / math.pi), "Rad2DegBackward0")

arcsin, arccos, arctan, arcsinh, arccosh, arctanh = asin, acos, atan, asinh, acosh, atanh
absolute = abs
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
fix = trunc


# The names of `torch` that are defined here.
__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
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
    "logaddexp", "logaddexp2",
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
