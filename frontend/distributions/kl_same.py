"""KL divergences between two distributions of one family."""

from __future__ import annotations

import math
from typing import Any

from ..functional_shape import broadcast_shapes
from ..nn.functional import softplus
from ..tensor import Tensor
from .bernoulli import Bernoulli
from .beta import Beta
from .binomial import Binomial
from .categorical import Categorical
from .cauchy import Cauchy
from .continuous_bernoulli import ContinuousBernoulli
from .dirichlet import Dirichlet
from .exponential import Exponential
from .gamma import Gamma
from .geometric import Geometric
from .gumbel import Gumbel
from .half_normal import HalfNormal
from .kl import register_kl
from .laplace import Laplace
from .lowrank_multivariate_normal import LowRankMultivariateNormal
from .matrices import (
    log_diagonal,
    lowrank_logdet,
    lowrank_mahalanobis,
    mahalanobis,
    on_diagonal,
    solve_lower,
    squared_norm,
)
from .multivariate_normal import MultivariateNormal
from .normal import Normal
from .one_hot_categorical import OneHotCategorical
from .pareto import Pareto
from .poisson import Poisson
from .uniform import Uniform
from .utils import euler_constant, masked


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Tensor:
    one = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    one = masked(masked(one, q.probs == 0, math.inf), p.probs == 0, 0.0)
    zero = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    zero = masked(masked(zero, q.probs == 1, math.inf), p.probs == 1, 0.0)
    return one + zero


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Tensor:
    total_p = p.concentration1 + p.concentration0
    total_q = q.concentration1 + q.concentration0
    normalizer_q = q.concentration1.lgamma() + q.concentration0.lgamma() - total_q.lgamma()
    normalizer_p = p.concentration1.lgamma() + p.concentration0.lgamma() - total_p.lgamma()
    return (
        normalizer_q
        - normalizer_p
        + (p.concentration1 - q.concentration1) * p.concentration1.digamma()
        + (p.concentration0 - q.concentration0) * p.concentration0.digamma()
        + (total_q - total_p) * total_p.digamma()
    )


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Tensor:
    """Infinite where p counts further than q."""
    if (p.total_count < q.total_count).any():
        raise NotImplementedError(
            "KL between Binomials where q.total_count > p.total_count is not implemented"
        )
    each = p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    return masked(p.total_count * each, p.total_count > q.total_count, math.inf)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    terms = masked(terms, (q.probs == 0).expand_as(terms), math.inf)
    return masked(terms, (p.probs == 0).expand_as(terms), 0.0).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: Any, q: Any) -> Tensor:
    return _categorical(p._categorical, q._categorical)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Tensor:
    of_p = p._cont_bern_log_norm() + (-p.probs).log1p()
    of_q = q._cont_bern_log_norm() + (-q.probs).log1p()
    return p.mean * (p.logits - q.logits) + of_p - of_q


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Tensor:
    total = p.concentration.sum(-1)
    normalizers = total.lgamma() - q.concentration.sum(-1).lgamma()
    each = p.concentration.lgamma() - q.concentration.lgamma()
    log_mean = p.concentration.digamma() - total.digamma().unsqueeze(-1)
    return normalizers - each.sum(-1) + ((p.concentration - q.concentration) * log_mean).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Tensor:
    return (
        q.concentration * (p.rate / q.rate).log()
        + q.concentration.lgamma()
        - p.concentration.lgamma()
        + (p.concentration - q.concentration) * p.concentration.digamma()
        + (q.rate - p.rate) * (p.concentration / p.rate)
    )


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Tensor:
    ratio, shift = p.scale / q.scale, (p.loc - q.loc) / q.scale
    tail = (-shift + (1 + ratio).lgamma()).exp()
    return -ratio.log() + shift + ratio * euler_constant + tail - (1 + euler_constant)


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Tensor:
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Tensor:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Tensor:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + distance / q.scale + ratio * (-distance / p.scale).exp() - 1


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Tensor:
    """Infinite where p starts before q."""
    ratio = q.alpha / p.alpha
    found = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return masked(found, p.scale < q.scale, math.inf)


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Tensor:
    found = ((q.high - q.low) / (p.high - p.low)).log()
    return masked(found, (q.low > p.low) | (q.high < p.high), math.inf)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Tensor:
    """F. Chyzak, F. Nielsen, "A closed-form formula for the Kullback-Leibler divergence between Cauchy distributions",
    2019."""
    above = (p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)
    return above.log() - (4 * p.scale * q.scale).log()


