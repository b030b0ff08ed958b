"""`torch.utils.checkpoint`: what is kept, when it runs again, and what it refuses."""

from __future__ import annotations

import pytest

import vitrify as torch
from vitrify.utils.checkpoint import (
    CheckpointError,
    checkpoint,
    checkpoint_sequential,
    set_checkpoint_early_stop,
)


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_function_runs_again_in_backward(reentrant):
    runs = []

    def f(x):
        runs.append(1)
        return (x * 2).sin().exp()

    x = torch.randn(4, requires_grad=True)
    y = checkpoint(f, x, use_reentrant=reentrant)
    assert len(runs) == 1
    y.sum().backward()
    assert len(runs) == 2
    z = x.detach().clone().requires_grad_()
    f(z).sum().backward()
    assert torch.equal(x.grad, z.grad)


@pytest.mark.parametrize("reentrant", [False, True])
def test_random_numbers_are_drawn_again(reentrant):
    x = torch.ones(100, requires_grad=True)
    y = checkpoint(lambda v: torch.nn.functional.dropout(v * v, 0.5), x, use_reentrant=reentrant)
    y.sum().backward()
    assert torch.equal((x.grad != 0), (y != 0))
    after = torch.rand(3)
    assert not torch.equal(after, torch.rand(3))


def test_early_stop_skips_what_nothing_needs():
    def f(x):
        y = (x * x).exp()
        calls.append(1)
        return y + 1

    for early, count in ((True, 1), (False, 2)):
        calls = []
        x = torch.ones(2, requires_grad=True)
        with set_checkpoint_early_stop(early):
            checkpoint(f, x, use_reentrant=False).sum().backward()
        assert len(calls) == count


def test_keyword_arguments_and_parameters():
    layer = torch.nn.Linear(3, 3)
    x = torch.randn(2, 3)
    checkpoint(lambda v, scale: layer(v) * scale, x, scale=2.0, use_reentrant=False).sum().backward()
    assert torch.allclose(layer.bias.grad, torch.full((3,), 4.0))


def test_a_function_that_saves_something_else_is_found_out():
    sizes = iter([3, 2])
    x = torch.ones(3, requires_grad=True)
    y = checkpoint(lambda v: (v[: next(sizes)] * 2).exp().sum(), x, use_reentrant=False)
    with pytest.raises(CheckpointError, match="different metadata"):
        y.backward()


def test_refusals():
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: a"):
        checkpoint(torch.sin, x, use_reentrant=True, a=1)
    with pytest.warns(UserWarning, match="the use_reentrant parameter should be passed explicitly"):
        checkpoint(torch.sin, x)
    y = checkpoint(torch.sin, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match=r"torch.utils.checkpoint is incompatible with .grad\(\)"):
        torch.autograd.grad(y.sum(), x)


def test_nested_and_sequential():
    x = torch.randn(4, requires_grad=True)

    def inner(v):
        return checkpoint(torch.exp, v.sin(), use_reentrant=False).cos()

    checkpoint(inner, x, use_reentrant=False).sum().backward()
    y = x.detach().clone().requires_grad_()
    y.sin().exp().cos().sum().backward()
    assert torch.allclose(x.grad, y.grad)
    steps = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(5)))
    assert torch.equal(checkpoint_sequential(steps, 2, x, use_reentrant=False), steps(x))


def test_compiled_numbers_are_right():
    f = torch.compile(lambda v: checkpoint(lambda u: (u * 2).sin().exp(), v, use_reentrant=False))
    x = torch.randn(4, requires_grad=True)
    f(x).sum().backward()
    y = x.detach().clone().requires_grad_()
    (y * 2).sin().exp().sum().backward()
    assert torch.allclose(x.grad, y.grad)
