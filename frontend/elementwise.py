"""How functions of one element each are made from ops: argument checks, promotion, `out=`, one node on the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import promotion
from .arguments import not_implemented, operand, tensor_argument
from .dispatch import apply, op_named
from .functional_arithmetic import pair_of
from .inplace import finish, into
from .ir.dtypes import bool_
from .promotion import convert
from .tape_folded import folded
from .tensor import Tensor


def named(function: Any, name: str, doc: str) -> Any:
    """The function under its public name, as tracebacks and `help` show it."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def floating(input: Tensor) -> Tensor:
    """Integers and bools in the default dtype, anything else as it is."""
    kind = input._type.dtype.kind
    return input if kind == "float" or kind == "complex" else convert(input, promotion.get_default_dtype())


def unary(
    name: str, doc: str, float_only: bool = True, op: str = "", grad_name: str = "", kernel: str = ""
) -> Callable[..., Tensor]:
    """A function of one tensor by the op of the same name. `float_only`: integers become the default dtype first;
    `kernel`: PyTorch's, which is for no bools."""
    found = op_named(op or name)

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        tensor_argument(input, name)
        if float_only:
            input = floating(input)
        elif kernel and input.dtype is bool_:
            raise not_implemented(kernel, input)
        result: Tensor = apply(found, (input,), grad_name=grad_name or None)
        return result if out is None else into(out, result, name)

    return named(function, name, doc)


def composed(
    name: str, doc: str, compute: Callable[[Tensor], Tensor], node: str = "", float_only: bool = True
) -> Callable[..., Tensor]:
    """A function of one tensor made of others, with a node of its own."""

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        tensor_argument(input, name)
        if float_only:
            input = floating(input)
        return finish(
            folded(node or f"{name.capitalize()}Backward0", (input,), lambda: compute(input)), out, name
        )

    return named(function, name, doc)


def binary(
    name: str,
    doc: str,
    numbers: bool = True,
    float_only: bool = False,
    first_number: bool = False,
    kernel: str = "",
) -> Callable[..., Tensor]:
    """A function of two tensors by the op of the same name; of a tensor and a number where `numbers`, of a number and a
    tensor where `first_number`. `float_only`: integers become the default dtype; with a `kernel` it refuses them."""
    op = op_named(name)

    def function(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        if not isinstance(input, Tensor) and not (first_number and isinstance(other, Tensor)):
            raise (
                _invalid_combination(name, input, other)
                if numbers
                else _not_a_tensor(name, "input", 1, input)
            )
        if not numbers:
            tensor_argument(other, name, "other", 2)
        first, second = pair_of(input, operand(other, name), floating=float_only and not kernel)
        if kernel and first.dtype.kind != "float":
            raise not_implemented(kernel, first)
        result: Tensor = apply(op, (first, second))
        return result if out is None else into(out, result, name)

    return named(function, name, doc)


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
