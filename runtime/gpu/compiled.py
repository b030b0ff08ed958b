"""A graph compiled to PTX, loaded on a device, and run there.

The way is that of `compiled_graph.py`: the same passes, a lowering to the same loop IR with the GPU's schedules, PTX in
the place of object code, the same disk cache. A run launches the program's kernels one after another on the device's
stream. What only NumPy computes is a host call here too: the data goes to the host and back, the graph shows it as a
node of its own, and `Gpu.host_copies` counts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ...codegen.gpu import lower_graph
from ...codegen.loops.nodes import Program
from ...codegen.ptx import PtxProgram, emit_ptx
from ...ir import dims
from ...ir.dtypes import dtype_named
from ...ir.graph import Graph, told_symbols
from ...ir.interpreter import run_bound
from ...ir.parser import parse_region
from ...ir.types import TensorType
from .. import disk_cache
from ..compiled_graph import CompileOptions, cache_key
from ..finite_checks import finite_error
from ..progress import watched
from ..staged import StagedGraph
from . import arrays
from .arrays import DeviceArray, DeviceMemory, Gpu
from .plan import HostStep, KernelStep, Plan, plan_data

FORMAT = 2
# Plans that are kept for different values of the dims.
MOST_PLANS = 64
# A run with the same addresses as so many before it is captured, and is one launch from then on; so many are kept.
CAPTURE_AFTER = 2
MOST_CAPTURED = 8


class Run:
    """What one run leaves besides what it wrote: the results whose sizes it told, by output number, and those sizes."""

    __slots__ = ("outputs", "sizes")

    def __init__(self) -> None:
        self.outputs: dict[int, DeviceArray] = {}
        self.sizes: dict[str, int] = {}


# Of runs that tell nothing; it stays empty.
_NOTHING = Run()


@dataclass(frozen=True)
class Captured:
    """A run of a program as one launch (`CudaDevice.capture`), with the memory that it uses."""

    graph: Any
    arena: DeviceMemory
    status: int
    checks: bool


class Runner:
    """Runs of a program with these dims: for callers whose runs have addresses in common, and must be told apart by the
    others only."""

    def __init__(self, graph: GpuGraph, bindings: Mapping[str, int]):
        self.graph = graph
        self._dims = dict(bindings)
        self._steps = None if graph.told else list(graph.plan.bound(self._dims))
        self._captures = graph.gpu.streamed and not graph.calls
        self._captured: dict[Hashable, Captured] = {}
        self._runs: dict[Hashable, int] = {}

    def run(
        self,
        addresses: Sequence[int],
        key: tuple[int, ...],
        accepts: Callable[[Mapping[str, int]], bool] | None = None,
    ) -> Run:
        """Run as `GpuGraph.run`, on these addresses of inputs and outputs. `key`: those that differ from run to run."""
        graph = self.graph
        if self._captures:
            key = (graph.gpu.thread.stream, *key)
            captured = self._captured.get(key) or self._capture(key, addresses)
            if captured is not None:
                captured.graph.launch()
                if captured.checks:
                    graph.check(captured.status)
                return _NOTHING
        known = dict(self._dims)
        arena, status, checks = self._memory(known)
        if checks:
            graph.gpu.device.fill(status, 0, 4)
        bases = [*addresses, arena.address, *(0 for _ in graph.calls)]
        held: list[DeviceMemory] = [arena]
        result = Run()
        for step in graph.plan.bound(known) if self._steps is None else self._steps:
            if isinstance(step, HostStep):
                if checks:
                    graph.check(status)
                graph.host_call(step, bases, known, result, held, accepts)
            else:
                graph.launch(step, bases, status)
        if checks:
            graph.check(status)
        return result

    def _memory(self, known: Mapping[str, int]) -> tuple[DeviceMemory, int, bool]:
        """An arena, the address of a status word, and whether anything is written there.

        One block for both; it goes back at the end of a run, and what uses it next comes after it on the stream."""
        gpu, plan = self.graph.gpu, self.graph.plan
        size = dims.evaluate(plan.arena_bytes, known)
        if not plan.messages:
            return DeviceMemory(gpu, size), gpu.status_word, False
        arena = DeviceMemory(gpu, size + 256)
        return arena, arena.address + size, True

    def _capture(self, key: Hashable, addresses: Sequence[int]) -> Captured | None:
        """The run as one launch, where there were runs like it before."""
        if len(self._runs) >= 64 * MOST_CAPTURED:
            self._runs.clear()
        before = self._runs.get(key, 0)
        self._runs[key] = before + 1
        if before < CAPTURE_AFTER:
            return None
        while len(self._captured) >= MOST_CAPTURED:
            self._captured.pop(next(iter(self._captured)))
        device: Any = self.graph.gpu.device
        arena, status, checks = self._memory(self._dims)
        with device.capture() as recorded:
            if checks:
                device.fill(status, 0, 4)
            for step in self._steps or ():
                assert isinstance(step, KernelStep)
                self.graph.launch(step, [*addresses, arena.address], status)
        found = self._captured[key] = Captured(recorded, arena, status, checks)
        return found


class UnwantedSizes(Exception):
    """The sizes that a run told are not those it was meant for."""


class GpuGraph(StagedGraph):
    """A graph's program on one device. Made by `compile_gpu_graph`."""

    def __init__(self, graph: Graph, options: CompileOptions, gpu: Gpu, key: str):
        super().__init__(graph, options)
        self.gpu = gpu
        self.target = gpu.target
        start = time.perf_counter()
        found = disk_cache.load(key) if options.cache else None
        if found is not None:
            facts, (text,) = found
            self._text = text.decode()
            self.from_cache = True
            start = self.timings.measure("read cache", start)
        else:
            emitted = self.ptx
            self._text, facts = emitted.text, plan_data(emitted)
            start = time.perf_counter()
            if options.cache:
                disk_cache.store(key, facts, [self._text.encode()])
                start = self.timings.measure("write cache", start)
        self.plan = Plan(facts)
        self.calls = [HostCallOnDevice(data) for data in self.plan.host_calls]
        module = gpu.device.load(self._text) if self.plan.functions else None
        self._functions = {name: module.function(name) for name in self.plan.functions} if module else {}
        self.timings.measure("load", start)
        self._runners: dict[tuple[int, ...], Runner] = {}
        self.told = frozenset(name for call in self.calls for name in call.told)
        self.late_outputs = frozenset(number for call in self.calls for number, *_ in call.made)

    # -- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        bindings: Mapping[str, int] | None = None,
        accepts: Callable[[Mapping[str, int]], bool] | None = None,
    ) -> Run:
        """Run on row-major arrays at these addresses; an output tied to an input has the input's, one whose size the
        run tells any. `accepts` is asked about sizes that were told, before anything of that size is made.

        Raises what a failed check stands for, what a host call raised, UnwantedSizes.
        """
        known = bindings or {}
        key = tuple(known[name] for name in self.symbols if name not in self.told)
        runner = self._runners.get(key)
        if runner is None:
            if len(self._runners) >= MOST_PLANS:
                self._runners.clear()
            runner = self._runners[key] = Runner(self, known)
        addresses = (*inputs, *outputs)
        return runner.run(addresses, addresses, accepts)

    def launch(self, step: KernelStep, bases: Sequence[int], status: int) -> None:
        """Launch a step of the plan."""
        if step.grid:
            function = self._functions[step.function]
            self.gpu.device.launch(
                function, step.grid, step.threads, step.shared_bytes, (*step.arguments(bases), status)
            )

    def check(self, status: int) -> None:
        """Raise the error of the first check that failed; waits for the device."""
        code = self.gpu.device.word(status)
        if not code:
            return
        text = self.plan.messages.get(str(code))
        if text is None:
            raise RuntimeError(f"{self.traced.name}: a kernel reported the unknown status {code}")
        finite = self.options.lower.check_finite
        if finite and code in self.program.finite_checks:
            checked = self.program.finite_checks[code]
            raise finite_error(self.program, checked, self.traced.name, finite == "nan", None)
        raise IndexError(text)

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
            error.add_note(f"in compiled {self.traced.name}{place}")
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
                bases[len(self.input_types) + number] = made.address
        # The dims that this call told decide where its results lie.
        places = self._late_places(step, known) if call.told else step.places
        for array, (number, offset) in zip(found, places[len(call.inputs) :]):
            if array.size:
                self.gpu.device.to_device(bases[number] + offset, np.ascontiguousarray(array))

    def _late_places(self, step: HostStep, known: Mapping[str, int]) -> Sequence[tuple[int, int]]:
        for again in self.plan.bound(known):
            if isinstance(again, HostStep) and again.number == step.number:
                return again.places
        raise AssertionError("a plan has each of its host calls")

    # -- looking inside ------------------------------------------------------------------------------------------

    def _lower(self, fused: Graph) -> Program:
        return lower_graph(fused, self.target, self.options.lower)

    @cached_property
    def ptx(self) -> PtxProgram:
        """The emitted program."""
        program = self.program
        start = time.perf_counter()
        with watched(self.traced.name, self.options.progress) as watch:
            watch.step("emit")
            found = emit_ptx(program, self.target)
        self.timings.measure("emit", start)
        return found

    def arena_bytes(self, bindings: Mapping[str, int]) -> int:
        """The arena's size for these values of the dims."""
        return dims.evaluate(self.plan.arena_bytes, bindings)

    def llvm_text(self) -> str:
        """The LLVM text that the PTX was made of."""
        return self.ptx.llvm

    def assembly_text(self) -> str:
        """The PTX."""
        return self._text

    def _code_texts(self) -> Iterable[tuple[str, str]]:
        return [("program.ll", self.llvm_text()), ("program.ptx", self._text)]


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


_in_memory: dict[tuple[str, int], GpuGraph] = {}
IN_MEMORY_LIMIT = 4096
# Bytes of shared memory that a block of the attention kernels may take with the longest rows.
LEAST_FOR_ATTENTION = 96 << 10


def compile_gpu_graph(graph: Graph, gpu: Gpu, options: CompileOptions = CompileOptions()) -> GpuGraph:
    """The graph's program on the device; the same object for an equal graph compiled before in this process."""
    if gpu.target.most_shared_bytes < LEAST_FOR_ATTENTION:
        options = replace(options, pipeline=replace(options.pipeline, keep_composites=()))
    key = cache_key(graph, gpu.target, options)
    found = _in_memory.get((key, gpu.index))
    if found is None or found.gpu is not gpu:
        found = GpuGraph(graph, options, gpu, key)
        while len(_in_memory) >= IN_MEMORY_LIMIT:
            _in_memory.pop(next(iter(_in_memory)))
        _in_memory[key, gpu.index] = found
    found.requests += 1
    return found
