"""The Gumbel distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..creation import ones_like
from ..tensor import Tensor
from . import constraints
from .transformed_distribution import Transformed
from .transforms import AffineTransform, ExpTransform
from .uniform import Uniform
from .utils import Parameter, broadcast_all, eps_of, euler_constant, is_number, like, tiny_of


class Gumbel(Transformed):
    """Distribution function exp(-exp(-(x - loc) / scale)); the limit of maxima."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    _own = ("loc", "scale")

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        low, high = tiny_of(self.loc.dtype), 1 - eps_of(self.loc.dtype)
        if is_number(loc, scale):
            base = Uniform(low, high, validate_args=validate_args)
        else:
            base = Uniform(like(self.loc, low), like(self.loc, high), validate_args=validate_args)
        super().__init__(
            base,
            [
                ExpTransform().inv,
                AffineTransform(loc=0, scale=-ones_like(self.scale)),
                ExpTransform().inv,
                AffineTransform(loc=loc, scale=-self.scale),
            ],
            validate_args=validate_args,
        )

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expand_named(Gumbel, batch_shape, _instance)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        y = (self.loc - value) / self.scale
        return y - y.exp() - self.scale.log()

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * euler_constant

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Tensor:
        return self.stddev.pow(2)

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + euler_constant)


__all__ = ["Gumbel"]
