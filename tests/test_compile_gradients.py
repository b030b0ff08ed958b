"""Gradients that compiled functions find in `.grad`: whichever tensor is there when they are called."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn


def accumulating(compile_backward, compile_update, optimizer, to_none=True):
    """Losses and norms of three updates, each from the gradients of two parts of a batch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    made = optimizer(net.parameters())
    parts = torch.randn(2, 8, 5)

    def backward(x):
        loss = (net(x) - 1).square().mean() / 2
        loss.backward()
        return loss

    def update():
        norm = nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        made.step()
        made.zero_grad(set_to_none=to_none)
        return norm

    run = torch.compile(backward) if compile_backward else backward
    finish = torch.compile(update) if compile_update else update
    values = [[run(x).item() for x in parts] + [finish().item()] for _ in range(3)]
    compiled = [f for f in (run, finish) if hasattr(f, "history")]
    return np.array(values), compiled


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_backward_and_update_apart(name, to_none):
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    }[name]
    expected, _ = accumulating(False, False, optimizer, to_none)
    for backward, update in itertools.product([False, True], repeat=2):
        found, compiled = accumulating(backward, update, optimizer, to_none)
        np.testing.assert_allclose(found, expected, rtol=2e-5)
        for function in compiled:
            assert len(function.history.compiles) <= 2  # no gradient yet, and a gradient to add to
            assert function.history.retraces == 0


def test_a_replaced_gradient_is_read():
    parameter = nn.Parameter(torch.ones(3))

    @torch.compile
    def halve():
        parameter.grad = parameter.grad / 2

    parameter.grad = torch.tensor([2.0, 4.0, 6.0])
    halve()
    held = parameter.grad
    halve()
    assert parameter.grad.tolist() == [0.5, 1.0, 1.5]
    assert held.tolist() == [1.0, 2.0, 3.0]
    parameter.grad = torch.tensor([8.0, 8.0, 8.0])
    halve()
    assert parameter.grad.tolist() == [4.0, 4.0, 4.0]
    assert len(halve.history.compiles) == 1


def test_a_gradient_written_in_place_is_the_present_one():
    parameter = nn.Parameter(torch.ones(2, 3))

    @torch.compile
    def scale():
        parameter.grad.mul_(2)

    first = parameter.grad = torch.ones(2, 3)
    scale()
    second = parameter.grad = torch.ones(3, 2).t()  # not contiguous
    version = second._version
    scale()
    scale()
    assert first.sum().item() == 12 and second.sum().item() == 24
    assert second._version > version
    parameter.grad = None
    with pytest.raises(AttributeError):
        scale()


def test_explain_and_check_of_what_reads_gradients():
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    step = torch.compile(lambda: optimizer.step())
    net(torch.ones(1, 2)).sum().backward()
    step()
    told = [i for i in step.explain().to_dict()["inputs"] if i["path"].endswith(".grad")]
    assert [i["from"] for i in told] == ["gradient, looked up by each call"] * 2
    before = net.weight.clone()
    assert step.check().ok
    assert (net.weight == before).all().item()


@pytest.mark.parametrize("compiled", [False, True])
def test_hooks_on_a_parameters_node_go_with_the_graphs_that_have_it(compiled):
    weight = torch.nn.Parameter(torch.ones(3))
    run = (torch.compile if compiled else lambda f: f)(lambda x: weight * x)
    x = torch.arange(3.0)
    seen = []
    run(x).sum().backward()
    result = run(x)
    result.grad_fn.next_functions[0][0].register_hook(lambda into, out: seen.append((into, out[0].tolist())))
    result.sum().backward()
    assert seen == [((), [0.0, 1.0, 2.0])]
    del result
    run(x).sum().backward()
    assert len(seen) == 1 and weight.grad.tolist() == [0.0, 3.0, 6.0]


def test_what_changes_about_a_parameter_changes_where_its_gradient_goes():
    weight = torch.nn.Parameter(torch.ones(3))
    run = torch.compile(lambda x: weight * x)
    x = torch.arange(3.0)
    run(x).sum().backward()
    weight.requires_grad_(False)
    assert not run(x).requires_grad
    weight.requires_grad_(True)
    weight.data = torch.full((3,), 2.0)
    assert run(x).tolist() == [0.0, 2.0, 4.0]
    run(x).sum().backward()
    assert weight.grad.tolist() == [0.0, 2.0, 4.0]
