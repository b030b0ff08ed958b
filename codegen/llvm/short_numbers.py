"""bfloat16 rounded and words of short numbers multiplied, by x86's instructions where the target has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...ir import dtypes
from ...ir.dtypes import DType
from ..target import GpuTarget, Target
from .text import Value, const, literal, splat

if TYPE_CHECKING:
    from .scalar_ops import ScalarOps


def _like(x: Value, value: int) -> Value:
    return const(value, x.dtype, x.lanes)


def pack(ops: ScalarOps, args: list[Value]) -> Value:
    """Short numbers as a word, the first one lowest."""
    bits = 32 // len(args)
    short = {8: dtypes.u8, 16: dtypes.u16}[bits]
    word: Value | None = None
    for place, x in enumerate(args):
        if literal(x) == 0:
            continue
        part = ops.convert(Value(x.text, short, x.lanes, x.level), dtypes.u32)
        if place:
            part = ops.instruction("shl", [part, _like(part, bits * place)], dtypes.u32)
        word = part if word is None else ops.instruction("or", [word, part], dtypes.u32)
    return const(0, dtypes.u32, args[0].lanes) if word is None else word


def pair(ops: ScalarOps, args: list[Value]) -> Value:
    """Two short integers as 16-bit ones in a word."""
    wide = [ops.convert(x, dtypes.i16) for x in args]
    return pack(ops, [Value(x.text, dtypes.u16, x.lanes, x.level) for x in wide])


def widened(ops: ScalarOps, x: Value, dtype: DType) -> Value:
    """Two 8-bit integers of a dtype in a word of 16 bits as 16-bit ones in a word."""
    lanes = x.lanes or 1
    extend = "sext" if dtype is dtypes.i8 else "zext"
    short, wide = f"<{2 * lanes} x i8>", f"<{2 * lanes} x i16>"
    bytes_ = ops.w.pure(f"bitcast {x} to {short}", x.level, dtypes.u8, 2 * lanes, cheap=True)
    spread = ops.w.pure(f"{extend} {short} {bytes_.text} to {wide}", x.level, dtypes.u16, 2 * lanes)
    word = f"<{lanes} x i32>" if x.lanes else "i32"
    return ops.w.pure(f"bitcast {wide} {spread.text} to {word}", x.level, dtypes.u32, x.lanes, cheap=True)


# What multiplies words, the numbers' type, and by the vectors' bits its name.
_INSTRUCTIONS = {
    "dot_bf16": ("bfloat", {bits: f"avx512bf16.dpbf16ps.{bits}" for bits in (128, 256, 512)}),
    "dot_u8i8": ("i8", {bits: f"avx512.vpdpbusd.{bits}" for bits in (128, 256, 512)}),
    "dot_i16": ("i16", {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"}),
}


def dot(ops: ScalarOps, op: str, total: Value, left: Value, right: Value) -> Value:
    """A dot product of `codegen/packed.py` as the instruction it is named after; pairs of 16-bit integers are added by
    another one."""
    if isinstance(ops.target, GpuTarget) or not ops.target.has_dot(op):
        raise NotImplementedError(f"{op} is no instruction of {ops.target.name}")
    short, names = _INSTRUCTIONS[op]
    lanes, level = total.lanes, max(total.level, left.level, right.level)
    if 32 * lanes > 8 * ops.target.vector_bytes:
        low, high = (
            [lanes_of(ops, x, start, lanes // 2) for x in (total, left, right)] for start in (0, lanes // 2)
        )
        return joined(ops, dot(ops, op, *low), dot(ops, op, *high))
    if 32 * lanes not in names:
        if lanes:
            raise NotImplementedError(f"{op} of {lanes} lanes: there are 4, 8 and 16")
        wide = [splat(ops.w, x, 4) for x in (total, left, right)]
        found = dot(ops, op, *wide)
        return ops.w.pure(f"extractelement {found}, i64 0", found.level, found.dtype)
    factor = f"<{lanes * (4 if short == 'i8' else 2)} x {short}>"
    words = [
        ops.w.pure(f"bitcast {x} to {factor}", x.level, dtypes.u32, lanes, cheap=True) for x in (left, right)
    ]
    factors = [f"{factor} {x.text}" for x in words]
    if op == "dot_i16":
        name = _declared(ops, names[32 * lanes], total.type, (factor, factor))
        added = ops.w.pure(f"call {total.type} {name}({', '.join(factors)})", level, total.dtype, lanes)
        return ops.apply("add", [total, added], total.dtype)
    name = _declared(ops, names[32 * lanes], total.type, (total.type, factor, factor))
    return ops.w.pure(f"call {total.type} {name}({total}, {', '.join(factors)})", level, total.dtype, lanes)


def rounded_pair(ops: ScalarOps, first: Value, second: Value) -> Value:
    """Two float32 as a word of bfloat16 numbers, by vcvtne2ps2bf16."""
    if isinstance(ops.target, GpuTarget) or not ops.target.has("avx512bf16"):
        raise NotImplementedError(f"round_bf16 is no instruction of {ops.target.name}")
    lanes = first.lanes
    if lanes not in (4, 8, 16):
        if lanes:
            raise NotImplementedError(f"round_bf16 of {lanes} lanes: there are 4, 8 and 16")
        found = rounded_pair(ops, splat(ops.w, first, 4), splat(ops.w, second, 4))
        return ops.w.pure(f"extractelement {found}, i64 0", found.level, found.dtype)
    short = f"<{2 * lanes} x bfloat>"
    name = _declared(ops, f"avx512bf16.cvtne2ps2bf16.{32 * lanes}", short, (first.type, first.type))
    level = max(first.level, second.level)
    halves = ops.w.pure(f"call {short} {name}({second}, {first})", level, dtypes.bf16, 2 * lanes)
    picks = ", ".join(f"i32 {i + half * lanes}" for i in range(lanes) for half in (0, 1))
    turned = ops.w.pure(
        f"shufflevector {short} {halves.text}, {short} poison, <{2 * lanes} x i32> <{picks}>",
        level,
        dtypes.bf16,
        2 * lanes,
    )
    return ops.w.pure(
        f"bitcast {short} {turned.text} to <{lanes} x i32>", level, dtypes.u32, lanes, cheap=True
    )


def round_to_bf16(ops: ScalarOps, x: Value) -> Value:
    """A float32 as the nearest bfloat16."""
    if isinstance(ops.target, GpuTarget) and ops.target.has_bf16:
        narrow = ops.w.pure(f"fptrunc {x} to bfloat", x.level, dtypes.bf16)
        return ops.w.pure(f"bitcast bfloat {narrow.text} to i16", x.level, dtypes.bf16)
    if isinstance(ops.target, Target) and ops.target.has("avx512bf16") and x.lanes in (8, 16, 32):
        return _round_by_instruction(ops, x)
    return _round_bits_to_bf16(ops, x)


def _round_by_instruction(ops: ScalarOps, x: Value) -> Value:
    """vcvtneps2bf16, to which denormal numbers are zeros: where there are some, the bits are rounded one by one."""
    halves = [x] if x.lanes < 32 else [lanes_of(ops, x, start, 16) for start in (0, 16)]
    lanes, level = halves[0].lanes, x.level
    test = _declared(
        ops, f"avx512.fpclass.ps.{32 * lanes}", f"<{lanes} x i1>", (halves[0].type, "i32 immarg")
    )
    some = _declared(ops, f"vector.reduce.or.v{lanes}i1", "i1", (f"<{lanes} x i1>",))
    denormal: Value | None = None
    for half in halves:
        inside = ops.w.pure(f"call <{lanes} x i1> {test}({half}, i32 32)", level, dtypes.bool_, lanes)
        denormal = inside if denormal is None else ops.instruction("or", [denormal, inside], dtypes.bool_)
    any_lane = ops.w.pure(f"call i1 {some}({denormal})", level, dtypes.bool_)
    instruction = "cvtneps2bf16" if len(halves) == 1 else "cvtne2ps2bf16"
    short = f"<{x.lanes} x bfloat>"
    name = _declared(ops, f"avx512bf16.{instruction}.{32 * lanes}", short, [half.type for half in halves])
    near = ops.w.pure(
        f"call {short} {name}({', '.join(map(str, reversed(halves)))})", level, dtypes.bf16, x.lanes
    )
    found = ops.w.pure(f"bitcast {short} {near.text} to <{x.lanes} x i16>", level, dtypes.bf16, x.lanes)
    slot = f"%{ops.w.fresh('near')}"
    ops.w.entry.append(f"{slot} = alloca {found.type}")
    ops.w.line(f"store {found}, ptr {slot}")
    with ops.w.branch_if(any_lane):
        ops.w.line(f"store {_round_bits_to_bf16(ops, x)}, ptr {slot}")
    return ops.w.effect(f"load {found.type}, ptr {slot}", dtypes.bf16, x.lanes)


def _declared(ops: ScalarOps, name: str, result: str, arguments: Sequence[str]) -> str:
    """An intrinsic's full name: of x86, unless it is one of vectors in general."""
    full = f"@llvm.{name}" if name.startswith("vector.") else f"@llvm.x86.{name}"
    return ops.w.declare(full, f"declare {result} {full}({', '.join(arguments)})")


