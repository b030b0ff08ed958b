"""What stands for `libcuda` where there is none: a library that records its calls and keeps memory in dicts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from vitrify.runtime.gpu.cuda_library import OPTIONAL, PROTOTYPES, CudaLibrary
from vitrify.runtime.gpu.driver import CudaDevice, find_devices


class FakeCuda:
    """`calls` are (name, arguments); `results` gives other results than success by name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.results: dict[str, int] = {}
        self.attributes = {13: 1980000, 16: 132, 75: 9, 76: 0, 95: 1, 97: 227 << 10}
        self.version = 12040
        self.log = b""
        self.params: list[list[int]] = []
        self._next = 0x1000
        for name in PROTOTYPES | OPTIONAL:
            setattr(self, name, self._function(name))

    def _function(self, name: str) -> Callable[..., int]:
        own = getattr(type(self), f"do_{name}", None)

        def call(*args: Any) -> int:
            self.calls.append((name, args))
            code = self.results.get(name, 0)
            if own is not None:
                own(self, *args)
            elif args and type(args[0]).__name__ == "CArgObject":  # byref: an answer is wanted
                self._next += 0x1000
                args[0]._obj.value = self._next
            return code

        return call

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def do_cuDriverGetVersion(self, answer: Any) -> None:
        answer._obj.value = self.version

    def do_cuDeviceGetCount(self, answer: Any) -> None:
        answer._obj.value = 1

    def do_cuDeviceGet(self, answer: Any, index: int) -> None:
        answer._obj.value = index

    def do_cuDeviceGetName(self, buffer: Any, size: int, device: int) -> None:
        buffer.value = b"Fake GPU"

    def do_cuDeviceTotalMem_v2(self, answer: Any, device: int) -> None:
        answer._obj.value = 80 << 30

    def do_cuDeviceGetAttribute(self, answer: Any, attribute: int, device: int) -> None:
        answer._obj.value = self.attributes[attribute]

    def do_cuModuleLoadDataEx(self, module: Any, data: bytes, count: int, kinds: Any, values: Any) -> None:
        module._obj.value = 77
        buffer = values[list(kinds).index(5)]
        ctypes.memmove(buffer, self.log + b"\0", len(self.log) + 1)

    def do_cuLaunchKernel(self, *args: Any) -> None:
        self.params.append([ctypes.c_uint64.from_address(p).value for p in args[9] if p is not None])

    def do_cuStreamGetCaptureInfo_v2(
        self, stream: int, status: Any, number: Any, graph: Any, latest: Any, count: Any
    ) -> None:
        """The node of the latest launch has the number of the calls before it."""
        self._latest = (ctypes.c_void_p * 1)(len(self.calls))
        latest._obj.value, count._obj.value = ctypes.addressof(self._latest), 1

    def do_cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value, total._obj.value = 1 << 30, 80 << 30


def fake_device() -> tuple[FakeCuda, CudaDevice]:
    raw = FakeCuda()
    (device,) = find_devices(CudaLibrary(raw))
    return raw, device
