"""Conversions between types (PTX ISA, "Data Movement and Conversion Instructions: cvt")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .decode import Decoder, Modifiers, instruction, unknown
from .executor import Frame, Registers
from .rounding import bf16_to_f32, canonical, f32_to_bf16, f64_to_bf16, flushed, to_f16, to_f32
from .syntax import Instruction
from .types import BF16, F16, F32, F64, I64, KINDS, U32, U64, Array, Kind

_TO_INTEGER: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}
_MODES = ("rn", "rz", "rm", "rp", "rna")
Convert = Callable[[Array], Array]


@instruction("cvt")
def cvt(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    source = words.kind()
    if not words.words or words.words[-1] not in KINDS:
        raise unknown(item)
    result = words.kind()
    ftz, sat, relu = words.flag("ftz"), words.flag("sat"), words.flag("relu")
    mode, integer_mode = words.choice(*_MODES), words.choice(*_TO_INTEGER)
    words.done()
    if result.name in ("f16x2", "bf16x2"):
        _packed(d, item, source, result, mode or "rn", relu)
        return
    if source.is_float and result.is_float:
        convert = float_to_float(source, result, mode, integer_mode, ftz, item)
    elif source.is_float:
        convert = float_to_integer(source, result, integer_mode, ftz, item)
    elif result.is_float:
        convert = integer_to_float(source, result, mode, item)
    else:
        convert = _integer_to_integer(source, result, sat)
    if result.is_float and (sat or relu):
        convert = _clamped(convert, sat)
    number, to = d.source(item.operands[1], source), d.target(item.operands[0], result)
    storage, view = source.storage, source.view
    narrow = storage.itemsize > view.itemsize

    def step(r: Registers, f: Frame) -> None:
        x = r[number].view(storage).astype(f"u{view.itemsize}") if narrow else r[number]
        r[to] = convert(x.view(view))

    d.emit(step)


def _clamped(inner: Convert, sat: bool) -> Convert:
    def compute(x: Array) -> Array:
        y = inner(x)
        one, zero = y.dtype.type(1), y.dtype.type(0)
        if sat:
            return np.where(y > zero, np.minimum(y, one), zero).astype(y.dtype)
        return np.where(y < zero, zero, y).astype(y.dtype)

    return compute


def _integer_to_integer(source: Kind, result: Kind, sat: bool) -> Convert:
    """Truncation, or extension by the source's sign; the value goes on in the register's width."""
    storage = np.dtype(f"{'i' if result.is_signed else 'u'}{result.storage.itemsize}")
    info = np.iinfo(result.view)

    def compute(x: Array) -> Array:
        if sat:
            low = max(int(info.min), int(np.iinfo(x.dtype).min))
            high = min(int(info.max), int(np.iinfo(x.dtype).max))
            x = np.clip(x, x.dtype.type(low), x.dtype.type(high))
        return x.astype(result.view).astype(storage)

    return compute


def float_to_integer(source: Kind, result: Kind, mode: str | None, ftz: bool, item: Instruction) -> Convert:
    """Rounded, then clamped to the result's range. NaN becomes 0, or for 64-bit results and f64 sources the pattern
    with only the top bit set ("Integer Notes" of cvt)."""
    if mode is None:
        raise unknown(item, "a conversion to an integer needs a rounding mode")
    round_ = _TO_INTEGER[mode]
    info = np.iinfo(result.view)
    low, high = int(info.min), int(info.max)
    nan = 1 << (result.bits - 1) if source.view == F64 or result.bits == 64 else 0
    unsigned = np.dtype(f"u{result.size}")
    storage = np.dtype(f"{'i' if result.is_signed else 'u'}{result.storage.itemsize}")

    def compute(x: Array) -> Array:
        if ftz and x.dtype == F32:
            x = flushed(x)
        y = round_(bf16_to_f32(x).astype(F64) if x.dtype == BF16 else x.astype(F64))
        # float(high) may be high + 1, which does not fit.
        inside = np.where((y > float(low)) & (y < float(high)), y, 0.0)
        if result.bits == 64 and not result.is_signed:
            value = inside.astype(U64)
        else:
            value = inside.astype(I64).astype(result.view)
        value = np.where(y >= float(high), result.view.type(high), value)
        value = np.where(y <= float(low), result.view.type(low), value)
        value = np.where(x != x, np.array(nan, unsigned).view(result.view), value)
        return value.astype(result.view).astype(storage)

    return compute


def integer_to_float(source: Kind, result: Kind, mode: str | None, item: Instruction) -> Convert:
    if mode is None:
        raise unknown(item, "a conversion from an integer to a float needs a rounding mode")
    if mode == "rn":
        if result.view in (F32, F64):
            return lambda x: x.astype(result.view)
        if source.bits < 64:
            if result.view == F16:
                return lambda x: x.astype(F64).astype(F16)
            return lambda x: f64_to_bf16(x.astype(F64))
        return lambda x: _narrow(_integer_to_odd(x), result, mode)
    if result.view == F64:
        raise unknown(item)
    return lambda x: _narrow(_integer_to_odd(x), result, mode)


def _integer_to_odd(x: Array) -> Array:
    """64-bit integers to float64, rounded to odd."""
    if x.itemsize < 8:
        return x.astype(F64)
    negative = x < 0
    size = np.where(negative, np.uint64(0) - x.view(U64), x.view(U64))
    sticky = (size & np.uint64(0x7FF)) != 0
    large = size >> np.uint64(53) != 0
    kept = np.where(
        large, (size & ~np.uint64(0x7FF)) | np.where(sticky, np.uint64(0x800), np.uint64(0)), size
    )
    value = kept.astype(F64)
    return np.where(negative, -value, value)


def _narrow(x: Array, result: Kind, mode: str) -> Array:
    """float64 that is exact or rounded to odd, to the result's type."""
    if result.view == F32:
        return to_f32(x, mode)
    if result.view == F16:
        return to_f16(x, mode)
    if mode == "rz":
        return f32_to_bf16(to_f32(x, "rz"), "rz")
    return f64_to_bf16(x)


