"""What a GPU is to everything above it, and which one there is.

`Device` is the whole interface: memory, copies, modules of PTX, launches. The driver (`driver.py`) and the simulator
(`runtime/ptx_simulator`) implement it. Launches and copies run in the order in which they are asked for, on the
device's current stream; a copy to the host waits for what comes before it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from .. import settings
from .errors import UnsupportedDeviceError
from .tensor_maps import BoundMap

ALIGNMENT = 256  # of every address that `alloc` gives, in bytes

# The compute capabilities that programs are compiled for. A device between two takes the older one's PTX.
CAPABILITIES = ((7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0))


class Function(Protocol):
    """A kernel of a loaded module."""

    @property
    def name(self) -> str: ...


class Module(Protocol):
    """A loaded PTX module."""

    def function(self, name: str) -> Function:
        """The kernel of that name; KeyError if the module has none."""
        ...


class Device(Protocol):
    """One GPU. Addresses are integers; sizes are bytes."""

    @property
    def name(self) -> str: ...
    @property
    def capability(self) -> tuple[int, int]: ...
    @property
    def total_memory(self) -> int: ...
    @property
    def multiprocessors(self) -> int: ...
    @property
    def checks_accesses(self) -> bool:
        """Whether each access is checked against what is allocated: then arrays must not share an allocation."""
        ...

    @property
    def streams(self) -> Streams | None:
        """What a device has besides that works on several things at a time."""
        ...

    def memory_info(self) -> tuple[int, int]:
        """(free, total) bytes."""
        ...

    def alloc(self, nbytes: int) -> int:
        """Uninitialised memory, aligned to `ALIGNMENT`; OutOfMemoryError where there is none left."""
        ...

    def free(self, address: int) -> None: ...

    def to_device(self, address: int, host: np.ndarray[Any, Any]) -> None:
        """Copy a C-contiguous array to the device; the array may be changed afterwards."""
        ...

    def to_host(self, host: np.ndarray[Any, Any], address: int) -> None:
        """Wait, and copy from the device into a C-contiguous array."""
        ...

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""
        ...

    def fill(self, address: int, value: int, nbytes: int) -> None:
        """Set every byte to `value`."""
        ...

    def store(self, address: int, words: Sequence[int]) -> None:
        """Write a few words of 32 bits; they need not stay anywhere, so nothing is waited for."""
        ...

    def word(self, address: int) -> int:
        """Wait, and read 32 bits."""
        ...

    def load(self, ptx: str) -> Module: ...

    def launch(
        self, function: Function, grid: int, threads: int, shared_bytes: int, args: Sequence[int | BoundMap]
    ) -> None:
        """Run `grid` blocks of `threads` threads; `args` are the kernel's parameters in order: of 64 bits, and tensor
        maps."""
        ...

    def launch_together(
        self, function: Function, grid: int, threads: int, shared_bytes: int, args: Sequence[int | BoundMap]
    ) -> None:
        """Launch blocks that wait for each other: all are on the device at once."""
        ...

    def most_together(self, function: Function, threads: int, shared_bytes: int) -> int:
        """How many blocks of a kernel the device runs at once; 0 where it cannot tell them to be."""
        ...

    def synchronize(self) -> None:
        """Wait for everything; raises what a kernel did wrong."""
        ...


class ThreadState(threading.local):
    """A thread's stream on a device; 0 is the default one."""

    stream = 0


class CapturedLaunches(Protocol):
    """Launches that became one piece."""

    def launch(self) -> None:
        """Run them on the current stream."""
        ...


class Capture(CapturedLaunches, Protocol):
    """Launches that become one piece, and may be changed where `Streams.changes_captured` says so."""

    def mark(self) -> None:
        """The latest launch may be asked to change, by the number of marks before."""
        ...

    def change(
        self,
        number: int,
        function: Function,
        grid: int,
        threads: int,
        shared_bytes: int,
        args: Sequence[int | BoundMap],
    ) -> None:
        """Have a marked launch take other arguments from the next run on; it is a launch of the same kernel."""
        ...


class Streams(Protocol):
    """Streams, by numbers of which 0 is the default one, events, graphs, and host memory that the device reads."""

    @property
    def thread(self) -> ThreadState: ...
    def create_stream(self, priority: int = 0) -> int: ...
    def destroy_stream(self, stream: int) -> None: ...
    def synchronize_stream(self, stream: int) -> None: ...
    def stream_is_idle(self, stream: int) -> bool: ...
    def wait_event(self, stream: int, event: int) -> None: ...
    def create_event(self, timing: bool = False, blocking: bool = False) -> int: ...
    def destroy_event(self, event: int) -> None: ...
    def record_event(self, event: int, stream: int) -> None: ...
    def event_is_done(self, event: int) -> bool: ...
    def synchronize_event(self, event: int) -> None: ...
    def elapsed(self, start: int, end: int) -> float:
        """Milliseconds between two recorded events."""
        ...

    def on_stream(self, stream: int) -> AbstractContextManager[None]:
        """Have this thread's launches and copies go to the stream, inside the block."""
        ...

    @property
    def changes_captured(self) -> bool: ...
    def capture(self) -> AbstractContextManager[Capture]:
        """What is launched inside the block does not run, but becomes one piece."""
        ...

    def ready(
        self, function: Function, grid: int, threads: int, shared_bytes: int, args: Sequence[int | BoundMap]
    ) -> CapturedLaunches:
        """A launch as `Device.launch` makes it, for the current stream; its parameters are kept."""
        ...

    def pinned(self, nbytes: int) -> int:
        """The address of page-locked host memory, for copies that do not wait."""
        ...

    def free_pinned(self, address: int) -> None: ...


_found: list[Device] | None = None
_lock = threading.Lock()


def devices() -> Sequence[Device]:
    """The GPUs of this process, none where there is no driver: VITRIFY_CUDA says which kind."""
    global _found
    if _found is None:
        with _lock:
            if _found is None:
                _found = _find(settings.cuda())
    return _found


def _find(choice: str) -> list[Device]:
    if choice == "off":
        return []
    if choice == "simulator":
        return [importlib.import_module("..ptx_simulator.device", __package__).SimulatorDevice()]
    return list(importlib.import_module(".driver", __package__).find_devices())


def install(found: Sequence[Device] | None) -> Sequence[Device] | None:
    """Use these devices from now on (None: look for them again); what was used before. For tests: tensors on devices
    that are taken away are lost."""
    global _found
    before, _found = _found, None if found is None else list(found)
    return before


def target_name(capability: tuple[int, int]) -> str:
    """The architecture to compile for: `sm_90a` where its own features are there, else the newest that is not above the
    device's. UnsupportedDeviceError below sm_70."""
    if capability == (9, 0):
        return "sm_90a"
    known = [c for c in CAPABILITIES if c <= capability]
    if not known:
        oldest = CAPABILITIES[0]
        raise UnsupportedDeviceError(
            f"a device of compute capability {capability[0]}.{capability[1]} is not supported: programs are compiled "
            f"for {oldest[0]}.{oldest[1]} and above"
        )
    return f"sm_{known[-1][0]}{known[-1][1]}"
