"""Contractions for cores with sixteen vector registers and two multiply-adds a cycle: what is in registers at once, what
is spilled, what is fetched ahead, which words 8-bit integers go in."""

from __future__ import annotations

import re

import numpy as np
import pytest
from contractions import interpret, lowered
from test_lower_gates import layer
from test_lower_gemm import matrices
from test_lower_words import convolution, extreme_operands, integers

from vitrify.codegen import llvm
from vitrify.codegen.loops.nodes import Prefetch
from vitrify.codegen.loops.walk import statements
from vitrify.codegen.lower.contraction_cycles import Core, live_operands
from vitrify.codegen.lower.program import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dtypes
from vitrify.ir import interpreter as ir_interpreter
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.runtime.execute import compile_program, run_program

AVX2, AVX512 = "x86-64-avx2", "x86-64-avx512"
RUNS_AVX2 = pytest.mark.skipif(Target.host().isa not in ("avx2", "avx512"), reason="needs AVX2")


def test_what_a_tile_holds_of_its_operands():
    """Of rows times vectors: the vectors, each read by all rows, and one broadcast at a time."""
    assert live_operands((6,), (False,), (True,), 2, folding=False) == 3
    assert live_operands((4,), (False,), (True,), 3, folding=False) == 4
    assert live_operands((14,), (False,), (True,), 1, folding=False) == 2
    assert live_operands((28,), (False,), (True,), 1, folding=True) == 1
    # A row of its own for each vector: nothing is read twice but the broadcasts.
    assert live_operands((4,), (True,), (False,), 2, folding=False) == 1


def test_cores():
    avx2, avx512 = (Core.of(Target.named(name), dtypes.f32) for name in (AVX2, AVX512))
    assert (avx2.lanes, avx2.registers, avx2.per_cycle, avx2.folding) == (8, 16, 2, False)
    assert (avx512.lanes, avx512.registers, avx512.per_cycle, avx512.folding) == (16, 32, 1, True)


def spilled(program, target: str) -> list[str]:
    """The lines of the longest run of multiply-adds that load a vector from the stack or store one."""
    machine = Target.named(target)
    text = llvm.assembly(*llvm.emit_program(program, machine), machine)
    best: list[str] = []
    for block in re.split(r"^\.LBB\d+_\d+:", text, flags=re.M):
        if block.count("vfmadd") > sum("vfmadd" in line for line in best):
            best = block[: block.rindex("vfmadd")].splitlines()
    return [line for line in best if "(%rsp" in line and "ymm" in line]


@pytest.mark.parametrize(
    "graph",
    [
        matrices(512, 512, 512),
        matrices(512, 512, 512, left=True, right=True),
        convolution(((2, 64, 28, 28), (64, 64, 3, 3), 2, 1, 1, 1), dtype=dtypes.f32),
        convolution(((1, 64, 28, 28), (64, 64, 3, 3), 1, 1, 1, 1), "conv_weight_grad", dtypes.f32),
    ],
    ids=["NN", "TT", "strided", "weight gradient"],
)
def test_no_sum_is_spilled(graph):
    assert spilled(lowered(graph, AVX2), AVX2) == []


@pytest.mark.parametrize(
    ("size", "packed"),
    [
        ((1, 256, 256), False),  # each weight is read once
        ((1, 1024, 1024), False),
        ((4, 1024, 1024), False),
        ((64, 64, 64), False),  # all stays near as it lies
        ((128, 128, 128), True),
        ((192, 192, 192), True),
        ((512, 512, 512), True),
    ],
    ids=str,
)
def test_packing_has_to_be_worth_it(size, packed):
    program = lowered(matrices(*size), AVX2)
    assert ("right packed" in program.launches[-1].kernel.comment) == packed


def test_what_each_step_takes_a_line_of_is_packed():
    """Channels of 7x7 lie 196 bytes apart: five places of each are a line, or two."""
    case = ((1, 320, 7, 7), (160, 320, 1, 1), 1, 0, 1, 1)
    comment = lowered(convolution(case, dtype=dtypes.f32), AVX2).launches[-1].kernel.comment
    assert all(each in comment for each in ("tile x=5", "left packed along x", "right packed along o"))


