"""`torch.backends.mps`."""

from __future__ import annotations


def is_available() -> bool:
    """False: Apple's GPUs are not a target."""
    return False


def is_built() -> bool:
    """False: Apple's GPUs are not a target."""
    return False


__all__ = ["is_available", "is_built"]
