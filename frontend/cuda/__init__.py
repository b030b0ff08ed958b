"""`torch.cuda` as a build without CUDA answers it: there is none."""

from __future__ import annotations

from typing import Any

from . import amp as amp


def is_available() -> bool:
    """False: eager tensors live on the CPU."""
    return False


def device_count() -> int:
    return 0


def is_initialized() -> bool:
    return False


def manual_seed(seed: int) -> None:
    """Nothing to seed."""


def manual_seed_all(seed: int) -> None:
    """Nothing to seed."""


def empty_cache() -> None:
    """Nothing to free."""


def synchronize(device: Any = None) -> None:
    raise AssertionError("Torch not compiled with CUDA enabled")


def current_device() -> int:
    raise AssertionError("Torch not compiled with CUDA enabled")


def get_device_name(device: Any = None) -> str:
    raise AssertionError("Torch not compiled with CUDA enabled")
