"""exp, sigmoid and tanh of every bfloat16 and float16 number: the nearest one to the exact result, or next to it in the
rare case that this lies close to the middle between two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lowering import graph_of, lowered

from vitrify.codegen.target import Target
from vitrify.ir import dtypes
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import run_program

EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
TARGETS = ("", "x86-64-avx512", "x86-64-avx2", "x86-64-sse2")


def places(x: np.ndarray) -> np.ndarray:
    """Numbers of sixteen bits as integers in their order."""
    bits = x.view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", [dtypes.bf16, dtypes.f16], ids=["bf16", "f16"])
def test_every_number(name: str, dtype: dtypes.DType, target: str) -> None:
    if Target.host().isa != "avx512" and target == "x86-64-avx512":
        pytest.skip("no AVX-512 here")
    x = np.arange(1 << 16).astype(np.uint16).view(dtype.numpy)
    graph = graph_of(lambda F, a: getattr(F, name)(a), TensorType(x.shape, dtype))
    (got,) = run_program(lowered(graph, target), [x], {}, 1)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        want = exact.astype(dtype.numpy)
    nan = np.isnan(x.astype(np.float64))
    assert np.isnan(got[nan].astype(np.float64)).all() and not np.isnan(got[~nan].astype(np.float64)).any()
    apart = np.abs(places(got[~nan]) - places(want[~nan]))
    assert apart.max() <= 1 and np.mean(apart) < 0.02
    np.testing.assert_array_equal(np.signbit(got[~nan]), np.signbit(want[~nan]))
