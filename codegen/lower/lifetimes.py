"""From when to when a program's buffers hold something, in launches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ...ir import dims
from ...ir.graph import IRError
from ...passes.memory_plan import Interval
from ..loops.nodes import Buffer, Launch, Part, Program, Repeat, whole
from .inplace import reads_before_writing


def written(launch: Launch) -> set[Buffer]:
    """The program's buffers that a launch may store to; of parts, what they are parts of."""
    return {whole(b) for p, b in zip(launch.kernel.params, launch.args) if p.name in launch.kernel.writes}


def used(launch: Launch) -> tuple[Buffer, ...]:
    """The program's buffers that a launch reads or writes, each once."""
    return tuple(dict.fromkeys(map(whole, launch.args)))


def first_writers(program: Program) -> dict[str, str]:
    """By buffer's name, the group whose launch writes it first."""
    found: dict[str, str] = {}
    for launch in program.launches:
        for param, buffer in zip(launch.kernel.params, launch.args):
            if param.name in launch.kernel.writes:
                found.setdefault(buffer.name, launch.source)
    return found


def intervals_of(
    buffers: Collection[Buffer], launches: Sequence[Launch], repeats: Sequence[Repeat] = ()
) -> Iterable[Interval]:
    """Lifetimes of these buffers alone."""
    others = {b for launch in launches for b in used(launch)}.difference(buffers)
    return memory_intervals(launches, others, repeats)


def memory_intervals(
    launches: Sequence[Launch], outside: Iterable[Buffer], repeats: Sequence[Repeat] = ()
) -> Iterable[Interval]:
    """Lifetimes of the buffers that the launches use, but for those outside the arena.

    What a repeat reads from outside, hands out, or moves through lives as long as the repeat; what is written and read
    within each turn lives from launch to launch, as elsewhere."""
    outside = set(outside)
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    moving: dict[Buffer, set[str]] = {}
    for i, launch in enumerate(launches):
        for buffer in launch.args:
            root = whole(buffer)
            first.setdefault(root, i)
            last[root] = i
            while isinstance(buffer, Part):
                moving.setdefault(root, set()).update(s.name for s in dims.symbols(buffer.index))
                buffer = buffer.of
    born = dict(first)
    stretched = set(moving)
    for repeat in sorted(repeats, key=lambda r: r.end - r.first):
        turns = {b for n in range(repeat.first, repeat.end) for b in used(launches[n])}
        for buffer in turns:
            within = repeat.first <= first[buffer] and last[buffer] < repeat.end
            if within and repeat.var not in moving.get(buffer, ()):
                continue
            stretched.add(buffer)
            first[buffer] = min(first[buffer], repeat.first)
            last[buffer] = max(last[buffer], repeat.end - 1)
    for buffer, start in first.items():
        if buffer in outside:
            continue
        launch = launches[born[buffer]]
        if buffer not in written(launch) and buffer.numel != 0:
            raise IRError(f"{launch.kernel.name} reads {buffer.name}, which nothing has written")
        partners = tuple(
            old.name
            for old in used(launch)
            if old is not buffer
            and stretched.isdisjoint((old, buffer))
            and old not in outside
            and last[old] == start
            and first[old] < start
            and old.dtype.itemsize == buffer.dtype.itemsize
            and old.numel == buffer.numel
            and reads_before_writing(launch, old, buffer)
        )
        yield Interval(buffer.name, buffer.nbytes, start, last[buffer], partners)
