"""Ops on the parts of floating-point numbers (sign, exponent, last place), and shifts of integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..op import Op, declare
from .common import FLOAT, INTEGERS, Array, distinct, integers, made, needed, pointwise, uniform, values

INF, NAN = math.inf, math.nan
# Bits of the significand without the leading one, and of the exponent.
_LAYOUT = {dtypes.f16: (10, 5), dtypes.bf16: (7, 8), dtypes.f32: (23, 8), dtypes.f64: (52, 11)}
_BITS = {1: dtypes.i8, 2: dtypes.i16, 4: dtypes.i32, 8: dtypes.i64}

_NUMBERS = [0.0, -0.0, 1.0, -2.5, INF, -INF, NAN]
EDGES = made(lambda rng: [np.repeat(_NUMBERS, 7), np.tile(_NUMBERS, 7)], gradient=False, label="edges")


def _bits(dtype: DType) -> DType:
    return _BITS[dtype.itemsize]


def _lowest(bits: DType) -> int:
    """The integer with the sign bit alone."""
    return -(1 << (bits.itemsize * 8 - 1))


# copysign


def _copysign_scalar(s: Any, a: Any, b: Any) -> Any:
    bits = _bits(a.dtype)
    sign = s.and_(s.bitcast(b, bits), _lowest(bits))
    return s.bitcast(s.or_(s.and_(s.bitcast(a, bits), ~_lowest(bits)), sign), a.dtype)


def _copysign_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    a = ctx.inputs[0]

    def slope() -> Any:
        ratio = F.mul(F.sign(ctx.outputs[0]), F.sign(a))
        return F.mul(dy, ratio)  # 0 where a is 0

    return needed(ctx, slope, lambda: F.zeros_like(dy))


declare(
    Op(
        "copysign",
        "The size of a with the sign of b, zeros and NaN included.",
        infer=pointwise("copysign", FLOAT),
        numpy=np.copysign,
        arity=(2, 2),
        lowering="pointwise",
        vjp=_copysign_vjp,
        scalar=_copysign_scalar,
        saves=("input:0", "output:0"),
        grad_name="CopysignBackward0",
        samples=(distinct((3, 5), (3, 5)), distinct((3, 1), (5,)), uniform((0, 3), (1, 3)), EDGES),
    )
)

# nextafter


def _nextafter_numpy(a: Array, b: Array) -> Array:
    if a.dtype != dtypes.bf16.numpy:
        return np.nextafter(a, b)
    a, b = np.broadcast_arrays(a, b)
    bits = a.view(np.int16)
    wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
    away = (wide_a < wide_b) == (wide_a > 0)
    moved = np.where(away, bits + 1, bits - 1).astype(np.int16)
    smallest = np.where(np.signbit(wide_b), np.int16(-32767), np.int16(1))
    result = np.where(wide_a == 0, smallest, moved).view(a.dtype)
    result = np.where(wide_a == wide_b, b, result)
    return np.where(np.isnan(wide_a) | np.isnan(wide_b), (wide_a + wide_b).astype(a.dtype), result)


def _nextafter_scalar(s: Any, a: Any, b: Any) -> Any:
    dtype = a.dtype
    bits = _bits(dtype)
    own = s.bitcast(a, bits)
    # Away from zero the size grows by one place, and sizes are ordered as their bits are.
    away = s.not_(s.xor(s.lt(a, b), s.gt(a, 0.0)))
    moved = s.bitcast(s.add(own, s.select(away, s.const(1, bits), s.const(-1, bits))), dtype)
    sign = s.and_(s.bitcast(b, bits), _lowest(bits))
    smallest = s.bitcast(s.or_(sign, 1), dtype)
    result = s.select(s.eq(a, 0.0), smallest, moved)
    result = s.select(s.eq(a, b), b, result)
    unordered = s.or_(s.ne(a, a), s.ne(b, b))
    return s.select(unordered, s.add(a, b), result)


def _equal_share(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """The whole cotangent to the first operand, none to the second."""
    return needed(ctx, lambda: dy, lambda: F.zeros_like(dy))


declare(
    Op(
        "nextafter",
        "The number next to a on the way to b.",
        infer=pointwise("nextafter", FLOAT),
        numpy=_nextafter_numpy,
        arity=(2, 2),
        lowering="pointwise",
        vjp=_equal_share,
        scalar=_nextafter_scalar,
        grad_name="NextafterBackward0",
        samples=(
            distinct((3, 5), (3, 5), gradient=False),
            distinct((3, 1), (5,), gradient=False),
            uniform((0, 3), (1, 3), gradient=False),
            EDGES,
        ),
    )
)

# frexp


def _exponent_numpy(x: Array) -> Array:
    wide = x.astype(np.float64) if x.dtype != np.float64 else x
    exponent = np.frexp(wide)[1].astype(np.int32)
    return np.where(np.isfinite(wide), exponent, np.int32(0))


def _exponent_scalar(s: Any, x: Any) -> Any:
    if x.dtype is not dtypes.f64:
        x = s.cast(x, dtypes.f64)  # no number of a narrower type is denormal there
    digits, width = _LAYOUT[dtypes.f64]
    tiny = s.lt(s.abs(x), 2.0**-1022)
    lifted = s.select(tiny, s.mul(x, 2.0**64), x)
    field = s.and_(s.shr(s.bitcast(lifted, dtypes.i64), digits), (1 << width) - 1)
    exponent = s.sub(field, s.select(tiny, s.const(1022 + 64, dtypes.i64), s.const(1022, dtypes.i64)))
    plain = s.and_(s.ne(x, 0.0), s.lt(s.abs(x), INF))
    return s.cast(s.select(plain, exponent, s.const(0, dtypes.i64)), dtypes.i32)


declare(
    Op(
        "frexp_exponent",
        "The int32 e with |x| = m 2^e and 1/2 <= m < 1; 0 for zero, infinities and NaN.",
        infer=pointwise("frexp_exponent", FLOAT, dtypes.i32),
        numpy=_exponent_numpy,
        lowering="pointwise",
        scalar=_exponent_scalar,
        samples=(
            uniform((3, 5), between=(-100.0, 100.0), gradient=False),
            uniform((0,), gradient=False),
            values([0.0, -0.0, 1.0, 0.5, 1e-30, 1e30, 1e-320, INF, NAN]),
        ),
    )
)

# Shifts


def _shift(name: str, doc: str, numpy: Callable[..., Any], scalar: Callable[..., Any]) -> None:
    declare(
        Op(
            name,
            doc,
            infer=pointwise(name, INTEGERS),
            numpy=numpy,
            arity=(2, 2),
            lowering="pointwise",
            scalar=scalar,
            samples=(
                integers((3, 4), (4,), low=0, high=6),
                values([1, -1, -8, 5, 7], [63, 63, 64, -1, 2]),
                values(np.array([1, -1, -8, 5], np.int8), np.array([7, 8, 1, -1], np.int8)),
            ),
        )
    )


def _shift_numpy(operation: Callable[..., Any], beyond: Callable[[Array], Any]) -> Callable[..., Array]:
    def rule(a: Array, b: Array) -> Array:
        width = a.dtype.itemsize * 8
        inside = (b >= 0) & (b < width)
        shifted = operation(a, np.where(inside, b, 0).astype(a.dtype))
        return np.asarray(np.where(inside, shifted, beyond(a))).astype(a.dtype)

    return rule


_shift(
    "bitwise_left_shift",
    "a times 2 to the b, its lowest bits; 0 where b is negative or the width of the type or more.",
    _shift_numpy(np.left_shift, np.zeros_like),
    lambda s, a, b: s.shl(a, b),
)
_shift(
    "bitwise_right_shift",
    "a divided by 2 to the b, rounded down; where b is negative or too large, as if b were the largest shift.",
    _shift_numpy(
        np.right_shift, lambda a: np.where(a < 0, -1, 0) if a.dtype.kind == "i" else np.zeros_like(a)
    ),
    lambda s, a, b: s.shr(a, b),
)
