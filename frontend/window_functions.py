"""The window functions of `torch` (`hann_window` ...) and `torch.range`. Those of `torch.signal.windows` build on the
same sums."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from . import promotion
from .creation import arange, full, ones
from .device import require_cpu
from .dispatch import apply, op_named
from .functional_arithmetic import add, div, mul, sub
from .functional_pointwise import abs, clamp, cos, sqrt
from .inplace import into
from .ir import dtypes
from .ir.dtypes import DType
from .promotion import convert
from .tensor import Tensor


def positions(count: int) -> Tensor:
    """0, 1 ... count - 1 in float64, in which windows are computed."""
    return arange(count, dtype=dtypes.f64)


def cosine_sum(count: int, span: float, coefficients: Sequence[float]) -> Tensor:
    """sum (-1)^k a[k] cos(2 pi k n / span)."""
    angle = mul(positions(count), 2 * math.pi / span)
    total = full((count,), float(coefficients[0]), dtype=dtypes.f64)
    for k, a in enumerate(coefficients[1:], 1):
        total = add(total, mul(cos(mul(angle, float(k))), (-1) ** k * float(a)))
    return total


def kaiser_sum(count: int, span: float, beta: float) -> Tensor:
    """I0(beta sqrt(1 - x^2)) / I0(beta), x from -1 to 1 over the span."""
    x = sub(div(positions(count), span / 2), 1.0)
    inside = clamp(sub(1.0, mul(x, x)), min=0.0)
    i0 = op_named("i0")
    scale = full((), float(beta), dtype=dtypes.f64)
    return div(apply(i0, (mul(sqrt(inside), scale),)), apply(i0, (scale,)))


def finished(window: Tensor, dtype: DType, requires_grad: bool) -> Tensor:
    """The window in its dtype, as a leaf."""
    made = convert(window, dtype)
    if requires_grad:
        made.requires_grad = True
    return made


def triangle(count: int, span: float) -> Tensor:
    """1 - |x|, x from -1 to 1 over the span."""
    return sub(1.0, abs(sub(div(positions(count), span / 2), 1.0)))


def _window(
    name: str,
    count: int,
    periodic: bool,
    values: Callable[[int, float], Tensor],
    dtype: DType | None,
    device: Any,
    requires_grad: bool,
) -> Tensor:
    """`values(count, span)` once the arguments of the window `name` are checked; up to one element, ones."""
    require_cpu(device)
    found: DType = promotion.get_default_dtype() if dtype is None else dtype
    if found.kind not in ("float", "complex"):
        raise RuntimeError(
            f"{name} expects floating point dtypes, got: TensorOptions(dtype={found.torch_name})"
        )
    if count < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={count}")
    if count <= 1:
        return ones((count,), dtype=found, requires_grad=requires_grad)
    return finished(values(count, float(count if periodic else count - 1)), found, requires_grad)


def _cosine(*coefficients: float) -> Callable[[int, float], Tensor]:
    return partial(cosine_sum, coefficients=coefficients)


def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """1/2 - 1/2 cos(2 pi n / N)."""
    values = _cosine(0.5, 0.5)
    return _window("hann_window", window_length, periodic, values, dtype, device, requires_grad)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """alpha - beta cos(2 pi n / N)."""
    values = _cosine(alpha, beta)
    return _window("hamming_window", window_length, periodic, values, dtype, device, requires_grad)


def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)."""
    values = _cosine(0.42, 0.5, 0.08)
    return _window("blackman_window", window_length, periodic, values, dtype, device, requires_grad)


def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """1 - |2 n / N - 1|: a triangle."""
    return _window("bartlett_window", window_length, periodic, triangle, dtype, device, requires_grad)


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """I0(beta sqrt(1 - (2 n / N - 1)^2)) / I0(beta)."""
    values = partial(kaiser_sum, beta=beta)
    return _window("kaiser_window", window_length, periodic, values, dtype, device, requires_grad)


def range(
    start: Any,
    end: Any,
    step: Any = 1,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step ... up to the end, which is included."""
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with "
        "Python's range builtin. Instead, use torch.arange, which produces values in [start, end).",
        UserWarning,
        stacklevel=2,
    )
    require_cpu(device)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    count = int((end - start) / step) + 1
    kind = promotion.get_default_dtype() if dtype is None else dtype
    made = finished(add(mul(positions(count), float(step)), float(start)), kind, requires_grad)
    return made if out is None else into(out, made, "range")


# The names of `torch` that are defined here.
__all__ = [
    "bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window", "range",
]  # fmt: skip
