"""May a kernel's output lie where one of its inputs lies?"""

from __future__ import annotations

from collections.abc import Iterable

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Expr, For, If, Index, Launch, Let, Load, Stmt, Store
from .template import operands, walk


def reads_before_writing(launch: Launch, old: Buffer, new: Buffer) -> bool:
    """Whether the launch reads an element of `old` only in the loop iteration that stores the same element
    of `new`, and before all stores there; then both may be one piece of memory. Conservative: only equal
    index expressions count."""
    kernel = launch.kernel
    reads = {p for p, b in zip(kernel.params, launch.args) if b is old}
    writes = {p for p, b in zip(kernel.params, launch.args) if b is new}
    if not reads:
        return True
    if any(p.name in kernel.writes for p in reads) or len({p.shape for p in reads | writes}) != 1:
        return False
    return _block_is_safe(kernel.body, reads, writes, frozenset(), {})


def _block_is_safe(
    block: tuple[Stmt, ...],
    reads: set[Buffer],
    writes: set[Buffer],
    loops: frozenset[str],
    lets: dict[str, frozenset[str]],
) -> bool:
    """`loops`: the variables of the loops around the block; `lets`: what the index lets in scope depend
    on."""
    stored: set[tuple[DimLike, ...]] = set()
    loaded: set[tuple[DimLike, ...]] = set()
    for stmt in block:
        here = set(_loads(operands(stmt), reads))
        if here and stored:
            return False
        loaded |= here
        match stmt:
            case Let(value=Index()):
                lets = {**lets, stmt.name: _variables((stmt.value.value,), lets)}
            case Store() if stmt.buffer in writes:
                stored.add(stmt.index)
            case For():
                inner = loops if dims.bounds(stmt.extent)[1] <= 1 else loops | {stmt.var}
                if not _block_is_safe(stmt.body, reads, writes, inner, lets):
                    return False
            case If():
                if not all(_block_is_safe(b, reads, writes, loops, lets) for b in (stmt.body, stmt.orelse)):
                    return False
    # What is loaded here must be stored here, in this very block, and each element in one iteration only.
    return not loaded or (loaded <= stored and all(loops <= _variables(i, lets) for i in stored))


def _variables(index: tuple[DimLike, ...], lets: dict[str, frozenset[str]]) -> frozenset[str]:
    names = {s.name for i in index for s in dims.symbols(i)}
    return frozenset(names).union(*(lets[n] for n in names if n in lets))


def _loads(exprs: Iterable[Expr], reads: set[Buffer]) -> Iterable[tuple[DimLike, ...]]:
    for expr in walk(exprs):
        if isinstance(expr, Load) and expr.buffer in reads:
            yield expr.index
