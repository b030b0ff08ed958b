"""Arrays in device memory: strided views of blocks that the caching allocator gave.

`DeviceArray` is for device memory what a NumPy array is for the host's, as far as code asks where elements lie. Nothing
computes with it but compiled programs; NumPy, asked to, gets PyTorch's error.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, NoReturn

import numpy as np

from ...codegen.target import GpuTarget
from . import device as devices
from .allocator import Block, CachingAllocator

Array = np.ndarray[Any, Any]


class Gpu:
    """A device of this process with all that belongs to it."""

    def __init__(self, index: int, device: devices.Device):
        self.index = index
        self.device = device
        self.allocator = CachingAllocator(device, index, exact=device.checks_accesses)
        self.streams = device.streams
        self.thread = devices.ThreadState() if self.streams is None else self.streams.thread
        self.host_copies = 0  # how often a program's host call brought data to the host

    @cached_property
    def target(self) -> GpuTarget:
        """What to compile for."""
        named = GpuTarget.named(devices.target_name(self.device.capability))
        return replace(named, multiprocessors=self.device.multiprocessors)

    @cached_property
    def status_word(self) -> int:
        """The address of a word for kernels that have nothing to report."""
        self._status = DeviceMemory(self, 256)
        self.device.fill(self._status.address, 0, 256)
        return self._status.address

    @property
    def stream(self) -> int:
        """This thread's stream on the device."""
        return self.thread.stream

    def __str__(self) -> str:
        return f"cuda:{self.index}"


_gpus: dict[int, Gpu] = {}
_lock = threading.Lock()


def gpu_count() -> int:
    """How many devices there are."""
    return len(devices.devices())


def gpu(index: int) -> Gpu:
    """The device of this number, the same object each time; IndexError if there is none."""
    found = _gpus.get(index)
    device = devices.devices()[index]
    if found is None or found.device is not device:
        with _lock:
            found = _gpus.get(index)
            if found is None or found.device is not device:
                found = _gpus[index] = Gpu(index, device)
    return found


def known_gpus() -> list[Gpu]:
    """The devices that have been used."""
    return list(_gpus.values())


class DeviceMemory:
    """A block in use; it goes back to the allocator with this object. `address` is 0 where there are no bytes."""

    __slots__ = ("__weakref__", "address", "block", "gpu", "nbytes")

    def __init__(self, gpu: Gpu, nbytes: int):
        self.gpu = gpu
        self.nbytes = nbytes
        self.address = 0
        self.block: Block | None = None
        if nbytes:
            self.block = block = gpu.allocator.allocate(nbytes, gpu.thread.stream)
            self.address = block.address

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        block = self.block
        if block is not None and not ending():  # at the end of the process all of it goes anyway
            self.gpu.allocator.free(block)


@dataclass(frozen=True)
class Flags:
    """What NumPy's `flags` tell of an array."""

    c_contiguous: bool
    writeable: bool = True
    aligned: bool = True


@dataclass(frozen=True)
class Address:
    """An address, as `data`."""

    data: int


class DeviceArray:
    """A strided view of device memory; `offset` and `strides` are in bytes. `address` is that of the first element,
    `c_contiguous` what NumPy means by it."""

    __slots__ = ("__weakref__", "address", "c_contiguous", "dtype", "memory", "offset", "shape", "strides")

    def __init__(
        self,
        memory: DeviceMemory,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
        c_contiguous: bool | None = None,
    ):
        """`strides` None: those of row-major order; `c_contiguous`: where it is known."""
        self.memory = memory
        self.shape = shape
        self.dtype = dtype
        self.offset = offset
        self.address = memory.address + offset
        if strides is None:
            self.strides = row_major(shape, dtype.itemsize)
            self.c_contiguous = True
        else:
            self.strides = strides
            self.c_contiguous = c_contiguous or is_row_major(shape, strides, dtype.itemsize)

    @property
    def gpu(self) -> Gpu:
        return self.memory.gpu

    @property
    def ctypes(self) -> Address:
        """The address as NumPy's attribute of this name has it."""
        return Address(self.address)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Of the elements, as NumPy counts them."""
        return self.size * self.itemsize

    @property
    def flags(self) -> Flags:
        return Flags(self.c_contiguous)

    def copy(self) -> DeviceArray:
        """A copy of a row-major array."""
        made = empty(self.gpu, self.shape, self.dtype)
        self.gpu.device.copy(made.address, self.address, self.nbytes)
        return made

    def span(self) -> int:
        """Bytes from the first element's begin to the last one's end."""
        if not self.size:
            return 0
        return sum((n - 1) * step for n, step in zip(self.shape, self.strides)) + self.itemsize

    def to_host(self) -> Array:
        """The elements as a NumPy array of the same strides, as far as it can be."""
        if not self.size:
            return np.empty(self.shape, self.dtype)
        found = np.empty(self.span(), np.uint8)
        self.gpu.device.to_host(found, self.address)
        return np.ndarray(self.shape, self.dtype, found.data, 0, self.strides)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(
            f"can't convert {self.gpu} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
            "first."
        )

    def __repr__(self) -> str:
        return f"<{self.dtype}{list(self.shape)} on {self.gpu} at {self.address:#x}>"


def row_major(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The strides of row-major order, in bytes."""
    found, step = [], itemsize
    for size in reversed(shape):
        found.append(step)
        step *= max(size, 1)
    return tuple(reversed(found))


def is_row_major(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Whether the elements lie in row-major order without gaps, as NumPy's `c_contiguous` has it."""
    if 0 in shape:
        return True
    expected = itemsize
    for size, step in zip(reversed(shape), reversed(strides)):
        if size != 1:
            if step != expected:
                return False
            expected *= size
    return True


def empty(gpu: Gpu, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
    """An uninitialised row-major array."""
    shape = tuple(shape)
    return DeviceArray(DeviceMemory(gpu, prod(shape) * dtype.itemsize), shape, dtype)


def from_host(gpu: Gpu, array: Array) -> DeviceArray:
    """A row-major copy on the device."""
    made = empty(gpu, array.shape, array.dtype)
    if array.size:
        gpu.device.to_device(made.address, np.ascontiguousarray(array))
    return made


def pinned_copy(gpu: Gpu, array: Array) -> Array:
    """A copy in page-locked host memory, which the device reads by itself; in ordinary memory where it has no such."""
    if gpu.streams is None:
        return array.copy()
    memory: Any = PinnedMemory(gpu.streams, array.nbytes).buffer
    made: Array = np.ndarray(array.shape, array.dtype, memory)
    np.copyto(made, array)
    return made


class PinnedMemory:
    """Page-locked host memory. `buffer` keeps it alive."""

    def __init__(self, streams: devices.Streams, nbytes: int):
        address = streams.pinned(nbytes)
        self.buffer = (ctypes.c_char * max(nbytes, 1)).from_address(address)
        weakref.finalize(self.buffer, streams.free_pinned, address)
