"""`make_tensor`: a tensor of random elements of any dtype."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from ..creation import empty
from ..formats import memory_format as MemoryFormat
from ..functional_pointwise import eq, where
from ..ir import dtypes
from ..ir.dtypes import DType
from ..random import randint
from ..tensor import Tensor
from ..type_info import finfo, iinfo


def make_tensor(
    *shape: Any,
    dtype: DType,
    device: Any,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: MemoryFormat | None = None,
) -> Tensor:
    """Elements uniform in [low, high): by default [0, 2) for bool, [0, 10) or [-9, 10) for integers, [-9, 9) else.
    `exclude_zero`: zeros become the smallest positive normal number. `noncontiguous`: not in row-major order."""
    if len(shape) == 1 and isinstance(shape[0], Sequence):
        shape = tuple(shape[0])
    if noncontiguous and memory_format is not None:
        raise ValueError(
            f"The parameters `noncontiguous` and `memory_format` are mutually exclusive, but got {noncontiguous=} and "
            f"{memory_format=}"
        )
    whole = dtype.is_integral
    if requires_grad and whole:
        raise ValueError(
            f"`requires_grad=True` is not supported for boolean and integral dtypes, but got {dtype=}"
        )
    apart = noncontiguous and math.prod(shape) > 1
    size = (*shape[:-1], 2 * shape[-1]) if apart else tuple(shape)
    if dtype is dtypes.bool_:
        bounds = _bounds(dtype, low, high, (0, 2), (0, 2))
        made = randint(*bounds, size, device=device, dtype=dtype)
    elif whole:
        limits = iinfo(dtype)
        top = limits.max + (1 if dtype is not dtypes.i64 else 0)
        bounds = _bounds(dtype, low, high, (limits.min, top), (-9, 10))
        made = randint(*bounds, size, device=device, dtype=dtype)
    else:
        real = finfo(dtype)
        first, last = _bounds(dtype, low, high, (real.min, real.max), (-9, 9))
        made = empty(size, dtype=dtype, device=device)
        parts = made.view(dtypes.f32 if dtype is dtypes.c64 else dtypes.f64) if dtype.is_complex else made
        if last - first >= real.max:
            parts.uniform_(first / 2, last / 2).mul_(2)
        else:
            parts.uniform_(first, last)
    if apart:
        # Every second element of the last dim.
        made = made[..., ::2]
    elif memory_format is not None:
        made = made.clone(memory_format=memory_format)
    if exclude_zero:
        least: Any = 1 if whole else finfo(dtype).tiny
        made = where(eq(made, 0), complex(least, least) if dtype.is_complex else least, made)
    return made.requires_grad_() if requires_grad else made


def _bounds(
    dtype: DType, low: Any, high: Any, limits: tuple[Any, Any], usual: tuple[Any, Any]
) -> tuple[Any, Any]:
    """The interval asked for, within what the dtype holds."""
    low, high = usual[0] if low is None else low, usual[1] if high is None else high
    if any(isinstance(value, float) and math.isnan(value) for value in (low, high)):
        raise ValueError(f"`low` and `high` cannot be NaN, but got {low=} and {high=}")
    if low == high and not dtype.is_integral:
        warnings.warn(
            "Passing `low==high` to `torch.testing.make_tensor` for floating or complex types is deprecated since 2.1 "
            "and will be removed in 2.3. Use `torch.full(...)` instead.",
            FutureWarning,
            stacklevel=3,
        )
    elif low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    elif high < limits[0] or low >= limits[1]:
        raise ValueError(
            f"The value interval specified by `low` and `high` is [{low}, {high}), but {dtype} only supports "
            f"[{limits[0]}, {limits[1]})"
        )
    low, high = (min(max(value, limits[0]), limits[1]) for value in (low, high))
    return (math.ceil(low), math.ceil(high)) if dtype.is_integral else (low, high)
