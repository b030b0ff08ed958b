"""Random numbers inside compiled functions: the draws of `Generator`, as ops over the counter-based stream.

A compiled function's numbers are a function of the default generator's seed and its count of counter-based calls
(`ir/ops/random.py`): other numbers at each call, the same ones after the same `manual_seed`, for any number of threads,
but not those of the same code run eagerly, which are PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import capture
from .dispatch import apply, op_named
from .functional_order import argsort
from .functional_pointwise import where
from .generator import Generator, default_generator, device_generator
from .ir import dtypes
from .ir.dtypes import DType
from .placement import gpu_under, transferred
from .promotion import convert
from .runtime.gpu.meta import META
from .state import local
from .tensor import Tensor, wrap

_UNIFORM, _DRAW = op_named("random_uniform"), op_named("random_draw")
_DIGITS = {dtypes.f16: 11, dtypes.bf16: 8, dtypes.f32: 24, dtypes.f64: 53}


def random_call(generator: Generator | None = None, like: Tensor | None = None) -> tuple[Tensor, int]:
    """(state i64[2], stream) for one counter-based random op; each call of this gets other numbers.

    Outside of compiled functions they are the generator's, by default that of the device on which `like` is, or on which
    tensors are being made.
    """
    vmap = capture.vmap()
    if vmap is not None:
        found: tuple[Tensor, int] = vmap.random_state()
        return found
    tracer = capture.active()
    if tracer is not None:
        return tracer.random_state()
    gpu = local.device if like is None else gpu_under(like)
    if gpu is META:  # draws nothing
        return transferred(wrap(np.zeros(2, np.int64)), gpu), 0
    source = generator or (default_generator if gpu is None else device_generator(gpu.index))
    state = wrap(np.array(source.philox_state(), np.uint64).view(np.int64))
    return transferred(state, gpu), 0


class CounterDraws:
    """`Generator`'s methods with shapes for counts and tensors for arrays."""

    def __init__(self, generator: Generator | None = None):
        self.generator = generator

    def unit(self, shape: tuple[Any, ...], dtype: DType) -> Tensor:
        """Numbers in [0, 1)."""
        state, stream = random_call(self.generator)
        found: Tensor = apply(_UNIFORM, (state,), {"shape": shape, "dtype": dtype, "stream": stream})
        return found

    def _wide(self, shape: tuple[Any, ...]) -> Tensor:
        """float64 numbers in [0, 1) of 53 random bits: the op gives 32 of them."""
        return self.unit(shape, dtypes.f64) + (self.unit(shape, dtypes.f64) * 2.0**21).floor() * 2.0**-53

    def uniform(self, shape: tuple[Any, ...], dtype: DType, low: float = 0.0, high: float = 1.0) -> Tensor:
        if low > high:
            raise RuntimeError(
                f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}"
            )
        unit = self.unit(shape, dtype)
        if low == 0.0 and high == 1.0:
            return unit
        scaled = unit * (high - low) + low
        return where(scaled < high, scaled, low)  # what rounded up to the end

    def normal(
        self,
        shape: tuple[Any, ...],
        dtype: DType,
        mean: float = 0.0,
        std: float = 1.0,
        contiguous: bool = True,
    ) -> Tensor:
        """By G. Box, M. Muller, "A note on the generation of random normal deviates", 1958."""
        if not std >= 0.0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
        work = dtypes.f64 if dtype is dtypes.f64 else dtypes.f32
        both = self.unit((2, *shape), work)
        radius = ((1.0 - both[0]).log() * -2.0).sqrt()
        found = radius * (both[1] * (2.0 * math.pi)).cos()
        if (mean, std) != (0.0, 1.0):
            found = found * std + mean
        return convert(found, dtype)

    def integers(self, shape: tuple[Any, ...], dtype: DType, low: int, high: int) -> Tensor:
        if low >= high:
            raise RuntimeError(
                f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
            )
        span = high - low
        if span > 1 << 53:
            raise RuntimeError("random integers in a compiled function are drawn from ranges of up to 2**53")
        unit = self.unit(shape, dtypes.f64) if span <= 1 << 16 else self._wide(shape)
        drawn = convert((unit * float(span)).floor(), dtypes.i64) + low
        return convert(drawn, dtype)

    def full_range(self, shape: tuple[Any, ...], dtype: DType) -> Tensor:
        if dtype is dtypes.bool_:
            return self.integers(shape, dtype, 0, 2)
        if dtype.is_integral:
            bits = dtype.itemsize * 8 - (1 if dtype.is_signed else 0)
            return self.integers(shape, dtype, 0, 1 << min(bits, 53))
        return self.integers(shape, dtype, 0, 1 << _DIGITS[dtype])

    def bernoulli(self, shape: tuple[Any, ...], dtype: DType, p: float) -> Tensor:
        if not 0.0 <= p <= 1.0:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        return convert(self.unit(shape, dtypes.f32) < p, dtype)

    def bernoulli_each(self, p: Tensor) -> Tensor:
        work = dtypes.f64 if p.dtype is dtypes.f64 else dtypes.f32
        return convert(self.unit(tuple(p.shape), work) < convert(p, work), p.dtype)

    def exponential(self, shape: tuple[Any, ...], dtype: DType, rate: float = 1.0) -> Tensor:
        if not rate > 0.0:
            raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={rate:g}")
        work = dtypes.f64 if dtype is dtypes.f64 else dtypes.f32
        return convert((-self.unit(shape, work)).log1p() * (-1.0 / rate), dtype)

    def cauchy(self, shape: tuple[Any, ...], dtype: DType, median: float, sigma: float) -> Tensor:
        angle = (self.unit(shape, dtypes.f64) - 0.5) * math.pi
        return convert(angle.tan() * sigma + median, dtype)

    def log_normal(self, shape: tuple[Any, ...], dtype: DType, mean: float, std: float) -> Tensor:
        return convert(self.normal(shape, dtypes.f64, mean, std).exp(), dtype)

    def geometric(self, shape: tuple[Any, ...], dtype: DType, p: float) -> Tensor:
        failure = math.log1p(-p) if p < 1.0 else -math.inf
        return convert(((1.0 - self.unit(shape, dtypes.f64)).log() / failure).ceil().clamp(min=1.0), dtype)

    def permutation(self, shape: tuple[Any, ...]) -> Tensor:
        """0 .. n-1 in the order of n random numbers."""
        return argsort(self._wide(shape))

    def draw(self, kind: str, *parameters: Tensor) -> Tensor:
        """Gamma, Poisson or binomial numbers (`ir/ops/random_draws.py`)."""
        state, stream = random_call(self.generator)
        found: Tensor = apply(_DRAW, (state, *parameters), {"kind": kind, "stream": stream})
        return found

    def multinomial(self, weights: Tensor, count: int, replacement: bool) -> Tensor:
        """Indices along the last dim of float weights [..., n]."""
        if replacement:
            cumulative = weights.cumsum(-1)
            unit = self.unit((*weights.shape[:-1], count, 1), dtypes.f64)
            target = unit * convert(cumulative[..., -1:], dtypes.f64).unsqueeze(-1)
            return (convert(cumulative, dtypes.f64).unsqueeze(-2) <= target).sum(-1)
        race = weights / self.exponential(tuple(weights.shape), weights.dtype)
        return argsort(race, descending=True)[..., :count]


def counter_draws(generator: Generator | None) -> CounterDraws:
    """The draws of a compiled function; RuntimeError for a generator of one's own, whose stream it cannot move on."""
    gpu = local.device if capture.active() is None else None
    if gpu is not None:
        if generator is not None and generator.device.type != "cuda":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return CounterDraws(generator)
    if generator is not None and generator is not default_generator:
        raise RuntimeError(
            "a compiled function draws random numbers from the default generator only (torch.manual_seed); draw "
            "numbers of another generator outside and pass them in"
        )
    return CounterDraws()


__all__ = ["CounterDraws", "counter_draws"]
