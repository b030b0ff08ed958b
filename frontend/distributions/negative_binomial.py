"""The negative binomial distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd.grad_mode import no_grad
from ..nn.functional import logsigmoid
from ..random_samplers import poisson
from ..tensor import Tensor
from . import constraints
from .gamma import Gamma
from .probs_or_logits import ProbsOrLogits, check_one_given
from .utils import broadcast_all, lazy_property, masked


class NegativeBinomial(ProbsOrLogits):
    """The number of successes before `total_count` failures; `probs` is that of a success."""

    arg_constraints = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ):
        check_one_given(probs, logits)
        count, parameter = broadcast_all(total_count, logits if probs is None else probs)
        self._set_parameter(*(parameter, None) if logits is None else (None, parameter))
        self.total_count = count.type_as(parameter)
        super().__init__(self._param.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expanded(NegativeBinomial, batch_shape, _instance, "total_count")

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / (-self.logits).sigmoid()

    @lazy_property
    def _gamma(self) -> Gamma:
        # Not validated: a total_count of 0 is a point mass at 0.
        return Gamma(self.total_count, (-self.logits).exp(), validate_args=False)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        """A Poisson number whose rate is a gamma number."""
        with no_grad():
            return poisson(self._gamma.sample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        count = self.total_count
        weight = count * logsigmoid(-self.logits) + value * logsigmoid(self.logits)
        choose = (count + value).lgamma() - (1.0 + value).lgamma() - count.lgamma()
        return weight + masked(choose, count + value == 0.0, 0.0)


__all__ = ["NegativeBinomial"]
