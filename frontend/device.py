"""`torch.device`. Eager tensors live on the CPU; other device types parse, and are refused where memory is
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        """Inside the block tensors are made on this device, which must be the CPU."""
        require_cpu(self)
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with this as the device of its tensors: it must be the CPU."""
        require_cpu(self)
        return function


CPU = device("cpu")


def require_cpu(where: Any) -> None:
    """Refuse any device but the CPU, as a PyTorch build without that backend does."""
    if where is None or where is CPU:
        return
    wanted = where if isinstance(where, device) else device(where)
    if wanted.type == "cuda":
        raise AssertionError("Torch not compiled with CUDA enabled")
    if wanted.type != "cpu":
        raise RuntimeError(f"no {wanted.type} device: eager tensors live on the CPU")
