"""mbarrier and cp.async.bulk under the PTX simulator: producers and consumers in different warps."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_texts import kernel, run, same

from vitrify.runtime.ptx_simulator.errors import DivergentBarrier, KernelFault, Race

SETUP = """
	.shared .align 16 .b8 data[512];
	.shared .align 8 .b64 full;
	.shared .align 8 .b64 empty;
	mov.b32 %r1, data;
	mov.b32 %r2, full;
	mov.b32 %r3, empty;
	setp.eq.u32 %p1, %r0, 0;
	@!%p1 bra ready;
	mbarrier.init.shared::cta.b64 [%r2], 1;
	mbarrier.init.shared::cta.b64 [%r3], 32;
ready:
	bar.sync 0;
"""
LOAD = """
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 128;
	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], 128, [%r2];
"""
WAIT = """
poll:
	mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0;
	@!%p2 bra poll;
"""
USE = """
	shl.b32 %r4, %r0, 2;
	and.b32 %r4, %r4, 127;
	add.u32 %r4, %r1, %r4;
	ld.shared.b32 %r5, [%r4];
	mad.wide.u32 %d2, %r0, 4, %d1;
	st.global.b32 [%d2], %r5;
"""


def launch(body: str, threads: int = 32) -> np.ndarray:
    source = np.arange(100, 228, dtype=np.uint32)
    return run(kernel(body, 2), [source, np.zeros(128, np.uint32)], threads)[1]


def test_a_bulk_copy_arrives_at_its_barrier() -> None:
    body = SETUP + "@!%p1 bra poll;\n" + LOAD + WAIT + USE
    same(launch(body)[:32], np.arange(100, 132, dtype=np.uint32))


def test_a_look_before_the_wait() -> None:
    body = SETUP + "@!%p1 bra use;\n" + LOAD + "use:\n" + USE
    with pytest.raises(KernelFault) as caught:
        launch(body)
    assert type(caught.value) is Race and "asynchronously" in str(caught.value)


def test_a_phase_that_never_ends() -> None:
    with pytest.raises(DivergentBarrier, match="never ends"):
        launch(SETUP + WAIT)
    with pytest.raises(DivergentBarrier, match="has not been initialised"):
        launch(SETUP.replace("mbarrier.init.shared::cta.b64 [%r2], 1;", "") + WAIT)
    with pytest.raises(DivergentBarrier, match="2 arrivals at an mbarrier that waits for 1"):
        launch(SETUP + "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r2], 2;")


def test_warps_that_produce_and_consume() -> None:
    """Warp 1 loads four pieces through one buffer, warp 0 stores each twice as large."""
    body = (
        SETUP
        + """
	mov.b32 %r6, 0;
	setp.ge.u32 %p3, %r0, 32;
	@%p3 bra producer;
consumer:
	and.b32 %r7, %r6, 1;
c_poll:
	mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], %r7;
	@!%p2 bra c_poll;
	mad.lo.u32 %r4, %r0, 4, %r1;
	ld.shared.b32 %r5, [%r4];
	mbarrier.arrive.shared::cta.b64 _, [%r3];
	add.u32 %r5, %r5, %r5;
	mad.lo.u32 %r8, %r6, 32, %r0;
	mad.wide.u32 %d2, %r8, 4, %d1;
	st.global.b32 [%d2], %r5;
	add.u32 %r6, %r6, 1;
	setp.lt.u32 %p4, %r6, 4;
	@%p4 bra consumer;
	bra done;
producer:
	setp.ne.u32 %p5, %r0, 32;
	@%p5 bra done;
again:
	setp.eq.u32 %p6, %r6, 0;
	@%p6 bra load;
	add.u32 %r7, %r6, 1;
	and.b32 %r7, %r7, 1;
p_poll:
	mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], %r7;
	@!%p2 bra p_poll;
load:
	mul.wide.u32 %d3, %r6, 128;
	add.u64 %d3, %d0, %d3;
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 128;
	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d3], 128, [%r2];
	add.u32 %r6, %r6, 1;
	setp.lt.u32 %p4, %r6, 4;
	@%p4 bra again;
done:
"""
    )
    same(launch(body, 64), 2 * np.arange(100, 228, dtype=np.uint32))


def test_waiting_for_a_state() -> None:
    body = (
        SETUP
        + """
	mbarrier.arrive.shared::cta.b64 %d5, [%r3];
wait:
	mbarrier.test_wait.shared::cta.b64 %p2, [%r3], %d5;
	@!%p2 bra wait;
	mad.wide.u32 %d2, %r0, 4, %d1;
	st.global.b32 [%d2], %r0;
"""
    )
    same(launch(body)[:32], np.arange(32, dtype=np.uint32))


def test_bulk_copies_to_global_memory() -> None:
    body = (
        SETUP
        + """
	mad.lo.u32 %r4, %r0, 4, %r1;
	st.shared.b32 [%r4], %r0;
	fence.proxy.async.shared::cta;
	bar.sync 0;
	@!%p1 bra done;
	cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r1], 128;
	cp.async.bulk.commit_group;
	cp.async.bulk.wait_group 0;
done:
"""
    )
    same(launch(body)[:32], np.arange(32, dtype=np.uint32))
