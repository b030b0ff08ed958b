"""Slices of a contraction's operand, on their way from global to shared memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Apply, Buffer, CopyAsync, Expr, Load, Stmt, Store
from ..lower.names import Names
from ..lower.rows import identity
from ..lower.template import Axis, instantiate, stride, walk
from ..scalar import SCALAR
from .grid import Unravel, guarded, inside, unrolled
from .tiles import Tile


class Slices:
    """One operand's slices, on their way from global to shared memory: every thread takes its elements into registers,
    and puts them down when the slice before is done with."""

    def __init__(
        self,
        names: Names,
        tile: Tile,
        sums: list[Axis],
        value: Expr,
        batch: Mapping[str, DimLike],
        axes: list[Axis],
        first: DimLike,
        count: int,
        total: DimLike,
        limit: DimLike,
    ):
        """`count` of the rows (or columns) along `axes`, from `first` on, of which there are `total`; by the axes
        `sums`, which end at `limit`."""
        self.names, self.tile, self.sums = names, tile, sums
        self.value, self.batch, self.axes = value, batch, axes
        self.first, self.count, self.total, self.limit = first, count, total, limit
        self.along = _side_by_side(value, axes, self.sums)
        self.elements = self.tile.depth * count
        self.width = self._width()
        self.each = -(-self.elements // (self.tile.threads * self.width))
        self.turned = self.tile.turned(self.along)

    def hold(self, dtype: DType) -> None:
        """Registers for the thread's elements of a slice, of the dtype that they are multiplied in."""
        shape = (self.tile.threads, self.each, self.width)
        self.held = Buffer(self.names("next"), dtype, shape, "thread")

    def _place(self, across: DimLike, depth: DimLike) -> tuple[DimLike, DimLike]:
        """Where an element lies in the slice."""
        return (depth, across) if self.turned else (across, depth)

    def _width(self) -> int:
        """Neighbours that a thread reads at once."""
        inner = self.axes if self.along else self.sums
        value = self.value
        while isinstance(value, Apply) and value.op == "cast":
            value = value.args[0]
        if not inner or not isinstance(value, Load):
            return 1
        width = 16 // max(value.dtype.itemsize, 2)
        if width * self.tile.threads > self.elements:
            width = max(1, self.elements // self.tile.threads)
        if stride(value.index[0], inner[-1]) != 1 or not isinstance(value.index[0], dims.Expr):
            return 1
        last = inner[-1]
        for monomial, factor in value.index[0].terms:
            if all(isinstance(a, dims.Symbol) and a.name == last.var for a in monomial) and monomial:
                continue
            while factor % width:
                width //= 2
        extent = self.total if self.along else self.limit
        while width > 1 and (dims.mod(last.extent, width) != 0 or not _divides(extent, width)):
            width //= 2
        return width

    def _places(self, t: DimLike, u: DimLike) -> tuple[DimLike, DimLike, DimLike]:
        """The first row (or column) and depth in the slice of the thread's group number `u`, and the group's number."""
        group = t + u * self.tile.threads
        if self.along:
            line = self.count // self.width
            return dims.mod(group, line) * self.width, dims.floordiv(group, line), group
        line = self.tile.depth // self.width
        return dims.floordiv(group, line), dims.mod(group, line) * self.width, group

    def fetch(self, t: DimLike, at: DimLike) -> tuple[Stmt, ...]:
        """The thread's elements of the slice that begins at `at` of the sum, into registers."""
        names, width = self.names, self.width

        def group(u: DimLike) -> tuple[Stmt, ...]:
            across, depth, number = self._places(t, u)
            row, place = self.first + across, at + depth
            outer = self._unravel(row, self.axes, self.along)
            inner = self._unravel(place, self.sums, not self.along)

            def element(v: DimLike) -> list[Stmt]:
                bindings = {**self.batch, **outer.index, **inner.index}
                moved = self.axes if self.along else self.sums
                if width > 1:
                    bindings[moved[-1].var] = bindings[moved[-1].var] * width + v
                read = SCALAR.cast(instantiate(self.value, bindings), self.held.dtype)
                for test in (inside(row, self.total), inside(place, self.limit)):
                    if test is not None:
                        read = SCALAR.select(test, read, identity("add", self.held.dtype))
                return [Store(self.held, (t, u, v), read)]

            body = (*outer.lets, *inner.lets, *unrolled(names, width, element))
            return guarded(inside(number, self.elements // width), body)

        return unrolled(names, self.each, group)

    @property
    def is_direct(self) -> bool:
        """Whether 16 bytes of the operand can go to their places in shared memory as they are."""
        return (
            isinstance(self.value, Load)
            and self.width * self.value.dtype.itemsize == 16
            and self.elements == self.each * self.width * self.tile.threads
        )

    def issue(self, t: DimLike, at: DimLike, target: Buffer, stage: DimLike) -> tuple[Stmt, ...]:
        """Copies of the thread's elements of the slice that begins at `at` of the sum, on their own."""
        names = self.names

        def group(u: DimLike) -> tuple[Stmt, ...]:
            across, depth, _ = self._places(t, u)
            row, place = self.first + across, at + depth
            outer = self._unravel(row, self.axes, self.along)
            inner = self._unravel(place, self.sums, not self.along)
            bindings = {**self.batch, **outer.index, **inner.index}
            moved = self.axes if self.along else self.sums
            bindings[moved[-1].var] = bindings[moved[-1].var] * self.width
            source = instantiate(self.value, bindings)
            assert isinstance(source, Load)
            test: Expr | None = None
            for one in (inside(row, self.total), inside(place, self.limit)):
                if one is not None:
                    test = one if test is None else SCALAR.and_(test, one)
            to = Load(target, (stage, *self._place(across, depth)))
            return (*outer.lets, *inner.lets, CopyAsync(to, source, self.width, test))

        return unrolled(names, self.each, group)

    def _unravel(self, position: DimLike, axes: list[Axis], moved: bool) -> Unravel:
        if not moved or self.width == 1:
            return Unravel(self.names, position, axes)
        last = axes[-1]
        narrow = [*axes[:-1], Axis(last.var, dims.floordiv(last.extent, self.width))]
        return Unravel(self.names, dims.exact_div(position, self.width), narrow)

    def put(self, t: DimLike, target: Buffer, lead: tuple[DimLike, ...] = ()) -> tuple[Stmt, ...]:
        """What `fetch` read, into shared memory, at `lead` in it."""

        def group(u: DimLike) -> tuple[Stmt, ...]:
            across, depth, number = self._places(t, u)

            def element(v: DimLike) -> list[Stmt]:
                where = (across + v, depth) if self.along else (across, depth + v)
                return [Store(target, (*lead, *self._place(*where)), Load(self.held, (t, u, v)))]

            return guarded(
                inside(number, self.elements // self.width), unrolled(self.names, self.width, element)
            )

        return unrolled(self.names, self.each, group)


def _divides(extent: DimLike, width: int) -> bool:
    return dims.mod(extent, width) == 0


def _side_by_side(value: Expr, axes: Sequence[Axis], sums: Sequence[Axis]) -> bool:
    """Whether neighbours in memory lie along the rows or columns, rather than along the sum."""
    loads = [e for e in walk([value]) if isinstance(e, Load)]

    def count(axis: Axis) -> int:
        return sum(stride(i, axis) == 1 for e in loads for i in e.index)

    if not axes:
        return False
    return not sums or count(axes[-1]) >= count(sums[-1])
