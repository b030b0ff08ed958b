"""`axis` and `keepdims`: NumPy's names for `dim` and `keepdim`, which PyTorch's functions take too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_OURS = {"axis": "dim", "keepdims": "keepdim"}
_THEIRS = frozenset(_OURS)

# PyTorch writes these functions of `torch` and Tensor in Python, where the names are as they are.
WITHOUT = frozenset({"norm", "split", "unique", "unique_consecutive"})


def takes_numpy_names(function: F) -> F:
    """The function, which then takes `axis` for its `dim` and `keepdims` for its `keepdim`; without either, itself."""
    code = inspect.unwrap(
        function
    ).__code__  # a signature, of a thousand functions, would take the import 10 ms
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if "dim" not in parameters and "keepdim" not in parameters:
        return function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not _THEIRS.isdisjoint(kwargs):
            for theirs in _THEIRS.intersection(kwargs):
                ours = _OURS[theirs]
                if ours in kwargs or ours not in parameters:
                    raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{theirs}'")
                kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def take_numpy_names(namespace: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """`takes_numpy_names` on those of a namespace's names that are functions."""
    for name in names:
        if inspect.isfunction(namespace[name]):
            namespace[name] = takes_numpy_names(namespace[name])
