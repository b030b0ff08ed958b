"""An attention's operands as its products read them: along their rows, or down them.

float32 and float64 are read where they lie. Of bfloat16 a product takes words of two neighbours where the target
multiplies such (`codegen/packed.py`): neighbours along a row are a word already, two rows are woven once, for all blocks
that read them. Other short numbers are converted once, to the dtype of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, Value
from ..loops.nodes import Expr, Index, Load
from ..packed import pack
from ..scalar import SCALAR
from ..target import Target
from .context import Args, LowerContext
from .contraction import Access
from .contraction_operands import Operands
from .contraction_tile import Bindings
from .contraction_words import dot_of
from .elementwise import Nest, launch_nests
from .indexing import IndexTuple
from .names import Names
from .spaces import linear
from .template import Element, make_axes

# A row's position in the leading dims, the row, the place in it: what is read there.
Rows = Callable[[IndexTuple, DimLike, DimLike], Access]
# Loop variables of operands' indices, replaced where they are read.
ROW, SIZE = "row", "size"
# As they lie; in words; converted.
Form = Literal["stored", "words", "converted"]


@dataclass(frozen=True)
class Pairs(Access):
    """Words of two neighbours in one row; the index is that of the first."""

    def at(self, bindings: Mapping[str, DimLike]) -> Expr:
        first = dims.substitute(self.position, bindings)
        return pack("pack_bf16", [Load(self.buffer, (first + place,)) for place in (0, 1)])


@dataclass(frozen=True)
class Factor:
    """An operand [..., rows, positions]. `along(lead, row, position)` is for sums over positions, `down(lead, row,
    position)` for sums over rows; what is summed over counts words where `pair` is 2."""

    along: Rows
    down: Rows


class AttentionOperands:
    """Reads the operands of one op. `rows` are those of one length, read in one form."""

    def __init__(self, ctx: LowerContext, body: Graph, args: Args, dtype: DType):
        self.ctx = ctx
        self.dtype = dtype
        self.operands = Operands(ctx, body, args)
        self.form: Form = "stored"
        self._found: dict[Value, Access] = {}

    def choose(self, summed: Sequence[Value], stored: DType) -> str:
        """Settles the form, by the operands that are summed along their rows; the operation that multiplies words, ""
        for none."""
        target = self.ctx.target
        found = None
        if isinstance(target, Target) and not target.has_slow_pairs:
            found = dot_of(stored, stored, self.dtype, target)
        if stored is self.dtype:
            return ""
        self.form = "converted"
        if found is None or not all(self._in_pairs(value) for value in summed):
            return ""
        self.form = "words"
        return found[0]

    def _in_pairs(self, value: Value) -> bool:
        """Whether rows are of even length and their elements neighbours in memory."""
        access = self._access(value)
        return dims.mod(value.type.shape[-1], 2) == 0 and access.stride(SIZE) == 1

    def factor(self, value: Value, along: bool, down: bool) -> Factor:
        """The operand, as it is read along its rows or down them."""
        if self.form == "stored" or not (along or down):
            rows = self._stored(value)
            return Factor(rows, rows)
        if self.form == "converted":
            rows = self._copy(value, "converted")
            return Factor(rows, rows)
        return Factor(self._pairs(value), self._copy(value, "woven") if down else self._pairs(value))

    def _access(self, value: Value) -> Access:
        """The operand over symbols for its leading indices, its rows and the positions in them."""
        if value not in self._found:
            *lead, row, position = _symbols(value.type.shape)
            front = [0 if n == 1 else i for n, i in zip(value.type.shape, lead)]
            index = (*front, row, position)
            found = self.operands.read_in_place(value, index, (ROW, SIZE))
            self._found[value] = found or self.operands.read(value, index)
        return self._found[value]

    def _stored(self, value: Value) -> Rows:
        return _reader(self._access(value))

    def _pairs(self, value: Value) -> Rows:
        found = self._access(value)
        rows = _reader(Access(self.ctx.flat(found.buffer), (found.position,)))

        def at(place: IndexTuple, row: DimLike, word: DimLike) -> Access:
            first = rows(place, row, word * 2)
            return Pairs(first.buffer, first.index)

        return at

    def _copy(self, value: Value, stem: Literal["woven", "converted"]) -> Rows:
        """Rows of the operand in pairs, the last one with zeros where there is none; or converted."""
        *lead, rows, size = value.type.shape
        woven = stem == "woven"
        count = dims.floordiv(rows + 1, 2) if woven else rows
        dtype = dtypes.u32 if woven else self.dtype
        shape = (*lead, count, size)
        target = self.ctx.scratch(stem, dtype, shape)
        names = Names()
        axes = make_axes(names, shape)
        *front, row, position = (a.index for a in axes)
        source = self._stored(value)
        if woven:
            pair: list[Expr] = [source(tuple(front), row * 2 + k, position).at({}) for k in (0, 1)]
            if dims.mod(rows, 2) != 0:
                pair[1] = SCALAR.select(SCALAR.lt(Index(row * 2 + 1), Index(rows)), pair[1], 0.0)
            found = pack("pack_bf16", pair)
        else:
            found = SCALAR.cast(source(tuple(front), row, position).at({}), dtype)
        element = Element(self.ctx.flat(target), linear((*front, row, position), shape), found)
        launch_nests(self.ctx, f"{stem}_operand", [Nest(names, axes, [element])])
        return _reader(Access(target, _symbols(shape)))


def _symbols(shape: Sequence[DimLike]) -> IndexTuple:
    names = [*(f"lead{d}" for d in range(len(shape) - 2)), ROW, SIZE]
    return tuple(dims.symbol(name, 0, max(0, dims.bounds(n)[1] - 1)) for name, n in zip(names, shape))


def _reader(found: Access) -> Rows:
    def at(place: IndexTuple, row: DimLike, position: DimLike) -> Access:
        bindings: Bindings = {f"lead{d}": i for d, i in enumerate(place)}
        bindings |= {ROW: row, SIZE: position}
        return replace(found, index=tuple(dims.substitute(i, bindings) for i in found.index))

    return at
