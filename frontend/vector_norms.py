"""The p-norm over dims, of which `torch.norm`, `torch.linalg.vector_norm`, `torch.dist` and `torch.cdist` are made."""

from __future__ import annotations

import math

from .dispatch import constant
from .functional_arithmetic import mul, pow
from .functional_pointwise import abs, eq, where
from .functional_reductions import amax, amin, safe_sqrt, sum
from .tensor import Tensor


def p_norm(value: Tensor, order: float, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The norm of order `order` of floating-point or complex elements over the dims; its gradient at 0 is 0."""
    if order == 2.0 and not value.dtype.is_complex:
        return safe_sqrt(sum(mul(value, value), dims, keepdim))
    size = abs(value)
    if order == 2.0:
        return safe_sqrt(sum(mul(size, size), dims, keepdim))
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
