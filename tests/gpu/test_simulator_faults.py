"""What kernels do wrong, planted: the PTX simulator names the fault, the kernel, the block, the thread and the line."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_texts import HEAD, device, kernel, run

from vitrify.runtime.gpu.errors import AcceleratorError, OutOfMemoryError
from vitrify.runtime.ptx_simulator.errors import (
    DivergentBarrier,
    KernelFault,
    LaunchError,
    Misaligned,
    OutOfBounds,
    PtxError,
    Race,
    Trapped,
    UninitializedRead,
    UseAfterFree,
)

WORDS = np.arange(256, dtype=np.uint32)


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.split("\n"), 1) if part in line)


def fault(
    kind: type[KernelFault], text: str, part: str, threads: int = 64, blocks: int = 1, **more: int
) -> KernelFault:
    """The fault of the module's kernel, which must be at the line that has `part` in it."""
    with pytest.raises(kind) as caught:
        run(text, [WORDS.copy()], threads, blocks, **more)
    assert type(caught.value) is kind
    assert caught.value.kernel == "k"
    assert caught.value.line == line_of(text, part)
    assert f"PTX line {caught.value.line}" in str(caught.value)
    return caught.value


# Addresses.


def test_a_store_behind_the_end() -> None:
    text = kernel("mad.wide.u32 %d1, %r0, 4, %d0;\nst.global.b32 [%d1+800], %r0;")
    found = fault(OutOfBounds, text, "st.global")
    assert (found.block, found.thread) == (0, 56)
    assert "0 bytes into" not in str(found) and "1024 bytes into an allocation of 1024 bytes" in str(found)


def test_a_load_in_front_of_the_beginning() -> None:
    text = kernel("mad.wide.u32 %d1, %r0, 4, %d0;\nld.global.b32 %r1, [%d1+-8];")
    assert "8 bytes before an allocation" in str(fault(OutOfBounds, text, "ld.global"))


def test_a_parameter_behind_the_last() -> None:
    found = fault(OutOfBounds, kernel("ld.param.v2.b32 {%r1, %r2}, [p0+4];"), "ld.param.v2")
    assert "offset 4 of 8 bytes of parameters" in str(found)


def test_a_null_pointer() -> None:
    text = kernel("mov.b64 %d1, 0;\nld.b32 %r1, [%d1];")
    assert "far from every allocation" in str(fault(OutOfBounds, text, "ld.b32"))


def test_a_vector_that_begins_inside_and_ends_outside() -> None:
    text = kernel("mad.wide.u32 %d1, %r0, 16, %d0;\nld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%d1];")
    assert fault(OutOfBounds, text, "ld.global", threads=65).thread == 64


def test_use_after_free() -> None:
    machine = device()
    function = machine.load(kernel("st.global.b32 [%d0], %r0;")).function("k")
    address = machine.alloc(64)
    machine.free(address)
    with pytest.raises(UseAfterFree, match="use after free"):
        machine.launch(function, 1, 1, 0, [address])
    with pytest.raises(AcceleratorError, match="no live allocation"):
        machine.free(address)
    with pytest.raises(AcceleratorError, match="has been freed"):
        machine.to_host(np.zeros(4), address)


def test_misaligned_access() -> None:
    text = kernel("mad.wide.u32 %d1, %r0, 4, %d0;\nld.global.v2.b32 {%r1, %r2}, [%d1];")
    found = fault(Misaligned, text, "ld.global")
    assert found.thread == 1 and "misaligned access of 8 bytes" in str(found)


def test_shared_memory_has_bounds() -> None:
    shared = "\t.shared .align 4 .b8 s[256];\nmov.b32 %r1, s;\nshl.b32 %r2, %r0, 3;\nadd.u32 %r1, %r1, %r2;\n"
    found = fault(OutOfBounds, kernel(shared + "st.shared.b32 [%r1], %r0;"), "st.shared")
    assert found.thread == 32 and "of 256 bytes of shared memory" in str(found)


def test_dynamic_shared_memory_is_as_large_as_the_launch_says() -> None:
    declaration = ".extern .shared .align 16 .b8 s[];"
    text = kernel("mov.b32 %r1, s;\nmad.lo.u32 %r1, %r0, 4, %r1;\nst.shared.b32 [%r1], %r0;", 1, declaration)
    run(text, [WORDS], 64, shared=256)
    assert fault(OutOfBounds, text, "st.shared", shared=128).thread == 32


