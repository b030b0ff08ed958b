"""A matrix that is read once, multiplied with one vector, as several streams.

Row after row it is one stream through memory, which the processor fetches ahead; but for each row all of the vector is
read again, and beside a row as long it does not stay in the first-level cache. Neighbouring rows side by side share
those reads, but then each stream ends with its row (a 49152 x 576 matrix: 15 GB/s four rows at a time, 31 row by row).
So the rows that are read side by side are those of as many parts of the matrix, each a stream that goes on: 33 GB/s
there, and 32 in place of 26 for 4096 x 4096, 37 in place of 22 for 2048 x 11008, whose vector is larger than that cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir import dims
from .contraction import Access, Axis, Contraction
from .contraction_cycles import STREAM_BYTES
from .contraction_plan import Way
from .contraction_words import Words
from .template import Element

# Vectors of sums in registers.
MOST_SUMS = 8
# Rows of more bytes than this are read four at a time, others two: a quarter of a usual first-level cache.
LONG_ROW = 8 << 10


def in_streams(
    problem: Contraction[Access], elements: Sequence[Element], way: Way
) -> tuple[Contraction[Access], Sequence[Element], Way]:
    """The contraction, what its epilogue stores and its plan, in streams where that is how it is computed best."""
    rows = [a for a in problem.parallel if a.extent != 1]
    if len(way) != 1 or len(rows) != 1:
        return problem, elements, way
    (axis,), (choice,) = rows, way
    plan = choice.plan
    row_by_row = plan.lane in {a.name for a in problem.reduction} and not plan.tiles and not plan.packed
    count = _streams(problem, axis)
    if not row_by_row or plan.parts > 1 or count == 1:
        return problem, elements, way
    part, stream = Axis(axis.name, dims.floordiv(axis.extent, count)), Axis(f"{axis.name}_s", count)
    whole = {axis.name: stream.var * part.extent + part.var}

    def moved(operand: Access) -> Access:
        return replace(operand, index=tuple(dims.substitute(i, whole) for i in operand.index))

    split = replace(
        problem,
        parallel=(*(a for a in problem.parallel if a is not axis), part, stream),
        left=moved(problem.left),
        right=moved(problem.right),
        result=tuple(dims.substitute(i, whole) for i in problem.result),
        added=None if problem.added is None else moved(problem.added),
    )
    streams = replace(
        plan,
        tiles={stream.name: count},
        vectors=MOST_SUMS // count,
        order=(*(n for n in plan.order if n != axis.name), axis.name, stream.name),
        blocks={n: max(1, block // count) for n, block in plan.blocks.items()},
    )
    return split, [e.at(whole) for e in elements], (replace(choice, plan=streams),)


def _streams(problem: Contraction[Access], axis: Axis) -> int:
    """How many rows along the axis to read at a time."""
    matrices = [x for x in problem.operands if x.depends_on(axis.name)]
    if len(matrices) != 1 or len(problem.reduction) != 1 or not isinstance(axis.extent, int):
        return 1
    (matrix,), (summed,) = matrices, problem.reduction
    row, words = matrix.stride(axis.name), matrix.size if isinstance(matrix, Words) else 1
    if row != summed.extent * words or not isinstance(row, int) or matrix.stride(summed.name) != 1:
        return 1
    nbytes = row * matrix.buffer.dtype.itemsize
    if nbytes * axis.extent <= STREAM_BYTES:
        return 1
    return next((n for n in (4, 2) if axis.extent % n == 0 and (n == 2 or nbytes > LONG_ROW)), 1)
