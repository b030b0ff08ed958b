"""The work of one register tile: accumulators set to zero, summed over the reduction axes, handed on.

Along an axis of the result, one operand is read as vectors and the other usually broadcast from memory; along
a reduction axis both are vectors, and the lanes are added at the end. Lanes past the end of an axis are
loaded as zeros
and summed with the others: a masked load costs no more than another, a masked accumulator does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Const, Expr, For, Index, LaneReduce, Let, Load, Prefetch, Stmt, Store, Var
from ..packed import dot
from ..scalar import SCALAR
from .contraction import Access, Axis, Contraction
from .indexing import IndexTuple
from .names import Names
from .spaces import linear
from .tiling import Plan
from .transpose import turned_tile

Bindings = dict[str, DimLike]
# From where a point lies along the parallel axes, and its sum.
Finish = Callable[[Bindings, Expr], Sequence[Stmt]]
# Fetches what `finish` will read at a point.
Soon = Callable[[Bindings], Sequence[Prefetch]]


@dataclass(frozen=True)
class Together:
    """Another `Finish`, which takes the sums of all positions along `axis`, all of which are in the tile."""

    axis: str
    finish: Callable[[Bindings, Sequence[Expr]], Sequence[Stmt]]


@dataclass(frozen=True)
class Begun:
    """Sums over all whole groups of `group` positions along the innermost reduction axis: the tile adds the rest."""

    sum: Callable[[Bindings], Expr]
    group: int

    def rest(self, extent: DimLike) -> DimLike:
        """The positions that are left."""
        return dims.mod(extent, self.group)


# From a vector's number in the tile, and the condition for a lane to be inside where not all are.
VectorBody = Callable[[DimLike, Expr | None], Sequence[Stmt]]

PART = "part"


def loop_var(name: str, extent: DimLike) -> DimLike:
    """The variable of a loop; 0 for a loop that runs just once, which is not written."""
    if extent == 1:
        return 0
    return dims.symbol(name, 0, max(0, dims.bounds(extent)[1] - 1))


@dataclass(frozen=True)
class RegisterTile:
    """`starts` and `sizes` are the tile's first position and extent along each parallel axis; `name` is that
    of its accumulators; `each` is what to do at every position of a reduction axis before its sums, told where the tile
    starts. `begun`: what the accumulators begin with."""

    problem: Contraction
    plan: Plan
    finish: Finish | Together
    starts: Bindings
    sizes: Bindings
    name: str = "acc"
    soon: Soon | None = None
    each: Mapping[str, Callable[[Bindings], tuple[Stmt, ...]]] = field(default_factory=dict)
    begun: Begun | None = None

    def statements(self) -> tuple[Stmt, ...]:
        return tuple(self._lanes_of_result() if self.plan.lane in self.sizes else self._lanes_of_sum())

    @cached_property
    def units(self) -> dict[str, int]:
        """The axes, besides the lane axis, along which the tile has several positions, and how many."""
        found: dict[str, int] = {}
        for name, size in self.sizes.items():
            if name != self.plan.lane and isinstance(size, int) and size > 1:
                found[name] = size
        return found

    @cached_property
    def unit(self) -> IndexTuple:
        """The position within the tile along each of `units`."""
        return tuple(loop_var(f"{name}_u", count) for name, count in self.units.items())

    @cached_property
    def point(self) -> Bindings:
        """The position along each parallel axis, the lane axis left at its start."""
        return self.starts | {n: self.starts[n] + u for n, u in zip(self.units, self.unit, strict=True)}

    def _each_unit(self, body: Sequence[Stmt], but: str = "") -> tuple[Stmt, ...]:
        for name, count in reversed(self.units.items()):
            if name != but:
                body = (For(f"{name}_u", count, tuple(body), "unroll"),)
        return tuple(body)

    def _lanes_of_result(self) -> Iterator[Stmt]:
        lanes, size = self.plan.lanes, self.sizes[self.plan.lane]
        whole, rest = size // lanes if isinstance(size, int) else 0, dims.mod(size, lanes)
        lane, number = loop_var("l", lanes), loop_var("v", whole)
        vectors = whole + (rest != 0)
        acc = Buffer(self.name, self.problem.accumulator, (*self.units.values(), vectors, lanes), "register")

        def each_vector(body: VectorBody, masked: bool = False, but: str = "") -> tuple[Stmt, ...]:
            """`body` for whole vectors, then for the one that is only partly inside; masked, it runs only
            there. For each unit, along all axes `but` one."""
            found: tuple[Stmt, ...] = ()
            if whole:
                inner = For("l", lanes, tuple(body(number, None)), "vector", lanes)
                found = (For("v", whole, (inner,), "unroll"),) if whole > 1 else (inner,)
            if rest != 0:
                inside = None if masked or self.plan.padded else SCALAR.lt(Index(lane), Index(rest))
                last = tuple(body(whole, inside))
                found += (For("l", rest if masked else lanes, last, "vector", lanes),)
            return self._each_unit(found, but)

        def element(vector: DimLike) -> IndexTuple:
            return (*self.unit, vector, lane)

        def place(vector: DimLike) -> Bindings:
            return self.point | {self.plan.lane: self.starts[self.plan.lane] + vector * lanes + lane}

        def added(bindings: Bindings) -> tuple[Stmt, ...]:
            return each_vector(
                lambda v, inside: [self._accumulate(acc, element(v), place(v) | bindings, inside)]
            )

        def first(vector: DimLike) -> Expr:
            return Const(0, acc.dtype) if self.begun is None else self.begun.sum(place(vector))

        if self.plan.afresh and self._is_left:
            outer, inner = self._summed[: len(self.plan.afresh)], self._summed[len(self.plan.afresh) :]
            total = Buffer(f"{self.name}_total", acc.dtype, acc.shape, "stack")

            def chain(bindings: Bindings) -> tuple[Stmt, ...]:
                def onwards(v: DimLike, _: Expr | None) -> list[Stmt]:
                    so_far = SCALAR.add(Load(total, element(v)), Load(acc, element(v)))
                    return [Store(total, element(v), so_far)]

                zeros = each_vector(lambda v, _: [Store(acc, element(v), Const(0, acc.dtype))])
                return (*zeros, *self._sum(inner, bindings, added), *each_vector(onwards))

            yield from each_vector(lambda v, _: [Store(total, element(v), first(v))])
            if self.soon is not None and not self.plan.turned:
                yield from self._fetches(self.soon, vectors, {}, "")
            yield from self._sum(outer, {}, chain)
            yield from each_vector(lambda v, _: [Store(acc, element(v), Load(total, element(v)))])
        else:
            yield from each_vector(lambda v, _: [Store(acc, element(v), first(v))])
            if self._is_left:
                yield from self._sum_and_fetch(vectors, added)
        finish = self.finish
        if isinstance(finish, Together):
            axis, rule = finish.axis, finish.finish

            def sums(vector: DimLike) -> list[Expr]:
                at = list(zip(self.units, self.unit, strict=True))
                units = [tuple(n if name == axis else u for name, u in at) for n in range(self.units[axis])]
                return [Load(acc, (*unit, vector, lane)) for unit in units]

            yield from each_vector(lambda v, _: rule(place(v), sums(v)), masked=True, but=axis)
        elif self.plan.turned in self.units:
            yield from self._turned(acc, whole, rest, finish)
        else:
            yield from each_vector(lambda v, _: finish(place(v), Load(acc, element(v))), masked=True)

    def _sum_and_fetch(self, vectors: int, added: Callable[[Bindings], tuple[Stmt, ...]]) -> Iterator[Stmt]:
        """The sums; what the finish reads is fetched meanwhile, for no processor sees that far ahead. One position of
        the tile's first axis after another: all lines at once would hold up those that the sums read."""
        if self.soon is None or self.plan.turned or self.each:
            yield from self._sum(self._summed, {}, added)
            return
        axis, *inner = self._summed
        low, extent = self.within(axis)
        together = isinstance(self.finish, Together)
        if together or not self.units or self.plan.unroll.get(axis.name, 1) != 1:
            but = self.finish.axis if isinstance(self.finish, Together) else ""
            yield from self._fetches(self.soon, vectors, {}, but)
            yield from self._sum(self._summed, {}, added)
            return
        name, count = next(iter(self.units.items()))
        turn = loop_var("turn", count)
        start = dims.floordiv(turn * extent, count)
        size = dims.floordiv((turn + 1) * extent, count) - start
        sums = self._sum(inner, {axis.name: low + start + loop_var(axis.name, extent)}, added)
        fetches = self._fetches(self.soon, vectors, {name: self.starts[name] + turn}, name)
        yield For("turn", count, (*fetches, For(axis.name, size, sums)))

    def _fetches(self, soon: Soon, vectors: int, at: Bindings, but: str) -> tuple[Stmt, ...]:
        """Fetches for the tile's vectors, for each unit along all axes `but` one."""
        start = self.starts[self.plan.lane] + loop_var("v", vectors) * self.plan.lanes
        body: tuple[Stmt, ...] = tuple(soon(self.point | at | {self.plan.lane: start}))
        if vectors > 1 and body:
            body = (For("v", vectors, body, "unroll"),)
        return self._each_unit(body, but)

    def _turned(self, acc: Buffer, whole: int, rest: DimLike, finish: Finish) -> Iterator[Stmt]:
        """Hands the tile on in vectors along `plan.turned`, not its lanes: squares of it are turned on the stack."""
        lanes, axis = self.plan.lanes, self.plan.turned
        count, vectors = self.units[axis], whole + (rest != 0)
        names = Names(("l", "v"))
        others = {name: size for name, size in self.units.items() if name != axis}
        row, lane = loop_var("l", lanes), names("l")
        shape = (*others.values(), vectors, count, lanes)
        kept = Buffer(f"{self.name}_rows", acc.dtype, (prod(shape),), "stack")
        spare, turned = (
            Buffer(f"{self.name}_{what}", acc.dtype, (lanes * lanes,), "stack")
            for what in ("spare", "turned")
        )
        unit = {name: loop_var(f"{name}_u", size) for name, size in self.units.items()}
        outer = tuple(unit[name] for name in others)

        def keep(vector: DimLike) -> Stmt:
            place = linear((*outer, vector, unit[axis], row), shape)
            value = Load(acc, (*self.unit, vector, row))
            return For("l", lanes, (Store(kept, (place,), value),), "vector", lanes)

        number = loop_var("v", vectors)
        yield from self._each_unit([For("v", vectors, (keep(number),), "unroll")])

        def square(vector: DimLike, valid: DimLike, first: int) -> tuple[Stmt, ...]:
            """`valid` lanes of the positions along the axis from `first` on, at most as many as lanes."""

            def source(row: DimLike, lane: DimLike) -> Expr:
                # Rows past the tile's are turned with the others, and not stored.
                position = dims.minimum(first + row, count - 1)
                return Load(kept, (linear((*outer, vector, position, lane), shape),))

            at = loop_var(f"{self.plan.lane}_l", lanes)
            along = dims.symbol(lane, 0, lanes - 1)
            place = self.point | {
                self.plan.lane: self.starts[self.plan.lane] + vector * lanes + at,
                axis: self.starts[axis] + first + along,
            }
            stored = finish(place, Load(turned, (at * lanes + along,)))
            out = For(lane, min(lanes, count - first), tuple(stored), "vector", lanes)
            return (
                *turned_tile(names, source, lanes, turned, 0, spare),
                For(f"{self.plan.lane}_l", valid, (out,)),
            )

        def squares(vector: DimLike, valid: DimLike) -> tuple[Stmt, ...]:
            return tuple(s for first in range(0, count, lanes) for s in square(vector, valid, first))

        found: tuple[Stmt, ...] = ()
        if whole:
            found = (For("v", whole, squares(loop_var("v", whole), lanes)),)
        if rest != 0:
            found += squares(whole, rest)
        for name, size in reversed(others.items()):
            found = (For(f"{name}_u", size, found),)
        yield from found

    def _lanes_of_sum(self) -> Iterator[Stmt]:
        lanes, lane, vectors = self.plan.lanes, loop_var("l", self.plan.lanes), self.plan.vectors
        acc = Buffer(self.name, self.problem.accumulator, (*self.units.values(), vectors, lanes), "register")
        low, extent = self.within(self.problem.axes[self.plan.lane])
        whole, rest = dims.floordiv(extent, lanes), dims.mod(extent, lanes)
        groups, single = dims.floordiv(whole, vectors), dims.mod(whole, vectors)
        number = loop_var("v", vectors)

        def element(vector: DimLike) -> IndexTuple:
            return (*self.unit, vector, lane)

        def each_vector(body: Sequence[Stmt], count: int = vectors) -> tuple[Stmt, ...]:
            return (For("v", count, tuple(body), "unroll"),) if count > 1 else tuple(body)

        def vector(bindings: Bindings, at: DimLike, size: DimLike, into: DimLike) -> tuple[Stmt, ...]:
            """Vector `at` of the sum, of which `size` lanes are inside, added to an accumulator."""
            place = self.point | bindings | {self.plan.lane: low + at * lanes + lane}
            inside = None if size == lanes else SCALAR.lt(Index(lane), Index(size))
            added = self._accumulate(acc, element(into), place, inside)
            return self._each_unit([For("l", lanes, (added,), "vector", lanes)])

        def added(bindings: Bindings) -> tuple[Stmt, ...]:
            found: tuple[Stmt, ...] = ()
            if groups != 0:
                group = loop_var(f"{self.plan.lane}_q", groups)
                found = each_vector(vector(bindings, group * vectors + number, lanes, number))
                if groups != 1:
                    found = (For(f"{self.plan.lane}_q", groups, found),)
            if isinstance(single, int):
                if single:
                    alone = loop_var("v", single)
                    found += each_vector(vector(bindings, groups * vectors + alone, lanes, alone), single)
            else:
                alone = loop_var(f"{self.plan.lane}_s", single)
                one = vector(bindings, groups * vectors + alone, lanes, 0)
                found += (For(f"{self.plan.lane}_s", single, one),)
            return found + (vector(bindings, whole, rest, vectors - 1) if rest != 0 else ())

        zero = Store(acc, element(number), Const(0, acc.dtype))
        yield from self._each_unit(each_vector([For("l", lanes, (zero,), "vector", lanes)]))
        yield from self._sum([a for a in self._summed if a.name != self.plan.lane], {}, added)
        sums: Expr = Load(acc, element(0))
        for other in range(1, vectors):
            sums = SCALAR.add(sums, Load(acc, element(other)))
        total = Let("total", LaneReduce("add", "l", lanes, sums))
        assert not isinstance(self.finish, Together)
        yield from self._each_unit([total, *self.finish(self.point, Var("total", acc.dtype))])

    @property
    def _summed(self) -> list[Axis]:
        return list(self.problem.reduction)

    def _sum(
        self, axes: Sequence[Axis], bindings: Bindings, added: Callable[[Bindings], tuple[Stmt, ...]]
    ) -> tuple[Stmt, ...]:
        """Loops over the reduction axes around what they add."""
        if not axes:
            return added(bindings)
        axis, *inner = axes
        low, extent = self.within(axis)

        def at(position: DimLike) -> tuple[Stmt, ...]:
            bound = bindings | {axis.name: low + position}
            begun = self.each[axis.name](self.starts | bound) if axis.name in self.each else ()
            return (*begun, *self._sum(inner, bound, added))

        if extent == 1:
            return at(0)
        unroll = self.plan.unroll.get(axis.name, 1)
        if unroll == 1 or extent == unroll:
            body = at(loop_var(axis.name, extent))
            return (For(axis.name, extent, body, "serial" if unroll == 1 else "unroll"),)
        groups, rest = dims.floordiv(extent, unroll), dims.mod(extent, unroll)
        copy = f"{axis.name}_u"
        found: tuple[Stmt, ...] = ()
        if groups != 0:
            repeated = at(loop_var(axis.name, groups) * unroll + loop_var(copy, unroll))
            found = (For(axis.name, groups, (For(copy, unroll, repeated, "unroll"),)),)
        if rest != 0:
            found += (For(axis.name, rest, at(groups * unroll + loop_var(axis.name, rest))),)
        return found

    def within(self, axis: Axis) -> tuple[DimLike, DimLike]:
        """First position and extent of a reduction axis, for this tile and in this task's part of the sum."""
        low, extent = self._whole_range(axis)
        if self.begun is None or axis is not self._summed[-1]:
            return low, extent
        rest = self.begun.rest(extent)
        return low + (extent - rest), rest

    @property
    def _is_left(self) -> bool:
        """Whether anything is to be added."""
        return self.begun is None or self.begun.rest(self._whole_range(self._summed[-1])[1]) != 0

    def _whole_range(self, axis: Axis) -> tuple[DimLike, DimLike]:
        if axis.name in self.plan.windows:
            window = self.problem.windows[axis.name]
            return window.of(self.starts[window.along], self.units.get(window.along, 1))
        if self.plan.parts == 1 or axis.name != self.plan.split:
            return 0, axis.extent
        part = loop_var(PART, self.plan.parts)
        low = dims.floordiv(part * axis.extent, self.plan.parts)
        return low, dims.floordiv((part + 1) * axis.extent, self.plan.parts) - low

    def _accumulate(
        self, acc: Buffer, element: IndexTuple, bindings: Mapping[str, DimLike], inside: Expr | None
    ) -> Stmt:
        """One multiply-add; where `inside` is false it adds nothing."""
        of_sum = self.plan.lane not in self.sizes

        def factor(operand: Access) -> Expr:
            found: Expr = operand.at(bindings)
            if inside is not None and (of_sum or operand.depends_on(self.plan.lane)):
                found = SCALAR.select(inside, found, Const(0, found.dtype))
            return found if self.problem.dot else SCALAR.cast(found, acc.dtype)

        left, right = map(factor, self.problem.operands)
        total = Load(acc, element)
        if self.problem.dot:
            return Store(acc, element, dot(self.problem.dot, total, left, right))
        return Store(acc, element, multiply_add(left, right, total))


def multiply_add(left: Expr, right: Expr, total: Expr) -> Expr:
    if total.dtype.is_floating_point:
        return SCALAR.fma(left, right, total)
    return SCALAR.add(SCALAR.mul(left, right), total)
