"""Floating point instructions of the PTX simulator against NumPy, ml_dtypes, and exact rationals."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from ptx_texts import floats, integers, over, same

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")

COUNT = 1500
BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "f16": np.dtype(np.float16), "bf16": BF16}
FORMATS = {
    "f32": (24, -149),
    "f64": (53, -1074),
    "f16": (11, -24),
    "bf16": (8, -133),
}  # precision, smallest exponent
LARGEST = {
    "f32": Fraction(2**24 - 1) * 2**104,
    "f64": Fraction(2**53 - 1) * 2**971,
    "f16": Fraction(65504),
    "bf16": Fraction(255) * 2**120,
}


def rounded(exact: Fraction, kind: str, mode: str = "rn") -> float:
    """An exact number in a format, by the definition of its rounding."""
    precision, lowest = FORMATS[kind]
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - precision + 1, lowest)
    below = size // unit
    rest = size / unit - below
    up = {
        "rn": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1),
        "rz": False,
        "rm": rest > 0 and exact < 0,
        "rp": rest > 0 and exact > 0,
    }[mode]
    found = (below + up) * unit
    if found > LARGEST[kind]:
        toward_zero = mode == "rz" or (mode == "rm" and exact > 0) or (mode == "rp" and exact < 0)
        return (
            float(LARGEST[kind]) * (1 if exact > 0 else -1)
            if toward_zero
            else np.inf * (1 if exact > 0 else -1)
        )
    return float(found) if exact > 0 else -float(found)


def exactly(
    compute: Callable[..., Fraction], plain: Callable[..., float], kind: str, mode: str, *inputs: np.ndarray
) -> np.ndarray:
    """Expected results: exact where all operands are finite and the result is not zero, else by IEEE's rules, which
    float64 follows."""
    found = []
    with np.errstate(all="ignore"):
        for row in zip(*(x.astype(np.float64) for x in inputs), strict=True):
            exact = compute(*(Fraction(v) for v in row)) if np.isfinite(row).all() else None
            found.append(rounded(exact, kind, mode) if exact else float(plain(*(np.float64(v) for v in row))))
        return np.array(found).astype(DTYPES[kind])


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_sums_and_products_are_rounded_once(kind: str, name: str) -> None:
    a, b = floats(DTYPES[kind], COUNT, 1), floats(DTYPES[kind], COUNT, 2)
    compute: Any = {"add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y}[name]
    same(
        over(f"{name}.rn.{kind} {{to}}, {{0}}, {{1}};", [a, b], DTYPES[kind]),
        exactly(compute, compute, kind, "rn", a, b),
    )


def near_ties(kind: str, seed: int) -> list[np.ndarray]:
    """Operands of fma whose exact result lies close to the middle of two numbers, where rounding twice goes wrong."""
    random = np.random.default_rng(seed)
    dtype, precision = DTYPES[kind], FORMATS[kind][0]
    half = precision // 2
    a = (1 + random.integers(0, 1 << half, COUNT) * 2.0**-half).astype(dtype)
    b = (1 + random.integers(0, 1 << half, COUNT) * 2.0**-half).astype(dtype)
    c = random.choice([1, -1], COUNT) * 2.0 ** -random.integers(precision, 2 * precision + 8, COUNT).astype(
        np.float64
    )
    far = random.random(COUNT) < 0.5
    c = np.where(
        far, random.choice([1, -1], COUNT) * 2.0 ** random.integers(precision - 2, precision + 3, COUNT), c
    )
    return [a, b, c.astype(dtype)]


def infinite_fma(x: float, y: float, z: float) -> float:
    """With operands that are not finite, or an exact zero: a product that only overflows is no infinity."""
    return z if np.isfinite(x) and np.isfinite(y) and not np.isfinite(z) else x * y + z


@pytest.mark.parametrize("kind", DTYPES)
def test_fma_rounds_once(kind: str) -> None:
    dtype = DTYPES[kind]
    for a, b, c in (
        [floats(dtype, COUNT, seed) for seed in (3, 4, 5)],
        near_ties(kind, 6),
    ):
        cancelling = np.random.default_rng(7).random(COUNT) < 0.1
        with np.errstate(all="ignore"):
            c = np.where(cancelling, (-(a.astype(np.float64) * b.astype(np.float64))).astype(dtype), c)
        same(
            over(f"fma.rn.{kind} {{to}}, {{0}}, {{1}}, {{2}};", [a, b, c], dtype),
            exactly(lambda x, y, z: x * y + z, infinite_fma, kind, "rn", a, b, c),
        )


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
def test_directed_rounding(mode: str) -> None:
    a, b, c = (floats(np.float32, COUNT, seed) for seed in (8, 9, 10))
    for name, count, compute in (
        ("add", 2, lambda x, y: x + y),
        ("mul", 2, lambda x, y: x * y),
        ("fma", 3, lambda x, y, z: x * y + z),
    ):
        given = [a, b, c][:count]
        listed = ", ".join(f"{{{k}}}" for k in range(count))
        found = over(f"{name}.{mode}.f32 {{to}}, {listed};", given, np.float32)
        expected = exactly(compute, compute, "f32", mode, *given)
        # The sign of an exact zero from operands that are not zero depends on the mode; `expected` has nearest's.
        zero = expected == 0
        same(found[~zero], expected[~zero])
        assert (found[zero] == 0).all()


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_division_and_roots(kind: str) -> None:
    dtype = DTYPES[kind]
    a, b = floats(dtype, COUNT, 11), floats(dtype, COUNT, 12)
    with np.errstate(all="ignore"):
        same(over(f"div.rn.{kind} {{to}}, {{0}}, {{1}};", [a, b], dtype), a / b)
        same(over(f"sqrt.rn.{kind} {{to}}, {{0}};", [a], dtype), np.sqrt(a))
        same(over(f"rcp.rn.{kind} {{to}}, {{0}};", [a], dtype), dtype.type(1) / a)
    nonzero = (b != 0) & np.isfinite(a) & np.isfinite(b) & (a != 0)
    exact = np.array(
        [rounded(Fraction(float(x)) / Fraction(float(y)), kind) for x, y in zip(a[nonzero], b[nonzero])]
    )
    same(over(f"div.rn.{kind} {{to}}, {{0}}, {{1}};", [a[nonzero], b[nonzero]], dtype), exact.astype(dtype))


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ex2": np.exp2,
    "lg2": np.log2,
    "rcp": np.reciprocal,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_approximations_are_the_nearest_number(name: str) -> None:
    x = floats(np.float32, COUNT, 13)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name](x.astype(np.float64)).astype(np.float32)
        same(over(f"{name}.approx.f32 {{to}}, {{0}};", [x], np.float32), expected)
        if name == "tanh":
            return
        tiny = np.finfo(np.float32).tiny
        flat = np.where(np.abs(x) < tiny, np.copysign(np.float32(0), x), x)
        expected = FUNCTIONS[name](flat.astype(np.float64)).astype(np.float32)
        expected = np.where(np.abs(expected) < tiny, np.copysign(np.float32(0), expected), expected)
        same(over(f"{name}.approx.ftz.f32 {{to}}, {{0}};", [x], np.float32), expected)


def test_flushing_subnormal_numbers() -> None:
    a, b = floats(np.float32, COUNT, 14), floats(np.float32, COUNT, 15)
    tiny = np.finfo(np.float32).tiny

    def flat(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) < tiny, np.copysign(np.float32(0), x), x)

    with np.errstate(all="ignore"):
        same(over("mul.rn.ftz.f32 {to}, {0}, {1};", [a, b], np.float32), flat(flat(a) * flat(b)))
        same(
            over("add.rn.ftz.sat.f32 {to}, {0}, {1};", [a, b], np.float32), saturated(flat(flat(a) + flat(b)))
        )


def saturated(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, np.minimum(x, np.float32(1)), np.float32(0))


@pytest.mark.parametrize("kind", DTYPES)
def test_extremes_signs_and_magnitudes(kind: str) -> None:
    dtype = DTYPES[kind]
    a, b = floats(dtype, COUNT, 16), floats(dtype, COUNT, 17)
    b[::5] = -a[::5]

    def key(x: float) -> tuple[float, bool]:
        return (x, not np.signbit(x))

    wide = list(zip(a.astype(np.float64), b.astype(np.float64), strict=True))
    for name, choose in (("min", min), ("max", max)):
        number = [y if np.isnan(x) else x if np.isnan(y) else choose(x, y, key=key) for x, y in wide]
        same(over(f"{name}.{kind} {{to}}, {{0}}, {{1}};", [a, b], dtype), np.array(number).astype(dtype))
        if kind != "f64":
            spread = [np.nan if np.isnan(x) or np.isnan(y) else choose(x, y, key=key) for x, y in wide]
            same(
                over(f"{name}.NaN.{kind} {{to}}, {{0}}, {{1}};", [a, b], dtype),
                np.array(spread).astype(dtype),
            )
    bits = f"u{dtype.itemsize}"
    top = np.array([1 << 8 * dtype.itemsize - 1], bits)
    same(over(f"neg.{kind} {{to}}, {{0}};", [a], dtype).view(bits), a.view(bits) ^ top)
    same(over(f"abs.{kind} {{to}}, {{0}};", [a], dtype).view(bits), a.view(bits) & ~top)
    if kind in ("f32", "f64"):
        found = over(f"copysign.{kind} {{to}}, {{0}}, {{1}};", [a, b], dtype)
        same(found.view(bits), np.copysign(b, a).view(bits))


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b and a == a and b == b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "equ": lambda a, b: a == b or a != a or b != b,
    "neu": lambda a, b: a != b,
    "ltu": lambda a, b: not a >= b,
    "leu": lambda a, b: not a > b,
    "gtu": lambda a, b: not a <= b,
    "geu": lambda a, b: not a < b,
    "num": lambda a, b: a == a and b == b,
    "nan": lambda a, b: a != a or b != b,
}


@pytest.mark.parametrize("kind", DTYPES)
def test_comparisons_with_nan(kind: str) -> None:
    a, b = floats(DTYPES[kind], COUNT, 18), floats(DTYPES[kind], COUNT, 19)
    b[::4] = a[::4]
    for name, compare in COMPARE.items():
        expected = np.array([compare(float(x), float(y)) for x, y in zip(a, b, strict=True)])
        np.testing.assert_array_equal(
            over(f"setp.{name}.{kind} {{to}}, {{0}}, {{1}};", [a, b], bool), expected
        )


def test_classes_of_numbers() -> None:
    x = floats(np.float32, COUNT, 20)
    tiny = np.finfo(np.float32).tiny
    for name, expected in (
        ("finite", np.isfinite(x)),
        ("infinite", np.isinf(x)),
        ("number", ~np.isnan(x)),
        ("notanumber", np.isnan(x)),
        ("subnormal", (x != 0) & (np.abs(x) < tiny)),
    ):
        np.testing.assert_array_equal(over(f"testp.{name}.f32 {{to}}, {{0}};", [x], bool), expected)


def packed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two halves in a word, the first lower."""
    return a.view(np.uint16).astype(np.uint32) | b.view(np.uint16).astype(np.uint32) << 16


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_pairs_of_halves(kind: str) -> None:
    dtype = DTYPES[kind]
    a, b, c, d, e, f = (floats(dtype, COUNT, seed) for seed in range(21, 27))
    plain = lambda x, y, z: x * y + z
    found = over(
        f"fma.rn.{kind}x2 {{to}}, {{0}}, {{1}}, {{2}};", [packed(a, b), packed(c, d), packed(e, f)], np.uint32
    )
    for half, (x, y, z) in ((0, (a, c, e)), (16, (b, d, f))):
        same((found >> half).astype(np.uint16).view(dtype), exactly(plain, plain, kind, "rn", x, y, z))
    found = over(f"mul.rn.{kind}x2 {{to}}, {{0}}, {{1}};", [packed(a, b), packed(c, d)], np.uint32)
    times = lambda x, y: x * y
    same((found & 0xFFFF).astype(np.uint16).view(dtype), exactly(times, times, kind, "rn", a, c))


