"""Results that are written past the caches.

A store to memory that no cache has first reads its line. Where a kernel moves far more than the last-level cache holds,
what it wrote is mostly gone from there anyway, and instructions that write whole lines past the caches save that
read: of 8192 rows of 1024 numbers, softmax took 0.79 of its time on Zen 3, a layer norm 0.92. Of half as many
numbers nothing was saved, and in 128 long rows softmax took 1.28 of its time. Only where a line's vectors follow each
other, nothing else reads or writes the result, and vectors are shorter than a line: with longer ones it was not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Expr, For, If, Kernel, Launch, Load, Prefetch, Stmt, Store
from ..loops.walk import statement_expressions, statements, subexpressions
from ..target import LINE, GpuTarget, Target
from .lifetimes import used, written

# How often a kernel's bytes fill the last-level cache.
FILLED = 1.5
# What has to follow each other, so that few lines are written in part.
LEAST_RUN = 4 * LINE


def streamed(
    launches: Sequence[Launch], results: Sequence[Buffer], target: Target | GpuTarget
) -> tuple[Launch, ...]:
    """The launches, those of these results that it pays for written past the caches."""
    if not isinstance(target, Target) or target.isa not in ("avx2", "sse2") or target.vector_bytes >= LINE:
        return tuple(launches)
    uses = [b for launch in launches for b in used(launch)]
    alone = {b for b in results if uses.count(b) == 1}
    return tuple(_streamed(launch, alone & written(launch), target) for launch in launches)


def _streamed(launch: Launch, alone: set[Buffer], target: Target) -> Launch:
    kernel = launch.kernel
    if not isinstance(kernel, Kernel) or dims.bounds(launch.bytes)[0] < FILLED * target.l3 or not alone:
        return launch
    params = [p for p, arg in zip(kernel.params, launch.args) if arg in alone]
    read = {
        e.buffer
        for s in statements(kernel.body)
        for x in _read(s)
        for e in subexpressions(x)
        if isinstance(e, Load)
    }
    streams = {p for p in params if p not in read and all(_in_lines(*s) for s in _stores(kernel.body, p, ()))}
    if not streams:
        return launch
    body = _unfetched(kernel.body, streams)
    return replace(launch, kernel=replace(kernel, body=body, streams=frozenset(p.name for p in streams)))


def _read(stmt: Stmt) -> tuple[Expr, ...]:
    return () if isinstance(stmt, Prefetch) else statement_expressions(stmt)


def _stores(
    body: Sequence[Stmt], buffer: Buffer, loops: tuple[For, ...]
) -> Iterator[tuple[Store, tuple[For, ...]]]:
    """The stores to the buffer, and the loops around each, outermost first."""
    for stmt in body:
        if isinstance(stmt, Store) and stmt.buffer is buffer:
            yield stmt, loops
        elif isinstance(stmt, For):
            yield from _stores(stmt.body, buffer, (*loops, stmt))
        elif isinstance(stmt, If):
            yield from _stores((*stmt.body, *stmt.orelse), buffer, loops)


def _in_lines(store: Store, loops: Sequence[For]) -> bool:
    """Whether whole vectors are stored one behind the other, each from a multiple of its length on."""
    if not loops or loops[-1].kind != "vector":
        return False
    *outer, vector = loops
    offset, lanes = store.buffer.offset(store.index), vector.lanes
    if vector.extent != lanes or _step(offset, vector) != 1:
        return False
    steps = [(loop, _step(offset, loop)) for loop in reversed(outer)]
    moving = [(loop, step) for loop, step in steps if step != 0]
    start = dims.substitute(offset, {loop.var: 0 for loop in loops})
    if not isinstance(start, int) or any(
        not isinstance(s, int) or s % lanes for s in (start, *(s for _, s in moving))
    ):
        return False
    run = lanes
    for loop, step in moving:
        if step != run or not isinstance(loop.extent, int):
            break
        run *= loop.extent
    return run * store.buffer.dtype.itemsize >= LEAST_RUN


def _step(offset: DimLike, loop: For) -> DimLike:
    return dims.substitute(offset, {loop.var: 1}) - dims.substitute(offset, {loop.var: 0})


def _unfetched(body: Sequence[Stmt], streams: set[Buffer]) -> tuple[Stmt, ...]:
    """The statements without prefetches of what is written past the caches."""
    found: list[Stmt] = []
    for stmt in body:
        if isinstance(stmt, Prefetch) and stmt.source.buffer in streams:
            continue
        if isinstance(stmt, For):
            stmt = replace(stmt, body=_unfetched(stmt.body, streams))
        elif isinstance(stmt, If):
            stmt = replace(stmt, body=_unfetched(stmt.body, streams), orelse=_unfetched(stmt.orelse, streams))
        found.append(stmt)
    return tuple(found)
