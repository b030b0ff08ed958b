"""mma.sync, ldmatrix, stmatrix and cp.async under the PTX simulator. Fragments are laid out here element by element, by
the formulas of the PTX ISA's "Matrix Fragments" sections, independently of the simulator's tables."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from ptx_texts import kernel, run, same

BF16 = np.dtype(ml_dtypes.bfloat16)
Element = tuple[int, int]


def a_half(lane: int, i: int, k: int) -> Element:
    """m16n8k16 (8 elements) and m16n8k8 (4) of .f16 and .bf16."""
    if k == 16:
        row = lane // 4 + (0 if i < 2 or 4 <= i < 6 else 8)
        return row, lane % 4 * 2 + (i & 1) + (8 if i >= 4 else 0)
    return lane // 4 + (0 if i < 2 else 8), lane % 4 * 2 + (i & 1)


def b_half(lane: int, i: int, k: int) -> Element:
    return lane % 4 * 2 + (i & 1) + (8 if i >= 2 else 0), lane // 4


def a_tf32(lane: int, i: int, k: int) -> Element:
    if k == 8:
        return lane // 4 + (0 if i in (0, 2) else 8), lane % 4 + (0 if i < 2 else 4)
    return lane // 4 + 8 * i, lane % 4


def b_tf32(lane: int, i: int, k: int) -> Element:
    return lane % 4 + 4 * i, lane // 4


def a_byte(lane: int, i: int, k: int) -> Element:
    row = lane // 4 + (0 if i < 4 or 8 <= i < 12 else 8)
    return row, lane % 4 * 4 + (i & 3) + (16 if i >= 8 else 0)


def b_byte(lane: int, i: int, k: int) -> Element:
    return lane % 4 * 4 + (i & 3) + (16 if i >= 4 else 0), lane // 4


def c_pair(lane: int, i: int, k: int) -> Element:
    return lane // 4 + (0 if i < 2 else 8), lane % 4 * 2 + (i & 1)


def registers(matrix: np.ndarray, place, k: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """[lanes, registers] of 32 bits."""
    count = matrix.size // 32
    picked = [[matrix[place(lane, i, k)] for i in range(count)] for lane in range(32)]
    return np.array(picked, matrix.dtype).view(np.uint32).reshape(32, -1)


CASES = {
    "m16n8k16.row.col.f32.f16.f16.f32": (16, np.dtype("f2"), np.dtype("f4"), a_half, b_half),
    "m16n8k8.row.col.f32.f16.f16.f32": (8, np.dtype("f2"), np.dtype("f4"), a_half, b_half),
    "m16n8k16.row.col.f16.f16.f16.f16": (16, np.dtype("f2"), np.dtype("f2"), a_half, b_half),
    "m16n8k16.row.col.f32.bf16.bf16.f32": (16, BF16, np.dtype("f4"), a_half, b_half),
    "m16n8k8.row.col.f32.bf16.bf16.f32": (8, BF16, np.dtype("f4"), a_half, b_half),
    "m16n8k8.row.col.f32.tf32.tf32.f32": (8, np.dtype("f4"), np.dtype("f4"), a_tf32, b_tf32),
    "m16n8k4.row.col.f32.tf32.tf32.f32": (4, np.dtype("f4"), np.dtype("f4"), a_tf32, b_tf32),
    "m16n8k16.row.col.s32.s8.s8.s32": (16, np.dtype("i1"), np.dtype("i4"), a_byte, b_byte),
    "m16n8k32.row.col.s32.u8.s8.s32": (32, np.dtype("i1"), np.dtype("i4"), a_byte, b_byte),
}


@pytest.mark.parametrize("shape", CASES)
def test_matrix_products(shape: str) -> None:
    k, element, result, a_place, b_place = CASES[shape]
    random = np.random.default_rng(0)
    if element.kind == "i":
        a, b = (random.integers(-128, 128, s).astype(element) for s in ((16, k), (k, 8)))
        c = random.integers(-1000, 1000, (16, 8)).astype(result)
    else:
        a, b = (random.standard_normal(s).astype(element) for s in ((16, k), (k, 8)))
        c = random.standard_normal((16, 8)).astype(result)
    if "u8" in shape:
        a = a.view(np.uint8)
    parts = [registers(a, a_place, k), registers(b, b_place, k), registers(c, c_pair, k)]
    body, names, at = "", [], 10
    for number, part in enumerate(parts):
        count = part.shape[1]
        body += f"mad.wide.u32 %d9, %r0, {4 * count}, %d{number};\n"
        for i in range(count):
            body += f"ld.global.b32 %r{at + i}, [%d9+{4 * i}];\n"
        names.append(", ".join(f"%r{at + i}" for i in range(count)))
        at += count
    count = parts[2].shape[1]
    d = [f"%r{at + i}" for i in range(count)]
    body += f"mma.sync.aligned.{shape} {{{', '.join(d)}}}, {', '.join('{' + n + '}' for n in names)};\n"
    body += f"mad.wide.u32 %d9, %r0, {4 * count}, %d3;\n"
    body += "".join(f"st.global.b32 [%d9+{4 * i}], {name};\n" for i, name in enumerate(d))
    found = run(kernel(body, 4), [*parts, np.zeros_like(parts[2])], 32)[3]
    wide = np.int64 if element.kind == "i" else np.float64
    left, right = a.astype(wide), b.astype(wide)
    if "tf32" in shape:
        left, right = ((x.view(np.uint32) & 0xFFFFE000).view(np.float32).astype(wide) for x in (a, b))
    expected = (left @ right + c.astype(wide)).astype(result)
    same(found, registers(expected, c_pair, k))


def test_products_of_several_warps_and_blocks() -> None:
    """An identity in B copies A's first eight columns."""
    body = """
	and.b32 %r2, %r0, 31;
	shr.u32 %r4, %r2, 2;
	and.b32 %r5, %r2, 3;
	mov.u32 %r6, %ctaid.x;
	mad.lo.u32 %r7, %r6, 64, %r0;
	cvt.rn.f32.u32 %r8, %r7;
	mov.b32 %r9, 0;
	setp.eq.u32 %p1, %r4, %r5;
	selp.b32 %r10, 0f3F800000, 0, %p1;
	add.u32 %r11, %r5, 4;
	setp.eq.u32 %p2, %r4, %r11;
	selp.b32 %r12, 0f3F800000, 0, %p2;
	mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%r20, %r21, %r22, %r23}, {%r8, %r9, %r9, %r9}, {%r10, %r12},
		{%r9, %r9, %r9, %r9};
	mad.wide.u32 %d1, %r7, 4, %d0;
	st.global.b32 [%d1], %r20;
"""
    found = run(kernel(body), [np.zeros(128, np.float32)], 64, 2)[0].reshape(4, 8, 4)
    warps = np.arange(128, dtype=np.float32).reshape(4, 8, 4)
    # Lane (g, t) holds A[g][t]; C's first register of lane (g, t) is column 2t, which is zero from column 4 on.
    np.testing.assert_array_equal(found[:, :, :2], warps[:, :, ::2])
    assert (found[:, :, 2:] == 0).all()


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix_and_stmatrix(count: int, transposed: bool) -> None:
    trans = ".trans" if transposed else ""
    listed = ", ".join(f"%r{20 + i}" for i in range(count))
    stores = "".join(f"st.global.b32 [%d3+{4 * i}], %r{20 + i};\n" for i in range(count))
    body = f"""
	.shared .align 16 .b8 s[512];
	.shared .align 16 .b8 z[512];
	mov.b32 %r2, s;
	mov.b32 %r8, z;
	mad.lo.u32 %r3, %r0, 16, %r2;
	mad.lo.u32 %r9, %r0, 16, %r8;
	mad.wide.u32 %d2, %r0, 16, %d0;
	ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%d2];
	st.shared.v4.b32 [%r3], {{%r4, %r5, %r6, %r7}};
	st.shared.v4.b32 [%r9], {{%r4, %r5, %r6, %r7}};
	bar.sync 0;
	ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{listed}}}, [%r3];
	mad.wide.u32 %d3, %r0, {4 * count}, %d1;
	{stores}
	bar.sync 0;
	stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r9], {{{listed}}};
	bar.sync 0;
	ld.shared.v4.b32 {{%r4, %r5, %r6, %r7}}, [%r9];
	st.global.v4.b32 [%d2], {{%r4, %r5, %r6, %r7}};
"""
    rows = np.random.default_rng(1).integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
    back, found = run(kernel(body, 2), [rows, np.zeros((32, count), np.uint32)], 32)
    for lane in range(32):
        for matrix in range(count):
            held = rows[matrix].T if transposed else rows[matrix]
            low, high = int(held[lane // 4, lane % 4 * 2]), int(held[lane // 4, lane % 4 * 2 + 1])
            assert found[lane, matrix] == low | high << 16
    np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_asynchronous_copies_in_stages(size: int) -> None:
    """Three stages in flight; the copy of a tail is filled with zeros."""
    words = size // 4
    body = f"""
	.shared .align 16 .b8 s[6144];
	mov.b32 %r2, s;
	mad.lo.u32 %r2, %r0, {size}, %r2;
	mov.b32 %r3, 0;
fill:
	mad.lo.u32 %r4, %r3, 32, %r0;
	mad.wide.u32 %d2, %r4, {size}, %d0;
	mad.lo.u32 %r5, %r3, {32 * size}, %r2;
	setp.lt.u32 %p1, %r3, 2;
	selp.b32 %r6, {size}, {size - 3}, %p1;
	cp.async.ca.shared.global [%r5], [%d2], {size}, %r6;
	cp.async.commit_group;
	add.u32 %r3, %r3, 1;
	setp.lt.u32 %p1, %r3, 3;
	@%p1 bra fill;
	mov.b32 %r7, 0;
"""
    for stage in range(3):
        body += f"cp.async.wait_group {2 - stage};\n"
        for word in range(words):
            body += f"ld.shared.b32 %r8, [%r2+{stage * 32 * size + 4 * word}];\nadd.u32 %r7, %r7, %r8;\n"
    body += "mad.wide.u32 %d2, %r0, 4, %d1;\nst.global.b32 [%d2], %r7;"
    data = np.random.default_rng(2).integers(0, 256, (3, 32, size)).astype(np.uint8)
    found = run(kernel(body, 2), [data, np.zeros(32, np.uint32)], 32)[1]
    data[2, :, size - 3 :] = 0
    same(found, data.view(np.uint32).sum((0, 2), dtype=np.uint32))
