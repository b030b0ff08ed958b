"""`map_location`: on which device a loaded storage is to lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..device import CPU, device
from ..runtime.gpu.arrays import gpu_count
from .storages import LoadedStorage

Restore = Callable[[LoadedStorage, str], LoadedStorage]


def restorer(map_location: Any) -> Restore:
    """What to do with each storage and the location that the file gives it."""
    if map_location is None:
        return _at
    if isinstance(map_location, dict):
        return lambda storage, location: _at(storage, str(map_location.get(location, location)))
    if isinstance(map_location, bytes):
        map_location = map_location.decode("ascii")
    if isinstance(map_location, str | device):
        return lambda storage, location: _at(storage, str(map_location))
    if not callable(map_location):
        raise TypeError(
            "map_location must be None, a device, its name, a dict of names or a function of a storage and its "
            f"location, got {type(map_location).__name__}"
        )

    def restore(storage: LoadedStorage, location: str) -> LoadedStorage:
        found = map_location(storage, location)
        if found is None:
            return _at(storage, location)
        if not isinstance(found, LoadedStorage):
            raise TypeError(
                f"map_location returned a {type(found).__name__}; it must return a storage or None"
            )
        return found

    return restore


def _at(storage: LoadedStorage, location: str) -> LoadedStorage:
    if location == "cpu":
        storage.device = CPU
        return storage
    if location.startswith("cuda") and gpu_count():
        return storage.to(device=location)
    if location.startswith("cuda"):
        raise RuntimeError(
            "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are "
            "running on a CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your "
            "storages to the CPU."
        )
    raise RuntimeError(
        "don't know how to restore data location of torch.storage.UntypedStorage (tagged with "
        f"{location}); torch.load with map_location='cpu' puts it on the CPU"
    )
