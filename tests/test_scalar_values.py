"""Scalar operations of the loop IR: what the interpreter computes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from vitrify.codegen.loops.scalar_values import scalar_function
from vitrify.ir import dtypes

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def nearest_float32(exact: Fraction) -> np.float32:
    """By comparison with the neighbours, ties to even."""
    with np.errstate(over="ignore"):
        near = np.float32(float(exact))
        beside = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)]

    def distance(x: np.float32) -> Fraction:
        # Past the largest number rounding is as if there were a next one.
        return abs((Fraction(float(x)) if np.isfinite(x) else int(math.copysign(2**128, x))) - exact)

    return min((near, *beside), key=lambda x: (distance(x), int(x.view(np.uint32)) & 1))


@given(FLOATS, FLOATS, FLOATS)
@example(1 + 2**-23, 1 + 2**-23, -1.0)
@example(1 + 2**-12, 1 + 2**-12, 2.0**-60)  # a tie in float32 but for the last term
@example(1 + 2**-12, 1 + 2**-12, -(2.0**-60))
@example(2.0**-100, 2.0**-49, 2.0**-149)  # a tie between denormals
@example(2.0**-100, 2.0**-50, 2.0**-149)
@example(2.0**100, 2.0**28, -(2.0**127))
@example(2.0**64, 2.0**64, -1.0)
def test_fma_of_float32_rounds_once(a: float, b: float, c: float) -> None:
    fma = scalar_function("fma", dtypes.f32, dtypes.f32)
    with np.errstate(over="ignore"):
        found = fma(*map(np.float32, (a, b, c)))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert found.dtype == np.float32
    if exact:
        assert found == nearest_float32(exact)
    else:
        assert found == 0


def test_fma_keeps_the_sign_of_zero_and_what_is_not_finite() -> None:
    fma = scalar_function("fma", dtypes.f32, dtypes.f32)
    zero, one, infinite = np.float32(0), np.float32(1), np.float32(np.inf)
    assert np.signbit(fma(-zero, one, -zero))
    assert not np.signbit(fma(-one, one, one))
    assert fma(one, one, -infinite) == -infinite
    assert fma(np.float32(3e38), np.float32(10), -infinite) == -infinite  # the product alone would be inf
    with np.errstate(invalid="ignore"):
        assert np.isnan(fma(zero, infinite, one))
