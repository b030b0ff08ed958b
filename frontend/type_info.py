"""torch.finfo and torch.iinfo: the limits of a dtype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .ir.dtypes import DType, NameOnly, from_numpy
from .promotion import get_default_dtype


class finfo:
    """The limits of a floating-point dtype, of the default one if none is given; of a complex one those of its parts."""

    bits: int
    eps: float
    max: float
    min: float
    tiny: float
    smallest_normal: float
    resolution: float
    dtype: str

    def __init__(self, type: DType | None = None):
        found = get_default_dtype() if type is None else type
        if not isinstance(found, DType):
            raise TypeError(f"finfo(): argument 'type' (position 1) must be torch.dtype, not {_name(type)}")
        if found.is_complex:
            parts = found.limits if isinstance(found, NameOnly) else np.zeros(0, found.numpy).real.dtype
            found = from_numpy(parts)
        if found.kind != "float":
            raise TypeError(
                "torch.finfo() requires a floating point input type. Use torch.iinfo to handle 'torch.finfo'"
            )
        info = ml_dtypes.finfo(found.limits if isinstance(found, NameOnly) else found.numpy)
        self.bits = int(info.bits)
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        digits = {8: 0, 16: 3 if found.name == "f16" else 2, 32: 6, 64: 15}[self.bits]
        self.resolution = float(10.0**-digits)
        self.dtype = found.torch_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash((finfo, self.dtype))

    def __repr__(self) -> str:
        numbers = {
            n: f"{getattr(self, n):g}" for n in ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        }
        return f"finfo({', '.join(f'{n}={v}' for n, v in numbers.items())}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: str

    def __init__(self, type: DType):
        if not isinstance(type, DType):
            raise TypeError(f"iinfo(): argument 'type' (position 1) must be torch.dtype, not {_name(type)}")
        if type.kind == "bool":
            raise TypeError("torch.bool is not supported by torch.iinfo")
        if not type.is_integral:
            raise TypeError(
                "torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.iinfo'"
            )
        info = np.iinfo(type.numpy)
        self.bits, self.min, self.max, self.dtype = (
            int(info.bits),
            int(info.min),
            int(info.max),
            type.torch_name,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash((iinfo, self.dtype))

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


def _name(value: Any) -> str:
    return type(value).__name__


# The names of `torch` that are defined here.
__all__ = ["finfo", "iinfo"]
