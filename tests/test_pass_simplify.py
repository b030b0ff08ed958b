"""Each rule as Before / Expected; what would change a bit stays; and meaning is kept on random graphs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from graphs import random_graph, random_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import first_difference
from vitrify.ir.interpreter import run
from vitrify.ir.op import all_ops
from vitrify.ir.parser import parse
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify
from vitrify.passes.dce import DeadCodeElimination
from vitrify.passes.simplify import RULES, Simplify
from vitrify.passes.simplify_elements import holds_every

HEAD = (
    "dims batch in 1..64\n"
    "graph g(%x: f32[4,6], %y: f32[4,6], %c: bool[4,6], %n: i64[4,6], %h: f16[4,6], %b: f32[batch,4]) -> "
)


def graph(type_: str, *lines: str):
    """A graph of one result: its nodes, and the value it returns."""
    *nodes, result = lines
    return parse("\n".join([f"{HEAD}{type_} {{", *nodes, f"return {result}", "}"]))


def simplified(before):
    return verify(DeadCodeElimination().run(Simplify().run(before)))


def full(name: str, value: str, dtype: str = "f32", shape: str = "") -> str:
    return f"%{name}: {dtype}[{shape}] = full() {{shape=[{shape}], value={value}, dtype={dtype}}}"


F, B, N = "f32[4,6]", "bool[4,6]", "i64[4,6]"


def op(name: str, *operands: str, type_: str = F, to: str = "r", **attrs: str) -> str:
    shown = ", ".join(f"{key}={value}" for key, value in attrs.items())
    return f"%{to}: {type_} = {name}({', '.join(operands)}) {{{shown}}}"


TO_X = {
    "x + -0": [full("k", "-0.0"), op("add", "%x", "%k")],
    "-0 + x": [full("k", "-0.0"), op("add", "%k", "%x")],
    "x - 0": [full("k", "0.0"), op("sub", "%x", "%k")],
    "x * 1": [full("k", "1.0"), op("mul", "%x", "%k")],
    "1 * x, the 1 an int and of full shape": [full("k", "1", shape="4,6"), op("mul", "%k", "%x")],
    "x / 1": [full("k", "1.0"), op("div", "%x", "%k")],
    "pow(x, 1)": [full("k", "1.0"), op("pow", "%x", "%k")],
    "maximum(x, x)": [op("maximum", "%x", "%x")],
    "minimum(x, inf)": [full("k", "inf"), op("minimum", "%x", "%k")],
    "neg(neg(x))": [op("neg", "%x", to="a"), op("neg", "%a")],
    "detach": [op("detach", "%x")],
    "convert to the same dtype": [op("convert", "%x", dtype="f32")],
    "convert there and back": [
        op("convert", "%x", to="a", type_="f64[4,6]", dtype="f64"),
        op("convert", "%a", dtype="f32"),
    ],
    "where the same": [op("where", "%c", "%x", "%x")],
    "where true": [full("k", "true", "bool"), op("where", "%k", "%x", "%y")],
    "where false": [full("k", "false", "bool"), op("where", "%k", "%y", "%x")],
    "reshape and back": [
        op("reshape", "%x", to="a", type_="f32[24]", shape="[24]"),
        op("reshape", "%a", shape="[4,6]"),
    ],
    "permute and back": [
        op("permute", "%x", to="a", type_="f32[6,4]", dims="[1,0]"),
        op("permute", "%a", dims="[1,0]"),
    ],
    "expand to the same shape": [op("expand", "%x", shape="[4,6]")],
    "slice of everything": [op("slice", "%x", starts="[0,0]", stops="[4,6]", steps="[1,1]")],
    "flip and back": [op("flip", "%x", to="a", dims="[0,1]"), op("flip", "%a", dims="[1,0]")],
    "flip of nothing": [op("flip", "%x", dims="[]")],
    "pad by nothing": [op("pad", "%x", low="[0,0]", high="[0,0]", value="3.0")],
    "concat of one": [op("concat", "%x", dim="0")],
    "update of everything": [op("update_slice", "%y", "%x", starts="[0,0]", stops="[4,6]", steps="[1,1]")],
}


@pytest.mark.parametrize("lines", TO_X.values(), ids=TO_X)
def test_becomes_the_operand(lines):
    assert simplified(graph(F, *lines, "%r")) == graph(F, "%x")


CASES = {
    "x + (-y)": (
        graph(F, op("neg", "%y", to="a"), op("add", "%x", "%a"), "%r"),
        graph(F, op("sub", "%x", "%y"), "%r"),
    ),
    "(-x) + y": (
        graph(F, op("neg", "%x", to="a"), op("add", "%a", "%y"), "%r"),
        graph(F, op("sub", "%y", "%x"), "%r"),
    ),
    "x - (-y)": (
        graph(F, op("neg", "%y", to="a"), op("sub", "%x", "%a"), "%r"),
        graph(F, op("add", "%x", "%y"), "%r"),
    ),
    "x * -1": (graph(F, full("k", "-1.0"), op("mul", "%x", "%k"), "%r"), graph(F, op("neg", "%x"), "%r")),
    "abs(neg(x))": (
        graph(F, op("neg", "%x", to="a"), op("abs", "%a"), "%r"),
        graph(F, op("abs", "%x"), "%r"),
    ),
    "x / 8": (
        graph(F, full("k", "8.0"), op("div", "%x", "%k"), "%r"),
        graph(F, full("k", "0.125"), op("mul", "%x", "%k"), "%r"),
    ),
    "pow(x, 2)": (
        graph(F, full("k", "2.0"), op("pow", "%x", "%k"), "%r"),
        graph(F, op("mul", "%x", "%x"), "%r"),
    ),
    "pow(x, 3)": (
        graph(F, full("k", "3.0"), op("pow", "%x", "%k"), "%r"),
        graph(F, op("mul", "%x", "%x", to="a"), op("mul", "%a", "%x"), "%r"),
    ),
    "pow(x, 4)": (
        graph(F, full("k", "4.0"), op("pow", "%x", "%k"), "%r"),
        graph(F, op("mul", "%x", "%x", to="a"), op("mul", "%a", "%a"), "%r"),
    ),
    "n * 0": (
        graph(N, full("k", "0", "i64"), op("mul", "%n", "%k", type_=N), "%r"),
        graph(N, full("k", "0", "i64"), op("expand", "%k", type_=N, shape="[4,6]"), "%r"),
    ),
    "n + 0": (graph(N, full("k", "0", "i64"), op("add", "%n", "%k", type_=N), "%r"), graph(N, "%n")),
    "c and true": (
        graph(B, full("k", "true", "bool"), op("logical_and", "%c", "%k", type_=B), "%r"),
        graph(B, "%c"),
    ),
    "not not c": (
        graph(B, op("logical_not", "%c", to="a", type_=B), op("logical_not", "%a", type_=B), "%r"),
        graph(B, "%c"),
    ),
    "where(not c, x, y)": (
        graph(F, op("logical_not", "%c", to="a", type_=B), op("where", "%a", "%x", "%y"), "%r"),
        graph(F, op("where", "%c", "%y", "%x"), "%r"),
    ),
    "where(x <= 0 or x >= 6, clamp(x, 0, 6), x)": (
        graph(
            F,
            full("k", "0.0"),
            full("l", "6.0"),
            op("le", "%x", "%k", to="a", type_=B),
            op("ge", "%x", "%l", to="f", type_=B),
            op("logical_or", "%a", "%f", to="d", type_=B),
            op("clamp", "%x", to="e", min="0.0", max="6.0"),
            op("where", "%d", "%e", "%x"),
            "%r",
        ),
        graph(F, op("clamp", "%x", to="e", min="0.0", max="6.0"), "%e"),
    ),
    "where(c, where(c, x, _), y)": (
        graph(
            F,
            op("neg", "%y", to="d"),
            op("where", "%c", "%x", "%d", to="a"),
            op("where", "%c", "%a", "%y"),
            "%r",
        ),
        graph(F, op("where", "%c", "%x", "%y"), "%r"),
    ),
    "reshape of reshape": (
        graph(
            "f32[2,12]",
            op("reshape", "%x", to="a", type_="f32[24]", shape="[24]"),
            op("reshape", "%a", type_="f32[2,12]", shape="[2,12]"),
            "%r",
        ),
        graph("f32[2,12]", op("reshape", "%x", type_="f32[2,12]", shape="[2,12]"), "%r"),
    ),
    "a fill's number": (
        graph("f32[2]", full("r", "3", shape="2"), "%r"),
        graph("f32[2]", full("r", "3.0", shape="2"), "%r"),
    ),
    "the transpose of a product": (
        graph(
            "f32[6,6]",
            op("permute", "%x", to="a", type_="f32[6,4]", dims="[1,0]"),
            op("matmul", "%a", "%y", to="p", type_="f32[6,6]"),
            op("permute", "%p", type_="f32[6,6]", dims="[1,0]"),
            "%r",
        ),
        graph(
            "f32[6,6]",
            op("permute", "%y", to="a", type_="f32[6,4]", dims="[1,0]"),
            op("matmul", "%a", "%x", type_="f32[6,6]"),
            "%r",
        ),
    ),
    "slice of slice": (
        graph(
            "f32[1,2]",
            op("slice", "%x", to="a", type_="f32[2,5]", starts="[1,1]", stops="[3,6]", steps="[1,1]"),
            op("slice", "%a", type_="f32[1,2]", starts="[1,1]", stops="[2,5]", steps="[1,2]"),
            "%r",
        ),
        graph(
            "f32[1,2]",
            op("slice", "%x", type_="f32[1,2]", starts="[2,2]", stops="[3,6]", steps="[1,2]"),
            "%r",
        ),
    ),
    "slice of one of the parts of a concat": (
        graph(
            "f32[2,2]",
            op("concat", "%x", "%y", to="a", type_="f32[8,6]", dim="0"),
            op("slice", "%a", type_="f32[2,2]", starts="[5,1]", stops="[7,3]", steps="[1,1]"),
            "%r",
        ),
        graph(
            "f32[2,2]",
            op("slice", "%y", type_="f32[2,2]", starts="[1,1]", stops="[3,3]", steps="[1,1]"),
            "%r",
        ),
    ),
    "an expanded operand": (
        graph(
            "f32[batch,4]",
            full("k", "2.0"),
            op("expand", "%k", to="a", type_="f32[batch,4]", shape="[batch,4]"),
            op("mul", "%a", "%b", type_="f32[batch,4]"),
            "%r",
        ),
        graph("f32[batch,4]", full("k", "2.0"), op("mul", "%k", "%b", type_="f32[batch,4]"), "%r"),
    ),
    "f16 by way of f32": (
        graph(
            "i64[4,6]",
            op("convert", "%h", to="a", type_=F, dtype="f32"),
            op("convert", "%a", type_=N, dtype="i64"),
            "%r",
        ),
        graph(N, op("convert", "%h", type_=N, dtype="i64"), "%r"),
    ),
    "an operand that stands for a broadcast result": (
        graph("f32[4,6]", full("z", "1.0"), full("k", "1.0", shape="4,6"), op("mul", "%z", "%k"), "%r"),
        graph("f32[4,6]", full("z", "1.0"), op("expand", "%z", shape="[4,6]"), "%r"),
    ),
}


@pytest.mark.parametrize(("before", "expected"), CASES.values(), ids=CASES)
def test_before_and_expected(before, expected):
    assert first_difference(simplified(before), expected) is None


KEPT = {
    "x + 0 makes +0 of -0": [full("k", "0.0"), op("add", "%x", "%k")],
    "x - -0 makes +0 of -0": [full("k", "-0.0"), op("sub", "%x", "%k")],
    "x * 0 is NaN where x is": [full("k", "0.0"), op("mul", "%x", "%k")],
    "x / 3 is not x * (1/3)": [full("k", "3.0"), op("div", "%x", "%k")],
    "1 / 2**127 is not a normal number": [full("k", "1.7014118346046923e+38"), op("div", "%x", "%k")],
    "x - x is NaN where x is": [op("sub", "%x", "%x")],
    "where(x <= 0 or x >= 7, clamp(x, 0, 6), x) is x between 6 and 7": [
        full("k", "0.0"),
        full("l", "7.0"),
        op("le", "%x", "%k", to="a", type_=B),
        op("ge", "%x", "%l", to="f", type_=B),
        op("logical_or", "%a", "%f", to="d", type_=B),
        op("clamp", "%x", to="e", min="0.0", max="6.0"),
        op("where", "%d", "%e", "%x"),
    ],
    "f32 by way of f16 rounds": [
        op("convert", "%x", to="a", type_="f16[4,6]", dtype="f16"),
        op("convert", "%a", dtype="f32"),
    ],
}


@pytest.mark.parametrize("lines", KEPT.values(), ids=KEPT)
def test_what_would_change_a_bit_stays(lines):
    before = graph(F, *lines, "%r")
    assert simplified(before) == before


def test_names_stay_and_a_replacement_takes_the_old_name():
    before = graph(F, op("neg", "%y", to="a"), op("add", "%x", "%a", to="sum"), op("abs", "%sum"), "%r")
    assert [v.name for node in simplified(before).nodes for v in node.outputs] == ["sum", "r"]


def test_a_product_that_is_also_read_as_it_is_stays():
    text = """
    graph g(%x: f32[2,3], %y: f32[3,4]) -> (f32[2,4], f32[4,2]) {
      %0: f32[2,4] = matmul(%x, %y)
      %1: f32[4,2] = permute(%0) {dims=[1,0]}
      return %0, %1
    }"""
    assert simplified(parse(text)) == parse(text)


def test_every_rule_is_for_a_declared_op():
    assert set(RULES) <= {op.name for op in all_ops()}


REAL = [dtype for dtype in dtypes.ALL if not dtype.is_complex]


@pytest.mark.parametrize("narrow", REAL, ids=repr)
@pytest.mark.parametrize("wide", REAL, ids=repr)
def test_holds_every_agrees_with_the_values(wide, narrow):
    """By trial: every value of the narrow type that is near a limit comes back from the wide one."""
    values = extremes(narrow)
    with np.errstate(all="ignore"):
        back = values.astype(wide.numpy).astype(narrow.numpy)
    survives = back.tobytes() == values.tobytes() and not (narrow.kind != "bool" and wide.kind == "bool")
    if holds_every(wide, narrow):
        assert survives


def extremes(dtype):
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.is_integral:
        info = np.iinfo(dtype.numpy)
        return np.array([info.min, info.max, info.max - 1, 1], dtype.numpy)
    info = ml_dtypes.finfo(dtype.numpy)
    near_one = np.asarray(1, dtype.numpy) + np.asarray(info.eps, dtype.numpy)
    return np.array([info.max, info.min, info.smallest_subnormal, near_one, -0.0], dtype.numpy)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_not_a_bit_changes_on_random_graphs(seed, symbolic):
    # Without matmul: NumPy's may add up a transposed product in another order.
    exact = [op.name for op in all_ops() if op.name != "matmul"]
    before = random_graph(seed, nodes=14, symbolic=symbolic, ops=exact)
    after = verify(Simplify().run(before))
    inputs = random_inputs(before, seed)
    for a, b in zip(run(before, inputs), run(after, inputs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
        if a.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(a[a == a]), np.signbit(b[b == b]))


TAPS = [
    # image, kernel, stride, padding, dilation, what is left of the kernel
    ((14, 14), (3, 3), (1, 1), (24, 24), (24, 24), (1, 1)),
    ((14, 13), (3, 3), (1, 1), (13, 12), (13, 12), (3, 3)),  # the outer taps reach one row, one column
    ((14, 9), (3, 5), (1, 1), (14, 18), (14, 9), (1, 1)),
    ((20, 9), (5, 5), (1, 1), (24, 8), (12, 4), (3, 5)),
    ((1, 1), (3, 5), (1, 1), (1, 2), (1, 1), (1, 1)),
    ((6, 7), (4, 3), (2, 1), (9, 1), (6, 1), (2, 3)),
    ((8,), (3,), (2,), (9,), (9,), (1,)),
]


@pytest.mark.parametrize(("image", "kernel", "stride", "padding", "dilation", "left"), TAPS)
def test_taps_that_meet_only_the_border_are_cut_off(image, kernel, stride, padding, dilation, left):
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 1}
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((2, 3, *image), dtypes.f64))
    w = builder.input("w", TensorType((4, 3, *kernel), dtypes.f64))
    y = builder.conv(x, w, **attrs)
    dx = builder.conv_input_grad(y, w, input_size=x.type.shape, **attrs)
    dw = builder.conv_weight_grad(x, y, weight_size=w.type.shape, **attrs)
    before = builder.finish((y, dx, dw))
    after = simplified(before)
    kernels = {
        "conv": lambda n: n.inputs[1].type.shape[2:],
        "conv_input_grad": lambda n: n.inputs[1].type.shape[2:],
        "conv_weight_grad": lambda n: n.outputs[0].type.shape[2:],
    }
    assert [kernels[n.op.name](n) for n in after.nodes if n.op.name in kernels] == [left] * 3
    inputs = random_inputs(before, 0)
    for a, b in zip(run(before, inputs), run(after, inputs), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)
