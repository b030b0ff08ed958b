"""What moves out of a scan: projections of sequences before it, sums of products after it."""

from __future__ import annotations

import numpy as np
import pytest

from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify
from vitrify.passes.dce import DeadCodeElimination
from vitrify.passes.scan_motion import ScanMotion


def f32(*shape):
    return TensorType(shape, dtypes.f32)


def check(graph, bindings=None):
    """The graph after the pass, with the same values; and the ops in and outside its scan's body."""
    after = verify(DeadCodeElimination().run(ScanMotion().run(graph)))
    assert parse(to_text(after)) == after
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.type.bind(bindings or {}).shape).astype(np.float32) for v in graph.inputs]
    for got, want in zip(run(after, arrays), run(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    (scan,) = (n for n in after.nodes if n.op.name == "scan")
    inside = [n.op.name for n in scan.regions[0].nodes]
    return inside, [n.op.name for n in after.nodes]


def cell(batch=2):
    F = GraphBuilder("g")
    given = F.input("h", f32(batch, 3)), F.input("x", f32(5, batch, 4)), F.input("v", f32(3, 4))

    def step(F, state, elements, weights):
        projected = F.matmul(F.mul(elements[0], 2.0), F.permute(weights[0], dims=(1, 0)))
        h = F.tanh(F.add(F.matmul(state[0], weights[1]), projected))
        return (h,), (h,)

    w = F.input("w", f32(3, 3))
    (final,), (stacked,) = F.scan(step, given[:1], given[1:2], (given[2], w), length=5, reverse=True)
    return F.finish([final, stacked])


def test_a_projection_goes_before_the_loop():
    inside, outside = check(cell())
    assert inside == ["matmul", "add", "tanh"]
    assert outside.count("matmul") == 1 and outside[-1] == "scan"


def test_with_a_symbolic_batch():
    assert check(cell(Dim("batch", 1, 8)), {"batch": 3})[0] == ["matmul", "add", "tanh"]


def sums(term, states=1, reverse=False):
    """A scan that runs d = tanh(d * x) and adds `term(F, d, x)` to each of the other states."""
    F = GraphBuilder("g")
    d, x = F.input("d", f32(2, 3)), F.input("x", f32(5, 2, 3))
    shape = term(
        F, d, F.reshape(F.slice(x, starts=(0, 0, 0), stops=(1, 2, 3), steps=(1, 1, 1)), shape=(2, 3))
    )
    totals = [F.input(f"s{i}", shape.type) for i in range(states)]

    def step(F, state, elements, weights):
        before, *rest = state
        added = term(F, before, elements[0])
        return (F.tanh(F.mul(before, elements[0])), *(F.add(s, added) for s in rest)), ()

    finals, _ = F.scan(step, (d, *totals), (x,), length=5, reverse=reverse)
    return F.finish(finals)


def product(F, d, x):
    return F.matmul(F.permute(d, dims=(1, 0)), x)


def turned_product(F, d, x):
    return F.permute(product(F, x, d), dims=(1, 0))


def column_sums(F, d, x):
    return F.sum(F.mul(d, x), dims=(0,))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("term", [product, turned_product, column_sums])
def test_a_sum_over_the_steps_goes_after_the_loop(term, reverse):
    inside, outside = check(sums(term, reverse=reverse))
    assert "matmul" not in inside and "sum" not in inside
    assert outside.count("matmul") + outside.count("sum") >= 1


def test_one_term_of_two_states():
    inside, _ = check(sums(column_sums, states=2))
    assert inside.count("add") == 0


def test_other_states_stay():
    assert check(sums(lambda F, d, x: F.mul(d, x)))[0].count("add") == 1  # not a product: as large as its sum

    def used(F, state, elements, weights):
        total = F.add(state[0], F.matmul(F.permute(elements[0], dims=(1, 0)), elements[0]))
        return (total,), (F.tanh(total),)

    F = GraphBuilder("g")
    s, x = F.input("s", f32(3, 3)), F.input("x", f32(5, 2, 3))
    (final,), (stacked,) = F.scan(used, (s,), (x,), length=5)
    assert "matmul" in check(F.finish([final, stacked]))[0]


def test_a_projected_result_goes_after_the_loop():
    F = GraphBuilder("g")
    s, x, w = F.input("s", f32(2, 3)), F.input("x", f32(5, 2, 3)), F.input("w", f32(3, 4))

    def step(F, state, elements, weights):
        h = F.tanh(F.add(state[0], elements[0]))
        return (h,), (F.reshape(F.matmul(h, weights[0]), shape=(1, 8)), h)

    _, stacked = F.scan(step, (s,), (x,), (w,), length=5)
    inside, outside = check(F.finish(stacked))
    assert inside == ["add", "tanh"] and outside == ["scan", "matmul", "reshape"]
