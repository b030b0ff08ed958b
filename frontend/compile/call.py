"""Calling a compiled graph: the arrays of one call, and the native call itself.

A `Binding` is a compiled graph with concrete dims and the addresses of everything that stays put between calls
(parameters, optimizer state). It keeps ready-made call records (see `runtime/call_shim.py`); a call takes one, fills in
the objects of its arguments and results, and makes one native call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import device_programs
from ..ir.types import TensorType
from ..runtime import allocator, call_shim, kernel_times
from ..runtime.compiled_graph import CompiledGraph
from ..runtime.finite_checks import Memory
from ..runtime.gpu.arrays import DeviceArray, Gpu, from_host
from ..runtime.host_calls import UNWANTED
from ..runtime.native_call import native_call
from ..runtime.threads import get_num_threads
from ..tensor import Tensor, wrap
from .sizes import SizeQuestion, accepted

Array = np.ndarray[Any, Any]


class _Miss:
    """The specialization does not fit this call; nothing has run."""

    def __repr__(self) -> str:
        return "MISS"


MISS = _Miss()


class CallRecord:
    """The memory of one call in flight: pointer tables, arena, scalar inputs, and results that are used again.

    `kept` holds a tensor for each kept slot of the binding; its array is where native code writes that result.
    """

    __slots__ = (
        "accesses", "address", "arena", "fresh_references", "kept", "kept_arrays", "memory", "numbers", "objects",
        "objects_address", "outputs", "random", "sizes",
    )  # fmt: skip

    def __init__(self, binding: Binding):
        graph = binding.graph
        inputs = (ctypes.c_int64 * (len(graph.input_types) + 1))()
        inputs[len(graph.input_types)] = binding.prepared
        outputs = (ctypes.c_int64 * max(1, len(graph.output_types)))()
        dims = (ctypes.c_int64 * max(1, len(graph.symbols)))(*(binding.dims.get(s, 0) for s in graph.symbols))
        self.arena, arena_address = graph.arena(binding.dims)
        if binding.session is not None:
            binding.session.allocate(graph, self.arena.nbytes)
        self.numbers = (ctypes.c_double * max(1, len(binding.number_slots)))()
        for position, slot in enumerate(binding.number_slots):
            inputs[slot] = ctypes.addressof(self.numbers) + 8 * position
        self.random = (ctypes.c_uint64 * 2)()
        for slot in binding.random_slots:
            inputs[slot] = ctypes.addressof(self.random)
        for slot, array in binding.fixed_inputs:
            inputs[slot] = address_of(array)
        for slot, array in binding.fixed_outputs:
            outputs[slot] = address_of(array)
        self.outputs = outputs
        self.accesses = -1  # `tensor.grad_accesses` when this record's gradients were given to their owners
        self.fresh_references: list[int] | None = None
        self.sizes: Mapping[str, int] = {}  # the dims that the latest run told
        self.kept: list[Tensor] = []
        self.kept_arrays: list[Array] = []
        for slot, type_ in binding.kept_slots:
            array = allocator.empty_aligned(type_.sizes, type_.dtype.numpy)
            outputs[slot] = address_of(array)
            self.kept.append(wrap(array))
            self.kept_arrays.append(array)
        words = [
            graph.entry,
            ctypes.addressof(inputs),
            ctypes.addressof(outputs),
            arena_address,
            ctypes.addressof(dims),
            binding.threads,
            len(binding.argument_slots),
            len(binding.early_slots),
        ]
        for slot, type_ in binding.argument_slots:
            flags = call_shim.WRITE_FLAGS if slot in binding.written_slots else call_shim.READ_FLAGS
            words += [slot, id(type_.dtype.numpy), flags, type_.rank, *type_.sizes]
        words += binding.early_slots
        record = (ctypes.c_int64 * len(words))(*words)
        self.objects = (ctypes.c_int64 * max(1, len(binding.argument_slots) + len(binding.early_slots)))()
        self.memory = (inputs, dims, record)
        self.address = ctypes.addressof(record)
        self.objects_address = ctypes.addressof(self.objects)

    def run_memory(self, binding: Binding) -> Memory:
        """Where the latest run's values lie."""
        inputs, dims, record = self.memory
        return Memory(inputs, self.outputs, record[3], dict(zip(binding.graph.symbols, dims)))

    def renew(self, binding: Binding, position: int) -> None:
        """Give a kept result new memory: someone else holds the old."""
        slot, type_ = binding.kept_slots[position]
        array = allocator.empty_aligned(type_.sizes, type_.dtype.numpy)
        self.outputs[slot] = address_of(array)
        self.kept[position] = wrap(array)
        self.kept_arrays[position] = array


