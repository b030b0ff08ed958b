"""A graph compiled to PTX and loaded on a device (`loaded.py` runs it).

The way is that of `compiled_graph.py`: the same passes, a lowering to the same loop IR with the GPU's schedules, PTX in
the place of object code, the same disk cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from ...codegen.gpu import lower_graph
from ...codegen.loops.nodes import Program
from ...codegen.ptx import PtxProgram, emit_ptx
from ...ir import dims
from ...ir.graph import Graph
from ...passes.pipeline import ATTENTION
from .. import disk_cache
from ..compiled_graph import CompileOptions, cache_key
from ..finite_checks import Memory, finite_error
from ..progress import watched
from ..staged import StagedGraph
from .arrays import Gpu
from .loaded import LoadedGpuProgram
from .plan import plan_data
from .runner import Run, Runner

FORMAT = 2
# Values of the dims whose runners are kept.
MOST_RUNNERS = 64


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
        self.loaded = LoadedGpuProgram(gpu, self._text, facts, self.error, graph.name)
        self.timings.measure("load", start)
        self._runners: dict[tuple[int, ...], Runner] = {}
        self.told, self.late_outputs = self.loaded.told, self.loaded.late_outputs

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
            if len(self._runners) >= MOST_RUNNERS:
                self._runners.clear()
            runner = self._runners[key] = Runner(self.loaded, known)
        addresses = (*inputs, *outputs)
        return runner.run(addresses, (self.gpu.stream, *addresses), accepts)

    def runner(self, bindings: Mapping[str, int]) -> Runner:
        """For runs one after another that have addresses in common."""
        return Runner(self.loaded, bindings, alone=True)

    def error(self, code: int, memory: Memory) -> Exception:
        """What a failed check stands for; `memory` is the run's, as it was left."""
        text = self.loaded.plan.messages.get(str(code))
        if text is None:
            return RuntimeError(f"{self.traced.name}: a kernel reported the unknown status {code}")
        finite = self.options.lower.check_finite
        if finite and code in self.program.finite_checks:
            checked = self.program.finite_checks[code]
            return finite_error(self.program, checked, self.traced.name, finite == "nan", memory)
        return IndexError(text)

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
        return dims.evaluate(self.loaded.plan.arena_bytes, bindings)

    def llvm_text(self) -> str:
        """The LLVM text that the PTX was made of."""
        return self.ptx.llvm

    def assembly_text(self) -> str:
        """The PTX."""
        return self._text

    def _code_texts(self) -> Iterable[tuple[str, str]]:
        return [("program.ll", self.llvm_text()), ("program.ptx", self._text)]


_in_memory: dict[tuple[str, int], GpuGraph] = {}
IN_MEMORY_LIMIT = 4096
# Bytes of shared memory that a block of the attention kernels may take with the longest rows.
LEAST_FOR_ATTENTION = 96 << 10


def for_devices(options: CompileOptions, gpu: Gpu) -> CompileOptions:
    """The options as programs on the device are compiled with."""
    fits = gpu.target.most_shared_bytes >= LEAST_FOR_ATTENTION
    kept = tuple(n for n in options.pipeline.keep_composites if fits and n in ATTENTION)
    return replace(options, pipeline=replace(options.pipeline, keep_composites=kept))


def compile_gpu_graph(graph: Graph, gpu: Gpu, options: CompileOptions = CompileOptions()) -> GpuGraph:
    """The graph's program on the device; the same object for an equal graph compiled before in this process."""
    options = for_devices(options, gpu)
    key = cache_key(graph, gpu.target, options)
    found = _in_memory.get((key, gpu.index))
    if found is None or found.gpu is not gpu:
        found = GpuGraph(graph, options, gpu, key)
        while len(_in_memory) >= IN_MEMORY_LIMIT:
            _in_memory.pop(next(iter(_in_memory)))
        _in_memory[key, gpu.index] = found
    found.requests += 1
    return found
