"""The windows, computed in float64 and rounded to the dtype asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ... import promotion
from ...creation import empty, ones
from ...device import require_cpu
from ...functional_arithmetic import add, mul, neg, sub
from ...functional_pointwise import abs, exp, sin
from ...ir import dtypes
from ...ir.dtypes import DType
from ...tensor import Tensor
from ...window_functions import cosine_sum, finished, kaiser_sum, positions, triangle


def _window(
    name: str,
    M: int,
    sym: bool,
    dtype: DType | None,
    layout: Any,
    device: Any,
    requires_grad: bool,
    values: Callable[[int], Tensor],
    single: bool = True,
) -> Tensor:
    """The first M of `values(span)`, where the span of a symmetric window is M - 1 and of a periodic one M; of a single
    point 1, unless `single` is false."""
    require_cpu(device)
    kind = promotion.get_default_dtype() if dtype is None else dtype
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if layout is not None and str(layout) != "torch.strided":
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    if kind not in (dtypes.f32, dtypes.f64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {kind}")
    if M == 0:
        return empty((0,), dtype=kind, requires_grad=requires_grad)
    if M == 1 and single:
        return ones((1,), dtype=kind, requires_grad=requires_grad)
    return finished(values(M - 1 if sym or M == 1 else M), kind, requires_grad)


def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-|n - center| / tau)."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")

    def values(span: int) -> Tensor:
        middle = span / 2 if center is None else center
        return exp(mul(abs(sub(positions(M), middle)), -1 / tau))

    return _window("exponential", M, sym, dtype, layout, device, requires_grad, values, False)


def cosine(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """sin(pi (n + 1/2) / M): half a wave."""

    def values(span: int) -> Tensor:
        return sin(mul(add(positions(M), 0.5), math.pi / (span + 1)))

    return _window("cosine", M, sym, dtype, layout, device, requires_grad, values, False)


def gaussian(
    M: int,
    *,
    std: float = 1.0,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-(n - middle)^2 / (2 std^2))."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")

    def values(span: int) -> Tensor:
        apart = mul(sub(positions(M), span / 2), 1 / (std * math.sqrt(2)))
        return exp(neg(mul(apart, apart)))

    return _window("gaussian", M, sym, dtype, layout, device, requires_grad, values, False)


def kaiser(
    M: int,
    *,
    beta: float = 12.0,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """I0(beta sqrt(1 - x^2)) / I0(beta)."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _window(
        "kaiser", M, sym, dtype, layout, device, requires_grad, lambda span: kaiser_sum(M, float(span), beta)
    )


def general_cosine(
    M: int,
    *,
    a: Iterable[float],
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """sum (-1)^k a[k] cos(2 pi k n / N)."""
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    coefficients = list(a)
    if not coefficients:
        raise ValueError("Coefficients cannot be empty")
    return _window(
        "general_cosine",
        M,
        sym,
        dtype,
        layout,
        device,
        requires_grad,
        lambda span: cosine_sum(M, float(span), coefficients),
    )


def general_hamming(
    M: int,
    *,
    alpha: float = 0.54,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """alpha - (1 - alpha) cos(2 pi n / N)."""
    return general_cosine(
        M,
        a=[alpha, 1.0 - alpha],
        sym=sym,
        dtype=dtype,
        layout=layout,
        device=device,
        requires_grad=requires_grad,
    )


def hamming(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`general_hamming` with alpha 0.54."""
    return general_hamming(M, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad)


def hann(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`general_hamming` with alpha 1/2."""
    return general_hamming(
        M, alpha=0.5, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad
    )


def blackman(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`general_cosine` of 0.42, 0.5, 0.08."""
    return general_cosine(
        M,
        a=[0.42, 0.5, 0.08],
        sym=sym,
        dtype=dtype,
        layout=layout,
        device=device,
        requires_grad=requires_grad,
    )


def bartlett(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """1 - |2 n / N - 1|: a triangle."""
    return _window(
        "bartlett", M, sym, dtype, layout, device, requires_grad, lambda span: triangle(M, float(span))
    )


def nuttall(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`general_cosine` with Nuttall's four coefficients."""
    return general_cosine(
        M,
        a=[0.3635819, 0.4891775, 0.1365995, 0.0106411],
        sym=sym,
        dtype=dtype,
        layout=layout,
        device=device,
        requires_grad=requires_grad,
    )
