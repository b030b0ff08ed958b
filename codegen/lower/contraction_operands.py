"""A contraction's operands as linear accesses, and the copies to scratch that make them so.

A view folds into the operand's index. `materialize` copies what no linear index reaches, element by element;
`zero_bordered` puts a tensor inside a border of zeros, with zeros between its elements where a strided
convolution is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, Value
from ...ir.half_precision import HALF
from ..loops.nodes import Apply, Buffer, Const, Expr, For, Load, Stmt, Store
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .contraction import Access, Axis, is_linear
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
    copies: dict[Hashable, Buffer] = field(default_factory=dict)

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

    def bordered(
        self,
        value: Value,
        low: Sequence[int],
        step: Sequence[int],
        space: Sequence[DimLike],
        index: IndexTuple,
    ) -> Access:
        """The same operand is copied once, whatever indices it is read at."""
        key = (value, tuple(low), tuple(step), tuple(space))
        if key not in self.copies:
            self.copies[key] = zero_bordered(self, value, low, step, space)
        return Access(self.copies[key], index)


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


def shared_loops(axes: Sequence[Axis], body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """Serial loops, the outermost one shared among threads."""
    looped = [a for a in axes if a.extent != 1]
    for axis in reversed(looped):
        body = (For(axis.name, axis.extent, body, "parallel" if axis is looped[0] else "serial"),)
    return body


def zero_bordered(
    operands: Operands, value: Value, low: Sequence[int], step: Sequence[int], space: Sequence[DimLike]
) -> Buffer:
    """`[N, C, *space]`, zero but for the elements of `value` at `low + step * position`."""
    ctx = operands.ctx
    lead, source = value.type.shape[:2], value.type.shape[2:]
    first = BodyEvaluator(operands.body, operands.args).at(value, (0,) * value.type.rank)
    dtype = as_stored(first).dtype
    target = ctx.scratch("bordered", dtype, (*lead, *space))
    plane = dims.product(space)
    flat = ctx.view(target, (*lead, plane))
    n, c = Axis("n", lead[0]), Axis("c", lead[1])
    lanes = ctx.target.lanes(dtype)
    zeros = along_lanes("i", plane, lanes, lambda i: [Store(flat, (n.var, c.var, i), Const(0, dtype))])
    rows = [Axis(f"s{d}", size) for d, size in enumerate(source)]
    *outer, row = rows
    where = [a.var * s + b for a, s, b in zip(outer, step, low, strict=False)]

    def copied(position: DimLike) -> Sequence[Stmt]:
        index = (n.var, c.var, *(a.var for a in outer), position)
        place = (n.var, c.var, *where, position * step[-1] + low[-1])
        return [Store(target, place, SCALAR.cast(operands.read(value, index).at({}), dtype))]

    inner = along_lanes("i", row.extent, lanes, copied)
    for axis in reversed(outer):
        inner = (For(axis.name, axis.extent, inner),) if axis.extent != 1 else inner
    ctx.launch("zero_border", shared_loops((n, c), (*zeros, *inner)), cost=plane * 2)
    return target


def repeated(body: tuple[Stmt, ...], times: DimLike) -> tuple[Stmt, ...]:
    """The statements `times` times, 0 or 1; a parallel loop stays one."""
    if times == 1:
        return body
    if len(body) == 1 and isinstance(body[0], For) and body[0].kind == "parallel":
        return (replace(body[0], extent=body[0].extent * times),)
    return (For("run", times, body),)
