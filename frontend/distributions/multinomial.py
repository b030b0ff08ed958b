"""The multinomial distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..creation import arange, ones_like, zeros
from ..tensor import Tensor
from . import constraints
from .binomial import Binomial
from .categorical import Categorical
from .over_categorical import OverCategorical
from .utils import broadcast_all, masked


class Multinomial(OverCategorical):
    """How often each category comes in `total_count` independent draws."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def __init__(
        self,
        total_count: int = 1,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._categorical = Categorical(probs, logits)
        super().__init__(*self._event(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        new = self._expanded(Multinomial, batch_shape, _instance, "_categorical")
        new.total_count = self.total_count
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        draws = self._categorical.sample((self.total_count, *sample_shape)).movedim(0, -1)
        counts = zeros(tuple(self._extended_shape(sample_shape)), dtype=draws.dtype)
        return counts.scatter_add(-1, draws, ones_like(draws)).type_as(self.probs)

    def entropy(self) -> Tensor:
        n = self.total_count
        binomial = Binomial(n, probs=self.probs, validate_args=False)
        support = arange(1, n + 1, dtype=self.probs.dtype).reshape((-1, *(1,) * self.probs.ndim))
        weighted = binomial.log_prob(support).exp() * (support + 1).lgamma()
        return n * self._categorical.entropy() - math.lgamma(n + 1) + weighted.sum([0, -1])

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        # What cannot come does not matter where it did not come.
        logits = masked(logits, (value == 0) & (logits == -math.inf), 0.0)
        choose = (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1)
        return choose + (logits * value).sum(-1)


__all__ = ["Multinomial"]
