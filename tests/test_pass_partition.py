"""The split of a joint graph: the two parts together are the whole, and as little is saved as can be."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import random_graph, random_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir import dtypes
from vitrify.ir.graph import IRError
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.verifier import verify
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.partition import partition

OP_NAMES = """
    neg tanh sigmoid exp add sub mul gelu silu relu where reshape permute expand slice pad concat update_slice
    sum mean var amax matmul addmm conv convolution max_pool softmax log_softmax gather index_select
    dropout full
"""
OPS = OP_NAMES.split()


def split(text: str, *wrt: str):
    graph = parse(text)
    joint = verify(Autodiff(wrt).run(graph))
    parts = partition(joint, len(graph.outputs), len(joint.inputs) - len(graph.inputs))
    verify(parts.forward)
    verify(parts.backward)
    return parts


def saved(parts) -> list[str]:
    return [str(v.type) for v in parts.saved_values]


def ops(graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def test_a_chain_of_relus_saves_nothing_but_its_output():
    parts = split(
        """
        graph f(%x: f32[1000]) -> f32[1000] {
          %0: f32[1000] = relu(%x)
          %1: f32[1000] = relu(%0)
          %2: f32[1000] = relu(%1)
          return %2
        }""",
        "x",
    )
    assert saved(parts) == []
    assert all(source in ("input", "output") for source, _ in parts.saved)


def test_a_contraction_is_not_computed_twice_and_a_pointwise_op_is():
    parts = split(
        """
        graph mlp(%x: f32[64,100], %w: f32[100,200], %v: f32[200,10]) -> f32[64,10] {
          %0: f32[64,200] = matmul(%x, %w)
          %1: f32[64,200] = gelu(%0)
          %2: f32[64,10] = matmul(%1, %v)
          return %2
        }""",
        "w",
        "v",
    )
    # gelu's gradient reads its operand, v's gradient its result: one of the two is saved, the other
    # computed from it.
    assert saved(parts) == ["f32[64,200]"]
    assert ops(parts.forward) == ["matmul", "gelu", "matmul"]
    assert "gelu" in ops(parts.backward)
    assert parts.forward.name == "mlp.forward"
    assert parts.backward.name == "mlp.backward"


def test_the_mask_of_a_dropout_is_saved_as_bools():
    parts = split(
        """
        graph f(%x: f32[1000], %s: i64[2]) -> f32[1000] {
          %u: f32[1000] = random_uniform(%s) {shape=[1000]}
          %k: f32[] = full() {shape=[], value=0.5, dtype=f32}
          %m: bool[1000] = ge(%u, %k)
          %e: f32[1000] = exp(%x)
          %z: f32[] = full() {shape=[], value=0.0, dtype=f32}
          %r: f32[1000] = where(%m, %e, %z)
          return %r
        }""",
        "x",
    )
    assert saved(parts) == ["bool[1000]"]
    assert "random_uniform" not in ops(parts.backward)


def test_a_small_statistic_is_saved_rather_than_what_it_was_made_from():
    parts = split(
        """
        graph f(%x: f32[64,1000]) -> f32[64,1000] {
          %e: f32[64,1000] = exp(%x)
          %s: f32[64,1] = sum(%e) {dims=[1], keepdim=true}
          %r: f32[64,1000] = div(%e, %s)
          return %r
        }""",
        "x",
    )
    assert saved(parts) == ["f32[64,1]"]
    assert "exp" in ops(parts.backward)


def test_what_a_view_was_taken_of_is_saved_rather_than_the_view():
    parts = split(
        """
        graph f(%x: f32[8,16], %w: f32[16,4], %v: f32[4,8]) -> f32[4,4] {
          %0: f32[8,4] = matmul(%x, %w)
          %1: f32[4,8] = permute(%0) {dims=[1,0]}
          %2: f32[4,8] = mul(%1, %v)
          %3: f32[4,4] = matmul(%2, %0)
          return %3
        }""",
        "w",
        "v",
    )
    assert [v.name for v in parts.saved_values] == ["0"]


def test_the_old_value_of_an_input_that_is_written_to_is_saved():
    text = """
    graph f(%x: f32[8], %state: f32[8]) -> (f32[8], f32[8]) {
      %0: f32[8] = mul(%x, %state)
      %1: f32[8] = add(%state, %x)
      return %0, %1 -> %state
    }"""
    joint = Autodiff(("x",), outputs=(0,)).run(parse(text))
    parts = partition(joint, 2, 1)
    assert parts.forward.aliases == {1: 1}
    assert [v.name for v in parts.saved_values] == ["state"]
    assert parts.saved == (("output", 2),)


def test_the_backward_graph_learns_its_symbolic_dims():
    parts = split(
        """
        dims batch in 1..64
        graph f(%x: f32[batch,4]) -> f32[] {
          %0: f32[4] = sum(%x) {dims=[0]}
          %1: f32[] = sum(%0) {dims=[0]}
          return %1
        }""",
        "x",
    )
    assert [v.name for v in parts.backward.inputs] == ["x", "cotangent.1"]
    assert parts.saved == (("input", 0),)


def test_a_forward_output_that_depends_on_a_cotangent_is_refused():
    joint = parse("graph f(%x: f32[2], %dy: f32[2]) -> f32[2] {\n %0: f32[2] = mul(%x, %dy)\n return %0\n}")
    with pytest.raises(IRError, match="output %0: f32\\[2\\] depends on a cotangent"):
        partition(joint, 1, 1)
    with pytest.raises(IRError, match="0 cotangents among 2 inputs"):
        partition(joint, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_parts_together_are_the_joint_graph(seed, symbolic):
    graph = random_graph(seed, nodes=10, ops=OPS, symbolic=symbolic)
    wrt = tuple(v.name for v in graph.inputs if v.type.dtype is dtypes.f32)
    outputs = tuple(i for i, v in enumerate(graph.outputs) if v.type.dtype is dtypes.f32)
    if not outputs:
        return
    joint = verify(Autodiff(wrt, outputs).run(graph))
    parts = partition(joint, len(graph.outputs), len(outputs))
    verify(parts.forward)
    verify(parts.backward)
    inputs = random_inputs(graph, seed)
    rng = np.random.default_rng(seed)
    bound = {s.name: 3 for s in graph.symbols}
    shapes = [graph.outputs[i].type.bind(bound).shape for i in outputs]
    cotangents = [np.asarray(rng.normal(size=shape), np.float32) for shape in shapes]
    forward = run(parts.forward, inputs)
    given_to_backward = [inputs[i] if source == "input" else forward[i] for source, i in parts.saved]
    backward = run(parts.backward, given_to_backward + cotangents)
    for want, got in zip(
        run(joint, inputs + cotangents), forward[: len(graph.outputs)] + backward, strict=True
    ):
        np.testing.assert_array_equal(want, got)
