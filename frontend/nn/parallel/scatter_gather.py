"""`torch.nn.parallel.scatter_gather`: moving parts of a batch to several devices, where there is one."""

from __future__ import annotations

from typing import Any, NoReturn


def one_device(name: str) -> NoReturn:
    """RuntimeError, for a function that needs several devices."""
    raise RuntimeError(f"torch.nn.parallel.{name} is not supported: there is one device")


def scatter(inputs: Any, target_gpus: Any, dim: int = 0) -> NoReturn:
    """RuntimeError."""
    one_device("scatter")


def gather(outputs: Any, target_device: Any, dim: int = 0) -> NoReturn:
    """RuntimeError."""
    one_device("gather")


__all__ = ["gather", "scatter"]
