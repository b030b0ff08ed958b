"""Arrays that a nest reads across, on a GPU: square tiles are read along the array and turned in shared memory, so that
reads and writes of a warp both lie side by side."""

from __future__ import annotations

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Load, Stmt, Store
from ..lower.context import LowerContext
from ..lower.elementwise import Nest
from ..lower.template import Axis, instantiate
from ..lower.transpose import Turn, find_turn
from .grid import Unravel, blocks, ceil_div, guarded, inside, threads, unrolled

SIDE = 32
# Rows of a tile that the threads of a block take at once.
ROWS = 8


def turn_of(nest: Nest) -> Turn | None:
    """What to turn; None where every array is read along, or is small."""
    if not nest.axes or nest.lookups:
        return None
    return find_turn(nest.values, nest.axes, nest.vector_axis(), SIDE)


def launch_turned(ctx: LowerContext, name: str, nest: Nest, turn: Turn) -> None:
    """A block for every tile."""
    names = nest.names
    others = [a for a in nest.axes if a not in (turn.vector, turn.along)]
    # A column more than the side, so that walking down a column meets every bank.
    tiles = [Buffer(names("tile"), load.dtype, (SIDE, SIDE + 1), "shared") for load in turn.loads]
    rows = Axis(names("tile_row"), ceil_div(turn.along.extent, SIDE))
    columns = Axis(names("tile_column"), ceil_div(turn.vector.extent, SIDE))
    grid = [*others, rows, columns]

    def block(b: DimLike) -> tuple[Stmt, ...]:
        found = Unravel(names, b, grid)
        bound = {a.var: found.index[a.var] for a in others}
        first, left = found.index[rows.var] * SIDE, found.index[columns.var] * SIDE

        def at(vector: DimLike, along: DimLike) -> dict[str, DimLike]:
            return {**bound, turn.vector.var: left + vector, turn.along.var: first + along}

        def within(vector: DimLike, along: DimLike, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
            body = guarded(inside(left + vector, turn.vector.extent), body)
            return guarded(inside(first + along, turn.along.extent), body)

        def fill(t: DimLike) -> tuple[Stmt, ...]:
            def row(r: DimLike) -> tuple[Stmt, ...]:
                vector, along = dims.floordiv(t, SIDE) + r * ROWS, dims.mod(t, SIDE)
                loads = tuple(
                    Store(tile, (vector, along), instantiate(load, at(vector, along)))
                    for tile, load in zip(tiles, turn.loads, strict=True)
                )
                return within(vector, along, loads)

            return unrolled(names, SIDE // ROWS, row)

        def use(t: DimLike) -> tuple[Stmt, ...]:
            def row(r: DimLike) -> tuple[Stmt, ...]:
                vector, along = dims.mod(t, SIDE), dims.floordiv(t, SIDE) + r * ROWS
                known = {
                    id(load): Load(tile, (vector, along))
                    for tile, load in zip(tiles, turn.loads, strict=True)
                }
                return within(vector, along, nest.point(at(vector, along), known))

            return unrolled(names, SIDE // ROWS, row)

        count = SIDE * ROWS
        return (*found.lets, *threads(names, count, fill), *threads(names, count, use))

    body = blocks(names, dims.product(a.extent for a in grid), block)
    ctx.launch(name, body, cost=nest.work, flops=nest.work, comment=f"{len(tiles)} arrays turned in tiles")
