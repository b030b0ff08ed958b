"""`torch.torch_version`: a version that compares as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any


def _key(version: Any) -> tuple[Any, ...]:
    """What PEP 440 orders releases by: the numbers, and whether something comes before the release."""
    text = version if isinstance(version, str) else ".".join(map(str, version))
    found = re.match(r"v?(\d+(?:\.\d+)*)\s*[-_.]?(a|b|rc|dev)?\D*(\d+)?", text.split("+")[0])
    if found is None:
        raise ValueError(f"Invalid version: {text!r}")
    numbers = [int(n) for n in found[1].split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    stage = {"dev": -4, "a": -3, "b": -2, "rc": -1, None: 0}[found[2]]
    return tuple(numbers), stage, int(found[3] or 0) if found[2] else 0


class TorchVersion(str):
    """A version string that compares with versions, strings and tuples of numbers: `torch.__version__ >= (1, 2)`."""

    def _compare(self, other: Any, name: str) -> bool:
        if not isinstance(other, str | Iterable):
            raise ValueError(f"can't convert {other} to a version")
        try:
            method: Callable[[Any], bool] = getattr(_key(str(self)), name)
            return method(_key(other))
        except ValueError:  # some other text
            return bool(getattr(str(self), name)(other))

    def __lt__(self, other: Any) -> bool:
        return self._compare(other, "__lt__")

    def __le__(self, other: Any) -> bool:
        return self._compare(other, "__le__")

    def __gt__(self, other: Any) -> bool:
        return self._compare(other, "__gt__")

    def __ge__(self, other: Any) -> bool:
        return self._compare(other, "__ge__")

    def __eq__(self, other: Any) -> bool:
        return self._compare(other, "__eq__")

    def __ne__(self, other: Any) -> bool:
        return not self._compare(other, "__eq__")

    def __hash__(self) -> int:
        return hash(str(self))


__all__ = ["TorchVersion"]
