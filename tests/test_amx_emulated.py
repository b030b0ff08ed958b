"""Contractions in x86's tile registers (AMX) as machine code, the instructions emulated, and real where there are any.

What is left to vectors needs AVX512-BF16 and VNNI.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from amx_emulation import AMX, compile_emulated, emulated_text
from contractions import close, group, in_double, lowered, operands_of
from test_lower_amx import INTEGERS, TRANSPOSES, tiles  # noqa: F401  (a fixture)
from test_lower_gemm import matrices
from test_lower_words import convolution, extreme_operands, integers

from vitrify.codegen.llvm.compile import assembly
from vitrify.codegen.llvm.program import emit_program
from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.nodes import (
    Buffer,
    ClearTile,
    For,
    Kernel,
    Launch,
    Load,
    LoadTile,
    MultiplyWords,
    Program,
    Store,
    StoreTile,
)
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.lower import LowerOptions, lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dims, dtypes
from vitrify.ir import interpreter as ir_interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.runtime import kernel_times, peaks
from vitrify.runtime.execute import compile_program, run_program

HOST = Target.host()
VECTORS = pytest.mark.skipif(
    not (HOST.has("avx512bf16") and HOST.has("avx512vnni")), reason="needs AVX512-BF16 and VNNI"
)
REAL = HOST.has_tiles("dot_bf16") and HOST.has_tiles("dot_u8i8")


def loaded(program: Program, how: str):
    if how == "emulated":
        return compile_emulated(program)
    if not REAL:
        pytest.skip("this processor or system has no AMX")
    return compile_program(program, AMX)


WAYS = pytest.mark.parametrize("how", ["emulated", "real"])


def check(graph, how, bindings=({},), depth=100, operands=operands_of, program=None) -> Program:
    """The group in tiles gives what NumPy gives, the same bits on every number of threads."""
    program = program or lowered(graph, AMX.name)
    assert any("in tile registers" in x.kernel.comment for x in program.launches)
    native = loaded(program, how)
    for bound in bindings:
        inputs = operands(graph, bound)
        (want,) = ir_interpreter.run(graph, inputs, bound)
        (got,), *others = (run_program(program, inputs, bound, threads=n, loaded=native) for n in (1, 2, 3))
        close(got, want, in_double(graph, inputs, bound)[0], depth)
        for (other,) in others:
            assert got.tobytes() == other.tobytes(), "the thread count changed bits"
    return program


@VECTORS
@WAYS
@pytest.mark.parametrize("transposed", TRANSPOSES, ids=str)
def test_products_of_bfloat16(how, transposed):
    sizes = (64, 64, 64), (33, 70, 47), (17, 128, 33), (48, 256, 130), (200, 96, 200), (40, 33, 40)
    for size in sizes:
        check(matrices(*size, dtypes.bf16, left=transposed[0], right=transposed[1]), how, depth=size[1])


@VECTORS
@WAYS
@pytest.mark.parametrize("types", INTEGERS, ids=str)
def test_products_of_integers(how, types):
    for transposed in (False, True):
        for size in ((65, 256, 70), (47, 270, 33), (64, 64, 64)):
            check(integers(*size, *types, transposed=transposed), how, operands=extreme_operands)


@VECTORS
@WAYS
def test_symbolic_dims(how):
    n = Dim("n", 0, 300)
    bindings = [{"n": size} for size in (0, 1, 4, 16, 31, 33, 67, 300)]
    for size in ((n, 100, 70), (100, 70, n), (100, n, 70)):
        for transposed in (False, True):
            check(matrices(*size, dtypes.bf16, left=transposed, right=not transposed), how, bindings)
    check(integers(n, 64, 70, *INTEGERS[2]), how, bindings, operands=extreme_operands)


@VECTORS
@WAYS
def test_a_batch_a_bias_and_a_residual(how):
    types = [TensorType(s, dtypes.bf16) for s in ((3, 40, 72), (72, 50), (50,), (3, 40, 50))]

    def make(F, x, w, bias, residual):
        wide = [F.convert(v, dtype=dtypes.f32) for v in (x, w, bias, residual)]
        return F.add(F.maximum(F.add(F.matmul(*wide[:2]), wide[2]), wide[3]), wide[3])

    check(group(types, make), how)
    types = [TensorType(s, dtypes.bf16) for s in ((3, 40, 72), (3, 72, 50))]
    check(group(types, lambda F, x, y: F.matmul(x, y)), how)


@VECTORS
@WAYS
@pytest.mark.parametrize("kind", ["conv", "conv_input_grad", "conv_weight_grad"])
def test_convolutions(how, kind):
    outputs = 64 if kind == "conv_input_grad" else 40  # of 40, words beside the steps take too long
    check(convolution(((2, 64, 20, 20), (outputs, 64, 1, 1), 1, 0, 1, 1), kind), how, depth=800)
    check(convolution(((2, 64, 12, 36), (outputs, 64, 3, 3), 1, 1, 1, 1), kind), how, depth=900)


@VECTORS
@WAYS
def test_weights_that_stay_are_packed_once(how):
    graph = matrices(64, 96, 80, dtypes.bf16, left=True, right=True)
    steady = frozenset(v.name for v in graph.inputs[1:])
    program = lower_graph(graph, AMX, LowerOptions(steady_inputs=steady))
    verify_program(program)
    assert program.preparing
    check(graph, how, program=program)


@VECTORS
@pytest.mark.parametrize("op", ["dot_bf16", "dot_u8i8"])
@pytest.mark.parametrize("swapped", [False, True])
@WAYS
def test_instructions_are_to_the_bit_what_the_interpreter_says(how, op, swapped):
    program = one_product(op, swapped)
    verify_program(program)
    native = loaded(program, how)
    rng = np.random.default_rng(7)
    for _ in range(4):
        words = [rng.integers(0, 1 << 32, (16, 24), np.uint32) for _ in range(2)]
        if op == "dot_bf16":
            numbers = rng.standard_normal((2, 16, 24, 2)) * 2.0 ** rng.integers(-60, 20, (2, 16, 24, 2))
            numbers[rng.random(numbers.shape) < 0.02] = 1e-39
            words = list(numbers.astype(np.float32).astype(dtypes.bf16.numpy).view(np.uint32)[..., 0])
        (want,), _ = interpreter.run_program(program, words)
        (got,) = run_program(program, words, loaded=native)
        assert got.tobytes() == want.tobytes()


def one_product(op: str, swapped: bool) -> Program:
    """The product of two tiles with itself added."""
    dtype = dtypes.f32 if op == "dot_bf16" else dtypes.i32
    a, b, out = (
        Buffer("a", dtypes.u32, (16, 24)),
        Buffer("b", dtypes.u32, (16, 24)),
        Buffer("y", dtype, (256,)),
    )
    sums, words = Buffer("sums", dtype, (16, 16), "tile"), Buffer("words", dtypes.u32, (2, 16, 16), "tile")
    kept = Buffer("kept", dtype, (256,), "stack")
    left, right, total = Load(words, (0, 0, 0)), Load(words, (1, 0, 0)), Load(sums, (0, 0))
    i, lane = dims.symbol("i", 0, 15) * 16, dims.symbol("l", 0, 15)
    copied = For("l", 16, (Store(out, (i + lane,), Load(kept, (i + lane,))),), "vector", 16)
    body = (
        ClearTile(total),
        LoadTile(left, Load(a, (0, 3)), 24),
        LoadTile(right, Load(b, (0, 8)), 24),
        MultiplyWords(total, left, right, op, swapped),
        MultiplyWords(total, left, right, op, swapped),
        StoreTile(Load(kept, (0,)), total, 16),
        For("i", 16, (copied,)),
    )
    kernel = Kernel("product", (a, b, out), frozenset({"y"}), body, (), (sums, words, kept))
    return Program("product", (a, b), (out,), (), (Launch(kernel, (a, b, out)),))


@VECTORS
@pytest.mark.parametrize("op", ["dot_bf16", "dot_u8i8"])
@WAYS
def test_the_program_behind_the_peak_adds_up_products(how, op):
    program = peaks.tile_program(op, rounds=3)
    verify_program(program)
    ones = np.full(512, 0x3F803F80 if op == "dot_bf16" else 0x01010101, np.uint32)
    (got,) = run_program(program, [ones], loaded=loaded(program, how), threads=2)
    assert (got == 3 * 16 * (2 if op == "dot_bf16" else 4)).all()
    assert kernel_times.peak_dtype(program.launches[0]) == ("bf16" if op == "dot_bf16" else "i8")


@VECTORS
def test_the_emulation_notices_tiles_that_are_not_configured():
    program = one_product("dot_bf16", False)
    words = [np.full((16, 24), 0x3F803F80, np.uint32)] * 2  # ones
    assert (run_program(program, words, loaded=compile_emulated(program))[0] == 64).all()
    release = "call void @llvm.x86.tilerelease()\n"

    def early(text: str) -> str:
        store = text.index("call void @llvm.x86.tilestored64")
        return text[:store] + release + text[store:].replace(release, "")

    def another(text: str) -> str:
        return re.sub(r"(@tile_config = .*?c\")\\01", r"\1\\00", text)

    for change in (early, another):
        (got,) = run_program(program, words, loaded=compile_emulated(program, change))
        assert np.isnan(got).all()
    (text,) = emit_program(program, AMX)
    late = emulated_text(re.sub(r"call void @llvm.x86.ldtilecfg.*\n", "", text))
    assert "%tiles" in late and "%tiles = " not in late  # which LLVM refuses


@pytest.mark.parametrize(
    ("left", "instruction"), [(dtypes.u8, "tdpbusd"), (dtypes.i8, "tdpbsud"), (None, "tdpbf16ps")]
)
def test_assembly(left, instruction):
    """The instructions, one configuration, and no tile that is saved besides the block's."""
    graph = matrices(128, 256, 128, dtypes.bf16)
    if left is not None:
        graph = integers(128, 256, 128, left, dtypes.i8 if left is dtypes.u8 else dtypes.u8)
    (text,) = emit_program(lowered(graph, AMX.name), AMX)
    spr = Target("spr", AMX.triple, "sapphirerapids", "", "avx512", 64, 32)
    for target in (AMX, spr):
        code = assembly(text, target)
        count = {
            n: len(re.findall(rf"^\t{n}\b", code, re.M))
            for n in (instruction, "tileloadd", "tileloaddt1", "tilestored")
        }
        loads = count.pop("tileloadd"), count.pop("tileloaddt1")
        assert count == {instruction: 4, "tilestored": 4} and loads in (
            (2, 2),
            (4, 1),
        )  # 2 x 2 tiles, or 1 x 4
        for name in ("ldtilecfg", "tilerelease"):
            assert len(re.findall(rf"^\t{name}\b", code, re.M)) == 1
