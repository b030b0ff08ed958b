"""Expansions: a convolution of all channels and the depthwise one that filters each of them, in one kernel.

A task makes a band of rows of one image of the result. For a block of channels at a time it makes the rows of the
expanded image that the band needs, on its stack, and filters each channel from there:

    for image, band in parallel
      for block of channels
        expanded[channel, row, x] = epilogue(sum over c of image[c, row, x] * w[channel, c])
        for channel in block
          copy expanded[channel] inside a border of zeros
          y[channel, row, x] = epilogue(sum over ky, kx of bordered[row + ky, x + kx] * v[channel, ky, kx])

So the expanded image, several times as large as what it is made of, stays in the second-level cache; the rows that
neighbouring bands both need are made twice. `passes/fusion_expansion.py` forms such groups. Where that takes longer than
memory, the two are launched one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ...ir.types import TensorType
from ...passes.fusion_expansion import split_expansion
from ..loops.nodes import Buffer, Const, Expr, For, Index, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from ..target import Target
from .borders import Border, BorderCopy, ImageStore, Source, along_lanes, drop_unread, wants_room
from .context import Args, LowerContext, Names
from .contraction import Access, Axis, Contraction, contraction_node
from .contraction_cycles import Core, typical
from .contraction_lower import SUM, Epilogue, lower_contraction
from .contraction_merge import merge_axes
from .contraction_nest import contraction_loops
from .contraction_operands import Operands
from .contraction_plan import unpacked_plan
from .contraction_tile import Bindings, loop_var
from .conv import conv_contractions
from .indexing import BodyEvaluator, IndexTuple
from .spaces import linear
from .template import Element

# Bytes of the stack for a block's channels, and the share of the second-level cache that these and the rows they are
# made of may take.
EXPANDED_BYTES, SHARE = 1 << 17, 0.75
MOST_CHANNELS = 32
# Products that an element of the expanded image is the sum of, at most: larger weights are better packed.
MOST_PRODUCTS = 128
# Cycles for a byte of the expanded images that is not written and read: eight images of 96 channels of 112 x 112 took
# 9.9 ms in two kernels, 7.0 in one (AMD Zen 3).
SAVED = 0.2
# Loops: bands of an image, blocks of channels, channels of a block. Where a band's rows begin is a number by this name.
BAND, BLOCK, CHANNEL, FIRST = "band", "block", "channel", "first"


def lower_expansion(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """Launches a group of kind `expansion`."""
    if ctx.schedules.expansion(ctx, body, args):
        return
    expanding, filtering = split_expansion(body)
    (middle,) = expanding.outputs
    args = {**args, middle: ctx.scratch(middle.name, middle.type.dtype, middle.type.shape)}
    lower_contraction(ctx, node, expanding, args)
    lower_contraction(ctx, node, filtering, args)


def expansion_on_cpu(ctx: LowerContext, body: Graph, args: Args) -> bool:
    """Launches the group as one kernel, where a band of rows and a block of channels fit near the core; whether it
    did."""
    expanding, filtering = split_expansion(body)
    assert isinstance(ctx.target, Target)
    bands = _bands(contraction_node(expanding), contraction_node(filtering), ctx.target)
    if bands is None:
        return False
    (middle,) = expanding.outputs
    size = bands.channels * bands.needed * prod(middle.type.shape[3:])
    expanded = Buffer("expanded", middle.type.dtype, (size,), "stack")
    names = Names()
    made = _made(ctx, expanding, args, bands, expanded, names)
    filtered = _filtered(ctx, filtering, args, bands, expanded, names)
    images, channels = middle.type.shape[:2]
    block = (*made.body, For(CHANNEL, bands.channels, filtered.body))
    group = For(BLOCK, channels // bands.channels, block)
    task = (*_place(images, bands), *filtered.before, group)
    ctx.launch(
        "expansion",
        (For("task", images * bands.count, task, "parallel"),),
        cost=(made.work + filtered.work * bands.channels) * (channels // bands.channels),
        flops=2
        * (made.work * (channels // bands.channels) + filtered.work * channels)
        * images
        * bands.count,
        comment=f"{bands}; {made.comment}; then {filtered.comment}",
    )
    drop_unread(ctx)
    return True


@dataclass(frozen=True)
class _Bands:
    """`count` bands of `rows` of the result, which each need so many of the expanded image's `height` rows, and begin so
    many of those `apart`, the first so many rows of zeros `above` it; and so many `blocks` of so many channels."""

    count: int
    rows: int
    needed: int
    apart: int
    above: int
    height: int
    blocks: int
    channels: int

    def __str__(self) -> str:
        return f"bands of {self.rows} rows, blocks of {self.channels} channels"

    @property
    def first(self) -> DimLike:
        """The first row of the expanded image that a band makes: so that all of them are inside it, at its ends too."""
        start = loop_var(BAND, self.count) * self.apart - self.above
        return dims.minimum(start - dims.minimum(start, 0), self.height - self.needed)

    @property
    def block(self) -> DimLike:
        """A block's first channel."""
        return loop_var(BLOCK, self.blocks) * self.channels

    @property
    def channel(self) -> DimLike:
        """The number of a channel in its block."""
        return loop_var(CHANNEL, self.channels)

    @property
    def begin(self) -> DimLike:
        """The same, as a number that the kernel has."""
        return loop_var(FIRST, self.height - self.needed + 1)


