"""Integer arithmetic (PTX ISA, "Integer Arithmetic Instructions", "Extended-Precision Integer Arithmetic
Instructions"). NumPy's integers wrap, as PTX's do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .decode import Decoder, Modifiers, instruction, unknown
from .executor import Frame, Registers
from .syntax import Instruction
from .types import I64, KINDS, U32, U64, Array, Kind

Unary = Callable[[Array], Array]
Binary = Callable[[Array, Array], Array]
Ternary = Callable[[Array, Array, Array], Array]


def emit_unary(d: Decoder, item: Instruction, kind: Kind, compute: Unary, result: Kind | None = None) -> None:
    a = d.source(item.operands[1], kind)
    to, view = d.target(item.operands[0], result or kind), kind.view

    def step(r: Registers, f: Frame) -> None:
        r[to] = compute(r[a].view(view))

    d.emit(step)


def emit_binary(
    d: Decoder,
    item: Instruction,
    kind: Kind,
    compute: Binary,
    second: Kind | None = None,
    result: Kind | None = None,
) -> None:
    a = d.source(item.operands[1], kind)
    b = d.source(item.operands[2], second or kind)
    to, view, other = d.target(item.operands[0], result or kind), kind.view, (second or kind).view

    def step(r: Registers, f: Frame) -> None:
        r[to] = compute(r[a].view(view), r[b].view(other))

    d.emit(step)


def emit_ternary(
    d: Decoder, item: Instruction, kind: Kind, compute: Ternary, last: Kind | None = None
) -> None:
    a, b = d.source(item.operands[1], kind), d.source(item.operands[2], kind)
    c = d.source(item.operands[3], last or kind)
    to, view, other = d.target(item.operands[0], last or kind), kind.view, (last or kind).view

    def step(r: Registers, f: Frame) -> None:
        r[to] = compute(r[a].view(view), r[b].view(view), r[c].view(other))

    d.emit(step)


def saturating(compute: Callable[[Array, Array], Array]) -> Binary:
    """`.sat`, which is for s32 only."""

    def clamp(a: Array, b: Array) -> Array:
        exact = compute(a.astype(I64), b.astype(I64))
        return np.clip(exact, -(1 << 31), (1 << 31) - 1).astype(np.int32)

    return clamp


def add_sub(d: Decoder, item: Instruction, kind: Kind, words: Modifiers) -> None:
    compute = np.add if item.opcode[0] == "add" else np.subtract
    if words.flag("sat"):
        if kind.name != "s32":
            raise unknown(item)
        compute = saturating(compute)  # type: ignore[assignment]
    words.done()
    emit_binary(d, item, kind, compute)


def high_product(kind: Kind) -> Binary:
    """The upper half of a product."""
    if kind.bits < 64:
        wide = KINDS[f"{'s' if kind.is_signed else 'u'}{2 * kind.bits}"].view
        shift = wide.type(kind.bits)
        return lambda a, b: ((a.astype(wide) * b.astype(wide)) >> shift).astype(kind.view)
    return _high_signed if kind.is_signed else _high_unsigned


_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def _high_unsigned(a: Array, b: Array) -> Array:
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a1 * b0 + ((a0 * b0) >> _HALF)
    other = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _HALF) + (other >> _HALF)


def _high_signed(a: Array, b: Array) -> Array:
    x, y = a.view(U64), b.view(U64)
    high = _high_unsigned(x, y)
    high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(I64)


def mul(d: Decoder, item: Instruction, kind: Kind, words: Modifiers) -> None:
    mode = words.need("lo", "hi", "wide")
    words.done()
    if mode == "lo":
        emit_binary(d, item, kind, np.multiply)
    elif mode == "hi":
        emit_binary(d, item, kind, high_product(kind))
    else:
        wide = wider(kind, item)
        emit_binary(d, item, kind, lambda a, b: a.astype(wide.view) * b.astype(wide.view), result=wide)


def wider(kind: Kind, item: Instruction) -> Kind:
    if kind.bits > 32:
        raise unknown(item)
    return KINDS[f"{'s' if kind.is_signed else 'u'}{2 * kind.bits}"]


def mad(d: Decoder, item: Instruction, kind: Kind, words: Modifiers) -> None:
    mode = words.need("lo", "hi", "wide")
    words.done()
    if mode == "lo":
        emit_ternary(d, item, kind, lambda a, b, c: a * b + c)
    elif mode == "hi":
        high = high_product(kind)
        emit_ternary(d, item, kind, lambda a, b, c: high(a, b) + c)
    else:
        wide = wider(kind, item)
        emit_ternary(d, item, kind, lambda a, b, c: a.astype(wide.view) * b.astype(wide.view) + c, last=wide)


_CARRY = "carry flag"  # the register CC.CF


@instruction("add.cc", "addc", "sub.cc", "subc", "mad.lo.cc", "mad.hi.cc", "madc")
def carry_chain(d: Decoder, item: Instruction) -> None:
    """Extended-precision arithmetic (PTX ISA, "Extended-Precision Integer Arithmetic Instructions")."""
    words = Modifiers(item)
    kind = words.kind()
    unsigned = KINDS[f"u{kind.bits}"]
    name = item.opcode[0].rstrip("c") if item.opcode[0] in ("addc", "subc", "madc") else item.opcode[0]
    uses_carry = item.opcode[0].endswith("c")
    half = words.need("lo", "hi") if name == "mad" else ""
    sets_carry = words.flag("cc")
    words.done()
    flag = d.number(_CARRY)
    sources = [d.source(x, kind) for x in item.operands[1:]]
    if uses_carry:
        d.note_read(flag)
    if sets_carry:
        d.note_write(flag)
    to = d.target(item.operands[0], kind)
    view, high = unsigned.view, high_product(kind)

    def step(r: Registers, f: Frame) -> None:
        values = [r[x].view(view) for x in sources]
        if name == "mad":
            product = (
                values[0] * values[1]
                if half == "lo"
                else high(r[sources[0]].view(kind.view), r[sources[1]].view(kind.view)).view(view)
            )
            a, b = product, values[2]
        else:
            a, b = values
        carried = np.zeros(1, np.bool_) if not uses_carry or r[flag] is None else r[flag]
        if name == "sub":
            result = a - b - carried.astype(view)
            out = (a < b) | ((a == b) & carried)
        else:
            partial = a + b
            result = partial + carried.astype(view)
            out = (partial < a) | (result < partial)
        r[to] = result
        if sets_carry:
            r[flag] = out

    d.emit(step)


def divide(kind: Kind) -> Binary:
    """Truncating division. By zero: all ones, as the device gives (PTX leaves it open)."""

    def compute(a: Array, b: Array) -> Array:
        safe = np.where(b == 0, kind.view.type(1), b)
        if not kind.is_signed:
            return np.where(b == 0, np.iinfo(kind.view).max, a // safe)
        quotient = a // safe
        quotient = quotient + ((quotient * safe != a) & ((a < 0) != (safe < 0))).astype(kind.view)
        return np.where(b == 0, kind.view.type(-1), quotient)

    return compute


def remainder(kind: Kind) -> Binary:
    """The remainder of truncating division, of the dividend's sign; by zero: the dividend."""

    def compute(a: Array, b: Array) -> Array:
        safe = np.where(b == 0, kind.view.type(1), b)
        return np.where(b == 0, a, np.fmod(a, safe))

    return compute


