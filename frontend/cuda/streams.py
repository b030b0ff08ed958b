"""`torch.cuda.Stream` and `Event`. On a device without streams (the simulator) everything is done when it is asked for:
streams are then names, and events are times."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from .. import device as torch_device
from ..placement import cuda_device
from ..runtime.gpu.arrays import Gpu
from ..runtime.gpu.device import Streams
from ..state import local
from .devices import Device, gpu_for


class Stream:
    """Work on a device that runs in order. Streams do not wait for each other, but for events.

    Memory of tensors belongs to the stream on which they were made: tell `Tensor.record_stream` of others.
    """

    def __init__(self, device: Device = None, priority: int = 0, *, _default: bool = False):
        self._gpu = gpu_for(device)
        self.priority = priority
        # What has the stream, if this object is to destroy it.
        self._owner = None if _default else self._gpu.streams
        self.cuda_stream = 0 if self._owner is None else self._owner.create_stream(priority)

    @property
    def device(self) -> torch_device.device:
        return cuda_device(self._gpu.index)

    @property
    def device_index(self) -> int:
        return self._gpu.index

    @property
    def stream_id(self) -> int:
        return self.cuda_stream

    def synchronize(self) -> None:
        """Wait until all work of the stream is done."""
        streams = self._gpu.streams
        if streams is None:
            self._gpu.device.synchronize()
        else:
            streams.synchronize_stream(self.cuda_stream)

    def query(self) -> bool:
        """Whether all work of the stream is done."""
        streams = self._gpu.streams
        return streams is None or streams.stream_is_idle(self.cuda_stream)

    def wait_event(self, event: Event) -> None:
        """What comes after on this stream waits for the event."""
        event._wait_on(self)

    def wait_stream(self, stream: Stream) -> None:
        """What comes after on this stream waits for what the other has been given so far."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """An event that is over when all work so far is."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self._gpu, self.cuda_stream) == (other._gpu, other.cuda_stream)

    def __hash__(self) -> int:
        return hash((self._gpu.index, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"

    def __enter__(self) -> Stream:
        _open_blocks().append(StreamContext(self))
        _open_blocks()[-1].__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        _open_blocks().pop().__exit__(*error)

    def __del__(self) -> None:
        owner = getattr(self, "_owner", None)
        if owner is not None:
            owner.destroy_stream(self.cuda_stream)


class Event:
    """A point in a stream's work. `enable_timing`: `elapsed_time` may be asked for."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False):
        if interprocess:
            raise RuntimeError("events between processes are not supported")
        self.enable_timing = enable_timing
        self.blocking = blocking
        self._gpu: Gpu | None = None
        # Where it was recorded with a driver: what has the event, and its handle there. Else when it was.
        self._streams: Streams | None = None
        self._handle = 0
        self._time = 0.0

    @property
    def cuda_event(self) -> int:
        return self._handle

    def record(self, stream: Stream | None = None) -> None:
        """The event is over when the work so far of the stream (the current one) is."""
        stream = stream or current_stream()
        gpu = stream._gpu
        if self._gpu is not None and self._gpu is not gpu:
            raise RuntimeError(
                f"Event device cuda:{self._gpu.index} does not match recording stream's device cuda:{gpu.index}."
            )
        self._gpu, self._streams = gpu, gpu.streams
        if self._streams is None:
            gpu.device.synchronize()
            self._time = time.perf_counter()
            return
        self._handle = self._handle or self._streams.create_event(self.enable_timing, self.blocking)
        self._streams.record_event(self._handle, stream.cuda_stream)

    def wait(self, stream: Stream | None = None) -> None:
        """What comes after on the stream (the current one) waits for the event."""
        self._wait_on(stream or current_stream())

    def _wait_on(self, stream: Stream) -> None:
        if self._streams is not None:
            self._streams.wait_event(stream.cuda_stream, self._handle)

    def query(self) -> bool:
        """Whether the event is over; True before it was recorded."""
        return self._streams is None or self._streams.event_is_done(self._handle)

    def synchronize(self) -> None:
        """Wait until the event is over."""
        if self._streams is not None:
            self._streams.synchronize_event(self._handle)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to the other. Both must have been recorded with `enable_timing`."""
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._gpu is None or end_event._gpu is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if self._streams is not None:
            return self._streams.elapsed(self._handle, end_event._handle)
        return (end_event._time - self._time) * 1e3

    def __repr__(self) -> str:
        return f"<torch.cuda.Event {self._handle:#x}>" if self._handle else "<torch.cuda.Event uninitialized>"

    def __del__(self) -> None:
        streams = getattr(self, "_streams", None)
        if streams is not None and self._handle:
            streams.destroy_event(self._handle)


class StreamContext:
    """`with torch.cuda.stream(s):` gives the stream the work of this thread inside the block; None does nothing."""

    def __init__(self, stream: Stream | None):
        self.stream = stream
        self._stack = ExitStack()

    def __enter__(self) -> None:
        stream = self.stream
        if stream is None:
            return
        streams = stream._gpu.streams
        if streams is not None:
            self._stack.enter_context(streams.on_stream(stream.cuda_stream))
        self._stack.enter_context(_Current(stream))

    def __exit__(self, *error: Any) -> None:
        self._stack.close()


class _Current:
    """Notes the stream as its device's current one."""

    def __init__(self, stream: Stream):
        self.stream = stream

    def __enter__(self) -> None:
        streams = _current_streams()
        self.before = streams.get(self.stream._gpu.index)
        streams[self.stream._gpu.index] = self.stream

    def __exit__(self, *error: Any) -> None:
        streams = _current_streams()
        if self.before is None:
            del streams[self.stream._gpu.index]
        else:
            streams[self.stream._gpu.index] = self.before


def _current_streams() -> dict[int, Stream]:
    found: dict[int, Stream] = local.__dict__.setdefault("cuda_streams", {})
    return found


def _open_blocks() -> list[StreamContext]:
    found: list[StreamContext] = local.__dict__.setdefault("cuda_stream_blocks", [])
    return found


def stream(stream: Stream | None) -> StreamContext:
    """Gives the stream the work of this thread inside a `with` block."""
    return StreamContext(stream)


def current_stream(device: Device = None) -> Stream:
    """This thread's stream on the device."""
    found = _current_streams().get(gpu_for(device).index)
    return default_stream(device) if found is None else found


def default_stream(device: Device = None) -> Stream:
    """The stream that is used where nobody chooses."""
    return Stream(device, _default=True)


def set_stream(stream: Stream) -> None:
    """Give the stream the work of this thread from now on."""
    if stream is not None:
        StreamContext(stream).__enter__()


def is_current_stream_capturing() -> bool:
    """Whether launches are being recorded: never."""
    return False


# The names of `torch.cuda` that are defined here.
__all__ = [
    "Event", "Stream", "StreamContext", "current_stream", "default_stream", "is_current_stream_capturing", "set_stream",
    "stream",
]  # fmt: skip
