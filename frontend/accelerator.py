"""`torch.accelerator`: the CUDA device, under a name for all kinds. Reference: PyTorch's torch/accelerator."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from . import cuda
from .device import device
from .device import device as as_device


def is_available() -> bool:
    """Whether there is a device besides the CPU."""
    return cuda.is_available()


def device_count() -> int:
    """How many there are."""
    return cuda.device_count()


def current_accelerator(check_available: bool = False) -> device | None:
    """The kind of device, None where there is none."""
    return as_device("cuda") if is_available() else None


def _index(given: Any = None) -> int:
    """RuntimeError where there is no device, or for one of another kind."""
    if not is_available():
        raise RuntimeError("Cannot access accelerator device when none is available.")
    if given is None:
        return cuda.current_device()
    where = as_device(given)
    if where.type != "cuda":
        raise ValueError(f"{where.type} doesn't match the current accelerator cuda.")
    return cuda.current_device() if where.index is None else where.index


def current_device_index() -> int:
    return _index()


def set_device_index(device: Any, /) -> None:
    cuda.set_device(_index(device))


def current_stream(device: Any = None, /) -> Any:
    return cuda.current_stream(_index(device))


def set_stream(stream: Any) -> None:
    _index()
    cuda.set_stream(stream)


def synchronize(device: Any = None, /) -> None:
    cuda.synchronize(_index(device))


def empty_cache() -> None:
    _index()
    cuda.empty_cache()


def memory_allocated(device_index: Any = None, /) -> int:
    return cuda.memory_allocated(_index(device_index))


def max_memory_allocated(device_index: Any = None, /) -> int:
    return cuda.max_memory_allocated(_index(device_index))


def memory_reserved(device_index: Any = None, /) -> int:
    return cuda.memory_reserved(_index(device_index))


def max_memory_reserved(device_index: Any = None, /) -> int:
    return cuda.max_memory_reserved(_index(device_index))


def memory_stats(device_index: Any = None, /) -> dict[str, Any]:
    return cuda.memory_stats(_index(device_index))


def reset_peak_memory_stats(device_index: Any = None, /) -> None:
    cuda.reset_peak_memory_stats(_index(device_index))


def reset_accumulated_memory_stats(device_index: Any = None, /) -> None:
    cuda.reset_accumulated_memory_stats(_index(device_index))


def get_memory_info(device_index: Any = None, /) -> tuple[int, int]:
    return cuda.mem_get_info(_index(device_index))


def get_device_module(device: Any = None) -> ModuleType:
    """`torch.cpu` or `torch.cuda`, by the device's type; without one, the accelerator's, or `torch.cpu`."""
    if device is None:
        kind = "cuda" if is_available() else "cpu"
    else:
        kind = as_device(device).type
    try:
        return importlib.import_module(f".{kind}", __package__)
    except ImportError:
        raise RuntimeError(f"torch has no module for devices of type {kind}") from None
