"""Programs that compute the same, timed against each other.

On a machine that does other things too, one run says little: contenders run in turns, so that what disturbs one
disturbs all, and of each the shortest run counts. Who is clearly behind leaves early. The model's favourite loses only
to one that beats it in two further races by more than noise.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import numpy as np

from ..codegen.loops.nodes import PREPARED_HEADER, Buffer, Program
from ..ir import dims
from .loading import LoadedProgram

Array = np.ndarray[Any, Any]

# Seconds of one sample, about, and how many runs it has at most.
SAMPLE = 1e-3
MOST_RUNS = 256
# Samples of each contender before a race is over: fewer where all of them take longer than this in seconds, but so many
# at least. After how many one leaves, and how far behind it is then.
SAMPLES = 24
RACE = 1.0
LEAST_SAMPLES = 4
LEAVING = {1: 3.0, 4: 1.5, 8: 1.2, 16: 1.08}
# What a contender has to be better by than the favourite, as a part of the favourite's time.
MARGIN = 0.03
# Weights that other layers' weights have pushed out of the core's own caches: copies are used in turns, of so many
# times the second-level cache in all.
TURNS = 3
MOST_COPIES = 16


class Contender(Protocol):
    """A way to compute something."""

    @property
    def program(self) -> Program: ...

    def run(self, runs: int) -> None:
        """Run it so often."""
        ...


class Clock(Protocol):
    """Where times come from: the machine's, or a test's."""

    def now(self) -> float:
        """Seconds since some moment."""
        ...

    def seconds(self, contender: Contender, runs: int) -> float:
        """What `runs` runs take."""
        ...


class MachineClock:
    """The machine's. What runs on one thread is timed by the CPU time of that, which leaves out what others take."""

    def __init__(self, threads: int):
        self._clock = time.thread_time if threads == 1 else time.perf_counter

    def now(self) -> float:
        return time.perf_counter()

    def seconds(self, contender: Contender, runs: int) -> float:
        start = self._clock()
        contender.run(runs)
        return self._clock() - start


@dataclass(frozen=True)
class Result:
    """Of a race: the seconds of a run of each contender (the shortest sample's; None of one that was not run) and the
    number of the winner; `finished` is False where time was up before that was settled, and the favourite has won."""

    seconds: tuple[float | None, ...]
    winner: int = 0
    finished: bool = True


def race(contenders: Sequence[Contender], clock: Clock, deadline: float) -> Result:
    """The first contender is the favourite."""
    best = [clock.seconds(c, 1) for c in contenders]
    unknown = Result(tuple(best), finished=False)
    runs = [max(1, min(MOST_RUNS, ceil(SAMPLE / max(t, 1e-9)))) for t in best]
    running = list(range(len(contenders)))
    for turn in range(1, _samples([t * n for t, n in zip(best, runs)]) + 1):
        for n in _in_turns(running, turn):
            best[n] = min(best[n], clock.seconds(contenders[n], runs[n]) / runs[n])
            if clock.now() > deadline:
                return unknown
        bound = LEAVING.get(turn, float("inf")) * min(best)
        running = [n for n in running if best[n] <= bound or n == 0]
    winner = min(running, key=best.__getitem__)
    for _ in range(2 if winner else 0):
        final = {n: float("inf") for n in (0, winner)}
        for turn in range(_samples([best[n] * runs[n] for n in final])):
            for n in _in_turns(list(final), turn):
                final[n] = min(final[n], clock.seconds(contenders[n], runs[n]) / runs[n])
            if clock.now() > deadline:
                return unknown
        for n, seconds in final.items():
            best[n] = min(best[n], seconds)
        if final[winner] > (1 - MARGIN) * final[0]:
            return Result(tuple(best))
    return Result(tuple(best), winner)


def _samples(seconds: Sequence[float]) -> int:
    """How many samples to take of contenders whose samples take that long."""
    return max(LEAST_SAMPLES, min(SAMPLES, int(RACE / max(sum(seconds), 1e-9))))


def _in_turns(numbers: list[int], turn: int) -> list[int]:
    """The numbers, beginning with another in every turn."""
    start = turn % len(numbers)
    return [*numbers[start:], *numbers[:start]]


class Data:
    """Made-up data for programs that compute the same: arrays for their inputs, outputs and arenas. `steady` names the
    inputs that hold weights; where they are `cold`, there are copies of them, so that the caches of a core do not have
    the one that is used next."""

    def __init__(
        self,
        programs: Sequence[Program],
        bindings: Mapping[str, int],
        steady: Sequence[str],
        cold: bool,
        l2: int,
    ):
        program = programs[0]
        self.bindings = bindings
        generator = np.random.default_rng(0)
        first = [_numbers(b, bindings, generator) for b in program.inputs]
        self.outputs = [np.empty(_shape(b, bindings), b.dtype.numpy) for b in program.outputs]
        self.arena = _aligned(max(dims.evaluate(p.arena_bytes, bindings) for p in programs))
        held = [b.name in steady for b in program.inputs]
        weights = sum(a.nbytes for a, mine in zip(first, held) if mine)
        copies = min(MOST_COPIES, ceil(TURNS * l2 / weights)) if cold and weights else 1
        self.inputs = [first]
        for _ in range(copies - 1):
            self.inputs.append([a.copy() if mine else a for a, mine in zip(first, held)])


class Runner:
    """A loaded program that has run on the data once, so that what is made once is made."""

    def __init__(self, program: Program, native: LoadedProgram, threads: int, data: Data):
        self.program = program
        self._native = native
        self._threads = threads
        self._data = data
        values = [data.bindings[d.name] for d in program.dims]
        self._dims = (ctypes.c_int64 * max(1, len(values)))(*values)
        self._outputs = _addresses(data.outputs)
        self._prepared = [_aligned(program.prepared_bytes) for _ in data.inputs]
        self._inputs = [_addresses([*i, p]) for i, p in zip(data.inputs, self._prepared)]
        self._at = 0
        self.run(len(self._inputs))

    def run(self, runs: int) -> None:
        """Run it so often, on one copy of the weights after the other."""
        arena, values = self._data.arena.ctypes.data, ctypes.addressof(self._dims)
        for _ in range(runs):
            code = self._native.run(self._inputs[self._at], self._outputs, arena, values, self._threads)
            if code:
                raise RuntimeError(f"{self.program.name}: status {code} on data made up to time it")
            prepared = self._prepared[self._at]
            if len(prepared) >= PREPARED_HEADER:
                prepared[:8].view(np.int64)[0] = 1
            self._at = (self._at + 1) % len(self._inputs)


def _numbers(buffer: Buffer, bindings: Mapping[str, int], generator: np.random.Generator) -> Array:
    """Numbers from -1 to 1; zeros where they are integers, which may be positions."""
    shape, dtype = _shape(buffer, bindings), buffer.dtype
    if not dtype.is_floating_point:
        return np.zeros(shape, dtype.numpy)
    return generator.uniform(-1, 1, shape).astype(np.float32).astype(dtype.numpy)


def _shape(buffer: Buffer, bindings: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(dims.evaluate(d, bindings) for d in buffer.shape)


def _aligned(nbytes: int) -> Array:
    """Zeros at a multiple of 64."""
    memory = np.zeros(nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + nbytes]


def _addresses(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
