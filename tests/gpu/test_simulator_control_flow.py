"""Branches, loops, calls and address spaces under the PTX simulator, against the same program in Python."""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
import pytest
from ptx_texts import HEAD, device, integers, kernel, over, run, same

from vitrify.runtime.ptx_simulator.errors import PtxError


def test_threads_that_part_meet_again() -> None:
    x, y = integers("i4", 500, 1), integers("i4", 500, 2)
    code = """
	setp.lt.s32 %p1, {0}, {1};
	@%p1 bra less;
	sub.s32 {to}, {0}, {1};
	setp.gt.s32 %p2, {to}, 1000;
	@!%p2 bra done;
	mov.b32 {to}, 1000;
	bra done;
less:
	add.s32 {to}, {0}, {1};
done:
	add.s32 {to}, {to}, 1;
"""
    with np.errstate(over="ignore"):
        difference = x - y
        expected = np.where(x < y, x + y, np.where(difference > 1000, 1000, difference)) + 1
    same(over(code, [x, y], np.int32), expected.astype(np.int32))


def collatz(n: int) -> int:
    steps = 0
    while n != 1 and steps < 300:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def test_loops_of_different_lengths_with_branches_inside() -> None:
    code = """
	mov.b32 {to}, 0;
	mov.b32 %r40, {0};
loop:
	setp.eq.u32 %p1, %r40, 1;
	@%p1 bra done;
	and.b32 %r41, %r40, 1;
	setp.eq.u32 %p2, %r41, 0;
	@%p2 bra even;
	mad.lo.u32 %r40, %r40, 3, 1;
	bra next;
even:
	shr.u32 %r40, %r40, 1;
next:
	add.u32 {to}, {to}, 1;
	setp.lt.u32 %p3, {to}, 300;
	@%p3 bra loop;
done:
"""
    n = np.arange(1, 400, dtype=np.uint32)
    same(over(code, [n], np.uint32), np.array([collatz(int(v)) for v in n], np.uint32))


def test_nested_loops_and_early_exits() -> None:
    body = """
	mov.b32 %r1, 0;
	mov.b32 %r2, 0;
outer:
	setp.ge.u32 %p1, %r1, %r0;
	@%p1 bra after;
	mov.b32 %r3, 0;
inner:
	setp.gt.u32 %p2, %r3, %r1;
	@%p2 bra inner_done;
	add.u32 %r2, %r2, %r3;
	setp.gt.u32 %p3, %r2, 100;
	@%p3 ret;
	add.u32 %r3, %r3, 1;
	bra inner;
inner_done:
	add.u32 %r1, %r1, 1;
	bra outer;
after:
	mad.wide.u32 %d1, %r0, 4, %d0;
	st.global.b32 [%d1], %r2;
"""

    def expected(t: int) -> int:
        total = 0
        for i in range(t):
            for j in range(i + 1):
                total += j
                if total > 100:
                    return 0xFFFF
        return total

    found = run(kernel(body), [np.full(64, 0xFFFF, np.uint32)], 64)[0]
    same(found, np.array([expected(t) for t in range(64)], np.uint32))


def test_a_barrier_after_some_threads_have_exited() -> None:
    body = """
	.shared .b32 s[64];
	setp.ge.u32 %p1, %r0, 40;
	@%p1 exit;
	mov.b32 %r2, s;
	mad.lo.u32 %r1, %r0, 4, %r2;
	st.shared.b32 [%r1], %r0;
	bar.sync 0;
	sub.u32 %r3, 39, %r0;
	mad.lo.u32 %r1, %r3, 4, %r2;
	ld.shared.b32 %r4, [%r1];
	mad.wide.u32 %d1, %r0, 4, %d0;
	st.global.b32 [%d1], %r4;
"""
    found = run(kernel(body), [np.zeros(64, np.uint32)], 64)[0]
    same(found, np.r_[np.arange(39, -1, -1), np.zeros(24)].astype(np.uint32))


def test_a_jump_table() -> None:
    code = """
	rem.u32 %r40, {0}, 5;
table: .branchtargets l0, l1, l2, l1, l3;
	brx.idx %r40, table;
l0:
	mov.b32 {to}, 100;
	bra done;
l1:
	add.u32 {to}, {0}, 7;
	bra done;
l2:
	mul.lo.u32 {to}, {0}, {0};
	bra done;
l3:
	mov.b32 {to}, 3;
done:
"""
    x = np.arange(300, dtype=np.uint32)
    same(
        over(code, [x], np.uint32),
        np.choose(x % 5, [np.full(300, 100), x + 7, x * x, x + 7, np.full(300, 3)]).astype("u4"),
    )


