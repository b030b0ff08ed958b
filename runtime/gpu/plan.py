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

from ...codegen.loops.nodes import Buffer, HostCall, Kernel, Part, Program
from ...codegen.loops.repeats import Block, Step, program_steps
from ...codegen.ptx import PtxLaunch, PtxProgram
from ...ir import dims
from ...ir.dims import DimLike
from ..host_calls import host_calls_data
from .tensor_maps import BoundMap, map_data, map_plan

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
        whole = None if at_once is None else _launch_data(ptx, at_once)
        inner = [_step_data(ptx, s) for s in step.steps]
        return ["repeat", repeat.var, dims.to_data(repeat.count), inner, whole]
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
    offset: DimLike = 0
    while isinstance(buffer, Part):
        offset = offset + buffer.index * buffer.nbytes
        buffer = buffer.of
    inputs, outputs = len(program.inputs), len(program.outputs)
    if buffer in program.inputs:
        number = program.inputs.index(buffer)
    elif buffer in program.outputs:
        number = inputs + program.outputs.index(buffer)
    elif buffer in program.lenders:
        number = inputs + program.outputs.index(program.lenders[buffer])
        offset = offset + program.offsets[buffer.name]
    else:
        call = program.late.get(buffer)
        number = inputs + outputs + (0 if call is None else 1 + call)
        offset = offset + program.offsets[buffer.name]
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


class Plan:
    """A program's steps, with the dims parsed."""

    def __init__(self, data: Mapping[str, Any]):
        self.steps = [_parsed(step) for step in data["steps"]]
        self.arena_bytes = dims.from_data(data["arena_bytes"])
        self.messages: Mapping[str, str] = data["messages"]
        self.host_calls: Sequence[Mapping[str, Any]] = data["host_calls"]
        self.functions = sorted(set(_functions(self.steps)))
        # Of a launch that does all of a repeat: function, blocks, threads, bytes of shared memory.
        self.resident = [tuple(step[1:5]) for step in _resident(self.steps)]

    def bound(
        self, bindings: Bindings, fitting: Container[str] = frozenset()
    ) -> Iterator[KernelStep | HostStep]:
        """The steps in order. Each is made when it is asked for, with what `bindings` then is: host calls tell dims.
        Repeats that one of the `fitting` functions does are its launch."""
        return _bound(self.steps, bindings, {}, fitting)


def _parsed(step: Sequence[Any]) -> tuple[Any, ...]:
    kind = step[0]
    if kind == "repeat":
        whole = None if step[4] is None else _parsed(step[4])
        return kind, step[1], dims.from_data(step[2]), [_parsed(s) for s in step[3]], whole
    if kind == "host":
        return kind, step[1], _parsed_places(step[2])
    return (
        kind,
        step[1],
        dims.from_data(step[2]),
        step[3],
        step[4],
        _parsed_places(step[5]),
        step[6],
        [map_plan(data) for data in step[7]],
        step[8],
    )


def _parsed_places(places: Sequence[Any]) -> tuple[tuple[int, DimLike], ...]:
    return tuple((number, dims.from_data(offset)) for number, offset in places)


def _functions(steps: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    for step in steps:
        if step[0] == "repeat":
            yield from _functions([*step[3], *filter(None, [step[4]])])
        elif step[0] == "kernel":
            yield step[1]


def _resident(steps: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    for step in steps:
        if step[0] == "repeat":
            yield from _resident(step[3])
            if step[4] is not None:
                yield step[4]


def _bound(
    steps: Sequence[tuple[Any, ...]], bindings: Bindings, turn: Bindings, fitting: Container[str]
) -> Iterator[KernelStep | HostStep]:
    for step in steps:
        known = {**bindings, **turn} if turn else bindings
        if step[0] == "repeat":
            _, var, count, inner, whole = step
            if whole is not None and whole[1] in fitting:
                yield from _bound([whole], bindings, turn, fitting)
                continue
            for i in range(dims.evaluate(count, known)):
                yield from _bound(inner, bindings, {**turn, var: i}, fitting)
        elif step[0] == "host":
            yield HostStep(step[1], _bound_places(step[2], known))
        else:
            _, function, grid, threads, shared, places, names, maps, resident = step
            values = tuple(known[name] for name in names)
            yield KernelStep(
                function,
                dims.evaluate(grid, known),
                threads,
                shared,
                _bound_places(places, known),
                values,
                tuple(seen.bound(known) for seen in maps),
                resident,
            )


def _bound_places(places: Sequence[tuple[int, DimLike]], bindings: Bindings) -> tuple[tuple[int, int], ...]:
    return tuple((number, dims.evaluate(offset, bindings)) for number, offset in places)
