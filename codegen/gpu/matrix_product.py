"""A contraction as a GPU sees it: a product of two matrices, for each batch.

Rows are the axes that only the left operand depends on, columns those of the right one, terms those that are summed,
each made one long axis. An element of an operand is an expression, whatever it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Apply, Buffer, Expr, Load, Stmt, Store
from ..lower.context import LowerContext, Names
from ..lower.contraction import Contraction, Reading
from ..lower.contraction_lower import Epilogue
from ..lower.template import Axis, Element, bind_shared, collapse, index_values, instantiate
from .grid import Unravel, gpu_target, guarded, inside, most, threads
from .slices import Slices
from .tiles import Tile, Wrap
from .warpgroups import WarpgroupTile


class MatrixProduct:
    def __init__(self, ctx: LowerContext, problem: Contraction[Reading], epilogue: Epilogue):
        self.ctx, self.target = ctx, gpu_target(ctx)
        self.problem = problem
        self.epilogue = epilogue
        self.names = Names()
        self._merge_axes(epilogue.elements(problem.result))
        self.batches = _size(self.batch)
        self.row_count, self.column_count, self.depth = map(_size, (self.rows, self.columns, self.sums))

    def _merge_axes(self, elements: Sequence[Element]) -> None:
        """As far as operands and epilogue walk several as one; sorted by what depends on them."""
        problem = self.problem
        axes = [Axis(a.name, a.extent) for a in (*problem.parallel, *problem.reduction)]
        left, right = problem.left, problem.right
        groups: dict[str, list[Axis]] = {"batch": [], "rows": [], "columns": [], "sums": []}
        summed = {a.name for a in problem.reduction}
        for axis in axes:
            by_left, by_right = left.depends_on(axis.var), right.depends_on(axis.var)
            kind = "rows" if by_left and not by_right else "columns" if by_right and not by_left else "batch"
            groups["sums" if axis.var in summed else kind].append(axis)
        values = [left.value, right.value, *(e.value for e in elements)]
        position = problem.position
        indices = [*index_values(values), *(e.offset for e in elements), position]
        bindings: dict[str, DimLike] = {}
        for kind, found in groups.items():
            groups[kind], more = collapse(found, indices)
            bindings |= more
        memo: dict[int, Expr] = {}
        self.left, self.right = (_narrow(instantiate(r.value, bindings, memo)) for r in (left, right))
        self.elements = [e.at(bindings, memo) for e in elements]
        self.position = dims.substitute(position, bindings)
        self.batch, self.rows, self.columns, self.sums = (
            groups[kind] for kind in ("batch", "rows", "columns", "sums")
        )

    @property
    def least(self) -> int:
        """The smallest of the numbers of rows, columns and terms, of as many as there may be."""
        return min(most(self.row_count), most(self.column_count), most(self.depth))

    @property
    def rounds(self) -> bool:
        """Whether operands of float32 may be rounded to tf32."""
        kind = "matmul" if self.problem.name == "matmul" else "conv"
        return self.left.dtype is self.right.dtype is dtypes.f32 and kind in self.ctx.options.tf32

    def slices(
        self, tile: Tile, left: bool, batch: Mapping[str, DimLike], first: DimLike, limit: DimLike
    ) -> Slices:
        """Of an operand, for the tile whose rows (or columns) begin at `first`; terms end at `limit`."""
        if left:
            value, axes, count, total = self.left, self.rows, tile.rows, self.row_count
        else:
            value, axes, count, total = self.right, self.columns, tile.columns, self.column_count
        return Slices(self.names, tile, self.sums, value, batch, axes, first, count, total, limit)

    def results(
        self,
        tile: Tile | WarpgroupTile,
        sums: Buffer,
        batch: Mapping[str, DimLike],
        row: DimLike,
        column: DimLike,
        part: tuple[Buffer, DimLike] | None = None,
    ) -> tuple[Stmt, ...]:
        """What becomes of the tile's sums: the epilogue's results; or, of sums that are parts, number `part[1]` of the
        parts in `part[0]`."""
        names = self.names

        def line(i: DimLike) -> tuple[Wrap, Callable[[DimLike, Load], Sequence[Stmt]]]:
            m = row + i
            at_row = Unravel(names, m, self.rows)

            def element(j: DimLike, total: Load) -> tuple[Stmt, ...]:
                n = column + j
                at_column = Unravel(names, n, self.columns)
                bindings = {**batch, **at_row.index, **at_column.index}
                if part is not None:
                    parts, number = part
                    place = (number, dims.substitute(self.position, bindings))
                    stores: tuple[Stmt, ...] = (Store(parts, place, total),)
                else:
                    memo: dict[int, Expr] = {}
                    known = self.epilogue.known(total)
                    stores = bind_shared([e.at(bindings, memo, known).store() for e in self.elements], names)
                return guarded(inside(n, self.column_count), (*at_column.lets, *stores))

            def wrap(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
                return guarded(inside(m, self.row_count), (*at_row.lets, *body))

            return wrap, element

        return threads(names, tile.threads, lambda t: tile.results(names, t, sums, line))


def _size(axes: Sequence[Axis]) -> DimLike:
    return dims.product(a.extent for a in axes)


def _narrow(value: Expr) -> Expr:
    """The operand as it is before a conversion that changes no value: shared memory holds more of it."""
    while isinstance(value, Apply) and value.op == "cast":
        inner = value.args[0]
        if value.dtype is not dtypes.f32 or inner.dtype not in (dtypes.f16, dtypes.bf16):
            break
        value = inner
    return value
