"""KL divergences between distributions of two families."""

from __future__ import annotations

import math
from typing import Any

from ..tensor import Tensor
from .bernoulli import Bernoulli
from .beta import Beta
from .binomial import Binomial
from .continuous_bernoulli import ContinuousBernoulli
from .exponential import Exponential
from .gamma import Gamma
from .gumbel import Gumbel
from .kl import register_kl
from .laplace import Laplace
from .normal import Normal
from .pareto import Pareto
from .poisson import Poisson
from .uniform import Uniform
from .utils import euler_constant, like, masked


def _infinite(parameter: str, p: type, *others: type) -> None:
    """p is somewhere where none of the others can be."""

    def rule(first: Any, second: Any) -> Tensor:
        return like(getattr(first, parameter), math.inf)

    for q in others:
        register_kl(p, q)(rule)


_ON_INTERVALS = (Beta, ContinuousBernoulli, Pareto, Uniform)
_ON_HALF_LINES = (Exponential, Gamma)
_infinite("concentration1", Beta, Pareto)
_infinite("probs", ContinuousBernoulli, Pareto)
_infinite("rate", Exponential, *_ON_INTERVALS)
_infinite("concentration", Gamma, *_ON_INTERVALS)
_infinite("loc", Gumbel, *_ON_INTERVALS, *_ON_HALF_LINES)
_infinite("loc", Laplace, *_ON_INTERVALS, *_ON_HALF_LINES)
_infinite("loc", Normal, *_ON_INTERVALS, *_ON_HALF_LINES)
_infinite("scale", Pareto, Beta, ContinuousBernoulli, Uniform)
_infinite("rate", Poisson, Bernoulli, Binomial)


def _log_sqrt_two_pi(scale: Tensor) -> Tensor:
    return 0.5 * math.log(2.0 * math.pi) + scale.log()


def _from_moments_to_normal(p: Any, q: Any, mean: Tensor, second: Tensor) -> Tensor:
    """-entropy(p) - E_p[log q] for a normal q, from p's first two moments."""
    square = (second - 2 * mean * q.loc + q.loc.pow(2)) / (2 * q.scale.pow(2))
    return -p.entropy() + _log_sqrt_two_pi(q.scale) + square


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


def _gamma_normalizer(q: Any) -> Tensor:
    return q.concentration.lgamma() - q.concentration * q.rate.log()


# Rules that need no more of p than its moments and its entropy


@register_kl(Beta, Exponential)
@register_kl(ContinuousBernoulli, Exponential)
@register_kl(Gamma, Exponential)
def _to_exponential(p: Any, q: Any) -> Tensor:
    return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(Beta, Normal)
@register_kl(ContinuousBernoulli, Normal)
@register_kl(Gamma, Normal)
@register_kl(Gumbel, Normal)
@register_kl(Laplace, Normal)
@register_kl(Uniform, Normal)
def _to_normal(p: Any, q: Any) -> Tensor:
    return _from_moments_to_normal(p, q, p.mean, p.variance + p.mean.pow(2))


@register_kl(Beta, ContinuousBernoulli)
def _to_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    return -p.entropy() - p.mean * q.logits - (-q.probs).log1p() - q._cont_bern_log_norm()


# Beta


@register_kl(Beta, Gamma)
def _beta_gamma(p: Any, q: Any) -> Tensor:
    log_mean = p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma()
    return -p.entropy() + _gamma_normalizer(q) - (q.concentration - 1) * log_mean + q.rate * p.mean


@register_kl(Beta, Uniform)
def _beta_uniform(p: Any, q: Any) -> Tensor:
    return masked(-p.entropy() + (q.high - q.low).log(), (q.low > 0) | (q.high < 1), math.inf)


# Continuous Bernoulli


@register_kl(ContinuousBernoulli, Uniform)
def _continuous_bernoulli_uniform(p: Any, q: Any) -> Tensor:
    # PyTorch 2.13 says infinity on these conditions, the bounds included.
    return masked(-p.entropy() + (q.high - q.low).log(), (q.low >= 0) | (q.high <= 1), math.inf)


# Exponential


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    alpha = q.concentration
    return -alpha * ratio.log() + ratio + alpha.lgamma() + alpha * euler_constant - (1 + euler_constant)


@register_kl(Exponential, Gumbel)
def _exponential_gumbel(p: Any, q: Any) -> Tensor:
    product, shift = p.rate * q.scale, q.loc / q.scale
    tail = shift.exp() * product / (product + 1)
    return product.log() - 1 - shift + tail + product.reciprocal()


@register_kl(Exponential, Normal)
def _exponential_normal(p: Any, q: Any) -> Tensor:
    return _from_moments_to_normal(p, q, p.mean, 2 * p.variance)


# Gamma


