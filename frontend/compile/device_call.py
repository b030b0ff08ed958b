"""Calling a graph that was compiled for a device: what `call.py` is for native code.

There is no call shim: a `DeviceArray` knows its address, and what a call has to do besides is little. Addresses that
stay are noted once (`GpuRecord.addresses`), those of what comes from the host among them (`device_record.py`); a call
fills in those of its arguments and results, and its launches are one captured graph from the third run with the same
ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from .. import device_programs
from ..device_programs import VECTOR
from ..eager import writeable
from ..ir.graph import Graph
from ..ir.types import TensorType
from ..runtime.compiled_graph import CompiledGraph, CompileOptions, compile_graph
from ..runtime.gpu.arrays import DeviceArray, DeviceMemory, Gpu, row_major
from ..runtime.gpu.compiled import GpuGraph, compile_gpu_graph
from ..runtime.gpu.device import ALIGNMENT
from ..runtime.gpu.loaded import UnwantedSizes
from ..tensor import Storage, Tensor
from ..tf32 import tf32_products, with_tf32
from .call import Binding, Slots, address_of
from .device_record import PLACE, GpuRecord
from .sizes import accepted

log = logging.getLogger("vitrify")
Array = Any  # of NumPy, or a device's
# Of a result: slot (after those of inputs), shape, dtype, strides, and the offset in its memory.
Place = tuple[int, tuple[int, ...], np.dtype[Any], tuple[int, ...], int]


def compile_for(gpu: Gpu | None, graph: Graph, options: CompileOptions) -> CompiledGraph | GpuGraph:
    """The graph compiled for the GPU, or for the CPU where there is none."""
    if gpu is None:
        return compile_graph(graph, options)
    if options.tune:
        log.info("%s: its kernels are a GPU's, and are not tuned", graph.name)
    return compile_gpu_graph(graph, gpu, with_tf32(options, tf32_products()))


@dataclass
class _Memory:
    """Memory that a call allocates at once."""

    nbytes: int
    places: list[Place]

    def add(self, slot: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        start = -(-self.nbytes // ALIGNMENT) * ALIGNMENT
        self.places.append((slot, shape, dtype, row_major(shape, dtype.itemsize), start))
        self.nbytes = start + prod(shape) * dtype.itemsize


class GpuBinding(Slots):
    """The call of a graph that was compiled for a device, with these slots."""

    graph: GpuGraph

    def __init__(self, graph: GpuGraph, dims: Mapping[str, int], *slots: Any):
        super().__init__(graph, dims, *slots)
        self.session = None
        self._inputs = inputs = len(graph.input_types)
        self.expected = [(slot, t.dtype.numpy, t.sizes) for slot, t in self.argument_slots]
        # Results by the memory that they are in, with its bytes: that of saved ones is one piece, where the device need
        # not see each access to be in an array.
        early: list[_Memory] = []
        saved = _Memory(0, [])
        for slot in self.early_slots:
            type_ = graph.output_types[slot].bind(dims)
            shares = slot in self.saved_slots and not graph.gpu.allocator.exact
            memory = saved if shares else _Memory(0, [])
            memory.add(inputs + slot, type_.sizes, type_.dtype.numpy)
            if memory is not saved or len(saved.places) == 1:
                early.append(memory)
        self.early = [(memory.nbytes, tuple(memory.places)) for memory in early]
        order = [place[0] for memory in early for place in memory.places]
        wanted = [inputs + slot for slot in self.early_slots]
        self.order = None if order == wanted else [order.index(slot) for slot in wanted]
        # Captured tensors of the CPU, and the outputs whose memory theirs is.
        self.captured = [(slot, a) for slot, a in self.fixed_inputs if type(a) is not DeviceArray]
        slot_of = {address_of(a): slot for slot, a in self.captured}
        self.written_captured = {
            slot_of[address_of(a)]: slot for slot, a in self.fixed_outputs if type(a) is not DeviceArray
        }
        self.storages: Mapping[int, Storage] = {}  # of the captured tensors
        # Bytes of the arguments that may be on the host.
        self.small_arguments = {slot: t.dtype.itemsize for slot, t in self.argument_slots if not t.shape}
        self.fixed_addresses = [0] * (inputs + len(graph.output_types))
        for first, fixed in ((0, self.fixed_inputs), (inputs, self.fixed_outputs)):
            for slot, array in fixed:
                if type(array) is DeviceArray:
                    self.fixed_addresses[first + slot] = array.address
        self.uploads = bool(self.number_slots or self.random_slots or self.captured)
        self._accepts = partial(accepted, self.size_answers, self.dims) if self.size_answers else None
        self._idle: list[GpuRecord] = []
        self.give_back: Callable[[GpuRecord], None] = self._idle.append  # the record's call is over

    def take(self) -> GpuRecord:
        """A record no other call is using."""
        try:
            return self._idle.pop()
        except IndexError:
            return GpuRecord(self)

    def take_small_arguments_from_host(self) -> None:
        """Not only numbers may be on the host, but all that fits in a place of a record."""
        for slot, type_ in self.argument_slots:
            nbytes = prod(type_.sizes) * type_.dtype.itemsize
            if nbytes <= PLACE:
                self.small_arguments[slot] = nbytes

    def call(self, record: GpuRecord, arguments: Sequence[Array]) -> list[Array] | None:
        """The fresh result arrays, or None when an argument does not have the type it was bound for (nothing has run).

        A check that failed is raised as its error.
        """
        gpu = self.graph.gpu
        addresses = record.addresses
        key = [gpu.thread.stream]  # and the addresses that are this call's own
        uploads = self.uploads
        written = []  # of the arguments on the host those that the run writes to
        for (slot, dtype, shape), array in zip(self.expected, arguments):
            if array.shape != shape or array.dtype != dtype:
                return None
            if type(array) is not DeviceArray:
                place = record.places.get(slot)
                if place is None:
                    return None
                host, address = place
                host[:] = array.tobytes()
                uploads = True
                if slot in self.written_slots:
                    written.append((slot, array))
            elif array.memory.gpu is not gpu or not array.c_contiguous or array.address % VECTOR:
                return None
            else:
                address = array.address
            addresses[slot] = address
            key.append(address)
        if uploads:
            record.upload(gpu)
        made = []
        for nbytes, places in self.early:
            memory = DeviceMemory(gpu, nbytes)
            key.append(memory.address)
            for slot, shape, dtype, strides, offset in places:
                array = DeviceArray(memory, shape, dtype, strides, offset, True)
                addresses[slot] = array.address
                made.append(array)
        if self.order is not None:
            made = [made[at] for at in self.order]
        if written or self.written_captured:
            record.forget(written)
        try:
            run = record.runner.run(addresses, tuple(key), self._accepts)
        except UnwantedSizes:
            return None
        if written or self.written_captured:
            record.take_back(gpu, written)
        if not self.graph.told:
            return made
        record.sizes = self.told = run.sizes
        early = iter(made)
        return [run.outputs[slot] if slot in run.outputs else next(early) for slot in self.result_slots]


def fits_device(array: Array, type_: TensorType) -> bool:
    """Whether a program takes the array as it is."""
    return (
        type(array) is DeviceArray
        and array.dtype == type_.dtype.numpy
        and array.shape == type_.shape
        and device_programs.is_plain(array)
    )


def bind(graph: CompiledGraph | GpuGraph, *args: Any) -> Any:
    """A `Binding` or a `GpuBinding`, by where the graph runs."""
    return GpuBinding(graph, *args) if isinstance(graph, GpuGraph) else Binding(graph, *args)


def put(tensor: Tensor, array: Array) -> None:
    """The tensor's memory holds the array's elements from now on."""
    target: Any = tensor._array
    if type(target) is DeviceArray:
        base: Any = tensor._storage.base_array
        device_programs.write(target, base, tensor._views, array)
    else:
        np.copyto(writeable(target), host_values(array))


def put_base(base: Array, array: Array) -> None:
    """A storage's whole memory, in row-major order, holds the array's elements from now on."""
    if type(base) is DeviceArray:
        base.gpu.device.copy(base.address, array.address, base.nbytes)
    else:
        np.copyto(writeable(base), host_values(array))


def host_values(array: Array) -> Any:
    """The elements as a NumPy array."""
    return array.to_host() if type(array) is DeviceArray else array
