"""Symbolic dims: every expression means what the same expression over integers means."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir import dims
from vitrify.ir.dims import Dim, Expr, evaluate, of_one_symbol, solved, symbol

NAMES = {"b": (1, 256), "i": (0, 24), "j": (-3, 4), "k": (0, 1000)}
VALUES = st.fixed_dictionaries({name: st.integers(low, high) for name, (low, high) in NAMES.items()})


def leaf():
    symbols = [(symbol(name, *bounds), name) for name, bounds in NAMES.items()]
    return st.one_of(
        st.sampled_from(symbols),
        st.integers(-20, 40).map(lambda n: (n, n)),
    )


def grow(children):
    divisors = st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12, 16, 25])
    return st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "min"]), children, children),
        st.tuples(st.sampled_from(["//", "%"]), children, divisors),
        st.tuples(st.just("split"), children, divisors),
    )


EXPRESSIONS = st.recursive(leaf(), grow, max_leaves=6)
SMALL = settings(max_examples=300, deadline=None)


def build(tree):
    """The tree as a dim."""
    if len(tree) == 2:
        return tree[0]
    operator, left, right = tree
    a = build(left)
    match operator:
        case "//":
            return dims.floordiv(a, right)
        case "%":
            return dims.mod(a, right)
        case "split":
            return dims.floordiv(a, right) * right + dims.mod(a, right)
    b = build(right)
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "min": lambda: dims.minimum(a, b)}[
        operator
    ]()


def meaning(tree, values):
    """The tree as an integer."""
    if len(tree) == 2:
        return values[tree[1]] if isinstance(tree[1], str) else tree[1]
    operator, left, right = tree
    a = meaning(left, values)
    match operator:
        case "//":
            return a // right
        case "%":
            return a % right
        case "split":
            return a
    b = meaning(right, values)
    return {"+": a + b, "-": a - b, "*": a * b, "min": min(a, b)}[operator]


@SMALL
@given(EXPRESSIONS, VALUES)
def test_an_expression_evaluates_to_what_integers_give(tree, values):
    assert dims.evaluate(build(tree), values) == meaning(tree, values)


@SMALL
@given(EXPRESSIONS, VALUES)
def test_bounds_hold(tree, values):
    low, high = dims.bounds(build(tree))
    assert low <= meaning(tree, values) <= high


@SMALL
@given(EXPRESSIONS, VALUES, st.sets(st.sampled_from(sorted(NAMES))))
def test_substituting_in_two_steps_is_evaluating(tree, values, first):
    value = dims.substitute(build(tree), {name: values[name] for name in first})
    assert dims.substitute(value, values) == meaning(tree, values)


@SMALL
@given(EXPRESSIONS, VALUES, st.sampled_from(sorted(NAMES)))
def test_coefficient_takes_an_expression_apart(tree, values, name):
    value = build(tree)
    parts = dims.coefficient(value, name)
    if parts is not None:
        stride, rest = parts
        assert not any(s.name == name for part in parts for s in dims.symbols(part))
        assert stride * symbol(name, *NAMES[name]) + rest == value


@SMALL
@given(EXPRESSIONS, EXPRESSIONS)
def test_sums_and_products_have_one_form(left, right):
    a, b = build(left), build(right)
    assert a + b == b + a
    assert a * b == b * a
    assert a + b - b == a
    assert dims.minimum(a, b) == dims.minimum(b, a)
    assert a * (b + 3) == a * b + 3 * a


@SMALL
@given(EXPRESSIONS, EXPRESSIONS)
def test_exact_division_undoes_multiplication(left, right):
    a, b = build(left), build(right)
    if b != 0:
        assert dims.exact_div(a * b, b) == a


@SMALL
@given(EXPRESSIONS)
def test_a_pickled_expression_is_equal_and_hashes_equal(tree):
    value = build(tree)
    again = pickle.loads(pickle.dumps(value))
    assert again == value and hash(again) == hash(value) and str(again) == str(value)


I, J = symbol("i", 0, 399), symbol("j", 0, 4)
B = Dim("batch", 1, 256)


@pytest.mark.parametrize(
    "value, text",
    [
        (I + 2 - I, "2"),
        (2 * B * I + I * B, "3*batch*i"),
        ((5 * I + J) // 5, "i"),
        ((5 * I + J) % 5, "j"),
        ((16 * I + 18) // 16, "i+1"),
        ((18 * I + 6 * J) // 12, "((i+j) // 2)+i"),
        (I // 5 // 5, "(i // 25)"),
        ((I % 25) // 5, "((i // 5) % 5)"),
        ((I % 25) % 5, "(i % 5)"),
        (25 * (I // 25) + 5 * (I // 5 % 5) + I % 5, "i"),
        ((8 * I + J + 2) // 64, "(i // 8)"),
        ((8 * I + J + 2) % 64, "8*(i % 8)+j+2"),
        ((8 * I + 2 * J) % 64, "2*((4*i+j) % 32)"),
        (B * (400 * (I // 5) + 80 * (I % 5)), "80*batch*i"),
        (I // 400, "0"),
        (dims.minimum(B, 300), "batch"),
        (dims.minimum(B + 1, B), "batch"),
        (dims.minimum(B, 64) - 1, "min(batch, 64)-1"),
        (-I // 16, "((-i) // 16)"),
    ],
)
def test_the_normal_form_reads_as_one_would_write_it(value, text):
    assert str(value) == text


def test_division_by_a_symbolic_dim_must_be_exact():
    assert dims.floordiv(B * I * 3 + 6 * B, B) == 3 * I + 6
    assert dims.exact_div(0, B) == 0
    for value, divisor in ((B + 1, B), (7, B), (B, 2), (B, 0), (3, 0)):
        with pytest.raises(ValueError, match="not divisible"):
            dims.exact_div(value, divisor)
    with pytest.raises(ValueError, match="must be positive"):
        dims.floordiv(B, 0)
    with pytest.raises(ValueError, match="must be positive"):
        dims.mod(B, -2)


def test_a_symbolic_dim_is_not_a_number():
    assert isinstance(B, Expr)
    assert bool(B)  # at least 1
    with pytest.raises(TypeError, match="the truth of the symbolic dim batch-1 is not known"):
        bool(B - 1)
    with pytest.raises(TypeError, match="the dim batch is symbolic"):
        int(B)
    with pytest.raises(KeyError, match="no value for batch in batch\\*i"):
        dims.evaluate(B * I, {"i": 3})
    with pytest.raises(ValueError, match="must be an identifier"):
        Dim("not a name")
    with pytest.raises(ValueError, match="bounds must satisfy"):
        Dim("n", 5, 4)


def test_bounds_of_a_dim_are_ints():
    with pytest.raises(TypeError, match="bounds must be ints"):
        dims.Dim("n", 1, float("inf"))
    with pytest.raises(ValueError, match="0 <= low <= high"):
        dims.Dim("n", 3, 2)


def test_a_dim_of_one_symbol_tells_it():
    n = Dim("n", 1, 40)
    assert of_one_symbol(n)[1:] == (1, 0) and of_one_symbol(3 * n - 2)[1:] == (3, -2)
    assert [of_one_symbol(d) for d in (7, n * n, n + Dim("m"), (n + 1) // 2)] == [None] * 4
    assert solved(3 * n - 2, 19) == (solved(n, 7)[0], 7) and solved(5, 5) is None
    assert evaluate(3 * n - 2, {"n": solved(3 * n - 2, 20)[1]}) != 20  # which is no such size
