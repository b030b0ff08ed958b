"""x86's tile instructions (AMX) on processors that do not have them: LLVM functions in place of LLVM's intrinsics.

A kernel configures the tiles when it begins and releases them when it returns, so they live in its own frame: a block of
8 tiles and a word that says whether they are configured. The functions do what Intel's manual says of each instruction,
in plain float32 arithmetic. Tiles that are not configured hold NaN (as integers, a large number), and so does what is
stored from them.
"""

from __future__ import annotations

import re

from vitrify.codegen.llvm.compile import compile_linked
from vitrify.codegen.llvm.program import ENTRY, emit_program
from vitrify.codegen.loops.nodes import Program
from vitrify.codegen.target import Target
from vitrify.runtime.loading import LoadedProgram

AMX = Target.named("x86-64-amx")
POISON = 0x7FC0DEAD
_STATE = "[8257 x i8]"  # eight tiles, the configuration, and whether it is valid
_CONFIG, _VALID = 8192, 8256


def emulated_text(text: str) -> str:
    """A module with calls of emulating functions in place of tile instructions."""
    lines = []
    for line in text.splitlines():
        name = re.search(r"@llvm\.x86\.(tile\w+|ldtilecfg|tdp\w+)\(", line)
        if name is None:
            lines.append(line)
        elif not line.startswith("declare"):
            if name[1] == "ldtilecfg":
                lines.append(f"%tiles = alloca {_STATE}, align 64")
            lines.append(
                re.sub(r"@llvm\.x86\.\w+\(", f"@emulated_{name[1]}(ptr %tiles, ", line).replace(", )", ")")
            )
    used = sorted(set(re.findall(r"@emulated_(\w+)\(", "\n".join(lines))))
    lines += [f"declare void @emulated_{name}({', '.join(_TYPES[name])})" for name in used]
    return "\n".join(lines) + "\n"


def compile_emulated(program: Program, change=lambda text: text) -> LoadedProgram:
    """The program for AMX, compiled for this machine; `change` is applied to its text first."""
    (text,) = emit_program(program, AMX)
    modules = [emulated_text(change(text)), _functions()]
    return LoadedProgram([compile_linked(modules, Target.host(), {ENTRY})])


_TYPES = {
    "ldtilecfg": ("ptr", "ptr"),
    "tilerelease": ("ptr",),
    "tilezero": ("ptr", "i8"),
    **dict.fromkeys(("tileloadd64", "tileloaddt164", "tilestored64"), ("ptr", "i8", "ptr", "i64")),
    **dict.fromkeys(("tdpbf16ps", "tdpbusd", "tdpbsud"), ("ptr", "i8", "i8", "i8")),
}


def _functions() -> str:
    """The module that defines them."""
    return "\n".join([_COMMON, *(_product(name) for name in ("tdpbf16ps", "tdpbusd", "tdpbsud"))])


