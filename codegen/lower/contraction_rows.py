"""Packing row by row: an operand's words copied to `[..., positions along an axis, reduction..., words]`.

So lie the rows of a left tile (`contraction_amx.py`). Words of neighbours are copied in vectors; where the elements of a
word lie in different rows and the axis runs along those, squares are turned.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import TILE_ROWS, TILE_WORDS, Expr, For, If, Index, Load, Stmt, Store
from ..scalar import SCALAR
from .borders import along_lanes, shared_loops
from .context import LowerContext, Names
from .contraction import Access, Axis, Contraction
from .contraction_pack import Operand, Packing, Place, packing
from .transpose import Tile


def packed_rows(
    ctx: LowerContext, problem: Contraction, operand: Access, axis: str, times: DimLike = 1
) -> Access:
    """Launches the packing of an operand in words (if `times` is not 0); returns it as packed. Whole tiles may be read,
    whatever the number of rows. Tile after tile, unless some begin elsewhere than at multiples of their sizes."""
    words = problem.reduction[-1].extent
    whole = isinstance(problem.axes[axis].extent, int) and dims.mod(words, TILE_WORDS) == 0
    return packing(ctx, problem, operand, axis, 1, times, _Tiles if whole else _Rows)


@dataclass(frozen=True)
class _Rows(Packing):
    """The packing kernel; `width` is 1."""

    @staticmethod
    def place(given: Operand, width: int) -> Place:
        lead = (*(a.extent for a in given.others), _whole(given.along.extent))
        at = (*(a.var for a in given.others), given.along.var)
        shape = (*lead, *(a.extent for a in given.summed))
        return Place((*shape, 1), (*lead, given.depth, 1), (*at, *(a.var for a in given.summed), 0))

    @property
    def near(self) -> bool:
        return self.words is not None and self.words.near

    @property
    def turned(self) -> bool:
        """Whether squares are turned."""
        return not self.near and self.stride == 1

    @property
    def cost(self) -> DimLike:
        return super().cost * (self.lanes if self.turned else 1)

    def body(self) -> tuple[Stmt, ...]:
        *outer, (inner, _) = self.summed
        depth = self._depth
        count = self.along.extent
        if self.near:
            rows = Axis("t", count)
            found = self._in_words(rows.var, inner, depth)
        elif self.turned:
            full, rest = dims.floordiv(count, self.lanes), dims.mod(count, self.lanes)
            rows = Axis("t", full + dims.minimum(1, rest))
            start = rows.var * self.lanes
            found = self._across(start, self.lanes, inner, depth)
            if full == 0:
                found = self._across(0, rest, inner, depth)
            elif rest != 0:
                is_full = SCALAR.lt(Index(rows.var), Index(full))
                found = (If(is_full, found, self._across(full * self.lanes, rest, inner, depth)),)
        else:
            return super().body()
        return shared_loops((*self.others, rows, *(axis for axis, _ in outer)), found)

    def _in_words(self, row: DimLike, inner: Axis, depth: DimLike) -> tuple[Stmt, ...]:
        """One row, in vectors."""
        found = along_lanes(
            inner.name,
            self._full(inner),
            self.lanes,
            lambda at: [self._put(row, depth + at, 0, self._load(row, 0, inner, at))],
        )
        return found + self._last_word(row, 1, inner, depth)

    def _across(self, start: DimLike, valid: DimLike, inner: Axis, depth: DimLike) -> tuple[Stmt, ...]:
        """`valid` rows, in vectors that run across them: whole squares are turned, other vectors scattered."""
        full = self._full(inner)
        found: tuple[Stmt, ...] = ()
        whole = dims.floordiv(full, self.lanes) if valid == self.lanes else 0
        if whole != 0:
            first = Axis("q", whole).var * self.lanes
            found = (For("q", whole, self._square(start, inner, depth, first)),)
        lane = dims.symbol("l", 0, self.lanes - 1)

        def word(at: DimLike) -> tuple[Stmt, ...]:
            put = self._put(start + lane, depth + at, 0, self._load(start + lane, 0, inner, at))
            return (For("l", valid, (put,), "vector", self.lanes),)

        left = full - whole * self.lanes
        if left != 0:
            found += (For(inner.name, left, word(whole * self.lanes + Axis(inner.name, left).var)),)
        if full == inner.extent:
            return found
        last = word(full)
        return found + (last if inner.extent - full == 1 else (For("e", inner.extent - full, last),))

    def _square(self, start: DimLike, inner: Axis, depth: DimLike, first: DimLike) -> tuple[Stmt, ...]:
        names = Names({"t", "q", "w", "l", *(a.name for a in self.axes), inner.name})
        square = Tile(names, Load(self.stash, (0, 0)), self.lanes)
        row, lane = dims.symbol("w", 0, self.lanes - 1), dims.symbol("l", 0, self.lanes - 1)
        put = self._put(start + row, depth + first + lane, 0, square.at(row, lane))
        out = For("w", self.lanes, (For("l", self.lanes, (put,), "vector", self.lanes),))
        return (*square.fill(lambda i, l: self._load(start + l, 0, inner, first + i)), out)


@dataclass(frozen=True)
class _Tiles(_Rows):
    """The same where rows and words fill tiles: 16 words of 16 rows lie together, so that a tile is some lines in a row,
    wherever the operand begins and however far its rows are apart."""

    @staticmethod
    def place(given: Operand, width: int) -> Place:
        *outer, words = given.summed
        lead = (*(a.extent for a in given.others), dims.floordiv(_whole(given.along.extent), TILE_ROWS))
        tile = (TILE_ROWS, TILE_WORDS)
        shape = (*lead, *(a.extent for a in outer), dims.floordiv(words.extent, TILE_WORDS), *tile)
        row = given.along.var
        at = (*(a.var for a in given.others), dims.floordiv(row, TILE_ROWS), *(a.var for a in outer))
        within = (
            dims.floordiv(words.var, TILE_WORDS),
            dims.mod(row, TILE_ROWS),
            dims.mod(words.var, TILE_WORDS),
        )
        return Place(shape, (*lead, dims.floordiv(given.depth, TILE_WORDS), *tile), (*at, *within))

    def _put(self, tile: DimLike, depth: DimLike, lane: DimLike, value: Expr) -> Store:
        row = tile + lane
        at = (*(a.var for a in self.others), dims.floordiv(row, TILE_ROWS), dims.floordiv(depth, TILE_WORDS))
        return Store(self.target, (*at, dims.mod(row, TILE_ROWS), dims.mod(depth, TILE_WORDS)), value)


def _whole(rows: DimLike) -> DimLike:
    """Rows that fill tiles."""
    return dims.floordiv(rows + (TILE_ROWS - 1), TILE_ROWS) * TILE_ROWS
