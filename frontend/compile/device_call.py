"""Calling a graph that was compiled for a device: what `call.py` is for native code.

There is no call shim: launching takes Python calls anyway, and the device runs behind them. Numbers that a call brings
(`lr`) are uploaded when they changed since the last call with the same record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import device_programs
from ..eager import writeable
from ..ir.graph import Graph
from ..ir.types import TensorType
from ..runtime.compiled_graph import CompiledGraph, CompileOptions, compile_graph
from ..runtime.gpu import arrays
from ..runtime.gpu.arrays import DeviceArray, Gpu
from ..runtime.gpu.compiled import GpuGraph, UnwantedSizes, compile_gpu_graph
from ..tensor import Tensor, wrap
from ..tf32 import tf32_products, with_tf32
from .call import Binding, Slots
from .sizes import accepted

Array = Any  # of NumPy, or a device's


def compile_for(gpu: Gpu | None, graph: Graph, options: CompileOptions) -> CompiledGraph | GpuGraph:
    """The graph compiled for the GPU, or for the CPU where there is none."""
    if gpu is None:
        return compile_graph(graph, options)
    return compile_gpu_graph(graph, gpu, with_tf32(options, tf32_products()))


class GpuRecord:
    """The memory of one call in flight: scalar inputs, and results that are used again (as in `call.CallRecord`)."""

    __slots__ = (
        "accesses", "fresh_references", "kept", "kept_arrays", "numbers", "numbers_memory", "random", "random_memory",
        "sizes", "uploaded",
    )  # fmt: skip

    def __init__(self, binding: GpuBinding):
        gpu = binding.graph.gpu
        self.numbers = np.zeros(max(1, len(binding.number_slots)))
        self.numbers_memory = arrays.empty(gpu, self.numbers.shape, self.numbers.dtype)
        self.uploaded: bytes | None = None
        self.random = np.zeros(2, np.uint64)
        self.random_memory = arrays.empty(gpu, (2,), np.dtype(np.uint64))
        self.accesses = -1
        self.fresh_references: list[int] | None = None
        self.sizes: Mapping[str, int] = {}
        self.kept_arrays = [_empty(gpu, type_) for _, type_ in binding.kept_slots]
        self.kept: list[Tensor] = [wrap(a) for a in self.kept_arrays]  # type: ignore[arg-type]

    def renew(self, binding: GpuBinding, position: int) -> None:
        """Give a kept result new memory: someone else holds the old."""
        array = _empty(binding.graph.gpu, binding.kept_slots[position][1])
        self.kept_arrays[position] = array
        self.kept[position] = wrap(array)  # type: ignore[arg-type]


class GpuBinding(Slots):
    """The call of a graph that was compiled for a device, with these slots."""

    graph: GpuGraph

    def __init__(self, graph: GpuGraph, dims: Mapping[str, int], *slots: Any):
        super().__init__(graph, dims, *slots)
        self.session = None
        self._early = [(slot, graph.output_types[slot].bind(dims)) for slot in self.early_slots]
        self._idle: list[GpuRecord] = []

    def take(self) -> GpuRecord:
        """A record no other call is using."""
        try:
            return self._idle.pop()
        except IndexError:
            return GpuRecord(self)

    def give_back(self, record: GpuRecord) -> None:
        """The record's call is over."""
        self._idle.append(record)

    def call(self, record: GpuRecord, arguments: Sequence[Array]) -> list[Array] | None:
        """The fresh result arrays, or None when an argument does not have the type it was bound for (nothing has run).

        A check that failed is raised as its error.
        """
        gpu = self.graph.gpu
        inputs: list[int] = [0] * len(self.graph.input_types)
        outputs: list[int] = [0] * len(self.graph.output_types)
        held = []  # what was uploaded for this call
        for (slot, type_), array in zip(self.argument_slots, arguments):
            given = self._given(array, type_)
            if given is None:
                return None
            held.append(given)
            inputs[slot] = given.address
        back: list[tuple[Array, DeviceArray]] = []  # memory of the host that the call writes to
        for slot, array in self.fixed_inputs:
            given = array if type(array) is DeviceArray else arrays.from_host(gpu, array)
            held.append(given)
            inputs[slot] = given.address
        where = {id(array): inputs[slot] for slot, array in self.fixed_inputs}
        for slot, array in self.fixed_outputs:
            outputs[slot] = where[id(array)]
            if type(array) is not DeviceArray:
                back.append((array, next(h for h in held if h.address == outputs[slot])))
        self._upload(record, inputs)
        made = {slot: _empty(gpu, type_) for slot, type_ in self._early}
        for slot, array in made.items():
            outputs[slot] = array.address
        for (slot, _), array in zip(self.kept_slots, record.kept_arrays):
            outputs[slot] = array.address
        try:
            accepts = partial(accepted, self.size_answers, self.dims) if self.size_answers else None
            run = self.graph.run(inputs, outputs, self.dims, accepts)
        except UnwantedSizes:
            return None
        for array, written in back:
            np.copyto(array, written.to_host())
        record.sizes = self.told = run.sizes
        return [run.outputs[slot] if slot in run.outputs else made[slot] for slot in self.result_slots]

    def _given(self, array: Array, type_: TensorType) -> DeviceArray | None:
        gpu = self.graph.gpu
        if array.shape != type_.shape or array.dtype != type_.dtype.numpy:
            return None
        if type(array) is not DeviceArray:
            return arrays.from_host(gpu, array)
        return array if array.gpu is gpu and device_programs.is_plain(array) else None

    def _upload(self, record: GpuRecord, inputs: list[int]) -> None:
        device = self.graph.gpu.device
        if self.number_slots:
            data = record.numbers.tobytes()
            if data != record.uploaded:
                device.to_device(record.numbers_memory.address, record.numbers)
                record.uploaded = data
            for position, slot in enumerate(self.number_slots):
                inputs[slot] = record.numbers_memory.address + 8 * position
        if self.random_slots:
            device.to_device(record.random_memory.address, record.random)
            for slot in self.random_slots:
                inputs[slot] = record.random_memory.address


def _empty(gpu: Gpu, type_: TensorType) -> DeviceArray:
    return arrays.empty(gpu, type_.sizes, type_.dtype.numpy)


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
