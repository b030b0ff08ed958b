"""`torch.distributed.tensor`: the class that programs ask tensors for. None is of it: there is one process."""

from __future__ import annotations

from typing import Any


class DTensor:
    """A tensor spread over processes; RuntimeError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise RuntimeError("Requires distributed package to be available")


__all__ = ["DTensor"]
