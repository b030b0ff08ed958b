"""`torch.cpu`: the CPU, asked as if it were an accelerator."""

from __future__ import annotations

import contextlib
from typing import Any

from . import amp as amp


def is_available() -> bool:
    """True."""
    return True


def is_initialized() -> bool:
    """True: there is nothing to initialize."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """The name "cpu"."""
    return "cpu"


def set_device(device: Any) -> None:
    """Nothing to choose from."""


def synchronize(device: Any = None) -> None:
    """Nothing to wait for: calls return when they are done."""


class Stream:
    """There is one order of events on the CPU, which nobody needs to keep."""

    def __init__(self, priority: int = -1):
        pass

    def wait_stream(self, stream: Any) -> None:
        """Nothing to wait for."""

    def record_event(self) -> None:
        """Nothing to record."""

    def wait_event(self, event: Any) -> None:
        """Nothing to wait for."""


_STREAM = Stream()


def current_stream(device: Any = None) -> Stream:
    """The one stream."""
    return _STREAM


def stream(stream: Stream) -> contextlib.AbstractContextManager[None]:
    """A context that changes nothing."""
    return contextlib.nullcontext()


__all__ = [
    "Stream", "current_device", "current_stream", "device_count", "is_available", "is_initialized",
    "set_device", "stream", "synchronize",
]  # fmt: skip
