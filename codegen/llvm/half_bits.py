"""float16 by instructions that every x86-64 has: where there is no F16C, LLVM would call functions of a runtime library
that compiled programs do not have.

The method is Fabian Giesen's ("Half to float done quic", 2012): a half's bits, moved to where a float32 has them, are
the number times 2^-112, denormal numbers too; the other way round an addition rounds what comes out denormal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir import dtypes
from .text import Value, const

if TYPE_CHECKING:
    from .scalar_ops import ScalarOps

# Of float32: the bits of infinity, of 65536 and of the least normal float16, 2^-14.
SIGN, INFINITY, TOO_LARGE, LEAST_NORMAL = 0x8000_0000, 255 << 23, (127 + 16) << 23, (127 - 14) << 23
# From float32's exponents to float16's, modulo 2^32, and what rounds up all but the half way case.
REBASED = (((15 - 127) << 23) + 0xFFF) % (1 << 32)


def half_to_f32(ops: ScalarOps, x: Value) -> Value:
    """A float16 as float32, exactly."""
    u32, f32 = dtypes.u32, dtypes.f32
    bits = ops.convert(ops.apply("bitcast", [x], dtypes.u16), u32)
    moved = _with(ops, "shl", _with(ops, "and", bits, 0x7FFF), 13)
    number = ops.instruction("fmul", [ops.apply("bitcast", [moved], f32), const(2.0**112, f32, x.lanes)], f32)
    magnitude = ops.apply("bitcast", [number], u32)
    infinite = ops.compare("uge", magnitude, const(TOO_LARGE, u32, x.lanes))
    magnitude = ops.select(infinite, _with(ops, "or", magnitude, INFINITY), magnitude)
    sign = _with(ops, "shl", _with(ops, "and", bits, 0x8000), 16)
    return ops.apply("bitcast", [ops.instruction("or", [magnitude, sign], u32)], f32)


def half_of_f32(ops: ScalarOps, x: Value) -> Value:
    """A float32 rounded to the nearest float16, ties to even."""
    u32, f32 = dtypes.u32, dtypes.f32
    bits = ops.apply("bitcast", [x], u32)
    sign = _with(ops, "and", bits, SIGN)
    magnitude = ops.instruction("xor", [bits, sign], u32)
    odd = _with(ops, "and", _with(ops, "lshr", magnitude, 13), 1)
    rounded = ops.instruction("add", [_with(ops, "add", magnitude, REBASED), odd], u32)
    normal = _with(ops, "lshr", rounded, 13)
    # The last place of a number near 0.5 is that of a denormal float16.
    half = const(0.5, f32, x.lanes)
    near = ops.instruction("fadd", [ops.apply("bitcast", [magnitude], f32), half], f32)
    denormal = ops.instruction(
        "sub", [ops.apply("bitcast", [near], u32), ops.apply("bitcast", [half], u32)], u32
    )
    small = ops.compare("ult", magnitude, const(LEAST_NORMAL, u32, x.lanes))
    finite = ops.select(small, denormal, normal)
    nan = ops.compare("ugt", magnitude, const(INFINITY, u32, x.lanes))
    special = ops.select(nan, const(0x7E00, u32, x.lanes), const(0x7C00, u32, x.lanes))
    large = ops.compare("uge", magnitude, const(TOO_LARGE, u32, x.lanes))
    found = ops.select(large, special, finite)
    signed = ops.instruction("or", [found, _with(ops, "lshr", sign, 16)], u32)
    return ops.apply("bitcast", [ops.convert(signed, dtypes.u16)], dtypes.f16)


def _with(ops: ScalarOps, name: str, x: Value, number: int) -> Value:
    return ops.instruction(name, [x, const(number, dtypes.u32, x.lanes)], dtypes.u32)
