"""Expansions: a convolution of all channels, the depthwise one that filters each of them, and often a projection to
fewer, in one kernel.

A task makes a band of rows of one image of the result. For a block of channels at a time it makes the rows of the
expanded image that the band needs, on its stack, filters each channel from there, and adds what the filtered ones are to
the sums of the projection:

    for image, band in parallel
      for block of channels
        expanded[channel, row, x] = epilogue(sum over c of image[c, row, x] * w[channel, c])
        for channel in block
          copy expanded[channel] inside a border of zeros
          filtered[channel, row, x] = epilogue(sum over ky, kx of bordered[row + ky, x + kx] * v[channel, ky, kx])
        sums[o, row, x] += sum over channels of filtered[channel, row, x] * u[o, channel]
      y[o, row, x] = epilogue(sums[o, row, x])

So the expanded image, several times as large as what it is made of, stays in the second-level cache; the rows that
neighbouring bands both need are made twice. `passes/fusion_expansion.py` forms such groups. Where that takes longer than
memory, the convolutions are launched one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ...ir.types import TensorType
from ...passes.fusion_expansion import split_expansion
from ...passes.regions import part_of
from ..loops.nodes import Buffer, Expr, For, Index, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from ..target import Target
from .borders import Border, BorderCopy, ImageStore, Source, along_lanes, drop_unread, wants_room, zeros_along
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
from .expansion_bands import BAND, BLOCK, CHANNEL, FIRST, Bands, bands_of
from .indexing import IndexTuple
from .spaces import linear
from .template import Element, store_all


def lower_expansion(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """Launches a group of kind `expansion`."""
    if ctx.schedules.expansion(ctx, body, args):
        return
    *before, last = split_expansion(body)
    middle = last.inputs[-1]
    args = {**args, middle: ctx.scratch(middle.name, middle.type.dtype, middle.type.shape)}
    lower = lower_contraction if len(before) == 1 else lower_expansion
    lower(ctx, node, part_of(body, (middle,)), args)
    lower_contraction(ctx, node, last, args)


def expansion_on_cpu(ctx: LowerContext, body: Graph, args: Args) -> bool:
    """Launches the group as one kernel, where a band of rows and a block of channels fit near the core; whether it
    did."""
    parts = split_expansion(body)
    assert isinstance(ctx.target, Target)
    cores = [contraction_node(part) for part in parts]
    bands = bands_of(cores, ctx.target)
    if bands is None:
        return False
    kernel = _Kernel(
        ctx, args, bands, [core.outputs[0].type.shape for core in cores], cores[0].outputs[0].type.dtype
    )
    made, filtered = kernel.made(parts[0]), kernel.filtered(parts[1], len(parts) == 2)
    projected = kernel.projected(parts[2]) if len(parts) == 3 else _Part()
    channel = For(CHANNEL, bands.channels, filtered.body)
    block = For(BLOCK, bands.blocks, (*made.body, channel, *projected.body))
    images = cores[0].outputs[0].type.shape[0]
    task = (*_place(images, bands), *filtered.before, *projected.before, block, *projected.after)
    work = (made.work + filtered.work * bands.channels + projected.work) * bands.blocks
    ctx.launch(
        "expansion",
        (For("task", images * bands.count, task, "parallel"),),
        cost=work,
        flops=2 * work * images * bands.count,
        comment="; then ".join(
            filter(None, (f"{bands}; {made.comment}", filtered.comment, projected.comment))
        ),
    )
    drop_unread(ctx)
    return True


def _place(images: DimLike, bands: Bands) -> tuple[Stmt, ...]:
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
    """Statements of the kernel, those before all others of a task and after them, and the multiply-adds in `body`."""

    body: tuple[Stmt, ...] = ()
    work: int = 0
    comment: str = ""
    before: tuple[Stmt, ...] = ()
    after: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class _Kernel:
    """The parts of a kernel; `shapes`: of the convolutions' results, whole."""

    ctx: LowerContext
    args: Args
    bands: Bands
    shapes: Sequence[tuple[DimLike, ...]]
    dtype: DType
    names: Names = field(default_factory=Names)

    @property
    def target(self) -> Target:
        assert isinstance(self.ctx.target, Target)
        return self.ctx.target

    @cached_property
    def expanded(self) -> Buffer:
        return self._on_stack("expanded", self.bands.channels, self.bands.needed, self.shapes[0])

    @cached_property
    def kept(self) -> Buffer:
        """What the channels of a block are filtered to."""
        return self._on_stack("filtered", self.bands.channels, self.bands.rows, self.shapes[1])

    @cached_property
    def sums(self) -> Buffer:
        """Of the projection."""
        return self._on_stack("sums", self.shapes[2][1], self.bands.rows, self.shapes[2])

    def _on_stack(self, name: str, channels: DimLike, rows: int, shape: Sequence[DimLike]) -> Buffer:
        return Buffer(name, self.dtype, (dims.product((channels, rows, *shape[3:])),), "stack")

    def made(self, body: Graph) -> _Part:
        """The rows that a band needs of a block's channels."""
        core, bands = contraction_node(body), self.bands
        (problem,) = conv_contractions(core, self._operands(body))
        _, _, outputs, height, *along = problem.parallel
        axes = Axis(outputs.name, bands.channels), Axis(height.name, bands.needed), *along
        here = {outputs.name: bands.block + axes[0].var, height.name: bands.begin + axes[1].var}
        place = tuple(axis.var for axis in axes)
        local = _within(problem, axes, here)
        element = self._element(body, core, self.expanded, linear(place, _extents(axes)), local.result)
        local = replace(local, result=place, shape=_extents(axes))
        # A task's plan is for what it reads of the image.
        _, planes, _, *row = core.inputs[0].type.shape
        near = Buffer("rows", local.left.buffer.dtype, (planes * bands.needed * prod(row),))
        return self._part(local, [element], near)

    def filtered(self, body: Graph, last: bool) -> _Part:
        """A channel's rows of a band; `last`: they are the result."""
        core, bands = contraction_node(body), self.bands
        operands = _Rows(
            self._operands(body), core.inputs[0], bands, self.expanded, bands.begin, bands.needed
        )
        (problem,) = conv_contractions(core, operands)
        _, group, _, height, *along = problem.parallel
        axes = Axis(height.name, bands.rows), *along
        here = {group.name: bands.block + bands.channel, height.name: self._row(axes[0])}
        local = _within(problem, axes, here)
        if last:
            elements = Epilogue(self.ctx, body, self.args, core.outputs[0]).elements(local.result)
        else:
            place = linear((bands.channel, *(a.var for a in axes)), (bands.channels, *_extents(axes)))
            elements = [self._element(body, core, self.kept, place, local.result)]
        lanes = self.target.lanes(self.dtype)
        before: tuple[Stmt, ...] = ()
        copied: tuple[Stmt, ...] = ()
        for copy in operands.copies.values():
            before += _cleared(copy, lanes)
            copied += copy.elements(_into(copy), (0, 0), lanes)
        found = self._part(local, elements, room=bool(operands.copies))
        return replace(found, body=(*copied, *found.body), before=before)

    def projected(self, body: Graph) -> _Part:
        """What a block's channels add to the projection, of which zeros are made first, and its results last."""
        core, bands, sums = contraction_node(body), self.bands, self.sums
        first = loop_var(BAND, bands.count) * bands.rows
        operands = _Rows(self._operands(body), core.inputs[0], bands, self.kept, first, bands.rows)
        (problem,) = conv_contractions(core, operands)
        _, _, outputs, height, *along = problem.parallel
        summed, *taps = problem.reduction
        channel = Axis(summed.name, bands.channels)
        axes = outputs, Axis(height.name, bands.rows), *along
        place = tuple(axis.var for axis in axes)
        at = linear(place, _extents(axes))
        here = {summed.name: bands.block + channel.var, height.name: self._row(axes[1])}
        local = _within(problem, axes, here)
        results = Epilogue(self.ctx, body, self.args, core.outputs[0])
        elements = results.elements(local.result)
        local = replace(
            local,
            reduction=(channel, *taps),
            result=place,
            shape=_extents(axes),
            added=Access(sums, (at,)),
        )
        found = self._part(local, [Element(sums, at, Var(SUM, self.dtype))])
        lanes = self.target.lanes(self.dtype)
        *outer, inner = axes

        def stored(position: DimLike) -> Sequence[Stmt]:
            bindings: Bindings = {inner.name: position}
            return store_all(elements, bindings, results.known(Load(sums, (dims.substitute(at, bindings),))))

        after = along_lanes("i", inner.extent, lanes, stored)
        for axis in reversed(outer):
            after = (For(axis.name, axis.extent, after),) if axis.extent != 1 else after
        return replace(found, before=zeros_along(sums, 0, sums.numel, lanes), after=after)

    def _operands(self, body: Graph) -> Operands:
        found = self.ctx.schedules.operands(self.ctx, body, self.args)
        assert isinstance(found, Operands)
        return found

    def _row(self, line: Axis) -> DimLike:
        """A row of the band, of those of the whole result."""
        return loop_var(BAND, self.bands.count) * self.bands.rows + line.var

    def _element(self, body: Graph, core: Node, place: Buffer, at: DimLike, index: IndexTuple) -> Element:
        """The body's result at an index of it, as an element on the stack; a name stands for the sum."""
        evaluator = Epilogue(self.ctx, body, self.args, core.outputs[0]).evaluator()
        return Element(place, at, evaluator.at(body.outputs[0], index))

    def _part(
        self,
        problem: Contraction[Access],
        elements: Sequence[Element],
        near: Buffer | None = None,
        room: bool = False,
    ) -> _Part:
        """Its loops, which store the elements. `near`: what it reads of the left operand; `room`: rows of that have room
        behind them."""
        problem, elements = merge_axes(self.ctx, problem, elements)
        reckoned = problem if near is None else replace(problem, left=Access(near, (problem.left.position,)))
        plan = unpacked_plan(reckoned, Core.of(self.target, problem.accumulator))
        if room and wants_room(self.target, plan, problem):
            plan = replace(plan, padded=True)

        def finish(bindings: Bindings, value: Expr) -> Sequence[Stmt]:
            if problem.added is not None:
                value = SCALAR.add(value, problem.added.at(bindings))
            return store_all(elements, bindings, {SUM: SCALAR.cast(value, problem.dtype)})

        work = prod(typical(axis.extent) for axis in problem.axes.values())
        return _Part(contraction_loops(problem, plan, finish, self.names), work, str(plan))


