"""Random kernels, native code against the loop interpreter: every access pattern, masks, guards, registers, threads."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.nodes import (
    Apply,
    Buffer,
    Check,
    Const,
    Expr,
    For,
    If,
    Index,
    Kernel,
    LaneReduce,
    Launch,
    Let,
    Load,
    Program,
    Stmt,
    Store,
    Var,
)
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.scalar import SCALAR as S
from vitrify.ir import dims, dtypes
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import DType
from vitrify.runtime.execute import compile_program, run_program

ROWS = dims.Dim("rows", 1, 64)
COLUMNS = 45
DTYPES = [dtypes.f32, dtypes.f64, dtypes.i32, dtypes.i64, dtypes.bf16, dtypes.f16, dtypes.u8, dtypes.bool_]


class Generator:
    """One random kernel: y[i, j] = some expression of x, table and positions, for all i and j."""

    def __init__(self, seed: int, number: int):
        self.random = random.Random(seed)
        self.dtype: DType = self.random.choice(DTYPES[:4] if number % 2 else DTYPES)
        self.x = Buffer(f"x{number}", self.dtype, (ROWS, COLUMNS))
        self.where = Buffer(f"where{number}", dtypes.i64, (COLUMNS,))
        self.y = Buffer(f"y{number}", self.dtype, (ROWS, COLUMNS))
        self.locals: list[Buffer] = []
        self.lets: list[Var] = []

    def kernel(self) -> Kernel:
        i = dims.symbol("i", 0, 63)
        self.row = i
        inner = self.random.choice([self.plain, self.tiled, self.registers, self.reduction, self.staged])()
        outer = For("i", ROWS, inner, self.random.choice(["parallel", "serial"]))
        params = (self.x, self.where, self.y)
        return Kernel(
            "k", params, frozenset({self.y.name}), (outer,), dims.symbols(ROWS), tuple(self.locals), 1 << 16
        )

    # Loop nests over the columns

    def plain(self) -> tuple[Stmt, ...]:
        j = dims.symbol("j", 0, COLUMNS - 1)
        return (For("j", COLUMNS, self.point(j, varying=False)),)

    def tiled(self) -> tuple[Stmt, ...]:
        """Vectors of L lanes, the last one masked."""
        lanes = self.random.choice([4, 8, 16])
        tiles = -(-COLUMNS // lanes)
        j, v = dims.symbol("j", 0, tiles - 1), dims.symbol("v", 0, lanes - 1)
        body = self.point(lanes * j + v, varying=True)
        vector = For("v", dims.minimum(lanes, COLUMNS - lanes * j), body, "vector", lanes)
        return (For("j", tiles, (vector,), self.random.choice(["serial", "unroll"])),)  # type: ignore[arg-type]

    def registers(self) -> tuple[Stmt, ...]:
        """Accumulate over a serial loop in registers, with a vector of 8 lanes and a tail."""
        acc = Buffer("acc", self.dtype, (5, 8), "register")
        self.locals.append(acc)
        u, v, k = dims.symbol("u", 0, 4), dims.symbol("v", 0, 7), dims.symbol("k", 0, 3)
        start = (For("v", 8, (Store(acc, (u, v), self.constant()),), "vector", 8),)
        step = S._apply(self.combine(), Load(acc, (u, v)), Load(self.x, (self.row, 8 * u + v + k)))
        add = (For("v", 8, (Store(acc, (u, v), step),), "vector", 8),)
        finish = (For("v", 8, (Store(self.y, (self.row, 8 * u + v), Load(acc, (u, v))),), "vector", 8),)
        tail = For(
            "v", 5, (Store(self.y, (self.row, 40 + v), Load(self.x, (self.row, 44 - v))),), "vector", 8
        )
        return (
            For("u", 5, start, "unroll"),
            For("k", 4, (For("u", 5, add, "unroll"),)),
            For("u", 5, finish, "unroll"),
            tail,
        )

    def reduction(self) -> tuple[Stmt, ...]:
        """A row's sum over lanes by the fixed tree, then written everywhere."""
        acc = Buffer("acc", self.dtype, (16,), "register")
        self.locals.append(acc)
        j, v, w = dims.symbol("j", 0, 2), dims.symbol("v", 0, 15), dims.symbol("w", 0, 15)
        op = self.combine()
        extent = dims.minimum(16, COLUMNS - 16 * j)
        step = S._apply(op, Load(acc, (v,)), Load(self.x, (self.row, 16 * j + v)))
        total = Let("total", LaneReduce(op, "w", 16, Load(acc, (w,))))
        c = dims.symbol("c", 0, COLUMNS - 1)
        return (
            For("v", 16, (Store(acc, (v,), self.constant()),), "vector", 16),
            For("j", 3, (For("v", extent, (Store(acc, (v,), step),), "vector", 16),)),
            total,
            For("c", COLUMNS, (Store(self.y, (self.row, c), Var("total", self.dtype)),)),
        )

    def staged(self) -> tuple[Stmt, ...]:
        """Through a stack buffer, read back in another order."""
        stage = Buffer("stage", self.dtype, (COLUMNS,), "stack")
        self.locals.append(stage)
        c, j, v = dims.symbol("c", 0, COLUMNS - 1), dims.symbol("j", 0, 5), dims.symbol("v", 0, 7)
        at = 8 * j + v
        read = Load(stage, (COLUMNS - 1 - at,))
        vector = For(
            "v", dims.minimum(8, COLUMNS - 8 * j), (Store(self.y, (self.row, at), read),), "vector", 8
        )
        return (
            For("c", COLUMNS, (Store(stage, (c,), self.expression(c, 2)),)),
            For("j", 6, (vector,)),
        )

    # What happens at a point

    def point(self, column: DimLike, varying: bool) -> tuple[Stmt, ...]:
        kind = self.random.randrange(4)
        if kind == 0:
            return (Store(self.y, (self.row, column), self.expression(column, 3)),)
        if kind == 1:
            condition = self.condition(column)
            return (
                Let("shared", self.expression(column, 2)),
                If(
                    condition,
                    (Store(self.y, (self.row, column), self.with_let("shared", column)),),
                    (Store(self.y, (self.row, column), self.expression(column, 1)),),
                ),
            )
        if kind == 2:  # gather through an index read from memory
            found = Let("found", S.max(0, S.min(COLUMNS - 1, Load(self.where, (column,)))))
            at = dims.symbol("found", 0, COLUMNS - 1)
            value = S._apply(self.combine(), Load(self.x, (self.row, at)), self.expression(column, 1))
            return found, Store(self.y, (self.row, column), value)
        k = dims.symbol("k", 0, 2)  # a serial loop inside
        value = self.access(column - k)
        inside = S.select(_ge(column - k, 0), value, self.constant())
        old = Load(self.y, (self.row, column))
        return (
            Store(self.y, (self.row, column), self.constant()),
            For("k", 3, (Store(self.y, (self.row, column), S._apply(self.combine(), old, inside)),)),
        )

    def with_let(self, name: str, column: DimLike) -> Expr:
        return S._apply(self.combine(), Var(name, self.dtype), self.access(column))

    def expression(self, column: DimLike, depth: int) -> Expr:
        if depth == 0 or self.random.random() < 0.2:
            return self.leaf(column)
        a, b = self.expression(column, depth - 1), self.expression(column, depth - 1)
        if self.random.random() < 0.25:
            return S.select(self.condition(column), a, b)
        return S._apply(self.combine(), a, b)

    def leaf(self, column: DimLike) -> Expr:
        kind = self.random.randrange(4)
        if kind == 0:
            return self.constant()
        if kind == 1:
            return S.cast(
                Index(self.row + 2 * column if self.random.random() < 0.5 else dims.mod(column, 3)),
                self.dtype,
            )
        if kind == 2:
            return self.guarded(column)
        return self.access(column)

    def access(self, column: DimLike) -> Expr:
        """A load that is inside for every column of this row."""
        row = self.random.choice([self.row, 0, ROWS - 1 - self.row])
        where: DimLike = self.random.choice([
            column, COLUMNS - 1 - column, 0, dims.floordiv(column, 2), dims.mod(column * 7 + 3, COLUMNS),
            dims.minimum(column + 2, COLUMNS - 1), dims.mod(column + 5, 8),
        ])  # fmt: skip
        if dims.bounds(where)[0] < 0:  # a column that may lie before the start is guarded by who asks for it
            where = column
        return Load(self.x, (row, where))

    def guarded(self, column: DimLike) -> Expr:
        """A load that happens only where the index is inside."""
        stride = self.random.choice([2, 3, -1, -2, 5, 1])
        shift = self.random.randrange(-3, 4)
        where = stride * column + shift
        inside = S.and_(_ge(where, 0), S.lt(Index(where), Index(COLUMNS)))
        return S.select(inside, Load(self.x, (self.row, where)), self.constant())

    def condition(self, column: DimLike) -> Expr:
        kind = self.random.randrange(3)
        if kind == 0:
            return _ge(column, self.random.randrange(COLUMNS))
        if kind == 1:
            return S.eq(Index(dims.mod(column + self.row, 3)), Index(1))
        return S.lt(self.access(column), self.constant())

    def constant(self) -> Const:
        if self.dtype is dtypes.bool_:
            return Const(self.random.random() < 0.5, self.dtype)
        return Const(self.random.randrange(0, 4), self.dtype)

    def combine(self) -> str:
        if self.dtype is dtypes.bool_:
            return self.random.choice(["and", "or", "xor"][:2])
        return self.random.choice(["add", "max", "min"])


