"""A contraction's operands as linear accesses, and the copies to scratch that make them so.

A view folds into the operand's index. `materialize` copies what no linear index reaches, element by element; images
are put inside a border of zeros by `borders.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, Value
from ...ir.half_precision import HALF
from ..loops.nodes import TILE_WORDS, Apply, Buffer, Expr, For, Load, Stmt
from ..packed import per_word
from ..target import Target
from .borders import Border, Source, launch_border
from .context import Args, LowerContext, Names
from .contraction import Access, is_linear
from .elementwise import Nest, launch_nests
from .indexing import BodyEvaluator, IndexTuple
from .spaces import linear
from .template import Element, make_axes


@dataclass(frozen=True)
class Operands:
    """Reads a group's operands: body inputs, possibly through views."""

    ctx: LowerContext
    body: Graph
    args: Args
    copies: dict[Border, Buffer] = field(default_factory=dict)

    def read(self, value: Value, index: IndexTuple) -> Access:
        """The operand at an index that is linear in the axes. Views fold into the index; where one does not
        (a reshape that splits a dimension unevenly, padding), the operand is copied to scratch first."""
        found = as_stored(BodyEvaluator(self.body, self.args).at(value, index))
        if isinstance(found, Load) and all(is_linear(i) for i in found.index):
            return Access(found.buffer, found.index)
        row = as_stored(BodyEvaluator(self.body, self.args, flatten=self.ctx.flat).at(value, index))
        if isinstance(row, Load) and is_linear(row.index[0]):
            return Access(row.buffer, row.index)
        return Access(materialize(self, value), index)

    def read_in_place(self, value: Value, index: IndexTuple, axes: Sequence[str]) -> Access | None:
        """The operand where it lies, if its index is linear in these axes; however it depends on others, such as a batch
        that is divided into its dims."""
        found = as_stored(BodyEvaluator(self.body, self.args, flatten=self.ctx.flat).at(value, index))
        if not isinstance(found, Load) or any(dims.coefficient(found.index[0], a) is None for a in axes):
            return None
        return Access(found.buffer, found.index)

    def bordered(
        self,
        value: Value,
        low: Sequence[int],
        step: Sequence[int],
        space: Sequence[DimLike],
        index: IndexTuple,
    ) -> Access:
        """The same operand is copied once, whatever indices it is read at."""
        return self._bordered(Border(value, tuple(low), tuple(step), tuple(space)), index)

    def step(self, value: Value) -> int:
        """What a step in tile registers adds up."""
        target = self.ctx.target
        tiles = isinstance(target, Target) and target.has_tiles("dot_bf16")
        return TILE_WORDS * per_word("pack_bf16") if tiles and self.first(value).dtype is dtypes.bf16 else 1

    @property
    def has_phases(self) -> bool:
        return True

    def phased(
        self, value: Value, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple
    ) -> Access:
        return self._bordered(Border(value, tuple(low), (1,) * len(low), tuple(space), phases), index)

    def _bordered(self, border: Border, index: IndexTuple) -> Access:
        if border not in self.copies:
            self.copies[border] = launch_border(self.ctx, border, self._bordered_source(border))
        return Access(self.copies[border], index)

    def first(self, value: Value) -> Expr:
        """The operand's first element, before its conversion."""
        return as_stored(BodyEvaluator(self.body, self.args).at(value, (0,) * value.type.rank))

    def _bordered_source(self, border: Border) -> Source:
        """What is computed, and not only moved, is computed for the copy."""
        value = border.value
        first = self.first(value)
        if isinstance(first, Load):
            return Source(first.dtype, lambda index: self.read(value, index).at({}))
        evaluator = BodyEvaluator(self.body, self.args, flatten=self.ctx.flat)
        return Source(first.dtype, lambda index: evaluator.at(value, index))


def as_stored(element: Expr) -> Expr:
    """A factor before its conversion to a wider float or integer: it is converted when it is multiplied."""
    if not isinstance(element, Apply) or element.op != "cast":
        return element
    source = element.args[0].dtype
    short = source in HALF or (source in (dtypes.i8, dtypes.u8) and element.dtype is dtypes.i32)
    return element.args[0] if short else element


def materialize(operands: Operands, value: Value) -> Buffer:
    """A scratch buffer holding the value of a body's view or pointwise expression."""
    ctx, shape, names = operands.ctx, value.type.shape, Names()
    axes = make_axes(names, shape)
    index = tuple(a.index for a in axes)
    found = as_stored(BodyEvaluator(operands.body, operands.args, flatten=ctx.flat).at(value, index))
    target = ctx.scratch("operand", found.dtype, shape)
    element = Element(ctx.flat(target), linear(index, shape), found)
    launch_nests(ctx, "copy_operand", [Nest(names, axes, [element])])
    if ctx.fixed.issuperset({*ctx.launches[-1].args} - {target}):
        ctx.fixed.add(target)
    return target


def repeated(body: tuple[Stmt, ...], times: DimLike) -> tuple[Stmt, ...]:
    """The statements `times` times, 0 or 1; a parallel loop stays one."""
    if times == 1:
        return body
    if len(body) == 1 and isinstance(body[0], For) and body[0].kind == "parallel":
        return (replace(body[0], extent=body[0].extent * times),)
    return (For("run", times, body),)
