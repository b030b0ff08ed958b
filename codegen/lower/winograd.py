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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Buffer, Const, Expr, If, Index, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from . import template
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .contraction_tile import Bindings, RegisterTile
from .names import Names
from .nests import parallel_loop, serial_loop, vector_block
from .template import Element
from .tiling import Plan
from .transpose import turned_tile
from .winograd_matrices import TAPS, Matrices, Row, combined, matrices, transformed
from .winograd_plan import Sizes, WinogradPlan

# Of the products: names that no loop around them may have.
_AXES = ("t", "o", "cb", "c")


@dataclass(frozen=True)
class Winograd:
    """A convolution to be computed so. `image` is read at `(n, c, y, x)`, `weight` at `(o, c, ky, kx)`, `elements` is
    what is stored for the sum, which they call `known`, at `(n, o, y, x)`, over axes of these names. `flipped` turns
    the kernel around."""

    name: str
    sizes: Sizes
    image: Access
    weight: Access
    flipped: bool
    elements: Sequence[Element]
    known: str
    flops: DimLike


def launch_winograd(ctx: LowerContext, problem: Winograd, plan: WinogradPlan) -> None:
    """Launches the three kernels."""
    kernels = _Kernels(ctx, problem, plan)
    weights = kernels.weight_transform()
    kernels.products(weights, kernels.input_transform())


