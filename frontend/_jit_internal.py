"""`torch._jit_internal`: marks for the TorchScript compiler, which leave code as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def _copy_to_script_wrapper(fn: F) -> F:
    """The function unchanged."""
    return fn


__all__ = ["_copy_to_script_wrapper"]
