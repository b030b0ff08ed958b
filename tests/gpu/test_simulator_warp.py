"""Warp-wide and atomic instructions of the PTX simulator, against Python loops over the threads."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from ptx_texts import integers, kernel, run, same

THREADS = 96


def per_thread(code: str, *inputs: np.ndarray, threads: int = THREADS) -> np.ndarray:
    """Run code with each thread's words of the inputs in %r20, %r21, ...; its %r19 is the result."""
    loads = "".join(
        f"mad.wide.u32 %d30, %r0, 4, %d{k};\nld.global.b32 %r{20 + k}, [%d30];\n" for k in range(len(inputs))
    )
    store = f"\nmad.wide.u32 %d30, %r0, 4, %d{len(inputs)};\nst.global.b32 [%d30], %r19;"
    arrays = [*(x.astype(np.uint32) for x in inputs), np.zeros(threads, np.uint32)]
    return run(kernel(loads + code + store, len(arrays)), arrays, threads)[-1]


def shuffled(mode: str, values: np.ndarray, b: int, c: int) -> tuple[list[int], list[bool]]:
    """`shfl` by the pseudocode of the PTX ISA."""
    results, inside = [], []
    for thread in range(len(values)):
        lane, base = thread & 31, thread & ~31
        segment, clamp, step = c >> 8 & 31, c & 31, b & 31
        highest = lane & segment | clamp & ~segment
        lowest = lane & segment
        j = {"up": lane - step, "down": lane + step, "bfly": lane ^ step, "idx": lowest | step & ~segment}[
            mode
        ]
        ok = j >= highest if mode == "up" else j <= highest
        results.append(int(values[base + (j if ok else lane)]))
        inside.append(ok)
    return results, inside


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode: str) -> None:
    values = integers("u4", THREADS, 1)
    for b in (0, 1, 5, 16, 31):
        for c in (31, 0, 0x181F, 0x1807, 0x1000, 0x101F):
            expected, inside = shuffled(mode, values, b, c)
            found = per_thread(f"shfl.sync.{mode}.b32 %r19, %r20, {b}, {c}, -1;", values)
            same(found, np.array(expected, np.uint32))
            code = f"mov.b32 %r40, {b};\nshfl.sync.{mode}.b32 %r41|%p1, %r20, %r40, {c}, -1;\nselp.b32 %r19, 1, 0, %p1;"
            same(per_thread(code, values), np.array(inside, np.uint32))


