"""Element types, and how two of them combine.

One object serves both languages: the IR prints its short name (`f32`), the front end its PyTorch name
(`torch.float32`). Promotion follows PyTorch's table
(https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import ml_dtypes
import numpy as np

Kind = Literal["bool", "uint", "int", "float", "complex"]
_KIND_ORDER: tuple[Kind, ...] = ("bool", "uint", "int", "float", "complex")

_SCALAR_TYPES = {
    "bool": "Bool",
    "uint8": "Byte",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "int8": "Char",
    "int16": "Short",
    "int32": "Int",
    "int64": "Long",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "float32": "Float",
    "float64": "Double",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}


class DType:
    """An element type. Compared by identity: there is one object per type. No dataclass, which programs take for a
    container of theirs."""

    name: str
    torch_name: str
    kind: Kind
    numpy: np.dtype[Any]

    def __init__(self, name: str, torch_name: str, kind: Kind, numpy: np.dtype[Any]):
        self.name, self.torch_name, self.kind, self.numpy = name, torch_name, kind, numpy

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @property
    def scalar_type(self) -> str:
        """The name in PyTorch's messages: `Float`, `Long`."""
        return _SCALAR_TYPES[self.torch_name]

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "float"

    @property
    def is_complex(self) -> bool:
        return self.kind == "complex"

    @property
    def is_signed(self) -> bool:
        return self.kind in ("int", "float", "complex")

    @property
    def is_integral(self) -> bool:
        """True for signed and unsigned integers, not for bool."""
        return self.kind in ("int", "uint")

    def to_real(self) -> DType:
        """The dtype of a complex dtype's parts; of another dtype itself."""
        return {"c64": f32, "c128": f64}.get(self.name, self)

    def to_complex(self) -> DType:
        """The complex dtype whose parts are of this dtype (complex64 for narrower floats); of a complex one itself."""
        if self.kind == "complex":
            return self
        if self.kind != "float" or self is f16:
            raise TypeError(f"{self!r} has no complex dtype")
        return c128 if self is f64 else c64

    def __repr__(self) -> str:
        return f"torch.{self.torch_name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype_named, (self.name,)


class NameOnly(DType):
    """A type that programs ask for by name, and for its limits: there are no tensors of it."""

    def __init__(self, name: str, kind: Kind = "float"):
        self.name = self.torch_name = name
        self.kind = kind

    @property
    def limits(self) -> np.dtype[Any]:
        """The NumPy type that knows them."""
        if self.kind == "complex":  # of its parts
            return f16.numpy
        return np.dtype(getattr(ml_dtypes, self.name))

    @property
    def itemsize(self) -> int:
        return self.limits.itemsize * (2 if self.kind == "complex" else 1)

    @property
    def numpy(self) -> np.dtype[Any]:  # type: ignore[override]
        raise TypeError(f"{self!r}: vitrify has the name of this dtype and its limits, but no tensors of it")

    def __reduce__(self) -> tuple[Any, ...]:
        return _name_only, (self.name,)


def _name_only(name: str) -> NameOnly:
    return next(d for d in NAMES_ONLY if d.name == name)


bool_ = DType("bool", "bool", "bool", np.dtype(np.bool_))
u8 = DType("u8", "uint8", "uint", np.dtype(np.uint8))
u16 = DType("u16", "uint16", "uint", np.dtype(np.uint16))
u32 = DType("u32", "uint32", "uint", np.dtype(np.uint32))
u64 = DType("u64", "uint64", "uint", np.dtype(np.uint64))
i8 = DType("i8", "int8", "int", np.dtype(np.int8))
i16 = DType("i16", "int16", "int", np.dtype(np.int16))
i32 = DType("i32", "int32", "int", np.dtype(np.int32))
i64 = DType("i64", "int64", "int", np.dtype(np.int64))
f16 = DType("f16", "float16", "float", np.dtype(np.float16))
bf16 = DType("bf16", "bfloat16", "float", np.dtype(ml_dtypes.bfloat16))
f32 = DType("f32", "float32", "float", np.dtype(np.float32))
f64 = DType("f64", "float64", "float", np.dtype(np.float64))
c64 = DType("c64", "complex64", "complex", np.dtype(np.complex64))
c128 = DType("c128", "complex128", "complex", np.dtype(np.complex128))

ALL: tuple[DType, ...] = (bool_, u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64, c64, c128)
NAMES_ONLY = (
    *map(NameOnly, ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")),
    NameOnly("complex32", "complex"),
)
_BY_NAME = {d.name: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}


def dtype_named(name: str) -> DType:
    """The type with the IR name `name`; KeyError's message lists the names there are."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise KeyError(f"unknown dtype {name!r}; there are {', '.join(_BY_NAME)}") from None


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The type of a NumPy array's elements; TypeError if there is none (strings, objects, dates)."""
    found = _BY_NUMPY.get(dtype)
    if found is None:
        found = _BY_NUMPY.get(np.dtype(dtype).newbyteorder("="))
    if found is None:
        supported = ", ".join(d.torch_name for d in ALL)
        raise TypeError(
            f"can't convert np.ndarray of type {dtype}. The only supported types are: {supported}."
        )
    return found


@cache
def promote(type1: DType, type2: DType) -> DType:
    """The smallest type that holds both, as `torch.promote_types` defines it; RuntimeError where it
    refuses."""
    if type1 is type2:
        return type1
    low, high = sorted((type1, type2), key=lambda d: (_KIND_ORDER.index(d.kind), d.itemsize))
    if low in (u16, u32, u64) or high in (u16, u32, u64):
        if high.kind != "float":
            raise RuntimeError(
                "Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
                f"{type1.scalar_type} and {type2.scalar_type}"
            )
        return high
    if high.kind == "complex":
        return c128 if low is f64 else high
    if high.kind == "float":
        # bfloat16 and float16 hold different values; their join is float32.
        return f32 if {low, high} == {f16, bf16} else high
    if high is i8 and low is u8:
        return i16
    return high
