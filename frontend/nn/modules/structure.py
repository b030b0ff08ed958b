"""One counter for "some module changed": what a compiled function's guard compares.

Compiled code holds what the modules' Python attributes said when it was traced. Rather than compare them all
on every call, each change of an attribute, hook, parameter or child of any module moves this counter.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ...hooks import RemovableHandle
from ...state import local

structure_changes = [0]
_all_changes = [0]
# How often a trace has begun or ended.
_traces = [0]
# Called at each change: who compiles a function wants to know the line.
watchers: list[Callable[[], None]] = []


def structure_version() -> int:
    """A number that differs from an earlier one if any module anywhere changed in between."""
    return _all_changes[0]


def changed(birth: Birth | None = None) -> None:
    """Count a change of the module that was made then, of one of whom that is not known without it.

    No change for anybody else is that of a module which the function being compiled has made for itself. And no
    compiled function has seen a module that is younger than every trace: making one, as a loop may do with a loss,
    changes nothing for them.
    """
    if birth is not None and birth.compiling is not None and birth.compiling() is local.backend.capture:
        return
    _all_changes[0] += 1
    if birth is None or birth.traces != _traces[0]:
        structure_changes[0] += 1
    for watcher in tuple(watchers):
        watcher()


@contextmanager
def watched_structure(watcher: Callable[[], None]) -> Iterator[None]:
    """Inside the block, which traces a function, `watcher` is called at each change, in the thread that makes it."""
    watchers.append(watcher)
    _traces[0] += 1
    try:
        yield
    finally:
        _traces[0] += 1
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


class Birth:
    """When a module was made: among the traces, and a weak reference to who traced in this thread, if anyone did."""

    __slots__ = ("compiling", "traces")

    def __init__(self) -> None:
        compiling = local.backend.capture
        self.compiling = None if compiling is None else weakref.ref(compiling)
        self.traces = _traces[0]


class CountedDict(dict[Any, Any]):
    """A dict of a module's parameters, buffers or children; writing to it directly counts as a change as
    well. Storing what is there already, as `self.calls += 1` does, is none."""

    birth: Birth | None = None

    def __getstate__(self) -> None:
        """Copies are younger, and files do not need it."""

    def __setitem__(self, key: Hashable, value: Any) -> None:
        if key not in self or self[key] is not value:
            super().__setitem__(key, value)
            changed(self.birth)

    def __delitem__(self, key: Hashable) -> None:
        super().__delitem__(key)
        changed(self.birth)

    def clear(self) -> None:
        super().clear()
        changed(self.birth)

    def pop(self, *args: Any) -> Any:
        before = len(self)
        found = super().pop(*args)
        if len(self) != before:
            changed(self.birth)
        return found

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        changed(self.birth)
