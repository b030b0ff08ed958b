"""GPUs through the CUDA driver: primary contexts, memory, modules, launches, streams, events, captured graphs.

This has not run on hardware yet: its calls were checked against a library that records them
(`tests/gpu/test_gpu_driver.py`).
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import addressof, byref, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

import numpy as np

from .cuda_library import CudaLibrary, load_library
from .device import Function
from .errors import (
    NO_DEVICE,
    NOT_READY,
    OUT_OF_MEMORY,
    UNSUPPORTED_PTX,
    CudaError,
    OutOfMemoryError,
    UnsupportedDeviceError,
)
from .tensor_maps import BoundMap, encoded

# CUdevice_attribute
_MULTIPROCESSORS, _MAJOR, _MINOR, _MAX_SHARED, _KILOHERTZ, _COOPERATIVE = 16, 75, 76, 97, 13, 95
# CUjit_option
_INFO_BUFFER, _INFO_SIZE, _ERROR_BUFFER, _ERROR_SIZE = 3, 4, 5, 6
_LOG_BYTES = 1 << 14
_MAX_DYNAMIC_SHARED = 8  # CUfunction_attribute
_NON_BLOCKING = 1  # a stream that does not wait for the default one
_NO_TIMING, _BLOCKING_SYNC = 2, 1
_CAPTURE_THREAD_LOCAL = 1
_PORTABLE = 1
_STATIC_SHARED = 48 << 10  # more per block must be asked for

# CUDA versions and the newest PTX that their drivers take (PTX ISA, "Release Notes").
PTX_OF_CUDA = (
    ((13, 0), (9, 0)), ((12, 9), (8, 8)), ((12, 8), (8, 7)), ((12, 7), (8, 6)), ((12, 5), (8, 5)), ((12, 4), (8, 4)),
    ((12, 3), (8, 3)), ((12, 2), (8, 2)), ((12, 1), (8, 1)), ((12, 0), (8, 0)), ((11, 8), (7, 8)), ((11, 7), (7, 7)),
    ((11, 6), (7, 6)), ((11, 5), (7, 5)), ((11, 4), (7, 4)), ((11, 3), (7, 3)), ((11, 2), (7, 2)), ((11, 1), (7, 1)),
    ((11, 0), (7, 0)),
)  # fmt: skip


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


class ThreadState(threading.local):
    """A thread's stream on a device; 0 is the default one."""

    stream = 0


class _Current(threading.local):
    """The device whose context is current in a thread."""

    device: CudaDevice | None = None


_current = _Current()


