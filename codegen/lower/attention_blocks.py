"""How many queries and keys make a block of attention."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ..target import MANY_REGISTERS
from .choices import Candidate
from .contraction_cycles import typical

# Vectors of queries, and keys: the scores of a block, its queries and results stay in the first-level cache. The first
# is taken unless measurements say otherwise.
BLOCKS = ((2, 64), (2, 32), (1, 64), (2, 128), (3, 32), (1, 128), (4, 32), (1, 32))
# The same where products are made in tile registers, whose steps are of two vectors of queries or keys. Gradients are
# summed over the queries of a block: 0.8 of the time with four vectors on Granite Rapids (2048 queries of 128 numbers).
OF_TILES = ((2, 64), (2, 128), (4, 64), (4, 128), (2, 32))
OF_GRADIENT_TILES = ((4, 64), (2, 64), (4, 128), (2, 128), (2, 32))
# Three vectors of queries make tiles that sixteen registers hold: 0.9 of the time with two on AMD Zen 3 (2048 queries of
# 128 numbers), 0.95 with rows of 64 numbers. Worth a few queries more in the last block than there are.
OF_THREE, MORE_QUERIES = (3, 64), 1.04


def ranked_blocks(
    rows: DimLike,
    columns: DimLike,
    lanes: int,
    registers: int,
    work: DimLike,
    count: int,
    tiled: Sequence[tuple[int, int]] = (),
) -> list[Candidate[tuple[int, int]]]:
    """Sizes (vectors of queries, keys) of blocks for so many rows of queries and of keys, `count` at most, where there
    are so many vector registers. `work`: multiply-adds in all. `tiled`: sizes for tile registers, where these make the
    products."""
    cycles = typical(work) / lanes
    few, short = dims.bounds(rows)[1], dims.bounds(columns)[1]

    def computed(vectors: int) -> int:
        """Queries, with those past the last."""
        return -(-few // (vectors * lanes)) * vectors * lanes

    usual = BLOCKS[0] if few > lanes else (1, BLOCKS[0][1])
    if registers < MANY_REGISTERS and few > lanes and computed(3) <= MORE_QUERIES * computed(2):
        usual = OF_THREE
    if tiled:
        usual = next(((v, k) for v, k in tiled if computed(v) <= MORE_QUERIES * computed(2)), OF_TILES[0])
    others = [(v, k) for v, k in tiled or BLOCKS if (v - 1) * lanes < few and k < 2 * short]
    found = [usual, *(b for b in others if b != usual)]
    return [Candidate(f"{v * lanes} queries by {k} keys", cycles, (v, k)) for v, k in found[:count]]
