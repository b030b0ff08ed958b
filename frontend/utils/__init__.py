"""`torch.utils`."""

import sys as _sys
import types as _types

from ..lazy import Lazy as _Lazy
from . import data

__all__ = ["checkpoint", "data"]


class _Package(_types.ModuleType):
    """The parts that are loaded when they are first asked for."""

    checkpoint = _Lazy(f"{__name__}.checkpoint")


_sys.modules[__name__].__class__ = _Package
