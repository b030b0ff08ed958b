"""Contractions of short numbers, several products to an instruction: operands read in words of 32 bits.

bfloat16 numbers are multiplied in pairs and 8-bit integers in fours where the target has the instruction
(`codegen/packed.py`). Such a contraction is another one of the same form: one reduction axis, the innermost, counts
words instead of elements, and an operand gives the word at a point, neighbours along that axis. A word whose elements
are neighbours in memory is one load; packing (`contraction_pack.py`) makes all of them so, and fills the last one with
zeros where the axis ends inside it. What is read too often and too far apart to be packed, such as the image of a
convolution, is woven: copied in words, otherwise laid out as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Buffer, Expr, Load
from ..packed import pack, per_word
from ..target import Target
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .indexing import IndexTuple

# The operands' dtypes and the sum's: the operation, the feature of the target that has it.
_DOTS = {
    (dtypes.bf16, dtypes.bf16, dtypes.f32): ("dot_bf16", "avx512bf16"),
    (dtypes.u8, dtypes.i8, dtypes.i32): ("dot_u8i8", "avx512vnni"),
}


@dataclass(frozen=True)
class Words(Access):
    """An operand, one row, in words of `size` elements that lie `step` apart. The index is that of a word's first
    element; `axis` counts words, which hold `extent` elements in all."""

    axis: str
    size: int
    step: DimLike
    extent: DimLike

    @property
    def exact(self) -> bool:
        """Whether no word reaches past the axis's end."""
        return dims.mod(self.extent, self.size) == 0

    @property
    def near(self) -> bool:
        """Whether a word lies in memory as it is multiplied."""
        return self.step == 1

    def at(self, bindings: Mapping[str, DimLike]) -> Expr:
        first = dims.substitute(self.position, bindings)
        return pack([Load(self.buffer, (first + self.step * place,)) for place in range(self.size)])

    def stride(self, axis: str) -> DimLike:
        """Elements between words along an axis; 1 along the axis of words that lie one behind the other."""
        return 1 if axis == self.axis and self.near else super().stride(axis)


def dot_of(left: DType, right: DType, accumulator: DType, target: Target) -> tuple[str, bool] | None:
    """The operation that multiplies such operands in words, and whether it takes the right one first; None where the
    target has none."""
    for flipped, pair in enumerate(((left, right), (right, left))):
        found = _DOTS.get((*pair, accumulator))
        if found is not None and target.has(found[1]):
            return found[0], bool(flipped)
    return None


def in_words(ctx: LowerContext, problem: Contraction[Access], target: Target) -> Contraction[Access] | None:
    """The contraction over words; None where the target has no instruction for it, or the sum is too short."""
    left, right = (operand.buffer.dtype for operand in problem.operands)
    found = dot_of(left, right, problem.accumulator, target)
    axis = None if found is None else _word_axis(problem, per_word(left))
    if found is None or axis is None:
        return None
    op, flipped = found
    size = per_word(left)
    words = Axis(axis.name, dims.floordiv(axis.extent + (size - 1), size))
    operands: list[Access] = []
    for x in problem.operands:
        position = dims.substitute(x.position, {axis.name: words.var * size})
        flat = ctx.flat(x.buffer)
        operands.append(Words(flat, (position,), axis.name, size, x.stride(axis.name), axis.extent))
    resident = problem.resident
    if flipped:
        operands.reverse()
        resident = frozenset(1 - n for n in resident)
    return replace(
        problem,
        reduction=(*(a for a in problem.reduction if a.name != axis.name), words),
        left=operands[0],
        right=operands[1],
        dot=op,
        resident=resident,
    )


def _word_axis(problem: Contraction[Access], size: int) -> Axis | None:
    """The reduction axis whose elements are best taken together: words all full, elements neighbours, many words."""
    found: Axis | None = None
    best: tuple[bool, int, int] | None = None
    for axis in problem.reduction:
        high = dims.bounds(axis.extent)[1]
        if high < size or axis.name in problem.windows:
            continue
        if not all(operand.depends_on(axis.name) for operand in problem.operands):
            continue
        near = sum(operand.stride(axis.name) == 1 for operand in problem.operands)
        score = dims.mod(axis.extent, size) == 0, near, high
        if best is None or score > best:
            found, best = axis, score
    return found


@dataclass(frozen=True)
class Woven:
    """A copy of an operand in words of `size` neighbours along one dimension of its buffer: `place` is the same shape,
    but that the dimension counts words."""

    source: Buffer
    place: Buffer
    dimension: int
    size: int
    stem: str = "woven"

    def element(self, row: Buffer, index: IndexTuple) -> Expr:
        """The word at an index of `place`; `row` is the source as one row."""
        d = self.dimension
        places = [(*index[:d], index[d] * self.size + k, *index[d + 1 :]) for k in range(self.size)]
        return pack([Load(row, (self.source.offset(at),)) for at in places])


def woven(ctx: LowerContext, source: Access, words: Words) -> tuple[Woven, Access] | None:
    """How to weave an operand that `words` reads in words, and the copy as an operand; None where its axis is not one
    dimension of the buffer, or words do not fill it."""
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
    place = Buffer(ctx.fresh("woven"), dtypes.u32, tuple(shape))
    return Woven(source.buffer, place, d, size), Access(place, tuple(index))
