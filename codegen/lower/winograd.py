"""Convolutions with 3x3 kernels and stride 1 by Winograd's minimal filtering (`winograd_matrices.py`).

The result is cut into tiles of m x m. With n = m + 2, each comes from n x n elements d of the image, which overlap, and

    y = A^T [sum over channels of (G g G^T) * (B^T d B)] A

is n * n products where the sum itself has 9 * m * m: 36 and 144 with m = 4, 16 and 36 with m = 2. What is summed over
the channels is n * n matrix products, one for each place of a transformed tile:

    winograd_weight:  U[outputs / width, place, channel, width] = G g G^T          reads the weights only
    winograd_input:   V[block, place, channels / L, tile, L] = B^T d B             L lanes
    conv:             for each block of tiles and each `width` outputs
                        for each place: M[place, tile, width] = V @ U, in register tiles
                        y = epilogue(A^T M A)

A block is one or several strips of the result, m rows of an image; M stays in the second-level cache. Transforms run
along channels, so that no lane needs another; the image is turned on its way in, the result on its way out.

U is 4 times the weights (2 with m = 2), and where few tiles are to be multiplied with it, it takes longer to write and
read than to make. Then a task makes the part that it needs itself, some channels at a time, which stay in the
second-level cache too, and M is added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Const, Expr, If, Index, Load, Stmt, Store
from ..scalar import SCALAR
from . import template
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .contraction_tile import Bindings, RegisterTile
from .names import Names
from .nests import serial_loop, vector_block
from .tiling import Plan
from .transpose import turned_tile
from .winograd_plan import WinogradPlan
from .winograd_transforms import (
    AXES,
    Filtering,
    KernelSquare,
    Lets,
    Place,
    Winograd,
    parallel_over,
    transform_image,
    transform_weights,
)


def launch_winograd(ctx: LowerContext, problem: Winograd, plan: WinogradPlan) -> None:
    """Launches the three kernels."""
    filtering = Filtering(ctx, problem, plan)
    weights = None if plan.chunk else transform_weights(filtering)
    _launch_products(filtering, weights, transform_image(filtering))


def _launch_products(f: Filtering, weights: Buffer | None, image: Buffer) -> None:
    """`weights`: U, unless each task is to make its own."""
    sizes, plan = f.sizes, f.plan
    names = Names(AXES)
    sums = f.stack("sums", f.n * f.n, plan.tiles(sizes), plan.width)
    result = _Result(f, names, sums)
    own = _OwnWeights(f, names, result.spare) if weights is None else None

    def body(bound: Bindings) -> list[Stmt]:
        block, outputs = bound["b"], bound["ob"]
        left: DimLike = dims.minimum(plan.strips, plan.strip_count(sizes) - block * plan.strips)
        if plan.exact(sizes):
            left = plan.strips

        def strip(k: DimLike) -> tuple[Stmt, ...]:
            return serial_loop(names, plan.vectors, lambda v: result.strip(block, outputs, k, v), "v")

        def product(place: DimLike) -> tuple[Stmt, ...]:
            assert weights is not None
            at = Operands(block, place, 0, f.channel_blocks, weights, (outputs, place))
            return _product(f, names, image, sums, at, added=False)

        if own is None:
            products = serial_loop(names, f.n * f.n, product, "place")
        else:
            products = own.products(image, sums, block, outputs)
        return [
            *serial_loop(names, plan.m, result.cleared, "row"),
            *products,
            *serial_loop(names, left, strip, "strip"),
        ]

    axes = [template.Axis("b", plan.blocks(sizes)), template.Axis("ob", plan.output_blocks(sizes))]
    if plan.outputs_first:
        axes.reverse()
    f.ctx.launch(
        f.problem.name,
        parallel_over(names, axes, body),
        cost=2 * f.n * f.n * sizes.channels * plan.tiles(sizes) * plan.width,
        flops=f.problem.flops,
        comment=str(plan),
    )


@dataclass(frozen=True)
class Operands:
    """Of the products at a `place` of a block: V's channels from block number `first` on, `count` blocks of them, and
    those channels in `weights`, [*index, channels, outputs]."""

    block: DimLike
    place: DimLike
    first: DimLike
    count: int
    weights: Buffer
    index: tuple[DimLike, ...]


def _product(
    f: Filtering, names: Names, image: Buffer, sums: Buffer, at: Operands, added: bool
) -> tuple[Stmt, ...]:
    """M of a block, a block of outputs and a place: the sum over these channels, `added` to what is there."""
    plan, tiles = f.plan, f.plan.tiles(f.sizes)
    t, o = Axis("t", tiles), Axis("o", plan.width)
    channels, c = Axis("cb", at.count), Axis("c", f.lanes)
    problem = Contraction(
        f.problem.name,
        (t, o),
        (channels, c),
        Access(image, (f.position(at.block, at.place, at.first + channels.var, t.var, c.var),)),
        Access(at.weights, (*at.index, channels.var * f.lanes + c.var, o.var)),
        (t.var, o.var),
        (tiles, plan.width),
        f.dtype,
    )
    walk = Plan("o", f.lanes, plan.vectors, {"t": plan.rows}, unroll={"c": plan.unroll}, padded=True)

    def finish(where: Bindings, value: Expr) -> Sequence[Stmt]:
        index = (at.place, where["t"], where["o"])
        return [Store(sums, index, SCALAR.add(Load(sums, index), value) if added else value)]

    def tile(start: DimLike, rows: int) -> tuple[Stmt, ...]:
        sized: Bindings = {"t": rows, "o": plan.width}
        return RegisterTile(problem, walk, finish, {"t": start, "o": 0}, sized, names("acc")).statements()

    whole, rest = divmod(tiles, plan.rows)
    found = serial_loop(names, whole, lambda i: tile(i * plan.rows, plan.rows), "tile")
    return found + (tile(whole * plan.rows, rest) if rest else ())


class _OwnWeights:
    """Products whose weights are transformed right before, `plan.chunk` blocks of channels at a time."""

    def __init__(self, f: Filtering, names: Names, spare: Buffer):
        self.f = f
        self.names = names
        self.square = KernelSquare(f, names, spare)
        self.weights = f.stack("kernels", f.n * f.n, f.plan.chunk * f.lanes, f.plan.width)

    def products(self, image: Buffer, sums: Buffer, block: DimLike, outputs: DimLike) -> tuple[Stmt, ...]:
        """M of a block and a block of outputs."""
        f, plan = self.f, self.f.plan
        whole, rest = divmod(f.channel_blocks, plan.chunk)

        def zero(vector: DimLike) -> tuple[Stmt, ...]:
            row, column = dims.floordiv(vector, plan.vectors), dims.mod(vector, plan.vectors) * f.lanes
            place, tile = dims.floordiv(row, sums.shape[1]), dims.mod(row, sums.shape[1])

            def emit(lane: DimLike) -> list[Stmt]:
                return [Store(sums, (place, tile, column + lane), Const(0, f.dtype))]

            return vector_block(self.names, f.lanes, f.lanes, emit)

        def chunk(number: DimLike, count: int = plan.chunk) -> tuple[Stmt, ...]:
            first = number * plan.chunk
            return (*self._transformed(outputs, first, count), *self._added(image, sums, block, first, count))

        found = serial_loop(self.names, dims.floordiv(sums.numel, f.lanes), zero, "vector")
        found += serial_loop(self.names, whole, chunk, "chunk")
        return found + (chunk(whole, rest) if rest else ())

    def _transformed(self, outputs: DimLike, first: DimLike, count: int) -> tuple[Stmt, ...]:
        f, plan = self.f, self.f.plan

        def channels(cb: DimLike) -> tuple[Stmt, ...]:
            def vector(v: DimLike) -> tuple[Stmt, ...]:
                def place(number: int, channel: DimLike, lane: DimLike) -> Place:
                    return self.weights, (number, cb * f.lanes + channel, v * f.lanes + lane)

                output = outputs * plan.width + v * f.lanes
                return self.square.transformed(output, (first + cb) * f.lanes, place)

            return serial_loop(self.names, plan.vectors, vector, "v")

        return serial_loop(self.names, count, channels, "channels")

    def _added(
        self, image: Buffer, sums: Buffer, block: DimLike, first: DimLike, count: int
    ) -> tuple[Stmt, ...]:
        def product(place: DimLike) -> tuple[Stmt, ...]:
            at = Operands(block, place, first, count, self.weights, (place,))
            return _product(self.f, self.names, image, sums, at, added=True)

        return serial_loop(self.names, self.f.n * self.f.n, product, "place")


class _Result:
    """From the sums of a block to what is stored. A strip of the result stands, lanes along the outputs, in `columns`,
    in as many as fill whole squares, which are turned."""

    def __init__(self, f: Filtering, names: Names, sums: Buffer):
        lanes = f.lanes
        self.f = f
        self.names = names
        self.sums = sums
        self.squares = -(-f.plan.across(f.sizes) * f.plan.m // lanes)
        self.columns = f.stack("strip", f.plan.m * self.squares * lanes * lanes)
        self.spare = f.stack("spare", lanes * lanes)
        self.turned = f.stack("turned", lanes * lanes)

    def _column(self, row: DimLike, column: DimLike, lane: DimLike) -> tuple[DimLike]:
        return (((row * self.squares * self.f.lanes + column) * self.f.lanes + lane),)

    def cleared(self, row: DimLike) -> tuple[Stmt, ...]:
        """What is turned with a row of the result and not stored."""
        f, start = self.f, self.f.plan.across(self.f.sizes) * self.f.plan.m

        def column(q: DimLike) -> tuple[Stmt, ...]:
            def zero(lane: DimLike) -> list[Stmt]:
                return [Store(self.columns, self._column(row, start + q, lane), Const(0, f.dtype))]

            return vector_block(self.names, f.lanes, f.lanes, zero)

        return serial_loop(self.names, self.squares * f.lanes - start, column, "q")

    def strip(self, block: DimLike, outputs: DimLike, k: DimLike, v: DimLike) -> tuple[Stmt, ...]:
        """Strip number `k` of a block, at vector number `v` of a block of outputs."""
        f, plan, sizes = self.f, self.f.plan, self.f.sizes
        number, first = block * plan.strips + k, outputs * plan.width + v * f.lanes
        image, top = dims.floordiv(number, plan.down(sizes)), dims.mod(number, plan.down(sizes)) * plan.m

        def transform(tile: DimLike) -> tuple[Stmt, ...]:
            return self._transformed(k * plan.across(sizes) + tile, tile * plan.m, v)

        def row(i: DimLike) -> tuple[Stmt, ...]:
            def square(piece: DimLike, count: int = f.lanes) -> tuple[Stmt, ...]:
                return self._stored({"n": image, "o": first, "y": top + i, "x": piece * f.lanes}, i, count)

            whole, rest = divmod(sizes.out_width, f.lanes)
            found = serial_loop(self.names, whole, square, "piece")
            found += square(whole, rest) if rest else ()
            if sizes.out_height % plan.m == 0:
                return found
            return (If(SCALAR.lt(Index(top + i), Index(sizes.out_height)), found),)

        return (
            *serial_loop(self.names, plan.across(sizes), transform, "tile"),
            *serial_loop(self.names, plan.m, row, "row"),
        )

    def _transformed(self, tile: DimLike, start: DimLike, v: DimLike) -> tuple[Stmt, ...]:
        """A^T M A of a tile, put in the columns from `start` on."""
        f, n = self.f, self.f.n

        def emit(lane: DimLike) -> list[Stmt]:
            lets = Lets(self.names, f.dtype)
            at = v * f.lanes + lane
            sums = [[lets.bind(Load(self.sums, (i * n + j, tile, at))) for i in range(n)] for j in range(n)]
            found = lets.both(f.matrices.output, sums)
            return lets.stores(
                self.columns,
                [
                    (self._column(i, start + j, lane), value)
                    for i, row in enumerate(found)
                    for j, value in enumerate(row)
                ],
            )

        return vector_block(self.names, f.lanes, f.lanes, emit)

    def _stored(self, start: Bindings, row: DimLike, count: int) -> tuple[Stmt, ...]:
        """`count` neighbours of a row of the result, of each of a vector of outputs."""
        f = self.f

        def source(column: DimLike, lane: DimLike) -> Expr:
            return Load(self.columns, self._column(row, start["x"] + column, lane))

        def output(o: DimLike) -> tuple[Stmt, ...]:
            def emit(lane: DimLike) -> list[Stmt]:
                at = start | {"o": start["o"] + o, "x": start["x"] + lane}
                known: dict[str, Expr] = {f.problem.known: Load(self.turned, (o * f.lanes + lane,))}
                return template.store_all(f.problem.elements, at, known)

            return vector_block(self.names, count, f.lanes, emit)

        valid: DimLike = f.lanes
        if f.sizes.outputs % f.plan.width:
            valid = dims.minimum(f.lanes, f.sizes.outputs - start["o"])
        return (
            *turned_tile(self.names, source, f.lanes, self.turned, 0, self.spare),
            *serial_loop(self.names, valid, output, "o"),
        )
