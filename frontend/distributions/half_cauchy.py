"""The half-Cauchy distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..creation import as_tensor, full
from ..tensor import Tensor
from .cauchy import Cauchy
from .half import Half
from .utils import Parameter


class HalfCauchy(Half):
    """The absolute value of a Cauchy number around 0."""

    def __init__(self, scale: Parameter, validate_args: bool | None = None):
        super().__init__(Cauchy(0, scale, validate_args=False), validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expand_named(HalfCauchy, batch_shape, _instance)

    @property
    def mean(self) -> Tensor:
        return full(tuple(self._extended_shape()), math.inf, dtype=self.scale.dtype)

    @property
    def variance(self) -> Tensor:
        found: Tensor = self.base_dist.variance
        return found

    def _log_density(self, value: Tensor) -> Tensor:
        return super()._log_density(as_tensor(value, dtype=self.scale.dtype))


__all__ = ["HalfCauchy"]