# Conversions.


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("result", DTYPES)
def test_conversions_between_formats(source: str, result: str) -> None:
    if source == result:
        return
    x = floats(DTYPES[source], COUNT, 28)
    widens = (source, result) in {
        ("f16", "f32"),
        ("bf16", "f32"),
        ("f16", "f64"),
        ("f32", "f64"),
        ("bf16", "f64"),
    }
    if {source, result} & {"bf16"} and {source, result} & {"f16", "f64"}:
        return  # not in PTX for sm_80 without a way over f32
    one = lambda v: v
    for mode in ("",) if widens else ("rn", "rz") if result == "bf16" else ("rn", "rz", "rm", "rp"):
        found = over(f"cvt{'.' if mode else ''}{mode}.{result}.{source} {{to}}, {{0}};", [x], DTYPES[result])
        same(found, exactly(one, one, result, mode or "rn", x))


def test_packed_conversions_and_tf32() -> None:
    a, b = floats(np.float32, COUNT, 29), floats(np.float32, COUNT, 30)
    one = lambda v: v
    for kind in ("f16", "bf16"):
        found = over(f"cvt.rn.{kind}x2.f32 {{to}}, {{0}}, {{1}};", [a, b], np.uint32)
        same((found >> 16).astype(np.uint16).view(DTYPES[kind]), exactly(one, one, kind, "rn", a))
        same((found & 0xFFFF).astype(np.uint16).view(DTYPES[kind]), exactly(one, one, kind, "rn", b))
    x = np.abs(a[np.isfinite(a) & (np.abs(a) > 1e-30) & (np.abs(a) < 1e30)])
    found = over("cvt.rna.tf32.f32 {to}, {0};", [x], np.float32)
    step = 2.0 ** (np.floor(np.log2(x.astype(np.float64))) - 10)
    np.testing.assert_array_equal(found, np.floor(x / step + 0.5) * step)


