"""`torch.overrides`: functions that leave the work to their arguments' `__torch_function__`, and modes.

PyTorch's protocol (https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-python-api), for functions
of libraries; how those of `torch` ask is in `torch_function.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from .state import local
from .tensor import Tensor
from .torch_function import ask, entered, name_of, nobody, overrides, public_functions

F = TypeVar("F", bound=Callable[..., Any])


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether an argument is of a class with a `__torch_function__`, as subclasses of Tensor have, that is asked now."""
    return local.asks_classes and any(overrides(type(arg)) for arg in relevant_args)


def has_torch_function_unary(arg: Any) -> bool:
    """`has_torch_function((arg,))`."""
    return has_torch_function((arg,))


def has_torch_function_variadic(*args: Any) -> bool:
    """`has_torch_function(args)`."""
    return has_torch_function(args)


def handle_torch_function(
    public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any, **kwargs: Any
) -> Any:
    """What the first of the arguments' classes makes of `public_api(*args, **kwargs)`; TypeError where all return
    NotImplemented."""
    relevant = tuple(relevant_args)
    result = ask(public_api, relevant, args, kwargs)
    if result is NotImplemented:
        raise nobody(public_api, relevant)
    return result


def wrap_torch_function(dispatcher: Callable[..., Iterable[Any]]) -> Callable[[F], F]:
    """A decorator: the function asks the arguments that `dispatcher` picks."""

    def wrap(function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            relevant = tuple(dispatcher(*args, **kwargs))
            if has_torch_function(relevant):
                return handle_torch_function(wrapped, relevant, *args, **kwargs)
            return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    return wrap


def is_tensor_like(inp: Any) -> bool:
    """Whether it is a tensor, or of a class with a `__torch_function__`."""
    return type(inp) is Tensor or hasattr(inp, "__torch_function__")


def is_tensor_method_or_property(func: Callable[..., Any]) -> bool:
    """Whether it is an attribute of Tensor, or the function that reads a property of it."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return True
    found = getattr(Tensor, name, None)
    return found is func or (isinstance(found, property) and found.fget is func)


def get_overridable_functions() -> dict[Any, list[Callable[..., Any]]]:
    """The functions that ask, by namespace: `torch`, `torch.nn.functional`, `torch.Tensor` ..."""
    found: dict[Any, list[Callable[..., Any]]] = {}
    for space, function, _ in public_functions():
        found.setdefault(space, []).append(function)
    return found


def resolve_name(f: Callable[..., Any]) -> str | None:
    """The name of a function that asks, as in `torch.nn.functional.relu`; None of another."""
    return name_of(f)


class TorchFunctionMode:
    """A context in which each call of a function of `torch` goes through this `__torch_function__` first; reading a
    property does not."""

    _entered: list[AbstractContextManager[None]]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotImplementedError

    def __enter__(self: M) -> M:
        inside = entered(self)
        self.__dict__.setdefault("_entered", []).append(inside)
        inside.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._entered.pop().__exit__(*exc)


M = TypeVar("M", bound=TorchFunctionMode)


class BaseTorchFunctionMode(TorchFunctionMode):
    """The mode that calls the function as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


__all__ = [
    "BaseTorchFunctionMode", "TorchFunctionMode", "get_overridable_functions", "handle_torch_function",
    "has_torch_function", "has_torch_function_unary", "has_torch_function_variadic", "is_tensor_like",
    "is_tensor_method_or_property", "resolve_name", "wrap_torch_function",
]  # fmt: skip
