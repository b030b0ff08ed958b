"""`torch.device`. Tensors live on the CPU or on a CUDA device; other device types parse, and are refused where memory is
asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .runtime.gpu import arrays
from .runtime.gpu.errors import CudaError
from .runtime.gpu.meta import META
from .state import local

_TYPES = (
    "cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, vulkan, mps, meta, hpu, "
    "mtia, privateuseone"
)
_KNOWN = frozenset(_TYPES.split(", "))


class device:
    """A device type and an optional index: `device("cpu")`, `device("cuda", 0)`, `device("cuda:0")`."""

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __init__(self, type: str | int | device, index: int | None = None):
        text: str
        if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
            raise TypeError(
                f"device(): argument 'index' (position 2) must be int, not {index.__class__.__name__}"
            )
        if isinstance(type, device):
            text = type.type
            index = type.index
        elif isinstance(type, int):
            text = "cuda"
            index = type
        elif isinstance(type, str):
            text = type
        else:
            raise TypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        kind, colon, number = text.partition(":")
        if kind not in _KNOWN:
            raise RuntimeError(f"Expected one of {_TYPES} device type at start of device string: {kind}")
        if colon:
            if index is not None:
                raise RuntimeError(
                    f"type (string) must not include an index because index was passed explicitly: {text}"
                )
            if not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{text}'")
            index = int(number)
        object.__setattr__(self, "type", kind)
        object.__setattr__(self, "index", index)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"attribute '{name}' of 'torch.device' objects is not writable")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> Any:
        return device, (self.type, self.index)

    def __enter__(self) -> device:
        """Inside the block tensors are made on this device."""
        _entered().append(local.device)
        local.device = default_from(self)
        return self

    def __exit__(self, *_: Any) -> None:
        local.device = _entered().pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with this as the device of its tensors."""
        default_from(self)

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return inside


def _entered() -> list[Any]:
    """The default devices of this thread's open blocks."""
    found: list[Any] = local.__dict__.setdefault("entered_devices", [])
    return found


def default_from(where: device) -> Any:
    """What `local.device` is where tensors are made on that device."""
    if where.type == "meta":
        return META
    if where.type != "cuda" or not arrays.gpu_count():
        require_cpu(where)
        return None
    return checked_gpu(current_index() if where.index is None else where.index)


def checked_gpu(index: int) -> arrays.Gpu:
    """The GPU of that number; CudaError if there is none."""
    if not 0 <= index < arrays.gpu_count():
        raise invalid_ordinal()
    return arrays.gpu(index)


def invalid_ordinal() -> CudaError:
    return CudaError(101, "choosing a device")


def current_index() -> int:
    """The CUDA device of this thread."""
    return int(local.__dict__.get("cuda_index", 0))


CPU = device("cpu")


def require_cpu(where: Any) -> None:
    """Refuse any device but the CPU, for what is done there only; CUDA as a PyTorch without it does."""
    if where is None or where is CPU:
        return
    wanted = where if isinstance(where, device) else device(where)
    if wanted.type == "cuda":
        if arrays.gpu_count():
            raise RuntimeError(f"this is done on the CPU only, and cannot be asked for on {wanted}")
        raise AssertionError("Torch not compiled with CUDA enabled")
    if wanted.type != "cpu":
        raise RuntimeError(f"no {wanted.type} device: eager tensors live on the CPU or a CUDA device")
