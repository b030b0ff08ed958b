"""The Wishart distribution of positive definite matrices."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from .. import capture
from ..creation import arange, tensor
from ..functional_pointwise import where
from ..functional_shape import broadcast_shapes
from ..random import randn
from ..tensor import Tensor
from . import constraints
from .chi2 import Chi2
from .exp_family import ExponentialFamily
from .matrices import (
    cholesky,
    factor_of,
    inverse_of_product,
    log_diagonal,
    on_diagonal,
    solve_lower,
    squared_norm,
    the_given,
)
from .utils import eps_of, is_number, lazy_property, masked, size_of, vec_to_tril_matrix

_LOG_2 = math.log(2)
_TRIES = 10


class Wishart(ExponentialFamily):
    """X X^T for `df` columns of X from a multivariate normal distribution of mean 0 and the given covariance."""

    support = constraints.positive_definite
    has_rsample = True
    _mean_carrier_measure = 0.0

    @property
    def arg_constraints(self) -> Any:
        return {
            "covariance_matrix": constraints.positive_definite,
            "precision_matrix": constraints.positive_definite,
            "scale_tril": constraints.lower_cholesky,
            "df": constraints.greater_than(self.event_shape[-1] - 1),
        }

    def __init__(
        self,
        df: Any,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        name, matrix = the_given(
            AssertionError,
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        if matrix.dim() < 2:
            raise ValueError(
                "scale_tril must be at least two-dimensional, with optional leading batch dimensions"
            )
        if is_number(df):
            batch = matrix.shape[:-2]
            self.df = tensor(df, dtype=matrix.dtype)
        else:
            batch = broadcast_shapes(matrix.shape[:-2], df.shape)
            self.df = df.expand(tuple(batch))
        size = matrix.shape[-1]
        if capture.active() is None:
            if (self.df <= size - 1).any():
                raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {size - 1}.")
            if (self.df < size).any():
                warnings.warn(
                    "Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.",
                    stacklevel=2,
                )
        self.__dict__[name] = matrix.expand((*batch, -1, -1))
        super().__init__(batch, matrix.shape[-2:], validate_args=validate_args)
        self._set_factor(factor_of(name, matrix))

    def _set_factor(self, factor: Tensor) -> None:
        self._unbroadcasted_scale_tril = factor
        row = arange(self._event_shape[-1], dtype=factor.dtype)
        self._dist_chi2 = Chi2((self.df.unsqueeze(-1) - row).expand((*self._batch_shape, -1)))

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        names = ("covariance_matrix", "scale_tril", "precision_matrix")
        new = self._get_checked_instance(Wishart, _instance)
        new.df = self.df.expand(tuple(batch_shape))
        self._expanded(Wishart, batch_shape, new, *names)
        new._set_factor(self._unbroadcasted_scale_tril.expand(size_of(batch_shape) + self.event_shape))
        return new

    def _full(self, matrix: Tensor) -> Tensor:
        return matrix.expand(self._batch_shape + self._event_shape)

    @lazy_property
    def scale_tril(self) -> Any:
        return self._full(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self) -> Any:
        factor = self._unbroadcasted_scale_tril
        return self._full(factor @ factor.mT)

    @lazy_property
    def precision_matrix(self) -> Any:
        return self._full(inverse_of_product(self._unbroadcasted_scale_tril))

    def _per_matrix(self, values: Tensor) -> Tensor:
        return values.unsqueeze(-1).unsqueeze(-1)

    @property
    def mean(self) -> Tensor:
        return self._per_matrix(self.df) * self.covariance_matrix

    @property
    def mode(self) -> Tensor:
        factor = self.df - self._event_shape[-1] - 1
        return self._per_matrix(masked(factor, factor <= 0, math.nan)) * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        covariance = self.covariance_matrix
        diagonal = covariance.diagonal(dim1=-2, dim2=-1)
        outer = diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)
        return self._per_matrix(self.df) * (covariance.pow(2) + outer)

    def _bartlett(self, sample_shape: Sequence[Any]) -> Tensor:
        """One try: the factor of a standard Wishart matrix has chi numbers on the diagonal and normal ones below."""
        p = self._event_shape[-1]
        radius = self._dist_chi2.rsample(sample_shape).sqrt()
        noise = on_diagonal(radius.clamp(min=eps_of(radius.dtype)))
        if p > 1:
            below = randn((*sample_shape, *self._batch_shape, p * (p - 1) // 2), dtype=noise.dtype)
            noise = noise + vec_to_tril_matrix(below, diag=-1)
        factor = self._unbroadcasted_scale_tril @ noise
        return factor @ factor.mT

    def rsample(self, sample_shape: Sequence[Any] = (), max_try_correction: int | None = None) -> Tensor:
        """Samples that came out singular are drawn anew, up to `max_try_correction` (10) times. W. Smith, R. Hocking,
        "Wishart variates generator", 1972."""
        sample_shape = size_of(sample_shape)
        sample = self._bartlett(sample_shape)
        if capture.active() is not None:
            return sample
        singular = ~self.support.check(sample)
        for attempt in range(_TRIES if max_try_correction is None else max_try_correction):
            if not singular.any():
                break
            if attempt == 0:
                warnings.warn("Singular sample detected.", stacklevel=2)
            sample = where(self._per_matrix(singular), self._bartlett(sample_shape), sample)
            singular = ~self.support.check(sample)
        return sample

    def _log_det(self) -> Tensor:
        """(p log 2 + log |covariance|) / 2."""
        return self._event_shape[-1] * _LOG_2 / 2 + log_diagonal(self._unbroadcasted_scale_tril)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        nu, p = self.df, self._event_shape[-1]
        root = cholesky(value)
        whitened = solve_lower(self._unbroadcasted_scale_tril, root)
        return (
            -nu * self._log_det()
            - (nu / 2).mvlgamma(p)
            + (nu - p - 1) * log_diagonal(root)
            - squared_norm(whitened) / 2
        )

    def entropy(self) -> Tensor:
        nu, p = self.df, self._event_shape[-1]
        halves = arange(p, dtype=nu.dtype) / 2
        digammas = (nu.unsqueeze(-1) / 2 - halves).digamma().sum(-1)
        return (p + 1) * self._log_det() + (nu / 2).mvlgamma(p) - (nu - p - 1) / 2 * digammas + nu * p / 2

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return -self.precision_matrix / 2, (self.df - self._event_shape[-1] - 1) / 2

    def _log_normalizer(self, *natural_params: Any) -> Tensor:
        x, y = natural_params
        p = self._event_shape[-1]
        power = y + (p + 1) / 2
        return power * (p * _LOG_2 - 2 * log_diagonal(cholesky(-2 * x))) + power.mvlgamma(p)


__all__ = ["Wishart"]