def test_local_memory_has_bounds() -> None:
    local = "\t.local .align 4 .b8 s[16];\nmov.b64 %d1, s;\nmad.wide.u32 %d1, %r0, 4, %d1;\n"
    assert fault(OutOfBounds, kernel(local + "st.local.b32 [%d1], %r0;"), "st.local").thread == 4


# Shared memory.

SHARED = """
	.shared .align 4 .b8 s[256];
	shl.b32 %r1, %r0, 2;
	mov.b32 %r2, s;
	add.u32 %r1, %r1, %r2;
	xor.b32 %r3, %r1, 4;
"""


def test_uninitialized_shared_memory() -> None:
    text = kernel(
        SHARED + "setp.ne.u32 %p1, %r0, 9;\n@%p1 st.shared.b32 [%r1], %r0;\nld.shared.b32 %r4, [%r1];"
    )
    found = fault(UninitializedRead, text, "ld.shared")
    assert found.thread == 9 and "offset 36" in str(found)


def test_a_read_of_what_a_neighbour_wrote_without_a_barrier() -> None:
    text = kernel(
        SHARED
        + "st.shared.b32 [%r1], %r0;\nbar.sync 0;\nst.shared.b32 [%r1], %r3;\nld.shared.b32 %r4, [%r3];"
    )
    found = fault(Race, text, "ld.shared")
    assert "thread 1 of block 0 wrote it" in str(found)
    run(text.replace("ld.shared", "bar.sync 0;\nld.shared"), [WORDS], 64)


def test_a_write_over_what_a_neighbour_read_without_a_barrier() -> None:
    text = kernel(
        SHARED
        + "st.shared.b32 [%r1], %r0;\nbar.sync 0;\nld.shared.b32 %r4, [%r3];\nst.shared.b32 [%r1], %r4;"
    )
    found = fault(Race, text, "st.shared.b32 [%r1], %r4")
    assert "thread 1 of block 0 read it" in str(found)
    run(text.replace("st.shared.b32 [%r1], %r4", "bar.sync 0;\nst.shared.b32 [%r1], %r4"), [WORDS], 64)


def test_a_second_pass_without_a_barrier_at_the_back_edge() -> None:
    loop = """
	mov.b32 %r6, 0;
again:
	add.u32 %r5, %r0, %r6;
	st.shared.b32 [%r1], %r5;
	bar.sync 0;
	ld.shared.b32 %r4, [%r3];
	{barrier}
	add.u32 %r6, %r6, 1;
	setp.lt.u32 %p1, %r6, 3;
	@%p1 bra again;
"""
    text = kernel(SHARED + loop.replace("{barrier}", ""))
    assert "read it" in str(fault(Race, text, "st.shared"))
    run(kernel(SHARED + loop.replace("{barrier}", "bar.sync 0;")), [WORDS], 64)


def test_two_threads_write_different_values() -> None:
    one = kernel(SHARED + "st.shared.b32 [%r2], %r0;")
    assert "another thread writes another value" in str(fault(Race, one, "st.shared"))
    run(kernel(SHARED + "st.shared.b32 [%r2], 7;"), [WORDS], 64)  # the same value is no harm
    later = kernel(
        SHARED + "setp.eq.u32 %p1, %r0, 3;\nst.shared.b32 [%r1], %r0;\n@%p1 st.shared.b32 [%r3], 77;"
    )
    found = fault(Race, later, "st.shared.b32 [%r3]")
    assert found.thread == 3 and "thread 2 of block 0 wrote another value" in str(found)


def test_bytes_of_one_word_do_not_race() -> None:
    text = "\t.shared .align 4 .b8 s[256];\ncvt.u64.u32 %d1, %r0;\nmov.b64 %d2, s;\nadd.u64 %d1, %d1, %d2;\n"
    run(kernel(text + "st.shared.b8 [%d1], %r0;\nld.shared.u8 %r4, [%d1];"), [WORDS], 64)
    found = fault(
        Race,
        kernel(text + "st.shared.b8 [%d1], %r0;\nxor.b64 %d1, %d1, 1;\nld.shared.u8 %r4, [%d1];"),
        "ld.shared",
    )
    assert found.thread == 0


