"""Blocks and threads of a GPU: how a position in the grid becomes indices along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import WARP, Apply, Expr, For, If, Index, Let, Stmt
from ..lower.context import LowerContext, Names
from ..lower.nests import loop_index
from ..lower.template import Axis
from ..target import GpuTarget


def gpu_target(ctx: LowerContext) -> GpuTarget:
    """What kernels are made for."""
    assert isinstance(ctx.target, GpuTarget), f"{ctx.target.name} is no GPU"
    return ctx.target


def ceil_div(a: DimLike, b: int) -> DimLike:
    return dims.floordiv(a + (b - 1), b)


def least(value: DimLike) -> int:
    return dims.bounds(value)[0]


def most(value: DimLike) -> int:
    return dims.bounds(value)[1]


def whole_warps(count: int) -> int:
    """Threads, in whole warps, that are at least as many."""
    return -(-max(count, 1) // WARP) * WARP


def blocks(names: Names, extent: DimLike, body: Callable[[DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
    """The grid: `body(b)` for every block."""
    var = names("b")
    return (For(var, extent, tuple(body(loop_index(var, extent))), "block"),)


def threads(names: Names, count: int, body: Callable[[DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
    """All threads of a block: `body(t)` for each."""
    var = names("t")
    return (For(var, count, tuple(body(loop_index(var, count))), "thread"),)


def unrolled(names: Names, count: int, body: Callable[[DimLike], Sequence[Stmt]]) -> tuple[Stmt, ...]:
    """`body(u)`, repeated in the code."""
    if count == 1:
        return tuple(body(0))
    var = names("u")
    return (For(var, count, tuple(body(loop_index(var, count))), "unroll"),)


def below(index: DimLike, extent: DimLike) -> Expr:
    return Apply("lt", (Index(index), Index(extent)), dtypes.bool_)


def inside(index: DimLike, extent: DimLike) -> Expr | None:
    """Whether the index, which is not negative, is below the extent; None where it always is."""
    if least(extent - index) >= 1:
        return None
    return below(index, extent)


def guarded(test: Expr | None, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    return tuple(body) if test is None else (If(test, tuple(body)),)


class Unravel:
    """A position taken apart into indices along axes, row-major; `lets` are the statements that do it. A position past
    the end has an outermost index past the end."""

    def __init__(self, names: Names, position: DimLike, axes: Sequence[Axis]):
        self.lets: list[Stmt] = []
        self.index: dict[str, DimLike] = {a.var: 0 for a in axes}
        self._names = names
        rest = position
        walked = [a for a in axes if a.extent != 1]
        for axis in reversed(walked[1:]):
            rest, self.index[axis.var] = self._divided(rest, axis.extent)
        if walked:
            self.index[walked[0].var] = rest

    def _divided(self, value: DimLike, by: DimLike) -> tuple[DimLike, DimLike]:
        """Quotient and remainder."""
        if isinstance(by, int):
            quotient = self._let("o", Index(dims.floordiv(value, by)), most(value) // by + 1)
            return quotient, self._let("q", Index(dims.mod(value, by)), by)
        whole = Apply("div", (Index(value), Index(by)), dtypes.i64)
        quotient = self._let("o", whole, most(value) // max(least(by), 1) + 1)
        return quotient, self._let("q", Index(value - quotient * by), by)

    def _let(self, stem: str, value: Expr, extent: DimLike) -> DimLike:
        if isinstance(value, Index) and not _divides(value.value):
            return value.value
        name = self._names(stem)
        self.lets.append(Let(name, value))
        return loop_index(name, extent)


def _divides(value: DimLike) -> bool:
    """Whether the index holds a quotient or a remainder, worth a name of its own."""
    if isinstance(value, int):
        return False
    return any(not isinstance(atom, dims.Symbol) for monomial, _ in value.terms for atom in monomial)
