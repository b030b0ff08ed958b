"""Who is told when a function is compiled: the command line, whose scripts keep their functions to themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compiled import CompiledFunction

_watchers: list[list[CompiledFunction]] = []


@contextmanager
def compiled_functions() -> Iterator[list[CompiledFunction]]:
    """A list that receives each function when it is compiled for the first time, in this and all other threads."""
    found: list[CompiledFunction] = []
    _watchers.append(found)
    try:
        yield found
    finally:
        _watchers[:] = [watcher for watcher in _watchers if watcher is not found]


def compiled(function: CompiledFunction) -> None:
    """Tell the watchers. Called by a `CompiledFunction` after it compiled."""
    for found in _watchers:
        if all(known is not function for known in found):
            found.append(function)
