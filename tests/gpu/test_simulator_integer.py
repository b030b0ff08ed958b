"""Integer instructions of the PTX simulator against Python's integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ptx_texts import integers, over, same

COUNT = 700


def signed(x: int, bits: int) -> int:
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def quotient(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def clamp(x: int, low: int, high: int) -> int:
    return max(low, min(high, x))


TWO: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, n: a + b,
    "sub": lambda a, b, n: a - b,
    "mul.lo": lambda a, b, n: a * b,
    "mul.hi": lambda a, b, n: a * b >> n,
    "min": lambda a, b, n: min(a, b),
    "max": lambda a, b, n: max(a, b),
}


def expect(compute: Callable[..., int], dtype: str, *inputs: np.ndarray) -> np.ndarray:
    bits = 8 * np.dtype(dtype).itemsize
    values = [compute(*(int(v) for v in row)) & ((1 << bits) - 1) for row in zip(*inputs, strict=True)]
    return np.array(values, f"u{bits // 8}").view(dtype)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_arithmetic(name: str, kind: str) -> None:
    bits = int(kind[1:])
    dtype = f"{'i' if kind[0] == 's' else 'u'}{bits // 8}"
    a, b = integers(dtype, COUNT, 1), integers(dtype, COUNT, 2)
    found = over(f"{name}.{kind} {{to}}, {{0}}, {{1}};", [a, b], dtype)
    same(found, expect(lambda x, y: TWO[name](x, y, bits), dtype, a, b))


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_division_and_remainder(kind: str) -> None:
    bits = int(kind[1:])
    dtype = f"{'i' if kind[0] == 's' else 'u'}{bits // 8}"
    a, b = integers(dtype, COUNT, 3), integers(dtype, COUNT, 4)
    b[b == 0] = 3
    same(over(f"div.{kind} {{to}}, {{0}}, {{1}};", [a, b], dtype), expect(quotient, dtype, a, b))
    same(
        over(f"rem.{kind} {{to}}, {{0}}, {{1}};", [a, b], dtype),
        expect(lambda x, y: x - y * quotient(x, y), dtype, a, b),
    )


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32"])
def test_wide_products(kind: str) -> None:
    size = int(kind[1:]) // 8
    dtype, wide = f"{'i' if kind[0] == 's' else 'u'}{size}", f"{'i' if kind[0] == 's' else 'u'}{2 * size}"
    a, b, c = integers(dtype, COUNT, 5), integers(dtype, COUNT, 6), integers(wide, COUNT, 7)
    same(over(f"mul.wide.{kind} {{to}}, {{0}}, {{1}};", [a, b], wide), expect(lambda x, y: x * y, wide, a, b))
    same(
        over(f"mad.wide.{kind} {{to}}, {{0}}, {{1}}, {{2}};", [a, b, c], wide),
        expect(lambda x, y, z: x * y + z, wide, a, b, c),
    )
    d = integers(dtype, COUNT, 8)
    for half, shift in (("lo", 0), ("hi", 8 * size)):
        same(
            over(f"mad.{half}.{kind} {{to}}, {{0}}, {{1}}, {{2}};", [a, b, d], dtype),
            expect(lambda x, y, z, shift=shift: (x * y >> shift) + z, dtype, a, b, d),
        )


def test_saturated_sums() -> None:
    a, b = integers("i4", COUNT, 9), integers("i4", COUNT, 10)
    low, high = -(1 << 31), (1 << 31) - 1
    same(
        over("add.sat.s32 {to}, {0}, {1};", [a, b], "i4"),
        expect(lambda x, y: clamp(x + y, low, high), "i4", a, b),
    )
    same(
        over("sub.sat.s32 {to}, {0}, {1};", [a, b], "i4"),
        expect(lambda x, y: clamp(x - y, low, high), "i4", a, b),
    )


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_logic_and_shifts(bits: int) -> None:
    u, i = f"u{bits // 8}", f"i{bits // 8}"
    a, b = integers(u, COUNT, 11), integers(u, COUNT, 12)
    n = np.random.default_rng(0).integers(0, bits + 9, COUNT).astype(np.uint32)
    ones = (1 << bits) - 1
    for name, compute in (("and", int.__and__), ("or", int.__or__), ("xor", int.__xor__)):
        same(over(f"{name}.b{bits} {{to}}, {{0}}, {{1}};", [a, b], u), expect(compute, u, a, b))
    same(over(f"not.b{bits} {{to}}, {{0}};", [a], u), expect(lambda x: ~x, u, a))
    same(over(f"cnot.b{bits} {{to}}, {{0}};", [a], u), expect(lambda x: int(x == 0), u, a))
    same(over(f"neg.s{bits} {{to}}, {{0}};", [a], u), expect(lambda x: -x, u, a))
    same(over(f"abs.s{bits} {{to}}, {{0}};", [a], u), expect(lambda x: abs(signed(x, bits)), u, a))
    same(over(f"shl.b{bits} {{to}}, {{0}}, {{1}};", [a, n], u), expect(lambda x, s: x << s, u, a, n))
    same(over(f"shr.u{bits} {{to}}, {{0}}, {{1}};", [a, n], u), expect(lambda x, s: x >> s, u, a, n))
    same(
        over(f"shr.s{bits} {{to}}, {{0}}, {{1}};", [a.view(i), n], i),
        expect(lambda x, s: x >> s, i, a.view(i), n),
    )
    if bits > 16:
        same(over(f"popc.b{bits} {{to}}, {{0}};", [a], "u4"), expect(int.bit_count, "u4", a))
        same(over(f"clz.b{bits} {{to}}, {{0}};", [a], "u4"), expect(lambda x: bits - x.bit_length(), "u4", a))
        same(
            over(f"brev.b{bits} {{to}}, {{0}};", [a], u),
            expect(lambda x: int(f"{x & ones:0{bits}b}"[::-1], 2), u, a),
        )
        same(
            over(f"bfind.u{bits} {{to}}, {{0}};", [a], "u4"),
            expect(lambda x: x.bit_length() - 1 if x else 0xFFFFFFFF, "u4", a),
        )
        same(
            over(f"bfind.shiftamt.s{bits} {{to}}, {{0}};", [a.view(i)], "u4"),
            expect(
                lambda x: bits - (~x if x < 0 else x).bit_length() if x not in (0, -1) else 0xFFFFFFFF,
                "u4",
                a.view(i),
            ),
        )


def field(a: int, at: int, count: int, bits: int, is_signed: bool) -> int:
    """bfe as the PTX ISA's pseudocode has it."""
    at, count, top = at & 255, count & 255, bits - 1
    sign = 0 if not is_signed or count == 0 else a >> min(at + count - 1, top) & 1
    result = 0
    for k in range(bits):
        bit = a >> (at + k) & 1 if k < count and at + k <= top else sign
        result |= bit << k
    return result


