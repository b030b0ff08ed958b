"""`torch.backends.opt_einsum`."""

from __future__ import annotations

enabled = False
strategy: str | None = None


def is_available() -> bool:
    """False: `einsum` contracts its operands from the left."""
    return False


__all__ = ["enabled", "is_available", "strategy"]
