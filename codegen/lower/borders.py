"""Images inside a border of zeros, which make every access of a convolution linear.

A copy of a whole tensor is a launch of its own, into scratch. Where a contraction's loops take one image of one channel
at a time, as depthwise convolutions and their gradients do, the launch is dropped and each image is copied when its turn
comes, into a buffer on the stack that stays in the nearest caches; the border is written once for all that a task does.
So do the contractions of a strided convolution's gradients, each for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Value
from ..loops.nodes import Buffer, Const, Expr, For, Index, Let, Stmt, Store
from ..scalar import SCALAR
from ..target import GpuTarget, Target
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .contraction_nest import Before
from .contraction_tile import Bindings
from .indexing import IndexTuple, at_least
from .spaces import linear
from .tiling import Plan

# Stores an element of an image at its position.
ImageStore = Callable[[DimLike, Expr], Stmt]

# An image's copy on a thread's stack: a fraction of a usual second-level cache.
IMAGE_BYTES = 1 << 17


@dataclass(frozen=True)
class Border:
    """`[N, C, *space]`, zero but for the elements of `value`, [N, C, *S], at `low + step * position`. With phases, which
    go with steps of 1 and whole multiples of them as the last of `space`, it is `[N, C, *space[:-1], phases,
    space[-1] / phases]`: each row in so many parts of every so many positions."""

    value: Value
    low: tuple[int, ...]
    step: tuple[int, ...]
    space: tuple[DimLike, ...]
    phases: int = 1

    @property
    def image(self) -> tuple[DimLike, ...]:
        """The shape of one image."""
        parts = () if self.phases == 1 else (self.phases,)
        return (*self.space[:-1], *parts, dims.floordiv(self.space[-1], self.phases))


@dataclass(frozen=True)
class Source:
    """Where the elements come from: `at` an index of the value, of a type."""

    dtype: DType
    at: Callable[[IndexTuple], Expr]


@dataclass(frozen=True)
class BorderCopy:
    """A whole tensor's copy, in `place`."""

    border: Border
    source: Source
    place: Buffer

    def zeros(self, store: ImageStore, lanes: int) -> tuple[Stmt, ...]:
        """Fills an image where `elements` stores nothing; `store(position, value)` of its elements as one row."""
        border = self.border
        if any(step != 1 for step in border.step):
            return self._filled(store, lanes, 0, dims.product(border.space))
        return self._around(store, lanes, 0, 0)

    def _filled(self, store: ImageStore, lanes: int, first: DimLike, count: DimLike) -> tuple[Stmt, ...]:
        zero = Const(0, self.place.dtype)
        return along_lanes("i", count, lanes, lambda i: [store(first + i, zero)])

    def _around(self, store: ImageStore, lanes: int, d: int, start: DimLike) -> tuple[Stmt, ...]:
        """Fills what is before and behind the value's elements in the dimensions from `d` on, from `start` on."""
        border = self.border
        if d + 1 == len(border.space):
            found: tuple[Stmt, ...] = ()
            length = border.image[-1]
            for phase in range(border.phases):
                _, first, count = self._part_of_row(phase)
                row = start + phase * length
                found += self._filled(store, lanes, row, first)
                found += self._filled(store, lanes, row + first + count, length - (first + count))
            return found
        axis = Axis(f"s{d}", border.value.type.shape[2 + d])
        low, apart = border.low[d], dims.product(border.space[d + 1 :])
        end = low + axis.extent
        inner = self._around(store, lanes, d + 1, start + (low + axis.var) * apart)
        return (
            *self._filled(store, lanes, start, low * apart),
            *self._filled(store, lanes, start + end * apart, (border.space[d] - end) * apart),
            *((For(axis.name, axis.extent, inner),) if inner and axis.extent != 1 else inner),
        )

    def _part_of_row(self, phase: int) -> tuple[int, int, DimLike]:
        """The first position of the value's rows that belongs to a phase, its place there, and how many do."""
        low, phases = self.border.low[-1], self.border.phases
        first = (phase - low) % phases
        count = dims.floordiv(self.border.value.type.shape[-1] - first + phases - 1, phases)
        return first, (first + low) // phases, count

    def elements(
        self, store: ImageStore, image: IndexTuple, lanes: int, only: int | None = None
    ) -> tuple[Stmt, ...]:
        """Copies the value's elements at this index of N and C into the image; of one phase, if `only` names it."""
        border = self.border
        outer = [Axis(f"s{d}", size) for d, size in enumerate(border.value.type.shape[2:-1])]
        above = [a.var * s + b for a, s, b in zip(outer, border.step, border.low, strict=False)]
        phases = border.phases
        zeros = border.step[-1] - 1 if self._has_room else 0

        def copied(position: DimLike, place: IndexTuple) -> Sequence[Stmt]:
            element = self.source.at((*image, *(a.var for a in outer), position))
            start = linear((*above, *place), border.image)
            found = [store(start, SCALAR.cast(element, self.place.dtype))]
            return found + [store(start + 1 + k, Const(0, self.place.dtype)) for k in range(zeros)]

        body: tuple[Stmt, ...] = ()
        for phase in range(phases) if only is None else (only,):
            first, place, count = self._part_of_row(phase)

            def part(
                j: DimLike, phase: int = phase, first: int = first, place: int = place
            ) -> Sequence[Stmt]:
                if phases == 1:
                    return copied(j, (j * border.step[-1] + place,))
                return copied(phases * j + first, (phase, j + place))

            body += along_lanes("i", count, lanes, part)
        for axis in reversed(outer):
            body = (For(axis.name, axis.extent, body),) if axis.extent != 1 else body
        return body

    @property
    def _has_room(self) -> bool:
        """Whether a row has room for the zeros behind its last element: stored with it, they make whole vectors."""
        border = self.border
        end = border.low[-1] + border.value.type.shape[-1] * border.step[-1]
        return at_least(border.space[-1], end)