@dataclass(frozen=True)
class _Kernels:
    ctx: LowerContext
    problem: Winograd
    plan: WinogradPlan

    @property
    def sizes(self) -> Sizes:
        return self.problem.sizes

    @property
    def dtype(self) -> DType:
        """What is computed in; shorter operands are converted as they are read."""
        return dtypes.f32

    @property
    def lanes(self) -> int:
        return self.plan.lanes

    @property
    def n(self) -> int:
        """Elements of the image along a tile."""
        return self.plan.m + TAPS - 1

    @property
    def matrices(self) -> Matrices:
        found = matrices(self.plan.m)
        if not self.problem.flipped:
            return found
        return replace(found, weight=tuple(row[::-1] for row in found.weight))

    @property
    def channel_blocks(self) -> int:
        return -(-self.sizes.channels // self.lanes)

    def _stack(self, name: str, *shape: int) -> Buffer:
        return Buffer(name, self.dtype, shape, "stack")

    def _transformed(
        self, block: DimLike, place: DimLike, channels: DimLike, tile: DimLike, lane: DimLike
    ) -> DimLike:
        """The position of an element in V."""
        sizes = (self.n * self.n, self.channel_blocks, self.plan.tiles(self.sizes), self.lanes)
        position = block
        for size, i in zip(sizes, (place, channels, tile, lane), strict=True):
            position = position * size + i
        return position

    # Transforms of what comes in

    def weight_transform(self) -> Buffer:
        """U, with zeros where channels or outputs fill up a vector."""
        sizes, plan, lanes, n = self.sizes, self.plan, self.lanes, self.n
        shape = (plan.output_blocks(sizes), n * n, self.channel_blocks * lanes, plan.width)
        target = self.ctx.scratch("kernels", self.dtype, shape)
        names = Names(_AXES)
        taps = TAPS * TAPS
        # The kernels of `lanes` channels, of each for `lanes` outputs; turned squares may reach past the last.
        kernels = self._stack("taps", (lanes * taps + -(-taps // lanes) * lanes) * lanes)
        spare = self._stack("spare", lanes * lanes)

        def body(bound: Bindings) -> list[Stmt]:
            block, first = bound["ob"], bound["cb"] * lanes
            output = bound["v"] * lanes

            def transform(i: int, channel: DimLike) -> tuple[Stmt, ...]:
                """A row of the transformed kernels: few places at a time, which are far from each other."""

                def emit(lane: DimLike) -> list[Stmt]:
                    lets = _Lets(names, self.dtype)
                    tap = [Load(kernels, ((channel * taps + k) * lanes + lane,)) for k in range(taps)]
                    row = self.matrices.weight[i]
                    half = [lets.bind(combined(row, tap[j::TAPS], self.dtype)) for j in range(TAPS)]
                    found = lets.one(self.matrices.weight, half)
                    index = (first + channel, output + lane)
                    return lets.stores(
                        target, [((block, i * n + j, *index), value) for j, value in enumerate(found)]
                    )

                return vector_block(names, lanes, lanes, emit)

            found = list(self._turned_kernels(names, kernels, spare, block * plan.width + output, first))
            for i in range(n):
                found += serial_loop(names, lanes, lambda c, i=i: transform(i, c), "channel")  # type: ignore[misc]
            return found

        axes = [
            template.Axis("ob", plan.output_blocks(sizes)),
            template.Axis("cb", self.channel_blocks),
            template.Axis("v", plan.vectors),
        ]
        statements = _parallel(names, axes, body)
        self.ctx.launch("winograd_weight", statements, cost=n * n * lanes * lanes * 4, comment=str(plan))
        return target

    def _turned_kernels(
        self, names: Names, target: Buffer, spare: Buffer, output: DimLike, channel: DimLike
    ) -> tuple[Stmt, ...]:
        """Kernels from an output and a channel on, `lanes` of each: `target[(channel * 9 + tap) * lanes + output]`."""
        sizes, lanes, taps = self.sizes, self.lanes, TAPS * TAPS
        weight = self.problem.weight
        given = Access(self.ctx.flat(weight.buffer), (weight.position,))

        def turned(channel: DimLike, tap: DimLike, start: DimLike, count: int) -> tuple[Stmt, ...]:
            """Elements from a tap of a channel on, which follow each other, up to `count`."""

            def source(row: DimLike, lane: DimLike) -> Expr:
                at = {"o": output + row, "c": channel, "ky": 0, "kx": tap + lane}
                value = SCALAR.cast(given.at(at), self.dtype)
                inside = []
                if sizes.outputs % self.plan.width:
                    inside.append((output + row, sizes.outputs))
                if sizes.channels % lanes:
                    inside.append((channel * taps + tap + lane, sizes.channels * taps))
                if count < lanes:
                    inside.append((lane, count))
                for i, size in inside:
                    value = SCALAR.select(SCALAR.lt(Index(i), Index(size)), value, Const(0, self.dtype))
                return value

            return turned_tile(names, source, lanes, target, start, spare)

        if weight.stride("c") == taps:
            return serial_loop(
                names, taps, lambda k: turned(channel, k * lanes, k * lanes * lanes, lanes), "k"
            )

        def one(c: DimLike) -> tuple[Stmt, ...]:
            found: tuple[Stmt, ...] = ()
            for tap in range(0, taps, lanes):
                found += turned(channel + c, tap, (c * taps + tap) * lanes, min(lanes, taps - tap))
            return found

        return serial_loop(names, lanes, one, "c")

    def input_transform(self) -> Buffer:
        """V, with zeros where channels fill up a vector; tiles past the last are left as they are."""
        sizes, plan, lanes, n, m = self.sizes, self.plan, self.lanes, self.n, self.plan.m
        strips: DimLike = plan.blocks(sizes) * plan.strips
        if not isinstance(sizes.batch, int) and not plan.exact(sizes):
            strips = plan.strip_count(sizes) + (plan.strips - 1)  # no less, and a closed form
        size = strips * plan.across(sizes) * n * n * self.channel_blocks * lanes
        target = self.ctx.scratch("tiles", self.dtype, (size,))
        names = Names(_AXES)
        top, left = sizes.padding
        pieces = -(-sizes.width // lanes)
        # Of the strip with its border; turned pieces of the image end in zeros.
        width = plan.across(sizes) * m + TAPS - 1
        row_length = max(width, left + pieces * lanes)
        strip = self._stack("strip", n * row_length * lanes)
        spare = self._stack("spare", lanes * lanes)

        def place(row: DimLike, column: DimLike, lane: DimLike) -> tuple[DimLike]:
            return ((row * row_length + column) * lanes + lane,)

        def body(bound: Bindings) -> list[Stmt]:
            first = bound["cb"] * lanes

            def cleared(row: DimLike, start: int, stop: int) -> tuple[Stmt, ...]:
                def column(q: DimLike) -> tuple[Stmt, ...]:
                    return vector_block(
                        names,
                        lanes,
                        lanes,
                        lambda lane: [Store(strip, place(row, start + q, lane), Const(0, self.dtype))],
                    )

                return serial_loop(names, max(0, stop - start), column, "q")

            def filled(row: DimLike) -> tuple[Stmt, ...]:
                y = bound["ty"] * m + row - top

                def piece(number: DimLike, whole: bool = True) -> tuple[Stmt, ...]:
                    x = number * lanes

                    def source(channel: DimLike, lane: DimLike) -> Expr:
                        at = {"n": bound["n"], "c": first + channel, "y": y, "x": x + lane}
                        value = SCALAR.cast(self.problem.image.at(at), self.dtype)
                        inside = []
                        if sizes.channels % lanes:
                            inside.append(SCALAR.lt(Index(first + channel), Index(sizes.channels)))
                        if not whole:
                            inside.append(SCALAR.lt(Index(x + lane), Index(sizes.width)))
                        for condition in inside:
                            value = SCALAR.select(condition, value, Const(0, self.dtype))
                        return value

                    return turned_tile(names, source, lanes, strip, place(row, left + x, 0)[0], spare)

                whole = sizes.width // lanes
                found = cleared(row, 0, left) + serial_loop(names, whole, piece, "piece")
                if pieces > whole:
                    found += piece(whole, whole=False)
                found += cleared(row, left + pieces * lanes, width)
                inside = SCALAR.and_(SCALAR.ge(Index(y), 0), SCALAR.lt(Index(y), Index(sizes.height)))
                return (If(inside, found, cleared(row, 0, width)),)

            def down(column: DimLike) -> tuple[Stmt, ...]:
                def emit(lane: DimLike) -> list[Stmt]:
                    lets = _Lets(names, self.dtype)
                    loads = [lets.bind(Load(strip, place(i, column, lane))) for i in range(n)]
                    found = lets.one(self.matrices.input, loads)
                    return lets.stores(strip, [(place(i, column, lane), v) for i, v in enumerate(found)])

                return vector_block(names, lanes, lanes, emit)

            def along(tile: DimLike, row: DimLike) -> tuple[Stmt, ...]:
                def emit(lane: DimLike) -> list[Stmt]:
                    lets = _Lets(names, self.dtype)
                    loads = [lets.bind(Load(strip, place(row, tile * m + j, lane))) for j in range(n)]
                    found = lets.one(self.matrices.input, loads)
                    number = dims.mod(at, plan.strips) * plan.across(sizes) + tile
                    block = dims.floordiv(at, plan.strips)
                    return lets.stores(
                        target,
                        [
                            ((self._transformed(block, row * n + j, bound["cb"], number, lane),), value)
                            for j, value in enumerate(found)
                        ],
                    )

                return vector_block(names, lanes, lanes, emit)

            at = bound["n"] * plan.down(sizes) + bound["ty"]
            return [
                *serial_loop(names, n, filled, "row"),
                *serial_loop(names, width, down, "column"),
                *serial_loop(
                    names,
                    plan.across(sizes),
                    lambda tile: serial_loop(names, n, lambda row: along(tile, row), "row"),
                    "tile",
                ),
            ]

        axes = [
            template.Axis("n", sizes.batch),
            template.Axis("ty", plan.down(sizes)),
            template.Axis("cb", self.channel_blocks),
        ]
        cost = 3 * n * width * lanes
        self.ctx.launch("winograd_input", _parallel(names, axes, body), cost=cost, comment=str(plan))
        return target

    # Products, and the transform of the result

    def products(self, weight: Buffer, image: Buffer) -> None:
        sizes, plan, lanes, n, m = self.sizes, self.plan, self.lanes, self.n, self.plan.m
        names = Names(_AXES)
        tiles = plan.tiles(sizes)
        sums = self._stack("sums", n * n, tiles, plan.width)
        pieces = -(-plan.across(sizes) * m // lanes)
        strip = self._stack("strip", m * pieces * lanes * lanes)
        spare, turned = self._stack("spare", lanes * lanes), self._stack("turned", lanes * lanes)
        blocks = plan.blocks(sizes)

        def body(bound: Bindings) -> list[Stmt]:
            block, outputs = bound["b"], bound["ob"]

            def product(place: DimLike) -> list[Stmt]:
                problem = Contraction(
                    self.problem.name,
                    (Axis("t", tiles), Axis("o", plan.width)),
                    (Axis("cb", self.channel_blocks), Axis("c", lanes)),
                    Access(
                        image,
                        (
                            self._transformed(
                                block,
                                place,
                                Axis("cb", self.channel_blocks).var,
                                Axis("t", tiles).var,
                                Axis("c", lanes).var,
                            ),
                        ),
                    ),
                    Access(
                        weight,
                        (
                            outputs,
                            place,
                            Axis("cb", self.channel_blocks).var * lanes + Axis("c", lanes).var,
                            Axis("o", plan.width).var,
                        ),
                    ),
                    (Axis("t", tiles).var, Axis("o", plan.width).var),
                    (tiles, plan.width),
                    self.dtype,
                )
                walk = Plan(
                    "o",
                    lanes,
                    plan.vectors,
                    {"t": plan.rows},
                    unroll={"c": plan.unroll},
                    padded=True,
                )

                def finish(where: Bindings, value: Expr) -> list[Stmt]:
                    return [Store(sums, (place, where["t"], where["o"]), value)]

                def tile(start: DimLike, size: int) -> tuple[Stmt, ...]:
                    sized: Bindings = {"t": size, "o": plan.width}
                    return RegisterTile(
                        problem, walk, finish, {"t": start, "o": 0}, sized, names("acc")
                    ).statements()

                whole, rest = divmod(tiles, plan.rows)
                found = serial_loop(names, whole, lambda i: tile(i * plan.rows, plan.rows), "tile")
                return [*found, *(tile(whole * plan.rows, rest) if rest else ())]

            left: DimLike = dims.minimum(plan.strips, plan.strip_count(sizes) - block * plan.strips)
            if plan.exact(sizes):
                left = plan.strips

            def cleared(i: DimLike) -> tuple[Stmt, ...]:
                """What is turned with a row of the result and not stored."""
                start, stop = plan.across(sizes) * m, pieces * lanes

                def column(q: DimLike) -> tuple[Stmt, ...]:
                    index = (i * stop + start + q) * lanes
                    return vector_block(
                        names,
                        lanes,
                        lanes,
                        lambda lane: [Store(strip, (index + lane,), Const(0, self.dtype))],
                    )

                return serial_loop(names, stop - start, column, "q")

            return [
                *serial_loop(names, m, cleared, "row"),
                *serial_loop(names, n * n, product, "place"),
                *serial_loop(
                    names,
                    left,
                    lambda k: serial_loop(names, plan.vectors, lambda v: finished(block, outputs, k, v), "v"),
                    "strip",
                ),
            ]

        def finished(block: DimLike, outputs: DimLike, k: DimLike, v: DimLike) -> tuple[Stmt, ...]:
            """A strip of the result at a vector of outputs."""
            number = block * plan.strips + k
            image_at, across = dims.floordiv(number, plan.down(sizes)), dims.mod(number, plan.down(sizes))
            first = outputs * plan.width + v * lanes

            def transform(tile: DimLike) -> tuple[Stmt, ...]:
                def emit(lane: DimLike) -> list[Stmt]:
                    lets = _Lets(names, self.dtype)
                    at = k * plan.across(sizes) + tile
                    columns = [
                        [lets.bind(Load(sums, (i * n + j, at, v * lanes + lane))) for i in range(n)]
                        for j in range(n)
                    ]
                    found = lets.both(self.matrices.output, columns)
                    return lets.stores(
                        strip,
                        [
                            (((i * pieces * lanes + tile * m + j) * lanes + lane,), value)
                            for i, row in enumerate(found)
                            for j, value in enumerate(row)
                        ],
                    )

                return vector_block(names, lanes, lanes, emit)

            def row(i: DimLike) -> tuple[Stmt, ...]:
                y = across * m + i
                found = serial_loop(names, sizes.out_width // lanes, lambda p: piece(i, y, p, lanes), "piece")
                if sizes.out_width % lanes:
                    found += piece(i, y, sizes.out_width // lanes, sizes.out_width % lanes)
                if sizes.out_height % m == 0:
                    return found
                return (If(SCALAR.lt(Index(y), Index(sizes.out_height)), found),)

            def piece(i: DimLike, y: DimLike, number: DimLike, count: int) -> tuple[Stmt, ...]:
                start = (i * pieces + number) * (lanes * lanes)

                def source(column: DimLike, lane: DimLike) -> Expr:
                    return Load(strip, (start + column * lanes + lane,))

                def stored(o: DimLike) -> tuple[Stmt, ...]:
                    def emit(lane: DimLike) -> list[Stmt]:
                        at = {"n": image_at, "o": first + o, "y": y, "x": number * lanes + lane}
                        known = {self.problem.known: Load(turned, (o * lanes + lane,))}
                        memo: dict[int, Expr] = {}
                        return [e.at(at, memo, known).store() for e in self.problem.elements]

                    return vector_block(names, count, lanes, emit)

                valid: DimLike = lanes
                if sizes.outputs % plan.width:
                    valid = dims.minimum(lanes, sizes.outputs - first)
                return (
                    *turned_tile(names, source, lanes, turned, 0, spare),
                    *serial_loop(names, valid, stored, "o"),
                )

            return serial_loop(names, plan.across(sizes), transform, "tile") + serial_loop(
                names, m, row, "row"
            )

        axes = [template.Axis("b", blocks), template.Axis("ob", plan.output_blocks(sizes))]
        if plan.outputs_first:
            axes.reverse()
        cost = 2 * n * n * sizes.channels * tiles * plan.width
        self.ctx.launch(
            self.problem.name,
            _parallel(names, axes, body),
            cost=cost,
            flops=self.problem.flops,
            comment=str(plan),
        )


def _parallel(
    names: Names, axes: Sequence[template.Axis], body: Callable[[Bindings], Sequence[Stmt]]
) -> tuple[Stmt, ...]:
    """`parallel_loop` over the axes that have more than one position."""
    found = [a for a in axes if a.extent != 1]
    ones: Bindings = {a.var: 0 for a in axes if a.extent == 1}
    return parallel_loop(names, found, lambda bound: body(ones | bound)) if found else tuple(body(ones))


@dataclass
class _Lets:
    """Statements that bind values to names."""

    names: Names
    dtype: DType

    def __post_init__(self) -> None:
        self.statements: list[Stmt] = []

    def bind(self, value: Expr) -> Expr:
        if isinstance(value, Var):
            return value
        name = self.names("w")
        self.statements.append(Let(name, value))
        return Var(name, value.dtype)

    def one(self, matrix: Sequence[Row], values: Sequence[Expr]) -> list[Expr]:
        return transformed(matrix, values, self.bind, self.dtype)

    def both(self, matrix: Sequence[Row], columns: Sequence[Sequence[Expr]]) -> list[list[Expr]]:
        """`matrix @ values @ matrix^T`; rows of the result, from columns of the values."""
        halves = [self.one(matrix, column) for column in columns]
        return [self.one(matrix, row) for row in zip(*halves, strict=True)]

    def stores(self, target: Buffer, values: Sequence[tuple[tuple[DimLike, ...], Expr]]) -> list[Stmt]:
        return [*self.statements, *(Store(target, index, value) for index, value in values)]
