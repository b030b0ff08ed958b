"""Many guards compared at once: what they read of one dictionary or object is read by one call in C.

Transformers' models stand on thousands of globals and attributes of classes. One `dict.get(name)` after another takes
about 200 ns for each; `operator.itemgetter(*names)` with `map(is_, ...)` about 20.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from operator import attrgetter, is_, itemgetter
from typing import Any

from .guard import Guard
from .lookup import ABSENT, AttributeOf, ItemOf
from .values import same_value

_DICTS = (dict, types.MappingProxyType)


class Together:
    """Whether guards hold. Calls compare identities; only where some differ, what the values are."""

    def __init__(self, guards: Sequence[Guard]):
        items: dict[int, list[Any]] = {}  # guards by whose they are
        attributes: dict[int, list[Any]] = {}
        absent: dict[int, list[Any]] = {}
        alone: list[Guard] = []
        for guard in guards:
            get = guard.get
            if isinstance(get, ItemOf) and type(get.items) in _DICTS:
                (absent if guard.seen is ABSENT else items).setdefault(id(get.of), []).append(guard)
            elif isinstance(get, AttributeOf) and guard.seen is not ABSENT and get.name.isidentifier():
                attributes.setdefault(id(get.of), []).append(guard)
            else:
                alone.append(guard)
        groups: list[tuple[Any, Any, list[Any]]]
        groups = [(itemgetter, found[0].get.items, found) for found in items.values()]
        groups += [(attrgetter, found[0].get.of, found) for found in attributes.values()]
        self._groups = tuple(
            (make(*[g.get.name for g in found]), of, tuple(g.seen for g in found), found)
            for make, of, found in groups
            if len(found) > 1
        )
        alone += [found[0] for _, _, found in groups if len(found) == 1]
        self._missing = tuple(
            (found[0].get.items.keys(), tuple(g.get.name for g in found)) for found in absent.values()
        )
        self._identities = tuple((g.get, g.seen) for g in alone if not g.by_value)
        self._values = tuple((g.get, g.seen) for g in alone if g.by_value)
        self.any = bool(guards)

    def __call__(self) -> bool:
        for get, seen in self._identities:
            if get() is not seen:
                return False
        for read, of, seen, guards in self._groups:
            try:
                if all(map(is_, read(of), seen)):
                    continue
            except (LookupError, AttributeError):
                return False
            if not all(guard.holds() for guard in guards):
                return False
        for keys, names in self._missing:
            if not keys.isdisjoint(names):
                return False
        for get, seen in self._values:
            now = get()
            if now is not seen and not same_value(now, seen):
                return False
        return True
