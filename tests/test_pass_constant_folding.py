"""Constant folding: fills in, a fill out; nothing that would have to be stored element by element."""

from __future__ import annotations

import math

import pytest
from graphs import random_graph, random_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.verifier import verify
from vitrify.passes.constant_folding import ConstantFolding
from vitrify.passes.dce import DeadCodeElimination


def folded(*lines: str, type_: str):
    *nodes, result = lines
    text = "\n".join(
        ["dims n in 1..9", f"graph g(%x: f32[n]) -> {type_} {{", *nodes, f"return {result}", "}"]
    )
    return DeadCodeElimination().run(verify(ConstantFolding().run(parse(text))))


def only_fill(graph):
    (node,) = graph.nodes
    assert node.op.name == "full"
    return node.attrs["value"]


TWO = "%two: f32[] = full() {shape=[], value=2, dtype=f32}"
WIDE = "%wide: f32[n,3] = full() {shape=[n,3], value=0.5, dtype=f32}"


def test_pointwise_ops_of_fills_of_any_shape():
    assert only_fill(
        folded(TWO, WIDE, "%r: f32[n,3] = pow(%two, %wide)", "%r", type_="f32[n,3]")
    ) == pytest.approx(math.sqrt(2), rel=1e-7)


def test_views_of_fills_of_any_shape():
    assert (
        only_fill(folded(WIDE, "%r: f32[3*n] = reshape(%wide) {shape=[3*n]}", "%r", type_="f32[3*n]")) == 0.5
    )


def test_conversion_wraps_as_it_does_at_run_time():
    assert (
        only_fill(
            folded(
                "%k: i64[] = full() {shape=[], value=300, dtype=i64}",
                "%r: u8[] = convert(%k) {dtype=u8}",
                "%r",
                type_="u8[]",
            )
        )
        == 300 % 256
    )


def test_small_reductions_of_fills():
    fill = "%k: f32[4,5] = full() {shape=[4,5], value=0.5, dtype=f32}"
    assert only_fill(folded(fill, "%r: f32[4] = sum(%k) {dims=[1]}", "%r", type_="f32[4]")) == 2.5


@pytest.mark.parametrize(
    ("lines", "type_"),
    [
        (["%r: i64[5] = iota() {shape=[5], dim=0}"], "i64[5]"),
        ([TWO, "%r: f32[n] = mul(%x, %two)"], "f32[n]"),
        ([WIDE, "%r: f32[n] = sum(%wide) {dims=[1]}"], "f32[n]"),
        (
            ["%k: f32[9999] = full() {shape=[9999], value=0.5, dtype=f32}", "%r: f32[] = sum(%k) {dims=[0]}"],
            "f32[]",
        ),
        (
            [
                "%k: f32[2] = full() {shape=[2], value=1.0, dtype=f32}",
                "%r: f32[4] = pad(%k) {low=[1], high=[1], value=0.0}",
            ],
            "f32[4]",
        ),
        (
            [
                "%k: i64[] = full() {shape=[], value=0, dtype=i64}",
                "%r: i64[] = floor_divide(%k, %k)",
            ],
            "i64[]",
        ),
    ],
    ids=["no fill", "an operand unknown", "symbolic size", "too big", "not uniform", "an error when it runs"],
)
def test_what_stays(lines, type_):
    before = parse(
        "\n".join(["dims n in 1..9", f"graph g(%x: f32[n]) -> {type_} {{", *lines, "return %r", "}"])
    )
    assert ConstantFolding().run(before) == before


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_meaning_is_kept_on_random_graphs(seed):
    before = random_graph(seed, nodes=14)
    after = verify(ConstantFolding().run(before))
    inputs = random_inputs(before, seed)
    for a, b in zip(run(before, inputs), run(after, inputs), strict=True):
        assert a.tobytes() == b.tobytes() or ((a == b) | (a != a)).all()