# Global memory.


def test_blocks_race_on_global_memory() -> None:
    text = kernel("mov.u32 %r1, %ctaid.x;\nst.global.b32 [%d0], %r1;")
    found = fault(Race, text, "st.global", threads=1, blocks=3)
    assert "race on global memory" in str(found)


def test_blocks_race_that_do_not_run_together() -> None:
    text = kernel(
        "mov.u32 %r1, %ctaid.x;\nsetp.eq.u32 %p1, %r1, 0;\nsetp.eq.or.u32 %p1, %r1, 39, %p1;\n"
        "mad.wide.u32 %d1, %r0, 4, %d0;\n@%p1 st.global.b32 [%d1], %r1;"
    )
    machine = device()
    function = machine.load(text).function("k")
    address = machine.alloc(4096)
    with pytest.raises(Race, match="thread 0 of block 0 wrote another value"):
        machine.launch(function, 40, 1024, 0, [address])


def test_a_block_reads_what_another_one_writes() -> None:
    text = kernel(
        "mov.u32 %r1, %ctaid.x;\nmad.wide.u32 %d1, %r1, 4, %d0;\nld.global.b32 %r2, [%d0];\nbar.sync 0;\n"
        "add.u32 %r2, %r2, 5;\nst.global.b32 [%d1], %r2;"
    )
    assert "read it, with no barrier" in str(fault(Race, text, "st.global", threads=1, blocks=4))


def test_threads_of_a_block_share_global_memory_across_a_barrier() -> None:
    body = (
        "mad.wide.u32 %d1, %r0, 4, %d0;\nst.global.b32 [%d1], %r0;\n{barrier}xor.b32 %r1, %r0, 1;\n"
        "mad.wide.u32 %d1, %r1, 4, %d0;\nld.global.b32 %r2, [%d1];"
    )
    run(kernel(body.format(barrier="bar.sync 0;\n")), [WORDS], 64)
    assert "thread 1 of block 0 wrote it" in str(fault(Race, kernel(body.format(barrier="")), "ld.global"))


def test_a_write_to_what_is_read_as_constant() -> None:
    text = kernel(
        "mad.wide.u32 %d1, %r0, 4, %d0;\nld.global.nc.b32 %r2, [%d1];\nbar.sync 0;\nst.global.b32 [%d1], 5000;"
    )
    fault(Race, text, "st.global")


def test_atomic_operations_do_not_race_with_each_other() -> None:
    run(kernel("red.global.add.u32 [%d0], %r0;"), [WORDS], 64, 3)
    text = kernel("red.global.add.u32 [%d0], %r0;\nld.global.b32 %r1, [%d0];")
    assert "an atomic operation" in str(fault(Race, text, "ld.global"))
    text = kernel("mad.wide.u32 %d1, %r0, 4, %d0;\nst.global.b32 [%d1], 99;\nred.global.add.u32 [%d0], %r0;")
    fault(Race, text, "red.global")


def test_blocks_synchronized_by_a_counter() -> None:
    """The last block to finish adds up what all have written: no race with a fence before the counter, one without."""
    body = """
	mov.u32 %r1, %ctaid.x;
	add.u64 %d4, %d0, 256;
	mad.wide.u32 %d1, %r1, 4, %d4;
	st.global.b32 [%d1], %r1;
	{fence}
	atom.global.add.u32 %r2, [%d0], 1;
	setp.ne.u32 %p1, %r2, 10003;
	@%p1 bra done;
	{fence}
	ld.global.v4.b32 {r4, r5, r6, r7}, [%d4];
	add.u32 %r4, %r4, %r7;
	st.global.b32 [%d0+128], %r4;
done:
""".replace("{r4, r5, r6, r7}", "{{%r4, %r5, %r6, %r7}}")
    start = np.full(256, 10000, np.uint32)
    assert run(kernel(body.format(fence="membar.gl;")), [start], 1, 4)[0][32] == 3
    with pytest.raises(Race, match="wrote it"):
        run(kernel(body.format(fence="")), [start], 1, 4)


