"""The Bernoulli distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import random
from ..autograd.grad_mode import no_grad
from ..creation import arange
from ..nn.functional import binary_cross_entropy_with_logits
from ..tensor import Tensor
from . import constraints
from .exp_family import ExponentialFamily
from .probs_or_logits import ProbsOrLogits
from .utils import broadcast_all, masked


class Bernoulli(ProbsOrLogits, ExponentialFamily):
    """1 with probability `probs`, else 0; `logits` are the log-odds."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.boolean
    has_enumerate_support = True
    _mean_carrier_measure = 0.0

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        super().__init__(self._set_parameter(probs, logits), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expanded(Bernoulli, batch_shape, _instance)

    @property
    def mean(self) -> Tensor:
        found: Tensor = self.probs
        return found

    @property
    def mode(self) -> Tensor:
        """NaN where both values are as likely."""
        return masked((self.probs >= 0.5).to(self.probs.dtype), self.probs == 0.5, math.nan)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        with no_grad():
            return random.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return enumerate_counts(self, 2, expand)

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return ((self.probs / (1 - self.probs)).log(),)

    def _log_normalizer(self, *natural_params: Any) -> Tensor:
        return natural_params[0].exp().log1p()


def enumerate_counts(distribution: Any, count: int, expand: bool, dtype: Any = None) -> Tensor:
    """0 .. count-1 along a new first dim, for `enumerate_support`."""
    shape = distribution._batch_shape
    values = arange(count, dtype=dtype or distribution._param.dtype).reshape((-1, *(1,) * len(shape)))
    return values.expand((-1, *shape)) if expand else values


__all__ = ["Bernoulli"]
