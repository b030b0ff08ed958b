"""`torch.nn`: layers, losses, parameters and their initialisation."""

import sys as _sys
import types as _types

from ..lazy import Lazy as _Lazy
from . import attention, common_types, functional, grad, init, modules, parallel, parameter, utils
from .factory import factory_kwargs
from .modules import *  # noqa: F403
from .modules import __all__ as _layers
from .parallel import DataParallel
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

__all__ = [
    "Buffer", "DataParallel", "Parameter", "UninitializedBuffer", "UninitializedParameter", "attention", "common_types",
    "factory_kwargs", "functional", "grad", "init", "modules", "parallel", "parameter", "utils", *_layers,
]  # fmt: skip


class _Package(_types.ModuleType):
    """The part that is loaded when it is first asked for."""

    quantized = _Lazy(f"{__name__}.quantized")


_sys.modules[__name__].__class__ = _Package