def test_races_can_be_left_unchecked() -> None:
    machine = device()
    machine.check_races = False
    function = machine.load(kernel("st.global.b32 [%d0], %r0;")).function("k")
    address = machine.alloc(4)
    machine.launch(function, 1, 64, 0, [address])
    found = np.zeros(1, np.uint32)
    machine.to_host(found, address)
    assert found[0] == 63


# Asynchronous copies.

COPY = SHARED + "mad.wide.u32 %d1, %r0, 4, %d0;\ncp.async.ca.shared.global [%r1], [%d1], 4;\n"


def test_a_look_at_a_copy_before_it_is_waited_for() -> None:
    text = kernel(COPY + "cp.async.commit_group;\nld.shared.b32 %r4, [%r1];")
    assert "copies into it asynchronously and has not waited" in str(fault(Race, text, "ld.shared"))
    two = (
        COPY
        + "cp.async.commit_group;\ncp.async.commit_group;\ncp.async.wait_group {n};\nld.shared.b32 %r4, [%r1];"
    )
    run(kernel(two.format(n=1)), [WORDS], 64)
    fault(Race, kernel(two.format(n=2)), "ld.shared")


def test_a_look_at_anothers_copy_without_a_barrier() -> None:
    body = COPY + "cp.async.wait_all;\n{barrier}ld.shared.b32 %r4, [%r3];"
    assert "thread 1 of block 0 wrote it" in str(fault(Race, kernel(body.format(barrier="")), "ld.shared"))
    run(kernel(body.format(barrier="bar.sync 0;\n")), [WORDS], 64)
    early = COPY + "bar.sync 0;\ncp.async.wait_all;\nld.shared.b32 %r4, [%r3];"
    fault(Race, kernel(early), "ld.shared")


def test_a_copy_over_what_others_still_read() -> None:
    read = SHARED + "st.shared.b32 [%r1], %r0;\nbar.sync 0;\nld.shared.b32 %r4, [%r3];\n{barrier}"
    copy = "mad.wide.u32 %d1, %r0, 4, %d0;\ncp.async.ca.shared.global [%r1], [%d1], 4;\ncp.async.wait_all;"
    assert "read it" in str(fault(Race, kernel(read.format(barrier="") + copy), "cp.async.ca"))
    run(kernel(read.format(barrier="bar.sync 0;\n") + copy), [WORDS], 64)


def test_copies_have_bounds_and_alignment() -> None:
    wide = (
        SHARED
        + "mad.wide.u32 %d1, %r0, 4, %d0;\nand.b32 %r1, %r1, -16;\ncp.async.cg.shared.global [%r1], [%d1], 16;"
    )
    assert fault(Misaligned, kernel(wide), "cp.async").thread == 1
    far = COPY.replace("[%d1], 4", "[%d1+1020], 4")
    assert fault(OutOfBounds, kernel(far), "cp.async").thread == 1


# Barriers and warps.


def test_a_barrier_in_half_of_a_warp() -> None:
    text = kernel("setp.lt.u32 %p1, %r0, 16;\n@%p1 bra there;\nret;\nthere:\nbar.sync 0;")
    run(text, [WORDS], 64)  # the others have exited
    text = kernel("setp.lt.u32 %p1, %r0, 16;\n@%p1 bar.sync 0;\nadd.u32 %r1, %r0, 1;")
    assert "16 of the 32 threads of warp 0" in str(fault(DivergentBarrier, text, "bar.sync"))


def test_a_barrier_that_whole_warps_do_not_reach() -> None:
    text = kernel("setp.lt.u32 %p1, %r0, 32;\n@%p1 bar.sync 0;\nadd.u32 %r1, %r0, 1;")
    run(text.replace("bar.sync 0;", "bar.sync 0, 32;"), [WORDS], 64)
    text = kernel(
        "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra there;\nbar.sync 1;\nbra on;\nthere:\nbar.sync 2;\non:"
    )
    found = str(fault(DivergentBarrier, text, "bar.sync 1"))
    assert "32 threads have arrived at barrier 1, which waits for 64; others wait at PTX line" in found


