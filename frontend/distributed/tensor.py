"""`torch.distributed.tensor`: the class that programs ask tensors for. None is of it: there is one process."""

from __future__ import annotations

from .one_process import NeedsProcesses


class DTensor(NeedsProcesses):
    """A tensor spread over processes."""


__all__ = ["DTensor"]
