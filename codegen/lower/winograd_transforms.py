"""The transforms of image and weights for Winograd's filtering, and what its kernels share."""

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
from .contraction import Access
from .contraction_tile import Bindings
from .names import Names
from .nests import parallel_loop, serial_loop, vector_block
from .template import Element
from .transpose import turned_tile
from .winograd_matrices import TAPS, Matrices, Row, combined, matrices, transformed
from .winograd_plan import Sizes, WinogradPlan

# A buffer and an index.
Place = tuple[Buffer, tuple[DimLike, ...]]

# Of the products: names that no loop around them may have.
AXES = ("t", "o", "cb", "c")


@dataclass(frozen=True)
class Planes:
    """How a convolution over volumes is one over planes: each of the `out` planes of a result sums over `taps` planes of
    its image, with `channels` each, the first of them at `stride` * its number - `padding`; the image has `size`.
    """

    taps: int
    channels: int
    stride: int
    padding: int
    size: int
    out: int


@dataclass(frozen=True)
class Winograd:
    """A convolution to be computed so. `image` is read at `(n, c, y, x)`, `weight` at `(o, c, ky, kx)`, `elements` is
    what is stored for the sum, which they call `known`, at `(n, o, y, x)`, over axes of these names. `flipped` turns
    the kernel around. With `planes` the image is read at `(n, c, z, y, x)` and the weight at `(o, c, kz, ky, kx)`, and
    the sizes are those of planes: in `elements`, `n` counts them, and there are as many channels as in all taps."""

    name: str
    sizes: Sizes
    image: Access
    weight: Access
    flipped: bool
    elements: Sequence[Element]
    known: str
    flops: DimLike
    planes: Planes | None = None


@dataclass(frozen=True)
class Filtering:
    """What the three kernels are made from."""

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

    def channels_from(self, first: DimLike) -> dict[str, DimLike]:
        """Where the weights' channels are, from the first one of a vector on."""
        planes = self.problem.planes
        if planes is None:
            return {"c": first}
        return {"c": dims.mod(first, planes.channels), "kz": dims.floordiv(first, planes.channels)}

    def image_from(self, number: DimLike, first: DimLike) -> dict[str, DimLike]:
        """The same of the image with this number."""
        planes, found = self.problem.planes, self.channels_from(first)
        if planes is None:
            return found | {"n": number}
        z = dims.mod(number, planes.out) * planes.stride + found.pop("kz") - planes.padding
        return found | {"n": dims.floordiv(number, planes.out), "z": z}

    def stack(self, name: str, *shape: int) -> Buffer:
        return Buffer(name, self.dtype, shape, "stack")

    def position(
        self, block: DimLike, place: DimLike, channels: DimLike, tile: DimLike, lane: DimLike
    ) -> DimLike:
        """The position of an element in V."""
        sizes = (self.n * self.n, self.channel_blocks, self.plan.tiles(self.sizes), self.lanes)
        position = block
        for size, i in zip(sizes, (place, channels, tile, lane), strict=True):
            position = position * size + i
        return position


def transform_weights(f: Filtering) -> Buffer:
    """U, with zeros where channels or outputs fill up a vector."""
    sizes, plan, lanes, n = f.sizes, f.plan, f.lanes, f.n
    shape = (plan.output_blocks(sizes), n * n, f.channel_blocks * lanes, plan.width)
    target = f.ctx.scratch("kernels", f.dtype, shape)
    names = Names(AXES)
    square = KernelSquare(f, names, f.stack("spare", lanes * lanes))

    def body(bound: Bindings) -> Sequence[Stmt]:
        block, first = bound["ob"], bound["cb"] * lanes
        output = bound["v"] * lanes

        def place(number: int, channel: DimLike, lane: DimLike) -> Place:
            return target, (block, number, first + channel, output + lane)

        return square.transformed(block * plan.width + output, first, place)

    axes = [
        template.Axis("ob", plan.output_blocks(sizes)),
        template.Axis("cb", f.channel_blocks),
        template.Axis("v", plan.vectors),
    ]
    statements = parallel_over(names, axes, body)
    f.ctx.launch("winograd_weight", statements, cost=n * n * lanes * lanes * 4, comment=str(plan))
    return target


