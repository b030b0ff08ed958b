"""Results lend their memory: until a result is first written, values that live before lie in it.

A training step's gradients are results with memory of their own. When the values that the backward part needs are at
their most, hardly a gradient is written yet; eager code has not allocated them by then. Placing what dies before in
them makes the arena smaller by up to the gradients' bytes.

Values move from the arena one by one: of those that are alive where most bytes are, the largest that fits somewhere.
It goes to the result that is written first among those that are written after the value's death, since later ones can
serve longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...passes.memory_plan import ALIGNMENT, Interval, best_gap
from ..loops.nodes import Buffer

# Bytes. What is smaller stays in the caches wherever it lies, or is too small to matter.
LEAST_RESULT, LEAST_VALUE = 64 << 10, 16 << 10


@dataclass(frozen=True)
class Place:
    """So many bytes behind the beginning of a result."""

    result: Buffer
    offset: int


@dataclass
class _Room:
    """A result's memory before it is written, and who lies where in it."""

    result: Buffer
    nbytes: int
    until: int  # the launch that writes it first
    guests: list[tuple[Interval, int, int]] = field(default_factory=list)  # begin and end, in bytes

    def gap(self, interval: Interval, nbytes: int) -> int | None:
        """Where the value fits, if it does."""
        if interval.last >= self.until or nbytes > self.nbytes:
            return None
        taken = sorted(
            (low, high)
            for other, low, high in self.guests
            if other.first <= interval.last and interval.first <= other.last
        )
        offset = best_gap(taken, nbytes)
        return offset if offset + nbytes <= self.nbytes else None


def lend(results: Iterable[tuple[Buffer, int]], values: Sequence[Interval]) -> Mapping[str, Place]:
    """Places in results, with the launch that first writes each, for those of the values that the arena is larger for.
    Sizes that depend on dims stay where they are."""
    rooms = [
        _Room(result, result.nbytes, first)
        for result, first in sorted(results, key=lambda r: (r[1], r[0].name))
        if isinstance(result.nbytes, int) and result.nbytes >= LEAST_RESULT
    ]
    sizes = {v.name: -(-v.nbytes // ALIGNMENT) * ALIGNMENT for v in values if isinstance(v.nbytes, int)}
    if not rooms or not sizes:
        return {}
    alive = np.zeros(max(v.last for v in values) + 1, np.int64)
    for value in values:
        alive[value.first : value.last + 1] += sizes.get(value.name, 0)
    found: dict[str, Place] = {}
    latest = max(room.until for room in rooms)
    waiting = [v for v in values if v.last < latest and sizes.get(v.name, 0) >= LEAST_VALUE]
    waiting.sort(key=lambda v: (-sizes[v.name], v.first, v.name))
    while True:
        peak = int(alive.argmax())
        moved = next((v for v in waiting if v.first <= peak <= v.last), None)
        if moved is None:
            return found
        waiting.remove(moved)
        nbytes = sizes[moved.name]
        for room in rooms:
            offset = room.gap(moved, nbytes)
            if offset is not None:
                room.guests.append((moved, offset, offset + nbytes))
                found[moved.name] = Place(room.result, offset)
                alive[moved.first : moved.last + 1] -= nbytes
                break
