"""Nests: elements to be stored for every point of a space, none of which depends on another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Check, Expr, For, Let, Load, Stmt, Var
from ..scalar import SCALAR
from .context import LowerContext
from .indexing import number
from .names import Names
from .nests import axis_loops, loop_index, parallel_loop, vector_loop
from .template import (
    Axis,
    Element,
    bind_shared,
    collapse,
    index_values,
    instantiate,
    operations,
    stride,
    walk,
)
from .transpose import Turn, find_turn, turn_loops

# Elements that one iteration of a parallel loop handles, about: a few microseconds of work.
BLOCK = 4096
# Vectors per loop iteration: hides the latency of loads where an element is only a few operations.
UNROLL = 4


@dataclass(frozen=True)
class Lookup:
    """An index read from memory: the template's symbol `name` stands for `value` (i64), checked to be at
    least 0 and below `size`, or else the program's status becomes `code` and the index is clamped."""

    name: str
    value: Expr
    size: DimLike
    code: int

    def bind(self, names: Names, value: Expr) -> tuple[list[Stmt], DimLike]:
        """Statements that read the index, and the index."""
        raw, safe = names(f"{self.name}_raw"), names(self.name)
        given = Var(raw, dtypes.i64)
        last = number(self.size - 1, dtypes.i64)
        inside = SCALAR.and_(SCALAR.ge(given, 0), SCALAR.le(given, last))
        clamped = SCALAR.max(SCALAR.min(given, last), 0)
        statements: list[Stmt] = [Let(raw, value), Check(inside, self.code), Let(safe, clamped)]
        return statements, loop_index(safe, self.size)


