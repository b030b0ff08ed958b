"""Functions that PyTorch only approximates, even in float64, by mpmath instead: for `Family.exact`.

- The derivatives of gamma and Dirichlet samples by their concentrations: implicit differentiation of the distribution
  functions, dx/da = -(dP(a, x)/da) / p(a, x) (M. Figurnov et al., "Implicit Reparameterization Gradients", 2018).
- The Bessel function Y1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mpmath
import torch

mpmath.mp.dps = 40


def _by_element(function: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    def computed(*tensors: torch.Tensor) -> torch.Tensor:
        flat = zip(*(t.detach().double().flatten().tolist() for t in tensors))
        found = torch.tensor([float(function(*map(mpmath.mpf, row))) for row in flat], dtype=torch.float64)
        return found.reshape(tensors[0].shape)

    return computed


@_by_element
def _gamma_gradient(a: Any, x: Any) -> Any:
    slope = mpmath.diff(lambda s: mpmath.gammainc(s, 0, x, regularized=True), a)
    return -slope * mpmath.gamma(a) * mpmath.exp(x) / x ** (a - 1)


@_by_element
def _dirichlet_gradient(x: Any, a: Any, total: Any) -> Any:
    b = total - a
    slope = mpmath.diff(lambda s: mpmath.betainc(s, b, 0, x, regularized=True), a)
    density = x ** (a - 1) * (1 - x) ** (b - 1) / mpmath.beta(a, b)
    return -slope / density / (1 - x)


@_by_element
def _bessel_y1(x: Any) -> Any:
    return mpmath.bessely(1, x)


_draw = torch._standard_gamma


class _StandardGamma(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, concentration: torch.Tensor) -> torch.Tensor:
        drawn = _draw(concentration)
        ctx.save_for_backward(concentration, drawn)
        return drawn

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * _gamma_gradient(*ctx.saved_tensors)


@contextmanager
def exact_functions() -> Iterator[None]:
    """PyTorch with these functions in place of its own."""
    places = [
        (torch, "_standard_gamma", _StandardGamma.apply),
        (torch, "_dirichlet_grad", _dirichlet_gradient),
        (torch.special, "bessel_y1", _bessel_y1),
    ]
    own = [getattr(module, name) for module, name, _ in places]
    for module, name, function in places:
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name, _), function in zip(places, own):
            setattr(module, name, function)
