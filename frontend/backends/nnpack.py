"""`torch.backends.nnpack`."""

from __future__ import annotations


def is_available() -> bool:
    """False: there is no NNPACK."""
    return False


__all__ = ["is_available"]
