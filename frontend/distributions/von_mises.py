"""The von Mises distribution on the circle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..autograd.grad_mode import no_grad
from ..creation import zeros
from ..functional_pointwise import where
from ..ir import dtypes
from ..random import rand
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .utils import Parameter, broadcast_all, lazy_property

# Polynomials for the modified Bessel functions I0 and I1: Abramowitz and Stegun, 9.8.1 to 9.8.4.
_SMALL = (
    (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.360768e-1, 0.45813e-2),
    (0.5, 0.87890594, 0.51498869, 0.15084934, 0.2658733e-1, 0.301532e-2, 0.32411e-3),
)
_LARGE = (
    (0.39894228, 0.1328592e-1, 0.225319e-2, -0.157565e-2, 0.916281e-2, -0.2057706e-1, 0.2635537e-1,
     -0.1647633e-1, 0.392377e-2),
    (0.39894228, -0.3988024e-1, -0.362018e-2, 0.163801e-2, -0.1031555e-1, 0.2282967e-1, -0.2895312e-1,
     0.1787654e-1, -0.420059e-2),
)  # fmt: skip


def _polynomial(y: Tensor, coefficients: Sequence[float]) -> Any:
    found: Any = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        found = c + y * found
    return found


def _log_bessel(x: Tensor, order: int) -> Tensor:
    """log of the modified Bessel function of the first kind, order 0 or 1, for x > 0."""
    small = _polynomial((x / 3.75) ** 2, _SMALL[order])
    if order == 1:
        small = x.abs() * small
    large = x - 0.5 * x.log() + _polynomial(3.75 / x, _LARGE[order]).log()
    return where(x < 3.75, small.log(), large)


class VonMises(Distribution):
    """Density proportional to exp(concentration * cos(x - loc)), angles in [-pi, pi)."""

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real
    has_rsample = False

    def __init__(self, loc: Parameter, concentration: Parameter, validate_args: bool | None = None):
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        return self._expanded(VonMises, batch_shape, _instance, "loc", "concentration")

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        exponent = self.concentration * (value - self.loc).cos()
        return exponent - math.log(2 * math.pi) - _log_bessel(self.concentration, 0)

    @lazy_property
    def _proposal(self) -> Tensor:
        """The parameter r of the wrapped Cauchy proposal."""
        kappa = self.concentration.to(dtypes.f64)
        tau = 1 + (1 + 4 * kappa**2).sqrt()
        rho = (tau - (2 * tau).sqrt()) / (2 * kappa)
        return where(kappa < 1e-5, 1 / kappa + kappa, (1 + rho**2) / (2 * rho))

    def sample(self, sample_shape: Sequence[Any] = ()) -> Tensor:
        """By rejection, in float64: D. Best, N. Fisher, "Efficient simulation of the von Mises distribution", 1979."""
        with no_grad():
            loc, kappa, r = self.loc.to(dtypes.f64), self.concentration.to(dtypes.f64), self._proposal
            shape = tuple(self._extended_shape(sample_shape))
            x, done = zeros(shape, dtype=dtypes.f64), zeros(shape, dtype=dtypes.bool_)
            while not bool(done.all()):
                u1, u2, u3 = rand((3, *shape), dtype=dtypes.f64).unbind()
                z = (math.pi * u1).cos()
                f = (1 + r * z) / (r + z)
                c = kappa * (r - f)
                accept = (c * (2 - c) - u2 > 0) | ((c / u2).log() + 1 - c >= 0)
                # A number that was accepted before is replaced too: it is as good.
                x = where(accept, (u3 - 0.5).sign() * f.acos(), x)
                done = done | accept
            angle = (x + math.pi + loc) % (2 * math.pi) - math.pi
            return angle.to(self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @lazy_property
    def variance(self) -> Tensor:
        """The circular variance 1 - I1 / I0."""
        return 1 - (_log_bessel(self.concentration, 1) - _log_bessel(self.concentration, 0)).exp()


__all__ = ["VonMises"]
