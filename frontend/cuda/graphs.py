"""`torch.cuda.CUDAGraph` and `torch.cuda.graph`: names that annotations use. Compiled programs are captured anyway."""

from __future__ import annotations

from typing import Any

_INSTEAD = "torch.cuda.{} is not here: torch.compile captures a program as a CUDA graph by itself. Compile the function."


class CUDAGraph:
    """PyTorch's captured work; NotImplementedError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(_INSTEAD.format("CUDAGraph"))


class graph:
    """PyTorch's context that captures work; NotImplementedError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(_INSTEAD.format("graph"))


__all__ = ["CUDAGraph", "graph"]