class KernelSquare:
    """Transforms the kernels of a vector of channels for a vector of outputs, by way of the stack."""

    def __init__(self, f: Filtering, names: Names, spare: Buffer):
        """`spare`: a square of vectors on the stack."""
        lanes, taps = f.lanes, TAPS * TAPS
        self.f = f
        self.names = names
        # Of each channel for `lanes` outputs; turned squares may reach past the last.
        self.kernels = f.stack("taps", (lanes * taps + -(-taps // lanes) * lanes) * lanes)
        self.spare = spare

    def transformed(
        self, output: DimLike, channel: DimLike, place: Callable[[int, DimLike, DimLike], Place]
    ) -> tuple[Stmt, ...]:
        """Those from an output and a channel on. `place(number, channel, output)` is where a transformed one goes: its
        number among n * n, the others counted within the square."""
        f, names, lanes, n, taps = self.f, self.names, self.f.lanes, self.f.n, TAPS * TAPS

        def row(i: int, channel: DimLike) -> tuple[Stmt, ...]:
            """A row of the transformed kernels: few places at a time, which are far from each other."""

            def emit(lane: DimLike) -> list[Stmt]:
                lets = Lets(names, f.dtype)
                tap = [Load(self.kernels, ((channel * taps + k) * lanes + lane,)) for k in range(taps)]
                weights = f.matrices.weight[i]
                half = [lets.bind(combined(weights, tap[j::TAPS], f.dtype)) for j in range(TAPS)]
                found = lets.one(f.matrices.weight, half)
                stored = [(place(i * n + j, channel, lane), value) for j, value in enumerate(found)]
                return [*lets.statements, *(Store(target, index, v) for (target, index), v in stored)]

            return vector_block(names, lanes, lanes, emit)

        found = _turned_kernels(f, names, self.kernels, self.spare, output, channel)
        for i in range(n):
            found += serial_loop(names, lanes, lambda c, i=i: row(i, c), "channel")  # type: ignore[misc]
        return found


def _turned_kernels(
    f: Filtering, names: Names, target: Buffer, spare: Buffer, output: DimLike, channel: DimLike
) -> tuple[Stmt, ...]:
    """Kernels from an output and a channel on, `lanes` of each: `target[(channel * 9 + tap) * lanes + output]`."""
    sizes, lanes, taps = f.sizes, f.lanes, TAPS * TAPS
    weight = f.problem.weight
    given = Access(f.ctx.flat(weight.buffer), (weight.position,))

    first = f.channels_from(channel)

    def turned(c: DimLike, tap: DimLike, start: DimLike, count: int) -> tuple[Stmt, ...]:
        """Elements from a tap of channel number `c` of these on, which follow each other, up to `count`."""
        where = first | {"c": first["c"] + c}

        def source(row: DimLike, lane: DimLike) -> Expr:
            at = {"o": output + row, "ky": 0, "kx": tap + lane} | where
            value = SCALAR.cast(given.at(at), f.dtype)
            inside = []
            if sizes.outputs % f.plan.width:
                inside.append((output + row, sizes.outputs))
            if sizes.channels % lanes:
                inside.append(((channel + c) * taps + tap + lane, sizes.channels * taps))
            if count < lanes:
                inside.append((lane, count))
            for i, size in inside:
                value = SCALAR.select(SCALAR.lt(Index(i), Index(size)), value, Const(0, f.dtype))
            return value

        return turned_tile(names, source, lanes, target, start, spare)

    if weight.stride("c") == taps:
        return serial_loop(names, taps, lambda k: turned(0, k * lanes, k * lanes * lanes, lanes), "k")

    def one(c: DimLike) -> tuple[Stmt, ...]:
        found: tuple[Stmt, ...] = ()
        for tap in range(0, taps, lanes):
            found += turned(c, tap, (c * taps + tap) * lanes, min(lanes, taps - tap))
        return found

    return serial_loop(names, lanes, one, "c")


def transform_image(f: Filtering) -> Buffer:
    """V, with zeros where channels fill up a vector; tiles past the last are left as they are."""
    sizes, plan, lanes, n, m = f.sizes, f.plan, f.lanes, f.n, f.plan.m
    strips: DimLike = plan.blocks(sizes) * plan.strips
    if not isinstance(sizes.batch, int) and not plan.exact(sizes):
        strips = plan.strip_count(sizes) + (plan.strips - 1)  # no less, and a closed form
    size = strips * plan.across(sizes) * n * n * f.channel_blocks * lanes
    target = f.ctx.scratch("tiles", f.dtype, (size,))
    names = Names(AXES)
    planes = f.problem.planes
    top, left = sizes.padding
    pieces = -(-sizes.width // lanes)
    # Of the strip with its border; turned pieces of the image end in zeros.
    width = plan.across(sizes) * m + TAPS - 1
    row_length = max(width, left + pieces * lanes)
    strip = f.stack("strip", n * row_length * lanes)
    spare = f.stack("spare", lanes * lanes)

    def place(row: DimLike, column: DimLike, lane: DimLike) -> tuple[DimLike]:
        return ((row * row_length + column) * lanes + lane,)

    def body(bound: Bindings) -> list[Stmt]:
        first = bound["cb"] * lanes
        where = f.image_from(bound["n"], first)

        def cleared(row: DimLike, start: int, stop: int) -> tuple[Stmt, ...]:
            def column(q: DimLike) -> tuple[Stmt, ...]:
                return vector_block(
                    names,
                    lanes,
                    lanes,
                    lambda lane: [Store(strip, place(row, start + q, lane), Const(0, f.dtype))],
                )

            return serial_loop(names, max(0, stop - start), column, "q")

        def filled(row: DimLike) -> tuple[Stmt, ...]:
            y = bound["ty"] * m + row - top

            def piece(number: DimLike, whole: bool = True) -> tuple[Stmt, ...]:
                x = number * lanes

                def source(channel: DimLike, lane: DimLike) -> Expr:
                    at = where | {"c": where["c"] + channel, "y": y, "x": x + lane}
                    value = SCALAR.cast(f.problem.image.at(at), f.dtype)
                    inside = []
                    if sizes.channels % lanes:
                        inside.append(SCALAR.lt(Index(first + channel), Index(sizes.channels)))
                    if not whole:
                        inside.append(SCALAR.lt(Index(x + lane), Index(sizes.width)))
                    for condition in inside:
                        value = SCALAR.select(condition, value, Const(0, f.dtype))
                    return value

                return turned_tile(names, source, lanes, strip, place(row, left + x, 0)[0], spare)

            whole = sizes.width // lanes
            found = cleared(row, 0, left) + serial_loop(names, whole, piece, "piece")
            if pieces > whole:
                found += piece(whole, whole=False)
            found += cleared(row, left + pieces * lanes, width)
            inside = SCALAR.and_(SCALAR.ge(Index(y), 0), SCALAR.lt(Index(y), Index(sizes.height)))
            if planes is not None:
                z = Index(where["z"])
                inside = SCALAR.and_(inside, SCALAR.and_(SCALAR.ge(z, 0), SCALAR.lt(z, Index(planes.size))))
            return (If(inside, found, cleared(row, 0, width)),)

        def down(column: DimLike) -> tuple[Stmt, ...]:
            def emit(lane: DimLike) -> list[Stmt]:
                lets = Lets(names, f.dtype)
                loads = [lets.bind(Load(strip, place(i, column, lane))) for i in range(n)]
                found = lets.one(f.matrices.input, loads)
                return lets.stores(strip, [(place(i, column, lane), v) for i, v in enumerate(found)])

            return vector_block(names, lanes, lanes, emit)

        def along(tile: DimLike, row: DimLike) -> tuple[Stmt, ...]:
            def emit(lane: DimLike) -> list[Stmt]:
                lets = Lets(names, f.dtype)
                loads = [lets.bind(Load(strip, place(row, tile * m + j, lane))) for j in range(n)]
                found = lets.one(f.matrices.input, loads)
                number = dims.mod(at, plan.strips) * plan.across(sizes) + tile
                block = dims.floordiv(at, plan.strips)
                return lets.stores(
                    target,
                    [
                        ((f.position(block, row * n + j, bound["cb"], number, lane),), value)
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
        template.Axis("cb", f.channel_blocks),
    ]
    cost = 3 * n * width * lanes
    f.ctx.launch("winograd_input", parallel_over(names, axes, body), cost=cost, comment=str(plan))
    return target


def parallel_over(
    names: Names, axes: Sequence[template.Axis], body: Callable[[Bindings], Sequence[Stmt]]
) -> tuple[Stmt, ...]:
    """`parallel_loop` over the axes that have more than one position."""
    found = [a for a in axes if a.extent != 1]
    ones: Bindings = {a.var: 0 for a in axes if a.extent == 1}
    return parallel_loop(names, found, lambda bound: body(ones | bound)) if found else tuple(body(ones))


@dataclass
class Lets:
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
