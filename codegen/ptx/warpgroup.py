"""`MultiplyGroup` of the loop IR: wgmma with the right operand, and perhaps the left one, in shared memory, where copies
put them in swizzled boxes (`wgmma.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir import dtypes
from ..llvm.text import Value
from ..loops.nodes import LINE, Buffer, Load, MultiplyGroup, Stmt
from ..loops.walk import statements
from .tensor_core import pair
from .wgmma import descriptor, multiply, shared_address, step_bytes

if TYPE_CHECKING:
    from .emit import PtxEmitter


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
    columns, turned = stmt.columns, int(stmt.turned)
    places = [(*stmt.total.index[:-2], j, c) for j in range(columns // 8) for c in range(4)]
    count = len(places)
    name = "f16" if stmt.right.dtype is dtypes.f16 else "bf16"
    steps = stmt.depth // 16
    first = count if stmt.clear else 2 * count
    in_registers = stmt.left.buffer.space == "thread"
    if in_registers:
        operands = [("r", f"i32 {word}") for k in range(steps) for word in _words(e, stmt.left, k)]
    else:
        operands = [("l", str(_descriptor(e, stmt.left, False)))]
    right = first + len(operands)
    operands.append(("l", str(_descriptor(e, stmt.right, stmt.turned))))
    own = ", ".join(f"${i}" for i in range(count))
    lines = [
        "{",
        ".reg .pred p, q;",
        ".reg .b64 a, b;",
        "setp.eq.u32 p, 0, 0;",
        "setp.ne.u32 q, 0, 0;",
        "wgmma.fence.sync.aligned;",
    ]
    for k in range(steps):
        if in_registers:
            left = "{" + ", ".join(f"${first + 4 * k + i}" for i in range(4)) + "}"
            flags = f"1, 1, {turned}"
        else:
            lines.append(f"add.s64 a, ${first}, {step_bytes(k, _box(stmt.left), False) >> 4};")
            left, flags = "a", f"1, 1, 0, {turned}"
        lines.append(f"add.s64 b, ${right}, {step_bytes(k, _box(stmt.right), stmt.turned) >> 4};")
        keeps = "q" if stmt.clear and k == 0 else "p"
        lines.append(
            f"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{name}.{name} {{{own}}}, {left}, b, {keeps}, {flags};"
        )
    lines += ["wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;", "}"]
    multiply(e, stmt.total.buffer, places, lines, operands, "=&f", stmt.clear)


def _words(e: PtxEmitter, left: Load, k: int) -> list[str]:
    """The registers of a left operand that threads hold, for product number `k` along the sum."""
    half = left.dtype is dtypes.f16
    fragment = Load(left.buffer, (*left.index[:-2], k, 0))
    words = []
    for i in range(4):
        word = pair(e, fragment, 2 * i, half)
        if half:
            made = e.w.fresh("%word")
            e.w.line(f"{made} = bitcast <2 x half> {word} to i32")
            word = made
        words.append(word)
    return words


def _place(e: PtxEmitter, load: Load) -> Value:
    """An address in shared memory, not swizzled."""
    return shared_address(e, load.buffer, load.buffer.offset(load.index) * load.dtype.itemsize)


def _box(load: Load) -> int:
    """Bytes of a box."""
    rows = load.buffer.shape[-2]
    assert isinstance(rows, int)
    return rows * LINE


def _descriptor(e: PtxEmitter, load: Load, turned: bool) -> Value:
    return descriptor(e, _place(e, load), _box(load), turned)


__all__ = ["emit_multiply_group", "swizzled", "swizzled_place"]
