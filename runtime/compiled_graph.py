"""A graph compiled to native code, and everything about it that can be looked at.

Two roads lead here. Cold: the pass pipeline, lowering, LLVM. Warm: the disk cache holds the object code under a key made
of the graph's text, the target, the options and the compiler's own sources; then nothing but loading is left, and the
stages in between are made again only when someone asks to see them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.llvm import EmitOptions, assembly, compile_modules, emit_program
from ..codegen.loops.nodes import Program
from ..codegen.loops.printer import print_program
from ..codegen.lower import LowerOptions, lower_graph
from ..codegen.target import Target
from ..ir import dims
from ..ir.graph import Graph
from ..ir.printer import to_text
from ..passes.pipeline import PipelineOptions, default_pipeline, run_pipeline
from . import allocator, disk_cache
from .finite_checks import Memory, finite_error
from .host_calls import FAILED, HostCalls, host_calls_data
from .loading import LoadedProgram
from .progress import Callback, watched
from .threads import default_num_threads

FORMAT = 2


@dataclass(frozen=True)
class CompileOptions:
    """How a graph is compiled. `target` None is this machine; `cache` False neither reads nor writes the disk cache;
    `verify` checks the IR after every pass; `progress` is told what the compiler is doing (`progress.py`)."""

    pipeline: PipelineOptions = PipelineOptions()
    lower: LowerOptions = LowerOptions()
    emit: EmitOptions = EmitOptions()
    target: Target | None = None
    cache: bool = True
    verify: bool = False
    progress: Callback | None = field(default=None, compare=False)


@dataclass
class Timings:
    """Seconds spent, by step."""

    steps: dict[str, float] = field(default_factory=dict)

    def measure(self, step: str, start: float) -> float:
        now = time.perf_counter()
        self.steps[step] = self.steps.get(step, 0.0) + now - start
        return now


class CompiledGraph:
    """Native code for a graph. Made by `compile_graph`.

    input_types/output_types: the graph's; `symbols`: names of its dims in the order native code takes them; `entry`: the
    address of `i32 run(ptr inputs, ptr outputs, ptr arena, ptr dims, i64 threads)`; `timings`: what took how long;
    `requests`: how often `compile_graph` was asked for it.
    """

    def __init__(
        self,
        graph: Graph,
        options: CompileOptions,
        key: str | None = None,
        like: CompiledGraph | None = None,
    ):
        """`key`: the graph's `cache_key`, where it is known already; `like`: the same graph, compiled with other emit
        options, whose loop IR serves here too."""
        self.traced = graph
        self.options = options
        self.target = options.target or Target.host()
        self.input_types = tuple(v.type for v in graph.inputs)
        self.output_types = tuple(v.type for v in graph.outputs)
        self.symbols = tuple(s.name for s in graph.symbols)
        self.timings = Timings()
        self.from_cache = False
        self.requests = 0
        self.empty = allocator.empty
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
        stored = self._facts["host_calls"]
        self._code = LoadedProgram(objects, HostCalls(stored, self.symbols) if stored else None)
        self.timings.measure("load", start)

    def _build(self) -> tuple[list[bytes], dict[str, Any]]:
        with watched(self.traced.name, self.options.progress) as watch:
            program = self.program
            start = time.perf_counter()
            modules = self.llvm_modules
            start = self.timings.measure("emit", start)
            watch.step("llvm")
            objects = compile_modules(modules, self.target, default_num_threads())
        self.timings.measure("llvm", start)
        facts = {
            "format": FORMAT,
            "arena_bytes": dims.to_data(program.arena_bytes),
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
        raise IndexError(text)

    # -- looking inside --------------------------------------------------------------------------------------

    @cached_property
    def stages(self) -> list[Graph]:
        """The traced graph, then what each pass made of it."""
        start = time.perf_counter()
        passes = default_pipeline(self.options.pipeline)
        with watched(self.traced.name, self.options.progress) as watch:
            watch.step("passes", 0, len(passes))
            found = run_pipeline(
                self.traced,
                passes,
                self.options.verify,
                lambda position, step, graph: watch.step("passes", position, len(passes)),
            )
        self.timings.measure("passes", start)
        return found

    @cached_property
    def program(self) -> Program:
        """The loop IR."""
        stages = self.stages
        start = time.perf_counter()
        with watched(self.traced.name, self.options.progress) as watch:
            watch.step("lower")
            found = lower_graph(stages[-1], self.target, self.options.lower)
        self.timings.measure("lower", start)
        return found

    @cached_property
    def llvm_modules(self) -> list[str]:
        """The LLVM text, in as many modules as there are cores to compile them."""
        program = self.program
        with watched(self.traced.name, self.options.progress) as watch:
            return emit_program(
                program,
                self.target,
                self.options.emit,
                default_num_threads(),
                lambda done, total: watch.step("emit", done, total),
            )

    def stage_names(self) -> list[str]:
        """What `stage` accepts, in order: "traced", each pass by name (numbered when it runs twice), "final"."""
        names: list[str] = []
        for graph in self.stages:
            name = "traced" if not names else graph.provenance.made_by
            count = sum(n == name or n.startswith(f"{name}.") for n in names)
            names.append(f"{name}.{count + 1}" if count else name)
        return names

    def stage(self, name: str) -> Graph:
        """The graph after the named stage; KeyError lists the names. "fused" is the last."""
        names = self.stage_names()
        if name in ("fused", "final"):
            return self.stages[-1]
        if name not in names:
            raise KeyError(f"no stage {name!r}; there are {', '.join(names)} and fused")
        return self.stages[names.index(name)]

    def loops_text(self) -> str:
        return print_program(self.program)

    def llvm_text(self) -> str:
        return "\n".join(self.llvm_modules)

    def assembly_text(self) -> str:
        return "\n".join(assembly(text, self.target) for text in self.llvm_modules)

    def dump(self, folder: str | os.PathLike[str]) -> list[Path]:
        """A numbered text file for every stage, from the traced graph to assembly; their paths."""
        base = Path(folder)
        base.mkdir(parents=True, exist_ok=True)
        texts = [(f"{name}.ir", to_text(g)) for name, g in zip(self.stage_names(), self.stages)]
        texts += [
            ("loops.txt", self.loops_text()),
            ("program.ll", self.llvm_text()),
            ("program.s", self.assembly_text()),
        ]
        paths = [base / f"{number:02}-{name}" for number, (name, _) in enumerate(texts)]
        for path, (_, text) in zip(paths, texts):
            path.write_text(text, encoding="utf-8")
        return paths


_in_memory: dict[str, CompiledGraph] = {}
IN_MEMORY_LIMIT = 256


def compile_graph(
    graph: Graph, options: CompileOptions = CompileOptions(), like: CompiledGraph | None = None
) -> CompiledGraph:
    """Native code for the graph; the same object for an equal graph compiled before in this process. `like` as for
    `CompiledGraph`."""
    key = cache_key(graph, options.target or Target.host(), options)
    found = _in_memory.get(key)
    if found is None:
        found = CompiledGraph(graph, options, key, like)
        while len(_in_memory) >= IN_MEMORY_LIMIT:
            _in_memory.pop(next(iter(_in_memory)))
        _in_memory[key] = found
    found.requests += 1
    return found


def cache_key(graph: Graph, target: Target, options: CompileOptions) -> str:
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


@cache
def compiler_fingerprint() -> str:
    """Changes whenever a source file of the compiler does: name, size and time of each."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("ir", "passes", "codegen", "runtime"):
        for path in sorted((root / folder).rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
