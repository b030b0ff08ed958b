"""The loop IR's rules: what the verifier refuses and says, what the printer writes, what the interpreter
notices."""

from __future__ import annotations

import re
from dataclasses import replace

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
from vitrify.codegen.loops.printer import print_expr, print_kernel, print_program
from vitrify.codegen.loops.verify import LoopError, verify_kernel, verify_program
from vitrify.codegen.scalar import SCALAR as S
from vitrify.ir import dims, dtypes

F32, I64 = dtypes.f32, dtypes.i64
X = Buffer("x", F32, (4, 40))
Y = Buffer("y", F32, (4, 40))
ACC = Buffer("acc", F32, (2, 16), "register")
I, J, V = dims.symbol("i", 0, 3), dims.symbol("j", 0, 2), dims.symbol("v", 0, 15)
AT = (I, 16 * J + V)
TAIL = dims.minimum(16, 40 - 16 * J)


def kernel(*body: Stmt, **changes: object) -> Kernel:
    made = Kernel("k", (X, Y), frozenset({"y"}), body, (), (ACC,))
    return replace(made, **changes)  # type: ignore[arg-type]


def rows(*body: Stmt) -> For:
    return For("i", 4, body, "parallel")


def tiles(*body: Stmt) -> For:
    return For("j", 3, (For("v", TAIL, body, "vector", 16),))


def copy(value: Expr) -> Store:
    return Store(Y, AT, value)


GOOD = kernel(rows(tiles(copy(S.max(0.0, Load(X, AT))))))

GOLDEN = """\
# rectified rows
kernel k(x: f32[4,40], y: f32[4,40] written) cost 40 {
  register acc: f32[2,16]
  for i in 0..4 parallel {
    let scale: f32 = add(x[i, 0], 1.0:f32)
    check lt(index(i), 3:i64) else 7
    for j in 0..3 {
      for v in 0..min(-16*j+40, 16) vector 16 {
        t0 := mul(x[i, 16*j+v], scale)
        y[i, 16*j+v] = select(gt(t0, 0.0:f32), t0, cast.f32(index(i)))
      }
    }
    if eq(index(i), 0:i64) {
      y[i, 0] = lanes add over w in 0..16 of (acc[1, w])
    } else {
      y[i, 1] = -0.5:f32
    }
  }
}
"""


def golden_kernel() -> Kernel:
    scaled = S.mul(Load(X, AT), Var("scale", F32))
    w = dims.symbol("w", 0, 15)
    return kernel(
        rows(
            Let("scale", S.add(Load(X, (I, 0)), 1.0)),
            Check(S.lt(Index(I), 3), 7),
            tiles(copy(S.select(S.gt(scaled, 0.0), scaled, S.cast(Index(I), F32)))),
            If(
                S.eq(Index(I), 0),
                (Store(Y, (I, 0), LaneReduce("add", "w", 16, Load(ACC, (1, w)))),),
                (Store(Y, (I, 1), Const(-0.5, F32)),),
            ),
        ),
        cost=40,
        comment="rectified rows",
    )


def test_a_kernel_prints() -> None:
    assert print_kernel(golden_kernel()) == GOLDEN
    verify_kernel(golden_kernel())


def test_a_program_prints_its_buffers_launches_and_kernels() -> None:
    t = Buffer("t", F32, (4, 40))
    launches = (Launch(GOOD, (X, t), "relu_0", 160, 1280), Launch(GOOD, (t, Y)))
    program = Program("p", (X,), (Y,), (t,), launches, (), {"t": 64}, 704)
    verify_program(program)
    assert print_program(program).startswith("""\
program p {
  input x: f32[4,40]
  output y: f32[4,40]
  arena t: f32[4,40] at 64
  arena_bytes 704
  k(x, t)  # relu_0; flops 160; bytes 1280
  k(t, y)
}

kernel k(""")


def refused(rule: str, *body: Stmt, **changes: object) -> None:
    with pytest.raises(LoopError, match=re.escape(rule)) as caught:
        verify_kernel(kernel(*body, **changes))
    assert "kernel k: " in str(caught.value)


def test_the_verifier_accepts_a_good_kernel() -> None:
    verify_kernel(GOOD)


