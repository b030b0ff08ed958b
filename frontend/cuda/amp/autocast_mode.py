"""`torch.cuda.amp.autocast`, `custom_fwd` and `custom_bwd`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from ... import amp
from ...ir import dtypes
from ...ir.dtypes import DType


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"`{old}` is deprecated. Please use `{new}` instead.", FutureWarning, stacklevel=3)


class autocast(amp.autocast):
    """`torch.autocast("cuda")`."""

    def __init__(self, enabled: bool = True, dtype: DType = dtypes.f16, cache_enabled: bool = True):
        _deprecated("torch.cuda.amp.autocast(args...)", "torch.amp.autocast('cuda', args...)")
        super().__init__("cuda", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


def custom_fwd(fwd: Any = None, *, cast_inputs: DType | None = None) -> Callable[..., Any]:
    """`torch.amp.custom_fwd(device_type="cuda")`."""
    _deprecated("torch.cuda.amp.custom_fwd(args...)", "torch.amp.custom_fwd(args..., device_type='cuda')")
    return functools.partial(amp.custom_fwd, device_type="cuda")(fwd=fwd, cast_inputs=cast_inputs)


def custom_bwd(bwd: Any) -> Callable[..., Any]:
    """`torch.amp.custom_bwd(device_type="cuda")`."""
    _deprecated("torch.cuda.amp.custom_bwd(args...)", "torch.amp.custom_bwd(args..., device_type='cuda')")
    return functools.partial(amp.custom_bwd, device_type="cuda")(bwd)


__all__ = ["autocast", "custom_bwd", "custom_fwd"]
