"""An attention's operands as its products read them: along their rows, or down them.

float32 and float64 are read where they lie. Of bfloat16 a product takes words of two neighbours where the target
multiplies such (`codegen/packed.py`): neighbours along a row are a word already, two rows are woven once, for all blocks
that read them. Tile registers (`contraction_amx.py`) multiply such words too; rows of keys, which are their left
operand, are turned instead. Other short numbers are converted once, to the dtype of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, Value
from ..loops.nodes import TILE_ROWS, TILE_WORDS, Expr, Index, Load
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
# As they lie; in words, for vectors or for tile registers; converted.
Form = Literal["stored", "words", "tiles", "converted"]
# Queries and keys of which there must be as many for tile registers: what they add up in a step.
FEWEST = TILE_WORDS * 2


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
        # Woven rows are so many, or a multiple.
        self.room = 2
        self._found: dict[Value, Access] = {}

    def choose(self, operands: Sequence[Value], summed: Sequence[Value]) -> str:
        """Settles the form of these, by those that are summed along their rows; the operation that multiplies words, ""
        for none."""
        target, stored = self.ctx.target, operands[0].type.dtype
        if stored is self.dtype:
            return ""
        self.form = "converted"
        found = dot_of(stored, stored, self.dtype, target) if isinstance(target, Target) else None
        if found is None or not all(self._in_pairs(value) for value in summed):
            return ""
        assert isinstance(target, Target)
        if target.has_tiles(found[0]) and all(_fills_tiles(value) for value in operands):
            self.form = "tiles"
        elif target.has_slow_pairs:
            return ""
        else:
            self.form = "words"
        return found[0]

    def _in_pairs(self, value: Value) -> bool:
        """Whether rows are of even length and their elements neighbours in memory."""
        access = self._access(value)
        return dims.mod(value.type.shape[-1], 2) == 0 and access.stride(SIZE) == 1

    def factor(self, value: Value, along: bool = False, down: bool = False, of_keys: bool = False) -> Factor:
        """The operand, as it is read along its rows or down them; its rows are those of keys or of queries."""
        if self.form == "stored" or not (along or down):
            rows = self._stored(value)
            return Factor(rows, rows)
        if self.form == "converted":
            rows = self._converted(value)
            return Factor(rows, rows)
        pairs = self._pairs(self._access(value))
        if not down:
            return Factor(pairs, pairs)
        return Factor(pairs, self._turned(value) if of_keys and self.form == "tiles" else self._woven(value))

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

    def _pairs(self, found: Access) -> Rows:
        rows = _reader(Access(self.ctx.flat(found.buffer), (found.position,)))

        def at(place: IndexTuple, row: DimLike, word: DimLike) -> Access:
            first = rows(place, row, word * 2)
            return Pairs(first.buffer, first.index)

        return at

    def _converted(self, value: Value) -> Rows:
        source = self._stored(value)

        def element(place: IndexTuple, row: DimLike, position: DimLike) -> Expr:
            return SCALAR.cast(source(place, row, position).at({}), self.dtype)

        return _reader(self._copied("converted", self.dtype, value.type.shape, element))

    def _woven(self, value: Value) -> Rows:
        """Rows of the operand in pairs, with zeros where there is none."""
        *lead, rows, size = value.type.shape
        count = dims.floordiv(rows + (self.room - 1), self.room) * (self.room // 2)
        source = self._inside(value)

        def element(place: IndexTuple, row: DimLike, position: DimLike) -> Expr:
            return pack("pack_bf16", [source(place, row * 2 + k, position) for k in (0, 1)])

        return _reader(self._copied("woven", dtypes.u32, (*lead, count, size), element))

    def _turned(self, value: Value) -> Rows:
        """Columns of the operand as rows, of an even length; read in words."""
        *lead, rows, size = value.type.shape
        source = self._inside(value)
        shape = (*lead, size, dims.floordiv(rows + 1, 2) * 2)
        found = self._copied("columns", value.type.dtype, shape, lambda place, i, row: source(place, row, i))
        pairs = self._pairs(found)
        return lambda place, word, position: pairs(place, position, word)

    def _inside(self, value: Value) -> Callable[[IndexTuple, DimLike, DimLike], Expr]:
        """The operand's numbers, zeros past its last row."""
        rows, source = value.type.shape[-2], self._stored(value)

        def at(place: IndexTuple, row: DimLike, position: DimLike) -> Expr:
            found = source(place, row, position).at({})
            if dims.bounds(rows - 1 - row)[0] >= 0:
                return found
            return SCALAR.select(SCALAR.lt(Index(row), Index(rows)), found, 0.0)

        return at

    def _copied(
        self,
        stem: str,
        dtype: DType,
        shape: Sequence[DimLike],
        element: Callable[[IndexTuple, DimLike, DimLike], Expr],
    ) -> Access:
        """A copy [..., rows, positions], over the symbols of `_symbols`."""
        target = self.ctx.scratch(stem, dtype, tuple(shape))
        names = Names()
        axes = make_axes(names, shape)
        *front, row, position = (a.index for a in axes)
        found = element(tuple(front), row, position)
        stored = Element(self.ctx.flat(target), linear((*front, row, position), tuple(shape)), found)
        launch_nests(self.ctx, f"{stem}_operand", [Nest(names, axes, [stored])])
        return Access(target, _symbols(shape))


def _fills_tiles(value: Value) -> bool:
    """Whether rows have whole tiles' columns, and there are enough of them for a step."""
    *_, rows, size = value.type.shape
    return dims.bounds(rows)[1] >= FEWEST and isinstance(size, int) and size % TILE_ROWS == 0


def _symbols(shape: Sequence[DimLike]) -> IndexTuple:
    names = [*(f"lead{d}" for d in range(len(shape) - 2)), ROW, SIZE]
    return tuple(dims.symbol(name, 0, max(0, dims.bounds(n)[1] - 1)) for name, n in zip(names, shape))


def _reader(found: Access) -> Rows:
    def at(place: IndexTuple, row: DimLike, position: DimLike) -> Access:
        bindings: Bindings = {f"lead{d}": i for d, i in enumerate(place)}
        bindings |= {ROW: row, SIZE: position}
        return replace(found, index=tuple(dims.substitute(i, bindings) for i in found.index))

    return at
