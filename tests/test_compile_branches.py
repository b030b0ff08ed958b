"""Python control flow that depends on tensors: each way is a trace of its own, chosen by how the conditions come out."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


def same(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_both_ways_of_an_if():
    def f(x):
        if x.sum() > 0:
            return x * 2
        return -x

    compiled = torch.compile(f)
    for sign in (1, -1, 1, -1, -1, 1):
        x = torch.tensor([1.0, 2.0]) * sign
        same(compiled(x), f(x))
    report = compiled.report()
    assert len(report.compiles) == 2
    assert (
        "a branch on a tensor came out another way (at test_compile_branches.py" in report.compiles[1].reason
    )


def test_a_while_loop_is_a_trace_for_each_number_of_turns():
    def f(x):
        while x.norm(2) < 10:
            x = x * 2
        return x

    compiled = torch.compile(f)
    for start in (1.0, 3.0, 20.0, 0.9, 1.1):
        x = torch.full((4,), start)
        same(compiled(x), f(x))
    assert len(compiled.report().compiles) == 3


class Tutorial(nn.Module):
    """The ConvNet of the tutorials, with the control flow that they only show in comments."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 8 * 8, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        if x.gt(0).sum() > x.numel() / 2:
            x = x * 0.5
        while x.norm(2) < 10:
            x = x + F.relu(self.conv2(x))
        return self.fc(x.view(x.size(0), -1))


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_training_a_model_with_control_flow(scale):
    torch.manual_seed(0)
    eager = Tutorial()
    torch.manual_seed(0)
    net = Tutorial()
    fast = torch.compile(net)
    torch.manual_seed(1)
    x, y = torch.randn(2, 1, 8, 8) * scale, torch.tensor([0, 2])
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05) for m in (eager, net)]
    for _ in range(6):
        losses = []
        for model, optimizer in zip((eager, fast), optimizers):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss)
        same(*losses)
    for p, q in zip(net.parameters(), eager.parameters()):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_run_that_took_another_branch_leaves_no_mark():
    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def step(x):
            optimizer.zero_grad()
            loss = net(x).pow(2).mean()
            if loss > 0.5:
                loss = loss * 0.5
            loss.backward()
            if next(net.parameters()).grad.norm() > 0.3:
                nn.utils.clip_grad_norm_(net.parameters(), 0.3)
            optimizer.step()
            return loss

        return net, step

    (eager_net, eager), (net, plain) = make(), make()
    compiled = torch.compile(plain)
    torch.manual_seed(1)
    inputs = [torch.randn(5, 4) * s for s in (1, 3, 0.5, 4, 1, 0.2, 3, 1)]
    torch.manual_seed(2)
    with torch.random.counter_based():
        want = [eager(x) for x in inputs]
    torch.manual_seed(2)
    for x, loss in zip(inputs, want):
        same(compiled(x), loss)
    for (name, p), q in zip(net.state_dict().items(), eager_net.state_dict().values()):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
    assert len(compiled.report().compiles) > 1


def test_a_branch_under_a_symbolic_batch():
    def f(x):
        return x + 1 if (x > 0).all() else x - 1

    compiled = torch.compile(f, dynamic_shapes={"x": {0: torch.Dim("n", 1, 9)}})
    for n in (2, 5, 9):
        for sign in (1.0, -1.0):
            x = torch.full((n, 2), sign)
            same(compiled(x), f(x))
    assert len(compiled.report().compiles) == 2
