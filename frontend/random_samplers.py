"""Gamma, Poisson, binomial, Dirichlet, Cauchy, log-normal and geometric numbers.

Eagerly PyTorch's own (`generator_samplers.py`); in a compiled function from the counter-based stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import capture, generator_samplers
from .arguments import tensor_argument
from .counter_draws import CounterDraws, counter_draws
from .dispatch import apply, op_named
from .functional_shape import broadcast_tensors
from .generator import Generator, cpu_generator
from .ir import dtypes
from .placement import gpu_under, on_gpu
from .random import drawn_from, fill
from .tensor import Array, Tensor, scalar_type_name, wrap

_IMPLICIT_GAMMA, _IMPLICIT_DIRICHLET = op_named("implicit_gamma"), op_named("implicit_dirichlet")


def _drawn(
    kind: str,
    kernel: str,
    draw: Callable[..., Array],
    generator: Generator | None,
    *parameters: Tensor,
    half: bool = False,
) -> Tensor:
    """Numbers for each element of the parameters, without history."""
    dtype = parameters[0].dtype
    if dtype not in (dtypes.f32, dtypes.f64) and not (half and dtype in (dtypes.f16, dtypes.bf16)):
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_type_name(dtype)}'")
    detached = [p.detach() for p in parameters]
    gpu = gpu_under(parameters[0])
    if capture.counter_based() or gpu is not None:
        with on_gpu(gpu):
            return counter_draws(generator).draw(kind, *detached)
    return wrap(draw(cpu_generator(generator), *[np.asarray(p.numpy()) for p in detached]))


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers with the rates in `input`."""
    tensor_argument(input, "poisson")
    found = _drawn("poisson", "poisson_cpu", generator_samplers.poisson, generator, input, half=True)
    return drawn_from(found, "PoissonBackward0", input)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` trials succeed that each succeed with probability `prob`; the two broadcast."""
    tensor_argument(count, "binomial", "count")
    tensor_argument(prob, "binomial", "prob", 2)
    if count.dtype is not prob.dtype:
        raise RuntimeError(
            f"Found dtype {scalar_type_name(prob.dtype)} but expected {scalar_type_name(count.dtype)}"
        )
    both = broadcast_tensors(count, prob)
    return _drawn("binomial", "binomial_cpu", generator_samplers.binomial, generator, *both, half=True)


def _standard_gamma(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Gamma numbers with the concentrations in `input` and rate 1; differentiable."""
    found = _drawn("gamma", "gamma_cpu", generator_samplers.standard_gamma, generator, input)
    result: Tensor = apply(_IMPLICIT_GAMMA, (input, found))
    return result


def _sample_dirichlet(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Probability vectors with the concentrations in the last dim of `input`; differentiable."""
    if capture.counter_based() or gpu_under(input) is not None:
        gammas = _drawn("gamma", "dirichlet", generator_samplers.standard_gamma, generator, input)
        found = gammas / gammas.sum(-1, keepdim=True)
    else:
        found = _drawn("dirichlet", "dirichlet", generator_samplers.dirichlet, generator, input)
    result: Tensor = apply(_IMPLICIT_DIRICHLET, (input, found))
    return result


def _float_fill(name: str, target: Tensor, generator: Generator | None, draw: Callable[..., Any]) -> Tensor:
    """`draw(source, count or shape)` as float64, rounded to the target's dtype."""
    if not target.dtype.is_floating_point:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{scalar_type_name(target.dtype)}'")

    def numbers(source: Any, count: Any) -> Any:
        found = draw(source, count)
        return found if isinstance(found, Tensor) else found.astype(target.dtype.numpy)

    return fill(target, name, generator, numbers)


def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with Cauchy numbers."""
    if not sigma > 0.0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")

    def draw(source: Any, count: Any) -> Any:
        if isinstance(source, CounterDraws):
            return source.cauchy(count, self.dtype, float(median), float(sigma))
        return generator_samplers.cauchy(source, count, float(median), float(sigma))

    return _float_fill("cauchy", self, generator, draw)


def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with exp of normal numbers of that mean and deviation."""
    if not std > 0.0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")

    def draw(source: Any, count: Any) -> Any:
        if isinstance(source, CounterDraws):
            return source.log_normal(count, self.dtype, float(mean), float(std))
        return generator_samplers.log_normal(source, count, float(mean), float(std))

    return _float_fill("log_normal", self, generator, draw)


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of trials up to the first success."""
    if not 0.0 < p < 1.0:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")

    def draw(source: Any, count: Any) -> Any:
        if isinstance(source, CounterDraws):
            return source.geometric(count, self.dtype, float(p))
        return generator_samplers.geometric(source, count, float(p)).astype(self.dtype.numpy)

    return fill(self, "geometric", generator, draw)


for _method in (cauchy_, log_normal_, geometric_):
    setattr(Tensor, _method.__name__, _method)

__all__ = ["_sample_dirichlet", "_standard_gamma", "binomial", "poisson"]