def test_names() -> None:
    refused(
        "'v' in the index v is no loop variable, dim or i64 let in scope",
        rows(Store(Y, (I, V), Const(0.0, F32))),
    )
    refused("no let of 'a' with dtype f32 is in scope", rows(Store(Y, (I, 0), Var("a", F32))))
    refused("the name 'i' is already bound here", rows(For("i", 3, ())))
    refused("the name 'a' is already bound here", rows(*[Let("a", Const(0.0, F32))] * 2))
    refused("two buffers are called 'x'", params=(X, X))
    refused("it is said to write 'z', which is no param", writes=frozenset({"z"}))


def test_accesses() -> None:
    zero = Const(0.0, F32)
    refused("1 indices for y: f32[4,40] global", rows(Store(Y, (I,), zero)))
    refused("index 40 is outside y", rows(Store(Y, (I, 40), zero)))
    refused("x is not among the params that the kernel says it writes", rows(Store(X, (I, 0), zero)))
    refused("a value of dtype f64 for y", rows(Store(Y, (I, 0), Const(0.0, dtypes.f64))))
    refused("neither a param nor a local", rows(Store(Buffer("z", F32, (4, 40)), (I, 0), zero)))
    error = "every lane of v writes its own value to one element of y"
    refused(error, rows(tiles(Store(Y, (I, 0), Load(X, AT)))))


def test_loops() -> None:
    refused("a parallel loop must be the kernel's whole body", rows(For("j", 3, (), "parallel")))
    refused("an unroll loop's extent must be a constant", rows(For("j", I, (), "unroll")))
    refused("it is inside the vector loop v", rows(tiles(For("w", 4, (), "vector", 4))))
    refused("the extent 17 is not provably at most the 16 lanes", rows(For("v", 17, (), "vector", 16)))
    refused("the extent v differs between the lanes of v", rows(tiles(For("k", V, ()))))


def test_register_buffers() -> None:
    zero = Const(0.0, F32)
    refused("its index i must be a constant once unrolled", rows(Store(ACC, (I, 0), zero)))
    refused("the vector loop's v must be the last index, alone", rows(tiles(Store(ACC, (0, V + 1), zero))))
    refused(
        "acc: its last dim, 16, is not the 8 lanes",
        rows(For("v", 8, (Store(ACC, (0, V), zero),), "vector", 8)),
    )
    refused("a vector loop has 1 to 128 lanes, not 256", rows(For("v", 256, (), "vector", 256)))
    refused(
        "the local acc: f32[2,i] register must have a constant shape",
        locals=(Buffer("acc", F32, (2, I), "register"),),
    )


def test_operations() -> None:
    x = Load(X, (I, 0))
    refused("unknown scalar operation 'sinh'", rows(Store(Y, (I, 0), Apply("sinh", (x,), F32))))
    refused("add takes 2 arguments, got 1", rows(Store(Y, (I, 0), Apply("add", (x,), F32))))
    refused("add of f32 and f64", rows(Store(Y, (I, 0), Apply("add", (x, Const(1, dtypes.f64)), F32))))
    refused("lt of f32 gives bool, not f32", rows(Store(Y, (I, 0), Apply("lt", (x, x), F32))))
    refused("select on a condition of dtype f32", rows(Store(Y, (I, 0), Apply("select", (x, x, x), F32))))
    refused("shl has no meaning on f32", rows(Store(Y, (I, 0), S.shl(x, 1))))
    refused("the condition is f32, not bool", rows(If(x, ())))
    refused("bitcast from f32 to i64: the sizes differ", rows(Let("a", S.bitcast(x, I64))))
    refused("12 lanes: the number must be a power of two", rows(Let("a", LaneReduce("add", "w", 12, x))))
    refused("lanes cannot be combined by 'sub'", rows(Let("a", LaneReduce("sub", "w", 8, x))))
    refused("codes are positive", rows(Check(S.lt(x, 1.0), 0)))


def test_the_error_quotes_the_statement() -> None:
    with pytest.raises(LoopError, match=r"in: y\[i, 0\] = a"):
        verify_kernel(kernel(rows(Store(Y, (I, 0), Var("a", F32)))))


