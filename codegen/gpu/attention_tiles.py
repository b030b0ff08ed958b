"""How large the tiles of attention are: the largest that shared memory and registers hold, no larger than there are
rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.half_precision import HALF
from .attention import GpuAttention, Tiles
from .attention_fma import STEP, FmaProducts
from .attention_operands import BOX, Rows, is_direct
from .attention_tensor_cores import GroupProducts, MmaProducts
from .grid import gpu_target, most


def forward_tiles(a: GpuAttention) -> Tiles:
    """A block holds queries, its results and a tile of scores."""
    table = _table(a, (a.q, a.k, a.v), _FORWARD, _GROUPS_FORWARD)
    return _tiles(a, table, _padded(a.q.size), a.rows, a.shape[:-2])


def query_tiles(a: GpuAttention, dy: Rows) -> Tiles:
    """Of the gradient: queries and what came for their results, and two tiles of scores."""
    table = _table(a, (a.q, a.k, a.v, dy), _BY_QUERY, _GROUPS_BY_QUERY)
    return _tiles(a, table, _padded(a.q.size) + _padded(a.v.size), a.rows, a.shape[:-2])


def key_tiles(a: GpuAttention, dy: Rows) -> Tiles:
    """Of the gradient: keys and values, sums for both, or for one of them if rows are long, and two tiles of scores."""
    table = _table(a, (a.q, a.k, a.v, dy), _BY_KEY, _GROUPS_BY_KEY)
    return _tiles(a, table, _padded(a.q.size) + _padded(a.v.size), a.columns, a.k.value.type.shape[:-2])


def _table(
    a: GpuAttention, operands: Sequence[Rows], warps: dict[int, _Sizes], groups: dict[int, _Sizes]
) -> _Table:
    return (GroupProducts, groups) if _by_groups(a, operands) else (MmaProducts, warps)


def _by_groups(a: GpuAttention, operands: Sequence[Rows]) -> bool:
    """Whether warpgroups may multiply: 16-bit rows of whole boxes that can be copied as they are."""
    return (
        gpu_target(a.ctx).has_wgmma
        and a.dtype in HALF
        and min(most(a.rows), most(a.columns)) >= 64
        and all(x.size in (BOX, 2 * BOX) and is_direct(x, a.dtype) for x in operands)
    )


# (warps, times 16 rows of a warp, columns, stages) on tensor cores, from large to small, by the most numbers in a row.
# What a warp reads of the walked tile is multiplied with all of its rows: with 16 of them, shared memory is slower than
# the tensor cores. More do not fit in 255 registers (`ptxas`: 166 to 255 of them, none spilled).
_Sizes = tuple[tuple[int, int, int, int], ...]
# What multiplies on tensor cores, and its sizes.
_Table = tuple[type[MmaProducts], dict[int, _Sizes]]
_FORWARD: dict[int, _Sizes] = {
    64: ((4, 2, 64, 2), (4, 1, 64, 2), (2, 1, 64, 2), (2, 1, 32, 1)),
    128: ((4, 2, 32, 2), (4, 1, 64, 2), (4, 1, 32, 2), (2, 1, 32, 1)),
    256: ((8, 1, 32, 2), (4, 1, 32, 2), (4, 1, 32, 1), (2, 1, 16, 1)),
}
_BY_QUERY: dict[int, _Sizes] = {
    64: ((4, 2, 32, 2), (4, 1, 64, 2), (2, 1, 32, 1)),
    128: ((4, 2, 32, 2), (4, 1, 64, 2), (4, 1, 32, 2), (2, 1, 32, 1)),
    256: ((8, 1, 32, 2), (4, 1, 32, 2), (4, 1, 16, 1), (2, 1, 16, 1)),
}
_BY_KEY: dict[int, _Sizes] = {
    64: ((4, 2, 32, 2), (4, 1, 64, 2), (2, 1, 32, 1)),
    128: ((4, 1, 64, 2), (4, 1, 32, 2), (2, 1, 32, 1)),
    256: ((8, 1, 32, 2), (4, 1, 32, 2), (4, 1, 32, 1), (2, 1, 16, 1)),
}
# The same by groups of four warps, whose 64 rows `wgmma` multiplies: two blocks are on a multiprocessor, so that one
# multiplies while the other has its softmax.
_GROUPS_FORWARD: dict[int, _Sizes] = {128: ((8, 1, 64, 2), (4, 1, 64, 2))}
_GROUPS_BY_QUERY: dict[int, _Sizes] = {
    64: ((8, 1, 64, 2), (4, 1, 64, 2)),
    128: ((8, 1, 32, 2), (4, 1, 64, 2)),
}
_GROUPS_BY_KEY: dict[int, _Sizes] = {64: ((8, 1, 32, 2), (4, 1, 64, 2)), 128: ((4, 1, 64, 2),)}
# Elsewhere: (groups of threads, rows of a thread, columns, stages), for bytes of a row.
_FMA: dict[int, _Sizes] = {
    256: ((8, 8, 64, 2), (8, 8, 64, 1), (8, 4, 64, 1), (8, 2, 32, 1)),
    512: ((16, 4, 64, 1), (8, 8, 32, 1), (8, 4, 32, 1), (8, 2, 16, 1)),
    1024: ((8, 4, 32, 1), (8, 2, 16, 1), (4, 2, 16, 1)),
    2048: ((8, 2, 16, 1), (4, 2, 16, 1), (2, 2, 16, 1)),
}


def _tiles(
    a: GpuAttention,
    mma: _Table,
    kept: int,
    rows: DimLike,
    heads: tuple[DimLike, ...],
) -> Tiles:
    """Large ones, if there are enough of them to fill the machine. A row that stays has `kept` numbers."""
    walked = _padded(a.q.size) + _padded(a.v.size)
    room = gpu_target(a.ctx).most_shared_bytes
    enough = gpu_target(a.ctx).multiprocessors
    fitting: list[Tiles] = []
    for tiles in _candidates(a, mma, max(_padded(a.q.size), _padded(a.v.size))):
        p = tiles.products
        numbers = p.rows * (kept + 2 * p.spare)
        # With log_sum and delta.
        numbers += tiles.columns * tiles.stages * (walked + 2 * p.spare + 4)
        if not a.on_tensor_cores:
            numbers += p.rows * (tiles.columns + STEP)
        if numbers * p.narrow.itemsize > room:
            continue
        fitting.append(tiles)
        if most(dims.product(heads)) * -(-most(rows) // p.rows) >= enough:
            return tiles
    if not fitting:
        raise ValueError(f"{a.node}: no tile of it fits {a.ctx.target.name}")
    # Too few to fill it: of such as have no more rows than there are, which would be idle.
    return next((x for x in fitting[1:] if x.products.rows < 2 * max(most(rows), 16)), fitting[-1])


def _candidates(a: GpuAttention, mma: _Table, wide: int) -> Iterator[Tiles]:
    if a.on_tensor_cores:
        make, sizes = mma
        for warps, high, columns, stages in next(c for n, c in sizes.items() if wide <= n):
            yield Tiles(make(a.dtype, warps, high), columns, stages)
        return
    for down, high, columns, stages in next(c for n, c in _FMA.items() if wide * a.total.itemsize <= n):
        yield Tiles(FmaProducts(a.total, down, high), columns, stages)


def _padded(size: int) -> int:
    return -(-size // 16) * 16
