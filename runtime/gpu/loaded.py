"""PTX programs loaded on a device, and the steps of their runs (`runner.py` makes them): launches, checks, host calls.

What only NumPy computes is a host call here too: the data goes to the host and back, and `Gpu.host_copies` counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ...ir import dims
from ...ir.dtypes import dtype_named
from ...ir.graph import Graph, told_symbols
from ...ir.interpreter import run_bound
from ...ir.parser import parse_region
from ...ir.types import TensorType
from ..finite_checks import Memory
from . import arrays
from .arrays import DeviceMemory, Gpu
from .device import Function
from .plan import HostStep, KernelStep, Plan
from .runner import Run
from .tensor_maps import BoundMap

Launched = tuple[Function, int, int, int, Sequence[int | BoundMap]]


class UnwantedSizes(Exception):
    """The sizes that a run told are not those it was meant for."""


class LoadedGpuProgram:
    """A program's PTX loaded on a device, and its plan.

    `facts` are `plan_data`'s; `error` gives what a status word stands for, asked with the run's memory. `told`: the dims
    that runs tell; `late_outputs`: the outputs whose sizes are told."""

    def __init__(
        self,
        gpu: Gpu,
        text: str,
        facts: Mapping[str, Any],
        error: Callable[[int, Memory], Exception],
        name: str,
    ):
        self.gpu = gpu
        self.name = name
        self.plan = Plan(facts)
        self.inputs: int = facts["inputs"]
        self.calls = [HostCallOnDevice(data) for data in self.plan.host_calls]
        module = gpu.device.load(text) if self.plan.functions else None
        self._functions = {name: module.function(name) for name in self.plan.functions} if module else {}
        self._error = error
        self.told = frozenset(name for call in self.calls for name in call.told)
        self.late_outputs = frozenset(number for call in self.calls for number, *_ in call.made)

    @cached_property
    def fitting(self) -> frozenset[str]:
        """The functions whose blocks fit on the device all at once, of those that do a whole repeat so."""
        device = self.gpu.device
        return frozenset(
            kernel.function
            for kernel in self.plan.resident
            if dims.evaluate(kernel.grid, {})
            <= device.most_together(self._functions[kernel.function], kernel.threads, kernel.shared_bytes)
        )

    def launch(self, step: KernelStep, bases: Sequence[int], status: int, meeting: int) -> None:
        """Launch a step of the plan. `meeting`: the address of a word of zeros."""
        if step.grid:
            run = self.gpu.device.launch_together if step.resident else self.gpu.device.launch
            run(*self.launched(step, bases, status, meeting))

    def launched(self, step: KernelStep, bases: Sequence[int], status: int, meeting: int) -> Launched:
        """A step's kernel, grid, threads, bytes of shared memory, and arguments."""
        words = (meeting, status) if step.resident else (status,)
        function, arguments = self._functions[step.function], (*step.arguments(bases), *words)
        return function, step.grid, step.threads, step.shared_bytes, arguments

    def check(self, status: int, bases: Sequence[int], known: Mapping[str, int]) -> None:
        """Raise the error of the first check that failed in a run with these bases of places; waits for the device."""
        code = self.gpu.device.word(status)
        if code:
            late = 1 + len(self.calls)
            outputs, arena = bases[self.inputs : -late], bases[-late]
            raise self._error(code, Memory(bases[: self.inputs], outputs, arena, known, self._read))

    def _read(self, address: int, nbytes: int) -> bytes:
        found = np.empty(nbytes, np.uint8)
        if nbytes:
            self.gpu.device.to_host(found, address)
        return found.tobytes()

    def host_call(
        self,
        step: HostStep,
        bases: list[int],
        known: dict[str, int],
        result: Run,
        held: list[DeviceMemory],
        accepts: Callable[[Mapping[str, int]], bool] | None,
    ) -> None:
        call = self.calls[step.number]
        addresses = [bases[number] + offset for number, offset in step.places[: len(call.inputs)]]
        try:
            found = call.compute(self.gpu, addresses, known)
        except Exception as error:
            place = f", at {call.location}" if call.location else ""
            error.add_note(f"in compiled {self.name}{place}")
            raise
        if call.told:
            result.sizes.update((name, known[name]) for name in call.told)
            if accepts is not None and not accepts(result.sizes):
                raise UnwantedSizes
            size = dims.evaluate(call.memory, known)
            if size:
                held.append(DeviceMemory(self.gpu, size))
                bases[-len(self.calls) + step.number] = held[-1].address
            for number, type_ in call.made:
                bound = type_.bind(known)
                made = result.outputs[number] = arrays.empty(self.gpu, bound.sizes, bound.dtype.numpy)
                bases[self.inputs + number] = made.address
        # The dims that this call told decide where its results lie.
        places = self._late_places(step, known) if call.told else step.places
        for array, (number, offset) in zip(found, places[len(call.inputs) :]):
            if array.size:
                self.gpu.device.to_device(bases[number] + offset, np.ascontiguousarray(array))

    def _late_places(self, step: HostStep, known: Mapping[str, int]) -> Sequence[tuple[int, int]]:
        for again in self.plan.bound(known, self.fitting):
            if isinstance(again, HostStep) and again.number == step.number:
                return again.places
        raise AssertionError("a plan has each of its host calls")


class HostCallOnDevice:
    """One host call of a program on a device."""

    def __init__(self, data: Mapping[str, Any]):
        self.graph: Graph = parse_region(data["graph"])
        self.location: str = data["location"]
        self.inputs = [v.type for v in self.graph.inputs]
        self.told = tuple(s.name for node in self.graph.nodes for s in told_symbols(node))
        self.memory = dims.from_data(data["bytes"])
        self.made = [
            (number, TensorType(tuple(map(dims.from_data, shape)), dtype_named(dtype)))
            for number, dtype, shape in data["outputs"]
        ]

    def compute(
        self, gpu: Gpu, addresses: Sequence[int], bindings: dict[str, int]
    ) -> Sequence[np.ndarray[Any, Any]]:
        """The results on the host; `bindings` learns the sizes that are told."""
        operands = []
        for address, type_ in zip(addresses, self.inputs):
            bound = type_.bind(bindings)
            array = np.empty(bound.sizes, bound.dtype.numpy)
            if array.size:
                gpu.device.to_host(array, address)
                gpu.host_copies += 1
            operands.append(array)
        return run_bound(self.graph, operands, bindings)
