"""Regions of mixed precision, and the settings behind them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from .. import capture
from ..autocast import DEVICES, state
from ..ir import dtypes
from ..ir.dtypes import DType
from ..runtime.gpu.arrays import gpu_count
from ..tensor import Tensor

# PyTorch's other kinds of device with autocast, which is never on: there are no such devices here.
_ELSEWHERE = {
    "hpu": dtypes.bf16, "ipu": dtypes.f16, "maia": dtypes.bf16, "mps": dtypes.f16, "mtia": dtypes.f16,
    "xla": dtypes.bf16, "xpu": dtypes.f16,
}  # fmt: skip


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast` knows the device type."""
    return device_type in DEVICES


def _known(device_type: str) -> str:
    if device_type not in DEVICES:
        raise RuntimeError(
            f"unknown device type for autocast in get_autocast_dispatch_key_from_device_type: {device_type}"
        )
    return device_type


class autocast:
    """While the block runs, matrix products and convolutions on `device_type` compute in `dtype` (bfloat16 on the CPU),
    losses in float32. As a decorator: while the function runs.

    Regions nest; `enabled=False` turns autocast off inside one. "cuda" (float16 by default) is about tensors on a CUDA
    device; where there is none it does nothing, with a warning.
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if not is_autocast_available(device_type):
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        settings = state()
        self.device = device_type
        self.fast_dtype = settings.dtype[device_type] if dtype is None else dtype
        self._cache_enabled = settings.cache_enabled if cache_enabled is None else cache_enabled
        if enabled and device_type == "cuda" and not gpu_count():
            warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast.", stacklevel=2)
            enabled = False
        elif enabled and device_type == "cuda" and self.fast_dtype not in (dtypes.bf16, dtypes.f16):
            warnings.warn(
                "In CUDA autocast, but the target dtype is not supported. Disabling autocast.\n"
                "CUDA Autocast only supports dtypes of torch.float16, torch.bfloat16 currently.",
                stacklevel=2,
            )
            enabled = False
        elif enabled and self.fast_dtype not in (dtypes.bf16, dtypes.f16):
            warnings.warn(
                "In CPU autocast, but the target dtype is not supported. Disabling autocast.\n"
                "CPU Autocast only supports dtypes of torch.bfloat16, torch.float16 currently.",
                stacklevel=2,
            )
            enabled = False
        self._enabled = enabled
        self._before: list[tuple[bool, DType, bool, bool]] = []

    def __enter__(self) -> autocast:
        settings = state()
        traced = capture.active() is not None
        before = settings.enabled[self.device], settings.dtype[self.device], settings.cache_enabled, traced
        self._before.append(before)
        settings.enabled[self.device] = self._enabled
        settings.dtype[self.device] = self.fast_dtype
        settings.cache_enabled = self._cache_enabled
        settings.nesting += 1
        settings.traced += traced
        return self

    def __exit__(self, *exc: object) -> None:
        settings = state()
        settings.nesting -= 1
        if settings.nesting == 0:
            settings.cache.clear()
        enabled, dtype, cache_enabled, traced = self._before.pop()
        settings.enabled[self.device], settings.dtype[self.device] = enabled, dtype
        settings.cache_enabled = cache_enabled
        settings.traced -= traced

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(func):
            raise TypeError(
                f"autocast()(func) requires a callable, but got {type(func).__name__}. Did you mean to use autocast as "
                "a context manager? For example:\n    with torch.autocast(device_type=...):\n"
                "        output = model(input)"
            )
        return autocast_decorator(self, func)


def autocast_decorator(autocast_instance: autocast, func: Callable[..., Any]) -> Callable[..., Any]:
    """`func` inside the region at every call."""

    @functools.wraps(func)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        with autocast_instance:
            return func(*args, **kwargs)

    return decorated


# Functions of torch.autograd.Function classes


def _cast(value: Any, device_type: str, dtype: DType) -> Any:
    if isinstance(value, Tensor):
        fits = (
            value.is_floating_point()
            and value.is_cuda == (device_type == "cuda")
            and value.dtype is not dtypes.f64
        )
        return value.to(dtype) if fits else value
    if isinstance(value, Mapping):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cast(v, device_type, dtype) for v in value)
    return value


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: DType | None = None) -> Callable[..., Any]:
    """For the `forward` of a Function: notes whether autocast was on, for `custom_bwd`. With `cast_inputs`, tensors are
    cast to that dtype and autocast is off inside."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        ctx = args[0]
        ctx._dtype = get_autocast_dtype(device_type)
        on = is_autocast_enabled(device_type)
        ctx._fwd_used_autocast = on if cast_inputs is None else False
        if cast_inputs is None or not on:
            return fwd(*args, **kwargs)
        with autocast(device_type, enabled=False):
            arguments = _cast(args, device_type, cast_inputs)
            return fwd(*arguments, **_cast(kwargs, device_type, cast_inputs))

    return decorated


def custom_bwd(bwd: Any = None, *, device_type: str) -> Callable[..., Any]:
    """For the `backward` of a Function: runs with autocast as it was in its `custom_fwd` forward."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, enabled=args[0]._fwd_used_autocast, dtype=args[0]._dtype):
            return bwd(*args, **kwargs)

    return decorated


# The settings, as functions of `torch`


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether ops on this kind of device are cast now; RuntimeError for a kind that is not known."""
    return device_type not in _ELSEWHERE and state().enabled[_known(device_type)]


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """`set_autocast_enabled("cpu", True)`; with a bool alone, for CUDA."""
    device, value = ("cuda", device_type) if enabled is None else (device_type, enabled)
    state().enabled[_known(device)] = bool(value)


def get_autocast_dtype(device_type: str) -> DType:
    """The dtype of a region on this kind of device that says none."""
    return _ELSEWHERE.get(device_type) or state().dtype[_known(device_type)]


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Set what `get_autocast_dtype` gives."""
    state().dtype[_known(device_type)] = dtype


def is_autocast_cpu_enabled() -> bool:
    """`is_autocast_enabled("cpu")`."""
    return is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """`set_autocast_enabled("cpu", enabled)`."""
    set_autocast_enabled("cpu", enabled)


def get_autocast_cpu_dtype() -> DType:
    """`get_autocast_dtype("cpu")`."""
    return get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype: DType) -> None:
    """`set_autocast_dtype("cpu", dtype)`."""
    set_autocast_dtype("cpu", dtype)


def get_autocast_gpu_dtype() -> DType:
    """`get_autocast_dtype("cuda")`."""
    return get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype: DType) -> None:
    """`set_autocast_dtype("cuda", dtype)`."""
    set_autocast_dtype("cuda", dtype)


def is_autocast_cache_enabled() -> bool:
    """Whether the casts of a parameter are kept within a region."""
    return state().cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Set what `is_autocast_cache_enabled` gives."""
    state().cache_enabled = bool(enabled)


def clear_autocast_cache() -> None:
    """Forget the weights that were cast."""
    state().cache.clear()


def autocast_increment_nesting() -> int:
    state().nesting += 1
    return state().nesting


def autocast_decrement_nesting() -> int:
    state().nesting -= 1
    return state().nesting


__all__ = ["autocast", "autocast_decorator", "custom_bwd", "custom_fwd", "is_autocast_available"]
