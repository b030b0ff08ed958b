"""State that is no Python value of the user's: generators, settings, hooks; and what guards say of it."""

from __future__ import annotations

import dataclasses
import itertools
import random
import warnings

import numpy as np
import pytest
from outside_values import Object, check_followed

import vitrify as torch
import vitrify.nn as nn
from vitrify.compile.guards.values import same_argument, same_value


@pytest.mark.parametrize("kind", ["python", "numpy", "object", "numpy object", "iterator", "module"])
def test_numbers_are_drawn_by_every_call(kind):
    own, array_own, numbers = random.Random(0), np.random.default_rng(0), itertools.count(1.0)
    dropout = nn.Dropout(0.5)
    draw = {
        "python": random.random, "numpy": np.random.rand, "object": own.random, "numpy object": array_own.random,
        "iterator": lambda: next(numbers), "module": lambda: dropout(torch.ones(1000)).sum(),
    }[kind]  # fmt: skip
    compiled = torch.compile(lambda x: x * draw())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        drawn = [compiled(torch.ones(1)).item() for _ in range(4)]
    assert len(set(drawn)) == 4


def test_the_default_dtype_is_followed():
    compiled = torch.compile(lambda x: torch.ones(2))
    assert compiled(torch.ones(1)).dtype is torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert compiled(torch.ones(1)).dtype is torch.float64
        assert compiled.report().compiles[1].reason == "the default dtype was torch.float32"
    finally:
        torch.set_default_dtype(torch.float32)


def test_hooks_of_leaves_are_followed():
    p = nn.Parameter(torch.ones(1))

    def f(x):
        p.grad = None
        (p * x).sum().backward()
        return p.grad * 1

    compiled, x, found = torch.compile(f), torch.ones(1), []
    found.append(compiled(x).item())
    handle = p.register_hook(lambda g: g * 3)
    found.append(compiled(x).item())
    other = p.register_post_accumulate_grad_hook(lambda q: q.grad.mul_(5))
    found.append(compiled(x).item())
    handle.remove()
    other.remove()
    found.append(compiled(x).item())
    assert found == [1.0, 3.0, 15.0, 1.0]


def test_attributes_of_a_distribution():
    normal = torch.distributions.Normal(torch.zeros(1), torch.ones(1))
    check_followed(normal.log_prob, lambda: setattr(normal, "loc", torch.ones(1)))


def test_an_activation_that_is_an_object():
    class Activation:
        scale = 2.0

        def __call__(self, x):
            return x * self.scale

    activation = Activation()
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 1, 4, dropout=0.0, activation=activation, batch_first=True)
    check_followed(
        lambda x: layer(torch.stack([x, 2 * x, -x, 3 * x], -1).reshape(1, 1, 4)).abs().max(),
        lambda: setattr(activation, "scale", 100.0),
    )


def test_of_large_containers_the_number_is_compared_with_a_warning():
    table = {f"k{i}": 1.0 for i in range(2000)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.compile(lambda x: x * table["k3"])(torch.ones(1)).item() == 1.0
    with pytest.warns(
        RuntimeWarning, match="table holds 2000 items; calls of the compiled function compare only"
    ):
        torch.compile(lambda x: x * sum(table.values()))(torch.ones(1))


def test_guards_name_what_changed():
    holder = Object(config=Object(scale=2.0), names=["a"])

    def f(x):
        config = holder.config
        return x * config.scale * len(holder.names)

    compiled = torch.compile(f)
    compiled(torch.ones(1))
    holder.config.scale = 3.0
    compiled(torch.ones(1))
    holder.names.append("b")
    compiled(torch.ones(1))
    holder.config = Object(scale=3.0)
    assert [r.reason for r in compiled.report().compiles][1:] == [
        "holder.config.scale was 2.0, now 3.0",
        "holder.names was ('a',), now ('a', 'b')",
    ]
    assert next(g.reason() for g in compiled._last.trace.guards if not g.holds()) == (
        "holder.config was another Object"
    )


def test_what_is_the_same_value():
    assert same_value((1, (2.0, "a")), (1, (2.0, "a")))
    assert not same_value((1, 2), (1.0, 2))
    assert not same_value(0.0, -0.0)
    assert same_value(float("nan"), float("nan"))

    @dataclasses.dataclass
    class Batch:
        x: object
        scale: float = dataclasses.field(default=1.0, compare=False)

    x = torch.ones(2)
    assert same_argument(Batch(1), Batch(1))
    assert not same_argument(Batch(1), Batch(1, 2.0))
    assert not same_argument(Batch(x), Batch(x.clone()))


def test_arguments_that_are_objects_with_tensors():
    @dataclasses.dataclass
    class Batch:
        x: torch.Tensor

    compiled = torch.compile(lambda batch: batch.x * 2)
    assert [compiled(Batch(torch.full((2,), n))).tolist() for n in (1.0, 2.0)] == [[2.0, 2.0], [4.0, 4.0]]
