"""Loops that tracing wrote out become scans: the same values, forward and backward; what is no such loop stays."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.dce import DeadCodeElimination
from vitrify.passes.reroll import Reroll

STEPS = 10


def f32(*shape):
    return TensorType(shape, dtypes.f32)


def at(F, x, t):
    shape = x.type.shape
    part = F.slice(x, starts=(t, 0, 0), stops=(t + 1, *shape[1:]), steps=(1, 1, 1))
    return F.reshape(part, shape=shape[1:])


def loop(step, steps=STEPS, order=None, inputs=1):
    """The graph of a Python loop: `step(F, t, element, h, w)` gives the next h."""
    F = GraphBuilder("g")
    h, w = F.input("h", f32(2, 3)), F.input("w", f32(3, 3))
    x = F.input("x", f32(steps, 2, 3))
    stack = []
    for t in order or range(steps):
        h = step(F, t, at(F, x, t), h, w)
        stack.append(F.reshape(h, shape=(1, 2, 3)))
    return F.finish([h, F.concat(*stack, dim=0)])


def cell(F, t, x, h, w):
    return F.tanh(F.add(x, F.matmul(h, w)))


def scans(graph):
    return [n for n in graph.nodes if n.op.name == "scan"]


def check(graph, count):
    """The pass finds `count` scans, and the graph's values stay the same in every bit."""
    after = verify(DeadCodeElimination().run(Reroll().run(graph)))
    assert parse(to_text(after)) == after
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.type.shape).astype(np.float32) for v in graph.inputs]
    for got, want in zip(run(after, arrays), run(graph, arrays), strict=True):
        np.testing.assert_array_equal(got, want)
    assert len(scans(after)) == count
    return after


def test_a_loop_over_a_cell():
    after = check(loop(cell), 1)
    (node,) = scans(after)
    assert [v.name for v in node.inputs[:1]] == ["h"] and node.inputs[-1].name == "w"
    assert node.attrs["length"] == STEPS
    assert [n.op.name for n in node.regions[0].nodes] == ["matmul", "add", "tanh", "reshape"]


def test_steps_in_reverse():
    check(loop(cell, order=range(STEPS - 1, -1, -1)), 1)


def test_forward_and_backward():
    graph = loop(cell)
    joint = DeadCodeElimination().run(Autodiff(("h", "w"), seed="ones").run(graph))
    after = check(joint, 2)
    assert [n.attrs["reverse"] for n in scans(after)] == [False, True]
    assert len(after.nodes) < len(joint.nodes)


def test_pieces_of_several_rows_and_of_another_dim():
    F = GraphBuilder("g")
    h, x = F.input("h", f32(2, 2)), F.input("x", f32(2, 2 * STEPS))
    for t in range(STEPS):
        h = F.matmul(h, F.slice(x, starts=(0, 2 * t), stops=(2, 2 * t + 2), steps=(1, 1)))
    check(F.finish([h]), 1)


def test_two_states_and_the_element_before():
    F = GraphBuilder("g")
    a, b, w = F.input("a", f32(2, 3)), F.input("b", f32(2, 3)), F.input("w", f32(3, 3))
    x = F.input("x", f32(STEPS, 2, 3))
    before = a
    for t in range(STEPS):
        given = at(F, x, t)
        a, b = F.add(F.matmul(b, w), before), F.mul(a, given)
        before = given
    check(F.finish([a, b]), 1)


def test_values_of_all_turns_and_of_some():
    F = GraphBuilder("g")
    h, w, x = F.input("h", f32(2, 3)), F.input("w", f32(3, 3)), F.input("x", f32(STEPS, 2, 3))
    kept = []
    for t in range(STEPS):
        h = cell(F, t, at(F, x, t), h, w)
        kept.append(h)
    check(F.finish([kept[3], kept[0], kept[-1], F.add(kept[5], kept[6])]), 1)


def test_the_gradient_of_what_was_sliced_and_views_of_weights():
    def turned(F, t, x, h, w):
        return F.tanh(F.add(x, F.matmul(h, F.permute(w, dims=(1, 0)))))

    for order in (None, range(STEPS - 1, -1, -1)):
        joint = DeadCodeElimination().run(
            Autodiff(("h", "w", "x"), seed="ones").run(loop(turned, order=order))
        )
        after = check(joint, 2)
        assert (
            sum(n.op.name == "pad" for n in after.nodes) <= 3
        )  # of the steps at the ends, and of all others


def test_gradients_of_slices_of_another_dim():
    F = GraphBuilder("g")
    h, x = F.input("h", f32(2, 2)), F.input("x", f32(2, 2 * STEPS))
    for t in range(STEPS):
        h = F.matmul(h, F.slice(x, starts=(0, 2 * t), stops=(2, 2 * t + 2), steps=(1, 1)))
    check(DeadCodeElimination().run(Autodiff(("h", "x"), seed="ones").run(F.finish([h]))), 2)


def other_weights(F, t, x, h, w):
    return F.matmul(h, F.mul(w, float(t)))


def irregular(F, t, x, h, w):
    y = F.matmul(h, w)
    return F.tanh(y) if t % 3 == 1 else y


def pointwise(F, t, x, h, w):
    return F.tanh(F.add(h, x))


@pytest.mark.parametrize("step", [other_weights, irregular, pointwise])
def test_what_is_no_loop_of_one_step_stays(step):
    check(loop(step), 0)


def test_elements_in_no_order_stay():
    check(loop(cell, order=[0, 2, 1, 3, 5, 4, 6, 9, 8, 7]), 0)


def test_a_state_of_two_turns_ago_stays():
    F = GraphBuilder("g")
    a, b, w = F.input("a", f32(2, 3)), F.input("b", f32(2, 3)), F.input("w", f32(3, 3))
    for _ in range(STEPS):
        a, b = b, F.add(F.matmul(b, w), a)
    check(F.finish([b]), 0)


def test_few_turns_stay():
    check(loop(cell, steps=4), 0)


def test_draws_stay():
    F = GraphBuilder("g")
    h, w, state = F.input("h", f32(2, 3)), F.input("w", f32(3, 3)), F.input("s", TensorType((2,), dtypes.i64))
    for t in range(STEPS):
        h = F.mul(F.matmul(h, w), F.random_uniform(state, shape=(2, 3), dtype=dtypes.f32, stream=t))
    graph = F.finish([h])
    assert not scans(Reroll().run(graph))


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("whole_step", [False, True])
def test_compiled_loops_over_cells(kind, whole_step):
    torch.manual_seed(0)
    module = getattr(nn, kind)(4, 5)
    x = torch.randn(12, 3, 4)

    def loss_of(x):
        state = [torch.zeros(3, 5), torch.zeros(3, 5)]
        outputs = []
        for t in range(12):
            if kind == "LSTMCell":
                state = module(x[t], state)
            else:
                state = [module(x[t], state[0])]
            outputs.append(state[0])
        return torch.stack(outputs).pow(2).mean()

    def step(x):
        for p in module.parameters():
            p.grad = None
        loss = loss_of(x)
        loss.backward()
        return loss

    want = step(x)
    gradients = [p.grad.numpy().copy() for p in module.parameters()]
    if whole_step:
        compiled = torch.compile(step)
        got = compiled(x)
    else:
        for p in module.parameters():
            p.grad = None
        compiled = torch.compile(loss_of)
        got = compiled(x)
        got.backward()
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-5)
    for p, expected in zip(module.parameters(), gradients):
        np.testing.assert_allclose(p.grad.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert sum(len(g.program.repeats) for g in compiled.graphs()) == 2
