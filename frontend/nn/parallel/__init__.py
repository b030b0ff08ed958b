"""`torch.nn.parallel`: on one CPU there is nothing to spread a module over."""

from __future__ import annotations

from typing import Any, NoReturn

from ..modules.module import Module
from .distributed import DistributedDataParallel
from .scatter_gather import gather, one_device, scatter


class DataParallel(Module):
    """The module, called as it is: what PyTorch's does on a machine without GPUs."""

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0):
        super().__init__()
        self.module = module
        self.device_ids: list[int] = []
        self.dim = dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(
    module: Module,
    inputs: Any,
    device_ids: Any = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: dict[str, Any] | None = None,
) -> Any:
    """The module of the inputs (a tuple of arguments, or one)."""
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    return module(*arguments, **(module_kwargs or {}))


def replicate(network: Any, devices: Any, detach: bool = False) -> NoReturn:
    """RuntimeError."""
    one_device("replicate")


def parallel_apply(modules: Any, inputs: Any, kwargs_tup: Any = None, devices: Any = None) -> NoReturn:
    """RuntimeError."""
    one_device("parallel_apply")


__all__ = [
    "DataParallel", "DistributedDataParallel", "data_parallel", "gather", "parallel_apply", "replicate", "scatter",
]  # fmt: skip
