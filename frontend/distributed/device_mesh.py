"""`torch.distributed.device_mesh`: processes in a grid."""

from __future__ import annotations

from typing import Any

from .one_process import NeedsProcesses


class DeviceMesh(NeedsProcesses):
    """A grid of processes."""


def init_device_mesh(*args: Any, **kwargs: Any) -> DeviceMesh:
    """RuntimeError, as of `DeviceMesh`."""
    return DeviceMesh()


__all__ = ["DeviceMesh", "init_device_mesh"]
