"""Continuous relaxations of the categorical distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..random import rand
from ..tensor import Tensor
from . import constraints
from .categorical import Categorical
from .over_categorical import OverCategorical
from .relaxed import Relaxed
from .transforms import ExpTransform
from .utils import broadcast_all, clamp_probs


class ExpRelaxedCategorical(OverCategorical):
    """The logarithm of a `RelaxedOneHotCategorical`."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        temperature: Tensor,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self._categorical = Categorical(probs, logits)
        self.temperature = temperature
        super().__init__(*self._event(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        new = self._expanded(ExpRelaxedCategorical, batch_shape, _instance, "_categorical")
        new.temperature = self.temperature
        return new

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        draw = clamp_probs(rand(tuple(self._extended_shape(sample_shape)), dtype=self.logits.dtype))
        scores = (self.logits - (-draw.log()).log()) / self.temperature
        return scores - scores.logsumexp(dim=-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        count = self._categorical._num_events
        logits, value = broadcast_all(self.logits, value)
        scale = math.lgamma(count) + self.temperature.log() * (count - 1)
        score = logits - value.mul(self.temperature)
        return (score - score.logsumexp(dim=-1, keepdim=True)).sum(-1) + scale


class RelaxedOneHotCategorical(Relaxed):
    """Probability vectors that crowd at the corners as the temperature falls: C. Maddison, A. Mnih, Y. Teh, "The
    concrete distribution", 2017; E. Jang, S. Gu, B. Poole, 2017."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.simplex
    has_rsample = True

    def __init__(
        self,
        temperature: Tensor,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expand_named(RelaxedOneHotCategorical, batch_shape, _instance)


__all__ = ["ExpRelaxedCategorical", "RelaxedOneHotCategorical"]
