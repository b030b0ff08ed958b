"""The loops of a contraction: tiles of the result held in registers, summed over the reduction axes.

    for task in parallel              # blocks of tiles, and parts of a split sum
      for tile in the task            # one loop nest per full tile and per smaller tile at an axis's end
        acc[tile] = 0
        for r in reduction axes
          acc[tile] += left[tile, r] * right[tile, r]
        result[tile] = epilogue(acc[tile])

A plan (`tiling.py`) says which axis runs along vector lanes. Along an axis of the result, one operand is read as
vectors and the other usually broadcast; along a reduction axis both are vectors, and lanes are added at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Buffer, Const, Expr, For, Index, LaneReduce, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from .contraction import Axis, Contraction
from .indexing import IndexTuple
from .tiling import Plan

Bindings = dict[str, DimLike]
Finish = Callable[[IndexTuple, Expr], Sequence[Stmt]]
# From a vector's number in the tile, and the condition for a lane to be inside where not all are.
VectorBody = Callable[[DimLike, Expr | None], Sequence[Stmt]]

PART = "part"


@dataclass(frozen=True)
class Segment:
    """Tiles of one size along an axis: the loops over them, where a tile starts, how long it is."""

    loops: tuple[tuple[str, DimLike], ...]
    start: DimLike
    size: DimLike


def contraction_loops(problem: Contraction, plan: Plan, finish: Finish) -> tuple[Stmt, ...]:
    """The kernel's body. `finish(index, value)` stores the sum at an index of the result; with a plan of several
    parts the index leads with the part's number."""
    return _Nest(problem, plan, finish).body()


