"""How long the kernels of compiled programs take, measured by the programs themselves.

Inside `measuring()` calls of compiled functions run variants of their programs that read the clock around each launch
(`codegen/llvm/measure.py`); outside, the ordinary ones, which know nothing of it. A variant is a compiled graph of its
own, under a cache key of its own. Counters are never reset: a session keeps what they were when it first met a program.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..codegen.forks import Lock
from ..codegen.llvm import measure
from ..codegen.loops.nodes import HostCall, Launch
from ..ir import dtypes
from ..ir.graph import Location
from ..passes.regions import group_nodes
from . import allocator
from .compiled_graph import CompiledGraph, compile_graph

Array = np.ndarray[Any, Any]
Invoke = Callable[[int, int], int]

# Runs of launches that a session keeps one by one, of each program; the totals count all.
LOG_ROWS = 1 << 15


@dataclass(frozen=True)
class LaunchTime:
    """What one launch of a program has done since the session began: `calls` runs of it (a launch in a loop runs once in
    each turn), their `seconds`, floating-point operations and least bytes moved, all summed.

    `name` is the kernel's, `source` the fused group's; `peak_dtype` is the float type it computes in, whose peak it is
    held against, "" for what NumPy computes.
    """

    graph: str
    index: int
    name: str
    source: str
    location: Location | None
    peak_dtype: str
    calls: int
    seconds: float
    flops: int
    bytes: int

    @property
    def gflops(self) -> float:
        """10⁹ FLOPs a second."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gigabytes(self) -> float:
        """10⁹ bytes a second, of the least traffic: what is read or written twice counts once."""
        return self.bytes / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class LaunchRun:
    """One run of a launch; `begin` and `end` as `time.perf_counter_ns` would have told."""

    graph: str
    index: int
    begin: int
    end: int


@dataclass(frozen=True)
class CallRun:
    """One native call of a program, on the thread of that number."""

    graph: str
    begin: int
    end: int
    thread: int


class MeasuredProgram:
    """A program's measuring variant, and its counters."""

    def __init__(self, original: CompiledGraph):
        self.original = original
        options = original.options
        options = replace(options, emit=replace(options.emit, measure=True))
        self.compiled = compile_graph(original.traced, options, like=original)
        self._times = self.compiled.variable(measure.TIMES)
        self._log_slot = ctypes.c_void_p.from_address(self.compiled.variable(measure.LOG))
        self._log: Array | None = None

    @property
    def counters(self) -> Array:
        """i64[launches, 4]: runs, nanoseconds, FLOPs, bytes; a copy."""
        count = len(self.original.program.launches)
        words = (ctypes.c_int64 * (count * measure.ROW_WORDS)).from_address(self._times)
        return np.array(words, np.int64).reshape(count, measure.ROW_WORDS)

    def start_log(self) -> None:
        """Keep the runs that follow one by one."""
        if self._log is None:
            # Never freed while the code lives: another thread may be writing to it.
            # Filled, so that its pages are there: the first touch of one takes longer than a small kernel.
            self._log = np.full(measure.LOG_HEADER_WORDS + LOG_ROWS * measure.LOG_ROW_WORDS, 0, np.int64)
            self._log[0] = LOG_ROWS
        self._log[1] = 0
        self._log_slot.value = self._log.ctypes.data

    def stop_log(self) -> tuple[list[LaunchRun], int]:
        """The runs since `start_log`, and how many there were beyond those kept."""
        self._log_slot.value = None
        assert self._log is not None, "start_log comes first"
        count = int(self._log[1])
        rows = self._log[measure.LOG_HEADER_WORDS :].reshape(-1, measure.LOG_ROW_WORDS)
        name = self.original.traced.name
        runs = [LaunchRun(name, *map(int, row)) for row in rows[: min(count, LOG_ROWS)]]
        return runs, max(0, count - LOG_ROWS)

    def launch_times(self, before: Array) -> list[LaunchTime]:
        """Every launch, counted since the counters were `before`."""
        places = group_locations(self.original)
        found = []
        for index, (launch, row) in enumerate(zip(self.original.program.launches, self.counters - before)):
            calls, nanoseconds, flops, moved = map(int, row)
            found.append(
                LaunchTime(
                    self.original.traced.name,
                    index,
                    launch.kernel.name,
                    launch.source,
                    places.get(launch.source),
                    peak_dtype(launch),
                    calls,
                    nanoseconds / 1e9,
                    flops,
                    moved,
                )
            )
        return found


