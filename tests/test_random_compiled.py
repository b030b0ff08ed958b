"""Random numbers inside compiled functions: new ones at each call, the same after the same seed."""

from __future__ import annotations

import pytest

import vitrify as torch

DRAWS = {
    "rand": lambda: torch.rand(500),
    "rand f64": lambda: torch.rand(20, 25, dtype=torch.float64),
    "randn": lambda: torch.randn(500),
    "randn bf16": lambda: torch.randn(500, dtype=torch.bfloat16),
    "randint": lambda: torch.randint(-3, 7, (500,)),
    "randint wide": lambda: torch.randint(1 << 40, (500,)),
    "normal": lambda: torch.normal(2.0, 0.5, (500,)),
    "normal of tensors": lambda: torch.normal(torch.zeros(500), torch.ones(500)),
    "bernoulli": lambda: torch.bernoulli(torch.full((500,), 0.3)),
    "randperm": lambda: torch.randperm(500),
    "uniform_": lambda: torch.empty(500).uniform_(-1, 3),
    "normal_": lambda: torch.empty(500).normal_(1.0, 2.0),
    "random_": lambda: torch.empty(500, dtype=torch.int64).random_(9),
    "exponential_": lambda: torch.empty(500).exponential_(2.0),
    "cauchy_": lambda: torch.empty(500).cauchy_(),
    "log_normal_": lambda: torch.empty(500).log_normal_(0.0, 0.5),
    "geometric_": lambda: torch.empty(500).geometric_(0.25),
    "bernoulli_": lambda: torch.empty(500).bernoulli_(0.5),
    "multinomial": lambda: torch.multinomial(torch.tensor([0.1, 0.2, 0.7]), 500, True),
    "multinomial without replacement": lambda: torch.multinomial(torch.ones(500), 100),
    "poisson": lambda: torch.poisson(torch.full((500,), 4.0)),
    "binomial": lambda: torch.binomial(torch.full((500,), 10.0), torch.full((500,), 0.25)),
    "gamma": lambda: torch.distributions.Gamma(torch.full((500,), 3.0), 1.5).sample(),
    "randn in a vmap": lambda: torch.vmap(lambda v: torch.randn(50) + v, randomness="different")(
        torch.zeros(10, 50)
    ),
    "dirichlet": lambda: torch.distributions.Dirichlet(torch.ones(100, 5)).sample(),
}
MEANS = {
    "rand": 0.5, "rand f64": 0.5, "randn": 0.0, "randint": 1.5, "normal": 2.0, "bernoulli": 0.3, "uniform_": 1.0,
    "normal_": 1.0, "random_": 4.0, "exponential_": 0.5, "log_normal_": 1.13, "geometric_": 4.0,
    "multinomial": 1.6, "poisson": 4.0, "binomial": 2.5, "gamma": 2.0, "dirichlet": 0.2,
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_fresh_numbers_at_each_call_and_the_same_after_the_seed(name):
    drawn = torch.compile(DRAWS[name])
    torch.manual_seed(1)
    first, second = drawn(), drawn()
    torch.manual_seed(1)
    again = drawn()
    eager = DRAWS[name]()
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert (first.shape, first.dtype) == (eager.shape, eager.dtype)
    if name in MEANS:
        both = torch.cat([first.double(), second.double()])
        error = both.std() / both.numel() ** 0.5
        assert abs(both.mean() - MEANS[name]) < 4.5 * error
    if name == "randperm":
        assert torch.equal(first.sort().values, torch.arange(500))
    if name == "multinomial without replacement":
        assert first.unique().numel() == 100


def test_the_thread_count_changes_nothing():
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        torch.manual_seed(2)
        found.append(torch.compile(lambda: torch.randn(100_000))())
    torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_several_draws_of_a_call_differ():
    first, second = torch.compile(lambda: (torch.rand(50), torch.rand(50)))()
    assert not torch.equal(first, second)


def test_gradients_flow_through_reparametrised_draws():
    loc, scale = torch.zeros(200, requires_grad=True), torch.ones(200, requires_grad=True)

    def loss(loc, scale):
        return (torch.distributions.Normal(loc, scale).rsample() ** 2).sum()

    torch.manual_seed(3)
    torch.compile(loss)(loc, scale).backward()
    # d(loc + scale e)^2 is 2 e by loc and 2 e^2 by scale.
    torch.testing.assert_close(scale.grad, loc.grad**2 / 2)


def test_a_generator_of_ones_own_is_refused():
    with pytest.raises(RuntimeError, match="draws random numbers from the default generator only"):
        torch.compile(lambda: torch.rand(3, generator=torch.Generator()))()
