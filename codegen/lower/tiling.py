"""How to walk a contraction: what runs along vector lanes, what tile is in registers, what is packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...ir import dims
from ...ir.dims import DimLike
from .contraction import Contraction


@dataclass(frozen=True)
class Plan:
    """lane: the axis along vector lanes, `lanes` at a time; of the result, or of the sum.
    vectors: vectors along the lane axis in one register tile.
    tiles: positions of other parallel axes in one register tile.
    order: the parallel axes, outermost loop first.
    blocks: axes shared among tasks, with the number of tiles in one task.
    unroll: reduction axes with the number of positions repeated in the code.
    packed: operands (0 left, 1 right) packed first, with the axis that their panels run along.
    padded: lanes past the end of the lane axis may be computed with (their operand is packed, with zeros).
    turned: an axis of the tile along which the result is stored in vectors, the tile turned for it; "" for none.
    rows: the axis of `tiles` along the rows of tile registers, in which full blocks are summed; "" where there are none
        (`contraction_amx.py`).
    room: whole tiles of rows may be read (their operand is packed).
    passing: rows are too many for the first-level cache, which is left to columns.
    deep: steps of the sum in tile registers that all of a task's blocks of rows take before the next; 0 for all of them.
    windows: reduction axes walked only where a window of the problem says that products are not zero.
    afresh: the outermost reduction axes, at each position of which sums begin anew, to be added up: shorter chains.
    split, parts: the reduction axis shared among tasks, in how many parts; 1 for none.
    even: an axis of the tile, not shared among tasks, whose tiles are of its size and of one less, not all of that size
        but a last one; "" for none.
    cycles: the model's estimate."""

    lane: str
    lanes: int
    vectors: int = 1
    tiles: Mapping[str, int] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    unroll: Mapping[str, int] = field(default_factory=dict)
    packed: Mapping[int, str] = field(default_factory=dict)
    padded: bool = False
    turned: str = ""
    rows: str = ""
    room: bool = False
    passing: bool = False
    deep: int = 0
    windows: frozenset[str] = frozenset()
    afresh: tuple[str, ...] = ()
    split: str = ""
    parts: int = 1
    even: str = ""
    cycles: float = 0.0

    def tile(self, axis: str) -> int:
        """Positions of a parallel axis in one register tile."""
        return self.vectors * self.lanes if axis == self.lane else self.tiles.get(axis, 1)

    def tasks(self, problem: Contraction, axis: str) -> DimLike:
        """The number of tasks that a blocked axis is cut into."""
        tiles = dims.floordiv(problem.axes[axis].extent + (self.tile(axis) - 1), self.tile(axis))
        block = self.blocks[axis]
        return dims.floordiv(tiles + (block - 1), block)

    def __str__(self) -> str:
        return f"{self.text()}; about {self.cycles:.0f} cycles"

    def text(self) -> str:
        """The plan without the estimate."""
        parts = [f"lanes {self.vectors}x{self.lanes} along {self.lane}"]
        if self.tiles:
            parts.append("tile " + " ".join(f"{a}={n}" for a, n in self.tiles.items()))
        if self.even:
            parts.append(f"{self.even} in even tiles")
        parts.append("order " + " ".join(self.order))
        for title, pairs in (("tasks of", self.blocks), ("unroll", self.unroll)):
            if pairs:
                parts.append(f"{title} " + " ".join(f"{a}={n}" for a, n in pairs.items()))
        for operand, axis in self.packed.items():
            parts.append(f"{('left', 'right')[operand]} packed along {axis}")
        if self.rows:
            passing = " passing" if self.passing else ""
            deep = f", {self.deep} steps at a time" if self.deep else ""
            parts.append(f"in tile registers, rows along {self.rows}{passing}{deep}")
        if self.turned:
            parts.append(f"stored along {self.turned}")
        if self.windows:
            parts.append(f"{' '.join(sorted(self.windows))} inside borders")
        if self.afresh:
            parts.append(f"afresh at each {' '.join(self.afresh)}")
        if self.parts > 1:
            parts.append(f"{self.split} summed in {self.parts} parts")
        return "; ".join(parts)