def _extents(axes: Sequence[Axis]) -> tuple[DimLike, ...]:
    return tuple(axis.extent for axis in axes)


def _cleared(copy: BorderCopy, lanes: int) -> tuple[Stmt, ...]:
    """Zeros around an image's rows, and where vectors reach past its last."""
    behind = zeros_along(copy.place, dims.product(copy.border.image), lanes, lanes)
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


@dataclass(frozen=True)
class _Rows:
    """The operands of a convolution whose image lies on the stack: `rows` of each channel of a block, from `first` on,
    in `place`; or a copy of a channel's rows inside a border of zeros."""

    operands: Operands
    image: Value
    bands: Bands
    place: Buffer
    first: DimLike
    rows: int
    copies: dict[Border, BorderCopy] = field(default_factory=dict)

    def read(self, value: Value, index: IndexTuple) -> Access:
        if value is not self.image:
            return self.operands.read(value, index)
        _, channel, row, *rest = index
        return Access(self.place, (self._at(channel - self.bands.block, row - self.first, *rest),))

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

    def step(self, value: Value) -> int:
        return 1

    @property
    def has_phases(self) -> bool:
        return self.operands.has_phases

    def phased(
        self, value: Value, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple
    ) -> Access:
        assert value is self.image
        return self._copied(low, space, phases, index)

    @property
    def _shape(self) -> tuple[DimLike, ...]:
        return (self.bands.channels, self.rows, *self.image.type.shape[3:])

    def _at(self, *index: DimLike) -> DimLike:
        return linear(index, self._shape)

    def _copied(self, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple) -> Access:
        """Above and below a band are as many rows of zeros as above the image, for bands at its ends read them."""
        bands, dtype = self.bands, self.image.type.dtype
        rows = Value("rows", TensorType((1, 1, *self._shape[1:]), dtype))
        space = (self.rows + 2 * bands.above, *space[1:])
        border = Border(rows, tuple(low), (1,) * len(low), space, phases)
        if border not in self.copies:
            size = dims.product(border.image) + self.operands.ctx.target.lanes(dtype)
            source = Source(dtype, lambda at: Load(self.place, (self._at(bands.channel, *at[2:]),)))
            self.copies[border] = BorderCopy(border, source, Buffer("image", dtype, (size,), "stack"))
        _, _, row, *rest = index
        at = linear((row - self.first, *rest), border.image)
        return Access(self.copies[border].place, (at,))
