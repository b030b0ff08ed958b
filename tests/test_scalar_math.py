"""The elementary functions against NumPy: errors in ulp over every exponent, and special values.

float32 is measured against float64, float64 against reference values with 30 digits (tests/references)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrify.codegen.loops.nodes import Apply, Buffer, For, Kernel, Launch, Load, Program, Store
from vitrify.ir import dims, dtypes
from vitrify.ir.dtypes import DType
from vitrify.runtime.execute import run_program

UNARY = [
    *("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "erf"),
    *("asin", "acos", "atan", "asinh", "acosh", "atanh"),
]
BINARY = ["pow", "atan2"]
REFERENCES = Path(__file__).parent / "references" / "scalar_math.npz"


def apply(op: str, *arrays: np.ndarray) -> np.ndarray:
    """The function on arrays, in vectors."""
    dtype = dtypes.from_numpy(arrays[0].dtype)
    lanes = 64 // dtype.itemsize
    size = arrays[0].size
    xs = tuple(Buffer(f"x{k}", dtype, (size,)) for k in range(len(arrays)))
    y = Buffer("y", dtype, (size,))
    count = -(-size // lanes)
    i, v = dims.symbol("i", 0, count - 1), dims.symbol("v", 0, lanes - 1)
    at = (lanes * i + v,)
    store = Store(y, at, Apply(op, tuple(Load(x, at) for x in xs), dtype))
    extent = dims.minimum(lanes, size - lanes * i)
    body = (For("i", count, (For("v", extent, (store,), "vector", lanes),)),)
    kernel = Kernel(op, (*xs, y), frozenset({"y"}), body)
    (result,) = run_program(Program(op, xs, (y,), (), (Launch(kernel, (*xs, y)),)), arrays)
    return result


def every_exponent(dtype: DType, per_exponent: int) -> np.ndarray:
    """Random significands for every exponent and both signs, denormals, infinities and NaN among them."""
    rng = np.random.default_rng(0)
    if dtype is dtypes.f32:
        top, shift, kind = 256, 23, np.uint32
    else:
        top, shift, kind = 2048, 52, np.uint64
    exponents = np.arange(2 * top, dtype=kind).repeat(per_exponent) << kind(shift)  # the sign is the next bit
    bits = exponents | rng.integers(0, 1 << shift, exponents.size, dtype=kind)
    return bits.view(dtype.numpy)


def ulps(result: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Errors in units of the last place of the exact values, which are of a wider type; special values are 0
    or inf."""
    with np.errstate(all="ignore"):
        nearest = exact.astype(result.dtype)
        unit = np.spacing(np.abs(nearest)).astype(np.longdouble)
        error = np.abs(result.astype(np.longdouble) - exact.astype(np.longdouble)) / unit
    same = (result == nearest) | (np.isnan(result) & np.isnan(nearest))
    return np.where(same & ~np.isfinite(error), 0, np.where(np.isnan(error), np.inf, error))


def erf64(x: np.ndarray) -> np.ndarray:
    from math import erf

    return np.array([erf(float(v)) for v in x])


@pytest.mark.parametrize("op", UNARY)
def test_float32_is_within_two_ulp(op: str) -> None:
    dense = [np.linspace(-a, a, 20001) for a in (1e-3, 1.5, 20, 100)] + [1 + np.linspace(-1e-3, 1e-3, 5000)]
    x = np.concatenate([every_exponent(dtypes.f32, 24), *(d.astype(np.float32) for d in dense)])
    with np.errstate(all="ignore"):
        exact = (erf64 if op == "erf" else getattr(np, op))(x.astype(np.float64))
        error = ulps(apply(op, x), exact)
    worst = int(np.argmax(error))
    assert error[worst] <= 2, f"{op}({x[worst]!r}): {error[worst]:.2f} ulp"


def test_float32_exp_of_what_is_at_most_one() -> None:
    """Within two ulp where results are normal numbers, within the least of them elsewhere; 0 for far less and -inf."""
    x = np.concatenate([every_exponent(dtypes.f32, 24), np.linspace(-100, 1, 40001, dtype=np.float32)])
    x = x[~(x > 1)]
    least = np.finfo(np.float32).tiny
    with np.errstate(all="ignore"):
        exact = np.exp(x.astype(np.float64))
    found = apply("exp_below", x)
    normal = ~(exact < least)
    assert ulps(found[normal], exact[normal]).max() <= 2
    assert np.abs(found[~normal] - exact[~normal]).max() <= least and (found[~normal] >= 0).all()
    far = np.array([-89, -200, -np.inf, 0, -0.0, np.nan], np.float32)
    np.testing.assert_array_equal(apply("exp_below", far), np.array([0, 0, 0, 1, 1, np.nan], np.float32))