class CudaDevice:
    """One GPU. Its context is the primary one, which other libraries of the process share; it is made when the first
    thing is done with the device."""

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
        self.shared_bytes = self._attribute(_MAX_SHARED)
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

    def _call(self, action: str, name: str, *args: Any) -> None:
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

    def _get(self, action: str, kind: Any, name: str, *args: Any) -> Any:
        answer = kind()
        self._call(action, name, byref(answer), *args)
        return answer.value

    @property
    def stream(self) -> int:
        """This thread's stream; 0 is the default one."""
        return self.thread.stream

    # -- memory --------------------------------------------------------------------------------------------------

    def alloc(self, nbytes: int) -> int:
        try:
            return int(self._get(f"allocating {nbytes} bytes", c_uint64, "cuMemAlloc_v2", nbytes))
        except CudaError as error:
            if error.code == OUT_OF_MEMORY:
                raise OutOfMemoryError(f"CUDA out of memory: {nbytes} bytes on {self.name}") from error
            raise

    def free(self, address: int) -> None:
        self._call("freeing memory", "cuMemFree_v2", address)

    def memory_info(self) -> tuple[int, int]:
        """(free, total) bytes of the device."""
        free, total = c_size_t(), c_size_t()
        self._call("asking for free memory", "cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def pinned(self, nbytes: int) -> int:
        """The address of page-locked host memory, for copies that do not wait."""
        action = f"allocating {nbytes} bytes of pinned memory"
        return int(self._get(action, c_void_p, "cuMemHostAlloc", max(nbytes, 1), _PORTABLE))

    def free_pinned(self, address: int) -> None:
        self._call("freeing pinned memory", "cuMemFreeHost", address)

    def to_device(self, address: int, host: np.ndarray[Any, Any], wait: bool = True) -> None:
        """`wait` False: the array is pinned, and stays as it is until the stream has come here."""
        assert host.flags.c_contiguous
        action = f"copying {host.nbytes} bytes to the device"
        self._call(action, "cuMemcpyHtoDAsync_v2", address, host.ctypes.data, host.nbytes, self.stream)
        if wait:
            self.synchronize_stream(self.stream)

    def to_host(self, host: np.ndarray[Any, Any], address: int, wait: bool = True) -> None:
        assert host.flags.c_contiguous and host.flags.writeable
        action = f"copying {host.nbytes} bytes from the device"
        self._call(action, "cuMemcpyDtoHAsync_v2", host.ctypes.data, address, host.nbytes, self.stream)
        if wait:
            self.synchronize_stream(self.stream)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        action = f"copying {nbytes} bytes on the device"
        self._call(action, "cuMemcpyDtoDAsync_v2", target, source, nbytes, self.stream)

    def fill(self, address: int, value: int, nbytes: int) -> None:
        self._call(f"filling {nbytes} bytes", "cuMemsetD8Async", address, value, nbytes, self.stream)

    def store(self, address: int, words: Sequence[int]) -> None:
        for at, word in enumerate(words):
            self._call("storing a number", "cuMemsetD32Async", address + 4 * at, word, 1, self.stream)

    def word(self, address: int) -> int:
        answer = c_uint32()
        self._call("reading a number", "cuMemcpyDtoHAsync_v2", addressof(answer), address, 4, self.stream)
        self.synchronize_stream(self.stream)
        return answer.value

    # -- programs ------------------------------------------------------------------------------------------------

    def load(self, ptx: str) -> CudaModule:
        """UnsupportedDeviceError where the driver is too old for the PTX; what the assembler says is in the error."""
        self._check_version(ptx)
        data = ptx.encode() + b"\0"
        info, errors = (ctypes.create_string_buffer(_LOG_BYTES) for _ in range(2))
        kinds = (c_int * 4)(_INFO_BUFFER, _INFO_SIZE, _ERROR_BUFFER, _ERROR_SIZE)
        values = (c_void_p * 4)(ctypes.addressof(info), _LOG_BYTES, ctypes.addressof(errors), _LOG_BYTES)
        handle = c_void_p()
        try:
            self._call("loading a PTX module", "cuModuleLoadDataEx", byref(handle), data, 4, kinds, values)
        except CudaError as error:
            if error.code == UNSUPPORTED_PTX:
                raise UnsupportedDeviceError(self._too_old(_ptx_version(ptx))) from error
            log = errors.value.decode("utf-8", "replace") or info.value.decode("utf-8", "replace")
            raise CudaError(error.code, error.action, log) from error
        return CudaModule(self, int(handle.value or 0))

    def _check_version(self, ptx: str) -> None:
        newest = next((ptx for cuda, ptx in PTX_OF_CUDA if self.driver_version >= cuda), (0, 0))
        wanted = _ptx_version(ptx)
        # A driver that is newer than this table takes what it does not list.
        if wanted > newest and self.driver_version < PTX_OF_CUDA[0][0]:
            raise UnsupportedDeviceError(self._too_old(wanted))

    def _too_old(self, wanted: tuple[int, int]) -> str:
        needed = min((cuda for cuda, ptx in PTX_OF_CUDA if ptx >= wanted), default=PTX_OF_CUDA[0][0])
        return (
            f"The NVIDIA driver on your system is too old (it supports CUDA {_dotted(self.driver_version)}): PTX "
            f"{_dotted(wanted)} needs a driver for CUDA {_dotted(needed)} or newer. Please update your GPU driver."
        )

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
            int(self._get(action, c_int, name, function.handle, threads, shared_bytes)) * self.multiprocessors
        )

    def _ask_for_shared(self, function: CudaFunction, shared_bytes: int) -> None:
        if shared_bytes > function.shared_bytes:
            action = f"asking for {shared_bytes} bytes of shared memory for {function.name}"
            self._call(action, "cuFuncSetAttribute", function.handle, _MAX_DYNAMIC_SHARED, shared_bytes)
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
        count = len(args)
        try:
            values, pointers = function.parameters.pop()
        except IndexError:
            values = (c_uint64 * max(1, count))()
            first = addressof(values)
            pointers = (c_void_p * max(1, count))(*range(first, first + 8 * count, 8))
        try:
            values[:count] = args
            given = pointers
        except TypeError:  # there are maps among them
            values[:count] = [x if isinstance(x, int) else 0 for x in args]
            maps = {i: encoded(self.library, x) for i, x in enumerate(args) if isinstance(x, BoundMap)}
            given = (c_void_p * count)(
                *(addressof(maps[i]) if i in maps else p for i, p in enumerate(pointers))
            )
        self._call(
            function.launching, name,
            function.handle, grid, 1, 1, threads, 1, 1, shared_bytes, self.thread.stream, given, *rest,
        )  # fmt: skip
        function.parameters.append((values, pointers))

    def synchronize(self) -> None:
        self._call("waiting for the device", "cuCtxSynchronize")

    # -- streams and events --------------------------------------------------------------------------------------

    def create_stream(self, priority: int = 0) -> int:
        action = "making a stream"
        return int(self._get(action, c_void_p, "cuStreamCreateWithPriority", _NON_BLOCKING, priority))

    def destroy_stream(self, stream: int) -> None:
        self._call("destroying a stream", "cuStreamDestroy_v2", stream)

    def synchronize_stream(self, stream: int) -> None:
        self._call("waiting for a stream", "cuStreamSynchronize", stream)

    def stream_is_idle(self, stream: int) -> bool:
        return self._is_done("asking for a stream's state", "cuStreamQuery", stream)

    def wait_event(self, stream: int, event: int) -> None:
        self._call("having a stream wait for an event", "cuStreamWaitEvent", stream, event, 0)

    def create_event(self, timing: bool = False, blocking: bool = False) -> int:
        flags = (0 if timing else _NO_TIMING) | (_BLOCKING_SYNC if blocking else 0)
        return int(self._get("making an event", c_void_p, "cuEventCreate", flags))

    def destroy_event(self, event: int) -> None:
        self._call("destroying an event", "cuEventDestroy_v2", event)

    def record_event(self, event: int, stream: int) -> None:
        self._call("recording an event", "cuEventRecord", event, stream)

    def event_is_done(self, event: int) -> bool:
        return self._is_done("asking for an event's state", "cuEventQuery", event)

    def synchronize_event(self, event: int) -> None:
        self._call("waiting for an event", "cuEventSynchronize", event)

    def elapsed(self, start: int, end: int) -> float:
        action = "asking for the time between two events"
        return float(self._get(action, ctypes.c_float, "cuEventElapsedTime", start, end))

    def _is_done(self, action: str, name: str, handle: int) -> bool:
        try:
            self._call(action, name, handle)
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

    @contextmanager
    def capture(self) -> Iterator[CapturedGraph]:
        """What is launched inside the block does not run: it becomes the graph, which `CapturedGraph.launch` runs as
        one piece. Capture needs a stream that is not the default one; it gets one of its own."""
        graph = CapturedGraph(self)
        stream = self.create_stream()
        try:
            with self.on_stream(stream):
                action = "capturing a graph"
                self._call(action, "cuStreamBeginCapture_v2", stream, _CAPTURE_THREAD_LOCAL)
                try:
                    yield graph
                finally:
                    made = c_void_p()
                    self._call(action, "cuStreamEndCapture", stream, byref(made))
            graph.instantiate(int(made.value or 0))
        finally:
            self.destroy_stream(stream)


