"""Running sums, products and extremes along a dim: one element after the other, as NumPy accumulates them.

Along the last dim a few rows are walked together, so that their chains of operations overlap; along another one, vectors
hold neighbours of the last dim. Sums and products of floats are carried in float64, as ATen does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..loops.nodes import Buffer, Const, Expr, For, Load, Stmt, Store
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .indexing import BodyEvaluator
from .nests import axis_loops, loop_index, parallel_loop, serial_loop, vector_block
from .rows import identity
from .spaces import linear
from .template import Axis, Element, bind_shared, make_axes

COMBINES = {"cumsum": "add", "cumprod": "mul", "cummax": "max", "cummin": "min"}
# Rows walked together, and elements of each in turn: a cache line of float32.
ROWS = 4
ELEMENTS = 16
VECTORS = 8


def lower_running(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    (result,) = op.outputs
    shape, names = result.type.shape, Names()
    axes = make_axes(names, shape)
    index = tuple(a.index for a in axes)
    evaluator = BodyEvaluator(
        body, {v: args[v] for v in body.inputs}, None, ctx.flat, {a.var: a.extent for a in axes}
    )
    element = evaluator.at(op.inputs[0], index)
    target = ctx.flat(args[result])
    combine = COMBINES[op.op.name]
    dtype = _carried(combine, element.dtype)
    running = _Running(
        names, axes, op.attrs["dim"] if shape else 0, combine, dtype, SCALAR.cast(element, dtype),
        Element(target, linear(index, shape), element), bool(op.attrs.get("reverse")),
    )  # fmt: skip
    if 0 in shape:
        return
    if not shape:
        ctx.launch(name, [running.stored.store()])
        return
    lanes = ctx.target.lanes(dtype)
    kernels = [running.columns(lanes)] if running.dim < len(shape) - 1 else running.rows()
    for statements in kernels:
        ctx.launch(name, statements, cost=running.cost(lanes), flops=result.type.numel)


def _carried(combine: str, dtype: DType) -> DType:
    return dtypes.f64 if combine in ("add", "mul") and dtype.is_floating_point else dtype


@dataclass(frozen=True)
class _Running:
    """`value` and what is stored, over the axes."""

    names: Names
    axes: Sequence[Axis]
    dim: int
    combine: str
    dtype: DType
    value: Expr
    stored: Element
    reverse: bool

    @property
    def start(self) -> Const:
        """What leaves the first element as it is, a negative zero too."""
        if self.combine == "add" and self.dtype.is_floating_point:
            return Const(-0.0, self.dtype)
        return identity(self.combine, self.dtype)

    def cost(self, lanes: int) -> DimLike:
        """Of one iteration of the parallel loop."""
        along = self.axes[self.dim].extent
        return along * (lanes * VECTORS if self.dim < len(self.axes) - 1 else ROWS)

    def step(self, bound: dict[str, DimLike], at: DimLike, register: Load) -> tuple[Stmt, ...]:
        """The next element, at position `at` from where it begins."""
        along = self.axes[self.dim]
        bindings = bound | {along.var: along.extent - 1 - at if self.reverse else at}
        element = Element(self.stored.buffer, self.stored.offset, self.value).at(bindings)
        total = SCALAR._apply(self.combine, register, element.value)
        stored = SCALAR.cast(register, self.stored.buffer.dtype)
        return (
            *bind_shared([Store(register.buffer, register.index, total)], self.names),
            Store(element.buffer, (element.offset,), stored),
        )

    def rows(self) -> Iterator[tuple[Stmt, ...]]:
        """Along the last dim: a kernel for the groups of rows, one for those that are left."""
        outer = self.axes[:-1]
        if not outer:
            yield self._together({}, None, 0, 1)
            return
        *others, last = outer
        groups, rest = dims.floordiv(last.extent, ROWS), dims.mod(last.extent, ROWS)
        for count, start, size in ((groups, 0, ROWS), (rest, groups * ROWS, 1)):
            if count == 0:
                continue
            group = Axis(self.names("g"), count)

            def emit(
                bound: dict[str, DimLike], group: Axis = group, start: DimLike = start, size: int = size
            ) -> tuple[Stmt, ...]:
                return self._together(bound, last, start + bound[group.var] * size, size)

            yield self._shared([*others, group], emit)

    def _shared(
        self, axes: list[Axis], emit: Callable[[dict[str, DimLike]], Sequence[Stmt]]
    ) -> tuple[Stmt, ...]:
        """A parallel loop over as many of the axes as can be one, serial ones inside."""
        static = next(
            (n for n in range(len(axes), 0, -1) if all(isinstance(a.extent, int) for a in axes[1:n])), 1
        )
        return parallel_loop(
            self.names, axes[:static], lambda bound: axis_loops(self.names, axes[static:], bound, emit)
        )

    def _together(
        self, bound: dict[str, DimLike], across: Axis | None, start: DimLike, size: int
    ) -> tuple[Stmt, ...]:
        """So many rows, from row `start` of the axis on."""
        along = self.axes[-1]
        acc = Buffer(self.names("run"), self.dtype, (size,), "register")

        def each_row(emit: Callable[[dict[str, DimLike], Load], Sequence[Stmt]]) -> tuple[Stmt, ...]:
            var = self.names("u")
            row = loop_index(var, size)
            bindings = bound if across is None else bound | {across.var: start + row}
            return (For(var, size, tuple(emit(bindings, Load(acc, (row,)))), "unroll"),)

        def elements(count: int) -> Callable[[DimLike], tuple[Stmt, ...]]:
            def emit(first: DimLike) -> tuple[Stmt, ...]:
                var = self.names("k")
                k = loop_index(var, count)
                return each_row(lambda b, r: (For(var, count, self.step(b, first + k, r), "unroll"),))

            return emit

        whole = dims.floordiv(along.extent, ELEMENTS)
        run = elements(ELEMENTS)
        return (
            *each_row(lambda _, register: [Store(acc, register.index, self.start)]),
            *serial_loop(self.names, whole, lambda i: run(i * ELEMENTS)),
            *serial_loop(
                self.names, dims.mod(along.extent, ELEMENTS), lambda i: elements(1)(whole * ELEMENTS + i)
            ),
        )

    def columns(self, lanes: int) -> tuple[Stmt, ...]:
        """Along another dim than the last, vectors along that one."""
        along, last = self.axes[self.dim], self.axes[-1]
        others = [a for a in self.axes[:-1] if a is not along]
        width = lanes * VECTORS
        blocks = Axis(self.names("b"), dims.floordiv(last.extent + (width - 1), width))

        def emit(bound: dict[str, DimLike]) -> tuple[Stmt, ...]:
            first = bound[blocks.var] * width
            acc = Buffer(self.names("run"), self.dtype, (VECTORS, lanes), "register")

            def vectors(body: Callable[[dict[str, DimLike], Load], Sequence[Stmt]]) -> tuple[Stmt, ...]:
                found: tuple[Stmt, ...] = ()
                for v in range(VECTORS):
                    start = first + v * lanes
                    count = dims.minimum(dims.minimum(start, last.extent) * -1 + last.extent, lanes)
                    found += vector_block(
                        self.names,
                        count,
                        lanes,
                        lambda lane, v=v, start=start: body(  # type: ignore[misc]
                            bound | {last.var: start + lane}, Load(acc, (v, lane))
                        ),
                    )
                return found

            return (
                *vectors(lambda _, register: [Store(acc, register.index, self.start)]),
                *serial_loop(
                    self.names, along.extent, lambda i: vectors(lambda b, register: self.step(b, i, register))
                ),
            )

        return self._shared([*others, blocks], emit)
