"""Constants of PTX text as bits, and the sizes of types (PTX ISA, "Constants", "Types")."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .errors import PtxError
from .syntax import Immediate, Operand, Symbol

SIZES = {
    "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2,
    "b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4, "tf32": 4,
    "b64": 8, "u64": 8, "s64": 8, "f64": 8, "b128": 16, "pred": 1,
}  # fmt: skip


def initial_bytes(
    values: Sequence[Operand], item: int, kind: str, size: int, line: int
) -> tuple[bytes, tuple[tuple[int, Symbol], ...]]:
    data, pointers = bytearray(size), []
    if len(values) * item > size:
        raise PtxError(line, "more initial values than the variable has elements")
    for number, value in enumerate(values):
        at = number * item
        if isinstance(value, Symbol):
            pointers.append((at, value))
        elif isinstance(value, Immediate):
            data[at : at + item] = immediate_bits(value, kind, line).to_bytes(item, "little")
        else:
            raise PtxError(line, "an initial value must be a number or a variable")
    return bytes(data), tuple(pointers)


def immediate_bits(value: Immediate, kind: str, line: int) -> int:
    """The bits of a constant used as type `kind`: a literal `0f...` for f64 is the same number in f64, and the other
    way round (PTX ISA, "Constants")."""
    width = 8 * SIZES[kind]
    if kind in ("f32", "f64"):
        if value.width == width:
            return int(value.value)
        if value.width is not None:
            number = struct.unpack(
                "<f" if value.width == 32 else "<d", int(value.value).to_bytes(value.width // 8, "little")
            )[0]
        elif value.is_float:
            number = value.value
        else:
            raise PtxError(line, f"the integer {value.value} as .{kind}")
        return int.from_bytes(struct.pack("<f" if kind == "f32" else "<d", number), "little")
    if value.is_float:
        if width not in (32, 64):
            raise PtxError(line, f"a floating point constant as .{kind}")
        return int.from_bytes(struct.pack("<f" if width == 32 else "<d", value.value), "little")
    return int(value.value) & ((1 << width) - 1)
