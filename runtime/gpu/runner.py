"""Runs of a program on a device: its kernels one after another on the device's stream, or all of them as one launch.

A run that is like earlier ones, with the same addresses, is captured and is one launch from then on. Where the addresses
are others in every call, a capture is not worth its price: the more of them were for nothing, the more equal runs the
next one waits for. Then there is one captured run whose kernels are told the addresses that moved before it is launched.
A program of one kernel is not captured; its parameters are kept, ready to be launched.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir import dims
from .arrays import DeviceArray, DeviceMemory
from .device import Capture, CapturedLaunches, Streams
from .plan import HostStep, KernelStep

if TYPE_CHECKING:
    from .loaded import LoadedGpuProgram

# A run with the same addresses as so many before it is captured; so many are kept.
CAPTURE_AFTER = 2
MOST_CAPTURED = 8
# After so many runs with addresses that had not been there as often, the others of that kind are one captured run too.
CHANGE_AFTER = 8
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


@dataclass
class Changing:
    """A captured run whose kernels can be told other addresses; `bases`: those that they have."""

    capture: Capture
    ready: ReadyRun
    bases: list[int]


class Runner:
    """Runs of a program with these dims: for callers whose runs have addresses in common, and must be told apart by the
    others only.

    alone: there is one run at a time. Then all runs of a stream but the very first have one arena, which stays: what
    uses it next comes later on the stream."""

    def __init__(self, graph: LoadedGpuProgram, bindings: Mapping[str, int], alone: bool = False):
        self.graph = graph
        self._dims = dict(bindings)
        self._steps = None if graph.told else list(graph.plan.bound(self._dims, graph.fitting))
        self._kernels = [s for s in self._steps or () if isinstance(s, KernelStep) and s.grid]
        self._streams = graph.gpu.streams if self._kernels and not graph.calls else None
        self._checks = bool(graph.plan.messages)
        self._words = WORDS if self._checks or graph.fitting else 0
        self._no_status = graph.gpu.status_word
        self._ready: dict[Hashable, ReadyRun] = {}
        self._runs: dict[Hashable, int] = {}
        self._capture_after = CAPTURE_AFTER
        self._alone = alone and self._streams is not None
        self._again = False
        self._arenas: dict[int, DeviceMemory] = {}  # by stream
        self._changing: dict[int, Changing] = {}  # by stream
        self._uncaptured = 0
        self._reads: list[frozenset[int]] = []  # of each kernel, the places whose addresses it takes

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
        """Zeros in the words, where a run has such; `_words_of` the arena."""
        if self._words:
            self.graph.gpu.device.fill(arena.address + arena.nbytes - WORDS, 0, WORDS)
        return self._words_of(arena)

    def _words_of(self, arena: DeviceMemory) -> tuple[int, int]:
        """The addresses of the status and of the word at which blocks meet."""
        words = arena.address + arena.nbytes - self._words
        return words if self._checks else self._no_status, words + WORDS // 2

    def _make_ready(
        self, streams: Streams, key: tuple[int, ...], addresses: Sequence[int]
    ) -> ReadyRun | None:
        """The run as one launch, where that pays."""
        if len(self._kernels) == 1 and not self._words:
            arena = self._arena(self._dims)
            bases = [*addresses, arena.address]
            launched = self.graph.launched(self._kernels[0], bases, self._no_status, 0)
            launches = streams.ready(*launched)
            if len(self._ready) >= MOST_CAPTURED:
                self._ready.clear()
            ready = self._ready[key] = ReadyRun(launches, arena, 0)
            return ready
        if len(self._runs) >= 64 * MOST_CAPTURED:
            self._runs.clear()
        before = self._runs.get(key, 0)
        self._runs[key] = before + 1
        if before < self._capture_after:
            return self._changed(streams, addresses)
        while len(self._ready) >= MOST_CAPTURED:
            oldest = self._ready.pop(next(iter(self._ready)))
            worth = oldest.used >= WORTH_CAPTURING
            self._capture_after = CAPTURE_AFTER if worth else min(2 * self._capture_after, MOST_AWAITED)
        ready = self._ready[key] = self._capture(streams, addresses).ready
        return ready

    def _capture(self, streams: Streams, addresses: Sequence[int], changing: bool = False) -> Changing:
        arena = self._arena(self._dims)
        bases = [*addresses, arena.address]
        with streams.capture() as recorded:
            status, meeting = self._begin(arena)
            for step in self._kernels:
                self.graph.launch(step, bases, status, meeting)
                if changing:
                    recorded.mark()
        return Changing(recorded, ReadyRun(recorded, arena, status if self._checks else 0), bases)

    def _changed(self, streams: Streams, addresses: Sequence[int]) -> ReadyRun | None:
        """The run as the launch of a captured one whose kernels are told these addresses; None as long as there were
        few runs that could have used it."""
        stream = self.graph.gpu.stream
        known = self._changing.get(stream)
        if known is None:
            self._uncaptured += 1
            if self._uncaptured <= CHANGE_AFTER or not self._alone or not streams.changes_captured:
                return None
            self._reads = [frozenset(number for number, _ in step.places) for step in self._kernels]
            known = self._changing[stream] = self._capture(streams, addresses, changing=True)
            return known.ready
        del self._changing[stream]  # an error on the way leaves nothing that could be used
        bases = [*addresses, known.bases[-1]]
        moved = {at for at, (before, now) in enumerate(zip(known.bases, bases)) if before != now}
        status, meeting = self._words_of(known.ready.arena)
        for number, step in enumerate(self._kernels):
            if not moved.isdisjoint(self._reads[number]):
                known.capture.change(number, *self.graph.launched(step, bases, status, meeting))
        known.bases = bases
        self._changing[stream] = known
        return known.ready
