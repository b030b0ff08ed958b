"""`torch._C`: the few names of PyTorch's compiled part that libraries import."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

from .amp import autocast
from .func.levels import Level
from .placement import where_to
from .state import local
from .tensor import Tensor
from .torch_function import disabled_torch_function as _disabled_torch_function_impl
from .torch_function import without_asking

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


class DispatchKey(enum.Enum):
    """The keys by which PyTorch casts automatically."""

    AutocastCPU = "cpu"
    AutocastCUDA = "cuda"
    AutocastXPU = "xpu"
    AutocastMPS = "mps"


class DispatchKeySet:
    """A set of keys."""

    def __init__(self, *keys: DispatchKey):
        self.keys = frozenset(keys)

    def __or__(self, other: DispatchKeySet) -> DispatchKeySet:
        return DispatchKeySet(*self.keys, *other.keys)

    def __contains__(self, key: DispatchKey) -> bool:
        return key in self.keys

    has = __contains__


@contextmanager
def _ExcludeDispatchKeyGuard(keys: DispatchKeySet) -> Iterator[None]:
    """Without automatic casts on the kinds of devices whose keys these are."""
    on_cpu, on_cuda = (key in keys for key in (DispatchKey.AutocastCPU, DispatchKey.AutocastCUDA))
    with (
        autocast("cpu", enabled=False) if on_cpu else nullcontext(),
        autocast("cuda", enabled=False) if on_cuda else nullcontext(),
    ):
        yield


def DisableTorchFunctionSubclass() -> AbstractContextManager[None]:
    """A block in which functions do not ask their arguments' classes (`__torch_function__`), only modes."""
    return without_asking()


def DisableTorchFunction() -> AbstractContextManager[None]:
    """A block in which functions ask neither their arguments' classes nor modes."""
    return without_asking(modes=False)


class TensorType:
    """TorchScript's type of tensors; nothing here is an instance."""


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool, Any]:
    return where_to(args, kwargs)


_nn = SimpleNamespace(_parse_to=_parse_to)


class PyTorchFileReader:
    """The reader of checkpoints in PyTorch's C++: NotImplementedError. `torch.load` reads them."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(
            "torch.PyTorchFileReader is not in vitrify: torch.load reads PyTorch's files"
        )


__all__ = [
    "DisableTorchFunction", "DisableTorchFunctionSubclass", "DispatchKey", "DispatchKeySet", "PyTorchFileReader",
    "TensorType", "_TensorMeta", "_are_functorch_transforms_active", "_disabled_torch_function_impl",
    "_get_tracing_state", "_log_api_usage_once", "_nn",
]  # fmt: skip