def inserted(a: int, b: int, at: int, count: int, bits: int) -> int:
    at, count = at & 255, count & 255
    for k in range(count):
        if at + k < bits:
            b = b & ~(1 << at + k) | (a >> k & 1) << at + k
    return b


@pytest.mark.parametrize("bits", [32, 64])
def test_bit_fields(bits: int) -> None:
    u = f"u{bits // 8}"
    a, b = integers(u, COUNT, 13), integers(u, COUNT, 14)
    random = np.random.default_rng(1)
    at, count = (
        random.choice([0, 1, 5, 8, 16, 31, 32, 33, 63, 64, 70, 255], COUNT).astype(np.uint32) for _ in "ab"
    )
    for letter in "us":
        same(
            over(f"bfe.{letter}{bits} {{to}}, {{0}}, {{1}}, {{2}};", [a, at, count], u),
            expect(lambda x, p, n, letter=letter: field(x, p, n, bits, letter == "s"), u, a, at, count),
        )
    same(
        over(f"bfi.b{bits} {{to}}, {{0}}, {{1}}, {{2}}, {{3}};", [a, b, at, count], u),
        expect(lambda x, y, p, n: inserted(x, y, p, n, bits), u, a, b, at, count),
    )


def chosen_bytes(a: int, b: int, c: int) -> int:
    pair = (b << 32 | a).to_bytes(8, "little")
    result = 0
    for k in range(4):
        select = c >> 4 * k & 15
        byte = pair[select & 7]
        result |= (255 * (byte >> 7) if select & 8 else byte) << 8 * k
    return result


def test_permutations_funnel_shifts_and_lookup_tables() -> None:
    a, b, c = (integers("u4", COUNT, seed) for seed in (15, 16, 17))
    same(over("prmt.b32 {to}, {0}, {1}, {2};", [a, b, c], "u4"), expect(chosen_bytes, "u4", a, b, c))
    same(
        over("shf.l.wrap.b32 {to}, {0}, {1}, {2};", [a, b, c], "u4"),
        expect(lambda x, y, n: (y << 32 | x) << (n & 31) >> 32, "u4", a, b, c),
    )
    same(
        over("shf.r.clamp.b32 {to}, {0}, {1}, {2};", [a, b, c], "u4"),
        expect(lambda x, y, n: (y << 32 | x) >> min(n, 32), "u4", a, b, c),
    )
    for table, compute in ((0x96, lambda x, y, z: x ^ y ^ z), (0xE8, lambda x, y, z: x & y | y & z | x & z)):
        same(
            over(f"lop3.b32 {{to}}, {{0}}, {{1}}, {{2}}, {table};", [a, b, c], "u4"),
            expect(compute, "u4", a, b, c),
        )


