"""Switching the tape off and on: context managers that also decorate functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..state import local
from ..tensor import mark_new_storages


def is_grad_enabled() -> bool:
    """Whether the tape records in this thread."""
    return local.grad_enabled


def is_inference_mode_enabled() -> bool:
    return local.inference


class _GradMode:
    """`with mode():` and `@mode()`; `enter` changes the state, `__exit__` restores it."""

    def __init__(self) -> None:
        self._saved: list[tuple[bool, bool]] = []

    def clone(self) -> _GradMode:
        return type(self)()

    def enter(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> None:
        self._saved.append((local.grad_enabled, local.inference))
        self.enter()

    def __exit__(self, *_: Any) -> None:
        local.grad_enabled, local.inference = self._saved.pop()

    def __call__(self, function: Callable[..., Any]) -> Any:
        return _decorated(function, self.clone)


def _decorated(function: Callable[..., Any], mode: Callable[[], _GradMode]) -> Any:
    if inspect.isclass(function):
        setattr(function, "__init__", _decorated(function.__init__, mode))  # noqa: B010 (mypy: a method)
        return function
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Any:
            running = function(*args, **kwargs)
            sent = None
            while True:
                try:
                    with mode():
                        value = running.send(sent)
                except StopIteration as stop:
                    return stop.value
                sent = yield value

        return generator

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with mode():
            return function(*args, **kwargs)

    return wrapper


class no_grad(_GradMode):
    """Nothing is recorded: results do not require grad."""

    def __new__(cls, function: Any = None) -> Any:
        made = super().__new__(cls)
        if function is None:
            return made
        made.__init__()  # type: ignore[misc]
        return made(function)

    def __init__(self, function: Any = None):
        super().__init__()

    def enter(self) -> None:
        local.grad_enabled = False


class enable_grad(no_grad):
    """Recording, inside a `no_grad` block."""

    def enter(self) -> None:
        local.grad_enabled = True


class set_grad_enabled(_GradMode):
    """Recording or not, from the call on; as a context manager, until its end."""

    def __init__(self, mode: bool):
        super().__init__()
        self.mode = mode
        self._before = local.grad_enabled
        local.grad_enabled = mode

    def clone(self) -> _GradMode:
        return set_grad_enabled(self.mode)

    def __call__(self, function: Callable[..., Any]) -> Any:
        local.grad_enabled = self._before
        return super().__call__(function)

    def __enter__(self) -> None:
        self._saved.append((self._before, local.inference))
        local.grad_enabled = self.mode

    def enter(self) -> None:
        local.grad_enabled = self.mode


class inference_mode(_GradMode):
    """`no_grad` whose promise is that nothing made inside will need a gradient."""

    def __new__(cls, mode: Any = True) -> Any:
        made = super().__new__(cls)
        if isinstance(mode, bool):
            return made
        made.__init__()  # type: ignore[misc]
        return made(mode)

    def __init__(self, mode: Any = True):
        super().__init__()
        self.mode = mode if isinstance(mode, bool) else True

    def clone(self) -> _GradMode:
        return inference_mode(self.mode)

    def enter(self) -> None:
        local.inference = self.mode
        local.grad_enabled = not self.mode
        mark_new_storages(self.mode)

    def __exit__(self, *_: Any) -> None:
        super().__exit__()
        mark_new_storages(local.inference)


class enforce_grad_layout_policy(_GradMode):
    """Whether a gradient is to lie in memory as its leaf does; here it always may lie as it was computed."""

    def __init__(self, enable: bool = True):
        super().__init__()
        self.mode = enable

    def clone(self) -> _GradMode:
        return enforce_grad_layout_policy(self.mode)

    def enter(self) -> None:
        pass


class set_multithreading_enabled(_GradMode):
    """Whether `backward` may use several threads; it walks the tape in one, and its ops use their own."""

    def __init__(self, mode: bool):
        super().__init__()
        self.mode = mode

    def clone(self) -> _GradMode:
        return set_multithreading_enabled(self.mode)

    def enter(self) -> None:
        pass
