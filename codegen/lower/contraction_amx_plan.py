"""Plans that sum in x86's tile registers, and what they cost by the model.

The figures are those of Intel's optimization manual for the first processors that have them: a tile instruction begins
every 16 cycles, a tile is loaded in 8. Nothing here was measured on such a machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from math import ceil, prod

from ..loops.nodes import TILE_ROWS
from .contraction import Access
from .contraction_amx import MORE
from .contraction_cycles import FAR_STORE, LOAD, SCATTERED_ELEMENT, TILE, TURN, TURNED_ROW, Model
from .contraction_words import Roomy, Words
from .tiling import Plan

# Rows and columns of a block, in tiles. Eight tile registers hold its sums, its rows' operand and a tile of the other.
GRIDS = ((2, 2), (1, 4), (1, 3), (3, 1), (1, 2), (2, 1), (1, 1))
MULTIPLY, LOAD_TILE, STORE_TILE = 16.0, 8.0, 16.0
# A vector of words that is multiplied besides, with its share of broadcasts.
VECTOR = 1.25


def tile_plans(model: Model) -> Iterator[Plan]:
    """The plans for a contraction in words; none where no whole tile fits."""
    words = model.reduction[-1]
    if not model.problem.dot or model.size[words] < TILE_ROWS:
        return
    for lane, row in permutations(model.parallel, 2):
        of_columns, of_rows = ([i for i in (0, 1) if axis in model.reads[i]] for axis in (lane, row))
        if len(of_columns) != 1 or len(of_rows) != 1 or of_columns == of_rows:
            continue
        packed = _packed(model, of_rows[0], row, of_columns[0], lane, words)
        if packed is None:
            continue
        room = of_rows[0] in packed
        if model.size[row] < (MORE if room else TILE_ROWS):
            continue
        turned = row if model.result_stride[lane] != 1 and model.result_stride[row] == 1 else ""
        for rows, columns in GRIDS:
            fits = (rows - 1) * TILE_ROWS < model.size[row] and (columns - 1) * TILE_ROWS < model.size[lane]
            if fits:
                tiles = {row: rows * TILE_ROWS}
                yield Plan(
                    lane, model.lanes, columns, tiles, packed=packed, turned=turned, rows=row, room=room
                )


def _packed(
    model: Model, of_rows: int, row: str, of_columns: int, lane: str, words: str
) -> Mapping[int, str] | None:
    """What must be packed for operands to lie as tiles do; None where that cannot be."""
    found = {}
    columns = model.problem.operands[of_columns]
    if not _lies_in_rows(model.problem.operands[of_rows], words) or not model.exact:
        found[of_rows] = row
    if not isinstance(columns, Roomy) or model.strides[of_columns][lane] != 1 or not model.exact:
        found[of_columns] = lane
    can = all(
        model.separable[operand] and type(model.problem.operands[operand]) is Words for operand in found
    )
    return found if can else None


def _lies_in_rows(operand: Access, words: str) -> bool:
    if isinstance(operand, Words):
        return operand.near and not operand.shifted and Access.stride(operand, words) == operand.size
    return isinstance(operand, Roomy) and operand.stride(words) == 1


def tile_cycles(model: Model, plan: Plan) -> float:
    """The model's estimate for the problem at its typical extents."""
    lane, row, words = plan.lane, plan.rows, model.reduction[-1]
    outer = prod(model.size[name] for name in model.reduction[:-1])
    steps, rest = outer * (model.size[words] // TILE_ROWS), outer * (model.size[words] % TILE_ROWS)
    total = 0.0
    for height, many in _parts(model.size[row], plan.tile(row)):
        for width, often in _parts(model.size[lane], plan.tile(lane)):
            rows, columns = height // TILE_ROWS, ceil(width / TILE_ROWS)
            rows += plan.room and height % TILE_ROWS >= MORE
            inside = min(height, rows * TILE_ROWS) * columns
            beside = height * columns - inside
            each = steps * (rows * columns * MULTIPLY + (rows + columns) * LOAD_TILE)
            each += rows * columns * STORE_TILE + inside * (LOAD + rest * VECTOR)
            each += beside * (outer * model.size[words]) * VECTOR
            each += _stores(model, plan, height, columns) + TILE
            total += many * often * each
    total *= prod(model.size[n] for n in model.parallel if n not in (lane, row))
    return total + model.packing(plan)


def _parts(size: int, block: int) -> list[tuple[int, int]]:
    """How long blocks along an axis are, and how many of each length there are."""
    whole, rest = divmod(size, block)
    return [(block, whole)] * (whole > 0) + [(rest, 1)] * (rest > 0)


def _stores(model: Model, plan: Plan, height: int, vectors: int) -> float:
    if model.result_stride[plan.lane] == 1:
        return float(height * vectors)
    if plan.turned:
        return vectors * ceil(height / model.lanes) * (TURN + model.lanes * TURNED_ROW)
    element = FAR_STORE if model.stores_far(plan.lane) else SCATTERED_ELEMENT
    return height * vectors * model.lanes * element
