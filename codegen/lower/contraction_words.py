"""Contractions of short numbers, several products to an instruction: operands read in words of 32 bits.

bfloat16 numbers are multiplied in pairs and 8-bit integers in fours where the target has the instruction
(`codegen/packed.py`). Such a contraction is another one of the same form: one reduction axis, the innermost, counts
words instead of elements, and an operand gives the word at a point, neighbours along that axis. A word whose elements
are neighbours in memory is one load; packing (`contraction_pack.py`) makes all of them so, and fills the last one with
zeros where the axis ends inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Expr
from ..packed import pack, per_word
from ..target import Target
from .contraction import Access, Axis, Contraction

# The operands' dtypes and the sum's: the operation, the feature of the target that has it.
_DOTS = {
    (dtypes.bf16, dtypes.bf16, dtypes.f32): ("dot_bf16", "avx512bf16"),
    (dtypes.u8, dtypes.i8, dtypes.i32): ("dot_u8i8", "avx512vnni"),
}


@dataclass(frozen=True)
class Words(Access):
    """An operand in words of `size` neighbours along `axis`, of which there are `extent`. In the index `axis` stands for
    an element's position; what is bound to it counts words."""

    axis: str
    size: int
    extent: DimLike

    @property
    def exact(self) -> bool:
        """Whether no word reaches past the axis's end."""
        return dims.mod(self.extent, self.size) == 0

    @property
    def step(self) -> DimLike:
        """Elements between neighbours in a word."""
        return super().stride(self.axis)

    @property
    def near(self) -> bool:
        """Whether a word lies in memory as it is multiplied."""
        return self.step == 1

    def at(self, bindings: Mapping[str, DimLike]) -> Expr:
        first = bindings[self.axis] * self.size
        return pack([super(Words, self).at({**bindings, self.axis: first + k}) for k in range(self.size)])

    def stride(self, axis: str) -> DimLike:
        """Elements between words along an axis; 1 along the axis of words that lie one behind the other."""
        if axis != self.axis:
            return super().stride(axis)
        return 1 if self.near else self.step * self.size


def in_words(problem: Contraction[Access], target: Target) -> Contraction[Access] | None:
    """The contraction over words; None where the target has no instruction for it, or the sum is too short."""
    left, right = (operand.buffer.dtype for operand in problem.operands)
    flipped = (left, right, problem.accumulator) not in _DOTS
    key = (right, left, problem.accumulator) if flipped else (left, right, problem.accumulator)
    if key not in _DOTS or not target.has(_DOTS[key][1]):
        return None
    size = per_word(left)
    axis = _word_axis(problem, size)
    if axis is None:
        return None
    words = Axis(axis.name, dims.floordiv(axis.extent + (size - 1), size))
    operands = [Words(x.buffer, x.index, axis.name, size, axis.extent) for x in problem.operands]
    resident = problem.resident
    if flipped:
        operands.reverse()
        resident = frozenset(1 - n for n in resident)
    return replace(
        problem,
        reduction=(*(a for a in problem.reduction if a.name != axis.name), words),
        left=operands[0],
        right=operands[1],
        dot=_DOTS[key][0],
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
