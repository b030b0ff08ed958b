"""`optimize_for_inference` on what `onnx.load` gives: folded batch norms, computed constants, short weights."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from vitrify.onnx import load  # noqa: E402

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def info(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def norm(x, y, channels, constants):
    """A batch norm's node; its numbers go among the constants."""
    names = [f"{y}_{part}" for part in ("scale", "shift", "mean", "variance")]
    constants.update(
        zip(names, (numbers(channels), numbers(channels), numbers(channels), RNG.random(channels) + 0.5))
    )
    return helper.make_node("BatchNormalization", [x, *names], [y], name=f"{y}_norm", epsilon=1e-3)


def proto(nodes, inputs, outputs, constants):
    tensors = [numpy_helper.from_array(np.asarray(a, a.dtype if a.dtype.kind != "f" else np.float32), n)
               for n, a in constants.items()]  # fmt: skip
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def convolutions():
    constants = {
        "a": numbers(8, 3, 3, 3), "a_bias": numbers(8), "b": numbers(8, 4, 3, 3), "c": numbers(24, 16).T.copy(),
        "d": numbers(24, 10), "place": np.array([0, 1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "a", "a_bias"], ["1"], name="first"),
        norm("1", "2", 8, constants),
        helper.make_node("ConvTranspose", ["2", "b"], ["3"], name="second", strides=[2, 2], group=2),
        norm("3", "4", 8, constants),
        helper.make_node("Conv", ["4", "a2"], ["5"], name="third"),
        norm("5", "6", 4, constants),  # stays: 5 is read twice
        helper.make_node("Add", ["5", "6"], ["7"]),
        helper.make_node("GlobalAveragePool", ["7"], ["8"]),
        helper.make_node("Flatten", ["8"], ["9"]),
        helper.make_node("Transpose", ["d"], ["d2"], perm=[1, 0]),  # known: computed once
        helper.make_node("Gemm", ["9", "c2"], ["10"], name="fourth", transB=1),
        norm("10", "11", 24, constants),
        helper.make_node("MatMul", ["11", "d"], ["y"]),
        helper.make_node("MatMul", ["y", "d2"], ["z"]),
    ]
    constants |= {"a2": numbers(4, 8, 2, 2), "c2": numbers(24, 4)}
    return proto(nodes, [info("x", 2, 3, 6, 6)], [info("y", 2, 10), info("z", 2, 24)], constants)


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


def close(found, wanted, atol=1e-4):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=atol)


def test_batch_norms_and_constants():
    net, x = load(convolutions()), torch.from_numpy(numbers(2, 3, 6, 6))
    fast = torch.optimize_for_inference(net, x)
    about = fast.optimization
    assert about.folded == {
        f"node {n}_norm (BatchNormalization)": f"node {layer}"
        for n, layer in ((2, "first (Conv)"), (4, "second (ConvTranspose)"), (11, "fourth (Gemm)"))
    }
    assert "4 MatMul" not in str(fast) and "Transpose" not in str(fast).replace("ConvTranspose", "")
    close(fast(x), net(x))
    close(torch.compile(fast)(x), net(x))
    assert not any(p.requires_grad for p in fast.parameters()) and any(
        p.requires_grad for p in net.parameters()
    )
    assert fast.input_names == net.input_names and fast.output_types == net.output_types


@pytest.mark.parametrize(
    "precision, activations, part", [("bf16", "float", 0.6), ("int8", "float", 0.5), ("int8", "int8", 0.5)]
)
def test_short_weights(precision, activations, part, tmp_path):
    net, x = load(convolutions()), torch.from_numpy(numbers(2, 3, 6, 6))
    fast = torch.optimize_for_inference(net, x, precision=precision, activations=activations)
    about = fast.optimization
    kinds = {f"{precision} weight"} | ({"int8 weight and rows"} if activations == "int8" else set())
    assert set(about.replaced.values()) == kinds and len(about.replaced) >= 4
    worst = 0.1 if activations == "int8" else 0.05
    assert all(0 < e.relative < worst for e in about.errors), about
    assert about.bytes_after < part * about.bytes_before
    close(torch.compile(fast)(x), fast(x))
    torch.export(fast, x, tmp_path / "net.so")
    close(torch.load_exported(tmp_path / "net.so")(x), fast(x))


def test_a_way_that_is_known():
    """An `If` on a fixed input is the nodes of its way; the weights of the other way go."""
    ways = []
    for name, rows in (("then", 300), ("else", 20)):
        constants = [
            numpy_helper.from_array(numbers(4, rows), "w"),
            numpy_helper.from_array(numbers(rows, 2), "v"),
        ]
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("MatMul", ["h", "v"], [f"{name}_y"]),
        ]
        ways.append(helper.make_graph(nodes, name, [], [info(f"{name}_y", 1, 2)], constants))
    node = helper.make_node("If", ["large"], ["y"], then_branch=ways[0], else_branch=ways[1])
    inputs = [info("x", 1, 4), info("large", kind=TensorProto.BOOL)]
    model = proto([node], inputs, [info("y", 1, 2)], {})
    x = torch.from_numpy(numbers(1, 4))
    for large, count in ((True, 1800), (False, 120)):
        net = load(model, fixed={"large": large})
        fast = torch.optimize_for_inference(net, x)
        assert sum(p.numel() for p in fast.parameters()) == count
        close([fast(x)], [net(x)])


def test_inside_another_module():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = load(convolutions())
            self.head = nn.Linear(10, 40)

        def forward(self, x):
            return self.head(self.inner(x)[0])

    net, x = Around().eval(), torch.from_numpy(numbers(2, 3, 6, 6))
    about = torch.optimize_for_inference(net, x, precision="int8").optimization
    assert (
        about.replaced["head"] == "Int8Linear" and about.replaced["inner.a_folded"] == "int8 weight and rows"
    )
    assert "inner.node 2_norm (BatchNormalization)" in about.folded
