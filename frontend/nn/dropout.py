"""Dropout functions."""

from __future__ import annotations

import math
from typing import Any

from ..autograd.grad_mode import no_grad
from ..capture import counter_based
from ..counter_draws import random_call
from ..creation import empty_like, full, ones
from ..dispatch import apply, op_named
from ..inplace import overwrite
from ..placement import is_on_device
from ..random import bernoulli_
from ..tensor import Tensor
from ..user_warnings import warn_user


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability `p` and scale the rest by 1 / (1 - p), in training; else the input
    itself.

    Eagerly the mask is PyTorch's: `empty_like(input).bernoulli_(1 - p)`. A compiled function has its own stream
    (`counter_draws.random_call`), whose mask the backward computes again instead of keeping it.
    """
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input

    def compute() -> Tensor:
        if p == 1.0:
            return input * 0.0
        if not counter_based() and not is_on_device(input):
            return input * _mask(input, p).div_(1.0 - p)
        state, stream = random_call(like=input)
        result: Tensor = apply(
            op_named("dropout"), (input, state), {"p": float(p), "stream": stream}, "MulBackward0"
        )
        return result

    return overwrite(input, compute) if inplace else compute()


def _mask(like: Tensor, p: float) -> Tensor:
    """1 with probability 1 - p, else 0, drawn by the eager generator."""
    with no_grad():
        return bernoulli_(empty_like(like), 1.0 - p)


def _kept(input: Tensor, shape: tuple[Any, ...], p: float) -> Tensor:
    """1 with probability 1 - p, else 0, in the input's dtype."""
    if not counter_based():
        return _mask(input if shape == tuple(input.shape) else input.new_empty(shape), p)
    return dropout(full(shape, 1.0 - p, dtype=input.dtype), p)


def _check(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _feature_shape(input: Tensor) -> tuple[Any, ...]:
    return (*input.shape[:2], *(1,) * (input.ndim - 2))


def feature_dropout(input: Tensor, p: float, training: bool) -> Tensor:
    """Whole channels of [n, c, ...] dropped."""
    _check(p)
    if input.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    if not training or p == 0.0:
        return input
    return input * dropout(ones(_feature_shape(input), dtype=input.dtype), p)


def _feature_dropout(name: str, rank: int, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    _check(p)
    if input.ndim not in (rank + 1, rank + 2):
        warn_user(
            f"{name}: Received a {input.ndim}-D input to {name}, which is deprecated and will result in an error "
            "in a future release."
        )
    if not training or p == 0.0:
        return input
    if input.ndim == rank + 1:
        return _feature_dropout(name, rank, input.unsqueeze(0), p, training, inplace).squeeze(0)

    def compute() -> Tensor:
        return input * dropout(ones(_feature_shape(input), dtype=input.dtype), p)

    return overwrite(input, compute) if inplace else compute()


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [n, c, l] dropped."""
    return _feature_dropout("dropout1d", 1, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [n, c, h, w] dropped. J. Tompson et al., 2015."""
    return _feature_dropout("dropout2d", 2, input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [n, c, d, h, w] dropped."""
    return _feature_dropout("dropout3d", 3, input, p, training, inplace)


# -scale * alpha of SELU: what its most negative value is.
_SATURATION = 1.7580993408473766


def _alpha_dropout(input: Tensor, shape: tuple[Any, ...], p: float, training: bool, inplace: bool) -> Tensor:
    """Dropped elements become SELU's negative limit, then all are scaled and shifted so that mean and variance
    stay. G. Klambauer et al., 2017."""
    _check(p)
    if not training or p == 0.0:
        return input

    def compute() -> Tensor:
        if p == 1.0:
            return input * 0.0
        scale = 1.0 / math.sqrt((_SATURATION * _SATURATION * p + 1.0) * (1.0 - p))
        kept = _kept(input, shape, p)
        shift = (kept - 1.0) * (_SATURATION * scale) + _SATURATION * scale * p
        return input * (kept * scale) + shift

    return overwrite(input, compute) if inplace else compute()


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps mean and variance, for networks with SELU."""
    return _alpha_dropout(input, tuple(input.shape), p, training, inplace)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels."""
    return _alpha_dropout(input, _feature_shape(input), p, training, inplace)
