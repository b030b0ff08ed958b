"""Arguments of compiled functions that are one tensor, or share memory, with each other or with captured tensors."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch


def add_into_the_first(a, b):
    a.add_(1)
    return a + b


def halves(x):
    return x[:4], x[2:]


SHARING = {
    "one tensor": lambda x: (x, x),
    "a view of all": lambda x: (x, x[:]),
    "a view first": lambda x: (x.view(2, 3), x.view(2, 3)),
    "transposed": lambda x: (x.view(2, 3), x.view(3, 2).t()),
    "parts": lambda x: (x[:4], x[2:]),
    "a part and all": lambda x: (x[1:2], x),
    "apart": lambda x: (x, x.clone()),
    "both parts apart": lambda x: (x[:3], x[3:]),
}


@pytest.mark.parametrize("order", [list(SHARING), list(SHARING)[::-1]], ids=["forward", "backward"])
def test_results_and_arguments_are_as_eager_code_has_them(order):
    """One compiled function is called with all kinds: none may take another's program."""
    compiled = torch.compile(add_into_the_first)
    for _ in range(2):
        for kind in order:
            ours, theirs = torch.arange(6.0), torch.arange(6.0)
            given = SHARING[kind](ours)
            found = compiled(*given)
            wanted = add_into_the_first(*SHARING[kind](theirs))
            np.testing.assert_array_equal(found.numpy(), wanted.numpy(), err_msg=kind)
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=kind)
    assert len(compiled.report().compiles) <= len(SHARING)


def test_the_identity_of_arguments_is_seen():
    compiled = torch.compile(lambda a, b: a * 2 if a is b else a * 3)
    x = torch.ones(2)
    assert [compiled(x, x)[0].item(), compiled(x, torch.ones(2))[0].item(), compiled(x, x)[0].item()] == [
        2,
        3,
        2,
    ]


def test_arguments_that_are_one_tensor_get_one_gradient():
    compiled = torch.compile(lambda a, b: (a * b).sum().backward())
    x = torch.full((2,), 3.0, requires_grad=True)
    compiled(x, x)
    assert x.grad.tolist() == [6, 6]
    y, z = (torch.full((2,), n, requires_grad=True) for n in (3.0, 5.0))
    compiled(y, z)
    assert y.grad.tolist() == [5, 5] and z.grad.tolist() == [3, 3]


@pytest.mark.parametrize("writes_argument", [True, False])
def test_an_argument_may_be_a_captured_tensor(writes_argument):
    table = torch.zeros(4)

    def f(x):
        (x if writes_argument else table).add_(1)
        return table + x

    compiled = torch.compile(f)
    for wanted in (2, 4):
        assert compiled(table).tolist() == [wanted] * 4
        assert table.tolist() == [wanted / 2] * 4
    assert compiled(table[:]).tolist() == [6] * 4  # a view of it, each time another
    other = torch.full((4,), 10.0)
    assert compiled(other).tolist() == ([14] * 4)
    assert (other.tolist(), table.tolist()) == (
        ([11] * 4, [3] * 4) if writes_argument else ([10] * 4, [4] * 4)
    )
    assert compiled(table)[0].item() == 2 * table[0].item()


def test_the_result_is_the_argument_given_whatever_it_shares():
    table = torch.zeros(4)
    compiled = torch.compile(lambda x: (table.add_(1), x)[1])
    for _ in range(2):
        given = table[:2]
        assert compiled(given) is given and given.tolist() == table.tolist()[:2]


def test_a_step_that_is_given_its_parameter():
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)

    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()
        return x

    compiled = torch.compile(step)
    compiled(torch.ones(2))
    assert weight.tolist() == [0.5, 0.5]
    compiled(weight)  # the gradient of w * w is 2 w
    assert weight.tolist() == [0, 0] and weight.grad.tolist() == [1, 1]


def test_a_repeated_step_that_is_suddenly_given_what_it_changes() -> None:
    """After calls that went the shortest way."""

    def make():
        weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

        def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                weight.mul_(2).add_(y)
                return weight * x

        return weight, step

    weight, step = make()
    other, eager = make()
    compiled = torch.compile(step)
    x, y = torch.ones(2), torch.ones(2)
    for _ in range(3):
        assert compiled(x, y).tolist() == eager(x, y).tolist()
    assert compiled(x, x).tolist() == eager(x, x).tolist()
    assert compiled(weight.detach(), y).tolist() == eager(other.detach(), y).tolist()
    assert compiled(x, y).tolist() == eager(x, y).tolist()
    assert weight.tolist() == other.tolist()
