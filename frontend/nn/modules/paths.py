"""Which submodule is running: "features.conv1" while that one's forward runs, for the tracer to stamp on
nodes.

Only followed inside `tracked_module_paths()`, so that an eager call pays for one test of an integer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .module import Module

# How many threads record at the moment. Read by Module.__call__ without a lock: it only decides which way to
# go.
recording = [0]


class _Stack(threading.local):
    enabled = False

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.paths: list[str] = []


_stack = _Stack()


@contextlib.contextmanager
def tracked_module_paths() -> Iterator[None]:
    """Follow module calls in this thread for the length of the block."""
    outer = _stack.enabled, _stack.names, _stack.paths
    _stack.enabled, _stack.names, _stack.paths = True, {}, []
    recording[0] += 1
    try:
        yield
    finally:
        recording[0] -= 1
        _stack.enabled, _stack.names, _stack.paths = outer


def current_module_path() -> str:
    """The running submodule's name within the outermost called module; "" in that one itself or outside
    any."""
    return _stack.paths[-1] if _stack.paths else ""


def call_with_path(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the module's implementation with its path on the stack."""
    if not _stack.enabled:
        return module._call_impl(*args, **kwargs)
    if not _stack.paths:
        _stack.names = {id(child): name for name, child in module.named_modules()}
    inherited = _stack.paths[-1] if _stack.paths else ""
    _stack.paths.append(_stack.names.get(id(module), inherited))
    try:
        return module._call_impl(*args, **kwargs)
    finally:
        _stack.paths.pop()
