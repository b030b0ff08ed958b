"""`vitrify.onnx.load`: names, parameters, shapes, control flow, functions, and what it says about damaged files."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitrify as torch
import vitrify.nn.functional as F

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from vitrify.onnx import ONNXError, load, reading, supported_ops  # noqa: E402

RNG = np.random.default_rng(0)


def info(name, shape=("n",), kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, opset=17, functions=(), **initializers):
    tensors = [numpy_helper.from_array(np.asarray(v), k.replace("__", ".")) for k, v in initializers.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions))


def convnet():
    f = np.float32
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv.weight", "conv.bias"], ["c"], pads=[1, 1, 1, 1], name="/conv/Conv"
        ),
        helper.make_node(
            "BatchNormalization", ["c", *(f"bn.{n}" for n in ("weight", "bias", "mean", "var"))], ["b"]
        ),
        helper.make_node("Clip", ["b", "low", "high"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    return model(
        nodes, [info("x", ["batch", 3, 8, 8])], [info("y", ["batch", 5])],
        conv__weight=RNG.normal(size=(4, 3, 3, 3)).astype(f), conv__bias=np.zeros(4, f),
        bn__weight=np.ones(4, f), bn__bias=np.zeros(4, f), bn__mean=np.full(4, 0.5, f), bn__var=np.full(4, 2, f),
        low=np.array(0, f), high=np.array(6, f), zero=np.array(0), axes=np.array([0]), rest=np.array([-1]),
        fc__weight=RNG.normal(size=(5, 64)).astype(f), fc__bias=np.zeros(5, f),
    )  # fmt: skip


def expected(net, x):
    p = net.get_parameter
    y = F.conv2d(x, p("conv.weight"), p("conv.bias"), padding=1)
    y = F.batch_norm(y, net.get_buffer("bn.mean"), net.get_buffer("bn.var"), p("bn.weight"), p("bn.bias"))
    y = F.max_pool2d(torch.clamp(y, 0, 6), 2)
    return F.linear(y.flatten(1), p("fc.weight"), p("fc.bias"))


def test_a_network_under_its_names():
    net = load(convnet().SerializeToString())
    assert [n for n, _ in net.named_parameters()] == [
        "conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias",
    ]  # fmt: skip
    assert {"bn.mean", "bn.var", "low", "high", "rest"} <= {n for n, _ in net.named_buffers()}
    assert net.input_names == ("x",) and net.input_types == {"x": "float32[batch, 3, 8, 8]"}
    assert net.output_names == ("y",) and net.original_names["conv.weight"] == "conv.weight"
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(net(x), expected(net, x))
    torch.testing.assert_close(net(x=x), expected(net, x))
    torch.testing.assert_close(copy.deepcopy(net)(x), expected(net, x))
    text = repr(net)
    assert "inputs: x: float32[batch, 3, 8, 8]" in text and "1 Conv" in text
    assert "(fc): Scope(weight: float32[5, 64], bias: float32[5])" in text


def test_one_compile_serves_all_batch_sizes():
    net = load(convnet())
    compiled = torch.compile(net, dynamic_shapes={"x": {0: torch.Dim("batch", 1, 16)}})
    for batch in (2, 5):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(compiled(x), expected(net, x))


def test_it_trains():
    torch.manual_seed(0)
    net = load(convnet())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    x, target = torch.randn(8, 3, 8, 8), torch.randint(0, 5, (8,))

    @torch.compile
    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), target)
        loss.backward()
        optimizer.step()
        return loss

    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0] / 2


def test_the_inputs_are_checked():
    net = load(convnet())
    with pytest.raises(TypeError, match="missing inputs: x"):
        net()
    with pytest.raises(TypeError, match="unexpected input 'z'; the graph's inputs are x"):
        net(z=torch.ones(1))
    with pytest.raises(TypeError, match="takes 1 inputs"):
        net(torch.ones(1), torch.ones(1))


def test_branches_and_loops():
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "then", [], [info("a")])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "else", [], [info("b")])
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "r"], ["next"]), helper.make_node("Identity", ["going"], ["on"])],
        "body",
        [info("i", [], TensorProto.INT64), info("going", [], TensorProto.BOOL), info("state")],
        [info("on", [], TensorProto.BOOL), info("next")],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Less", ["sum", "nought"], ["negative"]),
        helper.make_node("If", ["negative"], ["r"], then_branch=then, else_branch=other),
        helper.make_node("Loop", ["three", "", "x"], ["y"], body=body),
    ]
    net = load(model(nodes, [info("x")], [info("y")], nought=np.float32(0), three=np.array(3)))
    compiled = torch.compile(net)
    for sign in (1, -1):
        x = sign * torch.ones(4)
        torch.testing.assert_close(net(x), x + 3 * x.abs())
        torch.testing.assert_close(compiled(x), x + 3 * x.abs())


def test_weights_in_branches_are_parameters():
    weights = [RNG.normal(size=(10, 10)).astype(np.float32) for _ in range(2)]
    branches = []
    for name, weight in zip(("small", "large"), weights):
        product = helper.make_node("MatMul", ["x", "w"], [f"{name}_y"])
        tensor = numpy_helper.from_array(weight, "w")
        nodes, initializers = [product], [tensor]
        if name == "large":
            nodes, initializers = [helper.make_node("Constant", [], ["w"], value=tensor), product], []
        branches.append(helper.make_graph(nodes, name, [], [info(f"{name}_y")], initializers))
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Less", ["top", "limit"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    net = load(model(nodes, [info("x", [2, 10])], [info("y", [2, 10])], limit=np.float32(2)))
    assert {name for name, _ in net.named_parameters()} == {"limit", "small.w", "large.w"}
    for scale, weight in zip((1, 3), weights):
        x = torch.full((2, 10), float(scale))
        torch.testing.assert_close(net(x), x @ torch.from_numpy(weight))
        torch.testing.assert_close(torch.compile(net)(x), x @ torch.from_numpy(weight))
    net(x).sum().backward()
    assert net.large.w.grad is not None and net.small.w.grad is None


def test_functions_of_the_file():
    scaled = helper.make_function(
        "own", "Scaled", ["v"], ["w"],
        [
            onnx.parser.parse_node("c = Constant<value_float: float = @factor>()"),
            helper.make_node("Mul", ["v", "c"], ["w"]),
        ],
        [helper.make_opsetid("", 17)], ["factor"],
    )  # fmt: skip
    nodes = [helper.make_node("Scaled", ["x"], ["y"], domain="own", factor=2.5)]
    net = load(model(nodes, [info("x")], [info("y")], functions=[scaled]))
    torch.testing.assert_close(net(torch.ones(3)), torch.full((3,), 2.5))


def test_external_data(tmp_path):
    whole = convnet()
    inside = load(whole)
    onnx.save(
        whole, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0
    )
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(load(tmp_path / "m.onnx")(x), inside(x))
    with pytest.raises(ONNXError, match="load the model by its path"):
        load((tmp_path / "m.onnx").read_bytes())
    data = (tmp_path / "m.data").read_bytes()
    (tmp_path / "m.data").write_bytes(data[:100])
    with pytest.raises(ONNXError, match=r"external data at 'm.data' has not the \d+ elements"):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", ""])
def test_external_data_stays_in_the_folder(tmp_path, location):
    (tmp_path / "outside.bin").write_bytes(bytes(1 << 12))
    hostile = convnet()
    tensor = hostile.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(hostile.SerializeToString())
    with pytest.raises(
        ONNXError, match=r"initializer 'conv.weight': external data at .* outside of the model's folder"
    ):
        load(folder / "m.onnx")


def test_all_unsupported_ops_are_listed():
    nodes = [
        helper.make_node("Mystery", ["x"], ["a"], domain="own", name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("StringSplit", ["b"], ["y"]),
    ]
    with pytest.raises(ONNXError, match="not supported") as caught:
        load(model(nodes, [info("x")], [info("y")], opset=20))
    assert "own::Mystery, first at node first (Mystery)" in str(caught.value)
    assert "StringSplit, first at node #2 (StringSplit)" in str(caught.value)
    assert "Relu" in supported_ops() and "StringSplit" not in supported_ops()


def test_the_document_lists_the_ops():
    text = (Path(__file__).parents[1] / "docs" / "onnx.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"`([\w.:]+)` \d", text)) == supported_ops()


def test_what_is_wrong_names_the_node():
    x, y = [info("x")], [info("y")]
    with pytest.raises(
        ONNXError, match=r"node n \(Relu\) reads 'z', which no input, initializer or earlier node"
    ):
        load(model([helper.make_node("Relu", ["z"], ["y"], name="n")], x, y))
    cycle = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(ONNXError, match=r"node #0 \(Relu\) reads 'b'"):
        load(model(cycle, x, [info("b")]))
    twice = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])]
    with pytest.raises(ONNXError, match=r"node #1 \(Abs\) defines 'y', which is defined already"):
        load(model(twice, x, y))
    with pytest.raises(ONNXError, match="graph output 'y' is computed by no node"):
        load(model([], x, y))
    with pytest.raises(ONNXError, match=r"node #0 \(Cast\): attribute to is missing"):
        load(model([helper.make_node("Cast", ["x"], ["y"])], x, y))(torch.ones(2))
    with pytest.raises(RuntimeError) as caught:
        load(model([helper.make_node("MatMul", ["x", "x"], ["y"], name="mm")], x, y))(torch.ones(2, 3))
    assert "in ONNX node mm (MatMul)" in caught.value.__notes__


def test_damaged_files(tmp_path):
    data = convnet().SerializeToString()
    for bad in (b"", b"not a model at all", data[: len(data) // 2], b"\x80\x02" + data):
        with pytest.raises(ONNXError):
            load(bad)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.onnx")
    with pytest.raises(TypeError, match="takes a path, bytes, a file or a ModelProto"):
        load(3)


VALID = convnet().SerializeToString()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    st.data(),
)
def test_changed_bytes_give_a_module_or_one_error(changes, data):
    changed = bytearray(VALID)
    # The graph's structure is in the bytes that are not weights: most of the changes go there.
    start = VALID.rindex(b"conv.weight")
    for place, byte in changes:
        changed[place if data.draw(st.booleans()) else min(place, start) % len(VALID)] = byte
    end = len(changed) if data.draw(st.booleans()) else data.draw(st.integers(0, len(changed)))
    try:
        load(bytes(changed[:end]))
    except ONNXError as error:
        assert str(error)


def test_a_shape_without_its_elements_allocates_nothing():
    hostile = convnet()
    hostile.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    with pytest.raises(
        ONNXError, match=r"initializer 'conv.weight': shape .* but the file holds fewer elements"
    ):
        load(hostile)


def test_functions_that_call_each_other_end():
    own = [helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function("own", a, ["v"], ["w"], [helper.make_node(b, ["v"], ["w"], domain="own")], own)
        for a, b in (("A", "B"), ("B", "A"))
    ]
    with pytest.raises(ONNXError, match="nested more than"):
        load(
            model(
                [helper.make_node("A", ["x"], ["y"], domain="own")],
                [info("x")],
                [info("y")],
                functions=functions,
            )
        )


def test_functions_that_multiply_are_refused(monkeypatch):
    monkeypatch.setattr(reading, "_MAX_NODES", 2000)
    own = [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)]
    functions = [
        helper.make_function("own", "F0", ["v"], ["w"], [helper.make_node("Relu", ["v"], ["w"])], own)
    ]
    for level in range(1, 25):
        calls = [
            helper.make_node(f"F{level - 1}", ["v"], [out], domain="own") for out in ("a", "b", "w")
        ]  # fmt: skip
        functions.append(helper.make_function("own", f"F{level}", ["v"], ["w"], calls, own))
    with pytest.raises(ONNXError, match="more than 2000 nodes"):
        load(
            model(
                [helper.make_node("F24", ["x"], ["y"], domain="own")],
                [info("x")],
                [info("y")],
                functions=functions,
            )
        )


def test_fixed_inputs():
    then, other = (
        helper.make_graph([helper.make_node(op, ["x", "x"], ["y"])], op, [], [info("y")])
        for op in ("Add", "Mul")
    )
    nodes = [
        helper.make_node("Equal", ["rate", "wanted"], ["same"]),
        helper.make_node("If", ["same"], ["out"], then_branch=then, else_branch=other),
    ]
    proto = model(
        nodes, [info("x"), info("rate", [], TensorProto.INT64)], [info("out")], wanted=np.array(16000)
    )
    x = torch.tensor([3.0, 4.0])
    for rate, expected in ((16000, [6.0, 8.0]), (torch.tensor(8000), [9.0, 16.0])):
        net = load(proto, fixed={"rate": rate})
        assert net.input_names == ("x",) and not net.training and not list(net.parameters())
        assert net(x).tolist() == expected == torch.compile(net, fullgraph=True)(x).tolist()
    assert load(proto)(x, torch.tensor(16000)).tolist() == [6.0, 8.0]
    with pytest.raises(ValueError, match="'speed' is no input of the graph; they are x, rate"):
        load(proto, fixed={"speed": 1})
    with pytest.raises(ValueError, match="whole numbers and bools can be fixed"):
        load(proto, fixed={"x": [1.0]})
    with pytest.raises(TypeError, match="not float64"):
        load(proto, fixed={"rate": 0.5})


def test_weights_of_four_bits():
    """Blocks of 4, each with its scale: a buffer of 8 bits, compiled and exported as others."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    steps = np.arange(-8, 8).reshape(8, 2)
    scale = np.array([[0.5, 1.0], [2.0, 0.25]], np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["wide"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    short = steps.astype(ml_dtypes.int4)
    net = load(model(nodes, [info("x", (3, 8))], [info("y", (3, 2))], opset=21, w=short, scale=scale))
    assert net.w.dtype is torch.int8
    x = torch.randn(3, 8)
    wanted = x.numpy() @ (steps * scale.repeat(4, 0)).astype(np.float32)
    with torch.no_grad():
        for run in (net, torch.compile(net), load(torch.onnx.export(net, x))):
            np.testing.assert_allclose(run(x).numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_elements_that_no_tensor_has():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT8E4M3FN)]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT8E4M3FN, [3])
    net = load(model(nodes, [info("x", (3,))], [output], opset=19))
    found = net(torch.tensor([0.3, 500.0, -1.0]))
    assert found.dtype == ml_dtypes.float8_e4m3fn
    assert found.astype(np.float32).tolist() == [0.3125, 448.0, -1.0]
    with pytest.raises(RuntimeError, match="numpy"):
        torch.compile(net)(torch.ones(3))


