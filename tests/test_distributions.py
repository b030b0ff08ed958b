"""What samples of torch.distributions cannot say: errors, checks, draws that are not PyTorch's, the registries."""

from __future__ import annotations

import pytest

import vitrify as torch
from vitrify.distributions import constraints

D = torch.distributions


def test_arguments_are_checked():
    message = (
        r"Expected parameter scale \(Tensor of shape \(2,\)\) of distribution Normal\(loc: torch.Size\(\[2\]\), scale: "
        r"torch.Size\(\[2\]\)\) to satisfy the constraint GreaterThan\(lower_bound=0.0\), but found invalid values:\n"
        r"tensor\(\[ 1., -1.\]\)"
    )
    with pytest.raises(ValueError, match=message):
        D.Normal(0.0, torch.tensor([1.0, -1.0]))
    D.Normal(0.0, torch.tensor([1.0, -1.0]), validate_args=False)
    with pytest.raises(ValueError, match="Either `probs` or `logits` must be specified, but not both"):
        D.Bernoulli(probs=0.5, logits=0.0)
    with pytest.raises(ValueError, match="`probs` parameter must be at least one-dimensional"):
        D.Categorical(torch.tensor(0.5))
    with pytest.raises(
        ValueError, match="Exactly one of covariance_matrix or precision_matrix or scale_tril"
    ):
        D.MultivariateNormal(torch.zeros(2))
    with pytest.raises(ValueError, match="to be positive but found invalid values"):
        D.Geometric(torch.tensor([0.5, 0.0]))


def test_values_are_checked():
    normal = D.Normal(torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match="The value argument to log_prob must be a Tensor"):
        normal.log_prob(1.0)
    with pytest.raises(
        ValueError, match=r"Value is not broadcastable with batch_shape\+event_shape: torch.Size\(\[3\]\)"
    ):
        normal.log_prob(torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"to be within the support \(Boolean\(\)\) of the distribution Bernoulli"
    ):
        D.Bernoulli(0.5).log_prob(torch.tensor(0.5))
    with pytest.raises(ValueError, match="The right-most size of value must match event_shape"):
        D.Dirichlet(torch.ones(3)).log_prob(torch.ones(2) / 2)
    before = D.Distribution._validate_args
    D.Distribution.set_default_validate_args(False)
    try:
        assert D.Bernoulli(2.0).probs.item() == 2.0
    finally:
        D.Distribution.set_default_validate_args(before)


def test_subclasses_that_cannot_be_expanded_say_so():
    class Mine(D.Normal):
        def __init__(self):
            super().__init__(0.0, 1.0)

    with pytest.raises(NotImplementedError, match=r"must also define a custom .expand\(\) method"):
        Mine().expand((3,))


def test_kl_registry():
    with pytest.raises(NotImplementedError, match=r"No KL.* for p type VonMises and q type Normal"):
        D.kl_divergence(D.VonMises(0.0, 1.0), D.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="Expected type_q to be a Distribution subclass"):
        D.register_kl(int, D.Normal(0.0, 1.0))

    class A(D.Normal):
        pass

    class B(D.Normal):
        pass

    D.register_kl(A, D.Normal)(lambda p, q: torch.tensor(1.0))
    D.register_kl(D.Normal, B)(lambda p, q: torch.tensor(2.0))
    with pytest.warns(RuntimeWarning, match=r"Ambiguous kl_divergence\(A, B\). Please register_kl\(A, B\)"):
        assert D.kl_divergence(A(0.0, 1.0), B(0.0, 1.0)) == 1.0