def test_warps_may_wait_at_different_places() -> None:
    text = kernel(
        "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra there;\nbar.sync 0;\nmov.b32 %r1, 1;\nbra on;\nthere:\nbar.sync 0;\n"
        "mov.b32 %r1, 2;\non:\nmad.wide.u32 %d1, %r0, 4, %d0;\nst.global.b32 [%d1], %r1;"
    )
    found = run(text, [WORDS], 64)[0]
    assert (found[:32] == 2).all() and (found[32:64] == 1).all()


def test_a_shuffle_without_all_its_members() -> None:
    text = kernel("setp.lt.u32 %p1, %r0, 16;\n@%p1 shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;")
    assert "names lanes 16, 17" in str(fault(DivergentBarrier, text, "shfl.sync"))
    run(text.replace("31, -1;", "31, 0xffff;"), [WORDS], 64)
    text = kernel("shfl.sync.bfly.b32 %r1, %r0, 16, 31, -1;")
    assert "reads lane 16 of the warp" in str(fault(DivergentBarrier, text, "shfl.sync", threads=16))


def test_trap() -> None:
    assert fault(Trapped, kernel("setp.eq.u32 %p1, %r0, 5;\n@%p1 trap;"), "trap").thread == 5


# What is refused before anything runs.


def test_an_unknown_instruction_is_named() -> None:
    text = kernel("frobnicate.sync.u32 %r1, %r0;")
    with pytest.raises(
        PtxError, match=r"PTX line 13: the simulator does not know the instruction 'frobnicate.sync.u32'"
    ):
        device().load(text)
    with pytest.raises(PtxError, match=r"'add.loud.u32': unexpected .loud"):
        device().load(kernel("add.loud.u32 %r1, %r0, %r0;"))
    with pytest.raises(PtxError, match="unknown label nowhere"):
        device().load(kernel("bra nowhere;"))
    with pytest.raises(PtxError, match="the special register %spin"):
        device().load(kernel("mov.u32 %r1, %spin;"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}.visible .entry k() {{ mov.u32 %r1, 1;", "is not closed"),
        (f"{HEAD}.section .debug_str {{ .b8 1,", "the text ends"),
        (f"{HEAD}.visible .entry k() {{ add.u32 , ; }}", "expected an operand"),
        (f"{HEAD}.visible .entry k() {{ ?; }}", r"unexpected character '\?'"),
        (f"{HEAD}.nonsense", "unknown directive '.nonsense'"),
        (
            f"{HEAD}.visible .entry k() {{ .reg .b32 %r<2>; ld.global.v2.b32 %r1, [%r0]; }}",
            "number of results",
        ),
    ],
)
def test_text_that_is_no_ptx(text: str, message: str) -> None:
    with pytest.raises(PtxError, match=message):
        device().load(text)


def test_launches_beyond_the_limits() -> None:
    machine = device()
    module = machine.load(kernel("mov.b32 %r1, 0;"))
    function = module.function("k")
    with pytest.raises(LaunchError, match="takes 1"):
        machine.launch(function, 1, 1, 0, [])
    with pytest.raises(LaunchError, match="1025"):
        machine.launch(function, 1, 1025, 0, [0])
    with pytest.raises(LaunchError, match=r"\(0, 1, 1\) blocks"):
        machine.launch(function, 0, 1, 0, [0])
    with pytest.raises(LaunchError, match="at most 232448"):
        machine.launch(function, 1, 1, (227 << 10) + 1, [0])
    with pytest.raises(PtxError, match="at most 49152 may be static"):
        machine.load(kernel("\t.shared .align 4 .b8 s[49153];"))
    with pytest.raises(LaunchError, match="maxntid allows 32"):
        limited = kernel("mov.b32 %r1, 0;").replace(")\n{", ")\n.maxntid 32\n{")
        machine.launch(machine.load(limited).function("k"), 1, 64, 0, [0])
    with pytest.raises(KeyError, match="no kernel 'other'; it has k"):
        module.function("other")


def test_memory_ends() -> None:
    machine = device()
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        machine.alloc(65 << 20)
    addresses = [machine.alloc(15 << 20) for _ in range(4)]
    assert all(a % 256 == 0 for a in addresses)
    machine.free(addresses[1])
    assert machine.alloc(14 << 20) not in addresses[2:]
