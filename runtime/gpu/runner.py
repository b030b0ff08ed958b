"""Runs of a program on a device: its kernels one after another on the device's stream, or all of them as one launch.

A run that is like earlier ones, with the same addresses, is captured and is one launch from then on. Where the addresses
are others in every call, a capture is not worth its price: the more of them were for nothing, the more equal runs the
next one waits for. A program of one kernel is not captured; its parameters are kept, ready to be launched.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...ir import dims
from .arrays import DeviceArray, DeviceMemory
from .device import CapturedLaunches, Streams
from .plan import HostStep, KernelStep

if TYPE_CHECKING:
    from .loaded import LoadedGpuProgram

# A run with the same addresses as so many before it is captured; so many are kept.
CAPTURE_AFTER = 2
MOST_CAPTURED = 8
# A captured run that was used less often before it had to go was not worth it.
WORTH_CAPTURING = 32
MOST_AWAITED = 1 << 10
# Bytes of the words at an arena's end that a run begins with zeros in: the status, and, in the middle, that at which
# the blocks of resident kernels meet.
WORDS = 256


class Run:
    """What one run leaves besides what it wrote: the results whose sizes it told, by output number, and those sizes."""

    __slots__ = ("outputs", "sizes")

    def __init__(self) -> None:
        self.outputs: dict[int, DeviceArray] = {}
        self.sizes: dict[str, int] = {}


# Of runs that tell nothing; it stays empty.
_NOTHING = Run()


class ReadyRun:
    """A run of a program with certain addresses as one launch, with the memory that it uses. `status`: the address of
    the word that is to be read after it, 0 where there is none."""

    __slots__ = ("arena", "launch", "status", "used")

    def __init__(self, launches: CapturedLaunches, arena: DeviceMemory, status: int):
        self.launch = launches.launch
        self.arena = arena
        self.status = status
        self.used = 0


class Runner:
    """Runs of a program with these dims: for callers whose runs have addresses in common, and must be told apart by the
    others only.

    alone: there is one run at a time. Then all runs of a stream but the very first have one arena, which stays: what
    uses it next comes later on the stream."""

    def __init__(self, graph: LoadedGpuProgram, bindings: Mapping[str, int], alone: bool = False):
        self.graph = graph
        self._dims = dict(bindings)
        self._steps = None if graph.told else list(graph.plan.bound(self._dims, graph.fitting))
        self._streams = graph.gpu.streams if self._steps and not graph.calls else None
        self._checks = bool(graph.plan.messages)
        self._words = WORDS if self._checks or graph.fitting else 0
        self._no_status = graph.gpu.status_word
        self._ready: dict[Hashable, ReadyRun] = {}
        self._runs: dict[Hashable, int] = {}
        self._capture_after = CAPTURE_AFTER
        self._alone = alone and self._streams is not None
        self._again = False
        self._arenas: dict[int, DeviceMemory] = {}  # by stream

    def run(
        self,
        addresses: Sequence[int],
        key: tuple[int, ...],
        accepts: Callable[[Mapping[str, int]], bool] | None = None,
    ) -> Run:
        """Run as `GpuGraph.run`, on these addresses of inputs and outputs. `key`: the stream, and those that differ from
        run to run."""
        if self._streams is not None:
            ready = self._ready.get(key) or self._make_ready(self._streams, key, addresses)
            if ready is not None:
                ready.used += 1
                ready.launch()
                if ready.status:
                    self.graph.check(ready.status, [*addresses, ready.arena.address], self._dims)
                return _NOTHING
        return self._step_by_step(addresses, accepts)

    def _step_by_step(
        self, addresses: Sequence[int], accepts: Callable[[Mapping[str, int]], bool] | None
    ) -> Run:
        graph, checks = self.graph, self._checks
        known = dict(self._dims)
        arena = self._arena(known)
        status, meeting = self._begin(arena)
        bases = [*addresses, arena.address, *(0 for _ in graph.calls)]
        held: list[DeviceMemory] = [arena]
        result = Run()
        for step in graph.plan.bound(known, graph.fitting) if self._steps is None else self._steps:
            if isinstance(step, HostStep):
                if checks:
                    graph.check(status, bases, known)
                graph.host_call(step, bases, known, result, held, accepts)
            else:
                graph.launch(step, bases, status, meeting)
        if checks:
            graph.check(status, bases, known)
        return result

    def _arena(self, known: Mapping[str, int]) -> DeviceMemory:
        """Memory for a run, the words at its end. It may go back as soon as the run is launched."""
        gpu, size = self.graph.gpu, dims.evaluate(self.graph.plan.arena_bytes, known) + self._words
        found = self._arenas.get(gpu.stream)
        if found is None:
            found = DeviceMemory(gpu, size)
            if self._alone and self._again:
                self._arenas[gpu.stream] = found
            self._again = True
        return found

    def _begin(self, arena: DeviceMemory) -> tuple[int, int]:
        """Zeros in the words, where a run has such; the addresses of the status and of the word at which blocks meet."""
        words = arena.address + arena.nbytes - self._words
        if self._words:
            self.graph.gpu.device.fill(words, 0, WORDS)
        return words if self._checks else self._no_status, words + WORDS // 2

    def _make_ready(
        self, streams: Streams, key: tuple[int, ...], addresses: Sequence[int]
    ) -> ReadyRun | None:
        """The run as one launch, where that pays."""
        assert self._steps is not None
        if len(self._steps) == 1 and not self._words:
            arena = self._arena(self._dims)
            bases = [*addresses, arena.address]
            launches = self.graph.ready(streams, self._steps[0], bases, self._no_status)
            if len(self._ready) >= MOST_CAPTURED:
                self._ready.clear()
            ready = self._ready[key] = ReadyRun(launches, arena, 0)
            return ready
        if len(self._runs) >= 64 * MOST_CAPTURED:
            self._runs.clear()
        before = self._runs.get(key, 0)
        self._runs[key] = before + 1
        if before < self._capture_after:
            return None
        while len(self._ready) >= MOST_CAPTURED:
            oldest = self._ready.pop(next(iter(self._ready)))
            worth = oldest.used >= WORTH_CAPTURING
            self._capture_after = CAPTURE_AFTER if worth else min(2 * self._capture_after, MOST_AWAITED)
        arena = self._arena(self._dims)
        with streams.capture() as recorded:
            status, meeting = self._begin(arena)
            for step in self._steps:
                assert isinstance(step, KernelStep)
                self.graph.launch(step, [*addresses, arena.address], status, meeting)
        ready = self._ready[key] = ReadyRun(recorded, arena, status if self._checks else 0)
        return ready
