"""wgmma.mma_async under the PTX simulator: operands laid out in shared memory piece by piece, by the PTX ISA's "Shared
Memory Matrix Layout", independently of the simulator's tables."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from ptx_texts import kernel, run

from vitrify.runtime.ptx_simulator.errors import Race

DTYPES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16), "tf32": np.dtype(np.float32)}
COLUMNS = 16


def laid_out(matrix: np.ndarray, swizzle: int) -> tuple[np.ndarray, int]:
    """4096 bytes with the matrix (rows of 32 bytes), and its descriptor but for the address."""
    memory = np.zeros(4096, np.uint8)
    data = np.ascontiguousarray(matrix).view(np.uint8)
    leading, stride = (128, 256) if swizzle == 0 else (0, 8 * swizzle)
    for row in range(len(data)):
        for piece in range(2):
            if swizzle == 0:
                at = row // 8 * stride + piece * leading + row % 8 * 16
            else:
                at = row // 8 * stride + row % 8 * swizzle + piece * 16
                line, unit = at // 128, at // 16 % 8
                at = line * 128 + (unit ^ line % 8 % (swizzle // 16)) * 16 + at % 16
            memory[at : at + 16] = data[row, 16 * piece : 16 * piece + 16]
    mode = {0: 0, 128: 1, 64: 2, 32: 3}[swizzle]
    return memory, leading >> 4 << 16 | stride >> 4 << 32 | mode << 62


def product(
    name: str, a_words: np.ndarray, b_words: np.ndarray, a_text: str, setup: str, barrier: str = "bar.sync 0;"
) -> np.ndarray:
    depth = 8 if name == "tf32" else 16
    d = [f"%r{20 + i}" for i in range(COLUMNS // 2)]
    copies = ""
    for number, size in ((0, 8192), (1, 4096)):
        for part in range(size // 2048):
            copies += f"mad.wide.u32 %d10, %r0, 16, %d{number};\n"
            copies += f"ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%d10+{2048 * part}];\n"
            copies += f"st.shared.v4.b32 [%r{1 + number}+{2048 * part}], {{%r4, %r5, %r6, %r7}};\n"
    body = f"""
	.shared .align 1024 .b8 a[8192];
	.shared .align 1024 .b8 b[4096];
	mov.b32 %r10, a;
	mov.b32 %r11, b;
	mad.lo.u32 %r1, %r0, 16, %r10;
	mad.lo.u32 %r2, %r0, 16, %r11;
	{copies}
	{setup}
	{"".join(f"mov.b32 {x}, 0f40000000;" for x in d)}
	setp.eq.u32 %p1, 0, 0;
	fence.proxy.async.shared::cta;
	{barrier}
	wgmma.fence.sync.aligned;
	wgmma.mma_async.sync.aligned.m64n{COLUMNS}k{depth}.f32.{name}.{name} {{{", ".join(d)}}}, {
        a_text
    }, %d21, %p1, 1, -1{"" if name == "tf32" else ", 0" if a_text.startswith("{") else ", 0, 0"};
	wgmma.commit_group.sync.aligned;
	wgmma.wait_group.sync.aligned 0;
	mad.wide.u32 %d10, %r0, {2 * COLUMNS}, %d2;
	{"".join(f"st.global.b32 [%d10+{4 * i}], {x};" for i, x in enumerate(d))}
"""
    found = run(kernel(body, 3), [a_words, b_words, np.zeros((128, COLUMNS // 2), np.float32)], 128)[2]
    result = np.empty((64, COLUMNS), np.float32)
    for thread in range(128):
        for i in range(COLUMNS // 2):
            row = thread // 32 * 16 + thread % 32 // 4 + (8 if i % 4 >= 2 else 0)
            result[row, i // 4 * 8 + thread % 4 * 2 + i % 2] = found[thread, i]
    return result


def descriptor_text(register: str, base: str, descriptor: int) -> str:
    shifted = f"cvt.u64.u32 {register}, {base};\nshr.u64 {register}, {register}, 4;\n"
    return f"{shifted}or.b64 {register}, {register}, {descriptor};\n"


def matrices(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    depth = 8 if name == "tf32" else 16
    a, b = (random.integers(-8, 8, (n, depth)).astype(DTYPES[name]) for n in (64, COLUMNS))
    return a, b, 2 - a.astype(np.float64) @ b.astype(np.float64).T


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_products_from_shared_memory(name: str, swizzle: int) -> None:
    a, b, expected = matrices(name)
    memory = np.zeros(8192, np.uint8)
    if swizzle == 128:  # 64 rows of 128 bytes
        halves = [laid_out(part, swizzle) for part in (a[:32], a[32:])]
        memory[:4096], memory[4096:] = halves[0][0], halves[1][0]
        a_descriptor = halves[0][1]
    else:
        memory[:4096], a_descriptor = laid_out(a, swizzle)
    b_memory, b_descriptor = laid_out(b, swizzle)
    setup = descriptor_text("%d20", "%r10", a_descriptor) + descriptor_text("%d21", "%r11", b_descriptor)
    np.testing.assert_array_equal(product(name, memory, b_memory, "%d20", setup), expected)


def test_a_product_from_registers() -> None:
    a, b, expected = matrices("bf16")
    b_memory, b_descriptor = laid_out(b, 0)
    held = np.zeros((128, 4, 2), DTYPES["bf16"])
    for thread in range(128):
        for i in range(8):
            row = thread // 32 * 16 + thread % 32 // 4 + (0 if i < 2 or 4 <= i < 6 else 8)
            held[thread, i // 2, i % 2] = a[row, thread % 4 * 2 + i % 2 + (8 if i >= 4 else 0)]
    memory = np.zeros(8192, np.uint8)
    memory[:2048] = held.view(np.uint8).reshape(-1)
    setup = "mad.wide.u32 %d10, %r0, 16, %d0;\nld.global.v4.b32 {%r40, %r41, %r42, %r43}, [%d10];\n"
    setup += descriptor_text("%d21", "%r11", b_descriptor)
    np.testing.assert_array_equal(
        product("bf16", memory, b_memory, "{%r40, %r41, %r42, %r43}", setup), expected
    )


def test_operands_need_a_barrier() -> None:
    a, b, _ = matrices("f16")
    memory = np.ones(8192, np.uint8)
    setup = descriptor_text("%d20", "%r10", laid_out(a, 0)[1]) + descriptor_text(
        "%d21", "%r11", laid_out(b, 0)[1]
    )
    with pytest.raises(Race, match="wrote it"):
        product("f16", memory, laid_out(b, 0)[0], "%d20", setup, barrier="")