def test_float32_exp_of_what_is_at_most_one_for_bfloat16() -> None:
    """Within 1/25 of a unit in the last place of a bfloat16 where results are normal numbers."""
    x = np.linspace(-87.3, 1, 400001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(apply("exp_below_short", x) / exact - 1).max() < 2**-8 / 25
    far = np.array([-89, -200, -np.inf, 0, -0.0, np.nan], np.float32)
    found = apply("exp_below_short", far)
    np.testing.assert_allclose(found, np.array([0, 0, 0, 1, 1, np.nan], np.float32), 1e-4, 0)


def test_float32_sigmoid_is_within_three_roundings() -> None:
    """The exponential, the sum and the quotient are each rounded; below -88.9 the exponential is too large a number."""
    dense = [np.linspace(-a, a, 20001) for a in (1e-3, 1.5, 20, 88.9)]
    x = np.concatenate([every_exponent(dtypes.f32, 24), *(d.astype(np.float32) for d in dense)])
    x = x[~(x < -88.9)]
    with np.errstate(all="ignore"):
        error = ulps(apply("sigmoid", x), 1 / (1 + np.exp(-x.astype(np.float64))))
    worst = int(np.argmax(error))
    assert error[worst] <= 2.5, f"sigmoid({x[worst]!r}): {error[worst]:.2f} ulp"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_of_special_values(dtype: type) -> None:
    tiny, most = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    got = apply("sigmoid", np.array([0.0, -0.0, tiny, -tiny, np.inf, most, -np.inf, -most, np.nan], dtype))
    np.testing.assert_array_equal(got, np.array([0.5, 0.5, 0.5, 0.5, 1, 1, 0, 0, np.nan], dtype))
    assert not np.signbit(got[:-1]).any()


@pytest.mark.parametrize("op", [*UNARY, *BINARY])
def test_float64_is_within_four_ulp(op: str) -> None:
    with np.load(REFERENCES) as stored:
        arguments = [stored[f"{op}.{k}"] for k in range(2 if op in BINARY else 1)]
        exact = stored[f"{op}.high"].astype(np.longdouble) + stored[f"{op}.low"].astype(np.longdouble)
    error = ulps(apply(op, *arguments), exact)
    worst = int(np.argmax(error))
    assert error[worst] <= 4, f"{op}({[a[worst] for a in arguments]}): {error[worst]:.2f} ulp"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", UNARY)
def test_special_values_are_those_of_numpy(op: str, dtype: type) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, tiny, -tiny, np.finfo(dtype).max, -np.finfo(dtype).max],
        dtype,
    )
    with np.errstate(all="ignore"):
        want = (erf64(x) if op == "erf" else getattr(np, op)(x.astype(np.float64))).astype(dtype)
    got = apply(op, x)
    exact = ~np.isfinite(want) | (want == 0) | (np.abs(want) == 1)
    np.testing.assert_array_equal(got[exact], want[exact])
    assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow_has_the_special_cases_of_c(dtype: type) -> None:
    numbers = [0.0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 2.5, np.inf, -np.inf, np.nan, 1e30, -1e-30, 7]
    x, y = (g.ravel().astype(dtype) for g in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        want = np.power(x, y)
    got = apply("pow", x, y)
    with np.errstate(all="ignore"):
        close = np.abs(got - want) <= 2 * np.spacing(np.abs(want))
    same = (got == want) | (np.isnan(got) & np.isnan(want)) | close
    assert same.all(), [(a, b, g, w) for a, b, g, w in zip(x[~same], y[~same], got[~same], want[~same])][:5]
    assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_atan2_has_the_special_cases_of_c(dtype: type) -> None:
    tiny, most = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    numbers = [0.0, -0.0, 1, -1, 2.5, -3, np.inf, -np.inf, np.nan, tiny, -tiny, most, -most]
    y, x = (g.ravel().astype(dtype) for g in np.meshgrid(numbers, numbers))
    want = np.arctan2(y, x)
    got = apply("atan2", y, x)
    np.testing.assert_allclose(got, want, rtol=2 * np.finfo(dtype).eps, atol=0)
    assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


def test_float32_atan2_is_within_two_ulp() -> None:
    y, x = np.random.default_rng(2).permutation(every_exponent(dtypes.f32, 40)).reshape(2, -1)
    with np.errstate(all="ignore"):
        error = ulps(apply("atan2", y, x), np.arctan2(y.astype(np.float64), x.astype(np.float64)))
    assert error.max() <= 2


def test_float32_pow_is_within_two_ulp() -> None:
    rng = np.random.default_rng(1)
    x = np.exp(rng.uniform(-20, 20, 20000)).astype(np.float32)
    y = rng.uniform(-6, 6, 20000).astype(np.float32)
    with np.errstate(all="ignore"):
        error = ulps(apply("pow", x, y), np.power(x.astype(np.float64), y.astype(np.float64)))
    assert error.max() <= 2
