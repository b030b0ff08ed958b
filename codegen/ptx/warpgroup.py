"""`MultiplyGroup` of the loop IR: wgmma with the right operand, and perhaps the left one, in shared memory.

Matrices lie there in boxes of 64 neighbours, 128 bytes a line, swizzled: bits 4-6 of an address are XORed with bits 7-9
(PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout", "Matrix Descriptor Format"). Copies write them so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir import dtypes
from ..llvm.text import Value
from ..loops.nodes import Buffer, Load, MultiplyGroup, Stmt
from ..loops.walk import statements

if TYPE_CHECKING:
    from .emit import PtxEmitter

LINE = 128
_SWIZZLE_128 = 1 << 62
# 8 lines are followed by the next 8.
_STRIDE = 8 * LINE


def swizzled(body: tuple[Stmt, ...]) -> set[Buffer]:
    """The shared buffers that warpgroups multiply out of."""
    return {
        x.buffer
        for stmt in statements(body)
        if isinstance(stmt, MultiplyGroup)
        for x in (stmt.left, stmt.right)
        if x.buffer.space == "shared"
    }


def swizzled_place(emitter: PtxEmitter, load: Load) -> Value:
    """Where 16 bytes of such a buffer lie: an address in shared memory, 32 bits."""
    w = emitter.w
    plain = _place(emitter, load)
    line = w.pure(f"lshr i32 {plain.text}, 3", plain.level, dtypes.u32)
    bits = w.pure(f"and i32 {line.text}, {7 << 4}", plain.level, dtypes.u32)
    return w.pure(f"xor i32 {plain.text}, {bits.text}", plain.level, dtypes.u32)


def emit_multiply_group(e: PtxEmitter, stmt: MultiplyGroup) -> None:
    w = e.w
    total, columns = stmt.total.buffer, stmt.columns
    places = [(*stmt.total.index[:-2], j, c) for j in range(columns // 8) for c in range(4)]
    count = len(places)
    sums = [] if stmt.clear else [e.memory.load(total, place) for place in places]
    name = "f16" if stmt.right.dtype is dtypes.f16 else "bf16"
    steps = stmt.depth // 16
    given: list[str] = [str(x) for x in sums]
    bounds = ["=&f"] * count + [str(i) for i in range(len(sums))]
    first = count + len(sums)
    in_registers = stmt.left.buffer.space == "thread"
    if in_registers:
        half = stmt.left.dtype is dtypes.f16
        for k in range(steps):
            fragment = Load(stmt.left.buffer, (*stmt.left.index[:-2], k, 0))
            for i in range(4):
                word = e.pair(fragment, 2 * i, half)
                if half:
                    made = w.fresh("%word")
                    w.line(f"{made} = bitcast <2 x half> {word} to i32")
                    word = made
                given.append(f"i32 {word}")
        bounds += ["r"] * (4 * steps)
    else:
        given.append(str(_descriptor(e, stmt.left, False)))
        bounds.append("l")
    given.append(str(_descriptor(e, stmt.right, stmt.turned)))
    bounds.append("l")
    right = len(bounds) - 1
    own = ", ".join(f"${i}" for i in range(count))
    lines = [
        ".reg .pred p, q;",
        ".reg .b64 a, b;",
        "setp.eq.u32 p, 0, 0;",
        "setp.ne.u32 q, 0, 0;",
        "wgmma.fence.sync.aligned;",
    ]
    for k in range(steps):
        if in_registers:
            left = "{" + ", ".join(f"${first + 4 * k + i}" for i in range(4)) + "}"
            flags = f"1, 1, {int(stmt.turned)}"
        else:
            lines.append(f"add.s64 a, ${first}, {_step(stmt.left, k, False) >> 4};")
            left, flags = "a", f"1, 1, 0, {int(stmt.turned)}"
        lines.append(f"add.s64 b, ${right}, {_step(stmt.right, k, stmt.turned) >> 4};")
        keeps = "q" if stmt.clear and k == 0 else "p"
        lines.append(
            f"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{name}.{name} {{{own}}}, {left}, b, {keeps}, {flags};"
        )
    lines += ["wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;"]
    struct = "{ " + ", ".join(["float"] * count) + " }"
    made = w.fresh("%sums")
    text = " ".join(["{", *lines, "}"])
    constraints = ",".join([*bounds, "~{memory}"])
    w.line(
        f'{made} = call {struct} asm sideeffect "{text}", "{constraints}"({", ".join(given)}) convergent nounwind'
    )
    for number, place in enumerate(places):
        e.memory.store(total, place, w.effect(f"extractvalue {struct} {made}, {number}", dtypes.f32))


def _place(e: PtxEmitter, load: Load) -> Value:
    """An address in shared memory, not swizzled."""
    w = e.w
    base = w.pure(f"ptrtoint {e.places[load.buffer]} to i32", 0, dtypes.u32)
    offset = load.buffer.offset(load.index) * load.dtype.itemsize
    if offset == 0:
        return base
    by = e.ops.convert(e.index.value(offset), dtypes.u32)
    return w.pure(f"add i32 {base.text}, {by.text}", max(base.level, by.level), dtypes.u32)


def _box(load: Load) -> int:
    """Bytes of a box."""
    rows = load.buffer.shape[-2]
    assert isinstance(rows, int)
    return rows * LINE


def _descriptor(e: PtxEmitter, load: Load, turned: bool) -> Value:
    w = e.w
    start = _place(e, load)
    wide = w.pure(f"zext {start} to i64", start.level, dtypes.u64)
    units = w.pure(f"lshr i64 {wide.text}, 4", wide.level, dtypes.u64)
    leading = _box(load) if turned else 16
    fixed = leading >> 4 << 16 | _STRIDE >> 4 << 32 | _SWIZZLE_128
    return w.pure(f"or i64 {units.text}, {fixed}", units.level, dtypes.u64)


def _step(load: Load, k: int, turned: bool) -> int:
    """Bytes from the matrix's beginning to product number `k` along the sum."""
    return k * 16 * LINE if turned else k // 4 * _box(load) + k % 4 * 32


__all__ = ["emit_multiply_group", "swizzled", "swizzled_place"]