def test_programs() -> None:
    t = Buffer("t", F32, (4, 40))
    good = Program("p", (X,), (Y,), (), (Launch(GOOD, (X, Y)),))
    verify_program(good)
    cases: list[tuple[str, dict[str, object]]] = [
        ("1 arguments for 2 params", {"launches": (Launch(GOOD, (X,)),)}),
        ("t: f32[4,40] global is no input, output or arena buffer", {"launches": (Launch(GOOD, (X, t)),)}),
        ("t: f32[4,40] global has no offset", {"arena": (t,)}),
        ("reaches past the arena's end", {"arena": (t,), "offsets": {"t": 0}, "arena_bytes": 100}),
        ("it writes the input x, which is no output", {"launches": (Launch(GOOD, (Y, X)),)}),
        ("for the param y", {"outputs": (Y, Buffer("z", F32, (3,))), "launches": None}),
    ]
    for rule, changes in cases:
        if changes.get("launches", 0) is None:
            changes["launches"] = (Launch(GOOD, (X, changes["outputs"][1])),)  # type: ignore[index]
        with pytest.raises(LoopError, match=re.escape(rule)):
            verify_program(replace(good, **changes))  # type: ignore[arg-type]
    checked = kernel(rows(Check(S.lt(Load(X, (I, 0)), 1.0), 4)), writes=frozenset())
    with pytest.raises(LoopError, match="check code 4 has no message"):
        verify_program(replace(good, launches=(Launch(checked, (X, Y)),)))


def run(body: Stmt, **changes: object) -> np.ndarray:
    x = np.arange(160, dtype=np.float32).reshape(4, 40)
    y = np.zeros_like(x)
    interpreter.run_kernel(kernel(body, **changes), [x, y])
    return y


def test_the_interpreter_runs_a_kernel() -> None:
    assert (run(rows(tiles(copy(S.add(Load(X, AT), 1.0))))) == np.arange(1, 161).reshape(4, 40)).all()


def test_the_interpreter_notices_what_native_code_trusts() -> None:
    with pytest.raises(LoopError, match=r"x\[0, 40\] is outside its shape \[4, 40\](.|\n)*at: .*v=15"):
        run(rows(tiles(copy(Load(X, (I, 16 * J + V + 25))))))
    with pytest.raises(LoopError, match="acc\\[0, 0\\] is read before it is written"):
        run(rows(tiles(copy(Load(ACC, (0, V))))))
    narrow = dims.symbol("i", 0, 1)
    with pytest.raises(LoopError, match=re.escape("i is 2, declared to be in 0..=1")):
        run(rows(Store(Y, (narrow, 0), Const(0.0, F32))))
    with pytest.raises(LoopError, match=re.escape("vector extent -1 is outside 0..16")):
        zero = Store(Y, (I, V), Const(0.0, F32))
        run(rows(For("v", dims.minimum(16, 2 - I), (zero,), "vector", 16)))


def test_a_select_on_indices_guards_its_loads_and_one_on_data_does_not() -> None:
    shifted = 16 * J + V - 3
    inside = S.ge(Index(shifted), 0)
    y = run(rows(tiles(copy(S.select(inside, Load(X, (I, shifted)), -1.0)))))
    assert (y[:, :3] == -1).all() and (y[:, 3:] == np.arange(160).reshape(4, 40)[:, :-3]).all()
    with pytest.raises(LoopError, match="is outside its shape"):
        run(rows(tiles(copy(S.select(S.gt(Load(X, AT), 1e9), Load(X, (I, shifted)), -1.0)))))


def test_lanes_are_combined_as_a_tree() -> None:
    values = np.array([1e8, 1, -1e8, 1, 0, 0, 0, 0], np.float32)
    x, y = Buffer("x", F32, (8,)), Buffer("y", F32, (1,))
    w = dims.symbol("w", 0, 7)
    reduce = Kernel(
        "r", (x, y), frozenset({"y"}), (Store(y, (0,), LaneReduce("add", "w", 8, Load(x, (w,)))),)
    )
    out = np.zeros(1, np.float32)
    interpreter.run_kernel(reduce, [values, out])
    assert out[0] == 2  # (1e8 + -1e8) + (1 + 1); from left to right it would be 1


def test_expressions_print_as_trees() -> None:
    assert print_expr(S.add(Load(X, (I, 3)), 2.0)) == "add(x[i, 3], 2.0:f32)"
