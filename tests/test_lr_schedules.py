"""Schedules go on from a saved state, and compiled steps follow the rates they set."""

from __future__ import annotations

import copy
import pathlib
import sys

import numpy as np
import pytest

import vitrify as torch

sys.path.insert(0, str(pathlib.Path(__file__).parent / "references"))
from schedule_cases import METRICS, SCHEDULES


def make(name):
    net = torch.nn.Linear(2, 2)
    groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.3}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.7)
    return optimizer, SCHEDULES[name](torch, optimizer)


def advance(name, optimizer, scheduler, metrics):
    found = []
    for metric in metrics:
        optimizer.step()
        scheduler.step(*([metric] if name.startswith("plateau") else []))
        found.append(scheduler.get_last_lr())
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_saved_schedule_goes_on_where_it_stopped(name):
    optimizer, scheduler = make(name)
    advance(name, optimizer, scheduler, METRICS[:5])
    again, resumed = make(name)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    expected = advance(name, optimizer, scheduler, METRICS[5:])
    np.testing.assert_array_equal(advance(name, again, resumed, METRICS[5:]), expected)


@pytest.mark.parametrize("as_tensor", [False, True], ids=["number", "tensor"])
def test_a_compiled_step_follows_the_schedule(as_tensor):
    def train(compile):
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 2)
        rate = torch.tensor(0.5) if as_tensor else 0.5
        optimizer = torch.optim.SGD(net.parameters(), lr=rate)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=10, cycle_momentum=False)
        x = torch.randn(8, 4)

        def step(x):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = torch.compile(step) if compile else step
        losses = []
        for _ in range(8):
            losses.append(run(x).item())
            scheduler.step()
        if compile:
            assert len(run.report().compiles) == 1
        return losses

    np.testing.assert_allclose(train(True), train(False), rtol=1e-5)
