"""Errors of devices, which programs name in `except`."""

from __future__ import annotations

from .runtime.gpu.errors import AcceleratorError, OutOfMemoryError

__all__ = ["AcceleratorError", "OutOfMemoryError"]
