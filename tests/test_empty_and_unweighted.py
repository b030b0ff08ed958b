"""Results and gradients where there is nothing to add up, or where a factor of 0 leaves an operand out."""

from __future__ import annotations

import math
import warnings

import pytest

import vitrify as torch
import vitrify.nn.functional as F


@pytest.mark.parametrize("wrapped", [lambda f: f, torch.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    "dim, keepdim, shape", [(1, False, (3,)), (1, True, (3, 1)), (0, False, (0,)), ((0, 1), False, ())]
)
def test_logsumexp_of_nothing(wrapped, dim, keepdim, shape):
    x = torch.zeros(3, 0, requires_grad=True)
    y = wrapped(lambda x: torch.logsumexp(x, dim, keepdim))(x)
    assert y.shape == shape
    assert (y == -math.inf).all()
    y.sum().backward()
    assert x.grad.shape == (3, 0)


def test_losses_of_an_empty_batch():
    nothing, classes = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    assert F.cross_entropy(nothing, classes).isnan()
    assert F.cross_entropy(nothing, torch.zeros(0, 3)).isnan()
    assert F.cross_entropy(nothing, torch.zeros(0, 3), reduction="sum") == 0
    assert F.cross_entropy(nothing, classes, reduction="none").shape == (0,)


def test_others_of_nothing_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (torch.softmax, torch.log_softmax, torch.logcumsumexp, F.softmin):
            assert function(torch.zeros(3, 0), 1).shape == (3, 0)
        assert F.layer_norm(torch.zeros(3, 0), (0,)).shape == (3, 0)
        assert F.rms_norm(torch.zeros(3, 0), (0,)).shape == (3, 0)
        assert F.glu(torch.zeros(0), 0).shape == (0,)


@pytest.mark.parametrize("name", ["addr", "addbmm", "addmm", "addmv", "baddbmm"])
def test_beta_0_gives_the_input_a_gradient_of_0(name):
    shapes = {
        "addr": [(2, 2), (2,), (2,)],
        "addbmm": [(2, 2), (3, 2, 2), (3, 2, 2)],
        "addmm": [(2, 2), (2, 2), (2, 2)],
        "addmv": [(2,), (2, 2), (2,)],
        "baddbmm": [(3, 2, 2), (3, 2, 2), (3, 2, 2)],
    }[name]
    leaves = [torch.ones(*shape, requires_grad=True) for shape in shapes]
    with torch.no_grad():
        leaves[0].fill_(math.nan)
    y = getattr(torch, name)(*leaves, beta=0)
    assert y.isfinite().all()
    y.sum().backward()
    assert (leaves[0].grad == 0).all()
    assert leaves[1].grad.abs().sum() > 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.fill(x, 2.5),
        lambda x: x.clone().fill_(2),
        lambda x: x.clone().zero_(),
        lambda x: x.clone().zero_() + 3 * x,
    ],
    ids=["fill", "fill_", "zero_", "part"],
)
def test_what_was_replaced_gets_a_gradient_of_0_compiled_too(function):
    found = []
    for wrapped in (function, torch.compile(function)):
        x = torch.ones(3, requires_grad=True)
        wrapped(x).sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "function",
    [lambda x, y: x // y, lambda x, y: x + x // 2, lambda x, y: torch.floor_divide(1.0, y)],
    ids=["both", "sum", "other"],
)
@pytest.mark.parametrize("wrapped", [lambda f: f, torch.compile], ids=["eager", "compiled"])
def test_a_missing_derivative_is_an_error_in_backward_only(wrapped, function):
    x, y = torch.full((2, 3), 5.0, requires_grad=True), torch.full((3,), 2.0, requires_grad=True)
    result = wrapped(function)(x, y)
    assert result.requires_grad
    with pytest.raises(RuntimeError, match="derivative for aten::floor_divide is not implemented"):
        result.sum().backward()


def test_what_no_gradient_goes_through_may_be_divided():
    compiled = torch.compile(lambda x: x * (x.detach() // 2) + x[(x // 2).long().clamp(0, 2)])
    x = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    compiled(x).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 3.0]
