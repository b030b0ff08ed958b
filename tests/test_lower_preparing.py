"""Launches that read nothing but steady inputs go to the program's front, and run while the host says so."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from graphs import TAME, random_graph, random_inputs
from lowering import SHARED, check, lowered

from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.loops.nodes import Kernel, Program, whole
from vitrify.codegen.loops.scope import LoopError
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.lower import LowerOptions
from vitrify.ir import dtypes, interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Graph
from vitrify.ir.parser import parse
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import compile_program, run_program

MATMUL = """
graph g(%x: f32[48,70], %w: f32[90,70], %b: f32[90]) -> f32[48,90] {
  %1: f32[70,90] = permute(%w) {dims=[1,0]}
  %2: f32[48,90] = matmul(%x, %1)
  %3: f32[48,90] = expand(%b) {shape=[48,90]}
  %4: f32[48,90] = add(%2, %3)
  return %4
}
"""


INTEGERS = """
graph g(%x: i8[8,64], %w: i8[48,64]) -> i32[8,48] {
  %0: i32[8,64] = convert(%x) {dtype=i32}
  %1: i32[48,64] = convert(%w) {dtype=i32}
  %2: i32[64,48] = permute(%1) {dims=[1,0]}
  %3: i32[8,48] = matmul(%0, %2)
  return %3
}
"""


def f32(*shape: int) -> TensorType:
    return TensorType(shape, dtypes.f32)


def steady(graph: Graph, *slots: int) -> Program:
    names = tuple(graph.inputs[n].name for n in slots)
    return lowered(graph, options=LowerOptions(steady_inputs=names))


def arrays_of(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(v.type.sizes).astype(v.type.dtype.numpy) for v in graph.inputs]


def test_packing_of_a_steady_weight_goes_first_and_is_kept() -> None:
    graph = parse(MATMUL)
    program = steady(graph, 1, 2)
    assert program.preparing == 1 and program.launches[0].kernel.name.startswith("pack")
    assert [b.name for b in program.prepared] == ["panels"]
    assert program.prepared_inputs == [1] and not program.arena
    assert steady(graph).preparing == 0, "nothing is steady unless it is said to be"
    assert steady(graph, 0).prepared_inputs in ([], [0])


def test_the_results_are_those_of_the_plain_program() -> None:
    graph = parse(MATMUL.replace("48", "6").replace("70", "21").replace("90", "33"))
    inputs = arrays_of(graph)
    want = interpreter.run(graph, inputs)
    program = steady(graph, 1, 2)
    assert program.preparing
    for got in (run_program(program, inputs), loops.run_program(program, inputs)[0]):
        np.testing.assert_allclose(got[0], want[0], rtol=2e-5, atol=2e-5)


def test_what_shifted_integers_add_to_a_sum_is_known_before() -> None:
    """Of two i8, one is multiplied as u8; the sums of the other are taken off (`contraction_words.py`)."""
    graph = parse(INTEGERS)
    names = tuple(v.name for v in graph.inputs[1:])
    program = lowered(graph, "x86-64-avx512-dot", options=LowerOptions(steady_inputs=names))
    assert program.preparing and program.prepared_inputs == [1]
    assert "dot_u8i8" in program.launches[-1].kernel.comment
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, v.type.sizes).astype(np.int8) for v in graph.inputs]
    np.testing.assert_array_equal(loops.run_program(program, inputs)[0][0], interpreter.run(graph, inputs)[0])


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_with_steady_inputs(seed: int) -> None:
    graph = random_graph(seed, ops=TAME, tame=True)
    some = tuple(v.name for v in graph.inputs[seed % 2 :: 2])
    check(graph, random_inputs(graph, seed), options=replace(SHARED, steady_inputs=some), scale=8.0)


def test_the_first_word_says_whether_the_launches_run() -> None:
    graph = parse(MATMUL)
    x, w, b = arrays_of(graph)
    program = steady(graph, 1, 2)
    loaded = compile_program(program)
    block = np.zeros(program.prepared_bytes + 64, np.uint8)
    block = block[-block.ctypes.data % 64 :]
    arena = np.empty(program.arena_bytes + 64, np.uint8)
    out = np.empty((48, 90), np.float32)

    def run(weight: np.ndarray) -> np.ndarray:
        inputs = (ctypes.c_void_p * 4)(*(a.ctypes.data for a in (x, weight, b, block)))
        outputs = (ctypes.c_void_p * 1)(out.ctypes.data)
        assert loaded.run(inputs, outputs, arena.ctypes.data, None, 1) == 0
        return out.copy()

    first = run(w)
    block[:8].view(np.int64)[0] = 1
    np.testing.assert_array_equal(run(w * 0), first)
    block[:8].view(np.int64)[0] = 0
    np.testing.assert_array_equal(run(w * 0), np.broadcast_to(b, (48, 90)))


def test_what_a_call_must_write_is_not_prepared() -> None:
    graph = parse(
        """
        graph g(%x: f32[8], %w: f32[8]) -> (f32[8], f32[8]) {
          %1: f32[8] = exp(%w)
          %2: f32[8] = add(%x, %1)
          return %1, %2
        }
        """
    )
    assert steady(graph, 1).preparing == 0


def test_what_may_fail_or_depends_on_dims_is_not_prepared() -> None:
    checked = """
    graph g(%x: f32[48,64], %w: f32[90,64], %i: i64[90]) -> f32[48,90] {
      %1: f32[90,64] = index_select(%w, %i) {dim=0}
      %2: f32[64,90] = permute(%1) {dims=[1,0]}
      %3: f32[48,90] = matmul(%x, %2)
      return %3
    }
    """
    assert steady(parse(checked), 1, 2).preparing == 0
    symbolic = """
    dims n in 1..256
    graph g(%x: f32[48,n], %w: f32[90,n]) -> f32[48,90] {
      %1: f32[n,90] = permute(%w) {dims=[1,0]}
      %2: f32[48,90] = matmul(%x, %1)
      return %2
    }
    """
    assert steady(parse(symbolic), 1).preparing == 0


def test_repeats_move_with_their_launches() -> None:
    F = GraphBuilder("layer")
    x, h, c = F.input("x", f32(12, 64)), F.input("h", f32(3, 16)), F.input("c", f32(3, 16))
    w, v = F.input("w", f32(64, 16)), F.input("v", f32(33, 16))
    steps, hidden, *_ = F.lstm(x, h, c, w, batch_sizes=(3,) * 4)
    graph = F.finish([F.matmul(steps, F.permute(v, dims=(1, 0))), hidden])
    program, plain = steady(graph, 3, 4), steady(graph)
    assert program.preparing and plain.repeats
    for new, old in zip(program.repeats, plain.repeats, strict=True):
        assert new.first >= program.preparing
        names = [x.source for x in program.launches[new.first : new.end]]
        assert names == [x.source for x in plain.launches[old.first : old.end]]
    inputs = arrays_of(graph)
    want = interpreter.run(graph, inputs)
    for got in (run_program(program, inputs), loops.run_program(program, inputs)[0]):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_program_that_writes_prepared_memory_later_is_refused() -> None:
    program = steady(parse(MATMUL), 1, 2)
    with pytest.raises(LoopError, match="it writes what was prepared"):
        verify_program(replace(program, preparing=0))
    with pytest.raises(LoopError, match=r"not there yet|cannot be prepared"):
        verify_program(replace(program, preparing=2))
    (buffer,) = program.prepared
    with pytest.raises(LoopError, match="overlaps another or the end"):
        verify_program(replace(program, prepared={buffer: 0}))


def test_kept_and_arena_buffers_are_told_apart() -> None:
    program = steady(parse(MATMUL), 1, 2)
    used = {whole(b) for launch in program.launches for b in launch.args}
    assert used == {*program.inputs, *program.outputs, *program.arena, *program.prepared}
    assert all(isinstance(x.kernel, Kernel) for x in program.launches)
