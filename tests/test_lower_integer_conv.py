"""Convolutions of 8-bit integers: exact on every instruction set, in words where there are instructions for them."""

from __future__ import annotations

import numpy as np
import pytest
from contractions import check, group, interpret, lowered, operands_of
from test_lower_words import ALIKE, NATIVE, WORDS, _comment, _runs_here, extreme_operands

from vitrify.codegen.target import Target
from vitrify.ir import dtypes
from vitrify.ir import interpreter as ir_interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import compile_program, run_program

# x, w, stride, dilation, groups
CASES = [
    ((2, 8, 9, 11), (5, 8, 3, 3), (1, 1), (1, 1), 1),
    ((1, 64, 14, 14), (32, 64, 1, 1), (1, 1), (1, 1), 1),
    ((1, 16, 23, 18), (20, 16, 3, 2), (2, 2), (2, 1), 1),
    ((2, 16, 7, 9), (12, 4, 3, 3), (2, 1), (1, 1), 4),
    ((1, 7, 8, 20), (4, 7, 5, 3), (1, 1), (1, 1), 1),  # words end in the middle
    ((2, 6, 8, 9), (6, 1, 3, 3), (1, 1), (1, 1), 6),
    ((3, 12, 31), (9, 12, 4), (3,), (1,), 1),
]


def integers(x, w, stride, dilation, groups, kinds=(dtypes.u8, dtypes.i8), padding=0):
    types = [TensorType(x, kinds[0]), TensorType(w, kinds[1])]
    attrs = {"stride": stride, "padding": (padding,) * len(stride), "dilation": dilation, "groups": groups}

    def make(F, x, w):
        return F.conv(F.convert(x, dtype=dtypes.i32), F.convert(w, dtype=dtypes.i32), **attrs)

    return group(types, make)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("target", [WORDS, "x86-64-avx512", "x86-64-avx2", "x86-64-sse2"])
def test_every_instruction_set_that_runs_here(target, case):
    if not _runs_here(target):
        pytest.skip(f"{target} does not run here")
    graph = integers(*case)
    inputs = operands_of(graph, {})
    program, (want,) = lowered(graph, target), ir_interpreter.run(graph, inputs, {})
    loaded = compile_program(program, Target.named(target))
    for threads in (1, 3):
        np.testing.assert_array_equal(run_program(program, inputs, threads=threads, loaded=loaded)[0], want)


@NATIVE
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("kinds", ALIKE, ids=str)
def test_integers_of_one_kind(kinds, padding, case):
    graph = integers(*case, kinds, padding)
    inputs = extreme_operands(graph)
    (want,) = ir_interpreter.run(graph, inputs, {})
    program = lowered(graph)
    loaded = compile_program(program)
    for threads in (1, 3):
        np.testing.assert_array_equal(run_program(program, inputs, threads=threads, loaded=loaded)[0], want)


@pytest.mark.parametrize("kinds", ALIKE, ids=str)
def test_integers_of_one_kind_under_the_loop_interpreter(kinds):
    for case, padding in (
        (CASES[3], 1),
        (CASES[4], 0),
        (((1, 16, 6, 5), (20, 16, 3, 3), (1, 1), (1, 1), 1), 1),
    ):
        interpret(integers(*case, kinds, padding), WORDS)
    assert "in words by dot_u8i8" in _comment(lowered(integers(*case, kinds, padding), WORDS))


@pytest.mark.parametrize("case", CASES[3:5], ids=str)
@pytest.mark.parametrize("target", [WORDS, "x86-64-avx2", "aarch64-neon"])
def test_under_the_loop_interpreter(target, case):
    interpret(integers(*case), target)


def test_a_symbolic_batch():
    batch = Dim("batch", 0, 64)
    sizes = [{"batch": b} for b in (0, 1, 5)]
    check(integers((batch, 8, 9, 11), (5, 8, 3, 3), (2, 1), (1, 1), 1), sizes)
    check(integers((batch, 8, 9, 11), (20, 8, 3, 3), (2, 1), (1, 1), 1, ALIKE[0], 1), sizes)


@pytest.mark.parametrize("case", CASES[:4], ids=str)
def test_whole_words_are_multiplied_at_once(case):
    assert "in words by dot_u8i8" in _comment(lowered(integers(*case), WORDS))
