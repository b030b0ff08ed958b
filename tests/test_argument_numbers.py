"""Numbers among the arguments of compiled functions: inputs from the second one on, guards where code asks of them."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify.argument_numbers import ArgumentNumbers

NUMBERS = {
    "float": (1.5, 2.5, -3.5, 0.0, math.inf, math.nan),
    "int": (1, 2, -3, 0, 1 << 20),
    "float64": tuple(map(np.float64, (1.5, 2.5, -3.5))),
}


def x4() -> torch.Tensor:
    return torch.tensor([0.5, 1.5, 2.5, -1.0])


def same(got, want) -> bool:
    """Whether both are the same to the type of each number and the dtype of each tensor."""
    if isinstance(want, tuple | list):
        return type(got) is type(want) and all(map(same, got, want))
    if isinstance(want, torch.Tensor):
        return got.dtype is want.dtype and np.allclose(
            got.detach().numpy(), want.detach().numpy(), rtol=1e-5, equal_nan=True
        )
    return type(got) is type(want) and (got == want or got != got)


# What a number does besides being added to something; all are inputs, one program serves all numbers.
INPUT = {
    "x * s": lambda x, s: x * s,
    "s - x": lambda x, s: s - x,
    "x // s": lambda x, s: x // (s * s + 1),
    "s ** x": lambda x, s: (s * s + 1) ** x,
    "alpha": lambda x, s: torch.add(x, x, alpha=s),
    "lerp": lambda x, s: torch.lerp(x, x * 2, s),
    "full": lambda x, s: torch.full((4,), s) * x,
    "new_full": lambda x, s: x.new_full((2,), s),
    "tensor": lambda x, s: torch.tensor(s) * x,
    "as_tensor": lambda x, s: torch.as_tensor(s, dtype=torch.float32) * x,
    "fill_": lambda x, s: x.clone().fill_(s),
    "setitem": lambda x, s: x.clone().index_fill_(0, torch.tensor([1]), s),
    "masked_fill": lambda x, s: x.masked_fill(x > 1, s),
    "where": lambda x, s: torch.where(x > 1, x, s),
    "compare": lambda x, s: (x > s) | (x == s),
    "python": lambda x, s: (x * (0.1 / (1 + 0.5 * s * s)) - abs(s) + -(s**2), s, [s * 2, s - 1]),
    "half": lambda x, s: x.half() * min(s * s, 4),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("name", INPUT)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_program_serves_all_numbers(name, kind):
    fn = INPUT[name]
    compiled = torch.compile(fn)
    for number in NUMBERS[kind]:
        assert same(compiled(x4(), number), fn(x4(), number)), number
    programs = len(compiled.history.compiles)
    # `min` asks once how the numbers compare; nothing else here does.
    assert programs <= (4 if name == "half" else 2), compiled.explain()


# What asks for the number itself: a program for each.
PINNED = {
    "math.exp": lambda x, k: x * math.exp(k),
    "index": lambda x, k: x[k],
    "slice": lambda x, k: x[:k],
    "range": lambda x, k: sum((x * i for i in range(k)), x),
    "shape": lambda x, k: torch.zeros(k, 2) + x[0],
    "dim": lambda x, k: x.view(2, 2).sum(k % 2),
    "attribute": lambda x, k: F.leaky_relu(x, k),
    "text": lambda x, k: (x, f"{k:03d}", str(k)),
    "key": lambda x, k: x * {1: 5.0, 2: 6.0, 3: 7.0}[k],
    "numpy": lambda x, k: x * np.sqrt(k),
    "power": lambda x, k: x * 0.9**k,
}


@pytest.mark.parametrize("name", PINNED)
def test_a_number_that_is_asked_for_is_a_constant(name):
    fn = PINNED[name]
    compiled = torch.compile(fn)
    for k in (1, 2, 3, 2):
        assert same(compiled(x4(), k), fn(x4(), k)), k
    assert len(compiled.history.compiles) == 3


def test_comparisons_are_guards():
    def fn(x, s):
        if s > 10:
            return x + 100
        return x * s if s else x

    compiled = torch.compile(fn)
    for s in (1.0, 2.0, 3.0, 11.0, 12.0, 0.0, -0.0, 5.0):
        assert same(compiled(x4(), s), fn(x4(), s)), s
    # The first number's, those up to ten, above it, and zero.
    assert len(compiled.history.compiles) == 4
    assert "`s > 10` was False, for other numbers" in str(compiled.explain())
    compiled(x4(), 12.0)
    assert any(g == {"name": "`s > 10`", "value": "True"} for g in compiled.explain().to_dict()["guards"])


def test_another_class_of_number_is_another_program():
    compiled = torch.compile(lambda x, s: x.long() * s)
    dtypes = [compiled(x4(), s).dtype for s in (2, 3, 2.5, 3.5, True)]
    assert dtypes == [torch.int64] * 2 + [torch.float32] * 2 + [torch.int64]


def test_integers_that_float64_does_not_hold():
    compiled = torch.compile(lambda x, k: x.long() + k)
    for k in (1, 2, 2**53, 2**53 + 1, 2**62 + 1, -(2**53) - 1, 3):
        assert compiled(x4(), k)[0] == k


def test_arithmetic_errors_are_pythons():
    def fn(x, s):
        return x * (1 / s)

    compiled = torch.compile(fn)
    for s in (1, 2, 3):
        compiled(x4(), s)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        compiled(x4(), 0)
    assert same(compiled(x4(), 4), fn(x4(), 4))

    def guarded(x, s):
        return x if s == 0 else x * s if 1 / s > 0.1 else -x

    compiled = torch.compile(guarded)
    for s in (1.0, 2.0, 20.0, 0.0, 30.0, 3.0):
        assert same(compiled(x4(), s), guarded(x4(), s)), s


def test_numbers_in_nested_and_keyword_arguments():
    def fn(batch, *, scales):
        return batch["x"] * batch["s"] + scales[0] * scales[1]

    compiled = torch.compile(fn)
    for n in range(5):
        batch, scales = {"x": x4(), "s": n / 2}, (n, 0.5 * n)
        assert same(compiled(batch, scales=scales), fn(batch, scales=scales))
    assert len(compiled.history.compiles) == 2


def test_gradients_with_numbers():
    def fn(w, s):
        return (w * s).pow(2).sum() * (s + 1)

    compiled = torch.compile(fn)
    for s in (1.0, 2.0, 3.0, -1.5):
        ours, theirs = (x4().requires_grad_() for _ in range(2))
        compiled(ours, s).backward()
        fn(theirs, s).backward()
        assert same(ours.grad, theirs.grad)
    assert len(compiled.history.compiles) == 2


def test_a_training_step_with_a_schedule_of_its_own():
    def step(model, x, lr):
        model.zero_grad(set_to_none=True)
        loss = model(x).square().mean()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
        return loss

    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    eager = copy.deepcopy(model)
    compiled = torch.compile(lambda x, lr: step(model, x, lr))
    for n in range(6):
        lr = 0.1 * 0.5**n
        assert same(compiled(x4()[None], lr), step(eager, x4()[None], lr))
    for p, q in zip(model.parameters(), eager.parameters()):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-5)
    assert len(compiled.history.compiles) == 2


def test_random_numbers_and_branches_beside_numbers():
    def fn(x, s):
        y = x * s
        return y + torch.rand(4) if y.sum() > 0 else y

    compiled = torch.compile(fn)
    torch.manual_seed(3)
    for s in (1.0, 2.0, -1.0, 3.0, -2.0):
        got = compiled(x4(), s)
        assert (got - x4() * s).abs().max() <= 1
        assert same(got, x4() * s) is (s < 0)
    assert len(compiled.history.compiles) <= 4


def test_strict_numerics_keep_eager_bits():
    def fn(x, s):
        return x * s + s / 3

    compiled = torch.compile(fn, options={"numerics": "strict"})
    for s in (0.1, 0.7, 1.3):
        np.testing.assert_array_equal(compiled(x4(), s).numpy(), fn(x4(), s).numpy())


def test_check_compares_a_call_with_numbers():
    compiled = torch.compile(lambda x, s: x * s + 1)
    for s in (1.0, 2.0, 3.0):
        compiled(x4(), s)
    assert compiled.check(x4(), 4.0).ok


def test_after_the_trace_a_stand_in_is_as_good_as_its_number():
    numbers = ArgumentNumbers()
    s = numbers.stand_in(0, 2.5, "s")
    half = s / 5
    numbers.tracing = False
    assert half == 0.5 and half + 1 == 1.5 and type(half + 1) is float and type(-half) is float
    assert isinstance(half, float) and f"{half:.2f}" == "0.50" and hash(half) == hash(0.5)
    assert pickle.loads(pickle.dumps(half)) == copy.deepcopy(half) == 0.5
    assert half.is_integer() is False and round(half) == 0 and bool(half) and math.floor(half) == 0
    assert not numbers.outcomes and np.float64(2) * half == 1
