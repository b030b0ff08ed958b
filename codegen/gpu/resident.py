"""Scans as resident kernels: the launches of all steps as one, whose blocks stay and wait for each other.

A step of a recurrent network is a few small kernels, and the time between launches is longer than they take. Here each
of them is a block loop of one kernel, inside a loop over the steps; between block loops all blocks meet. The blocks are
at most as many as the machine has multiprocessors, so that all of them can be there at once; what a kernel has more,
they do in turns. The launches stay in the program, for devices where the kernel does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir import dims
from ...ir.dims import DimLike, Symbol
from ..loops.moved import moved
from ..loops.nodes import Buffer, Check, For, Kernel, Launch, Program, Repeat, Stmt, part_start, whole
from ..loops.walk import statements
from ..target import GpuTarget
from .grid import most
from .staying import MOST_TURNS


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


@dataclass(frozen=True)
class _Part:
    """A kernel of the resident one, and its arguments."""

    kernel: Kernel
    args: tuple[Buffer, ...]

    @property
    def blocks(self) -> int:
        assert self.kernel.grid is not None
        return most(self.kernel.grid.extent)


def _at_once(program: Program, repeat: Repeat, target: GpuTarget) -> Launch | None:
    launches = program.launches[repeat.first : repeat.end]
    first, each = _parts(launches, repeat.var)
    if first:
        found = _resident(repeat, launches, first, each, target)
        if found is not None:
            return found
    each = [_Part(x.kernel, x.args) for x in launches if isinstance(x.kernel, Kernel)]
    return _resident(repeat, launches, [], each, target)


def _parts(launches: Sequence[Launch], var: str) -> tuple[list[_Part], list[_Part]]:
    """What is done before the steps, and in each, where kernels keep what does not change."""
    first: list[_Part] = []
    each: list[_Part] = []
    written = {
        whole(b) for x in launches for p, b in zip(x.kernel.params, x.args) if p.name in x.kernel.writes
    }
    at = 0
    while at < len(launches):
        kernel = launches[at].kernel
        assert isinstance(kernel, Kernel)
        staying = kernel.staying
        if staying is not None:
            given = [
                tuple(launches[at + n].args[i] for n, i in of)
                for of in (staying.first_args, staying.each_args)
            ]
            steady = not any(whole(b) in written or _moves(b, var) for b in given[0])
            if steady:
                first.append(_Part(staying.first, given[0]))
                each.append(_Part(staying.each, given[1]))
                at += staying.instead
                continue
        each.append(_Part(kernel, launches[at].args))
        at += 1
    return first, each


def _moves(arg: Buffer, var: str) -> bool:
    return any(s.name == var for s in dims.symbols(part_start(arg)))


def _resident(
    repeat: Repeat, launches: Sequence[Launch], first: list[_Part], each: list[_Part], target: GpuTarget
) -> Launch | None:
    """The kernel that does `first`, then `each` in every step; None where it is too large."""
    parts = [*first, *each]
    extents = [part.blocks for part in parts]
    if max(extents, default=0) > MOST_TURNS * target.multiprocessors:
        return None
    resident = max(1, min(max(extents), target.multiprocessors))
    if _shared_bytes(parts, resident) > target.most_shared_bytes:
        return None
    memory = tuple(dict.fromkeys(whole(b) for part in parts for b in part.args))
    params = {buffer: Buffer(buffer.name, buffer.dtype, (buffer.numel,)) for buffer in memory}
    names = {p.name for p in params.values()}
    loops: list[tuple[Stmt, ...]] = []
    kept: dict[Buffer, Buffer] = {}
    locals_: list[Buffer] = []
    written: set[str] = set()
    symbols: dict[str, Symbol] = {s.name: s for s in dims.symbols(repeat.count)}
    for number, part in enumerate(parts):
        kernel = part.kernel
        own = {b: kept.get(b) or _renamed(b, f"{b.name}.{number}", names) for b in kernel.locals}
        kept |= {b: new for b, new in own.items() if b.space == "resident"}
        places: dict[Buffer, tuple[Buffer, DimLike]] = {}
        for param, arg in zip(kernel.params, part.args):
            start = part_start(arg)
            places[param] = params[whole(arg)], start
            symbols |= {s.name: s for value in (start, arg.numel) for s in dims.symbols(value)}
            if param.name in kernel.writes:
                written.add(whole(arg).name)
        loops.append(_over(kernel, own, places))
        locals_ += own.values()
        symbols |= {s.name: s for s in kernel.dims}
    symbols.pop(repeat.var, None)
    kernel = Kernel(
        f"{_stem(launches)}_steps",
        tuple(params.values()),
        frozenset(written),
        (*sum(loops[: len(first)], ()), For(repeat.var, repeat.count, sum(loops[len(first) :], ()))),
        tuple(symbols[name] for name in sorted(symbols)),
        tuple(dict.fromkeys(locals_)),
        comment=f"{len(each)} kernels a step, by {resident} blocks that stay"
        + (", and keep what does not change" if first else ""),
        resident=resident,
    )
    return Launch(kernel, memory, launches[0].source)


def _shared_bytes(parts: Sequence[_Part], resident: int) -> int:
    """Shared memory of a block."""
    total = 0
    for buffer in {b for part in parts for b in part.kernel.locals}:
        if buffer.space in ("shared", "resident"):
            size = buffer.nbytes
            assert isinstance(size, int)
            if buffer.space == "resident":
                blocks = buffer.shape[0]
                assert isinstance(blocks, int)
                size = size // blocks * -(-blocks // resident)
            total += -(-size // 16) * 16
    return total


def _over(
    kernel: Kernel, own: Mapping[Buffer, Buffer], places: Mapping[Buffer, tuple[Buffer, DimLike]]
) -> tuple[Stmt, ...]:
    """The kernel's body with other locals, and each param at its place in another buffer."""

    def place(buffer: Buffer, index: tuple[DimLike, ...]) -> tuple[Buffer, tuple[DimLike, ...]]:
        if buffer in places:
            target, start = places[buffer]
            return target, (start + buffer.offset(index),)
        return own[buffer], index

    return moved(kernel.body, place)


def _stem(launches: Sequence[Launch]) -> str:
    return launches[0].source.partition("_fused")[0] or "scan"


def _renamed(buffer: Buffer, name: str, names: set[str]) -> Buffer:
    while name in names:
        name += "_"
    names.add(name)
    return Buffer(name, buffer.dtype, buffer.shape, buffer.space)


__all__ = ["with_resident_scans"]
