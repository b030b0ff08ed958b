"""Who is told when a function is compiled: the command line, whose scripts keep their functions to themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiled import CompiledFunction

_watchers: list[list[CompiledFunction]] = []
_lookers: list[Callable[[CompiledFunction, tuple[Any, ...], Mapping[str, Any]], None]] = []


@contextmanager
def compiled_functions() -> Iterator[list[CompiledFunction]]:
    """A list that receives each function when it is compiled for the first time, in this and all other threads."""
    found: list[CompiledFunction] = []
    _watchers.append(found)
    try:
        yield found
    finally:
        _watchers[:] = [watcher for watcher in _watchers if watcher is not found]


@contextmanager
def before_compiling(
    look: Callable[[CompiledFunction, tuple[Any, ...], Mapping[str, Any]], None],
) -> Iterator[None]:
    """Inside the block `look` is told of every call that needs a compile, before it is compiled."""
    _lookers.append(look)
    try:
        yield
    finally:
        _lookers.remove(look)


def compiling(function: CompiledFunction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Tell those who want to look. Called by a `CompiledFunction` for a call that it has to compile for."""
    for look in _lookers:
        look(function, args, kwargs)


def compiled(function: CompiledFunction) -> None:
    """Tell the watchers. Called by a `CompiledFunction` after it compiled."""
    for found in _watchers:
        if all(known is not function for known in found):
            found.append(function)
