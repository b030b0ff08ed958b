"""What changes outside and is not read makes no call look twice; nor does what compiled code does for itself."""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import logging
import threading
import warnings

import pytest
from outside_values import Object, Programs

import vitrify as torch
import vitrify.nn as nn

program = Programs()
log = logging.getLogger(__name__)


@program
def counters_of_a_trainer():
    class Trainer:
        def __init__(self):
            self.net = nn.Linear(1, 1)
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
            self.step, self.history = 0, []

        def train(self, x):
            self.optimizer.zero_grad()
            loss = self.net(x).sum()
            loss.backward()
            self.optimizer.step()
            return loss

    trainer = Trainer()

    def change(i):
        trainer.step += 1
        trainer.history.append(i)

    return trainer.train, change


@program
def other_items():
    h = Object(options={"scale": 2.0, "inner": {"scale": 2.0}})

    def f(x):
        options = h.options
        inner = options["inner"]
        return x * options["scale"] * inner["scale"] + h.options.get("k", 1)

    def change(i):
        h.options["n"] = h.options["inner"]["n"] = i

    return f, change


@program
def containers_made_anew():
    h = Object(options={"scale": 2.0}, sizes=[1.0, 2.0])

    def change(i):
        h.options, h.sizes = {"scale": 2.0}, [1.0, 2.0]

    return (lambda x: x * sum(h.options.values()) * sum(h.sizes)), change


@program
def counter_of_a_class():
    class Counted:
        made, scale = 0, 2.0

    def change(i):
        Counted.made += 1

    return (lambda x: x * Counted.scale), change


@program
def library_objects():
    lock = threading.RLock()

    @functools.lru_cache
    def factor(n):
        return n * 2.0

    @contextlib.contextmanager
    def context():
        yield factor(3)

    def f(x):
        log.info("called %s", x.shape)
        with lock, context() as k:
            return x * k

    return f, lambda i: None


@program
def objects_made_inside():
    h = Object(config=Object(scale=2.0), n=0)

    class Layer:
        def __init__(self, k):
            self.k, self.calls = k, []

        def __call__(self, x):
            self.calls.append(1)
            self.k += 1
            return x * self.k

    def f(x):
        config = copy.copy(h.config)
        config.scale *= 2
        for layer in (Layer(2), Layer(3)):
            x = layer(x)
        return x * config.scale

    def change(i):
        h.n = i

    return f, change


@program
def a_memory_that_fills():
    class Memory:
        def __init__(self):
            self.known = {}

        def get(self, n):
            if n not in self.known:
                self.known[n] = n * 2.0
            return self.known[n]

    memory = Memory()
    return (lambda x: x * memory.get(3)), lambda i: None


@program
def a_default_dictionary():
    h = Object(table=collections.defaultdict(lambda: 2.0, a=1.0))
    return (lambda x: x * h.table["a"] * h.table["b"]), lambda i: None


@program
def attributes_by_hooks():
    class Base:
        def __getattribute__(self, name):
            return super().__getattribute__(name)

    class Derived(Base):
        def __init__(self):
            self.k = 2.0

        def __getattribute__(self, name):
            return super().__getattribute__(name)

        def __getattr__(self, name):
            return 3.0

    d = Derived()
    return (lambda x: x * d.k * d.other), lambda i: None


@pytest.mark.parametrize("name", program.found)
def test_no_second_look(name):
    function, change = program.found[name]()
    compiled, x = torch.compile(function), torch.ones(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for _ in range(2):
            compiled(x)
        lookups = compiled.history.lookups
        for i in range(3):
            change(i)
            compiled(x)
    assert compiled.history.lookups == lookups


def test_classes_get_their_attributes_back():
    class Config:
        def __setattr__(self, name, value):
            super().__setattr__(name, value)

    before = dict(vars(Config))
    config = Config()
    config.scale = 2.0

    def f(x, fail):
        if fail:
            raise ValueError
        return x * config.scale

    compiled = torch.compile(f)
    assert compiled(torch.ones(1), False).item() == 2.0
    with pytest.raises(ValueError):
        compiled(torch.ones(1), True)
    assert dict(vars(Config)) == before


def test_other_threads_read_undisturbed():
    config, seen = Object(scale=2.0), []

    def f(x):
        other = threading.Thread(target=lambda: seen.append(config.only_there))
        other.start()
        other.join()
        return x * config.scale

    config.only_there = 1
    trace = torch.compile(f).trace(torch.ones(1))
    assert seen == [1]
    assert "config.scale" in [guard.name for guard in trace.guards]
    assert not [guard.name for guard in trace.guards if "only_there" in guard.name]
