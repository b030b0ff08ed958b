"""The text form of a graph: what it looks like, and that it is the same every time."""

from __future__ import annotations

import math

import pytest
from graphs import random_graph

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim, minimum, mod
from vitrify.ir.graph import Location
from vitrify.ir.op import op_named
from vitrify.ir.printer import attr_text, to_text
from vitrify.ir.types import TensorType


def f32(*shape):
    return TensorType(shape, dtypes.f32)


def lenet_head():
    batch = Dim("batch", 1, 256)
    F = GraphBuilder("lenet.forward")
    x = F.input("x", f32(batch, 1, 28, 28))
    w = F.input("conv1.weight", f32(6, 1, 5, 5))
    F.location = Location("/home/user/lenet.py", 21, "conv1")
    y = F.conv(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1))
    F.location = Location("/home/user/lenet.py", 22)
    inner = GraphBuilder("fused_0")
    a = inner.input("y", y.type)
    region = inner.finish([inner.relu(a)])
    (z,) = F.region_node(op_named("fused"), [y], {"name": "fused_0", "kind": "loop"}, (region,), [y.type])
    F.location = None
    s = F.mul(w, 0.1)
    return F.finish([z, s], aliases={1: 1})


def test_golden_text():
    assert str(lenet_head()) == (
        "dims batch in 1..256\n"
        "graph lenet.forward(%x: f32[batch,1,28,28], %conv1.weight: f32[6,1,5,5]) -> "
        "(f32[batch,6,24,24], f32[6,1,5,5]) {\n"
        "  %0: f32[batch,6,24,24] = conv(%x, %conv1.weight) {stride=[1,1], padding=[0,0], dilation=[1,1]}"
        "   # lenet.py:21 · conv1\n"
        '  %1: f32[batch,6,24,24] = fused(%0) {name="fused_0", kind="loop"}   # lenet.py:22\n'
        "    region fused_0(%y: f32[batch,6,24,24]) -> f32[batch,6,24,24] {\n"
        "      %0: f32[batch,6,24,24] = relu(%y)\n"
        "      return %0\n"
        "    }\n"
        "  %2: f32[] = full() {shape=[], value=0.1, dtype=f32}\n"
        "  %3: f32[6,1,5,5] = mul(%conv1.weight, %2)\n"
        "  return %1, %3 -> %conv1.weight\n"
        "}"
    )


def test_locations_can_be_left_out():
    assert "#" not in to_text(lenet_head(), locations=False)


def test_attributes_at_their_default_are_left_out():
    F = GraphBuilder("g")
    x = F.input("x", f32(2, 3))
    text = str(F.finish([F.sum(x, dims=(0,), keepdim=False), F.sum(x, dims=(0,), keepdim=True)]))
    assert "= sum(%x) {dims=[0]}\n" in text
    assert "= sum(%x) {dims=[0], keepdim=true}\n" in text


def test_names_that_are_not_words_are_quoted():
    F = GraphBuilder("my graph")
    x = F.input('blocks["a b"].w', f32(2))
    y = F.input("0.weight", f32(2))
    text = str(F.finish([F.add(x, y)]))
    assert text.startswith('graph "my graph"(%"blocks[\\"a b\\"].w": f32[2], %0.weight: f32[2])')


def test_a_line_break_in_a_file_name_does_not_end_the_comment():
    F = GraphBuilder("g")
    F.location = Location("two\nlines.py", 3)
    graph = F.finish([F.neg(F.input("x", f32(2)))])
    assert "   # two lines.py:3\n" in str(graph)


def test_symbolic_dims_print_as_expressions():
    batch, seq = Dim("batch", 1, 64), Dim("seq")
    F = GraphBuilder("g")
    x = F.input("x", f32(batch, seq))
    shorter = minimum(seq, 16)
    F.input("y", f32(2 * batch * seq + 1, mod(seq, 4), shorter, (seq + 1) // 2))
    text = str(F.finish([x]))
    assert text.startswith("dims batch in 1..64, seq in 1..inf\n")
    assert f"%y: f32[2*batch*seq+1,(seq % 4),{shorter},((seq+1) // 2)]" in text
    assert str(shorter) in ("min(seq, 16)", "min(16, seq)")


def test_a_graph_may_return_nothing():
    assert str(GraphBuilder("empty").finish([])) == "graph empty() -> () {\n  return\n}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e-45, "1e-45"),
        (-0.0, "-0.0"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (3, "3"),
        (True, "true"),
        (None, "none"),
        ('a\n"b"', r'"a\n\"b\""'),
        (dtypes.bf16, "bf16"),
        ((1, Dim("n") + 1), "[1,n+1]"),
    ],
)
def test_attribute_values(value, text):
    assert attr_text(value) == text


def test_an_attribute_without_a_text_form_is_an_error():
    with pytest.raises(TypeError, match="an attribute cannot be a dict"):
        attr_text({})


def test_printing_is_deterministic():
    assert str(random_graph(3)) == str(random_graph(3))
