"""One counter for "some module changed": what a compiled function's guard compares.

Compiled code holds what the modules' Python attributes said when it was traced. Rather than compare them all
on every call, each change of an attribute, hook, parameter or child of any module moves this counter.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ...hooks import RemovableHandle
from ...state import local

structure_changes = [0]
# Called at each change: who compiles a function wants to know the line.
watchers: list[Callable[[], None]] = []


def structure_version() -> int:
    """A number that differs from an earlier one if any module anywhere changed in between."""
    return structure_changes[0]


def changed(born: Callable[[], Any] | None = None) -> None:
    """Count a change. `born`: who compiled while the module was made (`CountedDict.born`). While that one still does,
    the module is the compiled function's own, and nothing changed for anybody else."""
    if born is not None and born() is local.backend.capture:
        return
    structure_changes[0] += 1
    for watcher in tuple(watchers):
        watcher()


@contextmanager
def watched_structure(watcher: Callable[[], None]) -> Iterator[None]:
    """Inside the block `watcher` is called at each change, in the thread that makes it."""
    watchers.append(watcher)
    try:
        yield
    finally:
        watchers.remove(watcher)


class ModuleHookHandle(RemovableHandle):
    """The handle of a module's hook: taking it off counts as a change of the module."""

    def remove(self) -> None:
        super().remove()
        changed()


def add_hook(
    table: dict[int, Callable[..., Any]],
    hook: Callable[..., Any],
    prepend: bool = False,
    flags: Iterable[dict[int, bool]] = (),
) -> ModuleHookHandle:
    """Enter the hook last (or first) in its table, and set its id in each of the flag tables."""
    handle = ModuleHookHandle(table)
    if prepend:
        later = dict(table)
        table.clear()
        table[handle.id] = hook
        table.update(later)
    else:
        table[handle.id] = hook
    for flag in flags:
        flag[handle.id] = True
    changed()
    return handle


class CountedDict(dict[Any, Any]):
    """A dict of a module's parameters, buffers or children; writing to it directly counts as a change as
    well. Storing what is there already, as `self.calls += 1` does, is none."""

    # Of a module made while a function is compiled: a weak reference to who compiles it.
    born: Callable[[], Any] | None = None

    def __setitem__(self, key: Hashable, value: Any) -> None:
        if key not in self or self[key] is not value:
            super().__setitem__(key, value)
            changed(self.born)

    def __delitem__(self, key: Hashable) -> None:
        super().__delitem__(key)
        changed(self.born)

    def clear(self) -> None:
        super().clear()
        changed(self.born)

    def pop(self, *args: Any) -> Any:
        before = len(self)
        found = super().pop(*args)
        if len(self) != before:
            changed(self.born)
        return found

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        changed(self.born)
