"""Samplers by rejection from a `Generator`'s stream, number by number as PyTorch's CPU kernels draw them.

Gamma: G. Marsaglia, W. Tsang, "A simple method for generating gamma variables", 2000. Poisson from a rate of 10 on:
W. Hörmann, "The transformed rejection method for generating Poisson random variables", 1993; binomial from a mean of
10 on: W. Hörmann, "The generation of binomial random variates", 1993. Below that, both count uniform or geometric
numbers. The order of the draws and the roundings are those of PyTorch 2.13 on x86-64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .generator import Generator

Array = np.ndarray[Any, Any]

_BLOCK = 1024


class UniformDoubles:
    """float64 numbers in [0, 1) from the stream, drawn in blocks; what was drawn too much is put back at the end."""

    def __init__(self, generator: Generator):
        self._generator = generator

    def __enter__(self) -> UniformDoubles:
        generator = self._generator
        generator._lock.acquire()
        self._before = generator._bits.state
        self._fresh_before = generator._fresh
        self._used = 0
        self._numbers = self._draw()
        return self

    def _draw(self) -> Iterator[float]:
        while True:
            for number in self._generator._unit_f64(_BLOCK).tolist():
                self._used += 1
                yield number

    def next(self) -> float:
        return next(self._numbers)

    def normal(self) -> float:
        """Standard normal; the second of each pair is kept for the next call, as the stream's state is."""
        generator = self._generator
        kept = generator._next_normal
        if kept is not None:
            generator._next_normal = None
            return kept
        u1, u2 = self.next(), self.next()
        radius, theta = math.sqrt(-2.0 * math.log1p(-u2)), 2.0 * math.pi * u1
        generator._next_normal = radius * math.sin(theta)
        return radius * math.cos(theta)

    def __exit__(self, *exc: object) -> None:
        generator = self._generator
        try:
            generator._bits.state = self._before
            generator._fresh = self._fresh_before
            generator.draw32(2 * self._used)
        finally:
            generator._lock.release()


def _each(generator: Generator, draw: Callable[..., float], *parameters: Array) -> Array:
    """`draw(uniforms, ...)` for each element of the parameters, in order; in the first one's dtype."""
    with UniformDoubles(generator) as uniforms:
        lists = [p.reshape(-1).tolist() for p in parameters]
        found = [draw(uniforms, *numbers) for numbers in zip(*lists)]
    return np.array(found, np.float64).reshape(parameters[0].shape)


def _gamma(draw: UniformDoubles, alpha: float, single: bool) -> float:
    scale = 1.0
    if alpha < 1.0:
        if alpha == 0.0:
            return 0.0
        # In the dtype of alpha, as the C++ expression is.
        exponent = float(np.float32(1) / np.float32(alpha)) if single else 1.0 / alpha
        scale = (1.0 - draw.next()) ** exponent
        alpha = float(np.float32(alpha) + np.float32(1)) if single else alpha + 1.0
    third = float(np.float32(1) / np.float32(3))
    d = float(np.float32(alpha) - np.float32(third)) if single else alpha - third
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = draw.normal()
        y = 1.0 + c * x
        if y <= 0.0:
            continue
        v = y * y * y
        u = 1.0 - draw.next()
        square = x * x
        if u < 1.0 - _SQUEEZE * square * square:
            return scale * d * v
        if math.log(u) < 0.5 * square + d * (1.0 - v + math.log(v)):
            return scale * d * v


_SQUEEZE = float(np.float32(0.0331))


def standard_gamma(generator: Generator, alpha: Array) -> Array:
    """Gamma(alpha, 1) numbers in alpha's dtype (float32 or float64), at least the smallest normal number."""
    single = alpha.dtype == np.float32
    found = _each(generator, lambda draw, a: _gamma(draw, a, single), alpha)
    return np.maximum(found.astype(alpha.dtype), np.finfo(alpha.dtype).tiny)


def dirichlet(generator: Generator, alpha: Array) -> Array:
    """Probability vectors along the last dim: gamma numbers, drawn in float64, over their sum; inside (0, 1)."""
    gammas = _each(generator, lambda draw, a: _gamma(draw, a, False), alpha)
    shares = (gammas / gammas.sum(-1, keepdims=True)).astype(alpha.dtype)
    limits = np.finfo(alpha.dtype)
    return np.clip(shares, limits.tiny, np.nextafter(alpha.dtype.type(1), alpha.dtype.type(0)))


