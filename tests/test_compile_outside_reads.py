"""Values that a compiled function reads of Python objects outside it: changes of them are followed, and told."""

from __future__ import annotations

import random
import types
import warnings
from dataclasses import dataclass, field

import pytest

import vitrify as torch
import vitrify.nn as nn
from vitrify.compile.guards.chains import code_reads

TEMPERATURE = 2.0


class Config:
    scale = 2.0


@dataclass
class Settings:
    scale: float = 2.0
    inner: types.SimpleNamespace = field(default_factory=lambda: types.SimpleNamespace(rate=2.0))

    @property
    def doubled(self):
        return self.scale * 2


class AttributeDict(dict):
    __getattr__ = dict.__getitem__


def helper(x):
    return x * TEMPERATURE


def reasons(compiled):
    return [c.reason for c in compiled.report().compiles]


def texts(code):
    return [c.name + "".join(map(str, c.steps)) for c in code_reads(code).chains]


def test_chains_of_names_in_code():
    seen, opts, rows = {}, {}, []

    def f(x):
        options = opts["a"]
        for row in rows:
            x = x + row.size
        Config.calls += 1
        seen["last"] = x
        return [Config.scale * y for y in x] + helper(opts.get("k", 1)) + options["b"].c + x.data

    assert set(texts(f.__code__)) == {
        "opts['a']['b'].c", "rows", "Config.calls", "seen['last']", "Config.scale", "helper", "opts.get('k')",
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["class", "attribute", "nested", "property", "item", "dictionary", "list", "argument"]
)
def test_a_change_is_followed(kind):
    settings, table, sizes = Settings(), {"rate": 2.0, "more": {"rate": 2.0}}, [2.0, 3]
    attributes = AttributeDict(rate=2.0)

    class Local:
        scale = 2.0

    reads = {
        "class": lambda x: x * Local.scale,
        "attribute": lambda x: x * settings.scale,
        "nested": lambda x: x * settings.inner.rate,
        "property": lambda x: x * settings.doubled / 2,
        "item": lambda x: x * table["more"]["rate"],
        "dictionary": lambda x: x * attributes.rate,
        "list": lambda x: x * next(size for size in sizes),
        "argument": lambda x, given: x * given.scale,
    }
    compiled = torch.compile(reads[kind])
    arguments = (torch.ones(1), settings) if kind == "argument" else (torch.ones(1),)
    assert compiled(*arguments).item() == 2.0
    Local.scale = settings.scale = settings.inner.rate = table["more"]["rate"] = sizes[0] = 5.0
    attributes["rate"] = 5.0
    assert compiled(*arguments).item() == 5.0
    assert compiled(*arguments).item() == 5.0
    assert len(reasons(compiled)) == 2 and "2.0" in reasons(compiled)[1] and "5.0" in reasons(compiled)[1]


def test_what_helpers_read_is_followed(monkeypatch):
    compiled = torch.compile(lambda x: helper(x))
    assert compiled(torch.ones(1)).item() == 2.0
    monkeypatch.setitem(globals(), "TEMPERATURE", 3.0)
    assert compiled(torch.ones(1)).item() == 3.0
    assert reasons(compiled)[1] == "TEMPERATURE was 2.0, now 3.0"


def test_methods_of_a_trainer():
    class Trainer:
        def __init__(self):
            self.weight, self.net, self.step_number = 1.0, nn.Linear(2, 2), 0

        def weighted(self, x):
            return x * self.weight

        @torch.compile
        def step(self, x):
            return self.weighted(self.net(x)).sum() * 0 + self.weight

    trainer = Trainer()
    values = []
    for weight in (1.0, 1.0, 4.0):
        trainer.weight = weight
        trainer.step_number += 1  # nothing that is compiled reads it
        values.append(trainer.step(torch.ones(2)).item())
    assert values == [1.0, 1.0, 4.0]
    assert len(reasons(Trainer.__dict__["step"])) == 2


def test_a_name_of_an_attribute_is_no_global(monkeypatch):
    monkeypatch.setitem(globals(), "sum", 0)
    compiled = torch.compile(lambda x: x.sum())
    compiled(torch.ones(1))
    globals()["sum"] = 1
    compiled(torch.ones(1))
    assert compiled.history.lookups == 1


def test_plain_objects_in_modules():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.settings = Settings()

        def forward(this, x):
            return x * this.settings.scale

    net = nn.Sequential(Scaled())
    compiled = torch.compile(net)
    assert compiled(torch.ones(1)).item() == 2.0
    net[0].settings.scale = 3.0
    assert compiled(torch.ones(1)).item() == 3.0
    net[0].settings = Settings(4.0)
    assert compiled(torch.ones(1)).item() == 4.0


@pytest.mark.parametrize("kind", ["optimizer", "tensor", "object", "module"])
def test_another_object_of_which_only_methods_are_called(kind):
    class Loss:
        def __init__(self, factor):
            self.factor = factor

        def of(self, x):
            return x * self.factor

    def optimizer(rate):
        return torch.optim.SGD([parameter], lr=rate)

    parameter = nn.Parameter(torch.ones(1))
    make = {
        "optimizer": optimizer, "tensor": lambda n: torch.full((1,), n), "object": Loss,
        "module": lambda n: nn.Linear(1, 1),
    }[kind]  # fmt: skip
    thing = make(1.0)

    def f(x):
        if kind == "optimizer":
            parameter.grad = x
            thing.step()
            return parameter + 0
        if kind == "module":
            return thing.forward(x)
        return thing.sum() * x if kind == "tensor" else thing.of(x)

    compiled = torch.compile(f)
    compiled(torch.ones(1))
    thing = make(3.0)
    before = parameter.detach().clone()
    found = compiled(torch.ones(1)).item()
    with torch.no_grad():
        parameter.copy_(before)
    assert found == f(torch.ones(1)).item()


class Momentum(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["step"], state["mean"] = 0, torch.zeros_like(parameter)
                state["step"] += 1
                state["mean"].mul_(0.9).add_(parameter.grad, alpha=0.1)
                parameter.add_(state["mean"] / (1 - 0.9 ** state["step"]), alpha=-group["lr"])


def trained(wrap, lr_factor):
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    optimizer = Momentum(net.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, lr_factor)
    x = torch.randn(8, 3)

    def step():
        optimizer.zero_grad()
        loss = (net(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    step()
    run = wrap(step)
    losses = []
    for _ in range(3):
        losses.append(run().item())
        schedule.step()
    return losses


def test_an_optimizer_of_the_users_own():
    with pytest.warns(
        RuntimeWarning, match=r"step changes .*state\[0\]\['step'\] itself, so every call traces it again"
    ):
        compiled = trained(torch.compile, 0.5)
    assert compiled == pytest.approx(trained(lambda f: f, 0.5), rel=1e-5)


def test_side_effects_are_repeated_with_a_warning():
    sizes = []

    def f(x):
        sizes.append(x.shape[0])
        return x * 2

    compiled = torch.compile(f)
    with pytest.warns(RuntimeWarning, match="f changes sizes itself"):
        for _ in range(3):
            compiled(torch.ones(3))
    assert sizes == [3, 3, 3]
    assert len(reasons(compiled)) == 1


def test_python_random_is_drawn_by_every_call():
    compiled = torch.compile(lambda x: x if random.random() < 0.5 else x + 1)
    random.seed(3)
    expected = [float(random.random() >= 0.5) for _ in range(6)]
    random.seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [compiled(torch.zeros(1)).item() for _ in range(6)] == expected
