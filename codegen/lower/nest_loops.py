"""The loops of a nest on a CPU: vectors along one axis, the others shared among threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Expr, For, Load, Stmt
from ..target import MANY_REGISTERS, Target
from .context import LowerContext
from .elementwise import Nest
from .nests import axis_loops, loop_index, parallel_loop, vector_loop
from .template import Axis, stride, walk
from .transpose import Turn, find_turn, turn_loops

# Elements that one iteration of a parallel loop handles, about: a few microseconds of work.
BLOCK = 4096
# Vectors per loop iteration: hides the latency of loads where an element is only a few operations.
UNROLL = 4
# From so many operations on, one vector's wait for each other, and so few of the next vectors' fit beside them in a
# processor's window that several vectors are computed side by side where two can be in a cycle: on Zen 3 silu took 0.55
# of its time, gelu 0.85, exp 0.88, on a Granite Rapids gelu 0.85, exp 0.93, tanh 0.9 to 1.02, log1p 1.04.
CHAIN_COST = 12
SIDE_BY_SIDE = 4
# Turned tiles of a large array with vectors of at most so many bytes fetch what the next tile needs, and walk pieces of
# so many numbers of each row, but leave blocks to share: x.t() + y of 2048x2048 took 0.7 of its time on Zen 3.
NARROW_BYTES = 32
LONG_PIECE = 128
LEAST_BLOCKS = 16
# In a row, so that what lies past its end costs little.
LEAST_VECTORS = 16


class NestLoops:
    """A nest's loops, serial or shared among threads."""

    def __init__(self, ctx: LowerContext, nest: Nest):
        self.ctx = ctx
        self.nest = nest

    def lanes(self, vector: Axis) -> int:
        nest = self.nest
        return lanes_along(self.ctx, vector, nest.values, [e.buffer.dtype for e in nest.elements])

    def _row_lanes(self, vector: Axis) -> int:
        """Of bfloat16 alone two registers full, which are read, rounded and written as one (exp of 16384 numbers in 0.84
        of the time, sums of two in 0.83; float16 gains nothing)."""
        lanes = self.lanes(vector)
        loads = [x.dtype for x in walk(self.nest.values) if isinstance(x, Load)]
        short = all(t is dtypes.bf16 for t in (*loads, *(e.buffer.dtype for e in self.nest.elements)))
        full = lanes * dtypes.f32.itemsize == self.ctx.target.vector_bytes
        rounds = isinstance(self.ctx.target, Target) and self.ctx.target.has("avx512bf16")
        wide = short and full and rounds and dims.bounds(vector.extent)[1] >= 2 * lanes
        if wide:
            return 2 * lanes
        return lanes * interleaved(self.ctx, vector.extent, lanes, self.nest.operations)

    def inner(
        self,
        axes: Sequence[Axis],
        vector: Axis,
        bindings: dict[str, DimLike],
        extent: DimLike,
    ) -> tuple[Stmt, ...]:
        """Serial loops over `axes`, vectors over `extent` elements of `vector` from where it is bound."""
        start = bindings.get(vector.var, 0)

        def lanes(outer: dict[str, DimLike]) -> tuple[Stmt, ...]:
            def emit(position: DimLike, lane: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
                return self.nest.point({**outer, vector.var: start + position})

            unroll = UNROLL if self.nest.operations <= 8 else 1
            return vector_loop(self.nest.names, extent, self._row_lanes(vector), emit, unroll)

        return axis_loops(self.nest.names, axes, bindings, lanes)

    def serial(self) -> tuple[Stmt, ...]:
        if not self.nest.axes:
            return self.nest.point({})
        vector = self.nest.vector_axis()
        turn = self._turn(vector)
        if turn is not None:
            others = [a for a in self.nest.axes if a not in (vector, turn.along)]
            return axis_loops(self.nest.names, others, {}, lambda bound: self._turned(turn, bound))
        outer = [a for a in self.nest.axes if a is not vector]
        return self.inner(outer, vector, {}, vector.extent)

    def is_small(self) -> bool:
        return not self.nest.axes or dims.bounds(self.nest.work)[1] <= self.ctx.options.serial_below

    def parallel(self) -> tuple[tuple[Stmt, ...], DimLike]:
        """Statements, and the cost of an iteration of their parallel loop; serial where the work is small."""
        if self.is_small():
            return self.serial(), self.nest.work
        vector = self.nest.vector_axis()
        turn = self._turn(vector)
        if turn is not None:
            return self._parallel_turned(turn)
        shared: list[Axis] = []
        rest = [a for a in self.nest.axes if a is not vector]
        # Take outer axes into the parallel loop until an iteration is of the size of a block.
        while rest and (not shared or isinstance(rest[0].extent, int)):
            if shared and dims.bounds(dims.product(a.extent for a in [*rest, vector]))[1] <= BLOCK:
                break
            shared.append(rest.pop(0))
        if not shared:
            body = self._blocks(
                vector.extent,
                BLOCK,
                lambda start, extent: self.inner([], vector, {vector.var: start}, extent),
            )
            return body, BLOCK * self.nest.operations
        cost = dims.product(a.extent for a in [*rest, vector]) * self.nest.operations
        statements = parallel_loop(
            self.nest.names, shared, lambda bound: self.inner(rest, vector, bound, vector.extent)
        )
        return statements, cost

    def _blocks(
        self, total: DimLike, block: int, body: Callable[[DimLike, DimLike], tuple[Stmt, ...]]
    ) -> tuple[Stmt, ...]:
        """A parallel loop over blocks of an axis: `body(start, extent)` for each."""
        count = dims.floordiv(total + (block - 1), block)
        var = self.nest.names("p")
        start = loop_index(var, count) * block
        extent = dims.minimum(total - start, block)
        if isinstance(total, int) and total % block == 0:
            extent = block
        return (For(var, count, body(start, extent), "parallel"),)

    # Operands that are walked across

    def _turn(self, vector: Axis) -> Turn | None:
        return (
            None
            if self.nest.lookups
            else find_turn(self.nest.values, self.nest.axes, vector, self.lanes(vector))
        )

    def _fetches(self) -> bool:
        """Whether tiles are narrower than a line, of arrays that come from beyond the second-level cache."""
        target = self.ctx.target
        if not isinstance(target, Target) or target.vector_bytes > NARROW_BYTES:
            return False
        points = dims.bounds(dims.product(a.extent for a in self.nest.axes))[1]
        return points * dtypes.f32.itemsize > target.l2

    def _beside(self, turn: Turn) -> list[Load]:
        """What is stored and read, but for what is turned."""
        reads = [e for e in walk(self.nest.values) if isinstance(e, Load) and e.buffer.space == "global"]
        return [Load(e.buffer, (e.offset,)) for e in self.nest.elements] + [
            e for e in reads if not any(e is x for x in turn.loads)
        ]

    def _turned(
        self,
        turn: Turn,
        bound: dict[str, DimLike],
        start: DimLike = 0,
        count: DimLike | None = None,
    ) -> tuple[Stmt, ...]:
        """All of the vector axis, and `count` elements of the axis across from `start` on."""
        count = turn.along.extent if count is None else count
        soon = self._beside(turn) if self._fetches() else ()
        tiles = turn_loops(self.nest.names, turn, bound, start, count, self.nest.point, soon)
        whole = dims.floordiv(count, turn.lanes) * turn.lanes
        across, left = turn.vector, dims.mod(turn.vector.extent, turn.lanes)
        rest: tuple[Stmt, ...] = ()
        if left != 0:  # beside the tiles
            rest += axis_loops(
                self.nest.names,
                [Axis(turn.along.var, whole)],
                bound,
                lambda b: self.inner(
                    [],
                    across,
                    {**b, turn.along.var: b[turn.along.var] + start, across.var: across.extent - left},
                    left,
                ),
            )
        below = dims.mod(count, turn.lanes)
        if below != 0:
            rest += axis_loops(
                self.nest.names,
                [Axis(turn.along.var, below)],
                bound,
                lambda b: self.inner(
                    [], across, {**b, turn.along.var: b[turn.along.var] + (start + whole)}, across.extent
                ),
            )
        return tiles + rest

    def _parallel_turned(self, turn: Turn) -> tuple[tuple[Stmt, ...], DimLike]:
        others = [a for a in self.nest.axes if a not in (turn.vector, turn.along)]
        if others:
            cost = turn.along.extent * turn.vector.extent * self.nest.operations
            return parallel_loop(self.nest.names, others, lambda bound: self._turned(turn, bound)), cost
        block = 4 * turn.lanes
        if self._fetches():
            along = dims.bounds(turn.along.extent)[1]
            block = turn.lanes * max(4, min(LONG_PIECE // turn.lanes, along // (LEAST_BLOCKS * turn.lanes)))
        body = self._blocks(
            turn.along.extent, block, lambda start, extent: self._turned(turn, {}, start, extent)
        )
        return body, turn.vector.extent * block * self.nest.operations


def interleaved(ctx: LowerContext, extent: DimLike, lanes: int, count: int) -> int:
    """How many vectors to compute side by side along an axis of this extent, for so many operations on each."""
    target = ctx.target
    two = isinstance(target, Target) and (target.registers < MANY_REGISTERS or target.adds_two_widest)
    pays = two and count >= CHAIN_COST and dims.bounds(extent)[0] >= LEAST_VECTORS * lanes
    return SIDE_BY_SIDE if pays else 1


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


def nests_on_cpu(ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None:
    """Large nests as kernels of their own, which threads share; the small ones together as one."""
    small: list[Stmt] = []
    work: DimLike = 0
    for nest in nests:
        loops = NestLoops(ctx, nest)
        if len(nests) > 1 and loops.is_small():
            small += loops.serial()
            work = work + nest.work
        else:
            statements, cost = loops.parallel()
            ctx.launch(name, statements, cost=cost, flops=nest.work)
    if small:
        ctx.launch(name, small, cost=work, flops=work)
