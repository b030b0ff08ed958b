"""The logistic-normal distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor
from . import constraints
from .normal import Normal
from .transformed_distribution import Transformed
from .transforms import StickBreakingTransform
from .utils import Parameter


class LogisticNormal(Transformed):
    """Probability vectors of k + 1 from k normal numbers, by stick breaking."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None):
        base = Normal(loc, scale, validate_args=validate_args)
        if not base.batch_shape:
            base = base.expand([1])
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expand_named(LogisticNormal, batch_shape, _instance)

    @property
    def loc(self) -> Tensor:
        """The mean of the normal vectors below."""
        found: Tensor = self.base_dist.base_dist.loc
        return found

    @property
    def scale(self) -> Tensor:
        """The standard deviations of the normal vectors below."""
        found: Tensor = self.base_dist.base_dist.scale
        return found


__all__ = ["LogisticNormal"]
