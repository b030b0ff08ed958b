"""Common subexpressions: what is one, what is not."""

from __future__ import annotations

from vitrify.ir.parser import parse
from vitrify.ir.verifier import verify
from vitrify.passes.cse import CommonSubexpressions


def cse(text: str):
    return verify(CommonSubexpressions().run(parse(text)))


def test_the_same_op_on_the_same_operands_is_computed_once():
    before = """
    graph g(%x: f32[4], %y: f32[4]) -> (f32[4], f32[4]) {
      %a: f32[4] = mul(%x, %y)   # first.py:1
      %b: f32[4] = mul(%y, %x)   # second.py:2
      %c: f32[4] = tanh(%a)
      %d: f32[4] = tanh(%b)
      return %c, %d
    }"""
    expected = """
    graph g(%x: f32[4], %y: f32[4]) -> (f32[4], f32[4]) {
      %a: f32[4] = mul(%x, %y)
      %c: f32[4] = tanh(%a)
      return %c, %c
    }"""
    assert cse(before) == parse(expected)
    assert str(cse(before).nodes[0].location) == "first.py:1"


def test_other_attributes_or_another_order_are_another_value():
    text = """
    graph g(%x: f32[4], %y: f32[4]) -> (f32[4], f32[4], f32[1], f32[], f32[], f32[], i32[]) {
      %0: f32[4] = sub(%x, %y)
      %1: f32[4] = sub(%y, %x)
      %2: f32[1] = sum(%x) {dims=[0], keepdim=true}
      %3: f32[] = sum(%x) {dims=[0]}
      %4: f32[] = full() {shape=[], value=0.0, dtype=f32}
      %5: f32[] = full() {shape=[], value=-0.0, dtype=f32}
      %6: i32[] = full() {shape=[], value=0, dtype=i32}
      return %0, %1, %2, %3, %4, %5, %6
    }"""
    assert cse(text) == parse(text)


def test_draws_are_one_only_for_the_same_state_and_stream():
    before = """
    graph g(%s: i64[2], %t: i64[2]) -> (f32[4], f32[4], f32[4], f32[4]) {
      %0: f32[4] = random_uniform(%s) {shape=[4], stream=1}
      %1: f32[4] = random_uniform(%s) {shape=[4], stream=2}
      %2: f32[4] = random_uniform(%t) {shape=[4], stream=1}
      %3: f32[4] = random_uniform(%s) {shape=[4], stream=1}
      return %0, %1, %2, %3
    }"""
    after = cse(before)
    assert [v.name for v in after.outputs] == ["0", "1", "2", "0"]


def test_a_graph_without_any_is_given_back():
    graph = parse("graph g(%x: f32[4]) -> f32[4] {\n %0: f32[4] = neg(%x)\n return %0\n}")
    assert CommonSubexpressions().run(graph) is graph