@register_kl(Gamma, Gumbel)
def _gamma_gumbel(p: Any, q: Any) -> Tensor:
    product, shift, alpha = p.rate * q.scale, q.loc / q.scale, p.concentration
    tail = shift.exp() * (1 + product.reciprocal()).pow(-alpha) - shift
    start = (alpha - 1) * alpha.digamma() - alpha.lgamma() - alpha
    return start + product.log() + alpha / product + tail


# Normal


@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Any, q: Any) -> Tensor:
    shift, ratio = (p.loc - q.loc) / q.scale, (p.scale / q.scale).pow(2)
    return -0.5 * ratio.log() + shift + (-shift + 0.5 * ratio).exp() - 0.5 * (1 + math.log(2 * math.pi))


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Tensor:
    """E|x - q.loc| is the mean of a folded normal distribution."""
    shift = p.loc - q.loc
    standard = shift / p.scale
    folded = (
        math.sqrt(2 / math.pi) * p.scale * (-0.5 * standard.pow(2)).exp()
        + shift * (math.sqrt(0.5) * standard).erf()
    )
    return -(p.scale / q.scale).log() + folded / q.scale - 0.5 * (1 + math.log(0.5 * math.pi))


# Pareto: infinite where the mean, or the variance, is


@register_kl(Pareto, Exponential)
def _pareto_exponential(p: Any, q: Any) -> Tensor:
    product = p.scale * q.rate
    found = (p.alpha / product).log() - p.alpha.reciprocal() + p.alpha * product / (p.alpha - 1) - 1
    return masked(found, p.alpha <= 1, math.inf)


@register_kl(Pareto, Gamma)
def _pareto_gamma(p: Any, q: Any) -> Tensor:
    log_mean = p.scale.log() + p.alpha.reciprocal()
    found = (
        p.alpha.log()
        - log_mean
        + _gamma_normalizer(q)
        + (1 - q.concentration) * log_mean
        + q.rate * p.alpha * p.scale / (p.alpha - 1)
        - 1
    )
    return masked(found, p.alpha <= 1, math.inf)


@register_kl(Pareto, Normal)
def _pareto_normal(p: Any, q: Any) -> Tensor:
    mean = p.alpha * p.scale / (p.alpha - 1)
    variance = p.scale.pow(2) * p.alpha / ((p.alpha - 1).pow(2) * (p.alpha - 2))
    found = _from_moments_to_normal(p, q, mean, variance + mean.pow(2))
    return masked(found, p.alpha <= 2, math.inf)


# Uniform


def _mean_of_log(low: Tensor, high: Tensor) -> Tensor:
    """E[log x] for x uniform on [low, high]."""
    width = high - low
    return (high.xlogy(high) - low.xlogy(low) - width) / width


@register_kl(Uniform, Beta)
def _uniform_beta(p: Any, q: Any) -> Tensor:
    total = q.concentration1 + q.concentration0
    found = (
        q.concentration1.lgamma()
        + q.concentration0.lgamma()
        - total.lgamma()
        - (p.high - p.low).log()
        - (q.concentration1 - 1) * _mean_of_log(p.low, p.high)
        - (q.concentration0 - 1) * _mean_of_log(1 - p.high, 1 - p.low)
    )
    return masked(found, (p.high > 1) | (p.low < 0), math.inf)


@register_kl(Uniform, ContinuousBernoulli)
def _uniform_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    # PyTorch 2.13 says infinity on these conditions, the bounds included.
    return masked(_to_continuous_bernoulli(p, q), (p.high >= 1) | (p.low <= 0), math.inf)


@register_kl(Uniform, Exponential)
def _uniform_exponential(p: Any, q: Any) -> Tensor:
    found = q.rate * (p.high + p.low) / 2 - ((p.high - p.low) * q.rate).log()
    return masked(found, p.low < 0, math.inf)


@register_kl(Uniform, Gamma)
def _uniform_gamma(p: Any, q: Any) -> Tensor:
    log_part = (1 - q.concentration) * _mean_of_log(p.low, p.high)
    found = -(p.high - p.low).log() + _gamma_normalizer(q) + log_part + q.rate * p.mean
    return masked(found, p.low < 0, math.inf)


@register_kl(Uniform, Gumbel)
def _uniform_gumbel(p: Any, q: Any) -> Tensor:
    ratio = q.scale / (p.high - p.low)
    high, low = (p.high - q.loc) / q.scale, (p.low - q.loc) / q.scale
    return ratio.log() + 0.5 * (high + low) - ratio * ((-high).exp() - (-low).exp())


@register_kl(Uniform, Pareto)
def _uniform_pareto(p: Any, q: Any) -> Tensor:
    width = p.high - p.low
    found = (q.alpha + 1) * _mean_of_log(p.low, p.high) - (q.alpha * q.scale.pow(q.alpha) * width).log()
    return masked(found, p.low < q.scale, math.inf)