def joined(ops: ScalarOps, a: Value, b: Value) -> Value:
    """The lanes of both, as one vector."""
    picks = ", ".join(f"i32 {i}" for i in range(2 * a.lanes))
    return ops.w.pure(
        f"shufflevector {a}, {b}, <{2 * a.lanes} x i32> <{picks}>",
        max(a.level, b.level),
        a.dtype,
        2 * a.lanes,
    )


def lanes_of(ops: ScalarOps, x: Value, start: int, count: int) -> Value:
    """So many lanes of x, as a vector."""
    picks = ", ".join(f"i32 {start + i}" for i in range(count))
    return ops.w.pure(
        f"shufflevector {x}, {x.type} poison, <{count} x i32> <{picks}>", x.level, x.dtype, count
    )


def widen_bf16(ops: ScalarOps, x: Value) -> Value:
    """A bfloat16 as float32: its bits moved up. Sixteen lanes by vpermw, one instruction where extending and shifting
    are three (exp of 16384 numbers in 0.92 of the time, their sum in 0.86)."""
    if isinstance(ops.target, Target) and ops.target.isa == "avx512" and x.lanes in (16, 32):
        spread = ", ".join(f"i32 {i}" if i < x.lanes else "i32 poison" for i in range(32))
        wide = ops.w.pure(
            f"shufflevector {x}, {x.type} poison, <32 x i32> <{spread}>", x.level, dtypes.u16, 32, cheap=True
        )
        found = [_moved_up(ops, wide, start) for start in range(0, x.lanes, 16)]
        return found[0] if len(found) == 1 else joined(ops, *found)
    bits = ops.convert(Value(x.text, dtypes.u16, x.lanes, x.level), dtypes.u32)
    shifted = ops.instruction("shl", [bits, _like(bits, 16)], dtypes.u32)
    return ops.apply("bitcast", [shifted], dtypes.f32)


