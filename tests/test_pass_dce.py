"""Dead code: nodes that no output needs go, inputs stay."""

from __future__ import annotations

from vitrify.ir.parser import parse
from vitrify.passes.dce import DeadCodeElimination


def test_dead_chains_go():
    before = """
    graph g(%x: f32[4], %unused: f32[2]) -> f32[4] {
      %0: f32[4] = neg(%x)
      %1: f32[4] = exp(%0)
      %2: f32[4] = tanh(%1)
      %3: f32[4] = abs(%0)
      return %3
    }"""
    expected = """
    graph g(%x: f32[4], %unused: f32[2]) -> f32[4] {
      %0: f32[4] = neg(%x)
      %3: f32[4] = abs(%0)
      return %3
    }"""
    after = DeadCodeElimination().run(parse(before))
    assert after == parse(expected)
    assert str(after) == str(parse(expected))


def test_a_graph_without_any_is_given_back():
    graph = parse("graph g(%x: f32[4]) -> f32[4] {\n %0: f32[4] = neg(%x)\n return %0 -> %x\n}")
    assert DeadCodeElimination().run(graph) is graph


def test_an_output_that_is_an_input_needs_no_node():
    graph = parse("graph g(%x: f32[4]) -> f32[4] {\n %0: f32[4] = neg(%x)\n return %x\n}")
    assert DeadCodeElimination().run(graph).nodes == ()
