"""What the emitter makes of the same loops for each instruction set, seen in the assembly."""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_llvm_random import random_program

from vitrify.codegen import llvm
from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.nodes import Buffer, Const, For, Kernel, Launch, Load, Program, Store
from vitrify.codegen.loops.verify import verify_kernel
from vitrify.codegen.scalar import SCALAR as S
from vitrify.codegen.target import Target
from vitrify.ir import dims, dtypes
from vitrify.runtime.execute import run_program

F32 = dtypes.f32


def micro_kernel(depth: int, rows: int, vectors: int, lanes: int, unroll: int = 4) -> Kernel:
    """c[rows, vectors * lanes] = a^T b with all of c in registers: the inner loops of a packed GEMM."""
    width = vectors * lanes
    a, b, c = (
        Buffer("a", F32, (depth, rows)),
        Buffer("b", F32, (depth, width)),
        Buffer("c", F32, (rows, width)),
    )
    acc, row = (
        Buffer("acc", F32, (rows, vectors, lanes), "register"),
        Buffer("row", F32, (vectors, lanes), "register"),
    )
    i, j, v = dims.symbol("i", 0, rows - 1), dims.symbol("j", 0, vectors - 1), dims.symbol("v", 0, lanes - 1)
    k = dims.symbol("ko", 0, depth // unroll - 1) * unroll + dims.symbol("ki", 0, unroll - 1)

    def tile(*body: Store) -> For:
        return For(
            "i", rows, (For("j", vectors, (For("v", lanes, body, "vector", lanes),), "unroll"),), "unroll"
        )

    load = For(
        "j",
        vectors,
        (For("v", lanes, (Store(row, (j, v), Load(b, (k, j * lanes + v))),), "vector", lanes),),
        "unroll",
    )
    product = S.fma(Load(a, (k, i)), Load(row, (j, v)), Load(acc, (i, j, v)))
    return Kernel(
        "micro_kernel",
        (a, b, c),
        frozenset({"c"}),
        (
            tile(Store(acc, (i, j, v), Const(0.0, F32))),
            For(
                "ko",
                depth // unroll,
                (For("ki", unroll, (load, tile(Store(acc, (i, j, v), product))), "unroll"),),
            ),
            tile(Store(c, (i, j * lanes + v), Load(acc, (i, j, v)))),
        ),
        (),
        (acc, row),
    )


def program_of(kernel: Kernel) -> Program:
    inputs = tuple(b for b in kernel.params if b.name not in kernel.writes)
    outputs = tuple(b for b in kernel.params if b.name in kernel.writes)
    return Program(kernel.name, inputs, outputs, (), (Launch(kernel, kernel.params),))


def loop_of(assembly: str) -> str:
    """The body of the kernel's first loop: from its label to the branch back to it."""
    label = re.search(r"^(\.LBB0_\d+):", assembly, re.M)
    assert label is not None
    body = assembly[label.end() :]
    back = re.search(rf"^\s+(j\w+|b\.\w+|cb\w+|tb\w+)\s.*{re.escape(label.group(1))}$", body, re.M)
    assert back is not None
    return body[: back.start()]


@pytest.mark.parametrize(
    ("target", "shape", "fma", "register"),
    [
        ("x86-64-avx512", (12, 2, 16), "vfmadd231ps", "%zmm"),
        ("x86-64-avx512", (8, 3, 16), "vfmadd231ps", "%zmm"),
        ("x86-64-avx2", (6, 2, 8), "vfmadd231ps", "%ymm"),
        ("aarch64-neon", (8, 2, 4), "fmla", ".4s"),
    ],
)
def test_micro_kernel_keeps_its_accumulators_in_registers(
    target: str, shape: tuple[int, int, int], fma: str, register: str
) -> None:
    kernel = micro_kernel(64, *shape)
    verify_kernel(kernel)
    machine = Target.named(target)
    (text,) = llvm.emit_program(program_of(kernel), machine)
    loop = loop_of(llvm.assembly(text, machine))
    rows, vectors, _ = shape
    products = [line for line in loop.splitlines() if re.search(r"\bv?fn?ml?add\w*|\bfmla\b", line)]
    assert len(products) == 4 * rows * vectors, loop
    assert all(fma[:6] in line and register in line for line in products)
    assert "%rsp" not in loop and "sp]" not in loop and "[sp" not in loop, loop


def test_micro_kernel_multiplies() -> None:
    kernel = micro_kernel(12, 4, 2, 8)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 4)).astype(np.float32), rng.normal(size=(12, 16)).astype(np.float32)
    (native,) = run_program(program_of(kernel), [a, b])
    (slow,), _ = interpreter.run_program(program_of(kernel), [a, b])
    assert (native == slow).all()
    np.testing.assert_allclose(native, a.T @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-avx2", "x86-64-sse2", "aarch64-neon"])
def test_random_kernels_compile_for_every_target(target: str) -> None:
    program, _ = random_program(3)
    machine = Target.named(target)
    for text in llvm.emit_program(program, machine, instructions=100):
        assert llvm.assembly(text, machine)


def relu(lanes: int) -> Program:
    x, y = Buffer("x", F32, (4096,)), Buffer("y", F32, (4096,))
    i, v = dims.symbol("i", 0, 4096 // lanes - 1), dims.symbol("v", 0, lanes - 1)
    at = (lanes * i + v,)
    body = (For("v", lanes, (Store(y, at, S.max(Load(x, at), 0.0)),), "vector", lanes),)
    return program_of(Kernel("relu", (x, y), frozenset({"y"}), (For("i", 4096 // lanes, body),)))


def test_maximum_with_a_constant_is_one_instruction() -> None:
    machine = Target.named("x86-64-avx512")
    loop = loop_of(llvm.assembly(*llvm.emit_program(relu(16), machine), machine))
    assert len(re.findall(r"\bv\w+ps\b", loop)) == 2, loop  # a maximum from memory and a store


def test_a_broadcast_operand_is_read_by_the_instruction_that_uses_it() -> None:
    a, b, c = Buffer("a", F32, (64,)), Buffer("b", F32, (64, 16)), Buffer("c", F32, (64, 16))
    i, v = dims.symbol("i", 0, 63), dims.symbol("v", 0, 15)
    body = (For("v", 16, (Store(c, (i, v), S.mul(Load(a, (i,)), Load(b, (i, v)))),), "vector", 16),)
    program = program_of(Kernel("scale", (a, b, c), frozenset({"c"}), (For("i", 64, body),)))
    machine = Target.named("x86-64-avx512")
    loop = loop_of(llvm.assembly(*llvm.emit_program(program, machine), machine))
    assert "vbroadcastss" in loop or "{1to16}" in loop
    assert loop.count("%xmm") == 0, loop


def test_stride_two_loads_whole_vectors() -> None:
    x, y = Buffer("x", F32, (64, 32)), Buffer("y", F32, (64, 16))
    i, v = dims.symbol("i", 0, 63), dims.symbol("v", 0, 15)
    body = (
        For("v", 16, (Store(y, (i, v), S.add(Load(x, (i, 2 * v)), Load(x, (i, 2 * v + 1)))),), "vector", 16),
    )
    program = program_of(Kernel("pairs", (x, y), frozenset({"y"}), (For("i", 64, body),)))
    machine = Target.named("x86-64-avx512")
    assert "gather" not in llvm.assembly(*llvm.emit_program(program, machine), machine)


@pytest.mark.parametrize("count", range(1, 8))
def test_the_first_lanes_are_stored_in_pieces_where_masks_are_slow(count: int) -> None:
    x, y = Buffer("x", F32, (8,)), Buffer("y", F32, (8,))
    v = dims.symbol("v", 0, 7)
    kernel = Kernel(
        "tail", (x, y), frozenset({"y"}), (For("v", count, (Store(y, (v,), Load(x, (v,))),), "vector", 8),)
    )
    machine = Target.named("x86-64-avx2")
    text = llvm.assembly(*llvm.emit_program(program_of(kernel), machine), machine)
    assert not re.search(r"vmaskmovps\s+%ymm\d+, %ymm\d+, ", text)
    if Target.host().isa in ("avx2", "avx512"):
        numbers = np.arange(8, dtype=np.float32) + 1
        (stored,) = run_program(program_of(kernel), [numbers], target=machine)
        np.testing.assert_array_equal(stored[:count], numbers[:count])


def test_unknown_target_lists_those_there_are() -> None:
    with pytest.raises(KeyError, match="aarch64-neon"):
        Target.named("z80")


def test_kernels_equal_up_to_names_are_emitted_once() -> None:
    one, two = relu(16).launches[0].kernel, relu(16).launches[0].kernel
    x, y, z = (Buffer(n, F32, (4096,)) for n in "xyz")
    renamed = Kernel("other", two.params, two.writes, two.body)
    program = Program("p", (x,), (y, z), (), (Launch(one, (x, y)), Launch(renamed, (x, z))))
    (text,) = llvm.emit_program(program, Target.host())
    assert text.count("define void") == 1
