"""Functions on the sign, exponent and last place of numbers, comparisons that know of NaN, divisors of integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .arguments import not_implemented, operand, tensor_argument
from .dispatch import apply, constant, op_named
from .elementwise import binary, composed, named
from .functional_arithmetic import mul, pair_of, pow, sub
from .functional_pointwise import (
    convert_copy,
    eq,
    everywhere,
    ge,
    gt,
    isnan,
    le,
    lt,
    trunc,
    where,
)
from .inplace import finish, into
from .ir import dtypes
from .promotion import convert
from .result_types import named_tuple
from .tape_folded import folded, without_gradient
from .tensor import Tensor

copysign = binary("copysign", "The size of the input with the sign of the other.", float_only=True)
nextafter = binary(
    "nextafter",
    "The next number on the way from the input to the other.",
    numbers=False,
    kernel="nextafter_cpu",
)


def signbit(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Whether the sign bit is set; of -0.0 too."""
    dtype = tensor_argument(input, "signbit").dtype
    if dtype.is_complex:
        raise NotImplementedError("signbit is not implemented for complex tensors.")
    if dtype.kind == "float":
        one = constant(1.0, dtype)
        result = lt(copysign(one, input.detach()), 0)
    else:
        result = lt(input, 0)
    return finish(result, out, "signbit")


def _one_infinity(name: str, doc: str, value: float) -> Callable[..., Tensor]:
    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        dtype = tensor_argument(input, name).dtype
        if dtype.is_complex:
            raise RuntimeError(f"{name} does not support complex inputs.")
        if dtype.kind == "float":
            return finish(eq(input, value), out, name)
        return finish(everywhere(input, False), out, name)

    return named(function, name, doc)


isposinf = _one_infinity("isposinf", "Where the input is inf.", math.inf)
isneginf = _one_infinity("isneginf", "Where the input is -inf.", -math.inf)


def _frac(x: Tensor) -> Tensor:
    if x.dtype.kind != "float":
        raise not_implemented("frac_cpu", x)
    return sub(x, trunc(x))


frac = composed("frac", "What `trunc` takes away.", _frac, float_only=False)


class _Parts(NamedTuple):
    mantissa: Tensor
    exponent: Tensor


frexp_result: type[_Parts] = named_tuple("frexp", _Parts)


def frexp(input: Tensor, *, out: tuple[Tensor, Tensor] | None = None) -> _Parts:
    """m and e (int32) with input = m 2^e and 1/2 <= |m| < 1."""
    if tensor_argument(input, "frexp").dtype.kind != "float":
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    exponent: Tensor = apply(op_named("frexp_exponent"), (input.detach(),))

    def compute() -> Tensor:
        return _times_power(input, exponent)

    mantissa = folded("FrexpBackward0", (input,), compute)
    if out is None:
        return frexp_result(mantissa, exponent)
    return frexp_result(into(out[0], mantissa, "frexp"), into(out[1], exponent, "frexp"))


def _times_power(value: Tensor, exponent: Tensor) -> Tensor:
    """value 2^-exponent, in two steps, of which neither overflows."""
    half = apply(op_named("bitwise_right_shift"), (exponent, constant(1, exponent.dtype)))
    for part in (half, sub(exponent, half)):
        value = mul(value, convert(pow(2.0, convert(mul(part, -1), dtypes.f64)), value.dtype))
    return value


def ldexp(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """input times 2 to the other."""
    tensor_argument(input, "ldexp")
    tensor_argument(other, "ldexp", "other", 2)

    def compute() -> Tensor:
        found = mul(input, pow(2.0, other))
        keeps = input.dtype.is_floating_point and other.dtype.is_integral
        return convert(found, input.dtype) if keeps else found

    return finish(folded("LdexpBackward0", (input, other), compute), out, "ldexp")


def heaviside(input: Tensor, values: Tensor, *, out: Tensor | None = None) -> Tensor:
    """0 below zero, 1 above, `values` at zero."""
    tensor_argument(input, "heaviside")
    tensor_argument(values, "heaviside", "values", 2)
    if input.dtype.is_complex or values.dtype.is_complex:
        raise RuntimeError("heaviside is not yet implemented for complex tensors.")
    if input.dtype is not values.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    at, value = input.detach(), values.detach()
    result = where(eq(at, 0), value, convert(gt(at, 0), input.dtype))
    without_gradient("heaviside", (input, values), result)
    return finish(result, out, "heaviside")


def _choice(name: str, doc: str, wins: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """fmax and fmin: a NaN loses to a number, and of equals the first gets the gradient."""

    def function(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
        first, second = pair_of(tensor_argument(input, name), tensor_argument(other, name, "other", 2))
        if first.dtype.is_complex:
            raise RuntimeError(f"{name} not implemented for complex tensors.")

        def compute() -> Tensor:
            chosen = wins(first, second)
            if first.dtype.kind == "float":
                chosen = apply(op_named("logical_or"), (chosen, isnan(second)))
            result: Tensor = apply(op_named("where"), (chosen, first, second))
            return result

        return finish(folded(f"{name.capitalize()}Backward0", (input, other), compute), out, name)

    return named(function, name, doc)


fmax = _choice("fmax", "The larger of the two; a number rather than NaN.", lambda a, b: ge(a, b))
fmin = _choice("fmin", "The smaller of the two; a number rather than NaN.", lambda a, b: le(a, b))


def _of_integers(name: str, doc: str) -> Callable[..., Tensor]:
    op = op_named(name)

    def function(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
        first, second = pair_of(tensor_argument(input, name), operand(other, name))
        if not first.dtype.is_integral:
            raise not_implemented(f"{name}_cpu", first)
        return finish(apply(op, (first, second)), out, name)

    return named(function, name, doc)


gcd = _of_integers("gcd", "The greatest common divisor.")
lcm = _of_integers("lcm", "The least common multiple.")


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the input's shape and dtype, every element `value`."""
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(
            f"fill only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions."
        )
    filled: Tensor = convert_copy(tensor_argument(input, "fill")).fill_(value)
    return filled


# The names of `torch` that are defined here.
__all__ = [
    "copysign", "fill", "fmax", "fmin", "frac", "frexp", "gcd", "heaviside", "isneginf", "isposinf",
    "lcm", "ldexp", "nextafter", "signbit",
]  # fmt: skip
