"""What a PTX program does when it runs, as data that the disk cache keeps: launches with the places of their arguments,
repeats, host calls; and the same made ready for given values of the dims.

A place is a number and an offset: an input's, an output's, the arena's, or that of the memory which a host call
allocates (`Program.late`), counted in this order. A step is one of

    ["kernel", function, grid, threads, shared bytes, [place, ...], [dim name, ...], [map, ...], whether resident]
    ["host", number of the call, [place, ...]]
    ["repeat", variable, count, [step, ...], step that does all of it where the device can, or None]
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...codegen.loops.nodes import Buffer, HostCall, Kernel, Program, part_start, whole
from ...codegen.loops.repeats import Block, Step, program_steps
from ...codegen.ptx import PtxLaunch, PtxProgram
from ...ir import dims
from ...ir.dims import DimLike
from ..host_calls import host_calls_data
from .tensor_maps import BoundMap, MapPlan, map_data, map_plan

Bindings = Mapping[str, int]


def plan_data(ptx: PtxProgram) -> dict[str, Any]:
    """What a fresh process needs besides the PTX text to run the program, as data for JSON."""
    program = ptx.program
    calls = host_calls_data(program)
    for data, call in zip(calls, program.host_calls):
        data["location"] = str(call.location) if call.location else ""
    return {
        "inputs": len(program.inputs),
        "steps": [_step_data(ptx, step) for step in program_steps(program)],
        "arena_bytes": dims.to_data(program.arena_bytes),
        "messages": {str(code): text for code, text in program.messages.items()},
        "host_calls": calls,
    }


def _step_data(ptx: PtxProgram, step: Step) -> list[Any]:
    if isinstance(step, Block):
        repeat = step.repeat
        at_once = ptx.at_once.get(repeat)
        steps = [_step_data(ptx, s) for s in step.steps]
        instead = None if at_once is None else _launch_data(ptx, at_once)
        return ["repeat", repeat.var, dims.to_data(repeat.count), steps, instead]
    number, launch = step
    places = [_place(ptx.program, buffer) for buffer in launch.args]
    if isinstance(launch.kernel, HostCall):
        return ["host", ptx.program.host_calls.index(launch.kernel), places]
    emitted = ptx.launches[number]
    assert isinstance(emitted, PtxLaunch)
    return _launch_data(ptx, emitted)


def _launch_data(ptx: PtxProgram, emitted: PtxLaunch) -> list[Any]:
    launch = emitted.launch
    assert isinstance(launch.kernel, Kernel)
    places = [_place(ptx.program, buffer) for buffer in launch.args]
    names = [symbol.name for symbol in launch.kernel.dims]
    grid = dims.to_data(emitted.grid)
    params = launch.kernel.params
    maps = [map_data(seen, params.index(seen.buffer)) for seen in launch.kernel.maps]
    shape = [emitted.function, grid, emitted.threads, emitted.shared_bytes]
    return ["kernel", *shape, places, names, maps, emitted.resident]


def _place(program: Program, buffer: Buffer) -> list[Any]:
    root, inputs, outputs = whole(buffer), len(program.inputs), len(program.outputs)
    offset = part_start(buffer) * buffer.dtype.itemsize
    if root in program.inputs:
        number = program.inputs.index(root)
    elif root in program.outputs:
        number = inputs + program.outputs.index(root)
    elif root in program.lenders:
        number = inputs + program.outputs.index(program.lenders[root])
        offset = offset + program.offsets[root.name]
    else:
        call = program.late.get(root)
        number = inputs + outputs + (0 if call is None else 1 + call)
        offset = offset + program.offsets[root.name]
    return [number, dims.to_data(offset)]


@dataclass(frozen=True)
class KernelStep:
    """A launch whose arguments are `bases[place] + offset`, then tensor maps, each of the argument of that number and
    from so many bytes behind it on, then the dims."""

    function: str
    grid: int
    threads: int
    shared_bytes: int
    places: tuple[tuple[int, int], ...]
    dims: tuple[int, ...]
    maps: tuple[tuple[int, BoundMap], ...] = ()
    resident: bool = False

    def arguments(self, bases: Sequence[int]) -> list[int | BoundMap]:
        """What the kernel takes, but for the status word's address."""
        addresses = [bases[number] + offset for number, offset in self.places]
        if not self.maps:
            return [*addresses, *self.dims]
        maps = [replace(seen, address=addresses[number] + seen.address) for number, seen in self.maps]
        return [*addresses, *maps, *self.dims]


