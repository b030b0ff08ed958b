"""Errors of devices, which programs name in `except`."""

from __future__ import annotations


class AcceleratorError(RuntimeError):
    """A device reported an error."""


class OutOfMemoryError(RuntimeError):
    """A device has no memory left. The CPU's own is a MemoryError."""


__all__ = ["AcceleratorError", "OutOfMemoryError"]
