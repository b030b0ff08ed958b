"""Whole programs: arena places, symbolic dims, buffers that overlap, modules, threads."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from vitrify.codegen import llvm
from vitrify.codegen.llvm.program import alias_classes
from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.nodes import Buffer, Expr, For, Kernel, Launch, Load, Program, Store
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.scalar import SCALAR as S
from vitrify.codegen.target import Target
from vitrify.ir import dims, dtypes
from vitrify.runtime.execute import compile_program, run_program

F32 = dtypes.f32
BATCH = dims.Dim("batch", 0, 512)
OTHER = dims.Dim("other", 1, 64)
WIDTH = 48
I = dims.symbol("i", 0, 511)
AT = (I, 16 * dims.symbol("j", 0, 2) + dims.symbol("v", 0, 15))


def rowwise(name: str, buffers: tuple[Buffer, ...], written: str, *stores: Store, cost: int = 4096) -> Kernel:
    """Stores for every element of [batch, 48], rows in parallel."""
    vector = For("v", 16, stores, "vector", 16)
    loop = For("i", BATCH, (For("j", 3, (vector,)),), "parallel")
    return Kernel(name, buffers, frozenset(written.split()), (loop,), dims.symbols(BATCH), (), cost)


def unary(name: str, value) -> Kernel:  # type: ignore[no-untyped-def]
    x, y = matrix("x"), matrix("y")
    return rowwise(name, (x, y), "y", Store(y, AT, value(Load(x, AT))))


def matrix(name: str) -> Buffer:
    return Buffer(name, F32, (BATCH, WIDTH))


def chain() -> Program:
    """out = (in + 1) * 2 + in, through two arena buffers whose places depend on the batch."""
    given, out, t, u = matrix("given"), matrix("out"), matrix("t"), matrix("u")
    x, y, z = matrix("x"), matrix("y"), matrix("z")
    add = rowwise("add", (x, y, z), "z", Store(z, AT, S.add(Load(x, AT), Load(y, AT))))
    launches = (
        Launch(unary("increment", lambda e: S.add(e, 1.0)), (given, t)),
        Launch(unary("double", lambda e: S.mul(e, 2.0)), (t, u)),
        Launch(add, (u, given, out)),
    )
    offsets = {"t": 64, "u": 64 + BATCH * WIDTH * 4}
    symbols = (*dims.symbols(OTHER), *dims.symbols(BATCH))
    return Program("chain", (given,), (out,), (t, u), launches, symbols, offsets, 64 + BATCH * WIDTH * 8)


@pytest.mark.parametrize("instructions", [1, 50, 1 << 20])
def test_one_program_serves_every_batch_and_thread_count(instructions: int) -> None:
    program = chain()
    verify_program(program)
    native = compile_program(program, instructions=instructions)
    rng = np.random.default_rng(0)
    for batch in (0, 1, 7, 64, 300):
        given = rng.normal(size=(batch, WIDTH)).astype(np.float32)
        bindings = {"batch": batch, "other": 5}
        results = [
            run_program(program, [given], bindings, threads, loaded=native)[0] for threads in (1, 2, 3)
        ]
        assert all((r == results[0]).all() for r in results)
        assert (results[0] == (given + 1) * 2 + given).all()
    small = rng.normal(size=(2, WIDTH)).astype(np.float32)
    (slow,), _ = interpreter.run_program(program, [small], {"batch": 2, "other": 5})
    assert (slow == (small + 1) * 2 + small).all()


def test_a_donated_input_is_written_in_place() -> None:
    """x' = x + y and y' = x' * 2, both over their inputs."""
    x, y = matrix("x"), matrix("y")
    p, q, r = matrix("p"), matrix("q"), matrix("r")
    add = rowwise("add", (p, q, r), "r", Store(r, AT, S.add(Load(p, AT), Load(q, AT))))
    launches = (Launch(add, (x, y, x)), Launch(unary("double", lambda e: S.mul(e, 2.0)), (x, y)))
    program = Program("step", (x, y), (x, y), (), launches, dims.symbols(BATCH))
    verify_program(program)
    a, b = np.ones((5, WIDTH), np.float32), np.full((5, WIDTH), 3, np.float32)
    new_x, new_y = run_program(program, [a, b], {"batch": 5})
    assert (new_x == 4).all() and (new_y == 8).all()
    assert (a == 1).all(), "run_program copies what it donates"