def test_dot_products_of_bytes() -> None:
    a, b, c = (integers("u4", COUNT, seed) for seed in (18, 19, 20))

    def dot(x: int, y: int, z: int, left: bool, right: bool) -> int:
        for k in range(4):
            p, q = x >> 8 * k & 255, y >> 8 * k & 255
            z += (signed(p, 8) if left else p) * (signed(q, 8) if right else q)
        return z

    for left in "us":
        for right in "us":
            same(
                over(f"dp4a.{left}32.{right}32 {{to}}, {{0}}, {{1}}, {{2}};", [a, b, c], "u4"),
                expect(lambda x, y, z, l=left, r=right: dot(x, y, z, l == "s", r == "s"), "u4", a, b, c),
            )


def test_carry_chains_add_128_bits() -> None:
    a, b, c, d = (integers("u8", COUNT, seed) for seed in (21, 22, 23, 24))
    code = "add.cc.u64 %d40, {0}, {2}; addc.u64 {to}, {1}, {3};"
    same(
        over(code, [a, b, c, d], "u8"),
        expect(lambda x0, x1, y0, y1: (x1 << 64 | x0) + (y1 << 64 | y0) >> 64, "u8", a, b, c, d),
    )
    code = "sub.cc.u64 %d40, {0}, {2}; subc.u64 {to}, {1}, {3};"
    same(
        over(code, [a, b, c, d], "u8"),
        expect(lambda x0, x1, y0, y1: (x1 << 64 | x0) - (y1 << 64 | y0) >> 64, "u8", a, b, c, d),
    )


COMPARE = {"eq": "__eq__", "ne": "__ne__", "lt": "__lt__", "le": "__le__", "gt": "__gt__", "ge": "__ge__"}


@pytest.mark.parametrize("kind", ["s16", "u32", "s64"])
def test_comparisons(kind: str) -> None:
    dtype = f"{'i' if kind[0] == 's' else 'u'}{int(kind[1:]) // 8}"
    a, b = integers(dtype, COUNT, 25), integers(dtype, COUNT, 26)
    b[::3] = a[::3]
    for name, method in COMPARE.items():
        expected = np.array([getattr(int(x), method)(int(y)) for x, y in zip(a, b, strict=True)])
        np.testing.assert_array_equal(
            over(f"setp.{name}.{kind} {{to}}, {{0}}, {{1}};", [a, b], bool), expected
        )
    code = f"setp.ne.{kind} %p1, {{0}}, 0; setp.lt.and.{kind} %p2|{{to}}, {{0}}, {{1}}, !%p1;"
    np.testing.assert_array_equal(over(code, [a, b], bool), ~(a < b) & ~(a != 0))


def test_selections() -> None:
    a, b, c = (integers("i4", COUNT, seed) for seed in (27, 28, 29))
    same(
        over("setp.lt.s32 %p1, {2}, 5; selp.b32 {to}, {0}, {1}, %p1;", [a, b, c], "i4"), np.where(c < 5, a, b)
    )
    same(over("slct.s32.s32 {to}, {0}, {1}, {2};", [a, b, c], "i4"), np.where(c >= 0, a, b))
    same(over("set.lt.u32.s32 {to}, {0}, {1};", [a, b], "i4"), np.where(a < b, -1, 0).astype(np.int32))


@pytest.mark.parametrize("source", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
def test_conversions_between_integers(source: str) -> None:
    bits = int(source[1:])
    register = max(bits, 16)
    x = integers(f"u{register // 8}", COUNT, 30)
    value = [signed(int(v), bits) if source[0] == "s" else int(v) & ((1 << bits) - 1) for v in x]
    for to in ("s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"):
        size = int(to[1:])
        if to == source:
            continue
        held = f"u{max(size, 16) // 8}"
        wide = 8 * np.dtype(held).itemsize
        expected = [
            (signed(v, size) if to[0] == "s" else v & ((1 << size) - 1)) & ((1 << wide) - 1) for v in value
        ]
        same(over(f"cvt.{to}.{source} {{to}}, {{0}};", [x], held), np.array(expected, held))
        low, high = (-(1 << size - 1), (1 << size - 1) - 1) if to[0] == "s" else (0, (1 << size) - 1)
        if bits < size and (source[0] == "u" or to[0] == "s"):
            continue  # everything fits, and PTX has no .sat for it
        expected = [clamp(v, low, high) & ((1 << wide) - 1) for v in value]
        same(over(f"cvt.sat.{to}.{source} {{to}}, {{0}};", [x], held), np.array(expected, held))


def test_packing_and_unpacking() -> None:
    a, b = integers("u4", COUNT, 31), integers("u4", COUNT, 32)
    same(
        over("mov.b64 {to}, {{{0}, {1}}};", [a, b], "u8"),
        expect(lambda x, y: y << 32 | x, "u8", a, b),
    )
    same(over("mov.b32 {{_, %h1}}, {0}; cvt.u32.u16 {to}, %h1;", [a], "u4"), a >> 16)
