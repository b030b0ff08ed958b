"""`torch.utils`."""

import sys as _sys
import types as _types

from ..lazy import Lazy as _Lazy
from . import data, deterministic, dlpack, hooks
from .objects import set_module, swap_tensors

__all__ = [
    "checkpoint",
    "data",
    "deterministic",
    "dlpack",
    "hooks",
    "model_zoo",
    "set_module",
    "swap_tensors",
]


class _Package(_types.ModuleType):
    """The parts that are loaded when they are first asked for."""

    checkpoint = _Lazy(f"{__name__}.checkpoint")
    model_zoo = _Lazy(f"{__name__}.model_zoo")


_sys.modules[__name__].__class__ = _Package
