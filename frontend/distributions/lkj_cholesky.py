"""The LKJ distribution of correlation matrices, by their Cholesky factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..creation import arange
from ..functional_pointwise import where
from ..random import randn
from ..tensor import Tensor
from . import constraints
from .beta import Beta
from .distribution import Distribution
from .matrices import on_diagonal
from .utils import Parameter, broadcast_all, size_of, tiny_of


class LKJCholesky(Distribution):
    """Lower factors L of dim x dim correlation matrices M, whose density is proportional to det(M)**(concentration - 1).

    Sampled by the onion method: D. Lewandowski, D. Kurowicka, H. Joe, "Generating random correlation matrices based on
    vines and extended onion method", 2009.
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Parameter = 1.0, validate_args: bool | None = None):
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        # The squared radius of row i + 1 has a beta distribution; row 0 is not drawn, its entry fills the place.
        row = arange(-1, dim - 1, dtype=self.concentration.dtype).clamp(min=0)
        marginal = self.concentration + 0.5 * (dim - 2)
        self._beta = Beta(row + 0.5, marginal.unsqueeze(-1) - 0.5 * row)
        super().__init__(self.concentration.shape, (dim, dim), validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        new = self._expanded(LKJCholesky, batch_shape, _instance, "concentration")
        new.dim = self.dim
        new._beta = self._beta.expand((*size_of(batch_shape), self.dim))
        return new

    def sample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        radius = self._beta.sample(sample_shape).unsqueeze(-1)
        normal = randn(tuple(self._extended_shape(sample_shape)), dtype=radius.dtype).tril(-1)
        direction = normal / normal.norm(dim=-1, keepdim=True)
        # Row 0 has no direction.
        first = (arange(self.dim) == 0).unsqueeze(-1)
        below = radius.sqrt() * where(first, 0.0, direction)
        diagonal = (1 - (below**2).sum(-1)).clamp(min=tiny_of(below.dtype)).sqrt()
        return below + on_diagonal(diagonal)

    def log_prob(self, value: Tensor) -> Tensor:
        """L's density: the LKJ density of L L^T times the Jacobian, the product of L[i, i]**(dim - i - 1)."""
        self._validate_sample(value)
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - arange(2, self.dim + 1)
        count = self.dim - 1
        alpha = self.concentration + 0.5 * count
        normalizer = 0.5 * count * math.log(math.pi) + (alpha - 0.5).mvlgamma(count) - alpha.lgamma() * count
        return (order * diagonal.log()).sum(-1) - normalizer


__all__ = ["LKJCholesky"]