def float_to_float(
    source: Kind, result: Kind, mode: str | None, integer_mode: str | None, ftz: bool, item: Instruction
) -> Convert:
    if integer_mode is not None:
        round_ = _TO_INTEGER[integer_mode]
        if source.view != result.view:
            raise unknown(item)
        if source.view == BF16:
            return lambda x: f32_to_bf16(round_(bf16_to_f32(x)))
        return lambda x: canonical(round_(flushed(x) if ftz and x.dtype == F32 else x))
    if result.name == "tf32":
        return lambda x: to_tf32(x, mode or "rna")
    if mode in ("rm", "rp") and result.view == BF16:
        raise unknown(item)

    def widened(x: Array) -> Array:
        return (bf16_to_f32(x) if x.dtype == BF16 else flushed(x) if ftz and x.dtype == F32 else x).astype(
            F64
        )

    def compute(x: Array) -> Array:
        if x.dtype == result.view:
            return flushed(x) if ftz and x.dtype == F32 else x
        if result.view == F64:
            return canonical(widened(x))
        found = canonical(_narrow(widened(x), result, mode or "rn"))
        return flushed(found) if ftz and result.view == F32 else found

    return compute


def to_tf32(x: Array, mode: str) -> Array:
    """float32 to 10 bits of mantissa: rna rounds ties away from zero, rn to even, rz truncates."""
    bits = x.view(U32)
    if mode == "rna":
        moved = bits + np.uint32(0x1000)
    elif mode == "rn":
        moved = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    else:
        moved = bits
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return canonical(np.where(special, bits, moved & np.uint32(0xFFFFE000)).view(F32))


def _packed(d: Decoder, item: Instruction, source: Kind, result: Kind, mode: str, relu: bool) -> None:
    """`cvt.rn.f16x2.f32 d, a, b`: a goes to the upper half."""
    if source.view != F32 or mode not in ("rn", "rz") or len(item.operands) != 3:
        raise unknown(item)
    piece = KINDS["f16" if result.name == "f16x2" else "bf16"]
    upper, lower = d.source(item.operands[1], source), d.source(item.operands[2], source)
    to = d.target(item.operands[0], result)

    def half(x: Array) -> Array:
        found = canonical(_narrow(x.view(F32).astype(F64), piece, mode))
        if relu:
            found = np.where(found < piece.view.type(0), piece.view.type(0), found).astype(piece.view)
        return found.view(np.uint16).astype(U32)

    def step(r: Registers, f: Frame) -> None:
        r[to] = (half(r[upper]) << np.uint32(16)) | half(r[lower])

    d.emit(step)
