"""Under which name an object stands in a file that PyTorch reads, and which of our objects a file means."""

from __future__ import annotations

import pickle
import sys
from types import FunctionType
from typing import Any

from ..device import device
from ..ir.dtypes import DType
from ..nn.modules.linear import Linear
from ..nn.parameter import Parameter
from ..size import Size
from ..tensor import Tensor
from ..torch_names import own_name, torch_name
from .rebuild import REBUILD, _rebuild_from_type_v2
from .storages import STORAGE_TYPES, UNTYPED, StorageType

_PACKAGE = (__package__ or "vitrify").partition(".")[0]
_FIXED: dict[int, tuple[str, str]] = {
    id(Tensor): ("torch", "Tensor"),
    id(Size): ("torch", "Size"),
    id(device): ("torch", "device"),
    id(Parameter): ("torch.nn.parameter", "Parameter"),
    id(_rebuild_from_type_v2): ("torch._tensor", "_rebuild_from_type_v2"),
    **{id(function): ("torch._utils", name) for name, function in REBUILD.items()},
}
# Where our files and PyTorch's are cut differently, a package that has the name stands in for the file.
_PUBLIC = ("", ".nn.functional", ".nn", ".optim", ".optim.lr_scheduler", ".nn.utils", ".utils.data")
_SAME_FILES = frozenset(
    ["nn.functional", "nn.parameter", "nn.init", "optim.optimizer", "optim.sgd", "optim.lr_scheduler"]
    + [
        f"nn.modules.{file}"
        for file in (
            "activation", "batchnorm", "container", "conv", "distance", "dropout", "flatten", "linear", "loss",
            "module", "pooling", "rnn", "sparse", "transformer",
        )
    ]
)  # fmt: skip


def global_name(value: Any) -> tuple[str, str] | None:
    """PyTorch's module and name for one of our objects; None for an object of someone else's."""
    if isinstance(value, DType):
        return "torch", value.torch_name
    if isinstance(value, StorageType):
        return value.torch_module, value.name
    if not isinstance(value, type | FunctionType):
        return None
    found = _FIXED.get(id(value))
    if found is not None:
        return found
    module, name = value.__module__, value.__qualname__
    if module.partition(".")[0] not in (_PACKAGE, "torch"):
        return None
    own = own_name(module) if module.startswith("torch") else module
    if own.removeprefix(f"{_PACKAGE}.") not in _SAME_FILES:
        for place in _PUBLIC:
            if getattr(sys.modules.get(_PACKAGE + place), name, None) is value:
                return f"torch{place}", name
    return torch_name(own), name


def find_own(module: str, name: str) -> Any:
    """Our object for PyTorch's name, or None. Nothing is imported."""
    if module in ("torch", "torch.cuda") and name in STORAGE_TYPES:
        return STORAGE_TYPES[name]
    if name == "UntypedStorage":
        return UNTYPED
    found = _OBJECTS.get((module, name))
    # A class may be in another file here; then one of the packages above it has its name.
    while found is None and module:
        found = sys.modules.get(own_name(module))
        for part in name.split("."):
            found = getattr(found, part, None)
        module = module.rpartition(".")[0]
    return found


def find_global(module: str, name: str) -> Any:
    """Our object for PyTorch's name. UnpicklingError where there is none."""
    found = find_own(module, name)
    if found is None:
        raise pickle.UnpicklingError(f"the file asks for `{module}.{name}`, which is not in vitrify")
    return found


_OBJECTS: dict[tuple[str, str], Any] = {
    ("torch", "Tensor"): Tensor,
    ("torch._tensor", "Tensor"): Tensor,
    ("torch.tensor", "Tensor"): Tensor,
    ("torch", "Size"): Size,
    ("torch", "device"): device,
    ("torch.nn.parameter", "Parameter"): Parameter,
    # MultiheadAttention's out_proj.
    ("torch.nn.modules.linear", "NonDynamicallyQuantizableLinear"): Linear,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type_v2,
    **{("torch._utils", name): function for name, function in REBUILD.items()},
}
