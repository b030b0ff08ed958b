"""A program's memory plan as text, in lines that are comments where graphs are read."""

from __future__ import annotations

from collections.abc import Iterator

from ...passes.memory_plan import ALIGNMENT, lower_bound
from ..loops.nodes import Buffer, Program
from .lifetimes import first_writers


def plan_text(program: Program, target: str) -> str:
    """Of each buffer in the arena its offset, bytes, the launches it is alive in, its type and who writes it first;
    then what lies outside, which the caller brings or is kept between calls. Sizes are closed forms of symbolic dims.
    """
    late = sum(buffer in program.late for buffer in program.arena)
    lines = [f"memory plan of {program.name} for {target}: {_count(len(program.launches), 'launch', 'es')}"]
    size = f"arena of {program.arena_bytes} bytes"
    if not program.dims:
        most = lower_bound(program.lifetimes, {})
        size += f"; at most {most} are in use at once, and every buffer begins at a multiple of {ALIGNMENT}"
    lines += [size, ""]
    rows = [("offset", "bytes", "launches", "buffer", "type", "written by"), *_rows(program)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for offset, nbytes, launches, *words in rows:
        cells = [offset.rjust(widths[0]), nbytes.rjust(widths[1]), launches.rjust(widths[2])]
        cells += [word.ljust(width) for word, width in zip(words, widths[3:])]
        lines.append("  ".join(cells).rstrip())
    if late:
        lines.append(f"{_count(late, 'buffer', 's')} of sizes that the run tells: in blocks of their own")
    if program.lenders:
        lines += ["", "in results that are not written yet:"]
        lines += [
            f"{buffer.name}  {_type(buffer)}  in {result.name} from byte {program.offsets[buffer.name]} on"
            for buffer, result in program.lenders.items()
        ]
    lines += ["", "outside the arena:"]
    lines += [f"{buffer.name}  {_type(buffer)}  {role}" for buffer, role in _outside(program)]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _rows(program: Program) -> Iterator[tuple[str, ...]]:
    types = {b.name: _type(b) for b in program.arena}
    first = first_writers(program)
    for interval in sorted(program.lifetimes, key=lambda i: (i.first, str(program.offsets[i.name]))):
        alive = f"{interval.first}-{interval.last}" if interval.last > interval.first else f"{interval.first}"
        yield (
            str(program.offsets[interval.name]),
            str(interval.nbytes),
            alive,
            interval.name,
            types.get(interval.name, ""),
            first.get(interval.name, ""),
        )


def _outside(program: Program) -> Iterator[tuple[Buffer, str]]:
    written = set(program.outputs)
    for buffer in program.inputs:
        yield buffer, "input, updated" if buffer in written else "input"
    for buffer in program.outputs:
        if buffer not in program.inputs:
            yield buffer, "output"
    for buffer in program.prepared:
        yield buffer, "kept between calls"


def _type(buffer: Buffer) -> str:
    return f"{buffer.dtype.name}[{','.join(map(str, buffer.shape))}]"


def _count(number: int, what: str, more: str) -> str:
    return f"{number} {what}{more if number != 1 else ''}"
