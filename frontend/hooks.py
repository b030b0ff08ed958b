"""Handles by which a registered hook is taken off again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

Hooks = dict[int, Callable[..., Any]]


class RemovableHandle:
    """What registering a hook returns; `remove()` takes the hook off, and so does leaving it as a context."""

    _ids = itertools.count()

    def __init__(self, hooks: Hooks, changed: Callable[[], None] | None = None):
        self.id = next(RemovableHandle._ids)
        self._hooks: Hooks = hooks
        self._changed = changed

    def remove(self) -> None:
        """Take the hook away; nothing happens the second time."""
        self._hooks.pop(self.id, None)
        if self._changed is not None:
            self._changed()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def register(
    hooks: Hooks, hook: Callable[..., Any], changed: Callable[[], None] | None = None
) -> RemovableHandle:
    """Put the hook at the end of the ordered table. `changed`: is called now, and when the hook is taken off."""
    handle = RemovableHandle(hooks, changed)
    hooks[handle.id] = hook
    if changed is not None:
        changed()
    return handle