def _moved_up(ops: ScalarOps, x: Value, start: int) -> Value:
    """Sixteen of 32 numbers as float32, from `start` on."""
    name = _declared(ops, "avx512.permvar.hi.512", "<32 x i16>", ("<32 x i16>",) * 2)
    picks = ", ".join(f"i16 {start + i // 2}" for i in range(32))
    moved = ops.w.pure(f"call <32 x i16> {name}({x}, <32 x i16> <{picks}>)", x.level, dtypes.u16, 32)
    upper = ", ".join(f"i1 {'true' if i % 2 else 'false'}" for i in range(32))
    found = ops.w.pure(
        f"select <32 x i1> <{upper}>, {moved}, {const(0, dtypes.u16, 32)}", x.level, dtypes.u16, 32
    )
    return ops.w.pure(f"bitcast {found} to <16 x float>", x.level, dtypes.f32, 16, cheap=True)


def upper_half(ops: ScalarOps, x: Value) -> Value:
    """A float32 that is a bfloat16 number, as one."""
    bits = ops.apply("bitcast", [x], dtypes.u32)
    high = ops.instruction("lshr", [bits, _like(bits, 16)], dtypes.u32)
    narrow = ops.convert(high, dtypes.u16)
    return Value(narrow.text, dtypes.bf16, x.lanes, narrow.level)


def _round_bits_to_bf16(ops: ScalarOps, x: Value) -> Value:
    bits = ops.apply("bitcast", [x], dtypes.u32)
    sixteen = _like(bits, 16)
    lowest = ops.instruction(
        "and", [ops.instruction("lshr", [bits, sixteen], dtypes.u32), _like(bits, 1)], dtypes.u32
    )
    bias = ops.instruction("add", [lowest, _like(bits, 0x7FFF)], dtypes.u32)
    rounded = ops.instruction("lshr", [ops.instruction("add", [bits, bias], dtypes.u32), sixteen], dtypes.u32)
    quiet = ops.instruction(
        "or", [ops.instruction("lshr", [bits, sixteen], dtypes.u32), _like(bits, 0x40)], dtypes.u32
    )
    nan = ops.w.pure(f"fcmp uno {x.type} {x.text}, {x.text}", x.level, dtypes.bool_, x.lanes)
    narrow = ops.convert(ops.select(nan, quiet, rounded), dtypes.u16)
    return Value(narrow.text, dtypes.bf16, x.lanes, narrow.level)
