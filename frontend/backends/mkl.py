"""`torch.backends.mkl`."""

from __future__ import annotations


def is_available() -> bool:
    """False: there is no MKL."""
    return False


__all__ = ["is_available"]