def test_shuffles_by_lane_numbers_of_each_thread() -> None:
    values, lanes = integers("u4", THREADS, 2), integers("u4", THREADS, 3) % 32
    found = per_thread("shfl.sync.idx.b32 %r19, %r20, %r21, 31, 0xffffffff;", values, lanes)
    same(found, values.reshape(-1, 32)[np.arange(THREADS) // 32, lanes])


def test_votes() -> None:
    x = np.random.default_rng(0).integers(0, 2, THREADS)
    x[32:64], x[64:] = 1, 0
    rows = x.reshape(-1, 32)
    bits = [int(sum(int(v) << k for k, v in enumerate(row))) for row in rows]
    set_p = "setp.ne.u32 %p1, %r20, 0;\n"
    same(per_thread(set_p + "vote.sync.ballot.b32 %r19, %p1, -1;", x), np.repeat(bits, 32).astype(np.uint32))
    same(
        per_thread(set_p + "vote.sync.ballot.b32 %r19, !%p1, -1;", x),
        np.repeat([b ^ 0xFFFFFFFF for b in bits], 32).astype(np.uint32),
    )
    for mode, expected in (("all", rows.all(1)), ("any", rows.any(1)), ("uni", rows.all(1) | ~rows.any(1))):
        found = per_thread(set_p + f"vote.sync.{mode}.pred %p2, %p1, -1;\nselp.b32 %r19, 1, 0, %p2;", x)
        same(found, np.repeat(expected, 32).astype(np.uint32))


def test_votes_of_some_lanes() -> None:
    x = np.arange(32)
    code = "setp.lt.u32 %p3, %r0, 16;\n@!%p3 bra other;\n"
    code += "setp.ne.u32 %p1, %r20, 3;\nvote.sync.ballot.b32 %r19, %p1, 0xffff;\nbra done;\n"
    code += "other:\nactivemask.b32 %r19;\ndone:"
    same(
        per_thread(code, x, threads=32), np.r_[np.full(16, 0xFFF7), np.full(16, 0xFFFF0000)].astype(np.uint32)
    )


def test_matches() -> None:
    x = integers("u4", THREADS, 4) % 3
    x[32:64] = 5
    rows = x.reshape(-1, 32)
    expected = [sum(1 << k for k in range(32) if row[k] == v) for row in rows for v in row]
    same(per_thread("match.any.sync.b32 %r19, %r20, -1;", x), np.array(expected, np.uint32))
    found = per_thread("match.all.sync.b32 %r40|%p1, %r20, -1;\nselp.b32 %r19, %r40, 9, %p1;", x)
    same(found, np.repeat(np.array([9, 0xFFFFFFFF, 9], np.uint32), 32))


@pytest.mark.parametrize("mode", ["add", "min", "max", "and", "or", "xor"])
def test_warp_reductions(mode: str) -> None:
    x = integers("u4", THREADS, 5)
    reduce: Callable[..., np.ndarray] = {
        "add": np.add.reduce, "min": np.minimum.reduce, "max": np.maximum.reduce,
        "and": np.bitwise_and.reduce, "or": np.bitwise_or.reduce, "xor": np.bitwise_xor.reduce,
    }[mode]  # fmt: skip
    for kind in ("b32",) if mode in ("and", "or", "xor") else ("u32", "s32"):
        rows = x.view("i4" if kind == "s32" else "u4").reshape(-1, 32)
        expected = np.repeat(reduce(rows, axis=1).astype(rows.dtype), 32).view(np.uint32)
        same(per_thread(f"redux.sync.{mode}.{kind} %r19, %r20, -1;", x), expected)


def test_the_elected_lane() -> None:
    found = per_thread("elect.sync _|%p1, -1;\nselp.b32 %r19, 1, 0, %p1;", np.zeros(THREADS))
    same(found, (np.arange(THREADS) % 32 == 0).astype(np.uint32))


# Atomic operations.


def in_turn(
    update: Callable[[int, int], int], slots: np.ndarray, values: np.ndarray, size: int
) -> tuple[list[int], list[int]]:
    memory, before = [100] * size, []
    for slot, value in zip(slots, values, strict=True):
        before.append(memory[slot])
        memory[slot] = update(memory[slot], int(value)) & 0xFFFFFFFF
    return memory, before


UPDATES: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "min": min,
    "max": max,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "exch": lambda a, b: b,
    "inc": lambda a, b: 0 if a >= b else a + 1,
    "dec": lambda a, b: b if a == 0 or a > b else a - 1,
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("slots", [1, 5, 64])
def test_atomic_operations_in_the_order_of_threads(name: str, slots: int) -> None:
    kind = "b32" if name in ("and", "or", "xor", "exch") else "u32"
    where = (integers("u4", 4 * THREADS, 6) % slots).astype(np.uint32)
    values = integers("u4", 4 * THREADS, 7)
    body = f"""
	mov.u32 %r1, %ctaid.x;
	mad.lo.u32 %r1, %r1, {THREADS}, %r0;
	mad.wide.u32 %d4, %r1, 4, %d0;
	ld.global.b32 %r2, [%d4];
	mad.wide.u32 %d4, %r1, 4, %d1;
	ld.global.b32 %r3, [%d4];
	mad.wide.u32 %d5, %r2, 4, %d2;
	atom.relaxed.gpu.global.{name}.{kind} %r4, [%d5], %r3;
	mad.wide.u32 %d4, %r1, 4, %d3;
	st.global.b32 [%d4], %r4;
"""
    arrays = [where, values, np.full(slots, 100, np.uint32), np.zeros(4 * THREADS, np.uint32)]
    found = run(kernel(body, 4), arrays, THREADS, 4)
    memory, before = in_turn(UPDATES[name], where, values, slots)
    same(found[2], np.array(memory, np.uint32))
    same(found[3], np.array(before, np.uint32))


def test_compare_and_swap() -> None:
    code = "mov.b32 %r19, 0;\natom.global.cas.b32 %r40, [%d0], 0, %r20;\n"
    arrays = [np.zeros(1, np.uint32), np.zeros(64, np.uint32)]
    body = "add.u32 %r20, %r0, 5;\n" + code + "mad.wide.u32 %d2, %r0, 4, %d1;\nst.global.b32 [%d2], %r40;"
    found = run(kernel(body, 2), arrays, 64)
    assert found[0][0] == 5 and found[1][0] == 0 and (found[1][1:] == 5).all()


@pytest.mark.parametrize("kind", ["f32", "f64", "bf16"])
def test_atomic_sums_of_floats(kind: str) -> None:
    dtype = {"f32": np.dtype("f4"), "f64": np.dtype("f8"), "bf16": np.dtype(ml_dtypes.bfloat16)}[kind]
    letter, bits = {"f32": ("r", 32), "f64": ("d", 64), "bf16": ("h", 16)}[kind]
    values = np.random.default_rng(1).standard_normal(200).astype(dtype)
    body = f"mad.wide.u32 %d2, %r0, {dtype.itemsize}, %d0;\nld.global.b{bits} %{letter}9, [%d2];\n"
    noftz = ".noftz" if kind == "bf16" else ""
    found = run(
        kernel(body + f"red.global.add{noftz}.{kind} [%d1], %{letter}9;", 2),
        [values, np.zeros(1, dtype)],
        200,
    )[1]
    expected = dtype.type(0)
    for value in values:
        expected = dtype.type(expected + value)
    assert found[0] == expected


def test_shared_atomics_and_a_histogram() -> None:
    body = """
	.shared .align 4 .b8 s[32];
	mov.b32 %r10, s;
	setp.lt.u32 %p1, %r0, 8;
	mad.lo.u32 %r11, %r0, 4, %r10;
	@%p1 st.shared.b32 [%r11], 0;
	bar.sync 0;
	mad.wide.u32 %d2, %r0, 4, %d0;
	ld.global.b32 %r2, [%d2];
	and.b32 %r2, %r2, 7;
	mad.lo.u32 %r12, %r2, 4, %r10;
	atom.shared.add.u32 %r3, [%r12], 1;
	bar.sync 0;
	@!%p1 bra end;
	ld.shared.b32 %r4, [%r11];
	mad.wide.u32 %d2, %r0, 4, %d1;
	red.global.add.u32 [%d2], %r4;
end:
"""
    x = integers("u4", 128, 8)
    found = run(kernel(body, 2), [x, np.zeros(8, np.uint32)], 128, 3)[1]
    same(found, (3 * np.bincount(x & 7, minlength=8)).astype(np.uint32))
