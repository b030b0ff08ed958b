"""What vitrify's optimizers have beside PyTorch's: hyper-parameters that a compiled step reads anew, guarded
facts."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn
from vitrify import capture
from vitrify.optim.optimizer import (
    GroupReader,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from vitrify.state import local


class Recorder:
    """Stands for a tracer: hands out numbers as tensors and notes what is asked."""

    gpu = None

    def __init__(self):
        self.numbers, self.guards = {}, {}

    def hyperparameter(self, get, name):
        self.numbers[name] = get
        return torch.tensor(get(), dtype=torch.float64)

    def guard_value(self, get, name):
        self.guards[name] = get

    def create_state(self, make):
        return make()


@contextlib.contextmanager
def traced_by(recorder):
    """`recorder` in the place of a tracer; the eager backend still computes."""
    local.backend.capture = recorder
    try:
        yield
    finally:
        local.backend.capture = None


def stepped(make, recorder=None):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = make(net.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(1, 3)).pow(2).sum().backward()
        with traced_by(recorder):
            optimizer.step()
    return optimizer, [p.detach().numpy() for p in net.parameters()]


CASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd_all": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_are_the_same_with_numbers_as_tensors(name):
    _, found = stepped(CASES[name], Recorder())
    _, expected = stepped(CASES[name])
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=2e-6)


def test_numbers_are_read_anew():
    recorder = Recorder()
    optimizer, _ = stepped(CASES["sgd_all"], recorder)
    names = {"SGD.lr", "SGD.momentum", "SGD.weight_decay", "SGD.dampening"}
    assert set(recorder.numbers) == names
    optimizer.param_groups[0]["lr"] = 0.5
    assert recorder.numbers["SGD.lr"]() == 0.5
    again = GroupReader(optimizer, 0)
    first = recorder.numbers["SGD.lr"]
    with traced_by(recorder):
        again.number("lr", first.read)
    assert recorder.numbers["SGD.lr"] == first and hash(recorder.numbers["SGD.lr"]) == hash(first)


def test_facts_that_choose_the_code_are_guarded():
    recorder = Recorder()
    optimizer, _ = stepped(CASES["sgd"], recorder)
    facts = next(get for name, get in recorder.guards.items() if "momentum != 0" in name)
    version = next(get for name, get in recorder.guards.items() if "number of changes" in name)
    before = facts(), version()
    optimizer.param_groups[0]["lr"] = 7.0
    assert (facts(), version()) == before
    optimizer.param_groups[0]["momentum"] = 0.5
    assert facts() != before[0]
    optimizer.load_state_dict(optimizer.state_dict())
    assert version() != before[1]


def test_a_tensor_learning_rate_is_used_as_it_is():
    recorder, rate = Recorder(), torch.tensor(0.1)
    optimizer, _ = stepped(lambda p: torch.optim.SGD(p, lr=rate), recorder)
    assert "SGD.lr" not in recorder.numbers
    assert GroupReader(optimizer, 0).number("lr", lambda group: group["lr"]) is rate


def test_eager_steps_ask_nobody():
    assert capture.active() is None


def test_half_precision_state_has_the_parameters_dtype():
    p = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.Adam([p], lr=0.1)
    p.grad = torch.ones(3, dtype=torch.bfloat16)
    optimizer.step()
    state = optimizer.state[p]
    assert [state[k].dtype for k in ("step", "exp_avg")] == [torch.float32, torch.bfloat16]
    assert p.dtype is torch.bfloat16 and bool((p < 1).all())


def test_a_step_defined_by_the_user_has_hooks():
    log = []

    class Plain(torch.optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad * group["lr"])

    class Loud(Plain):
        def step(self, closure=None):
            log.append("loud")
            super().step(closure)

    p = nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    optimizer = Loud([p])
    optimizer.register_step_post_hook(lambda *_: log.append("after"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        optimizer.step()
    assert log == ["loud", "after"] and abs(p.item() - 0.9) < 1e-6


def test_closures_see_gradients_enabled():
    p = nn.Parameter(torch.ones(1))

    def closure():
        loss = (p * p).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert torch.optim.Adam([p]).step(closure).requires_grad


def test_hooks_of_every_optimizer():
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: seen.append("before")),
        register_optimizer_step_post_hook(lambda optimizer, args, kwargs: seen.append("after")),
    ]
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert seen == ["before", "after"]


def test_muon_takes_matrices_only():
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        torch.optim.Muon([torch.ones(3, requires_grad=True)])
    with pytest.raises(ValueError, match="Adjust learning rate function x is not supported"):
        torch.optim.Muon([torch.ones(3, 3, requires_grad=True)], adjust_lr_fn="x")


def test_schedules_warn_of_an_epoch():
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step"):
        schedule.step(3)
    assert schedule.get_last_lr() == [0.125]
