"""`torch.nn.parallel`: on one CPU there is nothing to spread a module over."""

from __future__ import annotations

from typing import Any, NoReturn

from .modules.module import Module


class DataParallel(Module):
    """The module, called as it is: what PyTorch's does on a machine without GPUs."""

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0):
        super().__init__()
        self.module = module
        self.device_ids: list[int] = []
        self.dim = dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


class DistributedDataParallel(Module):
    """Not supported: RuntimeError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise RuntimeError(
            "torch.nn.parallel.DistributedDataParallel is not supported: vitrify runs in one process on all cores. Use "
            "the module itself where torch.distributed.is_available() is False"
        )


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


def _one_device(name: str) -> NoReturn:
    raise RuntimeError(f"torch.nn.parallel.{name} is not supported: there is one device")


def scatter(inputs: Any, target_gpus: Any, dim: int = 0) -> NoReturn:
    """RuntimeError."""
    _one_device("scatter")


def gather(outputs: Any, target_device: Any, dim: int = 0) -> NoReturn:
    """RuntimeError."""
    _one_device("gather")


def replicate(network: Any, devices: Any, detach: bool = False) -> NoReturn:
    """RuntimeError."""
    _one_device("replicate")


def parallel_apply(modules: Any, inputs: Any, kwargs_tup: Any = None, devices: Any = None) -> NoReturn:
    """RuntimeError."""
    _one_device("parallel_apply")


__all__ = [
    "DataParallel", "DistributedDataParallel", "data_parallel", "gather", "parallel_apply", "replicate", "scatter",
]  # fmt: skip
