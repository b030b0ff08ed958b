"""A whole training step as one compiled graph follows the same step run eagerly."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from networks import digits, lenet

import vitrify as torch
import vitrify.nn as nn


def make_step(net, optimizer):
    criterion = nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "slow momentum": lambda p: torch.optim.SGD(p, lr=0.003, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
}


def twins(optimizer):
    eager, compiled = lenet(), lenet()
    return (
        (eager, make_step(eager, OPTIMIZERS[optimizer](eager.parameters()))),
        (compiled, torch.compile(make_step(compiled, OPTIMIZERS[optimizer](compiled.parameters())))),
    )


def relative(a, b):
    a, b = np.asarray(a.detach().numpy(), np.float64), np.asarray(b.detach().numpy(), np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_compiled_steps_follow_eager_ones(optimizer):
    (eager_net, eager), (net, compiled) = twins(optimizer)
    x, y = digits(16)
    for _ in range(10):
        assert relative(compiled(x, y), eager(x, y)) < 1e-4
    for (name, p), q in zip(net.named_parameters(), eager_net.parameters()):
        assert relative(p, q) < 1e-4, name
        assert relative(p.grad, q.grad) < 1e-3, name


def test_losses_follow_eager_ones_over_200_steps():
    # Training is chaotic: at lr=0.01 rounding alone parts PyTorch from itself (with and without oneDNN) by 8 % within
    # these 200 steps on MNIST. At a third of it two correct implementations stay together.
    (_, eager), (_, compiled) = twins("slow momentum")
    x, y = digits(256)
    for i in range(200):
        rows = slice(16 * (i % 16), 16 * (i % 16) + 16)
        assert relative(compiled(x[rows], y[rows]), eager(x[rows], y[rows])) < 1e-4, i
    assert len(compiled.report().compiles) == 1


def test_gradients_of_the_first_step_equal_eager_ones():
    (eager_net, eager), (net, compiled) = twins("sgd")
    x, y = digits(7)
    eager(x, y), compiled(x, y)
    for (name, p), q in zip(net.named_parameters(), eager_net.parameters()):
        assert relative(p.grad, q.grad) < 1e-5, name


def test_bits_do_not_depend_on_the_thread_count():
    x, y = digits(64)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            net = lenet()
            step = torch.compile(make_step(net, OPTIMIZERS["momentum"](net.parameters())))
            losses = [step(x, y).item() for _ in range(3)]
            found.append((losses, [p.detach().numpy().tobytes() for p in net.parameters()]))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_the_learning_rate_is_read_at_every_call():
    net = lenet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    step = torch.compile(make_step(net, optimizer))
    x, y = digits(4)
    step(x, y)
    optimizer.param_groups[0]["lr"] = 0.0
    before = copy.deepcopy(net.state_dict())
    step(x, y)
    after = net.state_dict()
    assert all((before[k] == after[k]).all().item() for k in before)
    assert len(step.report().compiles) == 1


def test_eager_and_compiled_steps_can_take_turns():
    (_, eager), (net, _) = twins("momentum")
    optimizer = OPTIMIZERS["momentum"](net.parameters())
    plain = make_step(net, optimizer)
    compiled = torch.compile(plain)
    x, y = digits(8)
    for i in range(6):
        assert relative((compiled if i % 2 else plain)(x, y), eager(x, y)) < 1e-4
    assert len(compiled.report().compiles) == 1


def test_gradients_accumulate_without_zero_grad():
    eager_net, net = lenet(), lenet()
    criterion = nn.CrossEntropyLoss()

    def accumulate(net):
        def run(x, y):
            loss = criterion(net(x), y)
            loss.backward()
            return loss

        return run

    eager, compiled = accumulate(eager_net), torch.compile(accumulate(net))
    x, y = digits(4)
    for _ in range(3):
        eager(x, y), compiled(x, y)
    for p, q in zip(net.parameters(), eager_net.parameters()):
        assert relative(p.grad, q.grad) < 1e-5


def test_a_gradient_kept_from_an_earlier_call_is_not_overwritten():
    net = lenet()
    step = torch.compile(make_step(net, OPTIMIZERS["sgd"](net.parameters())))
    x, y = digits(4)
    step(x, y)
    kept = net.fc3.bias.grad
    before = kept.clone()
    array = net.fc1.bias.grad.numpy()
    array_before = array.copy()
    step(x + 1, y)
    assert (kept == before).all().item()
    assert (array == array_before).all()
    assert not (net.fc3.bias.grad == before).all().item()


def test_an_arguments_shape_is_not_changed_in_place():
    with pytest.raises(NotImplementedError, match=r"Write x = x.unsqueeze\(0\)"):
        torch.compile(lambda x: x.unsqueeze_(0))(torch.ones(2, 3))
    own = torch.compile(lambda x: (x * 2).unsqueeze_(0).squeeze_(0).t_())
    assert own(torch.ones(2, 3)).shape == (3, 2)