@dataclass
class _Nest:
    problem: Contraction
    plan: Plan
    finish: Finish
    lets: list[Let] = field(default_factory=list)

    def body(self) -> tuple[Stmt, ...]:
        tasks: list[tuple[str, DimLike]] = []
        if self.plan.parts > 1:
            tasks.append((PART, self.plan.parts))
        tasks += [(f"{name}_b", self.plan.tasks(self.problem, name)) for name in self.plan.blocks]
        tasks = [(name, count) for name, count in tasks if count != 1]
        # Only the slowest task index may have an extent that is a symbol: the others are divided by.
        tasks.sort(key=lambda task: isinstance(task[1], int))
        inner = self._tiles(0, {}, {})
        if not tasks:
            return inner
        if len(tasks) == 1:
            return (For(tasks[0][0], tasks[0][1], inner, "parallel"),)
        total = dims.product(count for _, count in tasks)
        position = _loop_var("task", total)
        decoded: list[Stmt] = []
        below: DimLike = 1
        for name, count in reversed(tasks):
            place = dims.floordiv(position, below)
            if name != tasks[0][0]:
                place = dims.mod(place, count)
            decoded.append(Let(name, Index(place)))
            below = below * count
        return (For("task", total, (*reversed(decoded), *inner), "parallel"),)

    # Tiles.

    def _tiles(self, depth: int, starts: Bindings, sizes: dict[str, DimLike]) -> tuple[Stmt, ...]:
        """Loops over the tiles of the axes from `depth` inwards, around the work of one tile."""
        if depth == len(self.plan.order):
            return tuple(self._tile(starts, sizes))
        axis = self.problem.axes[self.plan.order[depth]]
        body: list[Stmt] = []
        for segment in self._segments(axis):
            inner = self._tiles(
                depth + 1, starts | {axis.name: segment.start}, sizes | {axis.name: segment.size}
            )
            for name, extent in reversed(segment.loops):
                inner = (For(name, extent, inner),)
            body += inner
        return tuple(body)

    def _segments(self, axis: Axis) -> Iterator[Segment]:
        name, size = axis.name, self.plan.tile(axis.name)
        count = dims.floordiv(axis.extent + (size - 1), size)
        full, rest = dims.floordiv(axis.extent, size), dims.mod(axis.extent, size)
        first: DimLike = 0
        here, last = full, dims.minimum(1, rest)
        block = self.plan.blocks.get(name)
        if block is not None:
            first = _loop_var(f"{name}_b", self.plan.tasks(self.problem, name)) * block
            here = dims.minimum(block, full - first)
            last = dims.minimum(block, count - first) - here
        tile = _loop_var(f"{name}_t", here)
        if here != 0:
            yield Segment(_loops((f"{name}_t", here)), (first + tile) * size, size)
        if rest == 0:
            return
        end = full * size
        once = _loops((f"{name}_e", last))
        if isinstance(rest, int):
            yield Segment(once, end, rest)
        elif name != self.plan.lane:
            yield Segment((*once, (f"{name}_t", rest)), end + _loop_var(f"{name}_t", rest), 1)
        else:
            lanes = self.plan.lanes
            vectors = dims.floordiv(rest, lanes)
            if vectors != 0:
                start = end + _loop_var(f"{name}_t", vectors) * lanes
                yield Segment((*once, (f"{name}_t", vectors)), start, lanes)
            yield Segment(once, dims.floordiv(axis.extent, lanes) * lanes, dims.mod(axis.extent, lanes))

    # One tile.

    def _tile(self, starts: Bindings, sizes: dict[str, DimLike]) -> Iterator[Stmt]:
        shape = {a: n for a, n in sizes.items() if a != self.plan.lane and isinstance(n, int) and n > 1}
        units = {a: starts[a] + _loop_var(f"{a}_u", n) for a, n in shape.items()}
        point = starts | units
        for axis in self.problem.parallel:
            point.setdefault(axis.name, 0)
        lead = tuple(_loop_var(f"{a}_u", n) for a, n in shape.items())
        along_result = self.plan.lane in sizes
        vectors = _vectors(sizes[self.plan.lane], self.plan.lanes) if along_result else 1
        acc = Buffer("acc", self.problem.accumulator, (*shape.values(), vectors, self.plan.lanes), "register")

        def units_loop(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
            for name, count in reversed(shape.items()):
                body = (For(f"{name}_u", count, tuple(body), "unroll"),)
            return tuple(body)

        if along_result:
            yield from self._lanes_of_result(
                acc, lead, point, starts[self.plan.lane], sizes[self.plan.lane], units_loop
            )
        else:
            yield from self._lanes_of_sum(acc, lead, point, units_loop)

    def _lanes_of_result(
        self,
        acc: Buffer,
        lead: IndexTuple,
        point: Bindings,
        start: DimLike,
        size: DimLike,
        units_loop: Callable[[Sequence[Stmt]], tuple[Stmt, ...]],
    ) -> Iterator[Stmt]:
        lanes = self.plan.lanes
        whole, rest = size // lanes if isinstance(size, int) else 0, dims.mod(size, lanes)
        lane, vector = _loop_var("l", lanes), _loop_var("v", whole)

        def vectors_loop(body: VectorBody, masked: bool = False) -> tuple[Stmt, ...]:
            """`body` for whole vectors, then for the one that is only partly inside; masked, it runs only there."""
            found: tuple[Stmt, ...] = ()
            if whole:
                inner = For("l", lanes, tuple(body(vector, None)), "vector", lanes)
                found = (For("v", whole, (inner,), "unroll"),) if whole > 1 else (inner,)
            if rest != 0:
                inside = None if masked or self.plan.padded else SCALAR.lt(Index(lane), Index(rest))
                last = tuple(body(whole, inside))
                found += (For("l", rest if masked else lanes, last, "vector", lanes),)
            return units_loop(found)

        def place(vector: DimLike) -> Bindings:
            return point | {self.plan.lane: start + vector * lanes + lane}

        zero = Const(0, acc.dtype)
        yield from vectors_loop(lambda v, _: [Store(acc, (*lead, v, lane), zero)])

        def step(bindings: Bindings) -> tuple[Stmt, ...]:
            return vectors_loop(
                lambda v, inside: [self._accumulate(acc, (*lead, v, lane), place(v) | bindings, inside)]
            )

        yield from self._sum(0, {}, step)
        yield from vectors_loop(
            lambda v, _: self._finish(place(v), Load(acc, (*lead, v, lane))), masked=True
        )

    def _lanes_of_sum(
        self,
        acc: Buffer,
        lead: IndexTuple,
        point: Bindings,
        units_loop: Callable[[Sequence[Stmt]], tuple[Stmt, ...]],
    ) -> Iterator[Stmt]:
        lanes = self.plan.lanes
        lane = _loop_var("l", lanes)
        element = (*lead, 0, lane)
        yield from units_loop([For("l", lanes, (Store(acc, element, Const(0, acc.dtype)),), "vector", lanes)])

        def step(bindings: Bindings) -> tuple[Stmt, ...]:
            low, extent = self._range(self.problem.axes[self.plan.lane])

            def chunk(start: DimLike, size: DimLike) -> tuple[Stmt, ...]:
                at = point | bindings | {self.plan.lane: low + start + lane}
                inside = None if size == lanes else SCALAR.lt(Index(lane), Index(size))
                added = self._accumulate(acc, element, at, inside)
                return units_loop([For("l", lanes, (added,), "vector", lanes)])

            whole, rest = dims.floordiv(extent, lanes), dims.mod(extent, lanes)
            name = f"{self.plan.lane}_q"
            found: tuple[Stmt, ...] = ()
            if whole == 1:
                found = chunk(0, lanes)
            elif whole != 0:
                found = (For(name, whole, chunk(_loop_var(name, whole) * lanes, lanes)),)
            return found + (chunk(whole * lanes, rest) if rest != 0 else ())

        yield from self._sum(0, {}, step)
        total = LaneReduce("add", "l", lanes, Load(acc, element))
        yield from units_loop([Let("total", total), *self._finish(point, Var("total", acc.dtype))])

    def _sum(
        self, depth: int, bindings: Bindings, step: Callable[[Bindings], tuple[Stmt, ...]]
    ) -> tuple[Stmt, ...]:
        """Loops over the reduction axes that are not along lanes."""
        axes = [a for a in self.problem.reduction if a.name != self.plan.lane]
        if depth == len(axes):
            return step(bindings)
        axis = axes[depth]
        low, extent = self._range(axis)
        if extent == 1:
            return self._sum(depth + 1, bindings | {axis.name: low}, step)
        unroll = self.plan.unroll.get(axis.name, 1)
        if unroll == 1 or extent == unroll:
            kind = "serial" if unroll == 1 else "unroll"
            at = low + _loop_var(axis.name, extent)
            return (For(axis.name, extent, self._sum(depth + 1, bindings | {axis.name: at}, step), kind),)
        groups, rest = dims.floordiv(extent, unroll), dims.mod(extent, unroll)
        body: list[Stmt] = []
        if groups != 0:
            at = low + _loop_var(axis.name, groups) * unroll + _loop_var(f"{axis.name}_u", unroll)
            inner = self._sum(depth + 1, bindings | {axis.name: at}, step)
            body.append(For(axis.name, groups, (For(f"{axis.name}_u", unroll, inner, "unroll"),)))
        if rest != 0:
            at = low + groups * unroll + _loop_var(axis.name, rest)
            body.append(For(axis.name, rest, self._sum(depth + 1, bindings | {axis.name: at}, step)))
        return tuple(body)

    def _range(self, axis: Axis) -> tuple[DimLike, DimLike]:
        """First position and extent of a reduction axis in this task's part of the sum."""
        if self.plan.parts == 1 or axis.name != self.plan.split:
            return 0, axis.extent
        part = _loop_var(PART, self.plan.parts)
        low = dims.floordiv(part * axis.extent, self.plan.parts)
        return low, dims.floordiv((part + 1) * axis.extent, self.plan.parts) - low

    def _accumulate(
        self, acc: Buffer, element: IndexTuple, bindings: Mapping[str, DimLike], inside: Expr | None = None
    ) -> Stmt:
        """One multiply-add. Where `inside` is false the operands count as zeros: a masked load costs no more than
        another, a masked accumulator does."""
        factors = []
        for operand in self.problem.operands:
            factor: Expr = operand.at(bindings)
            if inside is not None and operand.depends_on(self.plan.lane):
                factor = SCALAR.select(inside, factor, Const(0, factor.dtype))
            factors.append(SCALAR.cast(factor, acc.dtype))
        return Store(acc, element, multiply_add(*factors, Load(acc, element)))

    def _finish(self, bindings: Mapping[str, DimLike], value: Expr) -> Sequence[Stmt]:
        index = tuple(dims.substitute(i, bindings) for i in self.problem.result)
        if self.plan.parts > 1:
            index = (_loop_var(PART, self.plan.parts), *index)
        return self.finish(index, value)


def multiply_add(left: Expr, right: Expr, total: Expr) -> Expr:
    dtype: DType = total.dtype
    if dtype.is_floating_point:
        return SCALAR.fma(left, right, total)
    return SCALAR.add(SCALAR.mul(left, right), total)


def _loop_var(name: str, extent: DimLike) -> DimLike:
    """The variable of a loop; 0 for a loop that runs just once, which is not written."""
    if extent == 1:
        return 0
    return dims.symbol(name, 0, max(0, dims.bounds(extent)[1] - 1))


def _loops(loop: tuple[str, DimLike]) -> tuple[tuple[str, DimLike], ...]:
    return () if loop[1] == 1 else (loop,)


def _vectors(size: DimLike, lanes: int) -> int:
    return -(-size // lanes) if isinstance(size, int) else 1
