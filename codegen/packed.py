"""Operations on several short numbers held in one 32-bit word: sums of products at up to four times the rate of floats.

    pack_bf16(a, b), pack_i8(a, b, c, d), pack_u8(a, b, c, d)   a word, the first number in the lowest bits
    pair_i8(a, b), pair_u8(a, b)   a word of two 16-bit integers, of the same values
    round_bf16(a, b)          a word of two float32, rounded to nearest; denormal ones are zeros
    dot_bf16(total, x, y)     total + x[1]*y[1] + x[0]*y[0], in float32, each sum rounded to nearest
    dot_u8i8(total, x, y)     total + the sum of x[i]*y[i], x without sign and y with; wraps as int32 does
    dot_i16(total, x, y)      the same of pairs of 16-bit integers with signs

These are scalar operations of the loop IR beside those of `scalar.py`, with a dtype for each operand. `dot_bf16` is
x86's vdpbf16ps: denormal numbers, operands as well as results, are zeros to it, and the product of the upper halves is
added first (Intel's manual, volume 2; the same on AMD, tried). `dot_u8i8` is vpdpbusd, `dot_i16` is vpmaddwd and an
addition, which every x86 processor has.

Tile registers multiply 16 rows of 16 words by 16 columns at a time (`MultiplyWords`: tdpbf16ps, tdpbusd). What they add
of bfloat16 numbers is added in another order: for each sum the words' first numbers and their second ones apart, from
zero, each product fused; then one of these to the other; then both to what was there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import dtypes
from ..ir.dtypes import DType
from .loops.nodes import Apply, Const, Expr

# name: the operands' dtypes, the result's.
PACKED: dict[str, tuple[tuple[DType, ...], DType]] = {
    "pack_bf16": ((dtypes.bf16,) * 2, dtypes.u32),
    "pack_i8": ((dtypes.i8,) * 4, dtypes.u32),
    "pack_u8": ((dtypes.u8,) * 4, dtypes.u32),
    "pair_i8": ((dtypes.i8,) * 2, dtypes.u32),
    "pair_u8": ((dtypes.u8,) * 2, dtypes.u32),
    "round_bf16": ((dtypes.f32,) * 2, dtypes.u32),
    "dot_bf16": ((dtypes.f32, dtypes.u32, dtypes.u32), dtypes.f32),
    "dot_u8i8": ((dtypes.i32, dtypes.u32, dtypes.u32), dtypes.i32),
    "dot_i16": ((dtypes.i32, dtypes.u32, dtypes.u32), dtypes.i32),
}

# What makes words of numbers, as they lie in memory and of more bits.
PACKINGS = tuple(name for name in PACKED if name.startswith("pack_"))
WIDENINGS = tuple(name for name in PACKED if name.startswith("pair_"))


def packing(op: str, dtype: DType) -> str:
    """What makes of numbers of a short dtype the words that a dot product takes."""
    return next(name for name in (WIDENINGS if op == "dot_i16" else PACKINGS) if PACKED[name][0][0] is dtype)


def pack(name: str, numbers: Sequence[Expr]) -> Expr:
    """Numbers as a word, by an operation that makes one; zeros where there are fewer than the word holds."""
    types, result = PACKED[name]
    missing = [Const(0, types[0])] * (len(types) - len(numbers))
    return Apply(name, (*numbers, *missing), result)


def rounded_pair(first: Expr, second: Expr) -> Expr:
    """Two float32 as a word of bfloat16 numbers, for a product to which denormal numbers are zeros."""
    return Apply("round_bf16", (first, second), dtypes.u32)


def per_word(name: str) -> int:
    """How many numbers a word holds that an operation makes."""
    return len(PACKED[name][0])


def dot(op: str, total: Expr, left: Expr, right: Expr) -> Expr:
    return Apply(op, (total, left, right), PACKED[op][1])
