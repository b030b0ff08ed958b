"""What depends on steady inputs alone is computed once: packed weights, above all.

A program runs many times with the same parameters. The launches that read nothing but those, and what such launches have
made, go to the program's front; what the others read of their results lives outside the arena, in a block that the host
keeps between calls. The host says when a parameter has changed (`Program.prepared`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...passes.memory_plan import ALIGNMENT
from ..loops.nodes import PREPARED_HEADER, Buffer, Check, HostCall, Launch, Repeat
from ..loops.walk import statements
from .context import LowerContext
from .lifetimes import used, written


@dataclass(frozen=True)
class Prepared:
    """Where the kept buffers lie in a block of `nbytes`; the first `launches` of the program write them."""

    offsets: Mapping[Buffer, int] = field(default_factory=dict)
    nbytes: int = 0
    launches: int = 0


def prepare(ctx: LowerContext, steady: Collection[Buffer], outside: Collection[Buffer]) -> Prepared:
    """Moves the launches that depend on the `steady` inputs alone to the front of `ctx.launches`. What is written to
    memory of the caller's, which is `outside`, is written by every call."""
    early = _early(ctx.launches, ctx.repeats, steady, outside) if steady else []
    if not early:
        return Prepared()
    first = [ctx.launches[n] for n in early]
    late = [launch for n, launch in enumerate(ctx.launches) if n not in set(early)]
    made = {b for launch in first for b in written(launch)}
    offsets: dict[Buffer, int] = {}
    end = PREPARED_HEADER
    for buffer in dict.fromkeys(b for launch in late for b in used(launch) if b in made):
        assert isinstance(buffer.nbytes, int), "no launch with dims is early"
        offsets[buffer] = end
        end += -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
    if not offsets:
        return Prepared()
    ctx.launches[:] = [*first, *late]
    ctx.repeats[:] = [_moved(repeat, early) for repeat in ctx.repeats]
    return Prepared(offsets, end, len(first))


def _early(
    launches: Sequence[Launch],
    repeats: Sequence[Repeat],
    steady: Collection[Buffer],
    outside: Collection[Buffer],
) -> list[int]:
    """The numbers of the launches that need to run but once."""
    repeated = {n for repeat in repeats for n in range(repeat.first, repeat.end)}
    chosen = {n for n, launch in enumerate(launches) if n not in repeated and _may_be_early(launch)}
    writers: dict[Buffer, set[int]] = {}
    for number, launch in enumerate(launches):
        for buffer in written(launch):
            writers.setdefault(buffer, set()).add(number)
    while True:
        kept = {
            n
            for n in chosen
            if all(
                b in steady if b in outside else writers.get(b, set()) <= chosen for b in used(launches[n])
            )
            and written(launches[n]).isdisjoint(outside)
        }
        if kept == chosen:
            return sorted(kept)
        chosen = kept


def _may_be_early(launch: Launch) -> bool:
    """Whether the launch is the same in every call, if what it reads is: its sizes are numbers and it cannot fail."""
    kernel = launch.kernel
    return not (
        isinstance(kernel, HostCall)
        or kernel.dims
        or any(isinstance(stmt, Check) for stmt in statements(kernel.body))
    )


def _moved(repeat: Repeat, early: Sequence[int]) -> Repeat:
    """The repeat where it begins when the early launches stand before all others."""
    later = sum(n > repeat.first for n in early)
    return replace(repeat, first=repeat.first + later, end=repeat.end + later)
