"""Fresh names."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """Fresh names for the loop variables, lets and locals of one kernel."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._next: dict[str, int] = {}
        self._taken = set(taken)

    def __call__(self, stem: str) -> str:
        while True:
            count = self._next.get(stem, 0)
            self._next[stem] = count + 1
            name = f"{stem}{count}" if count else stem
            if name not in self._taken:
                self._taken.add(name)
                return name