def launch_border(ctx: LowerContext, border: Border, source: Source) -> Buffer:
    """The whole tensor's copy; `ctx.borders` tells what it is."""
    lead = border.value.type.shape[:2]
    plane = dims.product(border.space)
    place = ctx.scratch("bordered", source.dtype, (*lead, *border.image))
    rows = ctx.view(place, (*lead, plane))
    n, c = Axis("n", lead[0]), Axis("c", lead[1])
    lanes = ctx.target.lanes(source.dtype)
    copy = BorderCopy(border, source, place)

    def store(position: DimLike, value: Expr) -> Stmt:
        return Store(rows, (n.var, c.var, position), value)

    body = (*copy.zeros(store, lanes), *copy.elements(store, (n.var, c.var), lanes))
    task = plane if isinstance(c.extent, int) else plane * c.extent
    ctx.launch("zero_border", _images(n, c, body), cost=task * 2)
    ctx.borders[place] = copy
    return place


def in_tasks(
    ctx: LowerContext, problem: Contraction[Access], plan: Plan
) -> tuple[Contraction[Access], Plan, Before] | None:
    """The contraction with images copied when their turn comes, its plan, and what to do before each. None where its
    loops do not take one image at a time, and each but once."""
    left, right = problem.operands
    copy = ctx.borders.get(ctx.storage(left.buffer))
    if copy is None or type(left) is not Access or 0 in plan.packed or plan.parts > 1:
        return None
    size = dims.product(copy.border.image)
    if not isinstance(size, int) or size * left.buffer.dtype.itemsize > IMAGE_BYTES:
        return None
    strides = {name: left.stride(name) for name in problem.axes}
    images = {n: s // size for n, s in strides.items() if isinstance(s, int) and s and s % size == 0}
    number: DimLike = 0
    for name, often in images.items():
        number = number + problem.axes[name].var * often
    within = left.position - number * size
    low, high = dims.bounds(within)
    if not images or low < 0 or high >= size:
        return None
    summed = [name for name in images if name not in plan.order]
    if summed not in ([], [problem.reduction[0].name]) or plan.lane in images:
        return None
    wide = [name for name in images if plan.tile(name) != 1]
    several = prod(plan.tile(name) for name in wide)
    if several * size * left.buffer.dtype.itemsize > IMAGE_BYTES or (wide and not summed):
        return None
    depth = len(plan.order) if summed else 1 + max(plan.order.index(name) for name in images)
    others = {*plan.order[:depth], *plan.blocks} - images.keys()
    if any(problem.axes[name].extent != plan.tile(name) for name in others):
        return None
    lanes = ctx.target.lanes(left.buffer.dtype)
    room = 0
    if wants_room(ctx.target, plan, problem):
        room, plan = lanes, replace(plan, padded=True)
    image = Buffer("image", left.buffer.dtype, (several * size + room,), "stack")
    channels = copy.border.value.type.shape[1]
    phase = dims.mod(dims.floordiv(within, copy.border.image[-1]), copy.border.phases)
    # Which of a tile's images the point reads, and each of them in turn.
    tiles = tuple(plan.tile(name) for name in wide)
    which = linear(tuple(dims.mod(problem.axes[name].var, plan.tile(name)) for name in wide), tiles)
    turns = {name: Axis(f"{name}_i", plan.tile(name)) for name in wide}
    turn = linear(tuple(axis.var for axis in turns.values()), tiles)

    def store(position: DimLike, value: Expr) -> Stmt:
        return Store(image, (turn * size + position,), value)

    def in_turn(body: tuple[Stmt, ...], counts: Mapping[str, DimLike]) -> tuple[Stmt, ...]:
        for name, axis in turns.items():
            body = (For(axis.name, counts[name], body),)
        return body

    def each(bindings: Bindings) -> tuple[Stmt, ...]:
        here = dims.substitute(number, bindings | {n: bindings[n] + a.var for n, a in turns.items()})
        place = dims.floordiv(here, channels), dims.mod(here, channels)
        body = copy.elements(store, place, lanes, phase if isinstance(phase, int) else None)
        left_over = {
            n: dims.minimum(a.extent, problem.axes[n].extent - bindings[n]) for n, a in turns.items()
        }
        return in_turn(body, left_over)

    zeros = in_turn(copy.zeros(store, lanes), {name: axis.extent for name, axis in turns.items()})
    zeros += zeros_along(image, several * size, room, lanes)
    before = Before(depth, zeros, each, "".join(summed))
    return problem.with_operands(Access(image, (which * size + within,)), right), plan, before


def wants_room(target: Target | GpuTarget, plan: Plan, problem: Contraction[Access]) -> bool:
    """Whether vectors should reach past a row of the image: loads under a mask would hold a register each, where those
    are few. The image then has room for them behind it."""
    left, right = problem.operands
    vectors = plan.lane in plan.order and left.stride(plan.lane) == 1 and not right.depends_on(plan.lane)
    return vectors and target.isa != "avx512"


def _images(n: Axis, c: Axis, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """A parallel loop over all images of a tensor; over its batch where the number of channels is not known."""
    if 1 in (n.extent, c.extent) or not isinstance(c.extent, int):
        return shared_loops((n, c), body)
    count = n.extent * c.extent
    image = dims.symbol("image", 0, max(0, dims.bounds(count)[1] - 1))
    place = Let(n.name, Index(dims.floordiv(image, c.extent))), Let(c.name, Index(dims.mod(image, c.extent)))
    return (For("image", count, (*place, *body), "parallel"),)


def drop_unread(ctx: LowerContext) -> None:
    """Forgets the copies of whole tensors that no launch reads, since all who would make their own."""
    for place in ctx.borders:
        made, *read = (launch for launch in ctx.launches if place in launch.args)
        if not read:
            ctx.launches.remove(made)
            ctx.scratches = [(stem, buffer) for stem, buffer in ctx.scratches if buffer is not place]
    ctx.borders.clear()


def along_lanes(
    var: str, extent: DimLike, lanes: int, body: Callable[[DimLike], Sequence[Stmt]]
) -> tuple[Stmt, ...]:
    """`body` for each position along a dimension, in vectors; the last one masked."""
    whole, rest = dims.floordiv(extent, lanes), dims.mod(extent, lanes)
    found: tuple[Stmt, ...] = ()
    lane = dims.symbol("l", 0, lanes - 1)
    if whole != 0:
        start = dims.symbol(var, 0, max(0, dims.bounds(whole)[1] - 1)) * lanes
        found = (For(var, whole, (For("l", lanes, tuple(body(start + lane)), "vector", lanes),)),)
    if rest != 0:
        found += (For("l", rest, tuple(body(whole * lanes + lane)), "vector", lanes),)
    return found


def zeros_along(buffer: Buffer, first: DimLike, count: DimLike, lanes: int) -> tuple[Stmt, ...]:
    """Zeros in so many elements of a row, from the first on."""
    zero = Const(0, buffer.dtype)
    return along_lanes("i", count, lanes, lambda i: [Store(buffer, (first + i,), zero)])


def shared_loops(axes: Sequence[Axis], body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """Serial loops, the outermost one shared among threads."""
    looped = [a for a in axes if a.extent != 1]
    for axis in reversed(looped):
        body = (For(axis.name, axis.extent, body, "parallel" if axis is looped[0] else "serial"),)
    return body
