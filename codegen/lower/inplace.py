"""May a kernel's output lie where one of its inputs lies?

It may if every element of the input is read only where the same element of the output is stored, before all
stores there, and no element is stored twice: then nothing that has been overwritten is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.nodes import (
    Apply,
    Buffer,
    CopyAsync,
    Expr,
    For,
    HostCall,
    If,
    Index,
    Kernel,
    Launch,
    Let,
    Load,
    LoadTile,
    Pipeline,
    Stmt,
    Store,
)
from .template import operands, walk

# Loop iterations that counting stores may step through.
MAX_STEPS = 20_000


def reads_before_writing(launch: Launch, old: Buffer, new: Buffer) -> bool:
    """Whether `new` may be the same memory as `old`, for this launch. Conservative: only equal index
    expressions count as the same element."""
    kernel = launch.kernel
    if isinstance(kernel, HostCall):
        return not any(b is old for b in launch.args)
    reads = frozenset(p for p, b in zip(kernel.params, launch.args) if b is old)
    writes = frozenset(p for p, b in zip(kernel.params, launch.args) if b is new)
    return not reads or _in_step(kernel, reads, writes, new.numel)


@lru_cache(maxsize=4096)
def _in_step(kernel: Kernel, reads: frozenset[Buffer], writes: frozenset[Buffer], numel: DimLike) -> bool:
    """Whether the kernel reads some params only where it stores to others; one kernel has many launches."""
    if any(p.name in kernel.writes for p in reads) or len({p.shape for p in reads | writes}) != 1:
        return False
    if not _reads_where_it_stores(kernel.body, reads, writes):
        return False
    stores = _StoreCount(writes).count(kernel.body, {})
    if stores is None:
        return _index_tells_iterations(kernel.body, writes, frozenset(), {})
    return stores == numel


def _reads_where_it_stores(block: Sequence[Stmt], reads: Set[Buffer], writes: Set[Buffer]) -> bool:
    """Whether each straight run of statements loads only elements that it stores, and stores nothing before
    that."""
    stored: set[tuple[DimLike, ...]] = set()
    loaded: set[tuple[DimLike, ...]] = set()
    for stmt in block:
        here = set(_loads(operands(stmt), reads))
        if here and stored:
            return False
        loaded |= here
        match stmt:
            case CopyAsync() | LoadTile() if stmt.source.buffer in reads:
                return False
            case Pipeline() if reads & {stmt.left.map.buffer, stmt.right.map.buffer}:
                return False
            case Store() if stmt.buffer in writes:
                stored.add(stmt.index)
            case For():
                if not _reads_where_it_stores(stmt.body, reads, writes):
                    return False
            case If():
                if not all(_reads_where_it_stores(b, reads, writes) for b in (stmt.body, stmt.orelse)):
                    return False
    return loaded <= stored


def _loads(exprs: Iterable[Expr], reads: Set[Buffer]) -> Iterable[tuple[DimLike, ...]]:
    for expr in walk(exprs):
        if isinstance(expr, Load) and expr.buffer in reads:
            yield expr.index


def _index_tells_iterations(
    block: Sequence[Stmt], writes: Set[Buffer], loops: frozenset[str], lets: Mapping[str, frozenset[str]]
) -> bool:
    """Whether every store's index depends on the variables of all loops around it, as it does where each
    iteration has elements of its own; `lets` says on which loop variables the index lets in scope
    depend."""
    for stmt in block:
        match stmt:
            case Let(value=Index(value=index)):
                lets = {**lets, stmt.name: _variables((index,), lets)}
            case Store() if stmt.buffer in writes:
                if not loops <= _variables(stmt.index, lets):
                    return False
            case For():
                inner = loops if dims.bounds(stmt.extent)[1] <= 1 else loops | {stmt.var}
                if not _index_tells_iterations(stmt.body, writes, inner, lets):
                    return False
            case If():
                once = loops - _variables(_zero_where_it_holds(stmt.condition), lets)
                if not _index_tells_iterations(stmt.body, writes, once, lets):
                    return False
                if not _index_tells_iterations(stmt.orelse, writes, loops, lets):
                    return False
    return True


def _zero_where_it_holds(condition: Expr) -> tuple[DimLike, ...]:
    """The index that is 0 where the condition holds: in one iteration of the loops that it counts."""
    match condition:
        case Apply(op="lt", args=(Index(value=index), Index(value=1))) if dims.bounds(index)[0] >= 0:
            return (index,)
    return ()


def _variables(index: Sequence[DimLike], lets: Mapping[str, frozenset[str]]) -> frozenset[str]:
    names = {s.name for i in index for s in dims.symbols(i)}
    return frozenset(names).union(*(lets[n] for n in names if n in lets))


class _StoreCount:
    """How many stores to some buffers a body does. As every element is stored, as many stores as there are
    elements store each once."""

    def __init__(self, writes: Set[Buffer]):
        self.writes = writes
        self.steps = 0
        self._known: dict[int, set[str]] = {}  # by the id of a loop's body

    def count(self, block: Sequence[Stmt], env: Mapping[str, int]) -> int | None:
        """None where that depends on data or dims, or takes too many steps to find out."""
        total = 0
        for stmt in block:
            match stmt:
                case Let(value=Index(value=index)):
                    value = dims.substitute(index, env)
                    if isinstance(value, int):
                        env = {**env, stmt.name: value}
                case Store() if stmt.buffer in self.writes:
                    total += 1
                case For():
                    inside = self._loop(stmt, env)
                    if inside is None:
                        return None
                    total += inside
                case If():
                    if self.count((*stmt.body, *stmt.orelse), env) != 0:
                        return None
        return total

    def _loop(self, loop: For, env: Mapping[str, int]) -> int | None:
        extent = dims.substitute(loop.extent, env)
        if not isinstance(extent, int):
            return None
        if loop.var not in self._deciding(loop.body):
            each = self.count(loop.body, env) if extent else 0
            return None if each is None else extent * each
        self.steps += extent
        if self.steps > MAX_STEPS:
            return None
        total = 0
        for i in range(extent):
            each = self.count(loop.body, {**env, loop.var: i})
            if each is None:
                return None
            total += each
        return total

    def _deciding(self, block: tuple[Stmt, ...]) -> set[str]:
        """The variables on which extents of loops in the block depend, through index lets as well."""
        found = self._known.get(id(block))
        if found is not None:
            return found
        found = set()
        lets: dict[str, set[str]] = {}
        for stmt in block:
            match stmt:
                case Let(value=Index(value=index)):
                    lets[stmt.name] = {s.name for s in dims.symbols(index)}
                case For():
                    found |= {s.name for s in dims.symbols(stmt.extent)} | self._deciding(stmt.body)
                case If():
                    found |= self._deciding(stmt.body) | self._deciding(stmt.orelse)
        for name in reversed(lets):
            if name in found:
                found |= lets[name]
        self._known[id(block)] = found
        return found
