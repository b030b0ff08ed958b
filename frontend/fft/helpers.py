"""The frequencies of a transform's points, and the order in which they come."""

from __future__ import annotations

from typing import Any

from ..arguments import wrap_dims
from ..creation import arange
from ..functional_arithmetic import mul, sub
from ..functional_pointwise import ge, where
from ..functional_slices import roll
from ..inplace import finish
from ..ir.dtypes import DType
from ..promotion import convert, get_default_dtype
from ..tensor import Tensor


def _made(
    name: str, points: Tensor, scale: float, dtype: DType | None, requires_grad: bool, out: Tensor | None
) -> Tensor:
    given = dtype or (out.dtype if out is not None else get_default_dtype())
    if given.kind not in ("float", "complex"):
        raise RuntimeError(f"{name} requires a floating point or complex dtype")
    if out is not None and out.dtype is not given:
        raise RuntimeError(
            f"dtype {given.scalar_type} does not match dtype of out parameter ({out.dtype.scalar_type})"
        )
    made = mul(convert(points, given), scale)
    if requires_grad:
        made.requires_grad_()
    return finish(made, out, name)


def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `fft`'s points for a sample spacing of `d`: 0, 1, ..., then the negative ones, over n d."""
    points = arange(n)
    points = where(ge(points, (n + 1) // 2), sub(points, n), points)
    return _made("fftfreq", points, 1.0 / (n * d) if n else 1.0, dtype, requires_grad, out)


def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `rfft`'s points."""
    return _made("rfftfreq", arange(n // 2 + 1), 1.0 / (n * d) if n else 1.0, dtype, requires_grad, out)


def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The points ordered by frequency: zero in the middle."""
    dims = wrap_dims([dim] if isinstance(dim, int) else dim, input.ndim)
    return roll(input, tuple(input.shape[d] // 2 for d in dims), dims)


def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The inverse of `fftshift`."""
    dims = wrap_dims([dim] if isinstance(dim, int) else dim, input.ndim)
    return roll(input, tuple((input.shape[d] + 1) // 2 for d in dims), dims)
