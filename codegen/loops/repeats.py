"""Walking a program whose launches repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .nodes import Launch, Program, Repeat


@dataclass(frozen=True)
class Block:
    """A repeat with what it runs."""

    repeat: Repeat
    steps: tuple[Step, ...]


# A launch by its number, or a block of them.
Step = tuple[int, Launch] | Block


def program_steps(program: Program) -> tuple[Step, ...]:
    """The program's launches in order, those that repeat in blocks."""
    return _steps(program.launches, program.repeats, 0, len(program.launches))


def _steps(launches: Sequence[Launch], repeats: Sequence[Repeat], first: int, end: int) -> tuple[Step, ...]:
    outermost: dict[int, Repeat] = {}
    for repeat in repeats:
        known = outermost.get(repeat.first)
        if first <= repeat.first and repeat.end <= end and (known is None or known.end <= repeat.end):
            outermost[repeat.first] = repeat
    found: list[Step] = []
    at = first
    while at < end:
        here = outermost.get(at)
        if here is None or here.end == here.first:
            found.append((at, launches[at]))
            at += 1
            continue
        inner = [r for r in repeats if r is not here]
        found.append(Block(here, _steps(launches, inner, here.first, here.end)))
        at = here.end
    return tuple(found)
