"""`SimulatorDevice`: the device protocol (`runtime/gpu/device.py`) without a GPU."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...codegen.target import STATIC_SHARED
from . import (  # noqa: F401  (the instructions)
    async_copy,
    atomics,
    bits,
    compare,
    convert,
    floating,
    integer,
    loads,
    tensor_core,
    tensor_maps,
    warp,
    warpgroup,
)
from .barriers import Barriers
from .errors import LaunchError, PtxError
from .executor import Launch, run_launch
from .kernel import Kernel, build_kernel
from .meetings import Meetings
from .memory import BASE, DeviceMemory
from .parser import parse
from .syntax import Function, Module
from .tensor_maps import BoundMap, encoded

Array = np.ndarray[Any, Any]

MAX_THREADS = 1024
RESIDENT_THREADS = 2048  # of a multiprocessor
# Shared memory of one block, at most, by compute capability (CUDA programming guide, "Technical Specifications").
SHARED_LIMIT = {
    (7, 0): 96 << 10,
    (7, 5): 64 << 10,
    (8, 0): 163 << 10,
    (8, 6): 99 << 10,
    (8, 9): 99 << 10,
    (9, 0): 227 << 10,
}


@dataclass
class SimulatorFunction:
    """A kernel of a loaded module."""

    kernel: Kernel

    @property
    def name(self) -> str:
        return self.kernel.name


@dataclass
class SimulatorModule:
    """A module, all its kernels decoded."""

    functions: dict[str, SimulatorFunction] = field(default_factory=dict)
    variables: dict[str, int] = field(default_factory=dict)  # addresses of its .global and .const variables

    def function(self, name: str) -> SimulatorFunction:
        """The kernel of that name; KeyError if the module has none."""
        try:
            return self.functions[name]
        except KeyError:
            raise KeyError(
                f"the module has no kernel {name!r}; it has {', '.join(self.functions) or 'none'}"
            ) from None


class SimulatorDevice:
    """A simulated GPU. Launches are done when `launch` returns; it raises what a kernel did wrong
    (`errors.KernelFault`), after which the device can be used on. One thing is done at a time: what other threads ask
    for waits; what is freed meanwhile, which a finalizer of the same thread may do, goes when it is over."""

    # Bounds are those of allocations: who shares one out among arrays hides steps from one into another.
    checks_accesses = True
    streams = None

    def __init__(
        self,
        memory_bytes: int = 4 << 30,
        capability: tuple[int, int] = (9, 0),
        multiprocessors: int = 132,
        check_races: bool = True,
    ):
        self.name = "vitrify simulator"
        self.capability = capability
        self.total_memory = memory_bytes
        self.multiprocessors = multiprocessors
        self.check_races = check_races
        self.memory = DeviceMemory(memory_bytes)
        self._lock = threading.Lock()
        self._freed: deque[int] = deque()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            finally:
                while self._freed:
                    self.memory.free(self._freed.popleft())

    # Memory.

    def memory_info(self) -> tuple[int, int]:
        """(free, total) bytes."""
        return self.total_memory - self.memory.used, self.total_memory

    def alloc(self, nbytes: int) -> int:
        """Memory, aligned to 256 bytes; OutOfMemoryError where there is none left. Small ones are full of 0xff
        (NaN) at first."""
        with self._alone():
            return self.memory.alloc(nbytes)

    def free(self, address: int) -> None:
        if not self._lock.acquire(blocking=False):
            self._freed.append(address)
            return
        try:
            self.memory.free(address)
        finally:
            self._lock.release()

    def to_device(self, address: int, host: Array) -> None:
        if not host.flags.c_contiguous:
            raise ValueError("to_device takes a C-contiguous array")
        with self._alone():
            self.memory.span(address, host.nbytes, "copy")[:] = host.reshape(-1).view(np.uint8)

    def to_host(self, host: Array, address: int) -> None:
        if not host.flags.c_contiguous:
            raise ValueError("to_host takes a C-contiguous array")
        with self._alone():
            host.reshape(-1).view(np.uint8)[:] = self.memory.span(address, host.nbytes, "copy")

    def copy(self, target: int, source: int, nbytes: int) -> None:
        with self._alone():
            self.memory.span(target, nbytes, "copy")[:] = self.memory.span(source, nbytes, "copy")

    def fill(self, address: int, value: int, nbytes: int) -> None:
        with self._alone():
            self.memory.span(address, nbytes, "fill")[:] = value & 0xFF

    def store(self, address: int, words: Sequence[int]) -> None:
        self.to_device(address, np.array(words, np.uint32))

    def word(self, address: int) -> int:
        found = np.zeros(1, np.uint32)
        self.to_host(found, address)
        return int(found[0])

    def synchronize(self) -> None:
        """Nothing is ever outstanding."""

    # Programs.

    def load(self, ptx: str) -> SimulatorModule:
        """Parse and decode a module; PtxError for what it does not understand, with the line."""
        module = parse(ptx)
        loaded = SimulatorModule()
        with self._alone():
            self._place_variables(module, loaded)
        for function in module.functions.values():
            if function.is_kernel and function.defined:
                self._check_shared(module, function)
                loaded.functions[function.name] = SimulatorFunction(
                    build_kernel(module, function, loaded.variables)
                )
        return loaded

    def _place_variables(self, module: Module, loaded: SimulatorModule) -> None:
        placed = [v for v in module.variables.values() if v.space in ("global", "const")]
        for variable in placed:
            size = variable.size or 0
            address = loaded.variables[variable.name] = self.memory.alloc(size)
            self.memory.span(address, size, "variable")[:] = np.frombuffer(
                variable.data or bytes(size), np.uint8
            )
        for variable in placed:
            for at, symbol in variable.pointers:
                if symbol.name not in loaded.variables:
                    raise PtxError(
                        variable.line, f"the address of {symbol.name!r}, which is no variable of the module"
                    )
                value = np.array([loaded.variables[symbol.name] + symbol.offset], np.uint64)
                start = loaded.variables[variable.name] + at - BASE
                self.memory.data[start : start + 8] = value.view(np.uint8)

    def _check_shared(self, module: Module, function: Function) -> None:
        fixed = sum(
            v.size or 0 for v in (*module.variables.values(), *function.variables) if v.space == "shared"
        )
        if fixed > STATIC_SHARED:
            raise PtxError(
                function.line,
                f"{function.name} declares {fixed} bytes of .shared variables; at most {STATIC_SHARED} may be static",
            )

    def launch(
        self,
        function: SimulatorFunction,
        grid: int,
        threads: int,
        shared_bytes: int,
        args: Sequence[int | BoundMap],
    ) -> None:
        """Run `grid` blocks of `threads` threads with `shared_bytes` of dynamic shared memory. LaunchError for what
        a device would refuse, KernelFault for what the kernel does wrong."""
        self.launch_3d(function, (grid, 1, 1), (threads, 1, 1), shared_bytes, args)

    def launch_together(
        self,
        function: SimulatorFunction,
        grid: int,
        threads: int,
        shared_bytes: int,
        args: Sequence[int | BoundMap],
    ) -> None:
        """As `launch`, of blocks that wait for each other; LaunchError where they cannot all be there at once."""
        if grid > self.most_together(function, threads, shared_bytes):
            raise LaunchError(f"launch of {function.name}: {grid} blocks do not fit on the device at once")
        self.launch_3d(function, (grid, 1, 1), (threads, 1, 1), shared_bytes, args, Meetings(grid, threads))

    def most_together(self, function: SimulatorFunction, threads: int, shared_bytes: int) -> int:
        """How many blocks are on the device at once, registers not counted."""
        shared = function.kernel.static_shared + shared_bytes
        limit = SHARED_LIMIT.get(self.capability, STATIC_SHARED)
        return self.multiprocessors * min(RESIDENT_THREADS // threads, limit // max(shared, 1))

    def launch_3d(
        self,
        function: SimulatorFunction,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        args: Sequence[int | BoundMap],
        meetings: Meetings | None = None,
    ) -> None:
        kernel = function.kernel
        launch = Launch(
            kernel, self.memory, grid, block, shared_bytes, _pack_parameters(kernel, args), self.check_races
        )
        if not 1 <= launch.threads <= MAX_THREADS or min(grid) < 1:
            raise LaunchError(f"launch of {kernel.name}: {grid} blocks of {block} threads")
        limit = SHARED_LIMIT.get(self.capability, STATIC_SHARED)
        if kernel.static_shared + shared_bytes > limit:
            raise LaunchError(
                f"launch of {kernel.name}: {kernel.static_shared} + {shared_bytes} bytes of shared memory, a block of a "
                f"device of capability {self.capability[0]}.{self.capability[1]} has at most {limit}"
            )
        self._check_limits(kernel, block)
        if meetings is not None:
            launch.meetings = meetings
            meetings.forget = launch.forget
        with self._alone():
            run_launch(launch, Barriers)

    def _check_limits(self, kernel: Kernel, block: tuple[int, int, int]) -> None:
        threads = block[0] * block[1] * block[2]
        most = kernel.limits.get("maxntid")
        if most and threads > int(np.prod(most)):
            raise LaunchError(
                f"launch of {kernel.name}: {threads} threads, .maxntid allows {int(np.prod(most))}"
            )
        exact = kernel.limits.get("reqntid")
        if exact and (*exact, 1, 1)[:3] != block:
            raise LaunchError(f"launch of {kernel.name}: {block} threads, .reqntid asks for {exact}")


def _pack_parameters(kernel: Kernel, args: Sequence[int | BoundMap]) -> Array:
    if len(args) != len(kernel.parameters):
        raise LaunchError(
            f"launch of {kernel.name}: {len(args)} arguments, it takes {len(kernel.parameters)}"
        )
    total = max((at + size for at, size in kernel.parameter_offsets.values()), default=0)
    data = np.zeros(total, np.uint8)
    for parameter, value in zip(kernel.parameters, args, strict=True):
        at, size = kernel.parameter_offsets[parameter.name]
        if isinstance(value, BoundMap):
            data[at : at + size] = encoded(value)
            continue
        word = int(value) & ((1 << 8 * size) - 1)
        data[at : at + size] = np.frombuffer(word.to_bytes(size, "little"), np.uint8)
    return data


__all__ = ["SimulatorDevice", "SimulatorFunction", "SimulatorModule"]
