"""Reading an array across: vectors run along one axis, the array along another.

A square tile, as wide as a vector, is turned on the stack. Turning L rows of L elements (L a power of 2)
means moving the high half of the bits of an element's position to the low end. Interleaving four rows, L/4
apart, moves two bits, in whole vectors; log4(L) such passes turn the tile. Tiles follow each other along the
array's rows, so that the hardware sees L streams and can prefetch them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Apply, Buffer, Expr, For, Load, Prefetch, Stmt, Store
from .names import Names
from .nests import loop_index, serial_loop, vector_block
from .template import Axis, free_arguments, instantiate, stride, walk

# Arrays that are turned for one loop; more would crowd the first-level cache.
MAX_TURNED = 4
# Strides that vector loads handle well without turning.
NEAR = (0, 1, -1, 2, 3, 4)


@dataclass(frozen=True)
class Turn:
    """Loads that are contiguous `along` one axis while vectors of `lanes` elements run along `vector`."""

    along: Axis
    vector: Axis
    lanes: int
    loads: tuple[Load, ...]


def find_turn(values: Sequence[Expr], axes: Sequence[Axis], vector: Axis, lanes: int) -> Turn | None:
    """What to turn so that no vector of a large space is gathered; None where that does not apply."""
    strided = [
        e
        for e in walk(values)
        if isinstance(e, Load) and e.buffer.space == "global" and stride(e.index[0], vector) not in NEAR
    ]
    if not strided or len(strided) > MAX_TURNED or lanes < 4 or dims.bounds(vector.extent)[1] < lanes:
        return None
    always = _evaluated_always(values)
    for axis in axes:
        if axis is vector or dims.bounds(axis.extent)[1] < lanes:
            continue
        if all(id(e) in always and stride(e.index[0], axis) == 1 for e in strided):
            others = [a for a in axes if a is not vector and a is not axis]
            if all(isinstance(a.extent, int) for a in others[1:]):
                return Turn(axis, vector, lanes, tuple(strided))
    return None


def _evaluated_always(values: Sequence[Expr]) -> set[int]:
    """Ids of the expressions that no test on indices guards."""
    seen: set[int] = set()
    stack = list(values)
    while stack:
        expr = stack.pop()
        if id(expr) not in seen:
            seen.add(id(expr))
            stack.extend(free_arguments(expr) if isinstance(expr, Apply) else ())
    return seen


Element = Callable[[DimLike, DimLike], Expr]
Point = Callable[[dict[str, DimLike], Mapping[int, Expr]], Sequence[Stmt]]


def turn_loops(
    names: Names,
    turn: Turn,
    bound: dict[str, DimLike],
    start: DimLike,
    count: DimLike,
    point: Point,
    soon: Sequence[Load] = (),
) -> tuple[Stmt, ...]:
    """`point(bindings, known)` in all whole tiles of the vector axis and of `count` elements along the
    other from `start` on. `known` gives, by id, the turned loads. `soon`: other places that a point reads or writes;
    where there are some, what the next tile needs is fetched."""
    lanes, vector, along = turn.lanes, turn.vector, turn.along
    tiles = [Tile(names, load, lanes) for load in turn.loads]

    def tile(first: DimLike, left: DimLike) -> tuple[Stmt, ...]:
        statements: tuple[Stmt, ...] = ()
        for t in tiles:
            statements += t.fill(
                lambda row, lane, t=t: instantiate(  # type: ignore[misc]
                    t.load, {**bound, vector.var: left + row, along.var: first + lane}
                )
            )

        def fetched(i: DimLike) -> tuple[Stmt, ...]:
            across = {**bound, vector.var: left + lanes + i, along.var: first}
            here = {**bound, vector.var: left + lanes, along.var: first + i}
            places = [(load, across) for load in turn.loads] + [(load, here) for load in soon]
            return tuple(
                Prefetch(Load(x.buffer, tuple(dims.substitute(j, b) for j in x.index)), 2) for x, b in places
            )

        def row(i: DimLike) -> tuple[Stmt, ...]:
            def lane(l: DimLike) -> Sequence[Stmt]:
                known = {id(t.load): t.at(i, l) for t in tiles}
                return point({**bound, vector.var: left + l, along.var: first + i}, known)

            ahead = fetched(i) if soon else ()
            return (*ahead, *vector_block(names, lanes, lanes, lane))

        return statements + serial_loop(names, lanes, row, "r")

    return serial_loop(
        names,
        dims.floordiv(vector.extent, lanes),
        lambda v: serial_loop(
            names, dims.floordiv(count, lanes), lambda a: tile(start + a * lanes, v * lanes), "a"
        ),
        "v",
    )


class Tile:
    """A square of the array that `load` reads, on the stack."""

    def __init__(self, names: Names, load: Load, lanes: int):
        self.names = names
        self.load = load
        self.lanes = lanes
        size = (lanes * lanes,)
        self.buffers = [Buffer(names("tile"), load.dtype, size, "stack") for _ in range(2)]
        self.turned = self.buffers[0]

    def at(self, row: DimLike, lane: DimLike) -> Load:
        """An element of the turned tile."""
        return Load(self.turned, (row * self.lanes + lane,))

    def fill(self, source: Element) -> tuple[Stmt, ...]:
        """Read `source(row, lane)` and turn it."""
        return turned_tile(self.names, source, self.lanes, self.turned, 0, self.buffers[1])


def turned_tile(
    names: Names, source: Element, lanes: int, target: Buffer, start: DimLike, spare: Buffer
) -> tuple[Stmt, ...]:
    """`target[start + lane * lanes + row] = source(row, lane)` for a square tile; `spare` holds as many elements."""
    read = source
    statements: tuple[Stmt, ...] = ()
    radices = [4] * ((lanes.bit_length() - 1) // 2) + [2] * ((lanes.bit_length() - 1) % 2)
    for left, radix in zip(reversed(range(len(radices))), radices, strict=True):
        # The last pass ends in the target.
        into, first = (spare, 0) if left % 2 else (target, start)
        var = names("r")
        row = loop_index(var, lanes // radix)
        body = vector_block(names, lanes, lanes, _interleaved(into, first, read, row, lanes, radix))
        statements += (For(var, lanes // radix, body, "unroll"),)
        read = _reader(into, first, lanes)
    return statements


def _reader(buffer: Buffer, start: DimLike, lanes: int) -> Element:
    return lambda row, lane: Load(buffer, (start + row * lanes + lane,))


def _interleaved(
    target: Buffer, start: DimLike, read: Element, row: DimLike, lanes: int, radix: int
) -> Callable[[DimLike], list[Stmt]]:
    """An element from each of `radix` rows in turn, evenly spaced from `row` on."""

    def stores(lane: DimLike) -> list[Stmt]:
        place = start + (row * lanes + lane) * radix
        apart = lanes // radix
        return [Store(target, (place + k,), read(row + k * apart, lane)) for k in range(radix)]

    return stores
