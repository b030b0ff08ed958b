"""Every scalar operation on every dtype, native code against the loop interpreter: scalars and (masked) vectors."""

from __future__ import annotations

import numpy as np
import pytest

from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.nodes import Apply, Buffer, For, Kernel, Launch, Load, Program, Stmt, Store
from vitrify.codegen.loops.verify import LoopError, verify_program
from vitrify.codegen.scalar import OPERATIONS
from vitrify.ir import dims, dtypes
from vitrify.ir.dtypes import DType
from vitrify.ir.special_functions import FORMULAS
from vitrify.runtime.execute import run_program

REAL = [d for d in dtypes.ALL if not d.is_complex]
ULPS = {
    **dict.fromkeys(
        ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "sigmoid", "erf", "exp_below"), 2
    ),
    **dict.fromkeys(("asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2", "pow"), 4),
    **dict.fromkeys(FORMULAS, 4096),  # the interpreter has no fma in these, which shows near their zeros
    **dict.fromkeys(("exp_short", "sigmoid_short"), 48),  # 2.6e-6, far below what a float16 shows
    "exp_below_short": 1300,  # 7.5e-5, far below what a bfloat16 shows
}
SIZE = 37  # odd: the last vector is masked


def values(dtype: DType, rng: np.random.Generator) -> np.ndarray:
    if dtype is dtypes.bool_:
        return rng.integers(0, 2, SIZE).astype(np.bool_)
    if dtype.kind == "float":
        special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            1.5,
            2.5,
            -2.5,
            np.inf,
            -np.inf,
            np.nan,
            3.7,
            -3.7,
            1e-3,
            100.25,
        ]
        array = np.concatenate([special, rng.normal(0, 3, SIZE - len(special))])
        return rng.permutation(array).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    array = rng.integers(max(info.min, -20), 20, SIZE)
    array[:6] = [info.min, info.max if info.max < 2**63 else 2**62, 0, 1, 2, 7]
    return rng.permutation(array.astype(dtype.numpy))


def nest(loop: str, out: Buffer, value, index: dims.DimLike) -> tuple[Stmt, ...]:  # type: ignore[no-untyped-def]
    """`out[i] = value(i)` for all i, in the given kind of loop."""
    if loop == "scalar":
        i = dims.symbol("i", 0, SIZE - 1)
        return (For("i", SIZE, (Store(out, (i,), value(i)),)),)
    i, v = dims.symbol("i", 0, -(-SIZE // 8) - 1), dims.symbol("v", 0, 7)
    at = 8 * i + v
    lanes = (Store(out, (at,), value(at)),)
    return (For("i", -(-SIZE // 8), (For("v", dims.minimum(8, SIZE - 8 * i), lanes, "vector", 8),)),)


def operation_program(op: str, operand: DType, result: DType, loop: str) -> Program:
    count = OPERATIONS[op][0]
    kinds = [dtypes.bool_, operand, operand] if op == "select" else [operand] * count
    params = [Buffer(f"x{k}", d, (SIZE,)) for k, d in enumerate(kinds)]
    out = Buffer("y", result, (SIZE,))
    body = nest(loop, out, lambda i: Apply(op, tuple(Load(p, (i,)) for p in params), result), 0)
    kernel = Kernel(op, (*params, out), frozenset({"y"}), body)
    return Program(op, tuple(params), (out,), (), (Launch(kernel, (*params, out)),))


def cases() -> list[tuple[str, DType, DType]]:
    found = []
    for op, (_, result) in OPERATIONS.items():
        for operand in REAL:
            if op == "cast":
                found += [(op, operand, r) for r in REAL]
            elif op == "bitcast":
                numbers = [d for d in REAL if d is not dtypes.bool_ and operand is not dtypes.bool_]
                found += [(op, operand, r) for r in numbers if r.itemsize == operand.itemsize]
            else:
                found.append((op, operand, dtypes.bool_ if result == "bool" else operand))
    return found


def meaningful(op: str, operand: DType, result: DType) -> bool:
    """Whether the verifier and the interpreter know the operation on this dtype."""
    try:
        verify_program(operation_program(op, operand, result, "scalar"))
        interpreter.scalar_function(op, operand, result)
    except (LoopError, NotImplementedError):
        return False
    return True


CASES = [case for case in cases() if meaningful(*case)]


def same(native: np.ndarray, expected: np.ndarray, ulps: int) -> np.ndarray:
    if native.dtype.kind in "biu":
        return native == expected
    equal = (native == expected) | (np.isnan(native) & np.isnan(expected))
    if ulps:
        with np.errstate(all="ignore"):
            a, b = native.astype(np.float64), expected.astype(np.float64)
            unit = np.spacing(np.abs(expected)).astype(np.float64)
            equal |= np.abs(a - b) <= ulps * unit
    return equal


@pytest.mark.parametrize("op", sorted({c[0] for c in CASES}))
def test_native_equals_interpreter(op: str) -> None:
    """All dtypes of one operation in one program, so that LLVM is called once."""
    rng = np.random.default_rng(7)
    inputs: list[Buffer] = []
    outputs: list[Buffer] = []
    launches: list[Launch] = []
    arrays: list[np.ndarray] = []
    labels: list[str] = []
    for _, operand, result in (c for c in CASES if c[0] == op):
        count = OPERATIONS[op][0]
        kinds = [dtypes.bool_, operand, operand] if op == "select" else [operand] * count
        params = [Buffer(f"x{len(inputs) + k}", d, (SIZE,)) for k, d in enumerate(kinds)]
        inputs += params
        given = [values(d, rng) for d in kinds]
        if op == "ldexp":
            given[1] = rng.integers(-200, 200, SIZE).astype(
                operand.numpy
            )  # whole; beyond the least and largest results
        if op.startswith("exp_below"):
            given[0] = -np.abs(given[0])
        if op == "cast" and result.is_integral and operand.is_floating_point:
            with np.errstate(
                all="ignore"
            ):  # out of range is what the hardware gives; only the range is specified
                fits = np.isfinite(given[0].astype(np.float64)) & (np.abs(given[0].astype(np.float64)) < 100)
                given[0] = np.where(fits, np.abs(given[0]), 0).astype(operand.numpy)
        arrays += given
        for loop in ("scalar", "vector"):
            out = Buffer(f"y{len(outputs)}", result, (SIZE,))
            outputs.append(out)
            labels.append(f"{op} {operand.name} -> {result.name} {loop}")
            body = nest(loop, out, lambda i: Apply(op, tuple(Load(p, (i,)) for p in params), result), 0)  # noqa: B023
            kernel = Kernel(op, (*params, out), frozenset({out.name}), body)
            launches.append(Launch(kernel, (*params, out)))
    program = Program(op, tuple(inputs), tuple(outputs), (), tuple(launches))
    verify_program(program)
    expected, _ = interpreter.run_program(program, arrays)
    native = run_program(program, arrays)
    for label, got, want in zip(labels, native, expected):
        good = same(got, want, ULPS.get(op, 0))
        assert good.all(), f"{label}: {got[~good][:4]} where {want[~good][:4]} is expected"