class Nest:
    """Elements to be stored for every point of a space of axes, in any order."""

    def __init__(
        self,
        names: Names,
        axes: Sequence[Axis],
        elements: Sequence[Element],
        lookups: Sequence[Lookup] = (),
    ):
        self.names = names
        indices = index_values([*(e.value for e in elements), *(k.value for k in lookups)])
        indices += [e.offset for e in elements]
        self.axes, bindings = collapse(axes, indices)
        memo: dict[int, Expr] = {}
        self.elements = [e.at(bindings, memo) for e in elements]
        self.lookups = [Lookup(k.name, instantiate(k.value, bindings, memo), k.size, k.code) for k in lookups]
        self.size = dims.product(a.extent for a in self.axes)
        self.values = [*(e.value for e in self.elements), *(k.value for k in self.lookups)]
        self.operations = max(operations(self.values), 1) + 4 * len(self.lookups)
        self.work: DimLike = self.size * self.operations

    def lanes(self, ctx: LowerContext, vector: Axis) -> int:
        return lanes_along(ctx, vector, self.values, [e.buffer.dtype for e in self.elements])

    def vector_axis(self) -> Axis:
        """The axis along which most accesses are contiguous or constant; the last among equals."""
        indices = index_values(self.values)

        def score(axis: Axis) -> tuple[int, bool]:
            reads = sum(stride(i, axis) in (0, 1) for i in indices)
            writes = sum(stride(e.offset, axis) == 1 for e in self.elements)
            return reads + 2 * writes, axis is self.axes[-1]

        return max(self.axes, key=score)

    def point(
        self, bindings: dict[str, DimLike], known: Mapping[int, Expr] | None = None
    ) -> tuple[Stmt, ...]:
        """The stores at a point; `known` holds, by id, what stands for some loads."""
        memo = dict(known or {})
        statements: list[Stmt] = []
        for lookup in self.lookups:
            found, index = lookup.bind(self.names, instantiate(lookup.value, bindings, memo))
            statements += found
            bindings = {**bindings, lookup.name: index}
            memo = dict(known or {})
        statements += [e.at(bindings, memo).store() for e in self.elements]
        return bind_shared(statements, self.names)

    def inner(
        self,
        ctx: LowerContext,
        axes: Sequence[Axis],
        vector: Axis,
        bindings: dict[str, DimLike],
        extent: DimLike,
    ) -> tuple[Stmt, ...]:
        """Serial loops over `axes`, vectors over `extent` elements of `vector` from where it is bound."""
        start = bindings.get(vector.var, 0)

        def lanes(outer: dict[str, DimLike]) -> tuple[Stmt, ...]:
            def emit(position: DimLike, lane: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
                return self.point({**outer, vector.var: start + position})

            unroll = UNROLL if self.operations <= 8 else 1
            return vector_loop(self.names, extent, self.lanes(ctx, vector), emit, unroll)

        return axis_loops(self.names, axes, bindings, lanes)

    def serial(self, ctx: LowerContext) -> tuple[Stmt, ...]:
        if not self.axes:
            return self.point({})
        vector = self.vector_axis()
        turn = self._turn(ctx, vector)
        if turn is not None:
            others = [a for a in self.axes if a not in (vector, turn.along)]
            return axis_loops(self.names, others, {}, lambda bound: self._turned(ctx, turn, bound))
        outer = [a for a in self.axes if a is not vector]
        return self.inner(ctx, outer, vector, {}, vector.extent)

    def is_small(self, ctx: LowerContext) -> bool:
        return not self.axes or dims.bounds(self.work)[1] <= ctx.options.serial_below

    def parallel(self, ctx: LowerContext) -> tuple[tuple[Stmt, ...], DimLike]:
        """Statements, and the cost of an iteration of their parallel loop; serial where the work is small."""
        if self.is_small(ctx):
            return self.serial(ctx), self.work
        vector = self.vector_axis()
        turn = self._turn(ctx, vector)
        if turn is not None:
            return self._parallel_turned(ctx, turn)
        shared: list[Axis] = []
        rest = [a for a in self.axes if a is not vector]
        # Take outer axes into the parallel loop until an iteration is of the size of a block.
        while rest and (not shared or isinstance(rest[0].extent, int)):
            if shared and dims.bounds(dims.product(a.extent for a in [*rest, vector]))[1] <= BLOCK:
                break
            shared.append(rest.pop(0))
        if not shared:
            body = self._blocks(
                vector.extent,
                BLOCK,
                lambda start, extent: self.inner(ctx, [], vector, {vector.var: start}, extent),
            )
            return body, BLOCK * self.operations
        cost = dims.product(a.extent for a in [*rest, vector]) * self.operations
        statements = parallel_loop(
            self.names, shared, lambda bound: self.inner(ctx, rest, vector, bound, vector.extent)
        )
        return statements, cost

    def _blocks(
        self, total: DimLike, block: int, body: Callable[[DimLike, DimLike], tuple[Stmt, ...]]
    ) -> tuple[Stmt, ...]:
        """A parallel loop over blocks of an axis: `body(start, extent)` for each."""
        count = dims.floordiv(total + (block - 1), block)
        var = self.names("p")
        start = loop_index(var, count) * block
        extent = dims.minimum(total - start, block)
        if isinstance(total, int) and total % block == 0:
            extent = block
        return (For(var, count, body(start, extent), "parallel"),)

    # Operands that are walked across

    def _turn(self, ctx: LowerContext, vector: Axis) -> Turn | None:
        return None if self.lookups else find_turn(self.values, self.axes, vector, self.lanes(ctx, vector))

    def _turned(
        self,
        ctx: LowerContext,
        turn: Turn,
        bound: dict[str, DimLike],
        start: DimLike = 0,
        count: DimLike | None = None,
    ) -> tuple[Stmt, ...]:
        """All of the vector axis, and `count` elements of the axis across from `start` on."""
        count = turn.along.extent if count is None else count
        tiles = turn_loops(self.names, turn, bound, start, count, self.point)
        whole = dims.floordiv(count, turn.lanes) * turn.lanes
        across, left = turn.vector, dims.mod(turn.vector.extent, turn.lanes)
        rest: tuple[Stmt, ...] = ()
        if left != 0:  # beside the tiles
            rest += axis_loops(
                self.names,
                [Axis(turn.along.var, whole)],
                bound,
                lambda b: self.inner(
                    ctx,
                    [],
                    across,
                    {**b, turn.along.var: b[turn.along.var] + start, across.var: across.extent - left},
                    left,
                ),
            )
        below = dims.mod(count, turn.lanes)
        if below != 0:
            rest += axis_loops(
                self.names,
                [Axis(turn.along.var, below)],
                bound,
                lambda b: self.inner(
                    ctx, [], across, {**b, turn.along.var: b[turn.along.var] + (start + whole)}, across.extent
                ),
            )
        return tiles + rest

    def _parallel_turned(self, ctx: LowerContext, turn: Turn) -> tuple[tuple[Stmt, ...], DimLike]:
        others = [a for a in self.axes if a not in (turn.vector, turn.along)]
        if others:
            cost = turn.along.extent * turn.vector.extent * self.operations
            return parallel_loop(self.names, others, lambda bound: self._turned(ctx, turn, bound)), cost
        block = 4 * turn.lanes
        body = self._blocks(
            turn.along.extent, block, lambda start, extent: self._turned(ctx, turn, {}, start, extent)
        )
        return body, turn.vector.extent * block * self.operations


def lanes_along(ctx: LowerContext, axis: Axis, values: Sequence[Expr], results: Sequence[DType]) -> int:
    """Lanes by the widest element that varies along the axis; narrow types do not fill their registers."""
    widths = [r.itemsize for r in results]
    for load in walk(values):
        if isinstance(load, Load) and any(stride(i, axis) != 0 for i in load.index):
            widths.append(load.dtype.itemsize)
    lanes = max(1, ctx.target.vector_bytes // max(4, *widths))
    # A short axis leaves the upper lanes idle: half as wide a vector does as well, for less.
    longest = dims.bounds(axis.extent)[1]
    while lanes > 1 and lanes // 2 >= longest:
        lanes //= 2
    return lanes


def launch_nests(ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None:
    """Large nests as kernels of their own, which threads share; the small ones together as one."""
    small: list[Stmt] = []
    work: DimLike = 0
    for nest in nests:
        if len(nests) > 1 and nest.is_small(ctx):
            small += nest.serial(ctx)
            work = work + nest.work
        else:
            statements, cost = nest.parallel(ctx)
            ctx.launch(name, statements, cost=cost, flops=nest.work)
    if small:
        ctx.launch(name, small, cost=work, flops=work)
