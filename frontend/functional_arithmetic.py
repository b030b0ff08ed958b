"""Arithmetic: sums, products, quotients, powers, of tensors and numbers."""

from __future__ import annotations

from typing import Any

from .arguments import (
    not_implemented,
    number_argument,
    numbers_first,
    operand,
    tensor_argument,
    warn_of_numbers_first,
)
from .autocast import full_precision_on_cuda
from .dispatch import apply, constant, op_named
from .inplace import finish
from .ir import dtypes
from .promotion import as_operand, number_in, promoted, result_dtype
from .tape_folded import NotImplementedNode, folded
from .tensor import Tensor, cxx_name

_ADD, _SUB, _MUL, _DIV, _POW = map(op_named, ("add", "sub", "mul", "div", "pow"))


def pair_of(input: Any, other: Any, floating: bool = False) -> tuple[Tensor, Tensor]:
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


def hide(result: Tensor, shown: int = 1) -> Tensor:
    """A number operand that PyTorch's node does not list among its next_functions."""
    if result._grad_fn is not None:
        result._grad_fn.edges_shown = shown
    return result


def add(input: Any, other: Any, late: Any = None, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """input + alpha * other. The older form is `add(input, alpha, other)`; it is read here because the wrapper of
    `numbers_first` takes 7 % of the time of a small sum."""
    if late is not None:
        warn_of_numbers_first("add", "alpha")
        other, alpha = tensor_argument(late, "add", "other", 3), number_argument(other, "add", "alpha", 2)
    first, second = operand(input, "add", "input", 1), operand(other, "add")
    if type(alpha) is int and alpha == 1:
        return finish(apply(_ADD, pair_of(first, second)), out, "add")
    if not isinstance(second, Tensor):
        return finish(apply(_ADD, pair_of(first, _scaled(first, second, alpha))), out, "add")
    result = folded("AddBackward0", (first, second), lambda: add(first, _scaled(first, second, alpha)))
    return finish(result, out, "add")


def sub(input: Any, other: Any, late: Any = None, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """input - alpha * other. The older form is `sub(input, alpha, other)`; it is read here because the wrapper of
    `numbers_first` takes 7 % of the time of a small sum."""
    if late is not None:
        warn_of_numbers_first("sub", "alpha")
        other, alpha = tensor_argument(late, "sub", "other", 3), number_argument(other, "sub", "alpha", 2)
    first, second = operand(input, "sub", "input", 1), operand(other, "sub")
    if type(alpha) is int and alpha == 1:
        return finish(apply(_SUB, pair_of(first, second)), out, "sub")
    if not isinstance(second, Tensor):
        return finish(apply(_SUB, pair_of(first, _scaled(first, second, alpha))), out, "sub")
    result = folded("SubBackward0", (first, second), lambda: sub(first, _scaled(first, second, alpha)))
    return finish(result, out, "sub")


def whole_number(value: Any, argument: str) -> None:
    """RuntimeError for what may not stand among integers."""
    if isinstance(value, float):
        raise RuntimeError(
            f"For integral input tensors, argument {argument} must not be a floating point number."
        )


def _scaled(input: Any, other: Any, alpha: Any) -> Any:
    dtype = result_dtype(input, other)
    if dtype.is_integral:
        whole_number(alpha, "alpha")
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
    second, first = pair_of(input, operand(other, "rsub"))
    if isinstance(other, Tensor):
        return folded("RsubBackward0", (input, other), lambda: apply(_SUB, (first, second)))
    return hide(apply(_SUB, (first, second), grad_name="RsubBackward1"), -1)


def mul(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """input * other."""
    pair = pair_of(operand(input, "mul", "input", 1), operand(other, "mul"))
    return finish(apply(_MUL, pair), out, "mul")


def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """input / other; `rounding_mode` "trunc" or "floor" rounds the quotient."""
    first, second = operand(input, "div", "input", 1), operand(other, "div")
    if rounding_mode is None:
        result = apply(_DIV, pair_of(first, second, floating=True))
    elif rounding_mode == "floor":
        result = apply(_FLOOR_DIVIDE, pair_of(first, second), grad_name="DivBackward2")
    elif rounding_mode == "trunc":
        result = folded("DivBackward2", (first, second), lambda: _truncated(*pair_of(first, second)))
    else:
        raise RuntimeError(
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '"
            + rounding_mode
            + "'"
        )
    return finish(result, out, "div")


_FLOOR_DIVIDE, _TRUNC, _REMAINDER = map(op_named, ("floor_divide", "trunc", "remainder"))


def floor_divide(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """floor(input / other)."""
    pair = pair_of(operand(input, "floor_divide", "input", 1), operand(other, "floor_divide"))
    _refuse_bool("div_floor_cpu", pair[0])
    result: Tensor = apply(_FLOOR_DIVIDE, pair)
    if result._grad_fn is not None:
        result._grad_fn = NotImplementedNode("floor_divide", (input, other), result._type)
    return finish(result, out, "floor_divide")


def remainder(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Python's modulus: the result has the sign of `other`."""
    pair = pair_of(operand(input, "remainder", "input", 1), operand(other, "remainder"))
    _refuse_bool("remainder_cpu", pair[0])
    if isinstance(other, Tensor):
        return finish(apply(_REMAINDER, pair, grad_name="RemainderBackward1"), out, "remainder")
    return finish(hide(apply(_REMAINDER, pair, grad_name="RemainderBackward0")), out, "remainder")


def fmod(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
    """C's fmod: the result has the sign of `input`."""
    second = operand(other, "fmod")

    def compute() -> Tensor:
        a, b = pair_of(input, second)
        if a.dtype.is_complex:
            raise NotImplementedError(f"\"fmod_cpu\" not implemented for '{a.dtype.scalar_type}'")
        result: Tensor = apply(_SUB, (a, apply(_MUL, (_truncated(a, b), b))))
        return result

    name = "FmodBackward1" if isinstance(second, Tensor) else "FmodBackward0"
    return finish(folded(name, (input, second), compute), out, "fmod")


def _truncated(first: Tensor, second: Tensor) -> Tensor:
    """The quotient rounded towards zero, as the op itself does for integers."""
    quotient: Tensor = apply(_DIV, (first, second))
    if first.dtype.kind == "float":
        quotient = apply(_TRUNC, (quotient,))
    return quotient


@full_precision_on_cuda
def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """input to the exponent."""
    base, exponent = operand(input, "pow", "input", 1), operand(exponent, "pow", "exponent")
    if isinstance(base, Tensor) and not isinstance(exponent, Tensor):
        result = hide(_number_power(base, exponent))
    elif isinstance(exponent, Tensor) and not isinstance(base, Tensor):
        pair = pair_of(base, exponent)
        _refuse_bool("pow", pair[0])
        result = hide(apply(_POW, pair, grad_name="PowBackward2"), -1)
    else:
        pair = pair_of(base, exponent)
        _refuse_bool("pow", pair[0])
        result = apply(_POW, pair, grad_name="PowBackward1")
    return finish(result, out, "pow")


def _refuse_bool(kernel: str, value: Tensor) -> None:
    if value.dtype is dtypes.bool_:
        raise NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'")


def _number_power(base: Tensor, exponent: Any) -> Tensor:
    """The common exponents are computed as PyTorch computes them: a product, a root."""
    first, second = pair_of(base, exponent)
    dtype = first.dtype
    if dtype.is_integral and isinstance(exponent, int) and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if dtype is dtypes.bool_:  # True ** False is True, anything else changes nothing
        return first if exponent else as_operand(True, dtype) | first
    if exponent == 2:
        return apply(_MUL, (first, first), grad_name="PowBackward0")
    if exponent == 0.5 and dtype.kind in ("float", "complex"):
        return apply(op_named("sqrt"), (first,), grad_name="PowBackward0")
    return apply(_POW, (first, second), grad_name="PowBackward0")


@full_precision_on_cuda
def square(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """input ** 2."""
    return pow(input, 2, out=out)


def neg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """-input."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
            "the `~` or `logical_not()` operator instead."
        )
    return finish(apply(_NEG, (input,)), out, "neg")


_NEG = op_named("neg")


def positive(input: Tensor) -> Tensor:
    """The tensor itself."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def lerp(input: Tensor, end: Tensor, weight: Any, *, out: Tensor | None = None) -> Tensor:
    """input + weight * (end - input)."""
    for argument, value in (("end", end), ("weight", weight)):
        if isinstance(value, Tensor) and value.dtype is not input.dtype and (value.ndim or argument == "end"):
            raise RuntimeError(
                f"expected dtype {cxx_name(input.dtype)} for `{argument}` but got dtype {cxx_name(value.dtype)}"
            )
    if input.dtype.kind in ("int", "uint", "bool"):
        if not isinstance(weight, Tensor) or not weight.dtype.is_floating_point:
            kind = "tensor" if isinstance(weight, Tensor) else "scalar"
            raise not_implemented(f"lerp_kernel_{kind}", input)
        input, end = (as_operand(value, weight.dtype) for value in (input, end))
    name = "LerpBackward1" if isinstance(weight, Tensor) else "LerpBackward0"
    result = folded(name, (input, end, weight), lambda: add(input, mul(sub(end, input), weight)))
    return finish(result, out, "lerp")


@numbers_first("value")
def addcmul(
    input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None
) -> Tensor:
    """input + value * tensor1 * tensor2."""
    if not isinstance(value, Tensor):
        value = number_in(value, result_dtype(input, tensor1, tensor2))

    def compute() -> Tensor:
        product = mul(tensor1, tensor2)
        return add(input, product if _is_one(value) else mul(product, value))

    return finish(folded("AddcmulBackward0", (input, tensor1, tensor2), compute), out, "addcmul")


@numbers_first("value")
def addcdiv(
    input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1, out: Tensor | None = None
) -> Tensor:
    """input + value * tensor1 / tensor2."""
    if tensor1.dtype.is_integral and tensor2.dtype.is_integral:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a "
            "true division of tensor1 and tensor2. The historic addcdiv behavior can be implemented as (input + "
            "value * torch.trunc(tensor1 / tensor2)).to(input.dtype) for integer inputs and as (input + value * "
            "tensor1 / tensor2) for float inputs. The future addcdiv behavior is just the latter implementation: "
            "(input + value * tensor1 / tensor2), for all dtypes."
        )

    def compute() -> Tensor:
        quotient = div(tensor1, tensor2)
        return add(input, quotient if _is_one(value) else mul(quotient, value))

    return finish(folded("AddcdivBackward0", (input, tensor1, tensor2), compute), out, "addcdiv")


def _is_one(value: Any) -> bool:
    return not isinstance(value, Tensor) and value == 1


subtract, multiply, divide, true_divide, negative = sub, mul, div, div, neg


# The names of `torch` that are defined here.
__all__ = [
    "add", "addcdiv", "addcmul", "div", "divide", "floor_divide", "fmod", "lerp", "mul", "multiply",
    "neg", "negative", "positive", "pow", "remainder", "rsub", "square", "sub", "subtract", "true_divide",
]  # fmt: skip
