"""Kullback-Leibler divergences KL(p || q) = E_p[log p - log q]: the registry and the general rules.

The formulas are in `kl_same.py` (two of one family) and `kl_pairs.py` (two families).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..tensor import Tensor
from .distribution import Distribution
from .exp_family import ExponentialFamily
from .independent import Independent
from .transformed_distribution import TransformedDistribution
from .utils import sum_rightmost

Rule = Callable[[Any, Any], Tensor]
_KL_REGISTRY: dict[tuple[type, type], Rule] = {}
_chosen: dict[tuple[type, type], Rule | None] = {}


def register_kl(type_p: Any, type_q: Any) -> Callable[[Rule], Rule]:
    """A decorator: the function computes KL(p || q) for p and q of these classes or of subclasses.

    Of several rules that apply the one for the most special classes is taken; where that is not one rule, with a
    warning, the one whose class for p is the most special.
    """
    for name, kind in (("type_p", type_p), ("type_q", type_q)):
        if not isinstance(kind, type):  # of any class: PyTorch lets programs register theirs
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def decorator(rule: Rule) -> Rule:
        _KL_REGISTRY[type_p, type_q] = rule
        _chosen.clear()
        return rule

    return decorator


def _distance(derived: type, base: type) -> int:
    return derived.__mro__.index(base)


def _choose(type_p: type, type_q: type) -> Rule | None:
    fits = [(p, q) for p, q in _KL_REGISTRY if issubclass(type_p, p) and issubclass(type_q, q)]
    if not fits:
        return None
    left = min(fits, key=lambda f: (_distance(type_p, f[0]), _distance(type_q, f[1])))
    right = min(fits, key=lambda f: (_distance(type_q, f[1]), _distance(type_p, f[0])))
    if _KL_REGISTRY[left] is not _KL_REGISTRY[right]:
        warnings.warn(
            f"Ambiguous kl_divergence({type_p.__name__}, {type_q.__name__}). Please "
            f"register_kl({left[0].__name__}, {right[1].__name__})",
            RuntimeWarning,
            stacklevel=3,
        )
    return _KL_REGISTRY[left]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q) for each of the batch; NotImplementedError where there is no rule for the two classes."""
    key = type(p), type(q)
    if key not in _chosen:
        _chosen[key] = _choose(*key)
    rule = _chosen[key]
    if rule is None:
        raise NotImplementedError(
            f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}"
        )
    return rule(p, q)


@register_kl(ExponentialFamily, ExponentialFamily)
def _same_exponential_family(p: Any, q: Any) -> Tensor:
    """The Bregman divergence of the log-normaliser."""
    if type(p) is not type(q):
        raise NotImplementedError(
            "The cross KL-divergence between different exponential families cannot                             "
            "be computed using Bregman divergences"
        )
    params, normalizer, moments = p._normalizer_and_moments()
    found = q._log_normalizer(*q._natural_params) - normalizer
    for mine, other, moment in zip(params, q._natural_params, moments):
        found = found - sum_rightmost((other - mine) * moment, len(q.event_shape))
    return found


@register_kl(TransformedDistribution, TransformedDistribution)
def _same_transforms(p: Any, q: Any) -> Tensor:
    """Invertible maps change nothing."""
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _sum_of_independent(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


__all__ = ["kl_divergence", "register_kl"]