def test_params_over_the_same_memory_are_not_taken_for_distinct() -> None:
    """Two outputs, the first of them over the input: the second must see the old values of the row it reads."""
    x, y, z = matrix("x"), matrix("y"), matrix("z")

    def body(first: Buffer) -> tuple[Store, Store]:
        old: Expr = Load(x, AT)
        return Store(z, AT, S.mul(old, 10.0)), Store(first, AT, S.add(old, 1.0))

    kernel = rowwise("both", (x, y, z), "y z", *body(y))
    program = Program("p", (x,), (x, z), (), (Launch(kernel, (x, x, z)),), dims.symbols(BATCH))
    assert alias_classes(program, program.launches[0]) == (0, 0, 1)
    given = np.arange(4 * WIDTH, dtype=np.float32).reshape(4, WIDTH)
    new, tenfold = run_program(program, [given], {"batch": 4})
    assert (new == given + 1).all() and (tenfold == given * 10).all()


def test_arena_buffers_are_distinct_where_their_places_are() -> None:
    program = chain()
    assert alias_classes(program, program.launches[1]) == (0, 1)
    shared = Program(
        "p", program.inputs, program.outputs, program.arena, program.launches, program.dims,
        {"t": 0, "u": 64}, program.arena_bytes,
    )  # fmt: skip
    assert alias_classes(shared, shared.launches[1]) == (0, 0)


def test_a_buffer_without_a_place_is_an_error() -> None:
    lost = matrix("lost")
    program = Program("p", (), (), (), (Launch(unary("k", lambda e: e), (lost, lost)),), dims.symbols(BATCH))
    with pytest.raises(ValueError, match=r"p: lost: f32\[batch,48\] global is no input"):
        list(llvm.emit_program(program, Target.host()))


def test_small_launches_never_ask_the_pool() -> None:
    x, y = Buffer("x", F32, (64,)), Buffer("y", F32, (64,))
    i = dims.symbol("i", 0, 63)
    loop = For("i", 64, (Store(y, (i,), S.add(Load(x, (i,)), 1.0)),), "parallel")
    kernel = Kernel("k", (x, y), frozenset({"y"}), (loop,), cost=8)
    (text,) = llvm.emit_program(Program("p", (x,), (y,), (), (Launch(kernel, (x, y)),)), Target.host())
    assert "call void @vitrify_pool_run" not in text


def test_the_text_does_not_depend_on_the_run() -> None:
    first, again = (list(llvm.emit_program(chain(), Target.host(), instructions=50)) for _ in range(2))
    assert first == again and len(first) > 1


def test_modules_refer_to_each_others_kernels() -> None:
    texts = list(llvm.emit_program(chain(), Target.host(), instructions=1))
    defined = [set(re.findall(r"define void @(kernel_\d+)", t)) for t in texts]
    assert [len(d) for d in defined] == [1, 1, 1, 0]
    assert set(re.findall(r"declare void @(kernel_\d+)", texts[-1])) == defined[0] | defined[1] | defined[2]


def test_inputs_are_checked() -> None:
    program = chain()
    with pytest.raises(ValueError, match="takes 1 inputs, got 0"):
        run_program(program, [], {"batch": 1, "other": 1})
    with pytest.raises(ValueError, match=r"got float64\[1, 48\], wanted \[1, 48\]"):
        run_program(program, [np.zeros((1, WIDTH))], {"batch": 1, "other": 1})


def test_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile_program(chain())
