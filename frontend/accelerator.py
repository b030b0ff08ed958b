"""`torch.accelerator` as a machine without one answers it. Reference: PyTorch's torch/accelerator."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, NoReturn

from .device import device
from .device import device as as_device


def is_available() -> bool:
    """False: eager tensors live on the CPU."""
    return False


def device_count() -> int:
    return 0


def current_accelerator(check_available: bool = False) -> device | None:
    """None: there is no accelerator."""
    return None


def _none_to_access() -> NoReturn:
    raise RuntimeError("Cannot access accelerator device when none is available.")


def current_device_index() -> int:
    _none_to_access()


def set_device_index(device: Any, /) -> None:
    _none_to_access()


def current_stream(device: Any = None, /) -> Any:
    _none_to_access()


def synchronize(device: Any = None, /) -> None:
    _none_to_access()


def empty_cache() -> None:
    _none_to_access()


def memory_allocated(device_index: Any = None, /) -> int:
    _none_to_access()


def max_memory_allocated(device_index: Any = None, /) -> int:
    _none_to_access()


def get_device_module(device: Any = None) -> ModuleType:
    """`torch.cpu` or `torch.cuda`, by the device's type; without one, `torch.cpu`."""
    kind = "cpu" if device is None else as_device(device).type
    try:
        return importlib.import_module(f".{kind}", __package__)
    except ImportError:
        raise RuntimeError(f"torch has no module for devices of type {kind}") from None
