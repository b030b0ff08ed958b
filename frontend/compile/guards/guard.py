"""One fact that a trace relied on, and what it means that it still holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .lookup import Get
from .values import is_plain, same_value


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
