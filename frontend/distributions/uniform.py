"""The uniform distribution on an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..random import rand
from ..size import Size
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .utils import Parameter, broadcast_all, is_number


class Uniform(Distribution):
    """Density 1 / (high - low) on [low, high)."""

    has_rsample = True

    def __init__(self, low: Parameter, high: Parameter, validate_args: bool | None = None):
        self.low, self.high = broadcast_all(low, high)
        shape = Size() if is_number(low, high) else self.low.shape
        super().__init__(shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expanded(Uniform, batch_shape, _instance, "low", "high")

    @property
    def arg_constraints(self) -> Any:
        return {"low": constraints.less_than(self.high), "high": constraints.greater_than(self.low)}

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        """NaN: there is no single one."""
        return math.nan * self.high

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / 12**0.5

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low).pow(2) / 12

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        draw = rand(tuple(self._extended_shape(sample_shape)), dtype=self.low.dtype)
        return self.low + draw * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        inside = ((self.low <= value) & (self.high > value)).type_as(self.low)
        return inside.log() - (self.high - self.low).log()

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return ((value - self.low) / (self.high - self.low)).clamp(min=0, max=1)

    def icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()


__all__ = ["Uniform"]
