"""PTX's fundamental types as NumPy's (PTX ISA, "Types": bits live in untyped registers, the instruction gives the
type)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Kind:
    """A type: `storage` is the dtype of a register that holds it, `view` how an instruction sees these bits."""

    name: str
    size: int  # bytes in memory
    storage: np.dtype[Any]
    view: np.dtype[Any]
    is_float: bool = False
    is_signed: bool = False

    @property
    def bits(self) -> int:
        return 8 * self.size


def _kinds() -> dict[str, Kind]:
    found = {}
    for size in (1, 2, 4, 8):
        storage = np.dtype(f"u{max(size, 2)}")
        for letter, code, signed in (("b", "u", False), ("u", "u", False), ("s", "i", True)):
            view = np.dtype(f"{code}{size}")
            found[f"{letter}{8 * size}"] = Kind(f"{letter}{8 * size}", size, storage, view, False, signed)
    u16, u32, u64 = (np.dtype(x) for x in ("u2", "u4", "u8"))
    found["f16"] = Kind("f16", 2, u16, np.dtype(np.float16), True, True)
    found["bf16"] = Kind("bf16", 2, u16, np.dtype(ml_dtypes.bfloat16), True, True)
    found["f32"] = Kind("f32", 4, u32, np.dtype(np.float32), True, True)
    found["tf32"] = Kind("tf32", 4, u32, np.dtype(np.float32), True, True)
    found["f64"] = Kind("f64", 8, u64, np.dtype(np.float64), True, True)
    found["f16x2"] = Kind("f16x2", 4, u32, np.dtype(np.float16), True, True)
    found["bf16x2"] = Kind("bf16x2", 4, u32, np.dtype(ml_dtypes.bfloat16), True, True)
    found["u16x2"] = Kind("u16x2", 4, u32, np.dtype(np.uint16))
    found["s16x2"] = Kind("s16x2", 4, u32, np.dtype(np.int16), False, True)
    found["pred"] = Kind("pred", 1, np.dtype(np.bool_), np.dtype(np.bool_))
    return found


KINDS = _kinds()
BOOL = KINDS["pred"]
U8, U16, U32, U64 = (np.dtype(f"u{n}") for n in (1, 2, 4, 8))
I32, I64 = np.dtype("i4"), np.dtype("i8")
F16, F32, F64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
BF16 = np.dtype(ml_dtypes.bfloat16)
