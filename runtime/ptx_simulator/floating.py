"""Floating point arithmetic (PTX ISA, "Floating Point Instructions", "Half Precision Floating Point Instructions").

f32 and f64 are NumPy's own where that rounds once; fma and directed rounding go through `rounding`. f16 and bf16 sums,
differences and products are rounded by way of f32, whose 24 bits are enough for that to be one rounding (2p + 2).
The `.approx` instructions are computed in float64 and rounded: that is inside of their documented error bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import integer
from .decode import Decoder, Modifiers, instruction, unknown
from .executor import Frame, Registers
from .rounding import (
    bf16_to_f32,
    canonical,
    f32_to_bf16,
    f64_to_bf16,
    flushed,
    fma32,
    fma64,
    fma_to_odd,
    sum_to_odd,
    to_f16,
    to_f32,
)
from .syntax import Instruction
from .types import BF16, F16, F32, F64, Array, Kind

Compute = Callable[..., Array]
_MODES = ("rn", "rz", "rm", "rp")


def emit_float(
    d: Decoder, item: Instruction, kind: Kind, compute: Compute, *, ftz: bool = False, sat: bool = False
) -> None:
    """A step that computes with all operands behind the first, all of one type; two at a time for f16x2 and bf16x2."""
    sources = [d.source(x, kind) for x in item.operands[1:]]
    to, view = d.target(item.operands[0], kind), kind.view
    packed = kind.size > view.itemsize

    def finish(x: Array) -> Array:
        if ftz and view == F32:
            x = flushed(x)
        if sat:
            x = np.where(x > 0, np.minimum(x, view.type(1)), view.type(0))
        return canonical(x)

    def step(r: Registers, f: Frame) -> None:
        values = [r[n].view(view) for n in sources]
        if packed:
            pairs = [x.reshape(-1, 2) for x in values]
            size = max(len(x) for x in pairs)
            result = finish(compute(*(np.broadcast_to(x, (size, 2)).reshape(-1) for x in pairs)))
            r[to] = result.view(np.uint32)
            return
        if ftz and view == F32:
            values = [flushed(x) for x in values]
        r[to] = finish(compute(*values))

    def plain_two(r: Registers, f: Frame) -> None:
        result = compute(r[first].view(view), r[second].view(view))
        if (result != result).any():
            result = canonical(result)
        r[to] = result

    if not packed and not ftz and not sat and len(sources) == 2:
        first, second = sources
        d.emit(plain_two)
    else:
        d.emit(step)


def _sum(kind: Kind, mode: str, item: Instruction) -> Compute:
    if mode == "rn":
        return _via_f32(np.add) if kind.view == BF16 else np.add
    if kind.view != F32:
        raise unknown(item)
    return lambda a, b: _sum_sign(to_f32(sum_to_odd(a.astype(F64), b.astype(F64)), mode), a, b, mode)


def _sum_sign(result: Array, a: Array, b: Array, mode: str) -> Array:
    """x - x is -0 when rounding down."""
    if mode != "rm":
        return result
    return np.where(
        (result == 0) & (a == -b) & ((a != 0) | (np.signbit(a) != np.signbit(b))), np.float32(-0.0), result
    )


def _via_f32(compute: Callable[[Array, Array], Array]) -> Compute:
    return lambda a, b: f32_to_bf16(np.asarray(compute(bf16_to_f32(a), bf16_to_f32(b))))


@instruction("add", "sub", "mul")
def arithmetic(d: Decoder, item: Instruction) -> None:
    name = item.opcode[0]
    words = Modifiers(item)
    kind = words.kind()
    if not kind.is_float:
        if kind.size > kind.view.itemsize:  # add.u16x2
            _packed_integers(d, item, kind, words)
        elif name == "mul":
            integer.mul(d, item, kind, words)
        else:
            integer.add_sub(d, item, kind, words)
        return
    mode = words.choice(*_MODES) or "rn"
    ftz, sat = words.flag("ftz"), words.flag("sat")
    words.done()
    if name == "mul":
        compute = _product(kind, mode, item)
    else:
        plus = _sum(kind, mode, item)
        compute = plus if name == "add" else (np.subtract if plus is np.add else lambda a, b: plus(a, -b))
    emit_float(d, item, kind, compute, ftz=ftz, sat=sat)


def _packed_integers(d: Decoder, item: Instruction, kind: Kind, words: Modifiers) -> None:
    words.done()
    if item.opcode[0] != "add":
        raise unknown(item)
    a, b = d.source(item.operands[1], kind), d.source(item.operands[2], kind)
    to = d.target(item.operands[0], kind)

    def step(r: Registers, f: Frame) -> None:
        total = r[a].view(np.uint16).reshape(-1, 2) + r[b].view(np.uint16).reshape(-1, 2)
        r[to] = total.reshape(-1).view(np.uint32)

    d.emit(step)


def _product(kind: Kind, mode: str, item: Instruction) -> Compute:
    if mode == "rn":
        return _via_f32(np.multiply) if kind.view == BF16 else np.multiply
    if kind.view != F32:
        raise unknown(item)
    return lambda a, b: to_f32(a.astype(F64) * b.astype(F64), mode)


def fused(view: np.dtype[Any], mode: str = "rn") -> Compute:
    """a * b + c with one rounding, for arrays of the dtype."""
    if view == F32:
        return fma32 if mode == "rn" else lambda a, b, c: to_f32(fma_to_odd(a, b, c), mode)
    if view == F64:
        return fma64
    if view == F16:
        return lambda a, b, c: to_f16(fma_to_odd(a, b, c))
    return lambda a, b, c: f64_to_bf16(fma_to_odd(bf16_to_f32(a), bf16_to_f32(b), bf16_to_f32(c)))


@instruction("fma", "mad")
def fma(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    if not kind.is_float:
        integer.mad(d, item, kind, words)
        return
    mode = words.need(*_MODES)
    ftz, sat, relu = words.flag("ftz"), words.flag("sat"), words.flag("relu")
    words.done()
    if mode != "rn" and kind.view != F32:
        raise unknown(item)
    compute = fused(kind.view, mode)
    if relu:
        inner = compute
        compute = lambda a, b, c: _relu(inner(a, b, c))
    emit_float(d, item, kind, compute, ftz=ftz, sat=sat)


def _relu(x: Array) -> Array:
    """Negative results become 0, NaN stays."""
    return np.where(x < 0, x.dtype.type(0), x)


@instruction("div")
def div(d: Decoder, item: Instruction) -> None:
    """Of floats `rn` is exact; `full` (2 ulp) and `approx` (2 ulp inside their range) are computed as exactly."""
    words = Modifiers(item)
    kind = words.kind()
    if not kind.is_float:
        words.done()
        integer.emit_binary(d, item, kind, integer.divide(kind))
        return
    words.need("rn", "full", "approx")
    ftz = words.flag("ftz")
    words.done()
    emit_float(d, item, kind, np.divide, ftz=ftz)


@instruction("abs", "neg")
def sign(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    ftz = words.flag("ftz")
    words.done()
    negative = item.opcode[0] == "neg"
    if not kind.is_float:
        view = kind.view
        integer.emit_unary(d, item, kind, np.negative if negative else lambda a: np.abs(a).astype(view))
        return
    # Bits, so that a NaN stays as it is.
    mask = {2: 0x8000, 4: 0x80000000, 8: 1 << 63}[kind.view.itemsize]
    mask = mask | mask << 16 if kind.size > kind.view.itemsize else mask
    bits = kind.storage.type(mask)
    source, to = d.source(item.operands[1], kind), d.target(item.operands[0], kind)
    storage = kind.storage

    def step(r: Registers, f: Frame) -> None:
        x = r[source].view(storage)
        if ftz and kind.view == F32:
            x = flushed(x.view(F32)).view(storage)
        r[to] = x ^ bits if negative else x & ~bits

    d.emit(step)


@instruction("min", "max")
def extreme(d: Decoder, item: Instruction) -> None:
    """-0 is less than +0. Without `.NaN` the operand that is a number wins."""
    words = Modifiers(item)
    kind = words.kind()
    is_max = item.opcode[0] == "max"
    if not kind.is_float:
        relu = words.flag("relu")
        words.done()
        if relu:
            raise unknown(item)
        integer.emit_binary(d, item, kind, np.maximum if is_max else np.minimum)
        return
    ftz, propagates, xorsign = words.flag("ftz"), words.flag("NaN"), words.flag("xorsign")
    if xorsign:
        raise unknown(item)
    words.done()
    emit_float(d, item, kind, lambda *x: _extremes(x, is_max, propagates), ftz=ftz)


def _extremes(values: tuple[Array, ...], is_max: bool, propagates: bool) -> Array:
    result = values[0]
    for value in values[1:]:
        result = extreme_of(result, value, is_max, propagates)
    return result


def extreme_of(a: Array, b: Array, is_max: bool, propagates: bool = False) -> Array:
    """The larger or smaller of two numbers; -0 < +0."""
    if propagates:
        result = (np.maximum if is_max else np.minimum)(a, b)
    else:
        result = (np.fmax if is_max else np.fmin)(a, b)
    ties = a == b
    if ties.any():  # zeros, or the same number
        bits = np.dtype(f"u{a.itemsize}")
        x, y = a.view(bits), b.view(bits)
        result = np.where(ties, ((x & y) if is_max else (x | y)).view(a.dtype), result)
    return result


def _double(compute: Callable[[Array], Array]) -> Compute:
    """A function of one number in float64, rounded to the operand's type."""

    def of(x: Array) -> Array:
        if x.dtype == F64:
            return compute(x)
        if x.dtype == BF16:
            return f64_to_bf16(compute(bf16_to_f32(x).astype(F64)))
        return compute(x.astype(F64)).astype(x.dtype)

    return of


