"""Attributes of objects whose reads cannot be watched, by the names that code mentions."""

from __future__ import annotations

import types
from typing import Any

from .lookup import AttributeOf, author_of, in_class, own_attributes
from .reads import Reads


class NamedAttributes:
    """Objects whose reads cannot be watched: classes, modules of Python, objects written in C. Of those that code may do
    anything with, what is read is what some code names."""

    def __init__(self, reads: Reads):
        self._reads = reads
        self._names: set[str] = set()
        self._things: dict[int, tuple[Any, str]] = {}

    def add(self, what: str, thing: Any) -> None:
        """Code may read any attribute of the thing."""
        if isinstance(thing, type | types.ModuleType) and author_of(thing) != "user":
            return
        if id(thing) not in self._things:
            self._things[id(thing)] = thing, what
            self._read(thing, what, self._names)

    def add_names(self, names: frozenset[str]) -> None:
        """Code names these."""
        new = names - self._names
        self._names |= new
        for thing, what in list(self._things.values()) if new else ():
            self._read(thing, what, new)

    def _read(self, thing: Any, what: str, names: set[str] | frozenset[str]) -> None:
        if isinstance(thing, type):
            for name in sorted(names & {n for base in thing.__mro__ for n in vars(base)}):
                if not isinstance(in_class(thing, name)[1], types.MemberDescriptorType):
                    self._reads.in_class(f"{what}.{name}", thing, name)
            return
        for name in sorted(names & (own_attributes(thing) or {}).keys()):
            get = AttributeOf(thing, name)
            self._reads.follow(f"{what}.{name}", get, (id(thing), name))
