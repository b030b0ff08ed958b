"""`torch.utils`."""

import sys as _sys
import types as _types

from ..lazy import Lazy as _Lazy
from . import data, deterministic, dlpack, hooks
from .objects import set_module, swap_tensors

__all__ = ["checkpoint", "data", "deterministic", "dlpack", "hooks", "set_module", "swap_tensors"]


class _Package(_types.ModuleType):
    """The parts that are loaded when they are first asked for."""

    checkpoint = _Lazy(f"{__name__}.checkpoint")


_sys.modules[__name__].__class__ = _Package
