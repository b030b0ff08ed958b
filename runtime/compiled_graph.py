"""A graph compiled to native code, and everything about it that can be looked at.

Two roads lead here. Cold: the pass pipeline, lowering, LLVM. Warm: the disk cache holds the object code under a key made
of the graph's text, the target, the options and the compiler's own sources; then nothing but loading is left, and the
stages in between are made again only when someone asks to see them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..codegen.llvm import MODULE_INSTRUCTIONS, EmitOptions, assembly, compile_modules, emit_program
from ..codegen.loops.nodes import Check, Kernel, Program
from ..codegen.loops.walk import statements
from ..codegen.lower import LowerOptions, lower_graph
from ..codegen.target import GpuTarget, Target
from ..ir import dims
from ..ir.graph import Graph
from ..ir.printer import to_text
from ..passes.pipeline import PipelineOptions
from . import allocator, disk_cache
from .fingerprint import compiler_fingerprint
from .finite_checks import Memory, finite_error
from .host_calls import FAILED, HostCalls, host_calls_data
from .loading import LoadedProgram
from .progress import Callback, Watch, watched
from .staged import StagedGraph
from .threads import default_num_threads
from .tuner import Tuning, tune_graph

FORMAT = 3
# What tuning a graph may take by default.
TUNE_SECONDS = 30.0


@dataclass(frozen=True)
class CompileOptions:
    """How a graph is compiled. `target` None is this machine; `cache` False neither reads nor writes the disk cache;
    `verify` checks the IR after every pass; `prepare` lets inference keep what depends on parameters alone, such as
    packed weights, at the price of that memory; `tune` measures where the cost models' best few are close, for at most
    about `tune_seconds` a graph (`tuner.py`), and is not for `pipeline.strict`; `progress` is told what the compiler is
    doing (`progress.py`)."""

    pipeline: PipelineOptions = PipelineOptions()
    lower: LowerOptions = LowerOptions()
    emit: EmitOptions = EmitOptions()
    target: Target | None = None
    cache: bool = True
    verify: bool = False
    prepare: bool = True
    tune: bool = False
    tune_seconds: float = TUNE_SECONDS
    progress: Callback | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lower", replace(self.lower, strict=self.pipeline.strict))


class CompiledGraph(StagedGraph):
    """Native code for a graph. Made by `compile_graph`.

    `entry`: the address of `i32 run(ptr inputs, ptr outputs, ptr arena, ptr dims, i64 threads)`. The
    address of the memory that is kept between calls stands after those of the inputs.
    """

    def __init__(
        self,
        graph: Graph,
        options: CompileOptions,
        key: str | None = None,
        like: StagedGraph | None = None,
    ):
        """`key`: the graph's `cache_key`, where it is known already; `like`: the same graph, with other emit options,
        whose stages serve here too, and whose loop IR if it has any."""
        super().__init__(graph, options)
        self.target = options.target or Target.host()
        self.empty = allocator.empty
        self.tuning: Tuning | None = None  # by which `options.lower.choices` were found
        self.measured: Any = None  # the variant that `kernel_times.py` runs
        if like is not None:
            self.__dict__.update({n: like.__dict__[n] for n in ("stages", "program") if n in like.__dict__})
        self._facts: Mapping[str, Any]
        self._code: LoadedProgram
        self._prepare(key or cache_key(graph, self.target, options))

    def _prepare(self, key: str) -> None:
        start = time.perf_counter()
        found = disk_cache.load(key) if self.options.cache else None
        if found is not None:
            header, objects = found
            self._facts = header
            self.from_cache = True
            start = self.timings.measure("read cache", start)
        else:
            objects, self._facts = self._build()
            start = time.perf_counter()
            if self.options.cache:
                disk_cache.store(key, self._facts, objects)
                start = self.timings.measure("write cache", start)
        self._arena_bytes = dims.from_data(self._facts["arena_bytes"])
        self.prepared_bytes = self._facts["prepared_bytes"]
        self.prepared_inputs = self._facts["prepared_inputs"]
        stored = self._facts["host_calls"]
        self._code = LoadedProgram(objects, HostCalls(stored, self.symbols) if stored else None)
        self.timings.measure("load", start)

    def _build(self) -> tuple[list[bytes], dict[str, Any]]:
        with watched(self.traced.name, self.options.progress) as watch:
            program = self.program
            start = time.perf_counter()
            modules: list[str] = []

            def emitted() -> Iterator[str]:
                """The modules, which are compiled meanwhile: the step "llvm" is what is left of that at their end."""
                nonlocal start
                for text in self._emit(watch):
                    modules.append(text)
                    yield text
                start = self.timings.measure("emit", start)
                watch.step("llvm")

            objects = compile_modules(emitted(), self.target, default_num_threads())
        self.timings.measure("llvm", start)
        self.__dict__["llvm_modules"] = modules
        facts = {
            "format": FORMAT,
            "arena_bytes": dims.to_data(program.arena_bytes),
            "prepared_bytes": program.prepared_bytes,
            "prepared_inputs": program.prepared_inputs,
            "messages": {str(code): text for code, text in program.messages.items()},
            "host_calls": host_calls_data(program),
        }
        return objects, facts

    # -- running ---------------------------------------------------------------------------------------------

    @property
    def entry(self) -> int:
        return self._code.address

    def variable(self, name: str) -> int:
        """The address of a variable of the program."""
        return self._code.code.variable(name)

    def arena_bytes(self, bindings: Mapping[str, int]) -> int:
        """The arena's size for these values of the dims."""
        return dims.evaluate(self._arena_bytes, bindings)

    def arena(self, bindings: Mapping[str, int]) -> tuple[np.ndarray[Any, Any], int]:
        """Fresh arena memory and its address, a multiple of 64."""
        memory = np.empty(self.arena_bytes(bindings) + 64, np.uint8)
        address = memory.__array_interface__["data"][0]
        return memory, address + -address % 64

    @property
    def host_calls(self) -> HostCalls | None:
        """What the program calls back, where it does."""
        return self._code.host_calls

    @cached_property
    def late_outputs(self) -> frozenset[int]:
        """The outputs whose sizes only a run tells: the run makes them (`host_calls.py`)."""
        return frozenset(entry[0] for call in self._facts["host_calls"] for entry in call["outputs"])

    def raise_status(self, code: int, memory: Memory | None = None) -> None:
        """Raise the error that a failed check of the generated code stands for, or what a host call raised. `memory` is
        the run's, as it was left."""
        if code == FAILED and self._code.host_calls is not None:
            which, error = self._code.host_calls.take_error()
            place = self.program.host_calls[which].location
            error.add_note(f"in compiled {self.traced.name}" + (f", at {place}" if place else ""))
            raise error
        text = self._facts["messages"].get(str(code))
        if text is None:
            raise RuntimeError(f"{self.traced.name}: generated code reported the unknown status {code}")
        if self.options.lower.check_finite and code in self.program.finite_checks:
            nan_only = self.options.lower.check_finite == "nan"
            raise finite_error(
                self.program, self.program.finite_checks[code], self.traced.name, nan_only, memory
            )
        failed = IndexError(text)
        places = ", ".join(self._places_of_check(code))
        failed.add_note(f"in compiled {self.traced.name}" + (f", at {places}" if places else ""))
        raise failed

    def _places_of_check(self, code: int) -> list[str]:
        """The user's lines of the groups whose kernels have this check: of the nodes that are not pointwise or views."""
        groups = {
            launch.source
            for launch in self.program.launches
            if isinstance(launch.kernel, Kernel)
            and any(isinstance(s, Check) and s.code == code for s in statements(launch.kernel.body))
        }
        nodes = [
            inner
            for node in self.stages[-1].nodes
            if node.regions and node.attrs.get("name") in groups
            for inner in node.regions[0].nodes
            if inner.op.lowering not in ("pointwise", "view", "constant")
        ]
        return list(dict.fromkeys(str(node.location) for node in nodes if node.location))

    # -- looking inside --------------------------------------------------------------------------------------

    def _lower(self, fused: Graph) -> Program:
        return lower_graph(fused, self.target, self.options.lower)

    def _emit(self, watch: Watch) -> Iterator[str]:
        return emit_program(
            self.program,
            self.target,
            self.options.emit,
            MODULE_INSTRUCTIONS,
            lambda done, total: watch.step("emit", done, total),
        )

    @cached_property
    def llvm_modules(self) -> list[str]:
        """The LLVM text, in modules; the entry is in the last."""
        with watched(self.traced.name, self.options.progress) as watch:
            return list(self._emit(watch))

    def llvm_text(self) -> str:
        return "\n".join(self.llvm_modules)

    def assembly_text(self) -> str:
        return "\n".join(assembly(text, self.target) for text in self.llvm_modules)

    def _code_texts(self) -> Iterable[tuple[str, str]]:
        return [("program.ll", self.llvm_text()), ("program.s", self.assembly_text())]