# Multivariate normal: trace(Q^-1 P) + (the distance of the means under Q) - n + log |Q| - log |P|, halved


def _check_events(p: Any, q: Any, kind: str) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL-divergence between two {kind} with                          different event shapes "
            "cannot be computed"
        )


def _expanded(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices with their batches broadcast."""
    batch = tuple(broadcast_shapes(p.shape[:-2], q.shape[:-2]))
    return p.expand((*batch, *p.shape[-2:])), q.expand((*batch, *q.shape[-2:]))


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate(p: Any, q: Any) -> Tensor:
    _check_events(p, q, "Multivariate Normals")
    factor_p, factor_q = _expanded(p._unbroadcasted_scale_tril, q._unbroadcasted_scale_tril)
    half_logs = log_diagonal(q._unbroadcasted_scale_tril) - log_diagonal(p._unbroadcasted_scale_tril)
    trace = squared_norm(solve_lower(factor_q, factor_p))
    distance = mahalanobis(q._unbroadcasted_scale_tril, q.loc - p.loc)
    return half_logs + 0.5 * (trace + distance - p.event_shape[0])


def _lowrank_distance(p: Any, q: Any) -> Tensor:
    factor, diag = q._unbroadcasted_cov_factor, q._unbroadcasted_cov_diag
    return lowrank_mahalanobis(factor, diag, q.loc - p.loc, q._capacitance_tril)


def _lowrank_half(q: Any) -> Tensor:
    """A with Q^-1 = D^-1 - A^T A."""
    scaled = q._unbroadcasted_cov_factor.mT / q._unbroadcasted_cov_diag.unsqueeze(-2)
    return solve_lower(q._capacitance_tril, scaled)


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _lowrank(p: Any, q: Any) -> Tensor:
    _check_events(p, q, "Low Rank Multivariate Normals")
    logs = lowrank_logdet(q._unbroadcasted_cov_diag, q._capacitance_tril) - lowrank_logdet(
        p._unbroadcasted_cov_diag, p._capacitance_tril
    )
    half = _lowrank_half(q)
    factor, diag = p._unbroadcasted_cov_factor, p._unbroadcasted_cov_diag
    trace = (
        (diag / q._unbroadcasted_cov_diag).sum(-1)
        + squared_norm(factor * q._unbroadcasted_cov_diag.rsqrt().unsqueeze(-1))
        - squared_norm(half * diag.sqrt().unsqueeze(-2))
        - squared_norm(half @ factor)
    )
    return 0.5 * (logs + trace + _lowrank_distance(p, q) - p.event_shape[0])


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _full_to_lowrank(p: Any, q: Any) -> Tensor:
    _check_events(p, q, "(Low Rank) Multivariate Normals")
    factor = p._unbroadcasted_scale_tril
    logs = lowrank_logdet(q._unbroadcasted_cov_diag, q._capacitance_tril) - 2 * log_diagonal(factor)
    trace = squared_norm(factor * q._unbroadcasted_cov_diag.rsqrt().unsqueeze(-1)) - squared_norm(
        _lowrank_half(q) @ factor
    )
    return 0.5 * (logs + trace + _lowrank_distance(p, q) - p.event_shape[0])


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _lowrank_to_full(p: Any, q: Any) -> Tensor:
    _check_events(p, q, "(Low Rank) Multivariate Normals")
    full = q._unbroadcasted_scale_tril
    logs = 2 * log_diagonal(full) - lowrank_logdet(p._unbroadcasted_cov_diag, p._capacitance_tril)
    trace: Any = 0.0
    for part in (p._unbroadcasted_cov_factor, on_diagonal(p._unbroadcasted_cov_diag.sqrt())):
        right, left = _expanded(part, full)
        trace = trace + squared_norm(solve_lower(left, right))
    return 0.5 * (logs + trace + mahalanobis(full, q.loc - p.loc) - p.event_shape[0])
