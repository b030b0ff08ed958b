"""Optimizers with differentiable=True: autograd records the step. The gradients are PyTorch 2.13's."""

from __future__ import annotations

import pytest

import vitrify as torch

# Optimizer, arguments, and after one and two steps the gradient of sum(p * [1, 2, 3]) with respect to x, from which the
# parameter and its gradients are made. None: PyTorch refuses, for it has changed what it saved.
CASES = [
    (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        [0.74597, 2.883229, 2.436725],
        [0.274735, 8.710652, 1.267206],
    ),
    (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1},
        [1.0, 2.0, 3.0],
        [0.652266, 3.705037, 2.280231],
    ),
    ("SGD", {"lr": 0.1}, [0.74597, 2.883229, 2.436725], [0.448499, 5.62949, 1.757202]),
    ("Adam", {"lr": 0.1}, [1.0, 2.0, 3.0], [1.00132, 2.007531, 2.999503]),
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}, [1.0, 2.0, 3.0], None),
    ("AdamW", {"lr": 0.1}, [0.999, 1.998, 2.997], [0.999309, 2.003523, 2.993468]),
    ("Adagrad", {}, [1.0, 2.0, 3.0], [0.999428, 1.999282, 2.996651]),
    ("Adamax", {}, [1.0, 2.0, 3.0], None),
    ("NAdam", {}, [1.0, 2.0, 3.0], [0.999896, 1.999872, 2.999391]),
    ("RAdam", {}, [0.99746, 2.008832, 2.994367], [0.993876, 2.021925, 2.987166]),
    ("Adadelta", {}, [1.0, 2.0, 3.0], [0.999768, 1.999707, 2.99864]),
    ("ASGD", {}, [0.974596, 2.088321, 2.94367], [0.930926, 2.266289, 2.859325]),
    ("RMSprop", {"momentum": 0.9, "centered": True}, [1.0, 2.0, 3.0], None),
    ("Rprop", {}, [1.0, 2.0, 3.0], None),
]


def gradient(name, arguments, steps):
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    p = x.clone()
    optimizer = getattr(torch.optim, name)([p], differentiable=True, **arguments)
    for i in range(steps):
        q = p.clone()
        p.grad = q * q * (i + 1) + torch.sin(x)
        optimizer.step()
    (p * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).sum().backward()
    return x.grad


@pytest.mark.parametrize(
    "name, arguments, one, two", CASES, ids=lambda v: str(v) if isinstance(v, str) else ""
)
def test_the_gradient_of_a_step(name, arguments, one, two):
    wanted = torch.tensor(one, dtype=torch.float64)
    torch.testing.assert_close(gradient(name, arguments, 1), wanted, rtol=0, atol=2e-6)
    if two is not None:
        wanted = torch.tensor(two, dtype=torch.float64)
        torch.testing.assert_close(gradient(name, arguments, 2), wanted, rtol=0, atol=2e-6)


def test_other_optimizers_record_nothing_and_take_leaves_only():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="can't optimize a non-leaf Tensor"):
        torch.optim.SGD([x.clone()], lr=0.1)
    x.grad = torch.ones(2)
    torch.optim.SGD([x], lr=0.1).step()
    assert x.is_leaf and x.grad_fn is None


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad"])
def test_fused_steps_cannot_be_recorded(name):
    with pytest.raises(RuntimeError, match="`fused` does not support `differentiable`"):
        getattr(torch.optim, name)([torch.ones(1)], lr=0.1, fused=True, differentiable=True)
