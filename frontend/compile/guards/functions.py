"""What functions read that may run: their globals, variables of enclosing functions, defaults, by their bytecode."""

from __future__ import annotations

import builtins
import functools
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from .chains import Chain, Steps, code_reads
from .lookup import ItemOf, author, author_of
from .reads import Reads, cell_value, itself
from .values import is_plain


class Functions:
    """The functions that may run. `names`: is told of what may be names of attributes in each; `asks`: is called when
    code asks objects for their types."""

    def __init__(self, reads: Reads, names: Callable[[frozenset[str]], None], asks: Callable[[], None]):
        self._reads = reads
        self._names = names
        self._asks = asks
        self._seen: set[types.FunctionType] = set()

    def add(self, fn: types.FunctionType) -> None:
        """The function may run."""
        if fn in self._seen:
            return
        self._seen.add(fn)
        wrapped = getattr(fn, "__wrapped__", None)
        self._reads.reach(getattr(wrapped, "__name__", ""), wrapped)
        cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or ()))
        if author(fn.__code__.co_filename) != "user":  # a decorator of a library holds the user's function
            self._settled(fn.__name__, *map(cell_value, cells.values()))
            return
        found = code_reads(fn.__code__)
        self._names(found.names)
        defaults = (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())
        self._settled(f"a default of {fn.__name__}", *(d for d in defaults if not is_plain(d)))
        if "__class__" in cells:
            self._inherited(cell_value(cells["__class__"]), found.names)
        for chain in found.chains:
            self._chain(fn, chain, cells, found.names)

    def _settled(self, what: str, *values: Any) -> None:
        for value in values:
            self._reads.follow(what, functools.partial(itself, value), (id(value),), settled=True)

    def _chain(
        self, fn: types.FunctionType, chain: Chain, cells: Mapping[str, types.CellType], names: frozenset[str]
    ) -> None:
        space, name = fn.__globals__, chain.name
        if chain.root == "import":
            package = space.get("__package__")
            self._reads.reach(name, sys.modules.get(name) or sys.modules.get(f"{package}.{name}"))
        elif chain.root == "free":
            if name in cells:
                get = functools.partial(cell_value, cells[name])
                self._reads.follow(name, get, (id(cells[name]),), chain.steps)
        elif name in space or name not in vars(builtins):
            self._global(space, name, chain.steps)
        elif name == "type":
            self._asks()
        elif name == "globals":
            for found in sorted(names & space.keys()):
                self._global(space, found, ())

    def _global(self, space: dict[str, Any], name: str, steps: Steps) -> None:
        self._reads.follow(name, ItemOf(space, name), (id(space), name), steps)

    def _inherited(self, cls: Any, names: frozenset[str]) -> None:
        """The code may read these names from `super()`."""
        for base in cls.__mro__[1:] if isinstance(cls, type) else ():
            for name in sorted(names & vars(base).keys()) if author_of(base) == "user" else ():
                self._reads.in_class(f"{base.__name__}.{name}", base, name)
