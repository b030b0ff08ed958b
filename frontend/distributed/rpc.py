"""`torch.distributed.rpc` as a PyTorch that was built without it answers: not available."""

from __future__ import annotations


def is_available() -> bool:
    """False: there is one process."""
    return False


__all__ = ["is_available"]