def test_calls_of_device_functions() -> None:
    functions = """
.func (.param .b32 out) twice(.param .b32 in)
{
	.reg .b32 %r<4>;
	.reg .pred %p<2>;
	ld.param.b32 %r1, [in];
	setp.gt.u32 %p1, %r1, 30;
	@%p1 bra big;
	add.u32 %r2, %r1, %r1;
	st.param.b32 [out], %r2;
	ret;
big:
	st.param.b32 [out], %r1;
	ret;
}
.func (.param .align 8 .b8 out[8]) pair(.param .b32 in)
{
	.reg .b32 %r<4>;
	ld.param.b32 %r1, [in];
	{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call.uni (b), twice, (a); ld.param.b32 %r2, [b]; }
	{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r2; call (b), twice, (a); ld.param.b32 %r3, [b]; }
	st.param.v2.b32 [out], {%r2, %r3};
	ret;
}
"""
    body = """
	{
	.param .b32 a;
	.param .align 8 .b8 b[8];
	st.param.b32 [a], %r0;
	call (b), pair, (a);
	ld.param.v2.b32 {%r1, %r2}, [b];
	}
	mad.lo.u32 %r1, %r1, 1000, %r2;
	mad.wide.u32 %d1, %r0, 4, %d0;
	st.global.b32 [%d1], %r1;
"""
    found = run(kernel(body, 1, functions), [np.zeros(64, np.uint32)], 64)[0]

    def twice(x: int) -> int:
        return x if x > 30 else 2 * x

    same(found, np.array([twice(t) * 1000 + twice(twice(t)) for t in range(64)], np.uint32))
    with pytest.raises(PtxError, match="recursive call of f"):
        recursive = ".func f() { call f; ret; }"
        device().load(kernel("call f;", 1, recursive))


def test_scopes_and_labels_of_inline_assembly() -> None:
    piece = (
        "{ .reg .pred q; .reg .b32 x; setp.gt.u32 q, %r0, 5; mov.b32 x, 1; @q bra end; mov.b32 x, 2; end: "
    )
    piece += "add.u32 %r1, %r1, x; }\n"
    body = "mov.b32 %r1, 0;\n" + 2 * piece + "mad.wide.u32 %d1, %r0, 4, %d0;\nst.global.b32 [%d1], %r1;"
    same(
        run(kernel(body), [np.zeros(32, np.uint32)], 32)[0],
        np.where(np.arange(32) > 5, 2, 4).astype(np.uint32),
    )


def test_generic_addresses_reach_every_space() -> None:
    body = """
	.local .align 4 .b8 own[16];
	.shared .align 4 .b8 all[256];
	mov.b64 %d1, own;
	cvta.local.u64 %d1, %d1;
	mov.b64 %d2, all;
	cvta.shared.u64 %d2, %d2;
	mad.wide.u32 %d2, %r0, 4, %d2;
	mad.wide.u32 %d3, %r0, 4, %d0;
	rem.u32 %r1, %r0, 3;
	setp.eq.u32 %p1, %r1, 0;
	setp.eq.u32 %p2, %r1, 1;
	selp.b64 %d4, %d1, %d2, %p1;
	selp.b64 %d4, %d3, %d4, %p2;
	st.b32 [%d4], %r0;
	ld.b32 %r2, [%d4];
	isspacep.shared %p3, %d4;
	selp.b32 %r3, 1000, 0, %p3;
	add.u32 %r2, %r2, %r3;
	st.global.b32 [%d3], %r2;
"""
    t = np.arange(64)
    same(
        run(kernel(body), [np.zeros(64, np.uint32)], 64)[0],
        np.where(t % 3 == 2, t + 1000, t).astype(np.uint32),
    )


