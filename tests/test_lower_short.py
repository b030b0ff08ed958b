"""Kernels over sixteen-bit numbers: rounded where they store, strict ones after every operation; softmax to the last
place; weights that all rows read are converted once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowering import check, graph_of, lowered

from vitrify.codegen.lower import LowerOptions
from vitrify.ir import dtypes
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import run_program

SHORT = pytest.mark.parametrize("dtype", [dtypes.bf16, dtypes.f16], ids=["bf16", "f16"])
Array = np.ndarray[Any, Any]


def numbers(dtype: dtypes.DType, *shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(dtype.numpy)


def run(make: Any, *arrays: Array, options: LowerOptions | None = None, target: str = "") -> list[Array]:
    types = [TensorType(a.shape, dtypes.from_numpy(a.dtype)) for a in arrays]
    return run_program(lowered(graph_of(make, *types), target, options), arrays, {}, 1)


def chain(F: Any, x: Any, y: Any) -> Any:
    return F.maximum(F.add(F.mul(x, y), x), F.mul(y, y))


@SHORT
@pytest.mark.parametrize("target", ["", "x86-64-avx512", "x86-64-avx2", "x86-64-sse2"])
@pytest.mark.parametrize("size", [5, 32, 47, 1000])
def test_a_chain_is_rounded_once_unless_strict(dtype: dtypes.DType, size: int, target: str) -> None:
    x, y = numbers(dtype, size), numbers(dtype, 1, size)[0]
    a, b = (v.astype(np.float32) for v in (x, y))
    (got,) = run(chain, x, y, target=target)
    np.testing.assert_array_equal(got, np.maximum(a * b + a, b * b).astype(dtype.numpy))
    (strict,) = run(chain, x, y, options=LowerOptions(strict=True), target=target)
    np.testing.assert_array_equal(strict, np.maximum(x * y + x, y * y))


@SHORT
def test_what_jumps_reads_rounded_numbers(dtype: dtypes.DType) -> None:
    x, y = numbers(dtype, 4000), numbers(dtype, 1, 4000)[0]
    (got,) = run(lambda F, a, b: F.floor(F.mul(F.mul(a, b), b)), x, y)
    inner = (x.astype(np.float32) * y.astype(np.float32) * y.astype(np.float32)).astype(dtype.numpy)
    np.testing.assert_array_equal(got, np.floor(inner))


@pytest.mark.parametrize("size", [64, 100])
def test_denormal_numbers_are_kept(size: int) -> None:
    x = (np.arange(size) * 2.0**-133).astype(dtypes.bf16.numpy)
    (got,) = run(lambda F, a: F.mul(F.neg(a), 0.5), x)
    np.testing.assert_array_equal(got, (-0.5 * x.astype(np.float32)).astype(dtypes.bf16.numpy))


@SHORT
@pytest.mark.parametrize("shape", [(3, 37), (40, 64)], ids=str)
def test_softmax_to_the_last_place(dtype: dtypes.DType, shape: tuple[int, int]) -> None:
    x = (4 * numbers(dtype, *shape).astype(np.float32)).astype(dtype.numpy)
    x[0, :5] = -np.inf
    (got,) = run(lambda F, a: F.softmax(a, dim=1), x)
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    want = (powers / powers.sum(1, keepdims=True)).astype(dtype.numpy)
    assert np.abs(got.view(np.int16).astype(int) - want.view(np.int16).astype(int)).max() <= 1


@SHORT
def test_weights_of_a_norm_are_converted_once(dtype: dtypes.DType) -> None:
    def norm(F: Any, x: Any, w: Any, b: Any) -> Any:
        x, w, b = (F.convert(v, dtype=dtypes.f32) for v in (x, w, b))
        centred = F.sub(x, F.mean(x, dims=(1,), keepdim=True))
        spread = F.mean(F.mul(centred, centred), dims=(1,), keepdim=True)
        out = F.add(F.mul(F.mul(centred, F.rsqrt(F.add(spread, 1e-5))), w), b)
        return F.convert(out, dtype=dtype)

    arrays = [numbers(dtype, 20, 72), numbers(dtype, 72), numbers(dtype, 72)]
    types = [TensorType(a.shape, dtype) for a in arrays]
    program = check(graph_of(norm, *types), arrays)
    assert [x.kernel.name.rstrip("1") for x in program.launches[:2]] == ["converted_operand"] * 2