def test_rows_of_a_depthwise_convolution_are_walked_along():
    """And whole images are a task's, which copies them with their border when their turn comes."""
    case = ((1, 32, 112, 112), (32, 1, 3, 3), 1, 1, 1, 32)
    (launch,) = lowered(convolution(case, dtype=dtypes.f32), AVX2).launches
    assert "order g y x; tasks of g=1;" in launch.kernel.comment


@pytest.mark.parametrize(("target", "order"), [(AVX2, "u g m"), (AVX512, "u m g")], ids=str)
def test_gates_and_what_is_read_with_them_fit_in_registers(target, order):
    fused = run_pipeline(layer("lstm", 16, 64), default_pipeline())[-1]
    program = lower_graph(fused, Target.named(target))
    (gates,) = [x.kernel for x in program.launches if x.kernel.name == "gates"]
    assert f"order {order};" in gates.comment


IMAGES = ((1, 64, 57, 57), (32, 64, 3, 3), 2, 1, 1, 1)


def fetches(program) -> int:
    return sum(isinstance(stmt, Prefetch) for x in program.launches for stmt in statements(x.kernel.body))


def test_rows_of_an_image_are_fetched_ahead_where_weights_push_them_out():
    graph = convolution(IMAGES, dtype=dtypes.f32)
    assert fetches(lowered(graph, AVX2)) > 0
    assert fetches(lowered(graph, AVX512)) == 0
    # All that a tile reads of these stays near.
    assert (
        fetches(lowered(convolution(((1, 4, 9, 9), (8, 4, 3, 3), 2, 1, 1, 1), dtype=dtypes.f32), AVX2)) == 0
    )


@RUNS_AVX2
@pytest.mark.parametrize(
    ("kind", "case"),
    [
        ("conv", ((1, 96, 15, 21), (160, 96, 3, 3), 2, 1, 1, 1)),
        ("conv_input_grad", ((1, 3, 40, 38), (96, 3, 7, 7), 2, 3, 1, 1)),
    ],
)
def test_fetches_ahead_change_nothing(kind, case):
    graph = convolution(case, kind, dtypes.f32)
    program = lowered(graph, AVX2)
    assert fetches(program) > 0
    inputs = extreme_inputs(graph)
    (want,) = ir_interpreter.run(graph, inputs, {})
    (got,) = run_program(program, inputs, target=Target.named(AVX2))
    np.testing.assert_allclose(got, want, atol=2e-3)


def extreme_inputs(graph):
    rng = np.random.default_rng(5)
    return [rng.standard_normal([int(d) for d in v.type.shape]).astype(np.float32) for v in graph.inputs]


# 8-bit integers in words.


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    "types", [(a, b) for a in (dtypes.u8, dtypes.i8) for b in (dtypes.u8, dtypes.i8)], ids=str
)
@pytest.mark.parametrize("size", [(33, 70, 50), (1, 1024, 64), (65, 257, 70), (3, 4096, 5)], ids=str)
def test_integers_in_pairs(types, size):
    """Of any two kinds, whose products are exact; the last word is filled with a zero."""
    for target in (AVX2, AVX512, "x86-64-sse2"):
        for transposed in (False, True):
            graph = integers(*size, *types, transposed=transposed)
            program, inputs = lowered(graph, target), extreme_operands(graph)
            if size == (33, 70, 50):
                assert "in words by dot_i16" in " ".join(x.kernel.comment for x in program.launches)
            if target == AVX512 and Target.host().isa != "avx512":
                continue
            (want,) = ir_interpreter.run(graph, inputs, {})
            loaded = compile_program(program, Target.named(target))
            for threads in (1, 2):
                (got,) = run_program(program, inputs, threads=threads, loaded=loaded)
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [(5, 3, 18), (9, 8, 5), (17, 12, 33)], ids=str)
def test_integers_in_pairs_under_the_loop_interpreter(size):
    for types in ((dtypes.u8, dtypes.i8), (dtypes.i8, dtypes.i8)):
        interpret(integers(*size, *types), AVX2)


def test_fours_where_a_processor_with_avx2_has_the_instruction():
    """AVX-VNNI: laptops without AVX-512."""
    target = "x86-64-avx2-dot"
    program = lowered(integers(64, 256, 64), target)
    assert "in words by dot_u8i8" in " ".join(x.kernel.comment for x in program.launches)
    machine = Target.named(target)
    text = llvm.assembly(*llvm.emit_program(program, machine), machine)
    assert "vpdpbusd" in text and "zmm" not in text
    interpret(integers(9, 12, 18), target)
