"""Mixed precision: in which dtype a function computes while autocast is on.

Functions are marked where they are defined: `@lower_precision` (products, convolutions), `@full_precision`
(losses and others that need the range), `@widest` (all operands in the widest dtype among them). The lists are those of
PyTorch's CPU autocast, https://docs.pytorch.org/docs/stable/amp.html#cpu-op-specific-behavior. What a marked function
calls is not cast again. `amp/` has the public names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import capture
from .ir import dtypes
from .ir.dtypes import DType
from .promotion import convert
from .state import local
from .tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])
DEVICES = ("cpu", "cuda")


@dataclass
class AutocastState:
    """This thread's settings. `enabled` and `dtype` are by device type; only the CPU's have an effect."""

    enabled: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(DEVICES, False))
    dtype: dict[str, DType] = field(default_factory=lambda: {"cpu": dtypes.bf16, "cuda": dtypes.f16})
    cache_enabled: bool = True
    nesting: int = 0
    # Weights in the lower precision, for as long as the outermost region lasts: id -> (weight, converted).
    cache: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    # How many of the regions were entered inside the function being compiled: what holds there is part of its code.
    traced: int = 0


def state() -> AutocastState:
    """The settings of this thread."""
    found = local.autocast
    if found is None:
        found = local.autocast = AutocastState()
    return found


def ambient() -> DType | None:
    """The dtype that functions cast to, None where autocast is off."""
    found = local.autocast
    return found.dtype["cpu"] if found is not None and found.enabled["cpu"] else None


def _active() -> DType | None:
    dtype = ambient()
    if local.backend.capture is not None and (local.autocast is None or not local.autocast.traced):
        capture.guard_value(ambient, "the dtype of autocast")
    return dtype


def _eligible(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.is_floating_point and value.dtype is not dtypes.f64


def _cast(value: Any, dtype: DType) -> Any:
    """Tensors of up to 32 bits in the dtype, also in lists and tuples."""
    if isinstance(value, Tensor):
        return _cast_tensor(value, dtype) if _eligible(value) and value.dtype is not dtype else value
    if type(value) in (list, tuple):
        return type(value)(_cast(v, dtype) for v in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # weights of a layer
        return type(value)(*[_cast(v, dtype) for v in value])
    return value


def _cast_tensor(value: Tensor, dtype: DType) -> Tensor:
    settings = state()
    # While a function is traced, regions in it have a cache; one around it would outlive the trace.
    weight = (
        settings.cache_enabled
        and local.grad_enabled
        and (local.backend.capture is None or settings.traced == settings.nesting)
        and value.requires_grad
        and value.dtype is dtypes.f32
        and value._base is None
        and value.is_leaf
    )
    if not weight:
        return convert(value, dtype)
    known = settings.cache.get(id(value))
    if known is None or known[1].dtype is not dtype:
        known = settings.cache[id(value)] = value, convert(value, dtype)
    return known[1]


def _marked(function: F, choose: Callable[[DType, Any], DType] | None) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if local.autocast is None and local.backend.capture is None:
            return function(*args, **kwargs)
        dtype = _active()
        if dtype is None:
            return function(*args, **kwargs)
        cast: Any = args, kwargs
        if choose is not None:
            wanted = choose(dtype, (args, kwargs.values()))
            cast = [_cast(a, wanted) for a in args], {k: _cast(v, wanted) for k, v in kwargs.items()}
        enabled = local.autocast.enabled
        enabled["cpu"] = False
        local.autocast.traced += 1
        try:
            return function(*cast[0], **cast[1])
        finally:
            local.autocast.traced -= 1
            enabled["cpu"] = True

    return wrapper  # type: ignore[return-value]


def lower_precision(function: F) -> F:
    """The function computes in autocast's dtype."""
    return _marked(function, lambda dtype, arguments: dtype)


def full_precision(function: F) -> F:
    """The function computes in float32."""
    return _marked(function, lambda dtype, arguments: dtypes.f32)


def _widest(dtype: DType, arguments: Any) -> DType:
    for given in arguments:
        for value in given:
            for one in value if isinstance(value, list | tuple) else (value,):
                if _eligible(one) and one.dtype is dtypes.f32:
                    return dtypes.f32
    return dtype


def uncast(function: F) -> F:
    """The function computes in its operands' dtypes, though what it is made of would cast."""
    return _marked(function, None)


def widest(function: F) -> F:
    """The function computes in float32 if one of its operands is float32, else in autocast's dtype."""
    return _marked(function, _widest)
