"""Weights of convolutions in another memory format. Memory is always contiguous here, so there is nothing to convert."""

from __future__ import annotations

from typing import Any, TypeVar

from ..modules.module import Module

M = TypeVar("M", bound=Module)


def convert_conv2d_weight_memory_format(module: M, memory_format: Any) -> M:
    """The module; the format is a wish."""
    return module


def convert_conv3d_weight_memory_format(module: M, memory_format: Any) -> M:
    """The module; the format is a wish."""
    return module


__all__ = ["convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format"]
