"""`torch.overrides`: functions that leave the work to their arguments' `__torch_function__`.

A library's own functions can: `has_torch_function` and `handle_torch_function` are PyTorch's protocol
(https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-python-api). The functions of `torch` do not
ask, which would slow every call; so `TorchFunctionMode` cannot be entered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

from .tensor import Tensor
from .tensor_object import disabled_torch_function

F = TypeVar("F", bound=Callable[..., Any])


def _overrides(value: Any) -> bool:
    kind = type(value)
    rule = getattr(kind, "__torch_function__", None)
    return rule is not None and kind is not Tensor and rule is not disabled_torch_function


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether an argument is of a class with a `__torch_function__`, as subclasses of Tensor have."""
    return any(map(_overrides, relevant_args))


def has_torch_function_unary(arg: Any) -> bool:
    """`has_torch_function((arg,))`."""
    return _overrides(arg)


def has_torch_function_variadic(*args: Any) -> bool:
    """`has_torch_function(args)`."""
    return has_torch_function(args)


def _overriding(relevant_args: Iterable[Any]) -> list[Any]:
    """One argument of each class that overrides, in the order in which they are asked: a subclass before its bases."""
    found: list[Any] = []
    for arg in relevant_args:
        if _overrides(arg) and type(arg) not in map(type, found):
            above = (i for i, other in enumerate(found) if issubclass(type(arg), type(other)))
            found.insert(next(above, len(found)), arg)
    return found


def handle_torch_function(
    public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any, **kwargs: Any
) -> Any:
    """What the first of the arguments' classes makes of `public_api(*args, **kwargs)`; TypeError where all return
    NotImplemented."""
    asked = _overriding(relevant_args)
    types = tuple(map(type, asked))
    for arg in asked:
        result = arg.__torch_function__(public_api, types, args, kwargs)
        if result is not NotImplemented:
            return result
    name = f"{public_api.__module__}.{public_api.__name__}"
    raise TypeError(
        f"no implementation found for '{name}' on types that implement __torch_function__: {list(types)}"
    )


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


class TorchFunctionMode:
    """A context in which each call of `torch` goes through `__torch_function__`: NotImplementedError where it is
    entered."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotImplementedError

    def __enter__(self) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__}: a TorchFunctionMode is not in vitrify, where the functions of torch are called as "
            "they are"
        )

    def __exit__(self, *exc: object) -> None:
        pass


__all__ = [
    "TorchFunctionMode", "handle_torch_function", "has_torch_function", "has_torch_function_unary",
    "has_torch_function_variadic", "is_tensor_like", "is_tensor_method_or_property", "wrap_torch_function",
]  # fmt: skip