@dataclass(frozen=True)
class HostStep:
    """A host call on buffers at these places."""

    number: int
    places: tuple[tuple[int, int], ...]


# Of a buffer, for any values of the dims.
Place = tuple[int, DimLike]


@dataclass(frozen=True)
class KernelPlan:
    """A kernel's launch; `dims` are the names of those that it takes."""

    function: str
    grid: DimLike
    threads: int
    shared_bytes: int
    places: tuple[Place, ...]
    dims: tuple[str, ...]
    maps: tuple[MapPlan, ...]
    resident: bool

    @staticmethod
    def parsed(step: Sequence[Any]) -> KernelPlan:
        _, function, grid, threads, shared_bytes, places, names, maps, resident = step
        return KernelPlan(
            function,
            dims.from_data(grid),
            threads,
            shared_bytes,
            _parsed_places(places),
            tuple(names),
            tuple(map(map_plan, maps)),
            resident,
        )

    def bound(self, known: Bindings) -> KernelStep:
        return KernelStep(
            self.function,
            dims.evaluate(self.grid, known),
            self.threads,
            self.shared_bytes,
            _bound_places(self.places, known),
            tuple(known[name] for name in self.dims),
            tuple(seen.bound(known) for seen in self.maps),
            self.resident,
        )


@dataclass(frozen=True)
class HostPlan:
    """A host call by its number."""

    number: int
    places: tuple[Place, ...]

    def bound(self, known: Bindings) -> HostStep:
        return HostStep(self.number, _bound_places(self.places, known))


@dataclass(frozen=True)
class RepeatPlan:
    """Steps that are done `count` times, with `var` for the number of the turn; `at_once`: the launch that does all of
    it where the device can."""

    var: str
    count: DimLike
    steps: tuple[StepPlan, ...]
    at_once: KernelPlan | None


StepPlan = KernelPlan | HostPlan | RepeatPlan


class Plan:
    """A program's steps, with the dims parsed."""

    def __init__(self, data: Mapping[str, Any]):
        self.steps = tuple(map(_parsed, data["steps"]))
        self.arena_bytes = dims.from_data(data["arena_bytes"])
        self.messages: Mapping[str, str] = data["messages"]
        self.host_calls: Sequence[Mapping[str, Any]] = data["host_calls"]
        kernels = list(_kernels(self.steps))
        self.functions = sorted({kernel.function for kernel in kernels})
        self.resident = [kernel for kernel in kernels if kernel.resident]

    def bound(
        self, bindings: Bindings, fitting: Container[str] = frozenset()
    ) -> Iterator[KernelStep | HostStep]:
        """The steps in order. Each is made when it is asked for, with what `bindings` then is: host calls tell dims.
        Repeats that one of the `fitting` functions does are its launch."""
        return _bound(self.steps, bindings, {}, fitting)


def _parsed(step: Sequence[Any]) -> StepPlan:
    if step[0] == "kernel":
        return KernelPlan.parsed(step)
    if step[0] == "host":
        return HostPlan(step[1], _parsed_places(step[2]))
    _, var, count, steps, instead = step
    at_once = None if instead is None else KernelPlan.parsed(instead)
    return RepeatPlan(var, dims.from_data(count), tuple(map(_parsed, steps)), at_once)


def _parsed_places(places: Sequence[Any]) -> tuple[Place, ...]:
    return tuple((number, dims.from_data(offset)) for number, offset in places)


def _kernels(steps: Sequence[StepPlan]) -> Iterator[KernelPlan]:
    for step in steps:
        if isinstance(step, KernelPlan):
            yield step
        elif isinstance(step, RepeatPlan):
            yield from _kernels(step.steps)
            if step.at_once is not None:
                yield step.at_once


def _bound(
    steps: Sequence[StepPlan], bindings: Bindings, turn: Bindings, fitting: Container[str]
) -> Iterator[KernelStep | HostStep]:
    for step in steps:
        known = {**bindings, **turn} if turn else bindings
        if not isinstance(step, RepeatPlan):
            yield step.bound(known)
        elif step.at_once is not None and step.at_once.function in fitting:
            yield step.at_once.bound(known)
        else:
            for i in range(dims.evaluate(step.count, known)):
                yield from _bound(step.steps, bindings, {**turn, step.var: i}, fitting)


def _bound_places(places: Sequence[Place], bindings: Bindings) -> tuple[tuple[int, int], ...]:
    return tuple((number, dims.evaluate(offset, bindings)) for number, offset in places)
