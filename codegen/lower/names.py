"""Fresh names."""

from __future__ import annotations

from collections.abc import Collection


class Names:
    """Fresh names for the loop variables, lets and locals of one kernel."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._next: dict[str, int] = {}
        self._taken = taken

    def __call__(self, stem: str) -> str:
        count = self._next.get(stem, 0)
        self._next[stem] = count + 1
        name = f"{stem}{count}" if count else stem
        return name if name not in self._taken else self(stem)
