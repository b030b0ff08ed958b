"""Operands of attention on their way to shared memory: tiles of rows, and lines of one number a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Value
from ..loops.nodes import Buffer, CopyAsync, Expr, For, Load, Stmt, Store
from ..lower.contraction import Reader, Reading
from ..lower.indexing import IndexTuple
from ..lower.names import Names
from ..lower.nests import loop_index
from ..lower.rows import identity
from ..lower.template import instantiate
from ..scalar import SCALAR
from .attention_products import Products
from .grid import guarded, inside, unrolled

# Names of an operand's dims in the expression of its element, replaced where it is read.
ROW, SIZE = "row", "size"
# Neighbours of a row in a box that warpgroups multiply out of.
BOX = 64
# Elements that a thread asks for before it waits for the first, where they do not go to their places on their own.
TOGETHER = 8


@dataclass(frozen=True)
class Rows:
    """An operand [..., rows, size], or [..., rows]: its element as an expression."""

    value: Value
    element: Expr
    lead: int
    rows: DimLike
    size: int

    def at(self, place: IndexTuple, row: DimLike, position: DimLike = 0) -> Expr:
        shape = self.value.type.shape
        bindings: dict[str, DimLike] = {
            f"lead{d}": 0 if shape[d] == 1 else place[d] for d in range(self.lead)
        }
        return instantiate(self.element, bindings | {ROW: row, SIZE: position})


def rows_of(operands: Reader[Reading], value: Value, is_line: bool = False) -> Rows:
    """`is_line`: one number a row."""
    shape = value.type.shape
    names = [f"lead{d}" for d in range(len(shape) - (1 if is_line else 2))] + [ROW, SIZE]
    index = tuple(
        0 if n == 1 else dims.symbol(name, 0, max(0, dims.bounds(n)[1] - 1)) for name, n in zip(names, shape)
    )
    lead = len(names) - 2
    size = 1 if is_line else shape[-1]
    assert isinstance(size, int)
    return Rows(value, operands.read(value, index).value, lead, shape[lead], size)


@dataclass(frozen=True)
class SharedRows:
    """Room for `count` rows at a time, `stages` times; what lies outside of the operand is zeros there."""

    rows: Rows
    buffer: Buffer
    count: int
    padded: int
    threads: int

    @staticmethod
    def of(names: Names, stem: str, rows: Rows, products: Products, count: int, stages: int) -> SharedRows:
        padded = -(-rows.size // 16) * 16
        shape: tuple[int, ...] = (stages, count, padded + products.spare)
        if products.boxed:
            shape = (stages, padded // BOX, count, BOX)
        buffer = Buffer(names(stem), products.narrow, shape, "shared")
        return SharedRows(rows, buffer, count, padded, products.threads)

    @property
    def boxed(self) -> bool:
        return len(self.buffer.shape) == 4

    def matrix(self, stage: DimLike) -> Load:
        """Its first element."""
        return Load(self.buffer, (stage, *(0 for _ in self.buffer.shape[1:])))

    def copy(
        self, names: Names, t: DimLike, place: IndexTuple, first: DimLike, stage: DimLike
    ) -> tuple[Stmt, ...]:
        """The thread's part of the rows from `first` on."""
        rows, width = self.rows, 16 // self.buffer.dtype.itemsize
        direct = is_direct(rows, self.buffer.dtype)
        if not direct:
            width = 1
        line = self.padded // width

        def group(number: DimLike) -> tuple[Stmt, ...]:
            row, position = dims.floordiv(number, line), dims.mod(number, line) * width
            tests = (inside(first + row, rows.rows), inside(position, rows.size))
            where: tuple[DimLike, ...] = (stage, row, position)
            if self.boxed:
                where = (stage, dims.floordiv(position, BOX), row, dims.mod(position, BOX))
            source = rows.at(place, first + row, position)
            return _moved(source, Load(self.buffer, where), width if direct else 0, tests)

        return _groups(names, t, self.threads, self.count * line, group, direct)


@dataclass(frozen=True)
class SharedLine:
    """The same of one number a row."""

    rows: Rows
    buffer: Buffer
    count: int
    threads: int

    @staticmethod
    def of(names: Names, stem: str, rows: Rows, count: int, stages: int, threads: int) -> SharedLine:
        buffer = Buffer(names(stem), rows.value.type.dtype, (stages, count), "shared")
        return SharedLine(rows, buffer, count, threads)

    def copy(
        self, names: Names, t: DimLike, place: IndexTuple, first: DimLike, stage: DimLike
    ) -> tuple[Stmt, ...]:
        rows, width = self.rows, 16 // self.buffer.dtype.itemsize
        fits = dims.mod(rows.rows, width) == 0 and dims.mod(first, width) == 0
        direct = fits and _is_direct(rows.element, self.buffer.dtype, ROW)
        if not direct:
            width = 1

        def group(number: DimLike) -> tuple[Stmt, ...]:
            row = first + number * width
            target = Load(self.buffer, (stage, number * width))
            tests = (inside(row, rows.rows),)
            return _moved(rows.at(place, row), target, width if direct else 0, tests)

        return _groups(names, t, self.threads, self.count // width, group, direct)


def is_direct(rows: Rows, dtype: DType) -> bool:
    """Whether rows can go to shared memory as they are."""
    return _is_direct(rows.element, dtype, SIZE) and rows.size % (16 // dtype.itemsize) == 0


def _is_direct(element: Expr, dtype: DType, along: str) -> bool:
    """Whether 16 bytes of the operand can go to their places as they are."""
    if not isinstance(element, Load) or element.dtype is not dtype or len(element.index) != 1:
        return False
    parts = dims.coefficient(element.index[0], along)
    return parts is not None and parts[0] == 1 and dims.mod(parts[1], 16 // dtype.itemsize) == 0


def _moved(source: Expr, target: Load, width: int, tests: Sequence[Expr | None]) -> tuple[Stmt, ...]:
    """`width` elements on their own; 0: one, through a register."""
    test: Expr | None = None
    for one in tests:
        if one is not None:
            test = one if test is None else SCALAR.and_(test, one)
    if width:
        assert isinstance(source, Load)
        return (CopyAsync(target, source, width, test),)
    value = SCALAR.cast(source, target.dtype)
    if test is not None:
        value = SCALAR.select(test, value, identity("add", target.dtype))
    return (Store(target.buffer, target.index, value),)


def _groups(
    names: Names,
    t: DimLike,
    threads: int,
    count: int,
    group: Callable[[DimLike], tuple[Stmt, ...]],
    direct: bool,
) -> tuple[Stmt, ...]:
    """`group(number)` for the thread's share of `count`."""

    def one(number: DimLike) -> tuple[Stmt, ...]:
        return guarded(inside(number, count), group(number))

    each = -(-count // threads)
    if direct or each <= TOGETHER:
        return unrolled(names, each, lambda u: one(t + u * threads))
    turns = -(-each // TOGETHER)
    var = names("i")
    turn = loop_index(var, turns)
    body = unrolled(names, TOGETHER, lambda u: one(t + (turn * TOGETHER + u) * threads))
    return (For(var, turns, body),)
