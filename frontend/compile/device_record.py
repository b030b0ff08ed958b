"""The memory of one call in flight of a graph that was compiled for a device, and what the call brings there.

Whatever a program reads from the host has one place on the device for as long as the record lives, so that the record's
runs have the same addresses. It is brought there, in the stream's order, when it is not what lies there already: numbers
(`lr`), the state of random numbers and small arguments are compared with that by each call; captured tensors of the CPU
are when a version says that they were written to, or when others may write to them unseen (`Storage.exposed`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..eager import writeable
from ..ir.types import TensorType
from ..runtime.gpu import arrays
from ..runtime.gpu.arrays import DeviceArray, DeviceMemory, Gpu
from ..runtime.gpu.device import Device
from ..tensor import Storage, Tensor, untracked_writes, wrap

if TYPE_CHECKING:
    from .device_call import GpuBinding

Array = np.ndarray[Any, Any]
PLACE = 16  # what programs take an address to be a multiple of, and the bytes of an argument's place
# Changed words that are stored one by one; more are copied, which waits.
MOST_STORES = 16
MANY_WORDS = 64  # are compared by NumPy


class Captured:
    """A captured tensor of the CPU, and its place on the device."""

    __slots__ = ("_there", "array", "place", "storage", "untracked", "version")

    def __init__(self, array: Array, storage: Storage, place: DeviceArray):
        self.array = array
        self.storage = storage
        self.place = place
        self.version = self.untracked = -1
        self._there: bytes | None = None

    def bring(self, device: Device) -> None:
        """Have the device hold the elements as they are now."""
        self.version, self.untracked = self.storage.version, untracked_writes[0]
        now = self.array.tobytes()
        if now != self._there:
            _bring(device, self.place.address, self._there, now)
            self._there = now

    def forget(self) -> None:
        """A run is going to write to the place, and may fail on the way."""
        self._there = None
        self.version = -1

    def take_back(self, found: bytes) -> None:
        """The elements become what a run has left at the place."""
        _fill(self.array, found)
        self._there = found


class GpuRecord:
    """The memory of one call in flight: what comes from the host, and results that are used again (as in
    `call.CallRecord`).

    `addresses`: of inputs, then outputs; what does not change from call to call is there already. `places`: by slot, of
    arguments that may be on the host: the host's side and the address. `captured`: by slot, tensors of the CPU.
    `written`: those of them that runs write to, and the bytes that they are part of. `fixed`: the arrays of the
    binding's fixed inputs, then outputs.
    """

    __slots__ = (
        "_stream", "_there", "_wanted", "accesses", "addresses", "captured", "fixed", "fresh_references", "kept",
        "kept_arrays", "memory", "numbers", "places", "random", "runner", "sizes", "written",
    )  # fmt: skip

    def __init__(self, binding: GpuBinding):
        gpu = binding.graph.gpu
        inputs, numbers = len(binding.graph.input_types), len(binding.number_slots)
        small = binding.small_arguments
        # The state of random numbers, places of arguments, numbers.
        self._wanted = (ctypes.c_uint64 * (2 + 2 * len(small) + numbers))()
        first = PLACE * (1 + len(small))
        self.random = (ctypes.c_uint64 * 2).from_buffer(self._wanted)
        self.numbers = (ctypes.c_double * numbers).from_buffer(self._wanted, first)
        self.memory = arrays.empty(gpu, (ctypes.sizeof(self._wanted),), np.dtype(np.uint8))
        self._there: bytes | None = None  # what of it the device has
        start, host = self.memory.address, memoryview(self._wanted).cast("B")
        self.places = {
            slot: (host[at : at + nbytes], start + at)
            for at, (slot, nbytes) in zip(range(PLACE, first, PLACE), small.items())
        }
        self.captured, self.written = _places(gpu, binding)
        self.addresses = addresses = list(binding.fixed_addresses)
        for slot in binding.random_slots:
            addresses[slot] = start
        for position, slot in enumerate(binding.number_slots):
            addresses[slot] = start + first + 8 * position
        for slot, captured in self.captured.items():
            addresses[slot] = captured.place.address
        for slot, output in binding.written_captured.items():
            addresses[inputs + output] = addresses[slot]
        of_output = {output: slot for slot, output in binding.written_captured.items()}
        places = {slot: captured.place for slot, captured in self.captured.items()}
        self.fixed: list[Any] = [places.get(slot, a) for slot, a in binding.fixed_inputs]
        self.fixed += [places.get(of_output.get(slot, -1), a) for slot, a in binding.fixed_outputs]
        self._stream = gpu.stream
        self.accesses = -1
        self.fresh_references: list[int] | None = None
        self.sizes: Mapping[str, int] = {}
        self.kept_arrays = [_empty(gpu, type_) for _, type_ in binding.kept_slots]
        self.kept: list[Tensor] = [wrap(a) for a in self.kept_arrays]  # type: ignore[arg-type]
        for (slot, _), array in zip(binding.kept_slots, self.kept_arrays):
            addresses[inputs + slot] = array.address
        self.runner = binding.graph.runner(binding.dims)

    def renew(self, binding: GpuBinding, position: int) -> None:
        """Give a kept result new memory: someone else holds the old."""
        slot, type_ = binding.kept_slots[position]
        array = _empty(binding.graph.gpu, type_)
        self.kept_arrays[position] = array
        self.kept[position] = wrap(array)  # type: ignore[arg-type]
        self.addresses[len(binding.graph.input_types) + slot] = array.address
        self.runner = binding.graph.runner(binding.dims)

    def upload(self, gpu: Gpu) -> None:
        """Bring what is not there already."""
        stream = gpu.thread.stream
        if stream != self._stream:  # what the other one still runs may read it
            gpu.device.synchronize()
            self._stream = stream
        wanted = bytes(self._wanted)
        if wanted != self._there:
            _bring(gpu.device, self.memory.address, self._there, wanted)
            self._there = wanted
        untracked = untracked_writes[0]
        for captured in self.captured.values():
            storage = captured.storage
            if storage.version != captured.version or captured.untracked != untracked or storage.exposed:
                captured.bring(gpu.device)

    def forget(self, arguments: Sequence[tuple[int, Array]]) -> None:
        """A run is going to write to these arguments' places, by slot, and to those of captured tensors; it may fail on
        the way."""
        if arguments:
            self._there = None
        for captured in self.written[0]:
            captured.forget()

    def take_back(self, gpu: Gpu, arguments: Sequence[tuple[int, Array]]) -> None:
        """What a run has written to tensors of the CPU becomes their elements. Waits for the device."""
        for slot, array in arguments:
            host, address = self.places[slot]
            found = np.empty(len(host), np.uint8)
            gpu.device.to_host(found, address)
            host[:] = found.data
            _fill(array, found.tobytes())
        if arguments:
            self._there = bytes(self._wanted)
        written, nbytes = self.written
        if written:
            start = written[0].place.address
            found = np.empty(nbytes, np.uint8)
            if nbytes:
                gpu.device.to_host(found, start)
            for captured in written:
                at = captured.place.address - start
                captured.take_back(found[at : at + captured.array.nbytes].tobytes())


def _places(gpu: Gpu, binding: GpuBinding) -> tuple[dict[int, Captured], tuple[list[Captured], int]]:
    """The captured tensors of the CPU, in one piece of memory; those that runs write to lie in its first bytes."""
    written = binding.written_captured
    order = sorted(binding.captured, key=lambda slot_and_array: slot_and_array[0] not in written)
    offsets, end, written_end = [], 0, 0
    for slot, array in order:
        offsets.append(end)
        if slot in written:
            written_end = end + array.nbytes
        end += -(-array.nbytes // PLACE) * PLACE
    memory = DeviceMemory(gpu, end)
    found = {
        slot: Captured(
            array, binding.storages[slot], DeviceArray(memory, array.shape, array.dtype, offset=offset)
        )
        for (slot, array), offset in zip(order, offsets)
    }
    return found, ([found[slot] for slot in found if slot in written], written_end)


def _empty(gpu: Gpu, type_: TensorType) -> DeviceArray:
    return arrays.empty(gpu, type_.sizes, type_.dtype.numpy)


def _fill(array: Array, data: bytes) -> None:
    np.copyto(writeable(array), np.frombuffer(data, array.dtype).reshape(array.shape))


def _bring(device: Device, address: int, there: bytes | None, now: bytes) -> None:
    """Have the device's memory hold these bytes (and zeros up to the next word); `there`: what it holds, where that is
    known."""
    padding = bytes(-len(now) % 4)
    words = memoryview(now + padding).cast("I")
    if there is None:
        changed: Sequence[int] = range(len(words))
    elif len(words) <= MANY_WORDS:
        before = memoryview(there + padding).cast("I")
        changed = [at for at, word in enumerate(words) if word != before[at]]
    else:
        changed = np.flatnonzero(np.asarray(words) != np.frombuffer(there + padding, np.uint32)).tolist()
    if len(changed) <= MOST_STORES:
        for at in changed:
            device.store(address + 4 * at, (words[at],))
    else:
        first = changed[0]
        device.to_device(address + 4 * first, np.asarray(words)[first : changed[-1] + 1])
