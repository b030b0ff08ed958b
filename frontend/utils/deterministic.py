"""`torch.utils.deterministic`: whether memory that is not filled is to hold known values. It always does here: 0."""

from __future__ import annotations

fill_uninitialized_memory = True

__all__ = ["fill_uninitialized_memory"]
