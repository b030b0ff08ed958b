"""What the halves of symmetric distributions share: the absolute value of a number around 0."""

from __future__ import annotations

import math

from ..creation import zeros_like
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .transformed_distribution import Transformed
from .transforms import AbsTransform
from .utils import masked


class Half(Transformed):
    """|x| for x of a `base` symmetric around 0, which has a `scale`."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, base: Distribution, validate_args: bool | None = None):
        super().__init__(base, AbsTransform(), validate_args=validate_args)

    @property
    def scale(self) -> Tensor:
        """The scale of the base."""
        found: Tensor = self.base_dist.scale
        return found

    @property
    def mode(self) -> Tensor:
        return zeros_like(self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return self._log_density(value)

    def _log_density(self, value: Tensor) -> Tensor:
        return masked(self.base_dist.log_prob(value) + math.log(2), ~(value >= 0), -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, value: Tensor) -> Tensor:
        found: Tensor = self.base_dist.icdf((value + 1) / 2)
        return found

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2)
