"""Products in the steps of a scan, as parts of a resident kernel: each block keeps its columns of the right operand, the
weights, in shared memory over all steps, and reads the left one, the state, in slices from the caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir import dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, For, If, Index, Kernel, Launch, Let, Load, Staying, Stmt
from ..lower.nests import loop_index
from ..lower.template import Axis, walk
from .grid import Unravel, below, blocks, ceil_div, threads
from .matrix_product import MatrixProduct
from .slices import Slices
from .tiles import FMA_TILES, FmaTile

# Turns that the blocks of a resident kernel take at most to do a block loop: beyond, they would be too few to hide their
# loads.
MOST_TURNS = 2
# Shared memory that is left to the other kernels of a step.
LEFT = 24 << 10


def add_staying(product: MatrixProduct, begin: int) -> None:
    """Note with the launches from number `begin` on, which compute the product, how a resident kernel would."""
    ctx = product.ctx
    if not ctx.scans or not _keeps(product):
        return
    tile = _tile(product)
    if tile is None:
        return
    kernels = _Staying(product, tile)
    first, each = _apart(product, kernels.first()), _apart(product, kernels.each())
    launches = ctx.launches[begin:]
    place = {b: (n, i) for n, x in reversed([*enumerate(launches)]) for i, b in enumerate(x.args)}
    if not {*first.args, *each.args} <= place.keys():
        return
    assert isinstance(first.kernel, Kernel) and isinstance(each.kernel, Kernel)
    staying = Staying(
        first.kernel,
        each.kernel,
        len(launches),
        tuple(place[b] for b in first.args),
        tuple(place[b] for b in each.args),
    )
    kernel = launches[0].kernel
    assert isinstance(kernel, Kernel)
    ctx.launches[begin] = replace(launches[0], kernel=replace(kernel, staying=staying))


def _apart(product: MatrixProduct, body: Sequence[Stmt]) -> Launch:
    """The launch of a kernel that the program does not have."""
    product.ctx.launch(product.problem.name, body, comment="")
    return product.ctx.launches.pop()


def _keeps(product: MatrixProduct) -> bool:
    """Whether the right operand is the same in every step, and the product is one of float32 on the FMA units."""
    ctx = product.ctx
    loads = [e for e in walk([product.right]) if isinstance(e, Load)]
    sizes = (product.row_count, product.column_count, product.depth)
    return (
        bool(loads)
        and all(ctx.storage(e.buffer) in ctx.fixed for e in loads)
        and all(isinstance(size, int) and size > 0 for size in sizes)
        and not any(axis.extent != 1 for axis in product.batch)
        and product.left.dtype is product.right.dtype is product.problem.accumulator is dtypes.f32
        and not product.rounds
    )


def _tile(product: MatrixProduct) -> FmaTile | None:
    """The tile that leaves the fewest multiprocessors idle, of those whose columns fit in shared memory."""
    target = product.target
    rows, columns, depth = product.row_count, product.column_count, product.depth
    assert isinstance(rows, int) and isinstance(columns, int) and isinstance(depth, int)
    best: tuple[tuple[int, int, int], FmaTile] | None = None
    for tile in FMA_TILES:
        if tile.rows >= 2 * max(rows, 16) or tile.columns >= 2 * max(columns, 16):
            continue
        count = -(-rows // tile.rows) * -(-columns // tile.columns)
        turns = -(-count // target.multiprocessors)
        kept = turns * -(-depth // tile.depth) * tile.depth * (tile.columns + 4) * 4
        if turns > MOST_TURNS or kept > target.most_shared_bytes - LEFT:
            continue
        rank = (min(count, target.multiprocessors), -turns, tile.high * tile.wide)
        if best is None or rank > best[0]:
            best = rank, tile
    return None if best is None else best[1]


class _Staying:
    """The product's two kernels."""

    def __init__(self, product: MatrixProduct, tile: FmaTile):
        self.product, self.tile, self.names = product, tile, product.names
        self.rows = Axis(self.names("row_tile"), ceil_div(product.row_count, tile.rows))
        self.columns = Axis(self.names("column_tile"), ceil_div(product.column_count, tile.columns))
        self.count = self.rows.extent * self.columns.extent
        self.slices = ceil_div(product.depth, tile.depth)
        shape = (self.count, self.slices, tile.depth, tile.columns + 4)
        self.kept = Buffer(self.names("kept"), dtypes.f32, shape, "resident")

    def _blocks(self, each: bool) -> tuple[Stmt, ...]:
        def block(b: DimLike) -> tuple[Stmt, ...]:
            found = Unravel(self.names, b, [self.columns, self.rows])
            row = found.index[self.rows.var] * self.tile.rows
            column = found.index[self.columns.var] * self.tile.columns
            return (*found.lets, *(self._step(b, row, column) if each else self._keep(b, column)))

        return blocks(self.names, self.count, block)

    def first(self) -> tuple[Stmt, ...]:
        """Before the steps: every block's columns into the memory that it keeps."""
        return self._blocks(each=False)

    def each(self) -> tuple[Stmt, ...]:
        """In a step."""
        return self._blocks(each=True)

    def _operand(self, left: bool, begin: DimLike) -> Slices:
        found = self.product.slices(self.tile, left, {}, begin, self.product.depth)
        found.hold(dtypes.f32)
        return found

    def _keep(self, b: DimLike, column: DimLike) -> tuple[Stmt, ...]:
        names, tile = self.names, self.tile
        right = self._operand(False, column)
        var = names("k")
        k = loop_index(var, self.slices)
        fetch = threads(names, tile.threads, lambda t: right.fetch(t, k * tile.depth))
        put = threads(names, tile.threads, lambda t: right.put(t, self.kept, (b, k)))
        return (For(var, self.slices, (*fetch, *put)),)

    def _step(self, b: DimLike, row: DimLike, column: DimLike) -> tuple[Stmt, ...]:
        names, tile = self.names, self.tile
        left = self._operand(True, row)
        acc = tile.sums(names, dtypes.f32)
        slice_ = Buffer(names("left"), dtypes.f32, (tile.depth, tile.rows + 4), "shared")

        def fetch(at: DimLike) -> tuple[Stmt, ...]:
            return threads(names, tile.threads, lambda t: left.fetch(t, at))

        clear = threads(names, tile.threads, lambda t: tile.clear(names, t, acc))
        var, after = names("k"), names("k")
        k = loop_index(var, self.slices)
        following: tuple[Stmt, ...] = ()
        if self.slices != 1:
            fetched = fetch(loop_index(after, self.slices) * tile.depth)
            following = (If(below(k + 1, self.slices), (Let(after, Index(k + 1)), *fetched)),)
        put = threads(names, tile.threads, lambda t: left.put(t, slice_))
        multiply = tile.multiply(names, slice_, self.kept, acc, (True, True), (b, k))
        steps = For(var, self.slices, (*put, *following, *multiply))
        return (*clear, *fetch(0), steps, *self.product.results(tile, acc, {}, row, column))


__all__ = ["MOST_TURNS", "add_staying"]
