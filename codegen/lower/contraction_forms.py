"""The forms that a contraction of short numbers may take, and the choice among them.

As it stands; in words (`contraction_words.py`); with operands copied first, in words or in the sum's dtype. Of each
form the plan's cycles are reckoned, and those of the copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from operator import attrgetter
from typing import TypeVar

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Expr, Load
from ..scalar import SCALAR
from ..target import LINE, Target
from .choices import Candidate
from .context import LowerContext, Names
from .contraction import Access, Axis, Contraction
from .contraction_cycles import LAUNCH, PAGE, Core, typical
from .contraction_merge import merge_axes
from .contraction_plan import Way, ranked_plans
from .contraction_streams import in_streams
from .contraction_words import InWords, Sums, Words, Woven, in_shifted_words, in_words, sums_of, woven
from .elementwise import Nest, launch_nests
from .indexing import IndexTuple, at_least
from .spaces import linear
from .template import Element, make_axes

# Cycles for an element, or a word of several, that is copied from neighbours; what is copied to memory that the
# second-level cache does not hold takes its line from memory first.
COPY = 0.15
FAR_COPY, FAR = 0.35, 1 << 20
WEAVE = 0.4
UNFOLD = 1.5
# Larger unfolded copies are not thought of: bytes.
MOST_UNFOLDED = 16 << 20
# A form that cannot be faster by more than this is not reckoned.
ENOUGH = 1.15
# Sums that tile registers add to in a cycle.
TILE_LANES = 256

T = TypeVar("T")


@dataclass(frozen=True)
class Widened:
    """A copy of an operand in another dtype."""

    source: Buffer
    place: Buffer
    stem: str = "widened"

    def element(self, row: Buffer, index: IndexTuple) -> Expr:
        """What `place` holds at an index; `row` is the source as one row."""
        return SCALAR.cast(Load(row, (self.source.offset(index),)), self.place.dtype)


@dataclass(frozen=True)
class Unfolded:
    """A copy of an operand that is read in windows, an element for each point of the axes that it depends on: of an
    image the matrix known as im2col (K. Chellapilla et al., "High Performance Convolutional Neural Networks for Document
    Processing", 2006)."""

    operand: Access
    axes: tuple[Axis, ...]
    place: Buffer
    stem: str = "unfolded"

    @property
    def source(self) -> Buffer:
        return self.operand.buffer

    def element(self, row: Buffer, index: IndexTuple) -> Expr:
        at = {axis.name: i for axis, i in zip(self.axes, index, strict=True)}
        return Load(row, (dims.substitute(self.operand.position, at),))


@dataclass(frozen=True)
class Turned:
    """A copy of images, [N, C, Z, ...], with planes outside of channels, [N, Z, C, P], each in a row of an odd number of
    cache lines: so neighbouring channels are not in the same sets of the cache."""

    source: Buffer
    place: Buffer
    stem: str = "turned"

    @property
    def shape(self) -> tuple[DimLike, ...]:
        """Of what is copied."""
        return (*self.place.shape[:3], dims.product(self.source.shape[3:]))

    def element(self, row: Buffer, index: IndexTuple) -> Expr:
        n, z, c, i = index
        plane = self.source.offset((n, c, z, *(0 for _ in self.source.shape[3:])))
        return Load(row, (plane + i,))


Copy = Widened | Woven | Sums | Unfolded | Turned


@dataclass(frozen=True)
class Form:
    """A contraction, and the copies that it reads."""

    problem: Contraction[Access]
    copies: tuple[Copy, ...] = ()

    def cycles(self, target: Target) -> float:
        """Those of the copies."""
        return sum(_copy_cycles(copy, target) for copy in self.copies)


def _copy_cycles(copy: Copy, target: Target) -> float:
    if isinstance(copy, Sums):
        if copy.problem.resident:
            return 0.0
        return LAUNCH + sums_way(copy, target)[-1].plan.cycles
    elements = typical(copy.place.numel)
    if isinstance(copy, Woven | Unfolded):
        return LAUNCH + elements * (WEAVE if isinstance(copy, Woven) else UNFOLD)
    return LAUNCH + elements * (COPY if elements * copy.place.dtype.itemsize < FAR else FAR_COPY)


def sums_way(sums: Sums, target: Target) -> Way:
    """How to make them."""
    return ranked_plans(sums.problem, Core.of(target, sums.problem.accumulator))[0]


@dataclass(frozen=True)
class Chosen:
    """A form, its axes merged: the contraction, what its epilogue stores, the copies it reads, its plans."""

    problem: Contraction[Access]
    elements: Sequence[Element]
    copies: tuple[Copy, ...]
    choices: Way


def ranked_forms(
    ctx: LowerContext,
    problem: Contraction[Access],
    elements: Sequence[Element],
    target: Target,
    count: int = 1,
) -> list[Candidate[Chosen]]:
    """The forms and plans that are cheapest by the model, the best first, `count` at most."""
    core = Core.of(target, problem.accumulator)
    found: list[Candidate[Chosen]] = []
    for form in forms(ctx, problem, target):
        tiles = target.has_tiles(form.problem.dot)
        enough = ENOUGH * _least(form.problem, TILE_LANES if tiles else core.lanes * core.per_cycle)
        if found and found[0].cycles <= enough and form.problem.added is None:
            continue
        merged, stored = merge_axes(ctx, form.problem, elements)
        for way in ranked_plans(merged, core, count, tiles):
            cycles = way[-1].plan.cycles + form.cycles(target)
            computed, kept, walked = in_streams(merged, stored, way)
            chosen = Chosen(computed, kept, form.copies, walked)
            found.append(Candidate(_name(chosen), cycles, chosen))
        found.sort(key=attrgetter("cycles"))
    return found[:count]


def _name(chosen: Chosen) -> str:
    words = [f"in words by {chosen.problem.dot}"] if chosen.problem.dot else []
    copies = [f"{copy.stem} {copy.source.name}" for copy in chosen.copies]
    return "; ".join([*(choice.plan.text() for choice in chosen.choices), *words, *copies])


def _least(problem: Contraction[Access], lanes: int) -> float:
    """Cycles of the multiply-adds alone."""
    return prod(typical(axis.extent) for axis in problem.axes.values()) / lanes


def forms(ctx: LowerContext, problem: Contraction[Access], target: Target) -> Iterator[Form]:
    """In words first: of forms as cheap, that one."""
    words = in_words(ctx, problem, target)
    first = None if words is None else words.problem.left
    exact = isinstance(first, Words) and first.exact
    again = any(_is_read_again(problem, operand) for operand in problem.operands)
    for found in [words] if words is not None else in_shifted_words(ctx, problem, target):
        made = Form(found.problem)
        if found.offset:
            sums, added = sums_of(ctx, problem, found)
            made = Form(replace(found.problem, added=added), (sums,))
        room = target.lanes(problem.accumulator) - 1 if target.has_tiles(found.problem.dot) else 0
        copies = list(_woven(ctx, problem, found, made, room))
        yield from (*copies, made) if again else (made, *copies)
    turned = _turned(ctx, problem)
    yield turned or Form(problem)
    slow = words is not None and Core.of(target, problem.accumulator).is_slow(words.problem.dot)
    if not exact or slow:
        yield from _widened(ctx, problem)
    yield from _unfolded(ctx, problem, target.lanes(problem.accumulator))


def _is_read_again(problem: Contraction[Access], operand: Access) -> bool:
    """Whether the sum reads elements at many points, as a convolution reads its image, so that a packed copy would be
    larger than the operand."""
    copied = prod(typical(a.extent) for a in problem.axes.values() if operand.depends_on(a.name))
    return copied > 2 * typical(operand.buffer.numel)


def _woven(
    ctx: LowerContext, problem: Contraction[Access], words: InWords, form: Form, room: int
) -> Iterator[Form]:
    """The operands woven whose words are not stored as such: one, or both, with so much room behind them. None where a
    word is not full."""
    sources = problem.operands[::-1] if words.swapped else problem.operands
    found: list[tuple[int, Woven, Access]] = []
    for number, (source, operand) in enumerate(zip(sources, words.problem.operands, strict=True)):
        assert isinstance(operand, Words)
        made = woven(ctx, source, operand, room) if operand.exact and not operand.stored else None
        if made is not None:
            found.append((number, *made))
    for chosen in _some(found):
        operands = list(words.problem.operands)
        for number, _, access in chosen:
            operands[number] = access
        copies = (*form.copies, *(copy for _, copy, _ in chosen))
        yield Form(form.problem.with_operands(*operands), copies)


def _widened(ctx: LowerContext, problem: Contraction[Access]) -> Iterator[Form]:
    """The operands that are short copied in the sum's dtype: one, or both."""
    wide = problem.accumulator
    found: list[tuple[int, Widened]] = []
    for number, operand in enumerate(problem.operands):
        if operand.buffer.dtype is not wide:
            place = Buffer(ctx.fresh("widened"), wide, operand.buffer.shape)
            found.append((number, Widened(operand.buffer, place)))
    for chosen in _some(found):
        operands = list(problem.operands)
        for number, copy in chosen:
            operands[number] = Access(copy.place, operands[number].index)
        yield Form(problem.with_operands(*operands), tuple(copy for _, copy in chosen))


def _unfolded(ctx: LowerContext, problem: Contraction[Access], lanes: int) -> Iterator[Form]:
    """With an operand unfolded whose windows have rows shorter than vectors in the result: as a matrix, its axes are
    walked as one. Of a gradient of 3x3 weights lanes then run along all of a channel's rows, and stores fill lines."""
    if problem.windows:
        return
    for number, operand in enumerate(problem.operands):
        within = [a for a in problem.parallel if operand.depends_on(a.name) and a.extent != 1]
        summed = [a for a in problem.reduction if operand.depends_on(a.name) and a.extent != 1]
        if not any(_window_row(operand, a, summed) and typical(a.extent) < lanes for a in within):
            continue
        axes = (*summed, *within)
        shape = tuple(a.extent for a in axes)
        place = Buffer(ctx.fresh("unfolded"), operand.buffer.dtype, shape)
        if len(within) > 1 and dims.bounds(place.nbytes)[1] <= MOST_UNFOLDED:
            operands = list(problem.operands)
            operands[number] = Access(place, tuple(a.var for a in axes))
            flat = replace(operand, buffer=ctx.flat(operand.buffer), index=(operand.position,))
            yield Form(problem.with_operands(*operands), (Unfolded(flat, axes, place),))


def _turned(ctx: LowerContext, problem: Contraction[Access]) -> Form | None:
    """Of a convolution whose kernel has one element in a plane (7x1x1, or 7x1 over rows): its channels lie far from each
    other, each on pages of its own, and a sum over channels and taps walks all of them at each position. Turned, what
    it walks is one matrix. Measured on Zen 3, 192 channels on 8x56x56, 3x1x1: 149 ms as they lie, 85 turned."""
    for number, operand in enumerate(problem.operands):
        buffer, index = operand.buffer, operand.index
        if len(index) != len(buffer.shape) or len(index) < 4:
            continue
        channel = next((a for a in problem.reduction if index[1] == a.var), None)
        taps = [a for a in problem.reduction if a is not channel and operand.depends_on(a.name)]
        if channel is None or len(taps) != 1 or not {taps[0].name} < _names(index[2]):
            continue  # not what slides along a dim
        planes, inside = buffer.shape[2], dims.product(buffer.shape[3:])
        if not isinstance(inside, int):
            continue
        if any(taps[0].name in _names(i) for i in (index[0], *index[3:])):
            continue
        far = dims.bounds(planes * inside * buffer.dtype.itemsize)[0] >= PAGE
        if not far or taps[0].extent == 1 or not at_least(planes, 3 * taps[0].extent):
            continue  # with few planes, the windows of the border say where not to look
        lines = -(-inside * buffer.dtype.itemsize // LINE)
        row = (lines + (lines + 1) % 2) * LINE // buffer.dtype.itemsize
        place = Buffer(ctx.fresh("turned"), buffer.dtype, (buffer.shape[0], planes, buffer.shape[1], row))
        position: DimLike = 0
        for size, i in zip(buffer.shape[3:], index[3:], strict=True):
            position = position * size + i
        operands = list(problem.operands)
        operands[number] = Access(place, (index[0], index[2], index[1], position))
        others = [a for a in problem.reduction if a not in (channel, taps[0])]
        turned = replace(
            problem,
            reduction=(*others, taps[0], channel),
            windows={name: window for name, window in problem.windows.items() if name != taps[0].name},
        )
        return Form(turned.with_operands(*operands), (Turned(buffer, place),))
    return None


def _names(index: DimLike) -> set[str]:
    return {s.name for s in dims.symbols(index)}


def _window_row(operand: Access, axis: Axis, summed: Sequence[Axis]) -> bool:
    """Whether the axis moves along a dimension that the sum moves along too."""
    for index in operand.index:
        names = {s.name for s in dims.symbols(index)}
        if axis.name in names and any(a.name in names for a in summed):
            return True
    return False


def _some(found: Sequence[T]) -> Iterator[Sequence[T]]:
    """Each alone, and both together."""
    for count in range(1, len(found) + 1):
        yield from combinations(found, count)


def launch_copies(ctx: LowerContext, copies: Sequence[Copy]) -> None:
    """Make the copies that a form reads, but for sums."""
    for copy in copies:
        if isinstance(copy, Sums):
            continue
        ctx.scratches.append((copy.stem, copy.place))
        names = Names()
        shape = copy.shape if isinstance(copy, Woven | Turned) else copy.place.shape
        axes = make_axes(names, shape)
        index = tuple(a.index for a in axes)
        value = copy.element(ctx.flat(copy.source), index)
        offset = copy.place.offset(index) if isinstance(copy, Turned) else linear(index, shape)
        element = Element(ctx.flat(copy.place), offset, value)
        launch_nests(ctx, f"{copy.stem}_operand", [Nest(names, axes, [element])])
