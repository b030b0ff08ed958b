"""Handles by which a registered hook is taken off again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

Hooks = dict[int, Callable[..., Any]]


class RemovableHandle:
    """What registering a hook returns; `remove()` takes the hook off, and so does leaving it as a context."""

    _ids = itertools.count()

    def __init__(self, hooks: Hooks):
        self.id = next(RemovableHandle._ids)
        self._hooks: Hooks = hooks

    def remove(self) -> None:
        """Take the hook away; nothing happens the second time."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def register(hooks: Hooks, hook: Callable[..., Any]) -> RemovableHandle:
    """Put the hook at the end of the ordered table."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle
