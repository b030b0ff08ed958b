"""Contractions of short numbers, several products to an instruction: operands read in words of 32 bits.

bfloat16 numbers are multiplied in pairs and 8-bit integers in fours where the target has the instruction, 8-bit
integers elsewhere in pairs, as 16-bit ones (`codegen/packed.py`). Such a contraction is another one of the same form:
one reduction axis, the innermost, counts words instead of elements, and an operand gives the word at a point,
neighbours along that axis. A word whose elements are neighbours in memory is one load; packing (`contraction_pack.py`)
makes all of them so, and fills the last one with zeros where the axis ends inside it. What is read too often and too
far apart to be packed, such as the image of a convolution, is woven: copied in words, otherwise laid out as it was.

The products of fours are of one without sign and one with. Where both are alike, one is shifted: its sign bits
turned over, an i8 is a u8 that is 128 more, and what that adds, 128 times the sum of the other operand, is taken off the
result (`Contraction.added`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import TILE_WORDS, Buffer, Const, Expr, Load
from ..packed import PACKINGS, pack, packing, per_word
from ..scalar import SCALAR
from ..target import Target
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .indexing import IndexTuple
from .spaces import linear

# The sign bits of four 8-bit integers, and a one for each.
SIGNS, ONES = 0x80808080, 0x01010101
# What an operand's dtype counts as when its sign bits are turned over, and how much more its numbers then are.
_SHIFTED = {dtypes.i8: (dtypes.u8, 128), dtypes.u8: (dtypes.i8, -128)}

# The operands' dtypes and the sum's: the operation.
_DOTS = {
    (dtypes.bf16, dtypes.bf16, dtypes.f32): "dot_bf16",
    (dtypes.u8, dtypes.i8, dtypes.i32): "dot_u8i8",
}


@dataclass(frozen=True)
class Words(Access):
    """An operand, one row, in words that `packing` makes of elements that lie `step` apart. The index is that of a
    word's first element; `axis` counts words, which hold `extent` elements in all. `shifted`: the elements' sign bits
    are turned over."""

    axis: str
    packing: str
    step: DimLike
    extent: DimLike
    shifted: bool = False

    @property
    def size(self) -> int:
        """The elements of a word."""
        return per_word(self.packing)

    @property
    def exact(self) -> bool:
        """Whether no word reaches past the axis's end."""
        return dims.mod(self.extent, self.size) == 0

    @property
    def near(self) -> bool:
        """Whether a word's elements are neighbours in memory."""
        return self.step == 1

    @property
    def stored(self) -> bool:
        """Whether a word lies in memory as it is multiplied."""
        return self.near and self.packing in PACKINGS

    def at(self, bindings: Mapping[str, DimLike]) -> Expr:
        first = dims.substitute(self.position, bindings)
        return self.word([Load(self.buffer, (first + self.step * place,)) for place in range(self.size)])

    def word(self, numbers: Sequence[Expr]) -> Expr:
        """The word of these elements."""
        found = pack(self.packing, numbers)
        return SCALAR.xor(found, Const(SIGNS, found.dtype)) if self.shifted else found

    def stride(self, axis: str) -> DimLike:
        """Elements between words along an axis; 1 along the axis of words that lie one behind the other."""
        return 1 if axis == self.axis and self.near else super().stride(axis)


def dot_of(left: DType, right: DType, accumulator: DType, target: Target) -> tuple[str, bool] | None:
    """The operation that multiplies such operands in words, and whether it takes the right one first; None where the
    target has none."""
    for flipped, pair in enumerate(((left, right), (right, left))):
        found = _DOTS.get((*pair, accumulator))
        if found is not None and target.has_dot(found):
            return found, bool(flipped)
    short = (dtypes.i8, dtypes.u8)
    if left in short and right in short and accumulator is dtypes.i32 and not target.has_dot("dot_u8i8"):
        return ("dot_i16", False) if target.has_dot("dot_i16") else None
    return None


def in_words(ctx: LowerContext, problem: Contraction[Access], target: Target) -> InWords | None:
    """The contraction over words; None where the target has no instruction for it, or the sum is too short."""
    return _in_words(ctx, problem, target, None)


def in_shifted_words(ctx: LowerContext, problem: Contraction[Access], target: Target) -> Iterator[InWords]:
    """The contraction over words where one operand must be shifted for it: the left one, or the right one."""
    left, right = (operand.buffer.dtype for operand in problem.operands)
    if left is right and left in _SHIFTED:
        for number in (0, 1):
            found = _in_words(ctx, problem, target, number)
            if found is not None:
                yield found


@dataclass(frozen=True)
class InWords:
    """A contraction over words. `swapped`: its operands stand the other way round than they were. `offset`: what is to
    be added for each unit in the `other` operand (of the contraction as it was), 0 where nothing is."""

    problem: Contraction[Access]
    swapped: bool
    offset: int = 0
    other: int = 0


def _in_words(
    ctx: LowerContext, problem: Contraction[Access], target: Target, shifted: int | None
) -> InWords | None:
    dtype = [operand.buffer.dtype for operand in problem.operands]
    offset = 0
    if shifted is not None:
        dtype[shifted], offset = _SHIFTED[dtype[shifted]]
    found = dot_of(dtype[0], dtype[1], problem.accumulator, target)
    if found is None:
        return None
    op, flipped = found
    packings = [packing(op, operand.buffer.dtype) for operand in problem.operands]
    size = per_word(packings[0])
    axis = _word_axis(problem, size, target.has_tiles(op))
    if axis is None:
        return None
    words = Axis(axis.name, dims.floordiv(axis.extent + (size - 1), size))
    operands: list[Access] = []
    for n, x in enumerate(problem.operands):
        position = dims.substitute(x.position, {axis.name: words.var * size})
        flat, step = ctx.flat(x.buffer), x.stride(axis.name)
        operands.append(Words(flat, (position,), axis.name, packings[n], step, axis.extent, n == shifted))
    resident = problem.resident
    if flipped:
        operands.reverse()
        resident = frozenset(1 - n for n in resident)
    made = replace(
        problem,
        reduction=(*(a for a in problem.reduction if a.name != axis.name), words),
        left=operands[0],
        right=operands[1],
        dot=op,
        resident=resident,
        # Zeros of the shifted operand are 128 as well.
        windows={} if shifted == 0 else problem.windows,
    )
    return InWords(made, flipped, -offset, 0 if shifted is None else 1 - shifted)


@dataclass(frozen=True)
class Ones(Access):
    """An operand that is one everywhere, instead of `buffer`, whose dtype it has; `word`: in words."""

    word: bool = False

    def at(self, bindings: Mapping[str, DimLike]) -> Expr:
        return Const(ONES, dtypes.u32) if self.word else Const(1, self.buffer.dtype)


@dataclass(frozen=True)
class Sums:
    """`factor` times the sums of an operand, `source`: the contraction of it and of ones that fills `place`."""

    source: Buffer
    place: Buffer
    problem: Contraction[Access]
    factor: int
    stem: str = "sums"


def sums_of(ctx: LowerContext, problem: Contraction[Access], found: InWords) -> tuple[Sums, Access]:
    """What `found` must add to each sum of `problem`, as a copy to be made, and where it is read."""
    source = problem.operands[found.other]
    axes = tuple(a for a in problem.parallel if a.extent == 1 or source.depends_on(a.name))
    index, shape = tuple(a.var for a in axes), tuple(a.extent for a in axes)
    place = Buffer(ctx.fresh("sums"), problem.accumulator, shape)
    steady = found.other in problem.resident
    added = replace(
        problem,
        name=f"{problem.name}_sums",
        parallel=axes,
        left=Ones(source.buffer, (0,) * len(source.buffer.shape)),
        right=source,
        result=index,
        shape=shape,
        dtype=place.dtype,
        windows={},
        resident=frozenset({1} if steady else ()),
    )
    words = found.problem.operands[found.other ^ found.swapped]
    assert isinstance(words, Words)
    if words.exact and words.near:
        ones = Ones(words.buffer, (0,) * len(words.buffer.shape), word=True)
        pair = (ones, words) if found.problem.right is words else (words, ones)
        added = replace(
            added, reduction=found.problem.reduction, left=pair[0], right=pair[1], dot=found.problem.dot
        )
    return Sums(source.buffer, place, added, found.offset), Access(place, index)


def _word_axis(problem: Contraction[Access], size: int, tiles: bool) -> Axis | None:
    """The reduction axis whose elements are best taken together: words for a step in tile registers, words all full,
    elements neighbours, many words."""
    found: Axis | None = None
    best: tuple[bool, bool, int, int] | None = None
    for axis in problem.reduction:
        high = dims.bounds(axis.extent)[1]
        if high < size or axis.name in problem.windows:
            continue
        if not all(operand.depends_on(axis.name) for operand in problem.operands):
            continue
        near = sum(operand.stride(axis.name) == 1 for operand in problem.operands)
        score = tiles and high >= size * TILE_WORDS, dims.mod(axis.extent, size) == 0, near, high
        if best is None or score > best:
            found, best = axis, score
    return found


@dataclass(frozen=True)
class Woven:
    """A copy of an operand in words of neighbours along one dimension of its buffer: `shape` is the same, but that the
    dimension counts words. `place` may hold some more behind them."""

    source: Buffer
    place: Buffer
    shape: tuple[DimLike, ...]
    dimension: int
    words: Words
    stem: str = "woven"

    def element(self, row: Buffer, index: IndexTuple) -> Expr:
        """The word at an index of `shape`; `row` is the source as one row."""
        d, size = self.dimension, self.words.size
        places = [(*index[:d], index[d] * size + k, *index[d + 1 :]) for k in range(size)]
        return self.words.word([Load(row, (self.source.offset(at),)) for at in places])


@dataclass(frozen=True)
class Roomy(Access):
    """An operand in words of its own, behind which there is room: as many words as a vector has may be read from where
    any of them lies."""


def woven(ctx: LowerContext, source: Access, words: Words, room: int = 0) -> tuple[Woven, Access] | None:
    """How to weave an operand that `words` reads in words, and the copy as an operand, which may be read `room` words
    past its end; None where its axis is not one dimension of the buffer, or words do not fill it."""
    size = words.size
    along = [d for d, i in enumerate(source.index) if any(s.name == words.axis for s in dims.symbols(i))]
    if len(along) != 1:
        return None
    (d,) = along
    parts = dims.coefficient(source.index[d], words.axis)
    shape, index = list(source.buffer.shape), list(source.index)
    if parts is None or parts[0] != 1 or any(dims.mod(n, size) != 0 for n in (parts[1], shape[d])):
        return None
    shape[d] = dims.floordiv(shape[d], size)
    index[d] = dims.floordiv(parts[1], size) + Axis(words.axis, dims.floordiv(words.extent, size)).var
    if room:
        place = Buffer(ctx.fresh("woven"), dtypes.u32, (dims.product(shape) + room,))
        found: Access = Roomy(place, (linear(tuple(index), tuple(shape)),))
    else:
        place = Buffer(ctx.fresh("woven"), dtypes.u32, tuple(shape))
        found = Access(place, tuple(index))
    return Woven(source.buffer, place, tuple(shape), d, words), found
