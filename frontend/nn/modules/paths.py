"""Which submodule is running: "features.conv1" while that one's forward runs, for the tracer to stamp on
nodes.

Only followed inside `tracked_module_paths()`, so that an eager call pays for one test of an integer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .structure import structure_version

if TYPE_CHECKING:
    from .module import Module

# How many threads record at the moment. Read by Module.__call__ without a lock: it only decides which way to
# go.
recording = [0]


class _Stack(threading.local):
    """`paths`: the running submodules' names, the innermost last; `names` of the outermost module's submodules by
    their ids; `known`: such dicts, with the module, of modules that were called since the structure had that version."""

    enabled = False

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.paths: list[str] = []
        self.version = -1
        self.known: dict[int, tuple[Module, dict[int, str]]] = {}


module_stack = _Stack()


@contextlib.contextmanager
def tracked_module_paths() -> Iterator[None]:
    """Follow module calls in this thread for the length of the block."""
    outer = module_stack.enabled, module_stack.names, module_stack.paths
    module_stack.enabled, module_stack.names, module_stack.paths = True, {}, []
    recording[0] += 1
    try:
        yield
    finally:
        recording[0] -= 1
        module_stack.known.clear()
        module_stack.enabled, module_stack.names, module_stack.paths = outer


def _names(module: Module) -> dict[int, str]:
    version = structure_version()
    if module_stack.version != version:
        module_stack.version = version
        module_stack.known.clear()
    found = module_stack.known.get(id(module))
    if found is None:
        names = {id(child): name for name, child in module.named_modules()}
        found = module_stack.known[id(module)] = module, names
    return found[1]


def current_module_path() -> str:
    """The running submodule's name within the outermost called module; "" in that one itself or outside
    any."""
    return module_stack.paths[-1] if module_stack.paths else ""


def enter(module: Module) -> bool:
    """Put the path of a module that is called on the stack, where this thread records them; then `leave` follows."""
    if not module_stack.enabled:
        return False
    paths = module_stack.paths
    if paths:
        paths.append(module_stack.names.get(id(module), paths[-1]))
    else:
        module_stack.names = names = _names(module)
        paths.append(names.get(id(module), ""))
    return True


def leave() -> None:
    """The call is over."""
    module_stack.paths.pop()
