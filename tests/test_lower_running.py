"""Running sums, products and extremes lowered: one element after the other, to the bit what NumPy accumulates."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import SHARED, check, f32, graph_of, lowered, random_arrays

import vitrify
from vitrify.ir import dtypes, interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import compile_program, run_program

OPS = ("cumsum", "cumprod", "cummax", "cummin")
SHAPES = ((1,), (7,), (300,), (3, 37), (9, 16), (5, 1, 70), (4, 33, 65), (2, 3, 5, 18), (3, 0), (0, 3), ())


@pytest.mark.sweep(3)
@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_dim_to_the_bit(shape, options):
    def make(F, x):
        found = []
        for dim in range(max(1, len(shape))):
            found += [getattr(F, op)(x, dim=dim) for op in OPS] + [F.cumsum(x, dim=dim, reverse=True)]
        return found

    graph = graph_of(make, f32(*shape))
    arrays = random_arrays(graph)
    program, wanted = lowered(graph, options=options), interpreter.run(graph, arrays)
    loaded = compile_program(program)
    for threads in (1, 2, 3):
        for got, want in zip(run_program(program, arrays, {}, threads, loaded=loaded), wanted, strict=True):
            np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))
    check(graph, arrays, options=options, interpret=int(np.prod(shape)) < 400)


@pytest.mark.parametrize("dtype", [dtypes.f64, dtypes.f16, dtypes.bf16, dtypes.i64, dtypes.u8], ids=str)
def test_types(dtype):
    graph = graph_of(
        lambda F, x: [getattr(F, op)(x, dim=d) for op in OPS for d in (0, 1)], TensorType((6, 21), dtype)
    )
    check(graph, random_arrays(graph), interpret=True)


def test_a_symbolic_dim_and_what_is_computed_on_the_way():
    n = Dim("n", 1, 90)
    graph = graph_of(lambda F, x: F.cumsum(F.mul(x, x), dim=1), TensorType((5, n), dtypes.f32))
    for size in (1, 16, 17, 90):
        x = np.random.default_rng(size).standard_normal((5, size), dtype=np.float32)
        (got,) = run_program(lowered(graph), [x], {"n": size}, 1)
        np.testing.assert_allclose(got, np.cumsum(x.astype(np.float64) ** 2, 1), rtol=1e-6)


def test_special_numbers():
    x = np.array(
        [[-0.0, -0.0, np.nan, 1.0], [np.inf, 1.0, -np.inf, 2.0], [3.0, -1.0, 4.0, np.nan]], np.float32
    )
    graph = graph_of(lambda F, x: [getattr(F, op)(x, dim=1) for op in OPS], f32(3, 4))
    program = lowered(graph)
    with np.errstate(invalid="ignore"):
        wanted = interpreter.run(graph, [x])
    for got, want in zip(run_program(program, [x], {}, 1), wanted, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got[0, :2]), np.signbit(want[0, :2]))


def test_gradients_of_a_compiled_running_sum():
    x = vitrify.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    vitrify.compile(lambda x: (x.cumsum(1) * vitrify.tensor([1.0, 10.0, 100.0])).sum())(x).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[111.0, 110.0, 100.0]] * 2