def _poisson(draw: UniformDoubles, rate: float) -> float:
    if rate == 0.0:
        return 0.0
    if rate < 10.0:
        limit, count, product = math.exp(-rate), 0, draw.next()
        while product > limit:
            count += 1
            product *= draw.next()
        return count
    root, log_rate = math.sqrt(rate), math.log(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    log_inverse_alpha = math.log(1.1239 + 1.1328 / (b - 3.4))
    tight = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u = draw.next() - 0.5
        v = draw.next()
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + rate + 0.43) if us else -1
        if us >= 0.07 and v <= tight:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        bound = -rate + k * log_rate - math.lgamma(k + 1.0)
        if math.log(v) + log_inverse_alpha - math.log(a / (us * us) + b) <= bound:
            return k


def poisson(generator: Generator, rate: Array) -> Array:
    """Poisson numbers in the dtype of `rate`; RuntimeError for a negative one."""
    if rate.size and not (rate >= 0).all():
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    return _each(generator, _poisson, rate).astype(rate.dtype)


def _stirling_tail(k: float) -> float:
    """log(k!) less Stirling's approximation of it."""
    if k < 10.0:
        half = 0.5 * math.log(2.0 * math.pi)
        return math.lgamma(k + 1.0) - ((k + 0.5) * math.log(k + 1.0) - (k + 1.0) + half)
    square = (k + 1.0) * (k + 1.0)
    return (1.0 / 12 - (1.0 / 360 - 1.0 / 1260 / square) / square) / (k + 1.0)


def _successes(draw: UniformDoubles, count: float, p: float) -> float:
    """For a small mean: how many gaps between successes, geometric numbers, fit into `count` trials."""
    log_failure = math.log1p(-p)
    total, found = 0.0, 0
    while True:
        u = draw.next()
        total += math.ceil(math.log(u) / log_failure) if u else math.inf
        if total > count:
            return found
        found += 1


def _transformed_rejection(draw: UniformDoubles, count: float, p: float) -> float:
    deviation = math.sqrt(count * p * (1.0 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    centre = count * p + 0.5
    tight = 0.92 - 4.2 / b
    odds = p / (1.0 - p)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = math.floor((count + 1.0) * p)
    while True:
        u = draw.next() - 0.5
        v = draw.next()
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + centre) if us else -1
        if k < 0 or k > count:
            continue
        if us >= 0.07 and v <= tight:
            return k
        bound = (
            (mode + 0.5) * math.log((mode + 1.0) / (odds * (count - mode + 1.0)))
            + (count + 1.0) * math.log((count - mode + 1.0) / (count - k + 1.0))
            + (k + 0.5) * math.log(odds * (count - k + 1.0) / (k + 1.0))
            + _stirling_tail(mode)
            + _stirling_tail(count - mode)
            - _stirling_tail(k)
            - _stirling_tail(count - k)
        )
        if v == 0.0 or math.log(v * alpha / (a / (us * us) + b)) <= bound:
            return k


def _binomial(draw: UniformDoubles, count: float, p: float) -> float:
    if count <= 0.0 or p <= 0.0:
        return 0.0
    if p >= 1.0:
        return count
    if p != p:
        return math.nan
    rare = min(p, 1.0 - p)
    drawn = (_transformed_rejection if count * rare >= 10.0 else _successes)(draw, count, rare)
    return drawn if p <= 0.5 else count - drawn


def binomial(generator: Generator, count: Array, p: Array) -> Array:
    """Binomial numbers for arrays of one shape and dtype."""
    return _each(generator, _binomial, count, p).astype(count.dtype)


def cauchy(generator: Generator, count: int, median: float, sigma: float) -> Array:
    """float64 numbers with density 1 / (pi sigma (1 + ((x - median) / sigma)**2))."""
    with generator._lock:
        unit = generator._unit_f64(count)
    return np.array([median + sigma * math.tan(math.pi * (u - 0.5)) for u in unit.tolist()], np.float64)


def log_normal(generator: Generator, count: int, mean: float, std: float) -> Array:
    """exp of normal numbers, float64, one by one."""
    with UniformDoubles(generator) as uniforms:
        normals = [uniforms.normal() * std + mean for _ in range(count)]
    return np.array([math.exp(x) for x in normals], np.float64)


def geometric(generator: Generator, count: int, p: float) -> Array:
    """Trials up to the first success, float64."""
    with generator._lock:
        unit = generator._unit_f64(count)
    log_failure = math.log1p(-p) if p < 1.0 else -math.inf
    return np.array([math.ceil(math.log(u) / log_failure) if u else math.inf for u in unit.tolist()])
