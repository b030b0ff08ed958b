"""`torch._foreach_...`: a method of Tensor on each tensor of a list, as optimizers and libraries call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import functional_arithmetic as arithmetic
from . import linalg
from .tensor import Tensor

# The parameters of the methods. Each tensor of the list gets its own of an argument that is a list.
_BOTH: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor", "frac",
            "lgamma", "log", "log10", "log1p", "log2", "neg", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin",
            "sinh", "sqrt", "tan", "tanh", "trunc",
        ),
        (),
    ),
    **dict.fromkeys(("add", "sub", "mul", "div"), ("other",)),
    **dict.fromkeys(("addcdiv", "addcmul"), ("tensor1", "tensor2", "value")),
    "clamp_max": ("max",), "clamp_min": ("min",), "pow": ("exponent",), "lerp": ("end", "weight"),
}  # fmt: skip
_METHODS = {
    **_BOTH,
    **{f"{name}_": parameters for name, parameters in _BOTH.items()},
    "clone": (), "copy_": ("other", "non_blocking"), "max": (), "zero_": (),
}  # fmt: skip
# PyTorch's names of the last argument where it is a number, or a list.
_LAST = frozenset({"scalar", "scalars", "weights", "other"})
_OTHER_NAMES = {"tensors1": "end", "src": "other"}


def _each(tensors: Sequence[Tensor], argument: Any) -> Sequence[Any]:
    if not isinstance(argument, list | tuple):
        return [argument] * len(tensors)
    if len(argument) != len(tensors):
        raise RuntimeError(
            f"Tensor lists must have the same number of tensors, got {len(tensors)} and {len(argument)}"
        )
    return argument


def _foreach(name: str, method: str) -> Callable[..., Any]:
    parameters = _METHODS[method]

    def function(self: Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
        if not self:
            raise RuntimeError("Tensor list must have at least one tensor.")
        if len(args) > len(parameters):
            raise TypeError(f"_foreach_{name}() takes {len(parameters) + 1} arguments, not {len(args) + 1}")
        named = dict(zip(parameters, args))
        for theirs, value in kwargs.items():
            last = theirs in _LAST and theirs not in parameters
            named[parameters[-1] if last else _OTHER_NAMES.get(theirs, theirs)] = value
        if isinstance(named.get("value"), Tensor):  # the numbers of all tensors
            named["value"] = named["value"].tolist()
        rows = [_each(self, value) for value in named.values()]
        found = [getattr(x, method)(**dict(zip(named, row))) for x, *row in zip(self, *rows)]
        return self if name.endswith("_") else tuple(found)

    return _called(function, name, f"`{method}` of each tensor of a list.")


def _called(function: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = f"_foreach_{name}"
    function.__doc__ = doc
    return function


_functions = {name: _foreach(name, name) for name in _METHODS} | {
    theirs + end: _foreach(theirs + end, ours + end)
    for theirs, ours in (("maximum", "clamp_min"), ("minimum", "clamp_max"))
    for end in ("", "_")
}


def _norm(self: Sequence[Tensor], ord: Any = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    return tuple(linalg.vector_norm(x, ord, dtype=dtype) for x in self)


def _pow(self: Any, exponent: Any) -> tuple[Tensor, ...]:
    if isinstance(self, list | tuple):
        found: tuple[Tensor, ...] = _of_lists(self, exponent)
        return found
    return tuple(arithmetic.pow(self, x) for x in exponent)


_of_lists = _functions["pow"]
_functions["norm"] = _called(_norm, "norm", "The vector norm of each tensor of a list.")
_functions["pow"] = _called(
    _pow, "pow", "`pow` of each tensor of a list; of one number and a list of exponents."
)

globals().update({function.__name__: function for function in _functions.values()})
__all__ = [function.__name__ for function in _functions.values()]
