"""Random numbers are PyTorch's own for the same seed, to the bit."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

import vitrify as torch
from vitrify.generator import Generator, philox_state

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))
from random_cases import cases, stored  # noqa: E402

EXPECTED = np.load(REFERENCES / "random.npz")


@pytest.mark.parametrize("name", cases())
def test_draws_are_pytorchs(name):
    seed, draw = cases()[name]
    torch.manual_seed(seed)
    results = draw(torch)
    for i, result in enumerate(results):
        found, expected = stored(result.numpy()), EXPECTED[f"{name}.{i}"]
        assert found.dtype == expected.dtype or name.startswith(("rand_", "randn_")), name
        np.testing.assert_array_equal(found, expected)
    assert f"{name}.{len(results)}" not in EXPECTED


def test_state_is_restored():
    torch.manual_seed(3)
    torch.randn(3)  # an odd count leaves a second normal number behind
    state = torch.get_rng_state()
    first = torch.randn(5), torch.rand(700), torch.randint(9, (3,)), philox_state()
    torch.set_rng_state(state)
    second = torch.randn(5), torch.rand(700), torch.randint(9, (3,)), philox_state()
    assert all(bool((a == b).all()) for a, b in zip(first[:3], second[:3]))
    assert first[3] == second[3]


def test_fork_restores_the_state():
    torch.manual_seed(3)
    with torch.random.fork_rng():
        torch.rand(10)
    after = torch.rand(3)
    torch.manual_seed(3)
    assert bool((after == torch.rand(3)).all())


def test_own_generators_are_independent():
    generator = torch.Generator()
    assert generator.initial_seed() == 67280421310721
    generator.manual_seed(3)
    torch.manual_seed(3)
    first = torch.randn(4, generator=generator)
    assert bool((torch.randn(4) == first).all())
    generator.set_state(torch.get_rng_state())
    assert bool((torch.rand(4) == torch.rand(4, generator=generator)).all())


def test_seed_takes_entropy():
    assert Generator().seed() != Generator().seed()


def test_philox_calls_are_counted_from_the_seed():
    torch.manual_seed(7)
    assert philox_state() == (7, 0)
    assert philox_state(3) == (7, 1)
    assert philox_state() == (7, 4)
    torch.manual_seed(-1)
    assert philox_state() == (2**64 - 1, 0)


def test_options_of_new_tensors():
    out = torch.zeros(3)
    torch.manual_seed(1)
    assert torch.rand(3, out=out) is out
    torch.manual_seed(1)
    assert bool((torch.rand((3,), requires_grad=True) == out).all())
    assert torch.rand(2, requires_grad=True).requires_grad
    assert torch.rand(size=(2, 1)).shape == (2, 1)
    assert torch.randn(0).shape == (0,)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        torch.rand(2, colour=1)


def test_fill_of_a_view_writes_the_base():
    base = torch.zeros(4, 6)
    base[1].uniform_()
    assert bool((base[1] != 0).all()) and not bool((base[0] != 0).any())
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        torch.zeros(3, requires_grad=True).normal_()


def test_invalid_state_is_refused():
    state = torch.get_rng_state()
    state[8:12] = 255
    with pytest.raises(RuntimeError, match="Invalid mt19937 state"):
        torch.set_rng_state(state)
