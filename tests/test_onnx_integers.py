"""Products of 8-bit integers in ONNX files: every combination of signs and zero points, eager and compiled."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
from vitrify.codegen.target import Target

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

TYPES = {np.uint8: onnx.TensorProto.UINT8, np.int8: onnx.TensorProto.INT8}


def product(a: np.ndarray, b: np.ndarray, zeros: list[np.ndarray]):
    """A model of one MatMulInteger, its weight and zero points constants."""
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    names = ["a_zero", "b_zero"][: len(zeros)]
    node = helper.make_node("MatMulInteger", ["a", "b", *names], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", TYPES[a.dtype.type], a.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)],
        [from_array(b, "b"), *(from_array(z, n) for z, n in zip(zeros, names, strict=True))],
    )
    return torch.onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


@pytest.mark.parametrize("left", TYPES)
@pytest.mark.parametrize("right", TYPES)
@pytest.mark.parametrize("zero_points", ["none", "scalar", "vectors"])
def test_matmul_integer(left, right, zero_points):
    rng = np.random.default_rng(0)

    def numbers(dtype, shape):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)

    a, b = numbers(left, (2, 21, 67)), numbers(right, (67, 35))
    a[0, 0], b[:, 0] = np.iinfo(left).max, np.iinfo(right).min
    shapes = {"none": (), "scalar": ((), ()), "vectors": ((21,), (35,))}[zero_points]
    zeros = [numbers(d, s) for d, s in zip((left, right), shapes)]
    model = product(a, b, zeros)
    a_zero, b_zero = (z.astype(np.int64) for z in zeros) if zeros else (np.int64(0), np.int64(0))
    if zero_points == "vectors":
        a_zero = a_zero[:, None]
    want = (a.astype(np.int64) - a_zero) @ (b.astype(np.int64) - b_zero)
    x = torch.from_numpy(a)
    fast = torch.compile(model)
    with torch.no_grad():
        for run in (model, fast):
            found = run(x)
            assert found.dtype is torch.int32
            np.testing.assert_array_equal(found.numpy(), want)
    if Target.host().has("avx512vnni"):
        (graph,) = fast.report().graphs
        assert any("dot_u8i8" in launch.kernel.comment for launch in graph.program.launches)
