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
"""

from __future__ import annotations

from collections.abc import Sequence

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
    Lets,
    Winograd,
    parallel_over,
    transform_image,
    transform_weights,
)


def launch_winograd(ctx: LowerContext, problem: Winograd, plan: WinogradPlan) -> None:
    """Launches the three kernels."""
    filtering = Filtering(ctx, problem, plan)
    weights = transform_weights(filtering)
    _launch_products(filtering, weights, transform_image(filtering))


def _launch_products(f: Filtering, weights: Buffer, image: Buffer) -> None:
    sizes, plan = f.sizes, f.plan
    names = Names(AXES)
    sums = f.stack("sums", f.n * f.n, plan.tiles(sizes), plan.width)
    result = _Result(f, names, sums)

    def body(bound: Bindings) -> list[Stmt]:
        block, outputs = bound["b"], bound["ob"]
        left: DimLike = dims.minimum(plan.strips, plan.strip_count(sizes) - block * plan.strips)
        if plan.exact(sizes):
            left = plan.strips

        def strip(k: DimLike) -> tuple[Stmt, ...]:
            return serial_loop(names, plan.vectors, lambda v: result.strip(block, outputs, k, v), "v")

        def product(place: DimLike) -> tuple[Stmt, ...]:
            return _product(f, names, weights, image, sums, (block, outputs, place))

        return [
            *serial_loop(names, plan.m, result.cleared, "row"),
            *serial_loop(names, f.n * f.n, product, "place"),
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


def _product(
    f: Filtering,
    names: Names,
    weights: Buffer,
    image: Buffer,
    sums: Buffer,
    at: tuple[DimLike, DimLike, DimLike],
) -> tuple[Stmt, ...]:
    """M of a block, a block of outputs and a place: the sum over all channels."""
    plan, tiles = f.plan, f.plan.tiles(f.sizes)
    block, outputs, place = at
    t, o = Axis("t", tiles), Axis("o", plan.width)
    channels, c = Axis("cb", f.channel_blocks), Axis("c", f.lanes)
    problem = Contraction(
        f.problem.name,
        (t, o),
        (channels, c),
        Access(image, (f.position(block, place, channels.var, t.var, c.var),)),
        Access(weights, (outputs, place, channels.var * f.lanes + c.var, o.var)),
        (t.var, o.var),
        (tiles, plan.width),
        f.dtype,
    )
    walk = Plan("o", f.lanes, plan.vectors, {"t": plan.rows}, unroll={"c": plan.unroll}, padded=True)

    def finish(where: Bindings, value: Expr) -> Sequence[Stmt]:
        return [Store(sums, (place, where["t"], where["o"]), value)]

    def tile(start: DimLike, rows: int) -> tuple[Stmt, ...]:
        sized: Bindings = {"t": rows, "o": plan.width}
        return RegisterTile(problem, walk, finish, {"t": start, "o": 0}, sized, names("acc")).statements()

    whole, rest = divmod(tiles, plan.rows)
    found = serial_loop(names, whole, lambda i: tile(i * plan.rows, plan.rows), "tile")
    return found + (tile(whole * plan.rows, rest) if rest else ())


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
                memo: dict[int, Expr] = {}
                return [e.at(at, memo, known).store() for e in f.problem.elements]

            return vector_block(self.names, count, f.lanes, emit)

        valid: DimLike = f.lanes
        if f.sizes.outputs % f.plan.width:
            valid = dims.minimum(f.lanes, f.sizes.outputs - start["o"])
        return (
            *turned_tile(self.names, source, f.lanes, self.turned, 0, self.spare),
            *serial_loop(self.names, valid, output, "o"),
        )
