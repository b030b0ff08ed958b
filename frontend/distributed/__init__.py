"""`torch.distributed` as a PyTorch that was built without it answers: not available. Programs ask before they use it."""

from __future__ import annotations


def is_available() -> bool:
    """False: one process, one machine."""
    return False


def is_initialized() -> bool:
    """False: there is one process."""
    return False
