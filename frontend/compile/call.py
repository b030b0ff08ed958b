"""Calling a compiled graph: the arrays of one call, and the native call itself.

`Binding` is a compiled graph together with concrete dims and the addresses of everything that stays put between calls
(parameters, optimizer state). It keeps ready-made call records (see `runtime/call_shim.py`); a call takes one, fills in
the objects of its arguments and results, and makes one native call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import dtypes
from ..ir.types import TensorType
from ..runtime import call_shim
from ..runtime.compiled_graph import CompiledGraph
from ..runtime.native_call import native_call
from ..runtime.threads import get_num_threads

Array = np.ndarray[Any, Any]


class CallRecord:
    """The memory of one call in flight: pointer tables, arena and scalar inputs."""

    __slots__ = ("address", "arena", "keep", "numbers", "objects", "objects_address", "random", "words")

    def __init__(self, binding: Binding):
        graph = binding.graph
        inputs = (ctypes.c_int64 * max(1, len(graph.input_types)))()
        outputs = (ctypes.c_int64 * max(1, len(graph.output_types)))()
        dims = (ctypes.c_int64 * max(1, len(graph.symbols)))(*(binding.dims[s] for s in graph.symbols))
        self.arena, arena_address = graph.arena(binding.dims)
        self.numbers = [np.zeros((), np.float64) for _ in binding.number_slots]
        for slot, number in zip(binding.number_slots, self.numbers):
            inputs[slot] = address_of(number)
        self.random = np.zeros(2, np.int64)
        for slot in binding.random_slots:
            inputs[slot] = address_of(self.random)
        for slot, array in binding.fixed_inputs:
            inputs[slot] = address_of(array)
        for slot, array in binding.fixed_outputs:
            outputs[slot] = address_of(array)
        words = [
            graph.entry,
            ctypes.addressof(inputs),
            ctypes.addressof(outputs),
            arena_address,
            ctypes.addressof(dims),
            get_num_threads(),
            len(binding.argument_slots),
            len(binding.result_slots),
        ]
        for slot, type_ in binding.argument_slots:
            words += [slot, id(type_.dtype.numpy), len(type_.shape), *type_.shape]
        words += [slot for slot, _ in binding.result_slots]
        self.words = (ctypes.c_int64 * len(words))(*words)
        self.objects = (ctypes.c_int64 * max(1, len(binding.argument_slots) + len(binding.result_slots)))()
        self.keep = (inputs, outputs, dims)
        self.address = ctypes.addressof(self.words)
        self.objects_address = ctypes.addressof(self.objects)


class Binding:
    """A compiled graph with concrete dims and fixed arrays.

    argument_slots: (input slot, concrete type) of the arrays given per call; result_slots: (output slot, concrete type)
    of the arrays made per call; fixed_inputs/fixed_outputs: arrays whose memory stays, by slot.
    """

    def __init__(
        self,
        graph: CompiledGraph,
        dims: Mapping[str, int],
        argument_slots: Sequence[tuple[int, TensorType]],
        result_slots: Sequence[int],
        fixed_inputs: Sequence[tuple[int, Array]] = (),
        fixed_outputs: Sequence[tuple[int, Array]] = (),
        number_slots: Sequence[int] = (),
        random_slots: Sequence[int] = (),
    ):
        self.graph = graph
        self.dims = dict(dims)
        self.argument_slots = tuple(argument_slots)
        self.result_slots = tuple((slot, graph.output_types[slot].bind(dims)) for slot in result_slots)
        self.result_specs = tuple((t.shape, t.dtype.numpy) for _, t in self.result_slots)
        self.fixed_inputs = tuple(fixed_inputs)
        self.fixed_outputs = tuple(fixed_outputs)
        self.number_slots = tuple(number_slots)
        self.random_slots = tuple(random_slots)
        self.threads = get_num_threads()
        self._idle: list[CallRecord] = []
        self._invoke: Callable[[int, int], int] = native_call()

    def take(self) -> CallRecord:
        """A record no other call is using."""
        try:
            return self._idle.pop()
        except IndexError:
            return CallRecord(self)

    def give_back(self, record: CallRecord) -> None:
        self._idle.append(record)

    def call(
        self,
        arguments: Sequence[Array],
        numbers: Sequence[float] = (),
        random: tuple[int, int] | None = None,
        results: Sequence[Array] | None = None,
    ) -> list[Array] | None:
        """The result arrays, or None when an argument does not have the type it was bound for (nothing has run).

        `results` may hand in the result arrays. RuntimeError-like errors that generated code reports are raised with
        their message.
        """
        record = self.take()
        try:
            objects = record.objects
            k = 0
            for array in arguments:
                objects[k] = id(array)
                k += 1
            made = list(results) if results is not None else self.empty_results()
            for array in made:
                objects[k] = id(array)
                k += 1
            if numbers:
                for cell, value in zip(record.numbers, numbers):
                    cell[()] = value
            if random is not None:
                record.random[:] = random
            status = self._invoke(record.address, record.objects_address)
        finally:
            self._idle.append(record)
        if status:
            if status == call_shim.MISMATCH:
                return None
            self.graph.raise_status(status)
        return made

    def empty_results(self) -> list[Array]:
        """Fresh result arrays."""
        empty = self.graph.empty
        return [empty(shape, dtype) for shape, dtype in self.result_specs]


def address_of(array: Array) -> int:
    """The address of the array's first element."""
    return int(array.__array_interface__["data"][0])


def fits(array: Array, type_: TensorType) -> bool:
    """Whether the array can be handed to native code as it is."""
    return (
        array.dtype == type_.dtype.numpy
        and array.dtype.isnative
        and array.shape == type_.shape
        and array.flags.c_contiguous
        and array.flags.aligned
    )


def as_bound(array: Array, type_: TensorType) -> Array:
    """A contiguous, aligned array of the bound dtype object; a copy only where needed."""
    result = np.require(array, dtype=type_.dtype.numpy, requirements=["C", "A"])
    if result.dtype is not type_.dtype.numpy:
        # An equal but distinct dtype object (unpickled, byte-order spelled out): the shim compares identities.
        result = result.view(type_.dtype.numpy)
    return result


NUMBER = TensorType((), dtypes.f64)
