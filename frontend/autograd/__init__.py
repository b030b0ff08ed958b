"""`torch.autograd`: gradients of whatever was computed."""

import sys as _sys
import types as _types

from ..lazy import Lazy as _Lazy
from ..tensor import Tensor
from . import anomaly_mode, graph
from .anomaly_mode import detect_anomaly, set_detect_anomaly
from .api import backward, grad
from .function import Function, FunctionCtx, once_differentiable
from .grad_mode import (
    enable_grad,
    enforce_grad_layout_policy,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
    set_multithreading_enabled,
)
from .gradcheck import gradcheck, gradgradcheck
from .variable import Variable, variable

__all__ = [
    "Function", "FunctionCtx", "Tensor", "Variable", "anomaly_mode", "backward",
    "detect_anomaly", "enable_grad", "enforce_grad_layout_policy", "forward_ad", "functional", "grad",
    "gradcheck", "gradgradcheck", "graph", "inference_mode", "is_grad_enabled", "is_inference_mode_enabled",
    "no_grad", "once_differentiable", "set_detect_anomaly", "set_grad_enabled",
    "set_multithreading_enabled", "variable",
]  # fmt: skip


class _Package(_types.ModuleType):
    """These are made of `torch.func` and the compiler, which take their time to import."""

    forward_ad = _Lazy(f"{__name__}.forward_ad")
    functional = _Lazy(f"{__name__}.functional")
    profiler = _Lazy(f"{__name__}.profiler")


_sys.modules[__name__].__class__ = _Package
