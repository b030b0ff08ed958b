"""Nests: elements to be stored for every point of a space, none of which depends on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Check, Expr, Let, Stmt, Var
from ..scalar import SCALAR
from .context import LowerContext
from .indexing import number
from .names import Names
from .nests import loop_index
from .template import (
    Axis,
    Element,
    bind_shared,
    collapse,
    index_values,
    instantiate,
    operations,
    stride,
)


@dataclass(frozen=True)
class Lookup:
    """An index read from memory: the template's symbol `name` stands for `value` (i64), checked to be at
    least 0 and below `size`, or else the program's status becomes `code` and the index is clamped."""

    name: str
    value: Expr
    size: DimLike
    code: int

    def bind(self, names: Names, value: Expr) -> tuple[list[Stmt], DimLike]:
        """Statements that read the index, and the index."""
        raw, safe = names(f"{self.name}_raw"), names(self.name)
        given = Var(raw, dtypes.i64)
        last = number(self.size - 1, dtypes.i64)
        inside = SCALAR.and_(SCALAR.ge(given, 0), SCALAR.le(given, last))
        clamped = SCALAR.max(SCALAR.min(given, last), 0)
        statements: list[Stmt] = [Let(raw, value), Check(inside, self.code), Let(safe, clamped)]
        return statements, loop_index(safe, self.size)


class Nest:
    """Elements to be stored for every point of a space of axes, in any order."""

    def __init__(
        self,
        names: Names,
        axes: Sequence[Axis],
        elements: Sequence[Element],
        lookups: Sequence[Lookup] = (),
    ):
        self.names = names
        indices = index_values([*(e.value for e in elements), *(k.value for k in lookups)])
        indices += [e.offset for e in elements]
        self.axes, bindings = collapse(axes, indices)
        memo: dict[int, Expr] = {}
        self.elements = [e.at(bindings, memo) for e in elements]
        self.lookups = [Lookup(k.name, instantiate(k.value, bindings, memo), k.size, k.code) for k in lookups]
        self.size = dims.product(a.extent for a in self.axes)
        self.values = [*(e.value for e in self.elements), *(k.value for k in self.lookups)]
        self.operations = max(operations(self.values), 1) + 4 * len(self.lookups)
        self.work: DimLike = self.size * self.operations

    def vector_axis(self) -> Axis:
        """The axis along which most accesses are contiguous or constant; the last among equals."""
        indices = index_values(self.values)

        def score(axis: Axis) -> tuple[int, bool]:
            reads = sum(stride(i, axis) in (0, 1) for i in indices)
            writes = sum(stride(e.offset, axis) == 1 for e in self.elements)
            return reads + 2 * writes, axis is self.axes[-1]

        return max(self.axes, key=score)

    def point(
        self, bindings: dict[str, DimLike], known: Mapping[int, Expr] | None = None
    ) -> tuple[Stmt, ...]:
        """The stores at a point; `known` holds, by id, what stands for some loads."""
        memo = dict(known or {})
        statements: list[Stmt] = []
        for lookup in self.lookups:
            found, index = lookup.bind(self.names, instantiate(lookup.value, bindings, memo))
            statements += found
            bindings = {**bindings, lookup.name: index}
            memo = dict(known or {})
        statements += [e.at(bindings, memo).store() for e in self.elements]
        return bind_shared(statements, self.names)


def launch_nests(ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None:
    """Kernels that store the elements of all the nests."""
    ctx.schedules.nests(ctx, name, nests)
