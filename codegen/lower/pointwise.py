"""Groups of kind "loop": every output element is a function of input elements, none depends on another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ..loops.nodes import Buffer, Expr, For, Load, Stmt
from .context import Args, LowerContext, Names
from .indexing import BodyEvaluator, at_least, value_range
from .nests import axis_loops, loop_index, parallel_loop, vector_loop
from .template import (
    Axis,
    Element,
    bind_shared,
    collapse,
    index_values,
    make_axes,
    operations,
    stride,
    walk,
)

# Elements that one iteration of a parallel loop handles, about: a few microseconds of work.
BLOCK = 4096
# Vectors per loop iteration: hides the latency of loads where an element is only a few operations.
UNROLL = 4
# A guard splits an axis into ranges where it is decided; more nests than this are not worth their code.
MAX_PIECES = 27


def lower_loop(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """One kernel: a nest for each iteration space among the outputs, and each piece where guards are
    decided."""
    name = node.attrs["name"]
    nests = space_nests(ctx, body, args, body.outputs)
    flops: DimLike = 0
    for nest in nests:
        flops = flops + nest.work
    if len(nests) == 1:
        statements, cost = nests[0].parallel(ctx)
        ctx.launch(name, statements, cost=cost, flops=flops)
        return
    names = Names()
    for nest in nests:
        nest.names = names
    ctx.launch(name, [s for nest in nests for s in nest.serial(ctx)], cost=flops, flops=flops)


class Nest:
    """Elements to be stored for every point of a space of axes, in any order."""

    def __init__(self, names: Names, axes: Sequence[Axis], elements: Sequence[Element]):
        self.names = names
        indices = [*index_values(e.value for e in elements), *(e.offset for e in elements)]
        self.axes, bindings = collapse(axes, indices)
        memo: dict[int, Expr] = {}
        self.elements = [e.at(bindings, memo) for e in elements]
        self.size = dims.product(a.extent for a in self.axes)
        self.operations = max(operations(e.value for e in self.elements), 1)
        self.work: DimLike = self.size * self.operations

    def lanes(self, ctx: LowerContext) -> int:
        """By the widest element; narrow types do not fill their registers."""
        widths = [e.buffer.dtype.itemsize for e in self.elements]
        widths += [x.dtype.itemsize for x in walk(e.value for e in self.elements) if isinstance(x, Load)]
        return ctx.target.vector_bytes // max(4, *widths)

    def vector_axis(self) -> Axis:
        """The axis along which most accesses are contiguous or constant; the last among equals."""
        indices = index_values(e.value for e in self.elements)

        def score(axis: Axis) -> tuple[int, bool]:
            reads = sum(stride(i, axis) in (0, 1) for i in indices)
            writes = sum(stride(e.offset, axis) == 1 for e in self.elements)
            # An axis shorter than half a vector leaves most lanes idle.
            return reads + 2 * writes, axis is self.axes[-1]

        return max(self.axes, key=score)

    def point(self, bindings: dict[str, DimLike]) -> tuple[Stmt, ...]:
        memo: dict[int, Expr] = {}
        return bind_shared([e.at(bindings, memo).store() for e in self.elements], self.names)

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
            def emit(position: DimLike, lane: DimLike, copy: int) -> tuple[Stmt, ...]:
                return self.point({**outer, vector.var: start + position})

            unroll = UNROLL if self.operations <= 8 else 1
            return vector_loop(self.names, extent, self.lanes(ctx), emit, unroll)

        return axis_loops(self.names, axes, bindings, lanes)

    def serial(self, ctx: LowerContext) -> tuple[Stmt, ...]:
        if not self.axes:
            return self.point({})
        vector = self.vector_axis()
        outer = [a for a in self.axes if a is not vector]
        return self.inner(ctx, outer, vector, {}, vector.extent)

    def parallel(self, ctx: LowerContext) -> tuple[tuple[Stmt, ...], DimLike]:
        """Statements, and the cost of an iteration of their parallel loop; serial where the work is small."""
        if dims.bounds(self.work)[1] <= ctx.options.serial_below or not self.axes:
            return self.serial(ctx), self.work
        vector = self.vector_axis()
        outer = [a for a in self.axes if a is not vector]
        shared: list[Axis] = []
        rest = list(outer)
        # Take outer axes into the parallel loop until an iteration is of the size of a block.
        while rest and (not shared or isinstance(rest[0].extent, int)):
            if shared and dims.bounds(dims.product(a.extent for a in [*rest, vector]))[1] <= BLOCK:
                break
            shared.append(rest.pop(0))
        if not shared:
            return self._blocks(ctx, vector)
        cost = dims.product(a.extent for a in [*rest, vector]) * self.operations
        statements = parallel_loop(
            self.names, shared, lambda bound: self.inner(ctx, rest, vector, bound, vector.extent)
        )
        return statements, cost

    def _blocks(self, ctx: LowerContext, vector: Axis) -> tuple[tuple[Stmt, ...], DimLike]:
        """A parallel loop over blocks of the only axis."""
        count = dims.floordiv(vector.extent + (BLOCK - 1), BLOCK)
        var = self.names("p")
        start = loop_index(var, count) * BLOCK
        extent = dims.minimum(vector.extent - start, BLOCK)
        if isinstance(vector.extent, int) and vector.extent % BLOCK == 0:
            extent = BLOCK
        body = self.inner(ctx, [], vector, {vector.var: start}, extent)
        return (For(var, count, body, "parallel"),), BLOCK * self.operations


def space_nests(ctx: LowerContext, body: Graph, args: Args, outputs: Sequence[Value]) -> list[Nest]:
    """Nests that compute the outputs: those of one shape share theirs."""
    spaces: dict[tuple[DimLike, ...], list[Value]] = {}
    by_size: dict[DimLike, tuple[DimLike, ...]] = {}
    for value in outputs:
        # Outputs of as many elements walk the same space, each in its own shape.
        shape = by_size.setdefault(value.type.numel, value.type.shape)
        spaces.setdefault(shape, []).append(value)
    nests: list[Nest] = []
    for shape, values in spaces.items():
        if dims.product(shape) == 0:
            continue
        names = Names()
        axes = make_axes(names, shape)
        for piece, elements in pieces(ctx, names, body, args, values, axes, {a.var: a.index for a in axes}):
            nests.append(Nest(names, piece, elements))
    return nests


def pieces(
    ctx: LowerContext,
    names: Names,
    body: Graph,
    args: Args,
    outputs: Sequence[Value],
    axes: Sequence[Axis],
    origin: dict[str, DimLike],
    budget: int = MAX_PIECES,
) -> list[tuple[list[Axis], list[Element]]]:
    """The space split along axes until the guards of padding and concatenation are decided, where possible.

    `origin` gives the index along each original axis in terms of the current piece's axes.
    """
    inputs = {v: args[v] for v in body.inputs}
    extents = {a.var: a.extent for a in axes}
    evaluator = BodyEvaluator(body, inputs, flatten=ctx.flat, extents=extents)
    index = tuple(origin.values())
    elements = []
    shape = tuple(outputs[0].type.shape)
    for value in outputs:
        own = index if value.type.shape == shape else reindex(index, shape, value.type.shape)
        buffer = args[value]
        linear = Buffer("linear", buffer.dtype, shape).offset(index)
        elements.append(Element(ctx.flat(buffer), linear, evaluator.at(value, own)))
    for guard in evaluator.undecided:
        split = _split(guard, axes)
        if split is None or budget < 2:
            continue
        axis, cuts = split
        result: list[tuple[list[Axis], list[Element]]] = []
        for low, high in pairwise(cuts):
            part = Axis(names("i"), high - low)
            if part.extent == 0:
                continue
            moved = {k: dims.substitute(v, {axis.var: part.index + low}) for k, v in origin.items()}
            cut_axes = [part if a is axis else a for a in axes]
            result += pieces(
                ctx, names, body, args, outputs, cut_axes, moved, budget // (len(cuts) - 1)
            )
        return result
    return [(list(axes), elements)]


def reindex(
    index: tuple[DimLike, ...], shape: tuple[DimLike, ...], other: tuple[DimLike, ...]
) -> tuple[DimLike, ...]:
    """The index into shape `other` of the element at `index` of `shape`, in row-major order."""
    linear: DimLike = 0
    for size, i in zip(shape, index):
        linear = linear * size + i
    result: list[DimLike] = []
    for size in reversed(other[1:]):
        result.append(dims.mod(linear, size) if size != 1 else 0)
        linear = dims.floordiv(linear, size)
    return (linear, *reversed(result)) if other else ()


def _split(
    guard: tuple[DimLike, DimLike, DimLike], axes: Sequence[Axis]
) -> tuple[Axis, list[DimLike]] | None:
    """An axis and where to cut it (0 to its extent, ascending), each part inside or outside the guard."""
    low, index, high = guard
    for axis in axes:
        parts = dims.coefficient(index, axis.var)
        if parts is None or parts[0] not in (1, -1):
            continue
        step, rest = parts
        if any(s.name == a.var for a in axes for s in dims.symbols(rest)):
            continue
        ends = [low - rest, high - rest] if step == 1 else [rest - high + 1, rest - low + 1]
        cuts: list[DimLike] = [0]
        for end in ends:
            if at_least(0, end) or at_least(end, axis.extent):
                continue
            if not (at_least(end, cuts[-1]) and at_least(axis.extent, end)):
                break
            if end != cuts[-1]:
                cuts.append(end)
        else:
            if len(cuts) > 1:
                return axis, [*cuts, axis.extent]
    return None


__all__ = ["Nest", "lower_loop", "pieces", "reindex", "space_nests", "value_range"]
