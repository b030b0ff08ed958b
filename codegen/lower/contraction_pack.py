"""Packing: an operand copied to `[..., tiles, reduction..., width]`.

`width` neighbours along one axis lie next to each other, zeros past the axis's end, and the reduction axes
run just outside them, so that a register tile reads its operand front to back (Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication", 2008). What is packed are words where the contraction reads words,
and elsewhere numbers of the sum's dtype, so that the tile need not convert them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Const, Expr, For, If, Index, Load, Stmt, Store
from ..scalar import SCALAR
from ..target import LINE
from .borders import shared_loops
from .context import LowerContext, Names
from .contraction import Access, Axis, Contraction
from .contraction_operands import repeated
from .contraction_words import Words
from .indexing import IndexTuple
from .spaces import linear
from .transpose import Tile

# Panels that are filled at once, at most: each is a stream of stores.
MOST_TOGETHER = 4


def panels(
    ctx: LowerContext, problem: Contraction, operand: Access, axis: str, width: int, times: DimLike = 1
) -> Access:
    """Launches the packing of an operand along a parallel axis (if `times` is not 0); returns it as
    packed."""
    return packing(ctx, problem, operand, axis, width, times, Packing)


@dataclass(frozen=True)
class Operand:
    """What is to be packed `along` a parallel axis; `others`, `summed`: the other axes that it depends on."""

    access: Access
    along: Axis
    others: tuple[Axis, ...]
    summed: tuple[Axis, ...]

    @staticmethod
    def of(problem: Contraction, access: Access, axis: str) -> Operand:
        others = (a for a in problem.parallel if a.name != axis and access.depends_on(a.name))
        summed = (a for a in problem.reduction if access.depends_on(a.name))
        return Operand(access, problem.axes[axis], tuple(others), tuple(summed))

    @property
    def depth(self) -> DimLike:
        """Elements along the sum."""
        return dims.product(a.extent for a in self.summed)


def packing(
    ctx: LowerContext,
    problem: Contraction[Access],
    operand: Access,
    axis: str,
    width: int,
    times: DimLike,
    kind: type[Packing],
) -> Access:
    """Launches one kind of packing."""
    given = Operand.of(problem, operand, axis)
    words = operand if isinstance(operand, Words) else None
    dtype = dtypes.u32 if problem.dot else problem.accumulator
    place = kind.place(given, width)
    target = ctx.scratch("panels", dtype, place.shape)
    lead_position = operand.buffer.offset(operand.index)
    made = kind(
        lanes=ctx.target.lanes(dtype),
        source=ctx.view(operand.buffer, (operand.buffer.numel,)),
        position=dims.substitute(lead_position, {a.name: 0 for a in given.summed}),
        along=given.along,
        stride=operand.stride(axis),
        others=given.others,
        summed=_coalesced(operand, given.summed),
        width=width,
        target=ctx.view(target, place.view),
        stash=Buffer("stash", dtype, (width, ctx.target.lanes(dtype)), "stack"),
        words=words,
    )
    ctx.launch("pack", repeated(made.body(), times), cost=made.cost)
    return Access(target, place.index)


@dataclass(frozen=True)
class Place:
    """Where a packed operand lies: the `shape` of the buffer, `view`: its shape to what fills it, and the `index` of the
    element that the contraction reads."""

    shape: tuple[DimLike, ...]
    view: tuple[DimLike, ...]
    index: IndexTuple


def _coalesced(operand: Access, axes: tuple[Axis, ...]) -> tuple[tuple[Axis, DimLike], ...]:
    """Axes with their strides; neighbours that one loop can walk are made one."""
    merged: list[tuple[Axis, DimLike]] = []
    for axis in axes:
        stride = operand.stride(axis.name)
        if isinstance(operand, Words) and axis.name == operand.axis:
            stride = operand.step * operand.size
        elif axis.extent == 1:
            continue
        if merged and merged[-1][1] == stride * axis.extent:
            outer, _ = merged.pop()
            axis = Axis(outer.name + axis.name, outer.extent * axis.extent)
        merged.append((axis, stride))
    return tuple(merged) or ((Axis("k", 1), 0),)


@dataclass(frozen=True)
class Packing:
    """The packing kernel. `source` is flat and `position` the place in it where the summed axes are 0;
    `summed` is axes and strides, the last one that of words; `target` is [others..., tiles, depth, width]; `stash` is
    [width, lanes]."""

    lanes: int
    source: Buffer
    position: DimLike
    along: Axis
    stride: DimLike
    others: tuple[Axis, ...]
    summed: tuple[tuple[Axis, DimLike], ...]
    width: int
    target: Buffer
    stash: Buffer
    words: Words | None

    @staticmethod
    def place(given: Operand, width: int) -> Place:
        """Panels of `width` elements side by side, the summed axes outside of them."""
        lead = (*(a.extent for a in given.others), dims.floordiv(given.along.extent + (width - 1), width))
        at = (*(a.var for a in given.others), dims.floordiv(given.along.var, width))
        index = (*at, *(a.var for a in given.summed), dims.mod(given.along.var, width))
        shape = (*lead, *(a.extent for a in given.summed), width)
        return Place(shape, (*lead, given.depth, width), index)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What is looped over, outermost first, but for the innermost summed axis."""
        return (*self.others, Axis("t", self.tiles), *(axis for axis, _ in self.summed[:-1]))

    @property
    def tiles(self) -> DimLike:
        """The panels, of which the last one may not be full."""
        return dims.floordiv(self.along.extent + (self.width - 1), self.width)

    @property
    def cost(self) -> DimLike:
        """Element moves of one iteration of the outermost loop."""
        extents = [a.extent for a in self.axes if a.extent != 1]
        return dims.product((*extents[1:], self.summed[-1][0].extent, self.width, 2))

    def body(self) -> tuple[Stmt, ...]:
        full, rest = dims.floordiv(self.along.extent, self.width), dims.mod(self.along.extent, self.width)
        together = self._together(full)
        if together > 1:
            assert isinstance(full, int) and isinstance(rest, int)
            return self._side_by_side(together, full, rest)
        return shared_loops(self.axes, self._panel(Axis("t", self.tiles).var, self.tiles, full, rest))

    def _together(self, full: DimLike) -> int:
        """How many panels to fill at once from rows that lie along the axis, so that lines are read whole."""
        row = self.width * self.target.dtype.itemsize
        together = min(MOST_TOGETHER, LINE // gcd(row, LINE))
        apart = self.stride != 1 or self.words is not None or not isinstance(full, int)
        return 1 if apart or full < 2 * together else together

    def _side_by_side(self, together: int, full: int, rest: int) -> tuple[Stmt, ...]:
        """So many whole panels at once, then those that are left."""
        *outer, (inner, _) = self.summed
        groups = full // together
        left = full - groups * together + (rest != 0)
        group = Axis("t", groups + left).var
        rows: list[Stmt] = []
        for place in range(together):
            rows += self._row(group * together + place, self.width, inner, self._depth, inner.var)
        found: tuple[Stmt, ...] = (For(inner.name, inner.extent, tuple(rows)),)
        if left:
            alone = self._panel(group + groups * (together - 1), left, full, rest)
            found = (If(SCALAR.lt(Index(group), Index(groups)), found, alone),)
        return shared_loops((*self.others, Axis("t", groups + left), *(axis for axis, _ in outer)), found)

    def _panel(self, tile: DimLike, count: DimLike, full: DimLike, rest: DimLike) -> tuple[Stmt, ...]:
        """A panel, one of the last `count`: `full` panels are whole, and what is left makes one more."""
        if rest == 0:
            return self._tile(tile, self.width)
        if full == 0 or count == 1:
            return self._tile(full, rest)
        return (
            If(SCALAR.lt(Index(tile), Index(full)), self._tile(tile, self.width), self._tile(full, rest)),
        )

    @property
    def _depth(self) -> DimLike:
        """Where the innermost summed axis begins in a panel."""
        outer = self.summed[:-1]
        return linear((*(a.var for a, _ in outer), 0), [axis.extent for axis, _ in self.summed])

    def _tile(self, tile: DimLike, valid: DimLike) -> tuple[Stmt, ...]:
        """The innermost summed axis of one tile, of which the first `valid` lanes have elements."""
        (inner, stride), depth = self.summed[-1], self._depth
        near = self.words.near if self.words else stride == 1
        if near and self.stride != 1:
            found = self._transposed(tile, valid, inner, depth)
        elif self._full(inner) == 0:
            found = ()
        else:
            at = Axis(inner.name, self._full(inner)).var
            found = (For(inner.name, self._full(inner), self._row(tile, valid, inner, depth, at)),)
        return found + self._last_word(tile, valid, inner, depth)

    def _full(self, inner: Axis) -> DimLike:
        """The positions along the innermost axis that are whole words."""
        if self.words is None or self.words.exact:
            return inner.extent
        return dims.floordiv(self.words.extent, self.words.size)

    def _last_word(self, tile: DimLike, valid: DimLike, inner: Axis, depth: DimLike) -> tuple[Stmt, ...]:
        """The word that the axis ends in."""
        full = self._full(inner)
        if full == inner.extent:
            return ()
        last = self._row(tile, valid, inner, depth, full)
        return last if inner.extent - full == 1 else (For("e", inner.extent - full, last),)

    def _row(
        self, tile: DimLike, valid: DimLike, inner: Axis, depth: DimLike, at: DimLike
    ) -> tuple[Stmt, ...]:
        """Position `at` of the innermost summed axis, in vectors where the source has the lanes next to each other."""
        depth = depth + at
        lane: DimLike = dims.symbol("l", 0, self.width - 1)
        if self.stride != 1 or not isinstance(valid, int):
            fill = For("l", self.width - valid, (self._put(tile, depth, valid + lane, self._zero),))
            copied = self._put(tile, depth, lane, self._load(tile, lane, inner, at))
            return (For("l", valid, (copied,)), fill)
        body: list[Stmt] = []
        for start in range(0, self.width, self.lanes):
            wide = min(self.lanes, self.width - start)
            some = min(wide, valid - start)
            lane = dims.symbol("l", 0, wide - 1) + start
            if some < wide:
                body.append(For("l", wide, (self._put(tile, depth, lane, self._zero),), "vector", self.lanes))
            if some > 0:
                copied = self._put(tile, depth, lane, self._load(tile, lane, inner, at))
                body.append(For("l", some, (copied,), "vector", self.lanes))
        return tuple(body)

    def _transposed(self, tile: DimLike, valid: DimLike, inner: Axis, depth: DimLike) -> tuple[Stmt, ...]:
        """Where the source runs along the summed axis: vectors along it into the stash, columns of that
        out."""
        row, lane = dims.symbol("w", 0, self.width - 1), dims.symbol("l", 0, self.lanes - 1)
        empty = Store(self.stash, (valid + row, lane), self._zero)
        blank = For("w", self.width - valid, (For("l", self.lanes, (empty,), "vector", self.lanes),))

        def block(start: DimLike, size: DimLike) -> tuple[Stmt, ...]:
            load = Store(self.stash, (row, lane), self._load(tile, row, inner, start + lane))
            column = self._put(tile, depth + start + lane, row, Load(self.stash, (row, lane)))
            return (
                For("w", valid, (For("l", size, (load,), "vector", self.lanes),)),
                For("l", size, (For("w", self.width, (column,), "unroll"),)),
            )

        body: list[Stmt] = [] if valid == self.width else [blank]
        full = self._full(inner)
        whole, rest = dims.floordiv(full, self.lanes), dims.mod(full, self.lanes)
        if whole != 0:
            start = Axis("q", whole).var * self.lanes
            square = valid == self.width and self.width % self.lanes == 0
            turned = self._turned(tile, inner, depth, start) if square else block(start, self.lanes)
            body.append(For("q", whole, turned))
        if rest != 0:
            body += block(whole * self.lanes, rest)
        return tuple(body)

    def _turned(self, tile: DimLike, inner: Axis, depth: DimLike, start: DimLike) -> tuple[Stmt, ...]:
        """As many positions as there are lanes, from `start` on, of a whole tile: squares turned in vectors."""
        names = Names({"t", "q", "w", "l", *(a.name for a in self.axes), inner.name})
        square = Tile(names, Load(self.stash, (0, 0)), self.lanes)
        body: list[Stmt] = []
        for first in range(0, self.width, self.lanes):
            body += square.fill(lambda i, l, first=first: self._load(tile, first + i, inner, start + l))  # type: ignore[misc]
            row, lane = dims.symbol("w", 0, self.lanes - 1), dims.symbol("l", 0, self.lanes - 1)
            copied = self._put(tile, depth + start + row, first + lane, square.at(row, lane))
            body.append(For("w", self.lanes, (For("l", self.lanes, (copied,), "vector", self.lanes),)))
        return tuple(body)

    @property
    def _zero(self) -> Const:
        return Const(0, self.target.dtype)

    def _load(self, tile: DimLike, lane: DimLike, inner: Axis, at: DimLike) -> Expr:
        """The source at a lane of a tile and a position of the innermost summed axis."""
        position = dims.substitute(self.position, {self.along.name: tile * self.width + lane})
        for axis, stride in self.summed:
            position = position + stride * (at if axis is inner else axis.var)
        words = self.words
        if words is None:
            return SCALAR.cast(Load(self.source, (position,)), self.target.dtype)
        numbers: list[Expr] = [
            Load(self.source, (position + words.step * place,)) for place in range(words.size)
        ]
        if at == self._full(inner) != inner.extent:
            zero = Const(0, self.source.dtype)
            for place in range(1, words.size):
                inside = SCALAR.lt(Index(at * words.size + place), Index(words.extent))
                numbers[place] = SCALAR.select(inside, numbers[place], zero)
        return words.word(numbers)

    def _put(self, tile: DimLike, depth: DimLike, lane: DimLike, value: Expr) -> Store:
        return Store(self.target, (*(a.var for a in self.others), tile, depth, lane), value)