def test_outputs_that_are_wanted():
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMul", ["h", "b"], ["y"]),
        helper.make_node("Add", ["h", "other"], ["z"]),
    ]
    arrays = {"a": np.eye(3, dtype=np.float32), "b": np.full((3, 2), 2, np.float32)}
    source = model(nodes, [info("x", (1, 3)), info("other", (1, 3))], [info("y"), info("z")], **arrays)
    x = torch.tensor([[1.0, 2.0, 3.0]])
    net = load(source, outputs=["y"])
    assert net.input_names == ("x",) and net(x).tolist() == [[12.0, 12.0]]
    inner = load(source, outputs=["h", "z"])
    assert [name for name, _ in inner.named_parameters()] == ["a"] and inner(x, x)[1].tolist() == [
        [2.0, 4.0, 6.0]
    ]
    with pytest.raises(ValueError, match="outputs: 'x' is given by no node"):
        load(source, outputs=["x"])


def test_without_the_package():
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import vitrify\nvitrify.as_torch()\nimport torch.onnx\n"
        "try:\n    torch.onnx.load(b'')\nexcept ImportError as error:\n    print(error)\n"
        "try:\n    torch.onnx.export(len)\nexcept ImportError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["ONNX files need the onnx package: pip install 'vitrify[onnx]'"] * 2


def test_weights_of_a_file_are_packed_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = torch.nn.Linear(70, 90).eval(), torch.randn(48, 70)
    torch.onnx.export(net, (x,), tmp_path / "linear.onnx")
    compiled = torch.compile(load(tmp_path / "linear.onnx"))
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))
    assert compiled._compiled.graphs()[0].prepared_bytes > 0