class Session:
    """What is measured between the beginning and the end of a `measuring()` block. `log`: keep the runs of launches one
    by one as well; `outer`: the session of the block around it, which counts the same runs."""

    def __init__(self, log: bool = True, outer: Session | None = None) -> None:
        self.log = log
        self.outer = outer
        self.runs: list[LaunchRun] = []
        self.dropped = 0
        # What calls leave, in flat lists: the fields of a `CallRun`; by graph the sizes of what they allocated.
        self._calls: list[Any] = []
        self._allocated: defaultdict[str, list[int]] = defaultdict(list)
        self._programs: dict[int, tuple[MeasuredProgram, Array]] = {}
        self._lock = Lock()
        self._finished: list[tuple[CompiledGraph, list[LaunchTime]]] | None = None

    def variant(self, graph: CompiledGraph) -> CompiledGraph:
        """What to run in the graph's place."""
        if self.outer is not None:
            self.outer.variant(graph)
        with self._lock:
            found = self._programs.get(id(graph))
            if found is None:
                program = measured_program(graph)
                found = self._programs[id(graph)] = (program, program.counters)
                if self.log:
                    program.start_log()
                    program.compiled.empty = self._counted_empty(graph)
        return found[0].compiled

    def timed(self, graph: CompiledGraph, invoke: Invoke) -> Invoke:
        """`invoke`, noting its calls as those of the graph."""
        name, note = graph.traced.name, self._calls.extend
        clock, thread = time.perf_counter_ns, threading.get_ident

        def timed_invoke(record: int, objects: int) -> int:
            begin = clock()
            status = invoke(record, objects)
            note((name, begin, clock(), thread()))
            return status

        return timed_invoke

    @property
    def calls(self) -> list[CallRun]:
        """The calls, in the order they ended."""
        fields = iter(self._calls)
        return [CallRun(*four) for four in zip(*[fields] * 4, strict=True)]

    def allocate(self, graph: CompiledGraph, size: int) -> None:
        """Note that a call of the graph made an arena or a result of `size` bytes."""
        self._allocated[graph.traced.name].append(size)

    @property
    def allocated(self) -> dict[str, int]:
        """Bytes of arenas and results, by the graph's name."""
        return {name: sum(sizes) for name, sizes in self._allocated.items() if sizes}

    def _counted_empty(self, graph: CompiledGraph) -> Callable[..., Array]:
        note, plain = self._allocated[graph.traced.name].append, allocator.empty

        def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
            array = plain(shape, dtype)
            note(array.nbytes)
            return array

        return empty

    def finish(self) -> None:
        """Read the counters and logs for the last time."""
        self._finished = self._read()
        for program, _ in self._programs.values() if self.log else ():
            program.compiled.empty = allocator.empty
            runs, dropped = program.stop_log()
            self.runs += runs
            self.dropped += dropped

    def by_graph(self) -> list[tuple[CompiledGraph, list[LaunchTime]]]:
        """The graphs that ran, each with its launches."""
        return self._read() if self._finished is None else self._finished

    def launch_times(self) -> list[LaunchTime]:
        """The launches of all graphs, those that never ran too."""
        return [line for _, lines in self.by_graph() for line in lines]

    def of(self, graph: CompiledGraph) -> list[LaunchTime] | None:
        """The launches of one graph; None if it has not run."""
        return next((lines for known, lines in self.by_graph() if known is graph), None)

    def _read(self) -> list[tuple[CompiledGraph, list[LaunchTime]]]:
        return [(p.original, p.launch_times(before)) for p, before in list(self._programs.values())]


_active: Session | None = None


def active() -> Session | None:
    """The session of the `measuring()` block that is open."""
    return _active


@contextmanager
def measuring(log: bool = True) -> Iterator[Session]:
    """Measure the calls of compiled functions, in all threads, that are bound inside the block (a compiled function's
    bindings are dropped by whoever opens it). RuntimeError inside a block that keeps a log: there is one for each
    program."""
    global _active
    outer = _active
    if outer is not None and outer.log:
        raise RuntimeError("kernels are being measured already: profilers do not nest")
    _active = session = Session(log, outer)
    try:
        yield session
    finally:
        _active = outer
        session.finish()


def measured_program(graph: CompiledGraph) -> MeasuredProgram:
    """The graph's measuring variant; the same object for the same graph."""
    if graph.measured is None:
        graph.measured = MeasuredProgram(graph)
    found: MeasuredProgram = graph.measured
    return found


def peak_dtype(launch: Launch) -> str:
    """The float type whose peak bounds the launch: what it multiplies in tile registers, bf16 or i8; f64 where it writes
    that, else f32 (what is narrower is computed in it); "" for a host call."""
    kernel = launch.kernel
    if isinstance(kernel, HostCall):
        return ""
    if any(b.space == "tile" for b in kernel.locals):
        return "bf16" if any(b.space == "tile" and b.dtype is dtypes.f32 for b in kernel.locals) else "i8"
    written = [p.dtype.name for p in kernel.params if p.name in kernel.writes]
    return "f64" if "f64" in written else "f32"


def group_locations(graph: CompiledGraph) -> dict[str, Location | None]:
    """The user's line of each fused group, by name."""
    return {node.attrs["name"]: node.location for node in group_nodes(graph.stages[-1])}


__all__ = [
    "CallRun", "LaunchRun", "LaunchTime", "MeasuredProgram", "Session", "active", "group_locations",
    "measured_program", "measuring", "peak_dtype",
]  # fmt: skip