def test_constraints():
    dependent = constraints.dependent
    assert constraints.is_dependent(dependent)
    with pytest.raises(ValueError, match="Cannot determine validity of dependent constraint"):
        dependent.check(torch.ones(1))
    assert dependent(event_dim=1).event_dim == 1
    joined = constraints.cat([constraints.positive, constraints.real], dim=0, lengths=[1, 2])
    assert joined.check(torch.tensor([1.0, -1.0, 0.0])).tolist() == [True] * 3
    stacked = constraints.stack([constraints.positive, constraints.boolean], dim=0)
    assert stacked.check(torch.tensor([2.0, 2.0])).tolist() == [True, False]
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    assert constraints.positive_definite.check(matrix) and not constraints.positive_definite.check(-matrix)
    assert constraints.positive_semidefinite.check(matrix) and constraints.symmetric.check(matrix)
    assert not constraints.lower_triangular.check(matrix) and constraints.lower_cholesky.check(matrix.tril())
    assert constraints.one_hot.check(torch.tensor([[0, 1], [1, 1]])).tolist() == [True, False]
    assert constraints.multinomial(3).check(torch.tensor([1, 1])) and constraints.square.check(matrix)
    assert constraints.integer_interval(0, 3).check(torch.tensor([1.5, 2.0])).tolist() == [False, True]
    with pytest.raises(NotImplementedError, match="Cannot transform _Boolean constraints"):
        D.biject_to(constraints.boolean)


def test_transforms_remember():
    transform = D.ExpTransform(cache_size=1)
    x = torch.ones(2)
    assert transform.inv(transform(x)) is x and transform.inv.inv is transform
    with pytest.raises(ValueError, match="cache_size must be 0 or 1"):
        D.ExpTransform(cache_size=2)
    assert D.AffineTransform(0, 2) == D.AffineTransform(0, 2) != D.AffineTransform(1, 2)
    assert D.ComposeTransform([D.ExpTransform()]) == D.ComposeTransform([D.ExpTransform()])


@pytest.mark.parametrize(
    "made",
    [
        lambda: D.Wishart(torch.tensor(6.0), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
        lambda: D.Gamma(2.0, 3.0),
        lambda: D.Beta(2.0, 3.0),
        lambda: D.VonMises(torch.tensor(0.3), torch.tensor(4.0)),
        lambda: D.Poisson(30.0),
        lambda: D.Binomial(100, torch.tensor(0.3)),
        lambda: D.NegativeBinomial(5.0, torch.tensor(0.4)),
        lambda: D.Geometric(0.3),
    ],
)
def test_means_of_draws(made):
    torch.manual_seed(0)
    distribution = made()
    draws = distribution.sample((4000,))
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - distribution.mean).abs() < 4.5 * error).all()


def test_gradient_of_gamma_numbers_keeps_the_quantile():
    alpha = torch.tensor([0.3, 1.0, 5.0, 50.0, 2e5], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    draws = torch._standard_gamma(alpha)
    (slope,) = torch.autograd.grad(draws.sum(), alpha)
    step = 1e-6 * alpha.detach()
    above = torch.igamma(alpha.detach() + step, draws.detach() + slope * step)
    here = torch.igamma(alpha.detach(), draws.detach())
    torch.testing.assert_close(above, here, rtol=0, atol=1e-9)


def test_gradients_of_dirichlet_numbers():
    """Against finite differences of the regularised incomplete beta function, for two categories."""
    alpha = torch.tensor([[2.0, 3.0], [0.5, 0.7], [30.0, 4.0]], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(2)
    draws = D.Dirichlet(alpha).rsample()
    (slope,) = torch.autograd.grad(draws[:, 0].sum(), alpha)

    def probability(a, b, x):
        grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * x
        density = (
            (a - 1) * grid.log()
            + (b - 1) * (-grid).log1p()
            + torch.lgamma(a + b)
            - torch.lgamma(a)
            - torch.lgamma(b)
        )
        return density.exp().sum() * x / 200_000

    for (a, b), x, (by_a, _) in zip(alpha.detach(), draws.detach()[:, 0], slope):
        if a < 1:
            continue  # the midpoint rule does not see the pole
        step = 1e-4
        moved = probability(a + step, b, x + by_a * step)
        assert abs(moved - probability(a, b, x)) < 1e-6


def test_inside_a_compiled_function_values_are_not_checked():
    scale = torch.tensor(-1.0)
    assert torch.compile(lambda s: D.Normal(0.0, s).entropy())(scale).isnan()