class CudaModule:
    """A loaded module. Its code stays as long as this object, or a function of it, lives."""

    def __init__(self, device: CudaDevice, handle: int):
        self.device = device
        self.handle = handle

    def function(self, name: str) -> CudaFunction:
        handle = c_void_p()
        try:
            self.device._call(
                f"looking up the kernel {name}",
                "cuModuleGetFunction",
                byref(handle),
                self.handle,
                name.encode(),
            )
        except CudaError as error:
            if error.name == "CUDA_ERROR_NOT_FOUND":
                raise KeyError(f"the module has no kernel {name!r}") from error
            raise
        return CudaFunction(self, int(handle.value or 0), name)

    def __del__(self) -> None:
        if self.device._fault is None and not sys.is_finalizing():
            self.device._enter()
            self.device.library.result("cuModuleUnload", self.handle)


class CudaFunction:
    """A kernel of a loaded module."""

    def __init__(self, module: CudaModule, handle: int, name: str):
        self.module = module
        self.handle = handle
        self.name = name
        self.launching = f"launching {name}"
        self.shared_bytes = _STATIC_SHARED
        # Memory for the parameters of launches to come: values, and their addresses.
        self.parameters: list[tuple[Any, Any]] = []


class CapturedGraph:
    """Launches that run as one piece (`CudaDevice.capture`)."""

    def __init__(self, device: CudaDevice):
        self.device = device
        self._exec = 0

    def instantiate(self, graph: int) -> None:
        action = "instantiating a captured graph"
        self._exec = int(self.device._get(action, c_void_p, "cuGraphInstantiateWithFlags", graph, 0))
        self.device._call("destroying a graph", "cuGraphDestroy", graph)

    def launch(self) -> None:
        """Run it on the current stream."""
        self.device._call("launching a captured graph", "cuGraphLaunch", self._exec, self.device.stream)

    def __del__(self) -> None:
        if self._exec and self.device._fault is None and not sys.is_finalizing():
            self.device._enter()
            self.device.library.result("cuGraphExecDestroy", self._exec)


def _ptx_version(ptx: str) -> tuple[int, int]:
    found = re.search(r"^\s*\.version\s+(\d+)\.(\d+)", ptx, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
