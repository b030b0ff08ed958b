"""Floats times powers of two, by AVX-512's instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..target import GpuTarget
from .short_numbers import joined, lanes_of
from .text import Value, const, element_type, splat

if TYPE_CHECKING:
    from .scalar_ops import ScalarOps

_REGISTER_BITS = (128, 256, 512)
_CURRENT_ROUNDING = "i32 4"


def ldexp(ops: ScalarOps, x: Value, n: Value) -> Value | None:
    """x 2^n by vscalefps or vscalefpd, which round once; None where the target has neither."""
    if isinstance(ops.target, GpuTarget) or not ops.target.has_scale:
        return None
    lanes = max(x.lanes, n.lanes)
    if not lanes:
        few = 16 // x.dtype.itemsize
        found = ldexp(ops, splat(ops.w, x, few), splat(ops.w, n, few))
        return found and ops.w.pure(f"extractelement {found}, i64 0", found.level, x.dtype)
    x, n = splat(ops.w, x, lanes), splat(ops.w, n, lanes)
    bits = lanes * 8 * x.dtype.itemsize
    if bits > _REGISTER_BITS[-1] and lanes % 2 == 0:
        halves = [(lanes_of(ops, x, s, lanes // 2), lanes_of(ops, n, s, lanes // 2)) for s in (0, lanes // 2)]
        low, high = (ldexp(ops, *half) for half in halves)
        return joined(ops, low, high) if low and high else None
    if bits not in _REGISTER_BITS:
        return None
    mask = f"i{max(8, lanes)}"
    kind = {"float": "ps", "double": "pd"}[element_type(x.dtype)]
    name = f"@llvm.x86.avx512.mask.scalef.{kind}.{bits}"
    more = bits == _REGISTER_BITS[-1]
    ops.w.declare(
        name, f"declare {x.type} {name}({x.type}, {x.type}, {x.type}, {mask}{', i32 immarg' if more else ''})"
    )
    rounding = f", {_CURRENT_ROUNDING}" if more else ""
    zeros = const(0.0, x.dtype, lanes)
    text = f"call {x.type} {name}({x}, {n}, {zeros}, {mask} -1{rounding})"
    return ops.w.pure(text, max(x.level, n.level), x.dtype, lanes)
