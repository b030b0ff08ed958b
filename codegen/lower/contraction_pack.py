"""Packing: an operand copied to `[..., tiles, reduction..., width]`.

`width` neighbours along one axis lie next to each other, zeros past the axis's end, and the reduction axes
run just outside them, so that a register tile reads its operand front to back (Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication", 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Apply, Buffer, Const, For, If, Index, Load, Stmt, Store
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .contraction_operands import repeated, shared_loops


def panels(
    ctx: LowerContext, problem: Contraction, operand: Access, axis: str, width: int, times: DimLike = 1
) -> Access:
    """Launches the packing of an operand along a parallel axis (if `times` is not 0); returns it as
    packed."""
    along = problem.axes[axis]
    others = tuple(a for a in problem.parallel if a.name != axis and operand.depends_on(a.name))
    summed = tuple(a for a in problem.reduction if operand.depends_on(a.name))
    tiles = dims.floordiv(along.extent + (width - 1), width)
    lead = (*(a.extent for a in others), tiles)
    dtype = operand.buffer.dtype
    target = ctx.scratch("panels", dtype, (*lead, *(a.extent for a in summed), width))
    depth = dims.product(a.extent for a in summed)
    lead_position = operand.buffer.offset(operand.index)
    packing = _Packing(
        lanes=ctx.target.lanes(dtype),
        source=ctx.view(operand.buffer, (operand.buffer.numel,)),
        position=dims.substitute(lead_position, {a.name: 0 for a in summed}),
        along=along,
        stride=operand.stride(axis),
        others=others,
        summed=_coalesced(operand, summed),
        width=width,
        target=ctx.view(target, (*lead, depth, width)),
        stash=Buffer("stash", dtype, (width, ctx.target.lanes(dtype)), "stack"),
    )
    ctx.launch("pack", repeated(packing.body(), times), cost=packing.cost)
    lead_index = (*(a.var for a in others), dims.floordiv(along.var, width))
    return Access(target, (*lead_index, *(a.var for a in summed), dims.mod(along.var, width)))


def _coalesced(operand: Access, axes: tuple[Axis, ...]) -> tuple[tuple[Axis, DimLike], ...]:
    """Axes with their strides; neighbours that one loop can walk are made one."""
    merged: list[tuple[Axis, DimLike]] = []
    for axis in axes:
        stride = operand.stride(axis.name)
        if axis.extent == 1:
            continue
        if merged and merged[-1][1] == stride * axis.extent:
            outer, _ = merged.pop()
            axis = Axis(outer.name + axis.name, outer.extent * axis.extent)
        merged.append((axis, stride))
    return tuple(merged) or ((Axis("k", 1), 0),)


@dataclass(frozen=True)
class _Packing:
    """The packing kernel. `source` is flat and `position` the place in it where the summed axes are 0;
    `summed` is axes and strides; `target` is [others..., tiles, depth, width]; `stash` is [width, lanes]."""

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

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What is looped over, outermost first, but for the innermost summed axis."""
        return (*self.others, Axis("t", self.target.shape[-3]), *(axis for axis, _ in self.summed[:-1]))

    @property
    def cost(self) -> DimLike:
        """Element moves of one iteration of the outermost loop."""
        extents = [a.extent for a in self.axes if a.extent != 1]
        return dims.product((*extents[1:], self.summed[-1][0].extent, self.width, 2))

    def body(self) -> tuple[Stmt, ...]:
        full, rest = dims.floordiv(self.along.extent, self.width), dims.mod(self.along.extent, self.width)
        tile = Axis("t", self.target.shape[-3]).var
        if rest == 0:
            inner = self._tile(tile, self.width)
        elif full == 0:
            inner = self._tile(0, rest)
        else:
            is_full = Apply("lt", (Index(tile), Index(full)), dtypes.bool_)
            inner = (If(is_full, self._tile(tile, self.width), self._tile(full, rest)),)
        return shared_loops(self.axes, inner)

    def _tile(self, tile: DimLike, valid: DimLike) -> tuple[Stmt, ...]:
        """The innermost summed axis of one tile, of which the first `valid` lanes have elements."""
        *outer, (inner, stride) = self.summed
        depth: DimLike = 0
        for axis, _ in outer:
            depth = depth * axis.extent + axis.var
        depth = depth * inner.extent
        if stride == 1 and self.stride != 1:
            return self._transposed(tile, valid, inner, depth)
        return (For(inner.name, inner.extent, self._row(tile, valid, inner, depth + inner.var)),)

    def _row(self, tile: DimLike, valid: DimLike, inner: Axis, depth: DimLike) -> tuple[Stmt, ...]:
        """One position of the summed axes, in vectors where the source has the lanes next to each other."""
        lane: DimLike = dims.symbol("l", 0, self.width - 1)
        if self.stride != 1 or not isinstance(valid, int):
            fill = For("l", self.width - valid, (self._put(tile, depth, valid + lane, self._zero),))
            copied = self._put(tile, depth, lane, self._load(tile, lane, inner, inner.var))
            return (For("l", valid, (copied,)), fill)
        body: list[Stmt] = []
        for start in range(0, self.width, self.lanes):
            wide = min(self.lanes, self.width - start)
            some = min(wide, valid - start)
            lane = dims.symbol("l", 0, wide - 1) + start
            if some < wide:
                body.append(For("l", wide, (self._put(tile, depth, lane, self._zero),), "vector", self.lanes))
            if some > 0:
                copied = self._put(tile, depth, lane, self._load(tile, lane, inner, inner.var))
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
        whole, rest = dims.floordiv(inner.extent, self.lanes), dims.mod(inner.extent, self.lanes)
        if whole != 0:
            chunk = Axis("q", whole)
            body.append(For("q", whole, block(chunk.var * self.lanes, self.lanes)))
        if rest != 0:
            body += block(whole * self.lanes, rest)
        return tuple(body)

    @property
    def _zero(self) -> Const:
        return Const(0, self.source.dtype)

    def _load(self, tile: DimLike, lane: DimLike, inner: Axis, at: DimLike) -> Load:
        """The source at a lane of a tile and a position of the innermost summed axis."""
        position = dims.substitute(self.position, {self.along.name: tile * self.width + lane})
        for axis, stride in self.summed:
            position = position + stride * (at if axis is inner else axis.var)
        return Load(self.source, (position,))

    def _put(self, tile: DimLike, depth: DimLike, lane: DimLike, value: Load | Const) -> Store:
        return Store(self.target, (*(a.var for a in self.others), tile, depth, lane), value)
