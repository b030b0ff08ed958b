"""GPUs through the CUDA driver: primary contexts, memory, launches, streams, events. Modules are in `cuda_modules.py`,
captured graphs in `cuda_graphs.py`.

This has not run on hardware yet: its calls were checked against a library that records them
(`tests/gpu/test_gpu_driver.py`).
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import addressof, byref, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

import numpy as np

from .cuda_graphs import CapturedGraph, ReadyLaunch, parameters
from .cuda_library import OPTIONAL, CudaLibrary, load_library
from .cuda_modules import CudaFunction, CudaModule
from .device import Function, ThreadState
from .errors import NO_DEVICE, NOT_READY, OUT_OF_MEMORY, CudaError, OutOfMemoryError
from .tensor_maps import BoundMap, encoded

# CUdevice_attribute
_MULTIPROCESSORS, _MAJOR, _MINOR, _KILOHERTZ, _COOPERATIVE = 16, 75, 76, 13, 95
_MAX_DYNAMIC_SHARED = 8  # CUfunction_attribute
_NON_BLOCKING = 1  # a stream that does not wait for the default one
_NO_TIMING, _BLOCKING_SYNC = 2, 1
_PORTABLE = 1


def find_devices(library: CudaLibrary | None = None) -> Sequence[CudaDevice]:
    """The devices of the driver; none where there is no driver, or no device."""
    found = library or load_library()
    if found is None:
        return []
    code = found.result("cuInit", 0)
    if code == NO_DEVICE:
        return []
    if code:
        raise CudaError(code, "initializing the CUDA driver", "(cuInit)")
    count = found.get("counting the CUDA devices", c_int, "cuDeviceGetCount")
    return [CudaDevice(found, index) for index in range(count)]


class _Current(threading.local):
    """The device whose context is current in a thread."""

    device: CudaDevice | None = None


_current = _Current()


class CudaDevice:
    """One GPU. Its context is the primary one, which other libraries of the process share; it is made when the first
    thing is done with the device."""

    checks_accesses = False

    def __init__(self, library: CudaLibrary, index: int):
        self.library = library
        self._functions = library.functions
        self.index = index
        asking = f"asking about CUDA device {index}"
        self._handle = library.get(asking, c_int, "cuDeviceGet", index)
        name = ctypes.create_string_buffer(256)
        library.call(asking, "cuDeviceGetName", name, len(name), self._handle)
        self.name = name.value.decode("utf-8", "replace")
        self.total_memory = int(library.get(asking, c_size_t, "cuDeviceTotalMem_v2", self._handle))
        self.multiprocessors = self._attribute(_MULTIPROCESSORS)
        self.capability = (self._attribute(_MAJOR), self._attribute(_MINOR))
        self.clock_rate = self._attribute(_KILOHERTZ) * 1000  # at most, in Hz
        version = int(library.get("asking for the driver's version", c_int, "cuDriverGetVersion"))
        self.driver_version = (version // 1000, version % 1000 // 10)
        self._context: int | None = None
        self._fault: CudaError | None = None
        self._lock = threading.Lock()
        self.thread = ThreadState()

    def _attribute(self, number: int) -> int:
        action = f"asking about CUDA device {self.index}"
        return int(self.library.get(action, c_int, "cuDeviceGetAttribute", number, self._handle))

    # -- calls ---------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Make the context current in this thread."""
        if _current.device is self:
            return
        with self._lock:
            if self._context is None:
                action = f"making a context on CUDA device {self.index}"
                self._context = int(
                    self.library.get(action, c_void_p, "cuDevicePrimaryCtxRetain", self._handle)
                )
        self.library.call("switching to a CUDA device", "cuCtxSetCurrent", self._context)
        _current.device = self

    def call(self, action: str, name: str, *args: Any) -> None:
        """Call a function of the driver in the device's context; CudaError says what `action` failed."""
        if self._fault is not None or _current.device is not self:
            self._ready(action)
        code = self._functions[name](*args)
        if code:
            error = CudaError(code, action, f"({name})")
            if error.is_sticky:
                self._fault = error
            raise error

    def _ready(self, action: str) -> None:
        if self._fault is not None:
            raise CudaError(
                self._fault.code,
                action,
                f"CUDA device {self.index} has been unusable since an error while {self._fault.action}: restart the "
                "process.",
            ) from self._fault
        self._enter()

    def get(self, action: str, kind: Any, name: str, *args: Any) -> Any:
        """Call a function that stores its answer through its first argument; the answer."""
        answer = kind()
        self.call(action, name, byref(answer), *args)
        return answer.value

    def drop(self, name: str, handle: int) -> None:
        """Call a function that gives up a handle. Where finalizers run nobody could act on its result, and at the end of
        the process, or of the context, nothing is left to give up."""
        if self._fault is None and not sys.is_finalizing():
            self._enter()
            self.library.result(name, handle)

    @property
    def streams(self) -> CudaDevice:
        return self

    @property
    def stream(self) -> int:
        """This thread's stream; 0 is the default one."""
        return self.thread.stream

    # -- memory --------------------------------------------------------------------------------------------------

    def alloc(self, nbytes: int) -> int:
        try:
            return int(self.get(f"allocating {nbytes} bytes", c_uint64, "cuMemAlloc_v2", nbytes))
        except CudaError as error:
            if error.code == OUT_OF_MEMORY:
                raise OutOfMemoryError(f"CUDA out of memory: {nbytes} bytes on {self.name}") from error
            raise

    def free(self, address: int) -> None:
        self.call("freeing memory", "cuMemFree_v2", address)

    def memory_info(self) -> tuple[int, int]:
        """(free, total) bytes of the device."""
        free, total = c_size_t(), c_size_t()
        self.call("asking for free memory", "cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def pinned(self, nbytes: int) -> int:
        """The address of page-locked host memory, for copies that do not wait."""
        action = f"allocating {nbytes} bytes of pinned memory"
        return int(self.get(action, c_void_p, "cuMemHostAlloc", max(nbytes, 1), _PORTABLE))

    def free_pinned(self, address: int) -> None:
        self.call("freeing pinned memory", "cuMemFreeHost", address)

    def to_device(self, address: int, host: np.ndarray[Any, Any]) -> None:
        assert host.flags.c_contiguous
        action = f"copying {host.nbytes} bytes to the device"
        self.call(action, "cuMemcpyHtoDAsync_v2", address, host.ctypes.data, host.nbytes, self.stream)
        self.synchronize_stream(self.stream)

    def to_host(self, host: np.ndarray[Any, Any], address: int) -> None:
        assert host.flags.c_contiguous and host.flags.writeable
        action = f"copying {host.nbytes} bytes from the device"
        self.call(action, "cuMemcpyDtoHAsync_v2", host.ctypes.data, address, host.nbytes, self.stream)
        self.synchronize_stream(self.stream)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        action = f"copying {nbytes} bytes on the device"
        self.call(action, "cuMemcpyDtoDAsync_v2", target, source, nbytes, self.stream)

    def fill(self, address: int, value: int, nbytes: int) -> None:
        self.call(f"filling {nbytes} bytes", "cuMemsetD8Async", address, value, nbytes, self.stream)

    def store(self, address: int, words: Sequence[int]) -> None:
        for at, word in enumerate(words):
            self.call("storing a number", "cuMemsetD32Async", address + 4 * at, word, 1, self.stream)

    def word(self, address: int) -> int:
        answer = c_uint32()
        self.call("reading a number", "cuMemcpyDtoHAsync_v2", addressof(answer), address, 4, self.stream)
        self.synchronize_stream(self.stream)
        return answer.value

    # -- programs ------------------------------------------------------------------------------------------------

    def load(self, ptx: str) -> CudaModule:
        """UnsupportedDeviceError where the driver is too old for the PTX; what the assembler says is in the error."""
        return CudaModule(self, ptx)

    def launch(
        self, function: Function, grid: int, threads: int, shared_bytes: int, args: Sequence[int | BoundMap]
    ) -> None:
        self._launch("cuLaunchKernel", function, grid, threads, shared_bytes, args, (None,))

    def launch_together(
        self, function: Function, grid: int, threads: int, shared_bytes: int, args: Sequence[int | BoundMap]
    ) -> None:
        self._launch("cuLaunchCooperativeKernel", function, grid, threads, shared_bytes, args, ())

    def most_together(self, function: Function, threads: int, shared_bytes: int) -> int:
        assert isinstance(function, CudaFunction)
        if not self._attribute(_COOPERATIVE):
            return 0
        self._ask_for_shared(function, shared_bytes)
        action = f"asking how many blocks of {function.name} fit"
        name = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
        return (
            int(self.get(action, c_int, name, function.handle, threads, shared_bytes)) * self.multiprocessors
        )

    def _ask_for_shared(self, function: CudaFunction, shared_bytes: int) -> None:
        if shared_bytes > function.shared_bytes:
            action = f"asking for {shared_bytes} bytes of shared memory for {function.name}"
            self.call(action, "cuFuncSetAttribute", function.handle, _MAX_DYNAMIC_SHARED, shared_bytes)
            function.shared_bytes = shared_bytes

    def _launch(
        self,
        name: str,
        function: Function,
        grid: int,
        threads: int,
        shared_bytes: int,
        args: Sequence[int | BoundMap],
        rest: tuple[None, ...],
    ) -> None:
        assert isinstance(function, CudaFunction)
        self._ask_for_shared(function, shared_bytes)
        try:
            kept = function.parameters.pop()
        except IndexError:
            kept = parameters(len(args))
        given, _maps = self.place_arguments(kept, args)
        self.call(
            function.launching, name,
            function.handle, grid, 1, 1, threads, 1, 1, shared_bytes, self.thread.stream, given, *rest,
        )  # fmt: skip
        function.parameters.append(kept)

    def place_arguments(self, memory: tuple[Any, Any], args: Sequence[int | BoundMap]) -> tuple[Any, Any]:
        """Put the arguments into the memory for them (`parameters`); what a launch takes, and what must live until
        then."""
        values, pointers = memory
        count = len(args)
        try:
            values[:count] = args
        except TypeError:  # there are maps among them
            values[:count] = [x if isinstance(x, int) else 0 for x in args]
            maps = {i: encoded(self.library, x) for i, x in enumerate(args) if isinstance(x, BoundMap)}
            places = (addressof(maps[i]) if i in maps else p for i, p in enumerate(pointers))
            return (c_void_p * count)(*places), maps
        return pointers, None

    def ready(
        self, function: Function, grid: int, threads: int, shared_bytes: int, args: Sequence[int | BoundMap]
    ) -> ReadyLaunch:
        assert isinstance(function, CudaFunction)
        self._ask_for_shared(function, shared_bytes)
        kept = parameters(len(args))
        given, maps = self.place_arguments(kept, args)
        launch = (function.handle, grid, 1, 1, threads, 1, 1, shared_bytes, self.thread.stream, given, None)
        return ReadyLaunch(self, function.launching, launch, (function, kept, maps))

    def synchronize(self) -> None:
        self.call("waiting for the device", "cuCtxSynchronize")

    # -- streams and events --------------------------------------------------------------------------------------

    def create_stream(self, priority: int = 0) -> int:
        action = "making a stream"
        return int(self.get(action, c_void_p, "cuStreamCreateWithPriority", _NON_BLOCKING, priority))

    def destroy_stream(self, stream: int) -> None:
        self.drop("cuStreamDestroy_v2", stream)

    def synchronize_stream(self, stream: int) -> None:
        self.call("waiting for a stream", "cuStreamSynchronize", stream)

    def stream_is_idle(self, stream: int) -> bool:
        return self._is_done("asking for a stream's state", "cuStreamQuery", stream)

    def wait_event(self, stream: int, event: int) -> None:
        self.call("having a stream wait for an event", "cuStreamWaitEvent", stream, event, 0)

    def create_event(self, timing: bool = False, blocking: bool = False) -> int:
        flags = (0 if timing else _NO_TIMING) | (_BLOCKING_SYNC if blocking else 0)
        return int(self.get("making an event", c_void_p, "cuEventCreate", flags))

    def destroy_event(self, event: int) -> None:
        self.drop("cuEventDestroy_v2", event)

    def record_event(self, event: int, stream: int) -> None:
        self.call("recording an event", "cuEventRecord", event, stream)

    def event_is_done(self, event: int) -> bool:
        return self._is_done("asking for an event's state", "cuEventQuery", event)

    def synchronize_event(self, event: int) -> None:
        self.call("waiting for an event", "cuEventSynchronize", event)

    def elapsed(self, start: int, end: int) -> float:
        action = "asking for the time between two events"
        return float(self.get(action, ctypes.c_float, "cuEventElapsedTime", start, end))

    def _is_done(self, action: str, name: str, handle: int) -> bool:
        try:
            self.call(action, name, handle)
        except CudaError as error:
            if error.code == NOT_READY:
                return False
            raise
        return True

    @contextmanager
    def on_stream(self, stream: int) -> Iterator[None]:
        before = self.stream
        self.thread.stream = stream
        try:
            yield
        finally:
            self.thread.stream = before

    # -- captured graphs -----------------------------------------------------------------------------------------

    @property
    def changes_captured(self) -> bool:
        """Whether the driver changes launches of captured graphs."""
        return all(name in self._functions for name in OPTIONAL)

    @contextmanager
    def capture(self) -> Iterator[CapturedGraph]:
        """What is launched inside the block does not run: it becomes the graph, which `CapturedGraph.launch` runs as
        one piece. Capture needs a stream that is not the default one; it gets one of its own."""
        stream = self.create_stream()
        try:
            graph = CapturedGraph(self, stream)
            with self.on_stream(stream):
                try:
                    yield graph
                except BaseException:
                    graph.abandon()
                    raise
                graph.end()
        finally:
            self.destroy_stream(stream)
