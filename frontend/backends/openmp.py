"""`torch.backends.openmp`."""

from __future__ import annotations


def is_available() -> bool:
    """False: there is no OpenMP: threads are the compiled program's own."""
    return False


__all__ = ["is_available"]
