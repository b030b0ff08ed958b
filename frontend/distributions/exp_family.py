"""Exponential families: densities h(x) exp(<t(x), theta> - F(theta))."""

from __future__ import annotations

from typing import Any

from ..autograd import grad
from ..tensor import Tensor
from .distribution import Distribution
from .utils import sum_rightmost


class ExponentialFamily(Distribution):
    """Subclasses give the natural parameters theta, the log-normaliser F and the mean of the carrier measure log h.

    F. Nielsen, R. Nock, "Entropies and cross-entropies of exponential families", 2010.
    """

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Any) -> Tensor:
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> float:
        raise NotImplementedError

    def _normalizer_and_moments(self) -> tuple[list[Tensor], Tensor, tuple[Tensor, ...]]:
        """The natural parameters, F of them, and its gradient: the mean of the sufficient statistics."""
        params = [p.detach().requires_grad_() for p in self._natural_params]
        normalizer = self._log_normalizer(*params)
        moments: Any = grad(normalizer.sum(), params, create_graph=True)
        return params, normalizer, tuple(moments)

    def entropy(self) -> Tensor:
        """F(theta) - <theta, grad F(theta)> - E[log h]."""
        params, result, moments = self._normalizer_and_moments()
        result = result - self._mean_carrier_measure
        for param, moment in zip(params, moments):
            product = param * moment
            result = result - sum_rightmost(product, product.ndim - len(self._batch_shape))
        return result


__all__ = ["ExponentialFamily"]