_COMMON = f"""
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1 immarg)
declare float @llvm.fma.f32(float, float, float)
declare float @llvm.fabs.f32(float)
declare float @llvm.copysign.f32(float, float)

define internal i1 @valid(ptr %tiles) {{
%p = getelementptr i8, ptr %tiles, i64 {_VALID}
%v = load i8, ptr %p
%c = icmp eq i8 %v, 1
ret i1 %c
}}
define internal ptr @tile(ptr %tiles, i8 %n) {{
%w = zext i8 %n to i64
%o = shl i64 %w, 10
%p = getelementptr i8, ptr %tiles, i64 %o
ret ptr %p
}}
define internal void @poison(ptr %p, i64 %row) {{
br label %loop
loop:
%i = phi i64 [ 0, %0 ], [ %next, %loop ]
%y = shl i64 %row, 4
%at = add i64 %y, %i
%q = getelementptr i32, ptr %p, i64 %at
store i32 {POISON}, ptr %q
%next = add i64 %i, 1
%more = icmp ult i64 %next, 16
br i1 %more, label %loop, label %end
end:
ret void
}}
define internal void @poison_all(ptr %tiles) {{
br label %loop
loop:
%i = phi i64 [ 0, %0 ], [ %next, %loop ]
call void @poison(ptr %tiles, i64 %i)
%next = add i64 %i, 1
%more = icmp ult i64 %next, 128
br i1 %more, label %loop, label %end
end:
ret void
}}
define void @emulated_ldtilecfg(ptr %tiles, ptr %config) {{
; zeros, if the configuration is palette 1 with 16 rows of 64 bytes everywhere
call void @poison_all(ptr %tiles)
%p = getelementptr i8, ptr %tiles, i64 {_VALID}
store i8 0, ptr %p
%start = load i16, ptr %config
%good = icmp eq i16 %start, 1
%bytes = getelementptr i8, ptr %config, i64 16
%columns = load <8 x i16>, ptr %bytes, align 2
%wide = icmp eq <8 x i16> %columns, splat (i16 64)
%wides = bitcast <8 x i1> %wide to i8
%all = icmp eq i8 %wides, -1
%heights = getelementptr i8, ptr %config, i64 48
%rows = load <8 x i8>, ptr %heights, align 1
%high = icmp eq <8 x i8> %rows, splat (i8 16)
%highs = bitcast <8 x i1> %high to i8
%tall = icmp eq i8 %highs, -1
%a = and i1 %good, %all
%b = and i1 %a, %tall
br i1 %b, label %fill, label %end
fill:
store i8 1, ptr %p
br label %end
end:
ret void
}}
define void @emulated_tilerelease(ptr %tiles) {{
call void @poison_all(ptr %tiles)
%p = getelementptr i8, ptr %tiles, i64 {_VALID}
store i8 0, ptr %p
ret void
}}
define void @emulated_tilezero(ptr %tiles, i8 %n) {{
%p = call ptr @tile(ptr %tiles, i8 %n)
%c = call i1 @valid(ptr %tiles)
br i1 %c, label %good, label %end
good:
store <256 x i32> zeroinitializer, ptr %p, align 64
br label %end
end:
ret void
}}
{
    "".join(
        f'''define void @emulated_{name}(ptr %tiles, i8 %n, ptr %memory, i64 %step) {{
entry:
%p = call ptr @tile(ptr %tiles, i8 %n)
%c = call i1 @valid(ptr %tiles)
br label %loop
loop:
%i = phi i64 [ 0, %entry ], [ %next, %then ]
%o = mul i64 %i, %step
%m = getelementptr i8, ptr %memory, i64 %o
%y = shl i64 %i, 6
%t = getelementptr i8, ptr %p, i64 %y
br i1 %c, label %good, label %bad
good:
call void @llvm.memcpy.p0.p0.i64(ptr {into}, ptr {source}, i64 64, i1 false)
br label %then
bad:
call void @poison(ptr {into}, i64 0)
br label %then
then:
%next = add i64 %i, 1
%more = icmp ult i64 %next, 16
br i1 %more, label %loop, label %end
end:
ret void
}}
'''
        for name, into, source in (
            ("tileloadd64", "%t", "%m"),
            ("tileloaddt164", "%t", "%m"),
            ("tilestored64", "%m", "%t"),
        )
    )
}
define internal float @flushed(float %x) {{
%size = call float @llvm.fabs.f32(float %x)
%small = fcmp olt float %size, 0x3810000000000000
%zero = call float @llvm.copysign.f32(float 0.0, float %x)
%y = select i1 %small, float %zero, float %x
ret float %y
}}
define internal float @half(i32 %word, i1 %upper) {{
%low = shl i32 %word, 16
%high = and i32 %word, -65536
%bits = select i1 %upper, i32 %high, i32 %low
%x = bitcast i32 %bits to float
%y = call float @flushed(float %x)
ret float %y
}}
define internal {{ float, float }} @sum_tdpbf16ps({{ float, float }} %sums, i32 %a, i32 %b) {{
%even = extractvalue {{ float, float }} %sums, 0
%odd = extractvalue {{ float, float }} %sums, 1
%a0 = call float @half(i32 %a, i1 false)
%b0 = call float @half(i32 %b, i1 false)
%a1 = call float @half(i32 %a, i1 true)
%b1 = call float @half(i32 %b, i1 true)
%e = call float @llvm.fma.f32(float %a0, float %b0, float %even)
%o = call float @llvm.fma.f32(float %a1, float %b1, float %odd)
%ef = call float @flushed(float %e)
%of = call float @flushed(float %o)
%r0 = insertvalue {{ float, float }} poison, float %ef, 0
%r1 = insertvalue {{ float, float }} %r0, float %of, 1
ret {{ float, float }} %r1
}}
define internal i32 @end_tdpbf16ps(i32 %before, {{ float, float }} %sums) {{
%even = extractvalue {{ float, float }} %sums, 0
%odd = extractvalue {{ float, float }} %sums, 1
%both = fadd float %even, %odd
%bothf = call float @flushed(float %both)
%c = bitcast i32 %before to float
%cf = call float @flushed(float %c)
%new = fadd float %cf, %bothf
%newf = call float @flushed(float %new)
%bits = bitcast float %newf to i32
ret i32 %bits
}}
{
    "".join(
        f'''define internal i32 @sum_{name}(i32 %sum, i32 %a, i32 %b) {{
%av = bitcast i32 %a to <4 x i8>
%bv = bitcast i32 %b to <4 x i8>
%aw = {left} <4 x i8> %av to <4 x i32>
%bw = {right} <4 x i8> %bv to <4 x i32>
%p = mul <4 x i32> %aw, %bw
%s = call i32 @llvm.vector.reduce.add.v4i32(<4 x i32> %p)
%n = add i32 %sum, %s
ret i32 %n
}}
define internal i32 @end_{name}(i32 %before, i32 %sum) {{
%n = add i32 %before, %sum
ret i32 %n
}}
'''
        for name, left, right in (("tdpbusd", "zext", "sext"), ("tdpbsud", "sext", "zext"))
    )
}
declare i32 @llvm.vector.reduce.add.v4i32(<4 x i32>)
"""


