"""What stands in for tqdm's progress bar where that package is absent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class NoProgress:
    """Goes over an iterable, or counts, and shows nothing."""

    def __init__(self, iterable: Iterable[Any] = (), *args: Any, **options: Any):
        self._items = iterable
        self.total = options.get("total")
        self.n: float = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def update(self, n: float = 1) -> None:
        self.n += n

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> NoProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
