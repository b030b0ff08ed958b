"""Padding layers: (before, after) per dim, the last dim first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...tensor import Tensor
from .. import functional as F
from .module import Module

Padding = int | Sequence[int]


class _PadNd(Module):
    rank: int
    mode: str

    def __init__(self, padding: Padding) -> None:
        super().__init__()
        self.padding: tuple[int, ...] = (
            (padding,) * (2 * self.rank) if isinstance(padding, int) else tuple(padding)
        )

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    mode = "constant"

    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPadNd(_ConstantPadNd):
    def __init__(self, padding: Padding) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ReflectionPadNd(_PadNd):
    mode = "reflect"


class _ReplicationPadNd(_PadNd):
    mode = "replicate"


class _CircularPadNd(_PadNd):
    mode = "circular"


def _layers(base: type[_PadNd], prefix: str, doc: str) -> list[Any]:
    """`<prefix>1d` to `<prefix>3d`."""
    members = {"__module__": __name__, "__doc__": doc}
    return [type(f"{prefix}{rank}d", (base,), {**members, "rank": rank}) for rank in (1, 2, 3)]


ConstantPad1d, ConstantPad2d, ConstantPad3d = _layers(
    _ConstantPadNd, "ConstantPad", "A number around the input."
)
ZeroPad1d, ZeroPad2d, ZeroPad3d = _layers(_ZeroPadNd, "ZeroPad", "Zeros around the input.")
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = _layers(
    _ReflectionPadNd, "ReflectionPad", "The input mirrored at its borders."
)
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = _layers(
    _ReplicationPadNd, "ReplicationPad", "The input's borders repeated."
)
CircularPad1d, CircularPad2d, CircularPad3d = _layers(
    _CircularPadNd, "CircularPad", "The input wrapped around."
)
