"""What is in lists, dictionaries, sets and tuples, compared by each call."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from operator import is_
from typing import Any

from ...tensor import Tensor
from .lookup import Get
from .values import is_plain, same_value

CONTAINERS = (list, tuple, dict, set, frozenset, deque)
# Of larger containers calls compare the number of items. Comparing one takes about 20 ns.
ITEMS = 1024
_DEEPEST = 16


class Contents:
    """A getter for a guard: what is in the container that `get` gives, as a tuple that is compared by value.

    Calls compare the identities of all items, and only where one differs, what they are. As long as nothing differs, the
    same tuple is given.
    """

    def __init__(self, what: str, get: Get):
        self._get = get
        self._known = _Snapshot(get())
        if self._known.largest > ITEMS:
            warnings.warn(
                f"{what} holds {self._known.largest} items; calls of the compiled function compare only their number. "
                "Read what is needed of it by a constant key, or outside the function",
                RuntimeWarning,
                stacklevel=2,
            )

    def __call__(self) -> Any:
        now = self._get()
        known = self._known
        if now is known.container:
            for items, kept in known.parts:
                if len(items) != len(kept) or not all(map(is_, items, kept)):
                    break
            else:
                for raw, ids in known.raw_parts:
                    if list(map(id, raw)) != ids:
                        break
                else:
                    return known.value
        if not isinstance(now, CONTAINERS):
            return id(now)
        new = _Snapshot(now)
        if type(now) is not type(known.container) or not same_value(new.value, known.value):
            return new.value
        new.value = known.value
        self._known = new
        return new.value


class _Snapshot:
    """What a container held. `value`: as a tuple; `parts`: the items of each container in it that can change, alive to
    see what is there later, and what they were; `raw_parts`: those of subclasses, and those that hold what must not be
    kept, and the identities that they had, which are good as long as the objects are there."""

    def __init__(self, container: Any):
        self.container = container
        self.parts: list[tuple[Collection[Any], list[Any]]] = []
        self.raw_parts: list[tuple[Iterable[Any], list[int]]] = []
        self.largest = 0
        self._kept: list[Any] = []
        self.value = self._of(container, ())

    def _of(self, value: Any, inside: tuple[int, ...]) -> Any:
        if is_plain(value):
            return value
        if not isinstance(value, CONTAINERS) or id(value) in inside or len(inside) == _DEEPEST:
            if not _is_traced(value):  # the trace's own must die with it
                self._kept.append(value)
            return id(value)
        self.largest = max(self.largest, len(value))
        if len(value) > ITEMS:
            return len(value)
        within = (*inside, id(value))
        found = []
        for part in _parts(value):
            if isinstance(part, _Raw) or any(map(_is_traced, part)):
                self.raw_parts.append((part, list(map(id, part))))
            elif type(part) not in (tuple, frozenset):  # which stay what they are
                self.parts.append((part, list(part)))
            found.append([self._of(item, within) for item in part])
        return tuple(zip(*found)) if len(found) > 1 else tuple(found[0])


def _parts(container: Any) -> Iterator[Any]:
    """What to iterate over to see all that is in it, whatever a subclass makes of iterating."""
    if isinstance(container, dict):
        yield dict.keys(container)
        yield dict.values(container)
    elif type(container) in CONTAINERS:
        yield container
    else:
        base = next(kind for kind in CONTAINERS if isinstance(container, kind))
        yield _Raw(container, base)


def _is_traced(value: Any) -> bool:
    return isinstance(value, Tensor) and value._array is None


class _Raw:
    def __init__(self, container: Any, base: Any):
        self._container, self._base = container, base

    def __iter__(self) -> Iterator[Any]:
        found: Iterator[Any] = self._base.__iter__(self._container)
        return found


def members(container: Any) -> list[Any]:
    """The items of a container, and of containers in it, that are neither plain nor containers."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [container]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, CONTAINERS):
            for part in _parts(value):
                waiting += part
        if type(value) not in CONTAINERS and not is_plain(value):
            found.append(value)
    return found
