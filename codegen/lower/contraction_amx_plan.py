"""Plans that sum in x86's tile registers, and what they cost by the model.

A tile instruction begins every 16 cycles, and a tile is loaded in 8, beside it (Intel's optimization manual); what loads
cost more was measured on a Granite Rapids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from math import ceil, prod

from ..loops.nodes import TILE_ROWS
from ..target import LINE
from .contraction import Access
from .contraction_amx import MORE
from .contraction_cycles import (
    FAR_STORE,
    FAR_STRIDE,
    FLOAT,
    LOAD,
    SCATTERED_ELEMENT,
    TILE,
    TURN,
    TURNED_ROW,
    Model,
)
from .contraction_words import Roomy, Words
from .tiling import Plan

# Rows and columns of a block, in tiles. Eight tile registers hold its sums, its rows' operand and a tile of the other.
GRIDS = ((2, 2), (1, 4), (1, 3), (3, 1), (1, 2), (2, 1), (1, 1))
MULTIPLY, STORE_TILE = 16.0, 16.0
# A tile from the first-level cache and the second's; more, where its rows lie so far apart, and where they may each
# straddle two lines.
LOAD_NEAR, LOAD_TILE, LOAD_FAR, LOAD_STRADDLING = 10.0, 16.0, 8.0, 8.0
# What both operands' tiles of a block's steps may take of the first-level cache.
NEAR = 16 << 10
# A packed copy is at most so many times as large as its operand: an image of which a kernel of 3x3 reads every second
# position, 2.25 times and its border.
MOST_COPIES = 3.0
# So many tiles of columns stay there while blocks of rows take turns, not fewer than so many.
DEEP, FEWEST = 32, 3
# A line from beyond the second-level cache.
FAR_LINE = 7.0
# Of the second-level cache, what rows take that all columns are multiplied with.
HELD, MOST_HELD = 0.35, 16
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
        turned = row if model.result_stride[lane] != 1 and model.result_stride[row] == 1 else ""
        for packed in _packings(model, of_rows[0], row, of_columns[0], lane, words):
            room = of_rows[0] in packed
            if model.size[row] < (MORE if room else TILE_ROWS):
                continue
            for rows, columns in GRIDS:
                most = ceil(model.size[row] / TILE_ROWS), ceil(model.size[lane] / TILE_ROWS)
                if rows > most[0] or columns > most[1]:
                    continue
                plan = Plan(
                    lane,
                    model.lanes,
                    columns,
                    {row: rows * TILE_ROWS},
                    packed=packed,
                    turned=turned,
                    rows=row,
                    room=room,
                    passing=_whole(model, row) > NEAR,
                )
                yield plan
                if _may_turn(model, plan):
                    yield replace(plan, deep=DEEP // columns)


def _may_turn(model: Model, plan: Plan) -> bool:
    """Whether there are blocks of rows that may take turns, and a sum long enough."""
    axes = [model.problem.axes[plan.rows], *model.problem.reduction]
    known = all(isinstance(axis.extent, int) for axis in axes)
    several = min(model.size[plan.rows] // plan.tile(plan.rows), _held(model, plan)) >= FEWEST
    return known and several and model.steps // TILE_ROWS > DEEP // plan.vectors


def _packings(
    model: Model, of_rows: int, row: str, of_columns: int, lane: str, words: str
) -> Iterator[Mapping[int, str]]:
    """What to pack: what must be for operands to lie as tiles do, and that and the rows."""
    found = {}
    columns = model.problem.operands[of_columns]
    if not isinstance(columns, Roomy) or model.strides[of_columns][lane] != 1 or not model.exact:
        found[of_columns] = lane
    can = {
        i: model.copies(i) <= MOST_COPIES and type(operand) is Words
        for i, operand in enumerate(model.problem.operands)
    }
    if not all(can[operand] for operand in found):
        return
    if _lies_in_rows(model.problem.operands[of_rows], words) and model.exact:
        yield found
    if can[of_rows]:
        yield {of_rows: row, **found}


def _lies_in_rows(operand: Access, words: str) -> bool:
    if isinstance(operand, Words):
        return operand.near and not operand.shifted and Access.stride(operand, words) == operand.size
    return isinstance(operand, Roomy) and operand.stride(words) == 1


def tile_cycles(model: Model, plan: Plan) -> float:
    """The model's estimate for the problem at its typical extents."""
    lane, row, words = plan.lane, plan.rows, model.reduction[-1]
    outer = prod(model.size[name] for name in model.reduction[:-1])
    steps, rest = outer * (model.size[words] // TILE_ROWS), outer * (model.size[words] % TILE_ROWS)
    left, right = _load_cycles(model, plan, row), _load_cycles(model, plan, lane)
    total = 0.0
    for height, many in _parts(model.size[row], plan.tile(row)):
        for width, often in _parts(model.size[lane], plan.tile(lane)):
            rows, columns = height // TILE_ROWS, ceil(width / TILE_ROWS)
            rows += plan.room and height % TILE_ROWS >= MORE
            inside = min(height, rows * TILE_ROWS) * columns
            beside = height * columns - inside
            each = steps * (rows * columns * MULTIPLY + rows * left + columns * right)
            parts = ceil(steps / plan.deep) if plan.deep else 1
            each += rows * columns * (parts * STORE_TILE + (parts - 1) * LOAD_TILE)
            each += inside * LOAD + VECTOR * model.core.multiplying(inside * rest, model.problem.dot)
            each += VECTOR * model.core.multiplying(beside * outer * model.size[words], model.problem.dot)
            each += _stores(model, plan, height, columns) + TILE
            total += many * often * each
    total *= prod(model.size[n] for n in model.parallel if n not in (lane, row))
    return total + model.packing(plan) + _passing(model, plan)


def _load_cycles(model: Model, plan: Plan, axis: str) -> float:
    """Cycles to load a tile of the operand that depends on an axis of the block."""
    operand = next(i for i in (0, 1) if axis in model.reads[i])
    block = plan.tile(axis) * model.steps * FLOAT
    # Rows pass while columns stay.
    whole = block if axis == plan.lane else _whole(model, axis)
    cycles = LOAD_NEAR if whole <= NEAR else LOAD_TILE
    if plan.deep and axis == plan.lane:
        cycles = LOAD_NEAR + (LOAD_TILE - LOAD_NEAR) / min(
            _held(model, plan), model.size[plan.rows] / plan.tile(plan.rows)
        )
    if operand in plan.packed:
        return cycles
    along = model.strides[operand][axis if axis == plan.rows else model.reduction[-1]]
    itemsize = model.problem.operands[operand].buffer.dtype.itemsize
    far = not isinstance(along, int) or abs(along) * itemsize >= FAR_STRIDE
    return cycles + LOAD_STRADDLING + (LOAD_FAR if far else 0.0)


def _whole(model: Model, axis: str) -> int:
    """Bytes of what positions along an axis read."""
    return model.size[axis] * model.steps * FLOAT


def _passing(model: Model, plan: Plan) -> float:
    """Cycles more for columns that come from beyond the second-level cache, for each part of the rows that stays."""
    columns = model.size[plan.lane] * model.steps * FLOAT
    if columns <= model.core.l2 / 2:
        return 0.0
    times = ceil(model.size[plan.rows] / plan.tile(plan.rows) / _held(model, plan))
    others = (n for n in model.parallel if n not in (plan.lane, plan.rows))
    return prod(model.size[n] for n in others) * times * columns / LINE * FAR_LINE


def _held(model: Model, plan: Plan) -> int:
    """How many blocks of rows stay in the second-level cache, and their sums on the stack."""
    return max(1, min(MOST_HELD, int(model.core.l2 * HELD / (plan.tile(plan.rows) * model.steps * FLOAT))))


def held_tiles(model: Model, plan: Plan) -> dict[str, int]:
    """How many blocks of rows a task has, so that what they read stays in the second-level cache while the panels of
    columns pass; none said where all of them do, or where their number is not known."""
    if not plan.rows or not isinstance(model.problem.axes[plan.rows].extent, int):
        return {}
    blocks = ceil(model.size[plan.rows] / plan.tile(plan.rows))
    most = _held(model, plan)
    if blocks <= most:
        return {}
    return {plan.rows: ceil(blocks / ceil(blocks / most))}


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
