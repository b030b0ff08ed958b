"""The device "meta": its arrays have shapes, dtypes and strides, and no elements.

It takes the place of a GPU wherever the front end asks where a tensor lies. Nothing is allocated and nothing computed;
who asks for an element is refused.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

from ...codegen.target import GpuTarget
from . import device as devices
from .arrays import Gpu

NO_DATA = "Cannot copy out of meta tensor; no data!"


class _NoMemory:
    """What a device's memory does: nothing."""

    def allocate(self, nbytes: int, stream: int) -> Any:
        return SimpleNamespace(address=0)

    def free(self, block: Any) -> None: ...

    def fill(self, address: int, byte: int, nbytes: int) -> None: ...

    def copy(self, to: int, source: int, nbytes: int) -> None: ...

    def to_device(self, address: int, array: Any) -> None: ...

    def to_host(self, array: Any, address: int) -> NoReturn:
        raise NotImplementedError(NO_DATA)


class MetaDevice(Gpu):
    """The one device of this kind."""

    def __init__(self) -> None:
        memory: Any = _NoMemory()
        self.index = -1
        self.device = self.allocator = memory
        self.streams = None
        self.thread = devices.ThreadState()
        self.host_copies = 0

    @property
    def target(self) -> GpuTarget:
        """There is nothing to compile for."""
        raise NotImplementedError("tensors on the device 'meta' have no elements to compile code for")

    def __str__(self) -> str:
        return "meta"


META = MetaDevice()
