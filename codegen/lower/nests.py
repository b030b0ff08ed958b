"""Loop nests: unrolled groups of vectors, whole vectors, masked tails, and the parallel loop around it
all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import For, Index, Let, Stmt
from .context import Names
from .template import Axis

# From the position along the axis, the lane within the vector, and which copy of an unrolled group this is.
Emit = Callable[[DimLike, DimLike, DimLike], Sequence[Stmt]]


def loop_index(var: str, extent: DimLike) -> DimLike:
    """The variable of a loop as an index that knows its range."""
    return dims.symbol(var, 0, max(dims.bounds(extent)[1] - 1, 0))


def serial_loop(
    names: Names, extent: DimLike, emit: Callable[[DimLike], Sequence[Stmt]], stem: str = "i"
) -> tuple[Stmt, ...]:
    """`emit(i)` for i in 0..extent; no loop where the extent is 0 or 1."""
    if extent == 0:
        return ()
    if extent == 1:
        return tuple(emit(0))
    var = names(stem)
    return (For(var, extent, tuple(emit(loop_index(var, extent)))),)


def vector_loop(
    names: Names,
    extent: DimLike,
    lanes: int,
    emit: Emit,
    unroll: int = 1,
    stem: str = "i",
    beside: Callable[[DimLike], tuple[Stmt, ...]] | None = None,
    apart: bool = False,
) -> tuple[Stmt, ...]:
    """`emit(position, lane, copy)` for every position in 0..extent, `lanes` at a time: first in groups of
    `unroll` vectors (copies 0 .. unroll-1), then whole vectors, then one masked by the extent (all as copy
    0). `beside(position)`: what comes once before each vector, of its first position. `apart`: each copy walks a part
    of its own, and they do not take turns."""

    def vector(start: DimLike, count: DimLike, copy: DimLike) -> tuple[Stmt, ...]:
        first = beside(start) if beside is not None and count != 0 else ()
        return (*first, *vector_block(names, count, lanes, lambda lane: emit(start + lane, lane, copy)))

    def copies(at: DimLike) -> tuple[Stmt, ...]:
        var = names("u")
        copy = loop_index(var, unroll)
        place = copy * groups + at if apart else at * unroll + copy
        return (For(var, unroll, vector(place * lanes, lanes, copy), "unroll"),)

    groups = dims.floordiv(extent, unroll * lanes) if unroll > 1 else 0
    statements = serial_loop(names, groups, copies, stem)
    start = groups * (unroll * lanes)
    rest = dims.mod(extent, unroll * lanes) if unroll > 1 else extent
    whole = dims.floordiv(rest, lanes)
    statements += serial_loop(names, whole, lambda v: vector(start + v * lanes, lanes, 0), stem)
    statements += vector(start + whole * lanes, dims.mod(rest, lanes), 0)
    return statements


def vector_block(
    names: Names, count: DimLike, lanes: int, emit: Callable[[DimLike], Sequence[Stmt]]
) -> tuple[Stmt, ...]:
    """`emit(lane)` for the first `count` of `lanes` lanes, together."""
    if count == 0:
        return ()
    var = names("l")
    lane = dims.symbol(var, 0, lanes - 1)
    return (For(var, count, tuple(emit(lane)), "vector", lanes),)


def axis_loops(
    names: Names,
    axes: Sequence[Axis],
    bindings: dict[str, DimLike],
    inner: Callable[[dict[str, DimLike]], Sequence[Stmt]],
) -> tuple[Stmt, ...]:
    """Serial loops over the axes, the first outermost; `inner` gets the bindings of all of them. An extent
    may depend on axes that are bound already."""
    if not axes:
        return tuple(inner(bindings))
    first, *rest = axes
    extent = dims.substitute(first.extent, bindings)
    return serial_loop(names, extent, lambda i: axis_loops(names, rest, {**bindings, first.var: i}, inner))


def parallel_loop(
    names: Names,
    axes: Sequence[Axis],
    body: Callable[[dict[str, DimLike]], Sequence[Stmt]],
) -> tuple[Stmt, ...]:
    """One parallel loop over the product of the axes; the loop variable is taken apart into their indices."""
    extent = dims.product(a.extent for a in axes)
    var = names("p")
    rest = loop_index(var, extent)
    if len(axes) == 1:
        return (For(var, extent, tuple(body({axes[0].var: rest})), "parallel"),)
    bindings: dict[str, DimLike] = {}
    lets: list[Stmt] = []

    def let(stem: str, value: DimLike, extent: DimLike) -> DimLike:
        name = names(stem)
        lets.append(Let(name, Index(value)))
        return loop_index(name, extent)

    for axis in reversed(axes[1:]):
        assert isinstance(axis.extent, int), "only the outermost axis of a parallel loop may be symbolic"
        extent = dims.floordiv(extent, axis.extent)
        bindings[axis.var] = let("q", dims.mod(rest, axis.extent), axis.extent)
        rest = let("o", dims.floordiv(rest, axis.extent), extent)
    bindings[axes[0].var] = rest
    return (For(var, dims.product(a.extent for a in axes), (*lets, *body(bindings)), "parallel"),)
