"""A pointwise kernel as LLVM writes it, end to end, at NumPy's speed."""

from __future__ import annotations

import numpy as np

from vitrify.runtime.ptx_simulator.device import SimulatorDevice

# y = 2x + 1 by four elements a thread, from LLVM's NVPTX backend.
SCALE = """
.version 8.0
.target sm_90a
.address_size 64

	// .globl	k
.visible .entry k(
	.param .u64 .ptr .global .align 16 k_param_0,
	.param .u64 .ptr .global .align 16 k_param_1,
	.param .u64 k_param_2
)
{
	.reg .pred 	%p<2>;
	.reg .b32 	%r<17>;
	.reg .b64 	%rd<8>;

	ld.param.b64 	%rd4, [k_param_2];
	mov.u32 	%r1, %tid.x;
	mov.u32 	%r2, %ctaid.x;
	shl.b32 	%r3, %r2, 8;
	or.b32 	%r4, %r3, %r1;
	cvt.u64.u32 	%rd1, %r4;
	setp.le.s64 	%p1, %rd4, %rd1;
	@%p1 bra 	$L__BB0_2;
	ld.param.b64 	%rd3, [k_param_1];
	ld.param.b64 	%rd2, [k_param_0];
	shl.b64 	%rd5, %rd1, 4;
	add.s64 	%rd6, %rd2, %rd5;
	ld.global.v4.b32 	{%r5, %r6, %r7, %r8}, [%rd6];
	fma.rn.f32 	%r9, %r5, 0f40000000, 0f3F800000;
	fma.rn.f32 	%r10, %r6, 0f40000000, 0f3F800000;
	fma.rn.f32 	%r11, %r7, 0f40000000, 0f3F800000;
	fma.rn.f32 	%r12, %r8, 0f40000000, 0f3F800000;
	add.s64 	%rd7, %rd3, %rd5;
	st.global.v4.b32 	[%rd7], {%r9, %r10, %r11, %r12};
$L__BB0_2:
	ret;

}
"""


def test_a_pointwise_kernel_computes_its_elements_and_no_others() -> None:
    device = SimulatorDevice(64 << 20)
    function = device.load(SCALE).function("k")
    x = np.random.default_rng(0).standard_normal(1 << 14).astype(np.float32)
    source, target = device.alloc(x.nbytes), device.alloc(x.nbytes)
    device.to_device(source, x)
    device.launch(function, x.size // 1024, 256, 0, [source, target, x.size // 4 - 3])
    y = np.empty_like(x)
    device.to_host(y, target)
    np.testing.assert_array_equal(y[:-12], (2 * x.astype(np.float64) + 1).astype(np.float32)[:-12])
    assert np.isnan(y[-12:]).all()