_in_memory: dict[str, CompiledGraph] = {}
IN_MEMORY_LIMIT = 256


def compile_graph(
    graph: Graph, options: CompileOptions = CompileOptions(), like: StagedGraph | None = None
) -> CompiledGraph:
    """Native code for the graph; the same object for an equal graph compiled before in this process. `like` as for
    `CompiledGraph`. Where the options say so, its choices are measured first."""
    tuning: Tuning | None = None
    timings: dict[str, float] = {}
    if options.tune:
        like = like or StagedGraph(graph, options)
        options, tuning = tuned(like, options.target or Target.host())
        timings = like.timings.steps
    key = cache_key(graph, options.target or Target.host(), options)
    found = _in_memory.get(key)
    if found is None:
        found = CompiledGraph(graph, options, key, like)
        found.tuning = tuning
        found.timings.steps = {**timings, **found.timings.steps}
        while len(_in_memory) >= IN_MEMORY_LIMIT:
            _in_memory.pop(next(iter(_in_memory)))
        _in_memory[key] = found
    found.requests += 1
    return found


def tuned(staged: StagedGraph, target: Target) -> tuple[CompileOptions, Tuning]:
    """The options of a graph, with choices measured for the target in place of the wish for them. ValueError with
    strict numerics: ways that are as good add up in other orders."""
    options: CompileOptions = staged.options
    if options.pipeline.strict:
        raise ValueError(
            "tune: with strict numerics results are those of eager code to the bit, and what is measured to be fastest "
            "here may add up in another order; leave out one of the two"
        )
    start, steps = time.perf_counter(), staged.timings.steps
    passes = steps.get("passes", 0.0)
    found = tune_graph(staged, target)
    staged.timings.measure("tune", start + steps.get("passes", 0.0) - passes)
    return replace(options, tune=False, lower=replace(options.lower, choices=found.choices)), found


def cache_key(graph: Graph, target: Target | GpuTarget, options: CompileOptions) -> str:
    """What decides the machine code, hashed."""
    import llvmlite

    parts = [
        str(FORMAT),
        to_text(graph, locations=False),
        repr(target),
        repr((options.pipeline, options.lower, options.emit)),
        llvmlite.__version__,
        compiler_fingerprint(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
