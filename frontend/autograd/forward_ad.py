"""`torch.autograd.forward_ad`: dual numbers, a value with a direction to differentiate in.

A dual tensor is a leaf that knows its tangent; `unpack_dual` finds the derivative of what was computed from such
leaves by running the tape both ways (`func/linear.py`). So inside a level recording is on, whatever it was around
it."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from ..func.levels import Level
from ..func.linear import LinearMap
from ..state import local
from ..tape import gradient_edge
from ..tensor import Tensor


class _DualLevel:
    """A level and its dual tensors."""

    def __init__(self) -> None:
        self.level = Level()
        self.leaves: list[Tensor] = []
        self.tangents: list[Tensor] = []
        self.grad_mode = local.grad_enabled
        local.grad_enabled = True


class _Levels(threading.local):
    """This thread's level, if it is in one."""

    def __init__(self) -> None:
        self.open: list[_DualLevel] = []


_levels = _Levels()


class UnpackedDualTensor(NamedTuple):
    """A dual tensor's value and its derivative, None where it has none."""

    primal: Tensor
    tangent: Tensor | None


def enter_dual_level() -> int:
    """Begin a level; returns its number. Levels do not nest."""
    if _levels.open:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _levels.open.append(_DualLevel())
    return len(_levels.open) - 1


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level: its dual tensors have no tangents from then on."""
    if level is not None and level != len(_levels.open) - 1:
        raise RuntimeError(
            "Trying to exit a forward AD level that was not the last one that was created. This is not supported."
        )
    if not _levels.open:
        raise RuntimeError("Trying to exit a forward AD level but no level exists")
    local.grad_enabled = _levels.open.pop().grad_mode


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """The tensor with a direction: what is computed from it has a tangent."""
    if not _levels.open or (level is not None and level < 0):
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first."
        )
    for what, value in (("primal", tensor), ("tangent", tangent)):
        if value.dtype.kind not in ("float", "complex"):
            raise ValueError(f"Expected {what} to be floating point or complex, but got: {value.dtype}")
    if tuple(tensor.shape) != tuple(tangent.shape):
        raise RuntimeError(
            f"Expected primal and tangent to have the same size: {list(tensor.shape)} and {list(tangent.shape)}"
        )
    current = _levels.open[-1]
    leaf = current.level.input(tensor)
    current.leaves.append(leaf)
    current.tangents.append(tangent)
    return leaf


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The tensor's value and its tangent."""
    if not _levels.open or (level is not None and level < 0):
        return UnpackedDualTensor(tensor, None)
    current = _levels.open[-1]
    tangent = None
    if current.leaves and gradient_edge(tensor) is not None and tensor.dtype.kind in ("float", "complex"):
        tangent = LinearMap(current.level, current.leaves, (tensor,)).push(current.tangents)[0]
    return UnpackedDualTensor(current.level.result(tensor), tangent)


class dual_level:
    """A level for a `with` block."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *_: Any) -> None:
        exit_dual_level()


__all__ = [
    "UnpackedDualTensor",
    "dual_level",
    "enter_dual_level",
    "exit_dual_level",
    "make_dual",
    "unpack_dual",
]