def _ge(a: DimLike, b: DimLike) -> Expr:
    return Apply("ge", (Index(a), Index(b)), dtypes.bool_)


def random_program(seed: int, kernels: int = 6) -> tuple[Program, Callable[[int], list[np.ndarray]]]:
    generators = [Generator(seed * 100 + n, n) for n in range(kernels)]
    launches = []
    for g in generators:
        kernel = g.kernel()
        launches.append(Launch(kernel, kernel.params))
    inputs = [b for g in generators for b in (g.x, g.where)]

    def arrays(rows: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        made = []
        for g in generators:
            made.append(rng.integers(0, 10, (rows, COLUMNS)).astype(g.dtype.numpy))
            made.append(rng.integers(-3, COLUMNS + 3, COLUMNS))
        return made

    program = Program(
        "random", tuple(inputs), tuple(g.y for g in generators), (), tuple(launches), dims.symbols(ROWS)
    )
    return program, arrays


@pytest.mark.parametrize("seed", range(12))
def test_native_equals_interpreter(seed: int) -> None:
    program, arrays = random_program(seed)
    verify_program(program)
    native = compile_program(program)
    for rows, threads in ((1, 1), (5, 1), (23, 2)):
        given = arrays(rows)
        got = run_program(program, given, {"rows": rows}, threads, loaded=native)
        if rows < 23:
            want, _ = interpreter.run_program(program, given, {"rows": rows})
        else:  # more rows than the interpreter is patient for: against one thread
            want = run_program(program, given, {"rows": rows}, 1, loaded=native)
        for number, (a, b) in enumerate(zip(got, want)):
            equal = (a == b) | ((a != a) & (b != b))
            assert equal.all(), (
                f"seed {seed} kernel {number} rows {rows}: {a[~equal][:5]} for {b[~equal][:5]}"
            )


def test_a_failed_check_reports_its_code_and_the_run_goes_on() -> None:
    x, y = Buffer("x", dtypes.i64, (20,)), Buffer("y", dtypes.i64, (20,))
    i, v = dims.symbol("i", 0, 2), dims.symbol("v", 0, 7)
    at = 8 * i + v
    body = (
        Check(S.lt(Load(x, (at,)), 10), 3),
        Store(y, (at,), S.add(Load(x, (at,)), 1)),
    )
    loop = For("i", 3, (For("v", dims.minimum(8, 20 - 8 * i), body, "vector", 8),))
    kernel = Kernel("k", (x, y), frozenset({"y"}), (loop,))
    program = Program("p", (x,), (y,), (), (Launch(kernel, (x, y)),), messages={3: "too large"})
    verify_program(program)
    good = np.arange(20) % 10
    assert (run_program(program, [good])[0] == good + 1).all()
    bad = good.copy()
    bad[19] = 10
    with pytest.raises(RuntimeError, match="too large"):
        run_program(program, [bad])
    assert interpreter.run_program(program, [bad])[1] == 3
