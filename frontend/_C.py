"""`torch._C`: the few names of PyTorch's compiled part that libraries import."""

from __future__ import annotations

from typing import Any

from .func.levels import Level
from .state import local
from .tensor import Tensor
from .tensor_object import disabled_torch_function as _disabled_torch_function_impl

_TensorMeta = type(Tensor)


def _get_tracing_state() -> None:
    """None: `torch.jit.trace` does not trace."""


def _are_functorch_transforms_active() -> bool:
    """Whether code runs under `vmap`, or under `grad` and its like."""
    return local.backend.vmap is not None or any(
        isinstance(getattr(c, "__self__", None), Level) for c in local.write_checks
    )


def _log_api_usage_once(event: str) -> None:
    """Nothing: uses are not counted."""


class PyTorchFileReader:
    """The reader of checkpoints in PyTorch's C++: NotImplementedError. `torch.load` reads them."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(
            "torch.PyTorchFileReader is not in vitrify: torch.load reads PyTorch's files"
        )


__all__ = [
    "PyTorchFileReader", "_TensorMeta", "_are_functorch_transforms_active", "_disabled_torch_function_impl",
    "_get_tracing_state", "_log_api_usage_once",
]  # fmt: skip