INTEGERS = ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"]
TOWARD = {"rni": round, "rzi": int, "rmi": lambda v: int(np.floor(v)), "rpi": lambda v: int(np.ceil(v))}


@pytest.mark.parametrize("source", ["f16", "f32", "f64"])
@pytest.mark.parametrize("result", INTEGERS)
def test_conversions_to_integers_clamp(source: str, result: str) -> None:
    x = floats(DTYPES[source], COUNT, 31)
    bits = int(result[1:])
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if result[0] == "s" else (0, (1 << bits) - 1)
    held = f"u{max(bits, 16) // 8}"
    wide = 8 * np.dtype(held).itemsize
    for mode, round_ in TOWARD.items():
        expected = []
        for value in x.astype(np.float64):
            if np.isnan(value):
                number = 0
            elif np.isinf(value):
                number = high if value > 0 else low
            else:
                number = max(low, min(high, round_(float(value))))
            expected.append(number & ((1 << wide) - 1))
        found = over(f"cvt.{mode}.{result}.{source} {{to}}, {{0}};", [x], held)
        nan = np.isnan(x)
        same(found[~nan], np.array(expected, held)[~nan])
        if source != "f64" and bits < 64:
            assert (found[nan] == 0).all()
        elif bits >= 32:
            assert (found[nan] == 1 << (bits - 1)).all()


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("result", ["f16", "bf16", "f32", "f64"])
def test_conversions_from_integers(source: str, result: str) -> None:
    bits = int(source[1:])
    if result == "bf16" and bits == 8:
        return  # not in PTX
    register = integers(f"u{max(bits, 16) // 8}", COUNT, 32)
    values = [int(v) & ((1 << bits) - 1) for v in register]
    if source[0] == "s":
        values = [v - (1 << bits) if v >> (bits - 1) else v for v in values]
    for mode in ("rn",) if result in ("f64", "bf16") else ("rn", "rz", "rm", "rp"):
        expected = np.array([rounded(Fraction(v), result, mode) for v in values]).astype(DTYPES[result])
        same(over(f"cvt.{mode}.{result}.{source} {{to}}, {{0}};", [register], DTYPES[result]), expected)


def test_rounding_to_whole_numbers() -> None:
    for kind in ("f16", "f32", "f64"):
        x = floats(DTYPES[kind], COUNT, 33)
        for mode, function in (("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)):
            same(over(f"cvt.{mode}.{kind}.{kind} {{to}}, {{0}};", [x], DTYPES[kind]), function(x))


def test_nan_results_have_one_pattern() -> None:
    a, b = np.array([np.inf, np.nan, 0.0], np.float32), np.array([-np.inf, 1.0, 0.0], np.float32)
    assert list(over("add.rn.f32 {to}, {0}, {1};", [a, b], np.uint32)) == [0x7FFFFFFF, 0x7FFFFFFF, 0]
    assert over("fma.rn.f32 {to}, {0}, {1}, {0};", [a, b], np.uint32)[1] == 0x7FFFFFFF
    assert over("cvt.rn.f16.f32 {to}, {0};", [a], np.uint16)[1] == 0x7FFF
    assert over("cvt.rn.bf16.f32 {to}, {0};", [a], np.uint16)[1] == 0x7FFF