def _bands(expanding: Node, filtering: Node, target: Target) -> _Bands | None:
    """Bands and blocks that fit; None where there are none, or rows that are made twice take longer than memory does."""
    image, kernel = filtering.inputs
    (result,) = filtering.outputs
    batch, channels, height, *row = image.type.shape
    products, rows = prod(expanding.inputs[1].type.shape[1:]), result.type.shape[2]
    stride, dilation, above = (filtering.attrs[name][0] for name in ("stride", "dilation", "padding"))
    core, images, dtype = Core.of(target, result.type.dtype), typical(batch), result.type.dtype
    if products > MOST_PRODUCTS:
        return None
    elements = images * channels * height * prod(row)
    making = elements * products / (core.lanes * core.per_cycle)
    most = SAVED * elements * dtype.itemsize / making
    best: tuple[float, _Bands] | None = None
    for band in (n for n in range(1, rows + 1) if rows % n == 0):
        count = rows // band
        needed = min((band - 1) * stride + (kernel.type.shape[2] - 1) * dilation + 1, height)
        line = needed * prod(row) * dtype.itemsize
        room = min(EXPANDED_BYTES, int(target.l2 * SHARE) - products * line) // line
        block = max((n for n in range(1, MOST_CHANNELS + 1) if channels % n == 0 and n <= room), default=0)
        again = needed * count / height - 1
        if block < min(4, channels) or again > most:
            continue
        cost = again + 1 / (images * count)  # of few tasks, cores wait for the last
        if best is None or cost < best[0]:
            best = cost, _Bands(count, band, needed, band * stride, above, height, channels // block, block)
    return None if best is None else best[1]


def _place(images: DimLike, bands: _Bands) -> tuple[Stmt, ...]:
    """Which image and band a task is for."""
    task = loop_var("task", images * bands.count)
    found = []
    if images != 1:
        found.append(Let("n", Index(dims.floordiv(task, bands.count))))
    if bands.count != 1:
        found.append(Let(BAND, Index(dims.mod(task, bands.count))))
    if bands.needed != bands.height:
        found.append(Let(FIRST, Index(bands.first)))
    return tuple(found)


@dataclass(frozen=True)
class _Part:
    """Statements of the kernel, those before all others of a task, and the multiply-adds in `body`."""

    body: tuple[Stmt, ...]
    work: int
    comment: str
    before: tuple[Stmt, ...] = ()


def _made(ctx: LowerContext, body: Graph, args: Args, bands: _Bands, expanded: Buffer, names: Names) -> _Part:
    """The rows that a band needs of a block's channels."""
    core = contraction_node(body)
    (problem,) = conv_contractions(core, ctx.schedules.operands(ctx, body, args))
    _, _, outputs, height, *along = problem.parallel
    channel, line = Axis(outputs.name, bands.channels), Axis(height.name, bands.needed)
    here = {outputs.name: bands.block + channel.var, height.name: bands.begin + line.var}
    place = (channel.var, line.var, *(a.var for a in along))
    held = {core.outputs[0]: lambda _: Var(SUM, core.outputs[0].type.dtype)}
    index = tuple(dims.substitute(i, here) for i in problem.result)
    value = BodyEvaluator(body, args, held, ctx.flat).at(body.outputs[0], index)
    shape = (bands.channels, bands.needed, *(a.extent for a in along))
    element = Element(expanded, linear(place, shape), value)
    local = replace(_within(problem, (channel, line, *along), here), result=place, shape=shape)
    local, elements = merge_axes(ctx, local, [element])
    # A task's plan is for what it reads of the image.
    _, planes, _, *row = core.inputs[0].type.shape
    near = Buffer("rows", local.left.buffer.dtype, (planes * bands.needed * prod(row),))
    plan = unpacked_plan(replace(local, left=Access(near, (local.left.position,))), _core(ctx, local))

    def finish(bindings: Bindings, value: Expr) -> Sequence[Stmt]:
        known = {SUM: SCALAR.cast(value, core.outputs[0].type.dtype)}
        return [e.at(bindings, {}, known).store() for e in elements]

    return _Part(contraction_loops(local, plan, finish, names), _work(local), str(plan))


def _filtered(
    ctx: LowerContext, body: Graph, args: Args, bands: _Bands, expanded: Buffer, names: Names
) -> _Part:
    """A band of the result's rows, of a channel."""
    core = contraction_node(body)
    operands = _Rows(ctx.schedules.operands(ctx, body, args), core.inputs[0], bands, expanded)
    (problem,) = conv_contractions(core, operands)
    _, group, _, height, *along = problem.parallel
    line = Axis(height.name, bands.rows)
    here = {
        group.name: bands.block + bands.channel,
        height.name: loop_var(BAND, bands.count) * bands.rows + line.var,
    }
    local = _within(problem, (line, *along), here)
    plan = unpacked_plan(local, _core(ctx, local))
    assert isinstance(ctx.target, Target)
    lanes = ctx.target.lanes(local.dtype)
    if operands.copies and wants_room(ctx.target, plan, local):
        plan = replace(plan, padded=True)
    epilogue = Epilogue(ctx, body, args, core.outputs[0])
    elements = epilogue.elements(local.result)

    def finish(bindings: Bindings, value: Expr) -> Sequence[Stmt]:
        memo: dict[int, Expr] = {}
        known = epilogue.known(value)
        return [e.at(bindings, memo, known).store() for e in elements]

    before: tuple[Stmt, ...] = ()
    body_: tuple[Stmt, ...] = ()
    for copy in operands.copies.values():
        before += _cleared(copy, lanes)
        body_ += copy.elements(_into(copy), (0, 0), lanes)
    body_ += contraction_loops(local, plan, finish, names)
    return _Part(body_, _work(local), str(plan), before)


def _cleared(copy: BorderCopy, lanes: int) -> tuple[Stmt, ...]:
    """Zeros around an image's rows, and where vectors reach past its last."""
    zero, size = Const(0, copy.place.dtype), dims.product(copy.border.image)
    behind = along_lanes("i", lanes, lanes, lambda i: [Store(copy.place, (size + i,), zero)])
    return (*copy.zeros(_into(copy), lanes), *behind)


def _into(copy: BorderCopy) -> ImageStore:
    return lambda position, value: Store(copy.place, (position,), value)


def _within(
    problem: Contraction[Access], axes: Sequence[Axis], here: Mapping[str, DimLike]
) -> Contraction[Access]:
    """The part of a contraction that these axes walk, from where the kernel is."""
    return replace(
        problem,
        parallel=tuple(axes),
        left=problem.left.over(here),
        right=problem.right.over(here),
        result=tuple(dims.substitute(i, here) for i in problem.result),
        windows={},
    )


def _core(ctx: LowerContext, problem: Contraction[Access]) -> Core:
    assert isinstance(ctx.target, Target)
    return Core.of(ctx.target, problem.accumulator)


def _work(problem: Contraction[Access]) -> int:
    """Multiply-adds."""
    return prod(typical(a.extent) for a in problem.axes.values())


@dataclass(frozen=True)
class _Rows:
    """The operands of the depthwise convolution: of its image a channel's rows among those `expanded` on the stack, or a
    copy of them inside a border of zeros."""

    operands: Operands
    image: Value
    bands: _Bands
    expanded: Buffer
    copies: dict[Border, BorderCopy] = field(default_factory=dict)

    def read(self, value: Value, index: IndexTuple) -> Access:
        if value is not self.image:
            return self.operands.read(value, index)
        _, _, row, *rest = index
        return Access(self.expanded, (self._place((row - self.bands.begin, *rest)),))

    def bordered(
        self,
        value: Value,
        low: Sequence[int],
        step: Sequence[int],
        space: Sequence[DimLike],
        index: IndexTuple,
    ) -> Access:
        if value is not self.image:
            return self.operands.bordered(value, low, step, space, index)
        return self._copied(low, space, 1, index)

    @property
    def has_phases(self) -> bool:
        return self.operands.has_phases

    def phased(
        self, value: Value, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple
    ) -> Access:
        assert value is self.image
        return self._copied(low, space, phases, index)

    @property
    def _rows(self) -> tuple[DimLike, ...]:
        """The shape of a channel's rows."""
        return (self.bands.needed, *self.image.type.shape[3:])

    def _place(self, index: IndexTuple) -> DimLike:
        """Where an element of the channel's rows is."""
        return linear((self.bands.channel, *index), (self.bands.channels, *self._rows))

    def _copied(self, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple) -> Access:
        """Above and below a band are as many rows of zeros as above the image, for bands at its ends read them."""
        bands, dtype = self.bands, self.image.type.dtype
        rows = Value("rows", TensorType((1, 1, *self._rows), dtype))
        space = (bands.needed + 2 * bands.above, *space[1:])
        border = Border(rows, tuple(low), (1,) * len(low), space, phases)
        if border not in self.copies:
            size = dims.product(border.image) + self.operands.ctx.target.lanes(dtype)
            source = Source(dtype, lambda at: Load(self.expanded, (self._place(at[2:]),)))
            self.copies[border] = BorderCopy(border, source, Buffer("image", dtype, (size,), "stack"))
        _, _, row, *rest = index
        at = linear((row - bands.begin, *rest), border.image)
        return Access(self.copies[border].place, (at,))
