"""What products of warpgroups have in common: matrices in shared memory, and sums in registers that assembly works on.

Matrices lie in boxes of lines of 128 bytes, swizzled: bits 4-6 of an address are XORed with bits 7-9 (PTX ISA, "Tensors:
Swizzling Modes", "Asynchronous Warpgroup Level Matrix Shared Memory Layout", "Matrix Descriptor Format"). In a K-major
box a line has a row's part of the sum, and the next product along the sum begins 32 bytes further, behind the line's end
in the next box; in a turned one a line holds 64 neighbouring rows of one place in the sum, and the next 16 places are 16
lines further.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...ir import dtypes
from ...ir.dims import DimLike
from ..llvm.text import Value
from ..loops.nodes import LINE, Buffer

if TYPE_CHECKING:
    from .emit import PtxEmitter

# Rows of one product, and bytes of its part of the sum.
ROWS, STEP = 64, 32
# 8 lines are followed by the next 8.
_STRIDE = 8 * LINE
_SWIZZLE_128 = 1 << 62


def shared_address(e: PtxEmitter, buffer: Buffer, offset: DimLike) -> Value:
    """So many bytes behind a shared buffer's beginning: 32 bits."""
    w = e.w
    base = w.pure(f"ptrtoint {e.places[buffer]} to i32", 0, dtypes.u32)
    if offset == 0:
        return base
    by = e.ops.convert(e.index.value(offset), dtypes.u32)
    return w.pure(f"add i32 {base.text}, {by.text}", max(base.level, by.level), dtypes.u32)


def descriptor(e: PtxEmitter, start: Value, box: int, turned: bool) -> Value:
    """Of the matrix at an address, in boxes of so many bytes."""
    w = e.w
    wide = w.pure(f"zext {start} to i64", start.level, dtypes.u64)
    units = w.pure(f"lshr i64 {wide.text}, 4", wide.level, dtypes.u64)
    leading = box if turned else 16
    fixed = leading >> 4 << 16 | _STRIDE >> 4 << 32 | _SWIZZLE_128
    return w.pure(f"or i64 {units.text}, {fixed}", units.level, dtypes.u64)


def step_bytes(number: int, box: int, turned: bool) -> int:
    """From a matrix's beginning to product number `number` along the sum."""
    if turned:
        return number * 16 * LINE
    in_line = LINE // STEP
    return number // in_line * box + number % in_line * STEP


def multiply(
    e: PtxEmitter,
    total: Buffer,
    places: Sequence[tuple[DimLike, ...]],
    lines: Sequence[str],
    operands: Sequence[tuple[str, str]] = (),
    output: str = "=f",
    clear: bool = False,
) -> None:
    """Assembly that works on the sums at these places, in the registers that they stay in: $0, $1, ... `operands` are
    constraints and values; the first is numbered twice the number of sums, or once if the sums are new (`clear`)."""
    w, count = e.w, len(places)
    sums = [] if clear else [e.memory.load(total, place) for place in places]
    bounds = [*[output] * count, *(str(i) for i in range(len(sums))), *(bound for bound, _ in operands)]
    given = ", ".join([*map(str, sums), *(value for _, value in operands)])
    struct = "{ " + ", ".join(["float"] * count) + " }"
    made = w.fresh("%sums")
    text, constraints = " ".join(lines), ",".join([*bounds, "~{memory}"])
    w.line(f'{made} = call {struct} asm sideeffect "{text}", "{constraints}"({given}) convergent nounwind')
    for number, place in enumerate(places):
        e.memory.store(total, place, w.effect(f"extractvalue {struct} {made}, {number}", dtypes.f32))
