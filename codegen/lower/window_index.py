"""Windows and the elements in them: where they lie, and which one holds the maximum."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as every

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import IRError, Node, Value
from ..loops.nodes import Expr
from ..scalar import SCALAR
from .indexing import Guard, Held, IndexTuple, constant

Offset = tuple[DimLike, ...]


def positions_of(node: Node) -> list[Offset]:
    """The positions in the kernel, in row-major order."""
    return list(every(*map(range, node.attrs["kernel"])))


def dilation_of(node: Node) -> tuple[int, ...]:
    return node.attrs.get("dilation") or (1,) * len(node.attrs["kernel"])


def window_element(
    node: Node, index: IndexTuple, offset: Offset, operand: Value
) -> tuple[IndexTuple, list[Guard]]:
    """Where kernel position `offset` of window `index` lies in the operand, and the guard that it lies
    inside."""
    rank = len(offset)
    lead = index[: len(index) - rank]
    where: list[DimLike] = list(lead)
    guard: list[Guard] = []
    sizes = operand.type.shape[len(lead) :]
    attrs = node.attrs
    steps = zip(index[len(lead) :], offset, attrs["stride"], attrs["padding"], dilation_of(node), sizes)
    for i, k, s, p, d, size in steps:
        position = i * s + (k * d - p)
        where.append(position)
        guard.append((0, position, size))
    return tuple(where), guard


def winners(elements: Sequence[Expr | None], lowest: Expr) -> list[Expr | None]:
    """For each kernel position, whether it holds its window's maximum: the first one, or the last NaN, as
    PyTorch's loop (`value > best or isnan(value)`) chooses. None stands for padding, and for what never
    wins."""
    # A position in the padding can only be chosen where it comes first and nothing is above the lowest value.
    best = lowest if elements[0] is None else elements[0]
    better: list[Expr | None] = [None]
    for element in elements[1:]:
        wins = None if element is None else beats(element, best)
        if wins is not None and element is not None:
            best = SCALAR.select(wins, element, best)
        better.append(wins)
    chosen: list[Expr | None] = []
    later: Expr | None = None  # whether a position after this one was better
    for wins in reversed(better[1:]):
        if wins is None:
            chosen.append(None)
            continue
        chosen.append(wins if later is None else SCALAR.and_(wins, SCALAR.not_(later)))
        later = wins if later is None else SCALAR.or_(later, wins)
    first: Expr | None = None
    if elements[0] is not None:
        first = constant(True, dtypes.bool_) if later is None else SCALAR.not_(later)
    return [first, *reversed(chosen)]


def beats(element: Expr, best: Expr) -> Expr:
    return SCALAR.or_(SCALAR.gt(element, best), SCALAR.ne(element, element))


def divisor(node: Node, index: IndexTuple, sizes: Sequence[DimLike]) -> DimLike:
    """What window `index` of an average divides by: its elements, those of the padding counted or not, those
    beyond the padding never."""
    rank = len(node.attrs["kernel"])
    attrs = node.attrs
    count: DimLike = 1
    places = zip(index[len(index) - rank :], sizes[len(sizes) - rank :])
    sliding = zip(attrs["kernel"], attrs["stride"], attrs["padding"])
    for (i, size), (k, s, p) in zip(places, sliding):
        start = i * s - p
        stop = dims.minimum(start + k, size + p)
        if not attrs["count_include_pad"]:
            start, stop = dims.minimum(start * -1, 0) * -1, dims.minimum(stop, size)
        count = count * (stop - start)
    return count


def only_at(value: Value, known: IndexTuple, element: Expr) -> Held:
    """For `BodyEvaluator.held`: a value of which one element is at hand, which is the only one that may be
    read."""

    def held(asked: IndexTuple) -> Expr:
        if asked != known:
            where, at_hand = list(map(str, asked)), list(map(str, known))
            raise IRError(f"%{value.name} is read at {where} where {at_hand} is at hand")
        return element

    return held
