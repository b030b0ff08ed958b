"""Reading the text form: what is kept, and how each fault is told."""

from __future__ import annotations

import numpy as np
import pytest

from vitrify.ir import dims
from vitrify.ir.graph import IRError, Location
from vitrify.ir.interpreter import run
from vitrify.ir.parser import IRSyntaxError, parse

TEXT = """\
dims batch in 1..256
graph net.forward(%x: f32[batch,4], %w: f32[4]) -> (f32[batch,4], f32[4]) {
  %0: f32[batch,4] = add(%x, %w)   # net.py:21 · layers.0
  %1: f32[4*batch] = reshape(%0) {shape=[4*batch]}   # net.py:22
  %2: f32[batch,4] = reshape(%1) {shape=[batch,4]}
  %3: f32[4] = fused(%w) {name="scale", kind="loop"}   # <stdin>:7
    region scale(%w: f32[4]) -> f32[4] {
      %0: f32[] = full() {shape=[], value=0.1, dtype=f32}
      %1: f32[4] = mul(%w, %0)
      return %1
    }
  return %2, %3 -> %w
}"""


def test_print_of_parse_is_the_text():
    assert str(parse(TEXT)) == TEXT


def test_layout_does_not_matter():
    flat = " ".join(line.split("#")[0].strip() for line in TEXT.splitlines())
    assert parse(flat) == parse(TEXT)


def test_a_parsed_graph_points_at_the_users_lines():
    nodes = parse(TEXT).nodes
    assert nodes[0].location == Location("net.py", 21, "layers.0")
    assert nodes[1].location == Location("net.py", 22)
    assert nodes[2].location is None
    assert nodes[3].location == Location("<stdin>", 7)


def test_carriage_returns_are_white_space():
    graph = parse(TEXT.replace("\n", "\r\n"))
    assert graph == parse(TEXT)
    assert graph.nodes[0].location == Location("net.py", 21, "layers.0")


def test_other_comments_are_just_comments():
    assert parse("# made by hand\n" + TEXT.replace("# net.py:22", "# see above")).nodes[1].location is None


def test_a_parsed_graph_runs():
    x, w = np.ones((2, 4), np.float32), np.arange(4, dtype=np.float32)
    y, new = run(parse(TEXT), [x, w])
    np.testing.assert_array_equal(y, x + w)
    np.testing.assert_array_equal(new, w * np.float32(0.1))


def test_symbols_and_aliases():
    graph = parse(TEXT)
    assert graph.symbols == (dims.Symbol("batch", 1, 256),)
    assert graph.aliases == {1: 1}


FAULTS = [
    ("add(", "addd(", 3, 22, "unknown op 'addd'; did you mean add"),
    ("add(%x, %w)", "add(%x, %v)", 3, 30, "%v is not defined"),
    ("reshape(%0) {shape=[4*", "reshape(%00) {shape=[4*", 4, 30, "%00 is not defined; did you mean %0?"),
    ("%0: f32[batch,4] =", "%0: f32[batch,5] =", 3, 7, "add gives f32[batch,4] here, not f32[batch,5]"),
    ("%0: f32[batch,4] =", "%0: f33[batch,4] =", 3, 7, "unknown dtype 'f33'"),
    ("%2: f32[batch,4] =", "%1: f32[batch,4] =", 5, 3, "%1 is defined twice"),
    ("add(%x, %w)", "add(%x %w)", 3, 29, "expected ',' or ')', found '%w'"),
    ("add(%x, %w)", "add(%x)", 3, 22, "add does not accept these operands: add takes 2 operands, got 1"),
    ("{shape=[4*batch]}", "{shap=[4*batch]}", 4, 35, "reshape has no attribute 'shap'; it has shape"),
    ("{shape=[4*batch]}", "{shape=[4], shape=[4]}", 4, 46, "attribute shape is given twice"),
    ("{shape=[4*batch]}", "{shape=4}", 4, 41, "expected a list of dims, found '4'"),
    ("{shape=[4*batch]}", "", 4, 22, "reshape: attribute 'shape' is missing"),
    ("{shape=[4*batch]}", "{shape=[4*bacth]}", 4, 44, "unknown dim bacth; did you mean batch?"),
    (
        "{shape=[4*batch]}",
        "{shape=[3*batch]}",
        4,
        22,
        "shape '[3*batch]' is invalid for input of size 4*batch",
    ),
    ("value=0.1", "value=zero", 8, 43, "expected a number, inf or nan, found 'zero'"),
    ("dims batch in 1..256", "dims batch in 8..4", 1, 6, "dim batch: 8..4 holds no number"),
    ("dims batch in 1..256\n", "", 1, 27, "unknown dim batch; declare it"),
    ("return %2, %3 -> %w", "return %2, %3 -> %1", 12, 20, "%1 is not an input"),
    ("return %2, %3 -> %w", "return %2", 2, 52, "returns (f32[batch,4]), its head says"),
    (
        "return %2",
        "retrun %2",
        12,
        3,
        "expected a node (`%name: type = op(...)`) or 'return', found 'retrun'",
    ),
    ("region scale(%w: f32[4])", "region scale(%w: f32[4], %v: f32[4])", 2, 1, "region scale takes"),
    ("\n}", "\n} graph", 13, 3, "expected the end of the text after the graph, found 'graph'"),
    ("= add", "= $add", 3, 22, "unexpected character '$'"),
    ('"scale"', '"scale', 6, 50, "a string is not closed"),
    ('"scale"', r'"\x"', 6, 32, "not a valid string"),
    ("f32[4] {\n", "f32[4,-1] {\n", 7, 39, "a dim cannot be -1"),
    ("4*batch]}", "batch%4]}", 4, 47, "a remainder is written `x % 4`, with spaces"),
    ("4*batch]}", "batch // 0]}", 4, 51, "a dim cannot be divided by 0"),
    ("4*batch]}", "9" * 40 + "]}", 4, 42, "an integer of 40 digits is out of range"),
    ("4*batch]}", "(" * 99 + "]}", 4, 101, "nested more than 60 levels deep"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "message"), FAULTS, ids=[f[4][:40] for f in FAULTS])
def test_faults_are_told_with_their_place(old, new, line, column, message):
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(IRSyntaxError) as caught:
        parse(text)
    error = caught.value
    assert message in str(error)
    assert (error.line, error.column) == (line, column)


def test_the_message_shows_the_line_and_marks_the_place():
    with pytest.raises(IRSyntaxError) as caught:
        parse(TEXT.replace("add(", "addd("))
    assert str(caught.value).splitlines()[1:] == [
        "    %0: f32[batch,4] = addd(%x, %w)   # net.py:21 · layers.0",
        "                       ^",
    ]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "graph", "dims", "{", "%", '"', "\x00", TEXT[:-1], TEXT[: len(TEXT) // 2]]
)
def test_text_that_ends_too_soon(text):
    with pytest.raises(IRSyntaxError):
        parse(text)


def test_a_syntax_error_is_an_ir_error():
    assert issubclass(IRSyntaxError, IRError)
