"""`torch.nn.parallel.distributed`: one module in several processes, which there are not."""

from __future__ import annotations

from typing import Any

from ..modules.module import Module


class DistributedDataParallel(Module):
    """Not supported: RuntimeError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise RuntimeError(
            "torch.nn.parallel.DistributedDataParallel is not supported: vitrify runs in one process on all cores. Use "
            "the module itself where torch.distributed.is_available() is False"
        )


__all__ = ["DistributedDataParallel"]
