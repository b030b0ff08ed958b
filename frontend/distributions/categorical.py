"""The categorical distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import random
from ..creation import full
from ..functional_shape import broadcast_tensors
from ..ir import dtypes
from ..size import Size
from ..tensor import Tensor
from . import constraints
from .bernoulli import enumerate_counts
from .distribution import Distribution
from .probs_or_logits import check_one_given
from .utils import finfo, lazy_property, logits_to_probs, probs_to_logits, size_of


class Categorical(Distribution):
    """0 .. k-1 with probabilities along the last dim, given up to a factor (`probs`) or as logarithms (`logits`)."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        check_one_given(probs, logits)
        for name, value in (("probs", probs), ("logits", logits)):
            if value is not None and value.dim() < 1:
                raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if probs is not None:
            self.probs = probs / probs.sum(-1, keepdim=True)
        elif logits is not None:
            self.logits = logits - logits.logsumexp(dim=-1, keepdim=True)
        self._param: Tensor = self.logits if probs is None else self.probs
        self._num_events = self._param.shape[-1]
        super().__init__(self._param.shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        new = self._expanded(Categorical, batch_shape, _instance, "probs", "logits", "_param")
        new._num_events = self._num_events
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits)

    @property
    def param_shape(self) -> Size:
        """The shape of probs or logits, whichever was given."""
        return self._param.size()

    def _new(self, *args: Any, **kwargs: Any) -> Tensor:
        made: Tensor = self._param.new(*args, **kwargs)
        return made

    @property
    def mean(self) -> Tensor:
        """NaN: the values are names."""
        return full(tuple(self._extended_shape()), math.nan, dtype=self.probs.dtype)

    @property
    def mode(self) -> Tensor:
        found: Tensor = self.probs.argmax(dim=-1)
        return found

    @property
    def variance(self) -> Tensor:
        return self.mean

    def sample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        count = size_of(sample_shape).numel()
        rows = self.probs.detach().reshape(-1, self._num_events)
        found = random.multinomial(rows, count, True).T
        return found.reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        index, log_probs = broadcast_tensors(value.long().unsqueeze(-1), self.logits)
        return log_probs.gather(-1, index[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        # The logarithm of 0 times 0 is 0.
        smallest = float(finfo(self.logits.dtype).min)
        return -(self.logits.clamp(min=smallest) * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return enumerate_counts(self, self._num_events, expand, dtypes.i64)


__all__ = ["Categorical"]
