"""`torch.distributed` as a PyTorch that was built without it answers: not available. Programs ask before they use it."""

from __future__ import annotations

from . import device_mesh as device_mesh
from .one_process import ProcessGroup as ProcessGroup


def is_available() -> bool:
    """False: one process, one machine."""
    return False


def is_initialized() -> bool:
    """False: there is one process."""
    return False