def test_constants_and_variables_of_the_module() -> None:
    variables = """
.const .align 4 .f32 table[4] = {1.5, 0f40000000, -3.0, 4.0};
.global .align 4 .b32 counter = 7;
.global .align 8 .b64 pointer = counter;
"""
    body = """
	and.b32 %r1, %r0, 3;
	mov.b64 %d1, table;
	mad.wide.u32 %d1, %r1, 4, %d1;
	ld.const.b32 %r2, [%d1];
	ld.global.b64 %d2, [pointer];
	ld.global.b32 %r3, [%d2];
	cvt.rn.f32.u32 %r3, %r3;
	add.rn.f32 %r2, %r2, %r3;
	mad.wide.u32 %d3, %r0, 4, %d0;
	st.global.b32 [%d3], %r2;
"""
    found = run(kernel(body, 1, variables), [np.zeros(8, np.float32)], 8)[0]
    same(found, np.tile(np.array([8.5, 9, 4, 11], np.float32), 2))
    with pytest.raises(PtxError, match=r"the integer 4 as \.f32"):
        device().load(kernel(body, 1, variables.replace("4.0", "4")))


def test_grids_and_blocks_of_three_dimensions() -> None:
    axes = "".join(
        f"mov.u32 %r{10 + i}, %{name}.{axis};\n"
        for i, (name, axis) in enumerate((n, a) for n in ("tid", "ctaid", "ntid", "nctaid") for a in "xyz")
    )
    body = (
        axes
        + """
	mad.lo.u32 %r1, %r15, %r20, %r14;
	mad.lo.u32 %r1, %r1, %r19, %r13;
	mad.lo.u32 %r1, %r1, %r18, %r12;
	mad.lo.u32 %r1, %r1, %r17, %r11;
	mad.lo.u32 %r1, %r1, %r16, %r10;
	mad.wide.u32 %d1, %r1, 4, %d0;
	mad.lo.u32 %r2, %r12, 10, %r11;
	mad.lo.u32 %r2, %r2, 10, %r10;
	mad.lo.u32 %r3, %r15, 10, %r14;
	mad.lo.u32 %r3, %r3, 10, %r13;
	mad.lo.u32 %r2, %r3, 1000, %r2;
	st.global.b32 [%d1], %r2;
"""
    )
    machine = device()
    function = machine.load(kernel(body)).function("k")
    grid, block = (3, 2, 4), (5, 2, 3)
    found = np.zeros((*grid[::-1], *block[::-1]), np.uint32)
    address = machine.alloc(found.nbytes)
    machine.launch_3d(function, grid, block, 0, [address])
    machine.to_host(found, address)
    for place, value in np.ndenumerate(found):
        assert value == int("".join(str(k) for k in place)), place


def test_kernels_that_llvm_writes() -> None:
    """A grid-stride loop with a shuffle tree, from LLVM's NVPTX backend."""
    source = """
target triple = "nvptx64-nvidia-cuda"
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.shfl.sync.bfly.i32(i32, i32, i32, i32)
define ptx_kernel void @sum(ptr addrspace(1) %p, ptr addrspace(1) %q, i64 %n) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %c = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %t64 = zext i32 %t to i64
  %c64 = zext i32 %c to i64
  %row = mul i64 %c64, %n
  br label %test
test:
  %k = phi i64 [%t64, %0], [%k1, %body]
  %acc = phi float [0.0, %0], [%acc1, %body]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %body, label %tree
body:
  %i = add i64 %row, %k
  %a = getelementptr float, ptr addrspace(1) %p, i64 %i
  %v = load float, ptr addrspace(1) %a
  %acc1 = fadd float %acc, %v
  %k1 = add i64 %k, 32
  br label %test
tree:
"""
    value = "%acc"
    for number, mask in enumerate((16, 8, 4, 2, 1)):
        source += f"""
  %x{number} = bitcast float {value} to i32
  %y{number} = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 %x{number}, i32 {mask}, i32 31)
  %z{number} = bitcast i32 %y{number} to float
  %s{number} = fadd float {value}, %z{number}
"""
        value = f"%s{number}"
    source += f"""
  %first = icmp eq i32 %t, 0
  br i1 %first, label %store, label %end
store:
  %o = getelementptr float, ptr addrspace(1) %q, i64 %c64
  store float {value}, ptr addrspace(1) %o
  br label %end
end:
  ret void
}}
"""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda").create_target_machine(
        cpu="sm_80", features="+ptx80", opt=3
    )
    text = target.emit_assembly(llvm.parse_assembly(source, llvm.create_context()))
    x = np.random.default_rng(0).standard_normal((200, 77)).astype(np.float32)
    found = run(text, [x, np.zeros(200, np.float32)], 32, 200, extra=[77])[1]
    np.testing.assert_allclose(found, x.sum(1), rtol=1e-5, atol=1e-5)
    assert HEAD.split()[0] == ".version"