def _product(name: str) -> str:
    """16 rows, 16 columns, 16 words."""
    state = "{ float, float }" if name == "tdpbf16ps" else "i32"
    return f"""
define void @emulated_{name}(ptr %tiles, i8 %total, i8 %left, i8 %right) {{
entry:
%c = call ptr @tile(ptr %tiles, i8 %total)
%a = call ptr @tile(ptr %tiles, i8 %left)
%b = call ptr @tile(ptr %tiles, i8 %right)
%ok = call i1 @valid(ptr %tiles)
br i1 %ok, label %rows, label %end
rows:
%at = phi i64 [ 0, %entry ], [ %atnext, %done ]
%m = lshr i64 %at, 4
%n = and i64 %at, 15
%arow = shl i64 %m, 4
br label %words
words:
%k = phi i64 [ 0, %rows ], [ %knext, %words ]
%sums = phi {state} [ zeroinitializer, %rows ], [ %more, %words ]
%ai = add i64 %arow, %k
%brow = shl i64 %k, 4
%bi = add i64 %brow, %n
%ap = getelementptr i32, ptr %a, i64 %ai
%bp = getelementptr i32, ptr %b, i64 %bi
%aw = load i32, ptr %ap
%bw = load i32, ptr %bp
%more = call {state} @sum_{name}({state} %sums, i32 %aw, i32 %bw)
%knext = add i64 %k, 1
%kmore = icmp ult i64 %knext, 16
br i1 %kmore, label %words, label %done
done:
%cp = getelementptr i32, ptr %c, i64 %at
%before = load i32, ptr %cp
%new = call i32 @end_{name}(i32 %before, {state} %more)
store i32 %new, ptr %cp
%atnext = add i64 %at, 1
%atmore = icmp ult i64 %atnext, 256
br i1 %atmore, label %rows, label %end
end:
ret void
}}"""
