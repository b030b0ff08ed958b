"""The p-norm over dims, of which `torch.norm`, `torch.linalg.vector_norm`, `torch.dist` and `torch.cdist` are made."""

from __future__ import annotations

import math

from .dispatch import apply, constant, op_named
from .functional_arithmetic import mul, pow
from .functional_pointwise import abs, eq, where
from .functional_reductions import amax, amin, sum
from .tensor import Tensor

_SQRT = op_named("sqrt")


def p_norm(value: Tensor, order: float, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The norm of order `order` of floating-point or complex elements over the dims; its gradient at 0 is 0."""
    if order == 2.0 and not value.dtype.is_complex:
        return _root(sum(mul(value, value), dims, keepdim))
    size = abs(value)
    if order == 2.0:
        return _root(sum(mul(size, size), dims, keepdim))
    if order == 1.0:
        return sum(size, dims, keepdim)
    if order == 0.0:
        return sum(where(eq(size, 0), size, constant(1, size.dtype)), dims, keepdim)
    if math.isinf(order):
        return (amax if order > 0 else amin)(size, dims if value.ndim else (), keepdim)
    zero = eq(size, 0)
    one = constant(1, size.dtype)
    if order > 0:
        powers = where(zero, constant(0, size.dtype), pow(where(zero, one, size), order))
    else:
        powers = pow(size, order)
    total = sum(powers, dims, keepdim)
    nothing = eq(total, 0)
    return where(
        nothing, total if order > 0 else pow(total, 1.0 / order), pow(where(nothing, one, total), 1.0 / order)
    )


def _root(value: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0."""
    zero = eq(value, 0)
    rooted: Tensor = apply(_SQRT, (where(zero, constant(1, value.dtype), value),))
    return where(zero, value, rooted)
