"""Which level of instructions the processor and the system support, as LLVM text.

    i32 @cpu_level()      x86-64: 4 for x86-64-v4, 3 for v3, else 1; other architectures: 1

The levels and their bits are those of the x86-64 psABI; the bits of CPUID and XCR0, of Intel's manual, volume 2A and
volume 1, chapter 13.
"""

from __future__ import annotations

_REGISTERS = "{ i32, i32, i32, i32 }"


def _bits(*positions: int) -> int:
    return sum(1 << p for p in positions)


# Leaf 1, ECX: SSE3, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, OSXSAVE, AVX, F16C.
_LEAF_1 = _bits(0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29)
# Leaf 7, EBX: BMI1, AVX2, BMI2; AVX512F, DQ, CD, BW, VL.
_LEAF_7_V3 = _bits(3, 5, 8)
_LEAF_7_V4 = _LEAF_7_V3 | _bits(16, 17, 28, 30, 31)
# Leaf 0x80000001, ECX: LAHF, LZCNT.
_EXTENDED = _bits(0, 5)
# XCR0: the system saves SSE and AVX registers; and masks and the wide registers.
_STATE_V3 = _bits(1, 2)
_STATE_V4 = _bits(1, 2, 5, 6, 7)


def _has(name: str, register: str, mask: int) -> str:
    return (
        f"%{name}.bits = and i32 {register}, {mask - (1 << 32) if mask >> 31 else mask}\n%{name} = icmp eq i32 "
        + (f"%{name}.bits, {mask - (1 << 32) if mask >> 31 else mask}")
    )


_CLOBBERS = "~{dirflag},~{fpsr},~{flags}"
_X86_64 = f"""define internal {_REGISTERS} @cpuid(i32 %leaf) nounwind noinline {{
%r = call {_REGISTERS} asm sideeffect "cpuid",
  "={{ax}},={{bx}},={{cx}},={{dx}},{{ax}},{{cx}},{_CLOBBERS}"(i32 %leaf, i32 0)
ret {_REGISTERS} %r
}}
define internal i32 @cpu_level() nounwind noinline {{
%zero = call {_REGISTERS} @cpuid(i32 0)
%highest = extractvalue {_REGISTERS} %zero, 0
%new = icmp uge i32 %highest, 7
br i1 %new, label %ask, label %low
ask:
%one = call {_REGISTERS} @cpuid(i32 1)
%c1 = extractvalue {_REGISTERS} %one, 2
{_has("leaf1", "%c1", _LEAF_1)}
br i1 %leaf1, label %state, label %low
state:
%x = call {{ i32, i32 }} asm sideeffect "xgetbv", "={{ax}},={{dx}},{{cx}},{_CLOBBERS}"(i32 0)
%xcr0 = extractvalue {{ i32, i32 }} %x, 0
%seven = call {_REGISTERS} @cpuid(i32 7)
%b7 = extractvalue {_REGISTERS} %seven, 1
%extended = call {_REGISTERS} @cpuid(i32 -2147483647)
%c8 = extractvalue {_REGISTERS} %extended, 2
{_has("v3", "%b7", _LEAF_7_V3)}
{_has("more", "%c8", _EXTENDED)}
{_has("saved3", "%xcr0", _STATE_V3)}
{_has("v4", "%b7", _LEAF_7_V4)}
{_has("saved4", "%xcr0", _STATE_V4)}
%a3 = and i1 %v3, %more
%b3 = and i1 %a3, %saved3
br i1 %b3, label %third, label %low
third:
%b4 = and i1 %v4, %saved4
%level = select i1 %b4, i32 4, i32 3
ret i32 %level
low:
ret i32 1
}}"""

CPU_CHECKS = {
    "x86_64": _X86_64,
    "aarch64": "define internal i32 @cpu_level() nounwind {\nret i32 1\n}",
}