class Slots:
    """Where a call's arrays go, for a graph with concrete dims and fixed arrays.

    argument_slots: (input slot, concrete type) of the arrays given per call; result_slots: output slots of the arrays
    made anew per call, by the run itself where only it tells their size, else before it (early_slots); kept_slots: of
    those that may be used again; fixed_inputs/fixed_outputs: arrays whose memory stays, by slot; number_slots,
    random_slots: inputs that the record itself holds; written_slots: arguments that are written to; size_answers: how
    questions about the sizes that a run tells must come out; saved_slots: results that go to no user, and may share
    memory.
    """

    def __init__(
        self,
        graph: Any,
        dims: Mapping[str, int],
        argument_slots: Sequence[tuple[int, TensorType]],
        result_slots: Sequence[int],
        kept_slots: Sequence[int] = (),
        fixed_inputs: Sequence[tuple[int, Any]] = (),
        fixed_outputs: Sequence[tuple[int, Any]] = (),
        number_slots: Sequence[int] = (),
        random_slots: Sequence[int] = (),
        written_slots: Collection[int] = (),
        size_answers: Sequence[tuple[SizeQuestion, bool]] = (),
        saved_slots: Collection[int] = (),
    ):
        self.graph = graph
        self.dims = dict(dims)
        self.argument_slots = tuple(argument_slots)
        self.result_slots = tuple(result_slots)
        self.early_slots = tuple(slot for slot in self.result_slots if slot not in graph.late_outputs)
        self.kept_slots = tuple((slot, graph.output_types[slot].bind(dims)) for slot in kept_slots)
        self.fixed_inputs = tuple(fixed_inputs)
        self.fixed_outputs = tuple(fixed_outputs)
        self.number_slots = tuple(number_slots)
        self.random_slots = tuple(random_slots)
        self.written_slots = frozenset(written_slots)
        self.size_answers = tuple(size_answers)
        self.saved_slots = frozenset(saved_slots)
        self.threads = get_num_threads()
        self.told: Mapping[str, int] = {}  # the dims that the latest run told


class Binding(Slots):
    """The native call of a compiled graph with these slots."""

    graph: CompiledGraph

    def __init__(self, graph: CompiledGraph, dims: Mapping[str, int], *slots: Any):
        self._invoke: Callable[[int, int], int] = native_call()
        self.session = session = kernel_times.active()
        if session is not None:
            self._invoke = session.timed(graph, self._invoke)
            graph = session.variant(graph)
        super().__init__(graph, dims, *slots)
        self.result_specs = tuple(_allocation(graph, slot, dims) for slot in self.early_slots)
        self.tells_sizes = any(name not in self.dims for name in graph.symbols)
        self.threads = get_num_threads()
        self.prepared = 0  # the address of the program's block that is kept between calls
        self.told: Mapping[str, int] = {}  # the dims that the latest run told
        self._idle: list[CallRecord] = []
        self.give_back: Callable[[CallRecord], None] = self._idle.append  # the record's call is over

    def take(self) -> CallRecord:
        """A record no other call is using."""
        try:
            return self._idle.pop()
        except IndexError:
            return CallRecord(self)

    def call(self, record: CallRecord, arguments: Sequence[Array]) -> list[Array] | None:
        """The fresh result arrays, or None when an argument does not have the type it was bound for (nothing has run).

        A check that failed in generated code is raised as its error.
        """
        objects = record.objects
        at = 0
        for array in arguments:
            objects[at] = id(array)
            at += 1
        made = []
        try:
            for empty, shape, dtype in self.result_specs:
                array = empty(shape, dtype)
                objects[at] = id(array)
                at += 1
                made.append(array)
        except MemoryError:
            # Perhaps there is no room for results of sizes that this call does not have.
            if all(fits(a, t) for a, (_, t) in zip(arguments, self.argument_slots)):
                raise
            return None
        if self.tells_sizes:
            return self._call_late(record, made)
        status = self._invoke(record.address, record.objects_address)
        if status:
            if status == call_shim.MISMATCH:
                return None
            self.graph.raise_status(status, record.run_memory(self))
        return made

    def _call_late(self, record: CallRecord, made: list[Array]) -> list[Array] | None:
        """The call of a graph that tells sizes: some results are made on the way."""
        hosts = self.graph.host_calls
        assert hosts is not None
        accepts = partial(accepted, self.size_answers, self.dims) if self.size_answers else None
        with hosts.late_memory(accepts) as late:
            status = self._invoke(record.address, record.objects_address)
        if status in (call_shim.MISMATCH, UNWANTED):
            return None
        if status:
            self.graph.raise_status(status, record.run_memory(self))
        record.sizes = self.told = late.sizes
        early = iter(made)
        return [late.outputs[slot] if slot in late.outputs else next(early) for slot in self.result_slots]


def _allocation(
    graph: CompiledGraph, slot: int, dims: Mapping[str, int]
) -> tuple[Callable[[tuple[int, ...], np.dtype[Any]], Array], tuple[int, ...], np.dtype[Any]]:
    """What makes an output's array, its shape and dtype."""
    type_ = graph.output_types[slot].bind(dims)
    shape, dtype = type_.sizes, type_.dtype.numpy
    plain = graph.empty is allocator.empty and allocator.is_small(shape, dtype)
    return np.empty if plain else graph.empty, shape, dtype


def address_of(array: Array) -> int:
    """The address of the array's first element."""
    return int(array.__array_interface__["data"][0])


def fits(array: Array, type_: TensorType) -> bool:
    """Whether native code will take the array as it is: what the call shim checks."""
    flags = array.flags
    return (
        array.dtype is type_.dtype.numpy
        and array.shape == type_.shape
        and flags.c_contiguous
        and flags.aligned
    )


def as_bound(array: Any, type_: TensorType, gpu: Gpu | None = None) -> Any:
    """A contiguous, aligned array of the bound dtype object; a copy only where needed. One of a device stays there, one
    of the host goes to `gpu`."""
    if type(array) is DeviceArray:
        return device_programs.contiguous(array)
    result = np.require(array, dtype=type_.dtype.numpy, requirements=["C", "A"])
    if result.dtype is not type_.dtype.numpy:
        # An equal but distinct dtype object (unpickled, byte order spelled out): the shim compares identities.
        result = result.view(type_.dtype.numpy)
    return result if gpu is None else from_host(gpu, result)
