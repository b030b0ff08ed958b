"""`torch.compiler`: what a program tells the compiler, and asks it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from . import capture
from .compile.compiled import reset as _reset
from .compile.entry import compile as _compile
from .dispatch import EAGER, use_backend
from .native_export import export as export


def compile(*args: Any, **kwargs: Any) -> Any:
    """`torch.compile`."""
    return _compile(*args, **kwargs)


def is_compiling() -> bool:
    """Whether a function is being compiled in this thread."""
    return capture.active() is not None


def is_dynamo_compiling() -> bool:
    """Whether a function is being compiled in this thread."""
    return capture.active() is not None


def is_exporting() -> bool:
    """Whether a program is being exported; there is no `torch.export` here."""
    return False


def cudagraph_mark_step_begin() -> None:
    """The start of an iteration, as CUDA graphs want to know it; nothing here keeps memory between iterations."""


def allow_in_graph(fn: Any) -> Any:
    """The function, or each of a list, unchanged: the tracer sees into every function."""
    if isinstance(fn, list | tuple):
        return [allow_in_graph(each) for each in fn]
    if not callable(fn):
        raise AssertionError("allow_in_graph expects a callable")
    return fn


def nested_compile_region(fn: Callable[..., Any] | None = None, options: Any = None) -> Any:
    """The function unchanged: equal kernels are compiled once wherever they stand."""
    if fn is None:
        return functools.partial(nested_compile_region, options=options)
    return fn


def assume_constant_result(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function's result, computed when a function that calls it is compiled, is a constant there."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if capture.active() is None:
            return fn(*args, **kwargs)
        with use_backend(EAGER):
            return fn(*args, **kwargs)

    return wrapper


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """The names that `torch.compile(backend=...)` takes for the one compiler there is."""
    return ["inductor"]


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """The function, which is not to be compiled. A compiled function is one graph, so calling it there is an error."""
    if fn is None:
        return functools.partial(disable, recursive=recursive, reason=reason)

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if capture.active() is not None:
            caller = sys._getframe(1)
            where = f"{caller.f_code.co_filename}:{caller.f_lineno}"
            name = getattr(fn, "__qualname__", repr(fn))
            why = f" ({reason})" if reason else ""
            raise RuntimeError(
                f"{where}: {name} is marked with torch.compiler.disable{why} and is called inside "
                "a compiled function, which is one graph and has no place where plain Python runs. Compile what comes "
                "before it and what comes after it apart and call it in between, or compile it too: leave out the mark."
            )
        return fn(*args, **kwargs)

    return wrapper


def reset() -> None:
    """Have every compiled function forget what has been compiled."""
    _reset()


__all__ = [
    "allow_in_graph",
    "assume_constant_result",
    "compile",
    "cudagraph_mark_step_begin",
    "disable",
    "is_compiling",
    "is_dynamo_compiling",
    "is_exporting",
    "list_backends",
    "nested_compile_region",
    "reset",
]  # fmt: skip