@instruction("rem")
def rem(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    emit_binary(d, item, kind, remainder(kind))


@instruction("sad")
def sad(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    emit_ternary(d, item, kind, lambda a, b, c: c + np.where(a > b, a - b, b - a))


@instruction("mul24", "mad24")
def mul24(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    shift = 0 if words.need("lo", "hi") == "lo" else 16
    words.done()
    wide = I64 if kind.is_signed else U64

    def cut(a: Array) -> Array:
        if kind.is_signed:
            return (a.astype(wide) << 40) >> 40
        return a.astype(wide) & np.uint64(0xFFFFFF)

    def product(a: Array, b: Array) -> Array:
        return ((cut(a) * cut(b)) >> wide.type(shift)).astype(kind.view)

    if item.opcode[0] == "mul24":
        emit_binary(d, item, kind, product)
    else:
        emit_ternary(d, item, kind, lambda a, b, c: product(a, b) + c)


@instruction("dp4a", "dp2a")
def dot_product(d: Decoder, item: Instruction) -> None:
    """Four-way byte or two-way 16 by 8 bit dot product with 32-bit accumulate."""
    words = item.opcode[1:]
    low = 0
    if item.opcode[0] == "dp2a":
        low, words = (0 if words[0] == "lo" else 16), words[1:]
    if len(words) != 2:
        raise unknown(item)
    a_kind, b_kind = KINDS[words[0]], KINDS[words[1]]
    a, b = d.source(item.operands[1], a_kind), d.source(item.operands[2], b_kind)
    c, to = d.source(item.operands[3], KINDS["b32"]), d.target(item.operands[0], KINDS["b32"])
    bits = 8 if item.opcode[0] == "dp4a" else 16

    def part(x: Array, kind: Kind, at: int, width: int) -> Array:
        piece = (x.view(U32) >> np.uint32(at)).astype(U64) & np.uint64((1 << width) - 1)
        found = piece.astype(I64)
        return found - ((found >> (width - 1)) << width) if kind.is_signed else found

    def step(r: Registers, f: Frame) -> None:
        total = r[c].view(U32).astype(I64)
        for k in range(32 // bits):
            total = total + part(r[a], a_kind, k * bits, bits) * part(r[b], b_kind, low + k * 8, 8)
        r[to] = total.astype(U32)

    d.emit(step)
