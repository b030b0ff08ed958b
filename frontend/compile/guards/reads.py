"""Who is told of reads from outside, and getters for what was read."""

from __future__ import annotations

import types
from typing import Any, Protocol

from .chains import Steps
from .lookup import ABSENT, Get


class Reads(Protocol):
    """What to do with what was found."""

    def follow(
        self, what: str, get: Get, key: tuple[Any, ...], steps: Steps = (), settled: bool = False
    ) -> None:
        """What `get` gives is read, and used by these steps; `settled`: calls will find the same object."""

    def reach(self, what: str, value: Any) -> None:
        """Code may do anything with this object, which calls find again."""

    def in_class(self, what: str, cls: type, name: str, steps: Steps = ()) -> None:
        """`cls.name` is read, and used by these steps."""


def itself(value: Any) -> Any:
    """The value: a getter where bound to one."""
    return value


def cell_value(cell: types.CellType) -> Any:
    """What the cell holds now, or ABSENT."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def item(get: Get, key: Any) -> Any:
    """An item of the container that `get` gives, or ABSENT."""
    container = get()
    if isinstance(container, dict):
        return container.get(key, ABSENT)  # a defaultdict would make one
    try:
        return container[key]
    except (LookupError, TypeError):
        return ABSENT
