"""Differentiation of a graph: what it makes of small ones, difference quotients on random ones, what it
refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphs import random_graph, random_inputs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vitrify.ir import dtypes
from vitrify.ir.graph import IRError
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.verifier import verify
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.constant_folding import ConstantFolding
from vitrify.passes.cse import CommonSubexpressions
from vitrify.passes.dce import DeadCodeElimination
from vitrify.passes.simplify import Simplify

SMOOTH_OPS = """
    neg tanh sigmoid sin cos exp add sub mul gelu silu softplus reshape permute expand slice flip pad concat
    update_slice sum mean var matmul addmm conv convolution avg_pool softmax log_softmax gather index_select
    scatter_add index_add
"""
SMOOTH = SMOOTH_OPS.split()


def tidy(graph):
    for step in (Simplify(), ConstantFolding(), Simplify(), CommonSubexpressions(), DeadCodeElimination()):
        graph = verify(step.run(graph))
    return graph


def test_a_product():
    before = """
    graph f(%x: f32[4], %y: f32[4]) -> f32[4] {
      %0: f32[4] = mul(%x, %y)   # net.py:3 · layer
      return %0
    }"""
    expected = """
    graph f.joint(%x: f32[4], %y: f32[4], %cotangent.0: f32[4]) -> (f32[4], f32[4], f32[4]) {
      %0: f32[4] = mul(%x, %y)
      %1: f32[4] = mul(%cotangent.0, %y)
      %2: f32[4] = mul(%cotangent.0, %x)
      return %0, %1, %2
    }"""
    after = tidy(Autodiff(("x", "y")).run(parse(before)))
    assert after == parse(expected)
    assert [str(n.location) for n in after.nodes] == ["net.py:3 · layer"] + [
        "net.py:3 · layer (backward)"
    ] * 2


def test_broadcast_operands_get_sums_and_several_uses_are_added():
    text = """
    graph f(%x: f32[4,3], %b: f32[3]) -> f32[4,3] {
      %0: f32[4,3] = add(%x, %b)
      %1: f32[4,3] = mul(%0, %b)
      return %1
    }"""
    joint = verify(Autodiff(("b",)).run(parse(text)))
    rng = np.random.default_rng(0)
    x, b, dy = (rng.normal(size=s).astype(np.float32) for s in ((4, 3), (3,), (4, 3)))
    _, db = run(joint, [x, b, dy])
    np.testing.assert_allclose(db, (dy * (x + 2 * b)).sum(0), rtol=1e-5)


def test_ones_as_the_seed_add_no_input():
    text = "graph f(%x: f32[]) -> f32[] {\n %0: f32[] = mul(%x, %x)\n return %0\n}"
    joint = Autodiff(("x",), seed="ones").run(parse(text))
    assert [v.name for v in joint.inputs] == ["x"]
    _, dx = run(joint, [np.float32(3)])
    assert dx == 6


def test_detach_and_integers_stop_gradients_and_unused_inputs_get_zeros():
    text = """
    graph f(%x: f32[4], %y: f32[4], %z: f32[2]) -> (f32[4], i64[4]) {
      %0: f32[4] = detach(%x)
      %1: f32[4] = mul(%0, %y)
      %2: i64[4] = convert(%y) {dtype=i64}
      return %1, %2
    }"""
    joint = verify(Autodiff(("x", "y", "z")).run(parse(text)))
    assert [v.name for v in joint.inputs][3:] == ["cotangent.1"]
    x = np.full(4, 2, np.float32)
    *_, dx, dy, dz = run(joint, [x, x + 1, np.ones(2, np.float32), x + 2])
    assert (dx.tolist(), dy.tolist(), dz.tolist()) == ([0] * 4, [8] * 4, [0] * 2)


def test_aliases_stay():
    text = """
    graph f(%x: f32[2], %s: f32[2]) -> (f32[2], f32[2]) {
      %0: f32[2] = add(%x, %s)
      return %0, %0 -> %s
    }"""
    assert verify(Autodiff(("x",), outputs=(0,)).run(parse(text))).aliases == {1: 1}


def test_second_derivatives_come_from_differentiating_twice():
    text = """
    graph f(%x: f64[5]) -> f64[] {
      %0: f64[5] = sin(%x)
      %1: f64[5] = mul(%0, %x)
      %2: f64[] = sum(%1) {dims=[0]}
      return %2
    }"""
    first = Autodiff(("x",), seed="ones").run(parse(text))
    second = verify(Autodiff(("x",), outputs=(1,)).run(first))
    x = np.linspace(-2, 2, 5)
    v = np.arange(5.0)
    _, dx, ddx = run(second, [x, v])
    np.testing.assert_allclose(dx, np.sin(x) + x * np.cos(x))
    np.testing.assert_allclose(ddx, v * (2 * np.cos(x) - x * np.sin(x)))
    assert not any("(backward) (backward)" in str(node.location) for node in second.nodes)


def test_an_op_without_a_gradient_names_itself_and_the_users_line():
    text = """
    graph f(%x: f32[4]) -> f32[4] {
      %0: f32[4] = fused(%x) {name="f", kind="loop"}   # net.py:7 · head
        region f(%a: f32[4]) -> f32[4] {
          %0: f32[4] = neg(%a)
          return %0
        }
      return %0
    }"""
    with pytest.raises(IRError, match=r"net.py:7 · head.*autodiff comes before fusion"):
        Autodiff(("x",)).run(parse(text))
    smooth = parse("graph f(%x: f32[4]) -> f32[4] {\n %0: f32[4] = tanh(%x)   # net.py:9\n return %0\n}")
    (node,) = smooth.nodes
    without = replace(smooth, nodes=(replace(node, op=replace(node.op, vjp=None)),))
    with pytest.raises(IRError, match=r"op tanh has no gradient: .* \(from net.py:9\)"):
        Autodiff(("x",)).run(without)


def test_only_inputs_of_floating_point_have_gradients():
    graph = parse("graph f(%n: i64[4], %x: f32[4]) -> f32[4] {\n %0: f32[4] = neg(%x)\n return %0\n}")
    with pytest.raises(IRError, match="only floating-point inputs have gradients, %n is"):
        Autodiff(("n",)).run(graph)
    with pytest.raises(IRError, match=r"f has no input %y; it has \['n', 'x'\]"):
        Autodiff(("y",)).run(graph)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_gradients_agree_with_difference_quotients(seed):
    graph = random_graph(seed, nodes=8, ops=SMOOTH, dtype=dtypes.f64)
    wrt = [v for v in graph.inputs if v.type.dtype is dtypes.f64]
    outputs = tuple(i for i, v in enumerate(graph.outputs) if v.type.dtype is dtypes.f64)
    joint = verify(Autodiff(tuple(v.name for v in wrt), outputs).run(graph))
    rng = np.random.default_rng(seed)
    inputs = random_inputs(graph, seed)
    cotangents = [rng.normal(size=graph.outputs[i].type.shape) for i in outputs]
    directions = {v: rng.normal(size=v.type.shape) for v in wrt}

    def along(step: float) -> float:
        moved = [a + step * directions[v] if v in directions else a for v, a in zip(graph.inputs, inputs)]
        results = run(graph, moved)
        return float(sum((results[i] * c).sum() for i, c in zip(outputs, cotangents)))

    gradients = run(joint, [*inputs, *cotangents])[len(graph.outputs) :]
    slope = float(sum((g * directions[v]).sum() for g, v in zip(gradients, wrt)))
    quotient = (along(1e-6) - along(-1e-6)) / 2e-6
    assume(np.isfinite(quotient) and abs(along(0)) < 1e6)
    assert slope == pytest.approx(quotient, rel=1e-4, abs=1e-4)
