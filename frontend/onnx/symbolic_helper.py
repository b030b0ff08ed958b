"""`torch.onnx.symbolic_helper`: how PyTorch's older exporter is told of ops. The one here writes an op's own graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def parse_args(*descriptors: str) -> Callable[[F], F]:
    """The function as it is; it is not called."""
    return lambda function: function


__all__ = ["parse_args"]
