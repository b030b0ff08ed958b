"""One fact that a trace relied on, and what it means that it still holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Get = Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Guard:
    """A fact the trace relied on: `get()` gave `seen`. Numbers, strings and tuples of such are compared by value (and
    type), all else by identity."""

    name: str
    get: Get
    seen: Any
    by_value: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_value", is_plain(self.seen))

    def holds(self) -> bool:
        """Whether the fact still holds."""
        now = self.get()
        return now is self.seen or (self.by_value and same_value(now, self.seen))

    def reason(self) -> str:
        """What changed."""
        now = self.get()
        if self.by_value:
            was, now = _difference(self.seen, now)
            return f"{self.name} was {was!r}, now {now!r}"
        return f"{self.name} was another {type(self.seen).__name__}"


def _difference(was: Any, now: Any) -> tuple[Any, Any]:
    """The innermost tuples that differ, where one item of each does."""
    while isinstance(was, tuple) and isinstance(now, tuple) and len(was) == len(now):
        differing = [pair for pair in zip(was, now) if not same_value(*pair)]
        if len(differing) != 1 or not isinstance(differing[0][0], tuple):
            break
        was, now = differing[0]
    return was, now


_PLAIN = (int, float, complex, bool, str, bytes, type(None), np.generic)


def is_plain(value: Any) -> bool:
    """Whether a guard compares the value by equality."""
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(map(is_plain, value)))


def same_value(a: Any, b: Any) -> bool:
    """Whether two plain values are the same for a program: 2 is not 2.0, which makes another dtype."""
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all(map(same_value, a, b))
    return bool(a == b)
