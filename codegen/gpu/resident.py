"""Scans as resident kernels: the launches of all steps as one, whose blocks stay and wait for each other.

A step of a recurrent network is a few small kernels, and the time between launches is longer than they take. Here each
of them is a block loop of one kernel, inside a loop over the steps; between block loops all blocks meet. The blocks are
at most as many as the machine has multiprocessors, so that all of them can be there at once; what a kernel has more,
they do in turns. The launches stay in the program, for devices where the kernel does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ...ir import dims
from ...ir.dims import DimLike, Symbol
from ..loops.nodes import Buffer, Check, For, Kernel, Launch, Load, Part, Program, Repeat, Stmt, Store, whole
from ..loops.walk import statements
from ..target import GpuTarget
from .grid import most

# Turns that the blocks take at most to do a step's largest kernel: beyond, they would be too few to hide their loads.
MOST_TURNS = 2


def with_resident_scans(program: Program, target: GpuTarget) -> Program:
    """The program, whose repeats have a resident kernel where that can be."""
    found = tuple(
        replace(repeat, at_once=_at_once(program, repeat, target)) if _is_plain(program, repeat) else repeat
        for repeat in program.repeats
    )
    return replace(program, repeats=found) if found != program.repeats else program


def _is_plain(program: Program, repeat: Repeat) -> bool:
    """Whether its launches are nothing but kernels that cannot fail, on memory that is there before."""
    launches = program.launches[repeat.first : repeat.end]
    others = [r for r in program.repeats if r is not repeat]
    return (
        most(repeat.count) > 1
        and not any(r.first < repeat.end and repeat.first < r.end for r in others)
        and not any(whole(b) in program.late for launch in launches for b in launch.args)
        and all(isinstance(launch.kernel, Kernel) and _can_meet(launch.kernel) for launch in launches)
    )


def _can_meet(kernel: Kernel) -> bool:
    # What the copy engine reads must not have been written by the same kernel, unless it is told.
    return kernel.grid is not None and not kernel.maps and not _has_checks(kernel)


def _has_checks(kernel: Kernel) -> bool:
    return any(isinstance(stmt, Check) for stmt in statements(kernel.body))


def _at_once(program: Program, repeat: Repeat, target: GpuTarget) -> Launch | None:
    launches = program.launches[repeat.first : repeat.end]
    extents = [most(launch.kernel.grid.extent) for launch in launches if launch.kernel.grid is not None]
    if max(extents, default=0) > MOST_TURNS * target.multiprocessors:
        return None
    resident = max(1, min(max(extents), target.multiprocessors))
    memory = tuple(dict.fromkeys(whole(b) for launch in launches for b in launch.args))
    params = {buffer: Buffer(buffer.name, buffer.dtype, (buffer.numel,)) for buffer in memory}
    names = {p.name for p in params.values()}
    loops: list[Stmt] = []
    locals_: list[Buffer] = []
    written: set[str] = set()
    symbols: dict[str, Symbol] = {s.name: s for s in dims.symbols(repeat.count)}
    for number, launch in enumerate(launches):
        kernel = launch.kernel
        assert isinstance(kernel, Kernel)
        own = {b: _renamed(b, f"{b.name}.{number}", names) for b in kernel.locals}
        places: dict[Buffer, tuple[Buffer, DimLike]] = {}
        for param, arg in zip(kernel.params, launch.args):
            start = _start(arg)
            places[param] = params[whole(arg)], start
            symbols |= {s.name: s for value in (start, arg.numel) for s in dims.symbols(value)}
            if param.name in kernel.writes:
                written.add(whole(arg).name)
        loops += _moved(kernel.body, own, places)
        locals_ += own.values()
        symbols |= {s.name: s for s in kernel.dims}
    symbols.pop(repeat.var, None)
    kernel = Kernel(
        f"{_stem(launches)}_steps",
        tuple(params.values()),
        frozenset(written),
        (For(repeat.var, repeat.count, tuple(loops)),),
        tuple(symbols[name] for name in sorted(symbols)),
        tuple(locals_),
        comment=f"{len(launches)} kernels a step, by {resident} blocks that stay",
        resident=resident,
    )
    return Launch(kernel, memory, launches[0].source)


def _stem(launches: Sequence[Launch]) -> str:
    return launches[0].source.partition("_fused")[0] or "scan"


def _start(arg: Buffer) -> DimLike:
    """The element of the program's buffer at which an argument begins."""
    start: DimLike = 0
    while isinstance(arg, Part):
        start = start + arg.index * arg.numel
        arg = arg.of
    return start


def _renamed(buffer: Buffer, name: str, names: set[str]) -> Buffer:
    while name in names:
        name += "_"
    names.add(name)
    return Buffer(name, buffer.dtype, buffer.shape, buffer.space)


def _moved(
    body: tuple[Stmt, ...], own: Mapping[Buffer, Buffer], places: Mapping[Buffer, tuple[Buffer, DimLike]]
) -> tuple[Stmt, ...]:
    """The statements with other locals, and each param at its place in another buffer."""
    memo: dict[int, Any] = {}

    def place(buffer: Buffer, index: tuple[DimLike, ...]) -> tuple[Buffer, tuple[DimLike, ...]]:
        if buffer in places:
            target, start = places[buffer]
            return target, (start + buffer.offset(index),)
        return own[buffer], index

    def moved(node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(map(moved, node))
        if not is_dataclass(node) or isinstance(node, Buffer | dims.Expr):
            return own.get(node, node) if isinstance(node, Buffer) else node
        key = id(node)
        if key not in memo:
            memo[key] = node, again(node)
        return memo[key][1]

    def again(node: Any) -> Any:
        if isinstance(node, Load):
            return Load(*place(node.buffer, node.index))
        if isinstance(node, Store):
            return Store(*place(node.buffer, node.index), moved(node.value))
        values = {f.name: getattr(node, f.name) for f in fields(node)}
        new = {name: moved(value) for name, value in values.items()}
        same = all(new[name] is value for name, value in values.items())
        return node if same else replace(node, **new)

    found: tuple[Stmt, ...] = moved(body)
    return found


__all__ = ["with_resident_scans"]
