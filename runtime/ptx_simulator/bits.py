"""Logic, shifts and bit fields (PTX ISA, "Logic and Shift Instructions", "Integer Arithmetic Instructions")."""

from __future__ import annotations

import numpy as np

from .decode import Decoder, Modifiers, instruction, unknown
from .executor import Frame, Registers
from .integer import emit_binary, emit_ternary, emit_unary
from .syntax import Immediate, Instruction
from .types import BOOL, I64, KINDS, U32, U64, Array

_HALF = np.uint64(32)

_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@instruction("and", "or", "xor")
def logic(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    emit_binary(d, item, kind, _LOGIC[item.opcode[0]])


@instruction("not", "cnot")
def negation(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    if item.opcode[0] == "cnot":
        emit_unary(d, item, kind, lambda a: (a == 0).astype(kind.view))
    else:
        emit_unary(d, item, kind, np.logical_not if kind is BOOL else np.invert)


@instruction("shl", "shr")
def shift(d: Decoder, item: Instruction) -> None:
    """Shifts by 32 bits of count; more than the width shifts everything out."""
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    limit, view = np.uint32(kind.bits - 1), kind.view

    def left(a: Array, count: Array) -> Array:
        if count.size == 1:
            return a << view.type(count[0]) if count[0] <= limit else np.zeros_like(a)
        return np.where(count <= limit, a << np.minimum(count, limit).astype(view), view.type(0))

    def right(a: Array, count: Array) -> Array:
        if count.size == 1 and count[0] <= limit:
            return a >> view.type(count[0])
        moved = a >> np.minimum(count, limit).astype(view)
        return moved if kind.is_signed else np.where(count <= limit, moved, view.type(0))

    emit_binary(d, item, kind, left if item.opcode[0] == "shl" else right, KINDS["u32"])


@instruction("shf")
def funnel_shift(d: Decoder, item: Instruction) -> None:
    """`shf.l` keeps the upper, `shf.r` the lower 32 bits of {b, a} shifted."""
    words = Modifiers(item)
    kind = words.kind()
    is_left, wraps = words.need("l", "r") == "l", words.need("wrap", "clamp") == "wrap"
    words.done()

    def compute(a: Array, b: Array, count: Array) -> Array:
        count = (count & np.uint32(31) if wraps else np.minimum(count, np.uint32(32))).astype(U64)
        pair = (b.astype(U64) << _HALF) | a.astype(U64)
        return ((pair << count) >> _HALF if is_left else pair >> count).astype(U32)

    emit_ternary(d, item, kind, compute)


@instruction("lop3")
def lop3(d: Decoder, item: Instruction) -> None:
    """Any function of three bits: bit 4a + 2b + c of the table."""
    if item.opcode[1:] != ("b32",):
        raise unknown(item)
    kind = KINDS["b32"]
    a, b, c = (d.source(x, kind) for x in item.operands[1:4])
    last = item.operands[4]
    if not isinstance(last, Immediate):
        raise unknown(item, "the table must be a constant")
    table = int(last.value)
    to = d.target(item.operands[0], kind)

    def step(r: Registers, f: Frame) -> None:
        x, y, z = (r[n].view(U32) for n in (a, b, c))
        result = np.zeros(1, U32)
        for number in range(8):
            if table >> number & 1:
                result = result | (
                    (x if number & 4 else ~x) & (y if number & 2 else ~y) & (z if number & 1 else ~z)
                )
        r[to] = result

    d.emit(step)


_POPULATION = np.array([x.bit_count() for x in range(256)], U32)


def count_ones(a: Array) -> Array:
    """How many bits are set."""
    return _POPULATION[np.ascontiguousarray(a).view(np.uint8)].reshape(-1, a.itemsize).sum(1, dtype=U32)


def _leading_zeros(a: Array) -> Array:
    bits = 8 * a.itemsize
    for step in (1, 2, 4, 8, 16, 32)[: bits.bit_length() - 1]:
        a = a | (a >> a.dtype.type(step))
    return np.uint32(bits) - count_ones(a)


def reverse_bits(a: Array) -> Array:
    data = np.unpackbits(
        np.ascontiguousarray(a).view(np.uint8).reshape(-1, a.itemsize), axis=1, bitorder="little"
    )
    return np.packbits(data[:, ::-1], axis=1, bitorder="little").view(a.dtype)[:, 0]


@instruction("popc", "clz")
def count(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = KINDS[f"u{words.kind().bits}"]
    words.done()
    emit_unary(d, item, kind, count_ones if item.opcode[0] == "popc" else _leading_zeros, KINDS["u32"])


@instruction("brev")
def brev(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    emit_unary(d, item, kind, reverse_bits)


@instruction("bfind")
def bfind(d: Decoder, item: Instruction) -> None:
    """The place of the highest bit (for signed types: that differs from the sign); 0xffffffff if there is none."""
    words = Modifiers(item)
    kind = words.kind()
    as_shift = words.flag("shiftamt")
    words.done()

    def compute(a: Array) -> Array:
        plain = np.where(a < 0, ~a, a).view(f"u{kind.size}")
        zeros = _leading_zeros(plain)
        place = zeros if as_shift else np.uint32(kind.bits - 1) - zeros
        return np.where(plain == 0, np.uint32(0xFFFFFFFF), place)

    emit_unary(d, item, kind, compute, KINDS["u32"])


@instruction("bfe")
def bfe(d: Decoder, item: Instruction) -> None:
    """Extract a bit field: start and length are the low 8 bits of their operands."""
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    a, to = d.source(item.operands[1], kind), d.target(item.operands[0], kind)
    start, length = (d.source(x, KINDS["u32"]) for x in item.operands[2:4])
    unsigned, top = np.dtype(f"u{kind.size}"), kind.bits - 1

    def step(r: Registers, f: Frame) -> None:
        x = r[a].view(unsigned)
        at, count = (r[n].view(U32).astype(I64) & 255 for n in (start, length))
        last = np.minimum(at + count - 1, top)
        sign = (x >> np.clip(last, 0, top).astype(unsigned)) & unsigned.type(1)
        field = np.where(at > top, unsigned.type(0), x >> np.minimum(at, top).astype(unsigned))
        kept = np.clip(top + 1 - at, 0, count)
        mask = np.where(
            kept > top,
            ~unsigned.type(0),
            (unsigned.type(1) << np.minimum(kept, top).astype(unsigned)) - unsigned.type(1),
        )
        result = field & mask
        if kind.is_signed:
            result = np.where((sign == 1) & (count > 0), result | ~mask, result)
        r[to] = result

    d.emit(step)


@instruction("bfi")
def bfi(d: Decoder, item: Instruction) -> None:
    """Insert a's low bits into b."""
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    a, b = (d.source(x, kind) for x in item.operands[1:3])
    start, length = (d.source(x, KINDS["u32"]) for x in item.operands[3:5])
    to = d.target(item.operands[0], kind)
    view, top = np.dtype(f"u{kind.size}"), kind.bits - 1

    def step(r: Registers, f: Frame) -> None:
        x, y = r[a].view(view), r[b].view(view)
        at, count = (r[n].view(U32).astype(I64) & 255 for n in (start, length))
        ones = np.where(
            count > top, ~view.type(0), (view.type(1) << np.minimum(count, top).astype(view)) - view.type(1)
        )
        place = np.minimum(at, top).astype(view)
        mask = np.where(at > top, view.type(0), ones << place)
        r[to] = (y & ~mask) | ((x << place) & mask)

    d.emit(step)


@instruction("bmsk")
def bmsk(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    wraps = words.need("wrap", "clamp") == "wrap"
    words.done()

    def compute(a: Array, b: Array) -> Array:
        at, count = a.astype(U64), b.astype(U64)
        at, count = (
            (at & np.uint64(31), count & np.uint64(31))
            if wraps
            else (np.minimum(at, 32), np.minimum(count, 32))
        )
        at, count = at.astype(U64), count.astype(U64)
        return (((np.uint64(1) << count) - np.uint64(1)) << at).astype(U32)

    emit_binary(d, item, kind, compute)


@instruction("prmt")
def prmt(d: Decoder, item: Instruction) -> None:
    """Choose bytes of {b, a}: in the default mode four selectors of 4 bits, the top one repeats the byte's sign."""
    words = Modifiers(item)
    kind = words.kind()
    mode = words.choice("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
    words.done()
    orders = {
        "f4e": lambda s, i: s + i,
        "b4e": lambda s, i: (s - i) & 7,
        "rc8": lambda s, i: s,
        "ecl": lambda s, i: np.maximum(s, i),
        "ecr": lambda s, i: np.minimum(s, i),
        "rc16": lambda s, i: (s & 1) * 2 + (i & 1),
    }

    def compute(a: Array, b: Array, c: Array) -> Array:
        pair = (b.astype(U64) << _HALF) | a.astype(U64)
        result = np.zeros(1, U32)
        for i in range(4):
            if mode is None:
                select = (c >> np.uint32(4 * i)) & np.uint32(15)
                repeat = select >= 8
                select = select & np.uint32(7)
            else:
                select, repeat = orders[mode]((c & np.uint32(3)).astype(I64), i) & 7, None
            byte = (pair >> (select.astype(U64) * np.uint64(8))) & np.uint64(255)
            if repeat is not None:
                byte = np.where(repeat, np.where(byte >= 128, np.uint64(255), np.uint64(0)), byte)
            result = result | (byte.astype(U32) << np.uint32(8 * i))
        return result

    emit_ternary(d, item, kind, compute)