# Error bounds from the PTX ISA, for f32: rcp 1 ulp, sqrt and rsqrt 2^-22.9 relative, sin and cos 2^-20.5 absolute in
# [-pi, pi], lg2 2^-22 absolute or relative, ex2 2^-22 relative, tanh 2^-11 relative.
_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "rcp": np.reciprocal,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sin": np.sin,
    "cos": np.cos,
    "lg2": np.log2,
    "ex2": np.exp2,
    "tanh": np.tanh,
}


@instruction(*_FUNCTIONS)
def function(d: Decoder, item: Instruction) -> None:
    name = item.opcode[0]
    words = Modifiers(item)
    kind = words.kind()
    if not kind.is_float:
        raise unknown(item)
    words.need(*(("rn", "approx") if name in ("rcp", "sqrt") else ("approx",)))
    ftz = words.flag("ftz")
    words.done()
    # Rounded once: 1/x and square roots have float64 results too long to be halfway between two float32 numbers.
    exact = {"rcp": np.reciprocal, "sqrt": np.sqrt} if kind.view in (F32, F64) else {}
    emit_float(d, item, kind, exact.get(name) or _double(_FUNCTIONS[name]), ftz=ftz)


@instruction("copysign")
def copysign(d: Decoder, item: Instruction) -> None:
    """The first operand's sign on the second's magnitude."""
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    bits = kind.storage
    mask = bits.type(1 << (kind.bits - 1))
    a, b = (d.source(x, kind) for x in item.operands[1:3])
    to = d.target(item.operands[0], kind)

    def step(r: Registers, f: Frame) -> None:
        r[to] = (r[a].view(bits) & mask) | (r[b].view(bits) & ~mask)

    d.emit(step)
