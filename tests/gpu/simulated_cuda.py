"""`libcuda` over the simulator: the driver layer with its streams, events and captured graphs runs real programs without
a GPU. Everything is done when it is asked for, but for what goes to a stream that is being captured."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from fake_cuda import FakeCuda

from vitrify.runtime.gpu.cuda_library import CudaLibrary, KernelNodeParams
from vitrify.runtime.gpu.driver import CudaDevice, find_devices
from vitrify.runtime.gpu.errors import OUT_OF_MEMORY, OutOfMemoryError
from vitrify.runtime.gpu.tensor_maps import DATA_TYPES, BoundMap
from vitrify.runtime.ptx_simulator.device import SimulatorDevice

NOT_FOUND = 500
STREAM_CAPTURE_UNSUPPORTED = 900
FIRST_MAP = 0x6D61700000000000  # no address


class SimulatedCuda(FakeCuda):
    """What `FakeCuda` only records is done by `device`."""

    def __init__(self, device: SimulatorDevice):
        super().__init__()
        self.device = device
        self.version = 12080
        self.handles: dict[int, Any] = {}
        self.captures: dict[int, list[Callable[[], None]]] = {}
        self.pinned: dict[int, Any] = {}
        self.maps: dict[int, BoundMap] = {}
        self.attributes.update(
            {16: device.multiprocessors, 75: device.capability[0], 76: device.capability[1]}
        )

    def _function(self, name: str) -> Callable[..., int]:
        plain, own = super()._function(name), getattr(self, f"sim_{name}", None)

        def call(*args: Any) -> int:
            if own is None:
                return plain(*args)
            self.calls.append((name, args))
            return self.results.get(name, 0) or own(*args) or 0

        return call

    def _new(self, answer: Any, what: Any) -> None:
        self._next += 0x10
        self.handles[self._next] = what
        answer._obj.value = self._next

    def _do(self, stream: int | None, work: Callable[[], None]) -> None:
        if stream in self.captures:
            self.captures[stream].append(work)
        else:
            work()

    def _waits(self) -> int:
        """What waits for the device must not be called while a stream of this thread is captured."""
        return STREAM_CAPTURE_UNSUPPORTED if self.captures else 0

    def sim_cuDeviceTotalMem_v2(self, answer: Any, device: int) -> None:
        answer._obj.value = self.device.total_memory

    def sim_cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value = total._obj.value = self.device.total_memory

    def sim_cuMemAlloc_v2(self, answer: Any, nbytes: int) -> int:
        if self.captures:
            return STREAM_CAPTURE_UNSUPPORTED
        try:
            answer._obj.value = self.device.alloc(nbytes)
        except OutOfMemoryError:
            return OUT_OF_MEMORY
        return 0

    def sim_cuMemFree_v2(self, address: int) -> int:
        self.device.free(address)
        return self._waits()

    def sim_cuMemHostAlloc(self, answer: Any, nbytes: int, flags: int) -> None:
        buffer = ctypes.create_string_buffer(nbytes)
        self.pinned[ctypes.addressof(buffer)] = buffer
        answer._obj.value = ctypes.addressof(buffer)

    def sim_cuMemFreeHost(self, address: int) -> None:
        del self.pinned[address]

    def sim_cuMemcpyHtoDAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._do(stream, lambda: self.device.to_device(target, _host(source, nbytes)))

    def sim_cuMemcpyDtoHAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._do(stream, lambda: self.device.to_host(_host(target, nbytes), source))

    def sim_cuMemcpyDtoDAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._do(stream, lambda: self.device.copy(target, source, nbytes))

    def sim_cuMemsetD8Async(self, address: int, value: int, nbytes: int, stream: int) -> None:
        self._do(stream, lambda: self.device.fill(address, value, nbytes))

    def sim_cuMemsetD32Async(self, address: int, value: int, count: int, stream: int) -> None:
        self._do(stream, lambda: self.device.store(address, [value] * count))

    def sim_cuModuleLoadDataEx(self, answer: Any, data: bytes, *options: Any) -> None:
        self._new(answer, self.device.load(data.rstrip(b"\0").decode()))

    def sim_cuModuleGetFunction(self, answer: Any, module: int, name: bytes) -> int:
        try:
            self._new(answer, self.handles[module].function(name.decode()))
        except KeyError:
            return NOT_FOUND
        return 0

    def sim_cuLaunchKernel(self, function: int, *args: Any) -> None:
        grid, threads, shared, stream, values = args[0], args[3], args[6], args[7], args[8]
        kernel = self.handles[function]
        params = self._arguments(kernel, values)
        self._do(stream, partial(self.device.launch, kernel, grid, threads, shared, params))

    def _arguments(self, kernel: Any, values: Any) -> list[int | BoundMap]:
        """What lies at the addresses: as many as the kernel takes."""
        words = (ctypes.c_uint64.from_address(values[i]).value for i in range(len(kernel.kernel.parameters)))
        return [self.maps.get(word, word) for word in words]

    def sim_cuLaunchCooperativeKernel(self, function: int, *args: Any) -> None:
        grid, threads, shared, stream, values = args[0], args[3], args[6], args[7], args[8]
        kernel = self.handles[function]
        params = self._arguments(kernel, values)
        self._do(stream, partial(self.device.launch_together, kernel, grid, threads, shared, params))

    def sim_cuOccupancyMaxActiveBlocksPerMultiprocessor(
        self, answer: Any, function: int, threads: int, shared: int
    ) -> None:
        most = self.device.most_together(self.handles[function], threads, shared)
        answer._obj.value = most // self.device.multiprocessors

    def sim_cuTensorMapEncodeTiled(self, place: int, kind: int, rank: int, address: int, *args: Any) -> None:
        sizes, strides, box = (tuple(reversed(list(x))) for x in args[:3])
        dtype = next(name for name, number in DATA_TYPES.items() if number == kind)
        number = FIRST_MAP + len(self.maps)  # what the 128 bytes begin with here
        self.maps[number] = BoundMap(address, dtype, sizes, strides, box)
        ctypes.c_uint64.from_address(place).value = number

    def sim_cuCtxSynchronize(self) -> int:
        return self._waits()

    def sim_cuStreamSynchronize(self, stream: int) -> int:
        return self._waits()

    def sim_cuStreamBeginCapture_v2(self, stream: int, mode: int) -> None:
        self.captures[stream] = []

    def sim_cuStreamEndCapture(self, stream: int, answer: Any) -> None:
        self._new(answer, self.captures.pop(stream))

    def sim_cuGraphInstantiateWithFlags(self, answer: Any, graph: int, flags: int) -> None:
        self._new(answer, list(self.handles[graph]))

    def sim_cuStreamGetCaptureInfo_v2(
        self, stream: int, status: Any, number: Any, graph: Any, latest: Any, count: Any
    ) -> None:
        """A node is its number in the graph, from 1 on."""
        self._latest = (ctypes.c_void_p * 1)(len(self.captures[stream]))
        latest._obj.value, count._obj.value = ctypes.addressof(self._latest), 1

    def sim_cuGraphExecKernelNodeSetParams_v2(self, graph: int, node: int, place: int) -> None:
        given = KernelNodeParams.from_address(place)
        kernel, grid, threads = self.handles[given.function], given.grid[0], given.block[0]
        params = self._arguments(kernel, (ctypes.c_void_p * 99).from_address(given.params))
        works = self.handles[graph]
        works[node - 1] = partial(works[node - 1].func, kernel, grid, threads, given.shared_bytes, params)

    def sim_cuGraphLaunch(self, graph: int, stream: int) -> None:
        for work in self.handles[graph]:
            work()

    def sim_cuEventElapsedTime(self, answer: Any, start: int, end: int) -> None:
        answer._obj.value = 1.0


def _host(address: int, nbytes: int) -> np.ndarray[Any, Any]:
    return np.frombuffer((ctypes.c_char * nbytes).from_address(address), np.uint8)


def simulated_device() -> tuple[SimulatedCuda, CudaDevice]:
    """A device of the driver layer, and the library under it."""
    raw = SimulatedCuda(SimulatorDevice())
    (device,) = find_devices(CudaLibrary(raw))
    return raw, device
