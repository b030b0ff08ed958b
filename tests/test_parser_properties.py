"""Printing and parsing undo each other for every op and for random graphs; damaged text never does worse
than an error."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from graphs import random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir import dims, dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import first_difference
from vitrify.ir.op import all_ops
from vitrify.ir.parser import IRSyntaxError, parse
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify

SAMPLES = [(op, i) for op in all_ops() for i in range(len(op.samples))]


@pytest.mark.parametrize(("op", "row"), SAMPLES, ids=[f"{op.name}-{i}" for op, i in SAMPLES])
def test_every_sample_of_every_op_reads_back(op, row):
    sample = op.samples[row]
    F = GraphBuilder(op.name)
    arrays = [np.asarray(a) for a in sample.make(np.random.default_rng(0))]
    operands = [
        F.input(f"x{i}", TensorType(a.shape, dtypes.from_numpy(a.dtype))) for i, a in enumerate(arrays)
    ]
    result = F.apply(op, operands, sample.attrs)
    graph = verify(F.finish(result if isinstance(result, tuple) else (result,)))
    assert first_difference(parse(str(graph)), graph) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_random_graphs_read_back(seed, symbolic):
    graph = verify(random_graph(seed, nodes=10, symbolic=symbolic))
    text = str(graph)
    again = parse(text)
    assert first_difference(again, graph) is None
    assert str(again) == text


floats = st.floats(allow_nan=True, allow_infinity=True)
scalars = st.one_of(floats, st.booleans(), st.integers(-(2**63), 2**64 - 1))


@settings(max_examples=100, deadline=None)
@given(scalars, floats, st.text(max_size=8), st.text(min_size=1, max_size=8))
def test_attributes_and_names_read_back(scalar, slope, approximate, name):
    F = GraphBuilder(name)
    x = F.input(name, TensorType((3,), dtypes.f32))
    filled = F.full(shape=(2, 0), value=scalar, dtype=dtypes.f64)
    graph = F.finish([filled, F.leaky_relu(x, negative_slope=slope), F.clamp(x, max=scalar)])
    assert first_difference(parse(str(graph)), graph) is None


@st.composite
def dim_expressions(draw, depth=3):
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([dims.Dim("batch", 1, 64), dims.Dim("seq", 0), 1, 2, 7, 16]))
    left, right = draw(dim_expressions(depth - 1)), draw(dim_expressions(depth - 1))
    match draw(st.sampled_from(["add", "mul", "sub", "floordiv", "mod", "min"])):
        case "add":
            return left + right
        case "mul":
            return left * right
        case "sub":
            return left - right
        case "floordiv":
            return dims.floordiv(left, draw(st.integers(1, 9)))
        case "mod":
            return dims.mod(left, draw(st.integers(1, 9)))
    return dims.minimum(left, right)


@settings(max_examples=150, deadline=None)
@given(dim_expressions())
def test_dim_expressions_read_back(dim):
    if isinstance(dim, int) and dim < 0:
        dim = -dim
    F = GraphBuilder("g")
    F.input("a", TensorType((dims.Dim("batch", 1, 64), dims.Dim("seq", 0)), dtypes.f32))
    x = F.input("x", TensorType((dim,), dtypes.f32))
    graph = F.finish([x])
    assert first_difference(parse(str(graph)), graph) is None


PIECE = re.compile(r"\s+|[\w.]+|.")
VALID = [str(random_graph(seed, nodes=8, symbolic=seed % 2 == 0)) for seed in range(20)]
PIECES = [piece for text in VALID for piece in PIECE.findall(text)]
STRANGE = [
    "0",
    "-1",
    "9" * 20,
    "1e400",
    "nan",
    '"',
    "%",
    "\\",
    "\x00",
    "é",
    "((((",
    "inf",
    "none",
    "true",
    "#",
    "2",
]


def damaged(seed: int) -> str:
    """A valid text with a few pieces deleted, doubled, moved or replaced."""
    rng = random.Random(seed)
    pieces = PIECE.findall(rng.choice(VALID))
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(pieces))
        match rng.randrange(6):
            case 0:
                pieces[i] = ""
            case 1:
                pieces.insert(i, rng.choice(PIECES))
            case 2:
                pieces[i] = rng.choice(PIECES)
            case 3:
                j = rng.randrange(len(pieces))
                pieces[i], pieces[j] = pieces[j], pieces[i]
            case 4:
                pieces[i] = rng.choice(STRANGE)
            case _:
                numbers = [n for n, piece in enumerate(pieces) if piece.isdigit()]
                pieces[rng.choice(numbers)] = str(rng.choice([0, 1, 2, 3, 7, -1, 10**6, 10**18]))
    return "".join(pieces)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**9))
def test_damaged_text_is_an_error_or_a_valid_graph(seed):
    text = damaged(seed)
    try:
        graph = parse(text)
    except IRSyntaxError as error:
        assert 1 <= error.line <= text.count("\n") + 1
        return
    assert parse(str(verify(graph))) == graph


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_an_error(text):
    with pytest.raises(IRSyntaxError):
        parse(text)
