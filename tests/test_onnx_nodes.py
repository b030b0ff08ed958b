"""The node tests that ship with the `onnx` package, against our backend class (`vitrify.onnx.backend`).

`onnx_passing.txt` lists those that pass; `pytest tests/test_onnx_nodes.py --update-golden` adds to it. Every other one
is covered by a reason in EXCLUDED.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from vitrify.onnx import backend  # noqa: E402
from vitrify.onnx.narrow import widened  # noqa: E402
from vitrify.onnx.table import RULES  # noqa: E402

LISTED = Path(__file__).parent / "onnx_passing.txt"

# A pattern of test names, and why these do not pass.
EXCLUDED = {
    r"string|^test_(str|regex|label_encoder|ai_onnx_ml_label_encoder|tfidf)|STRING": "strings",
    r"^test_image_decoder": "image formats",
    r"^test_ai_onnx_ml_tree_ensemble": "classical models (ai.onnx.ml)",
    r"^test_(training_dropout|bernoulli)": "random numbers of NumPy's generator",
}

# Half types are compared within a few units of their last place; the reference rounds elsewhere.
HALF = {"float16": 4e-3, "bfloat16": 2e-2}


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return list(load_model_tests(kind="node"))


def listed() -> list[str]:
    return LISTED.read_text(encoding="utf-8").split()


def check(actual: Any, expected: Any, rtol: float, atol: float) -> None:
    if isinstance(expected, list):
        assert isinstance(actual, list) and len(actual) == len(expected)
        for a, e in zip(actual, expected):
            check(a, e, rtol, atol)
        return
    if expected is None:
        assert actual is None
        return
    if isinstance(expected, onnx.TensorProto):
        expected = onnx.numpy_helper.to_array(expected)
    expected = np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    actual, expected = widened(actual), widened(expected)
    loose = HALF.get(expected.dtype.name)
    if loose:
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
        rtol, atol = max(rtol, loose), max(atol, loose / 4)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def run(case: Any) -> None:
    compare(case, backend.prepare(case.model), case.data_sets)


def compare(case: Any, prepared: Any, data_sets: Any) -> None:
    for inputs, outputs in data_sets:
        results = prepared.run(inputs)
        assert len(results) == len(outputs)
        for actual, expected in zip(results, outputs):
            check(actual, expected, case.rtol, case.atol)


def run_compiled(case: Any) -> None:
    """Shapes, axes and the like are constants in files; the tests give them as inputs. Here they are constants too."""
    inputs, outputs = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    rest = []
    static = {
        name
        for node in model.graph.node
        if (node.domain, node.op_type) in RULES
        for position, name in enumerate(node.input)
        if position in RULES[node.domain, node.op_type].static
    }
    for position, (info, value) in enumerate(zip(list(model.graph.input), inputs)):
        shape_like = position and getattr(value, "dtype", None) == np.int64 and value.size <= 16
        if info.name in static or shape_like:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), info.name))
            model.graph.input.remove(info)
        else:
            rest.append(value)
    compare(case, backend.prepare(model, compiled=True), [(rest, outputs)])


def failures(cases: Sequence[Any], run: Callable[[Any], None] = run) -> dict[str, str]:
    found = {}
    for case in cases:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(case)
        except Exception as error:
            found[case.name] = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return found


def test_what_passed_passes(cases, request, capsys):
    failed = failures(cases)
    passing = [case.name for case in cases if case.name not in failed]
    if request.config.getoption("--update-golden"):
        LISTED.write_text("\n".join(sorted({*passing, *listed()})) + "\n", encoding="utf-8")
    with capsys.disabled():
        print(f"\nONNX {onnx.__version__} node tests: {len(passing)} of {len(cases)} pass")
    floor = set(listed())
    assert {name: why for name, why in failed.items() if name in floor} == {}
    new = [name for name in passing if name not in floor]
    assert new == [] or onnx.__version__ != "1.23.2", "run: pytest tests/test_onnx_nodes.py --update-golden"


def test_the_rest_has_reasons(cases):
    floor = set(listed())
    rest = [case.name for case in cases if case.name not in floor]
    unexplained = [name for name in rest if not any(re.search(pattern, name) for pattern in EXCLUDED)]
    assert unexplained == [] or onnx.__version__ != "1.23.2"


# What is not compiled: how many results there are depends on the elements, or sizes are given to a function's body.
NOT_COMPILED = re.compile(r"nonmax|window|dropout")


def test_a_sample_compiles(cases):
    floor = set(listed())
    by_op: dict[str, Any] = {}
    for case in cases:
        if case.name in floor and "expanded" not in case.name and not NOT_COMPILED.search(case.name):
            by_op.setdefault(case.model.graph.node[-1].op_type, case)
    chosen = random.Random(5).sample(sorted(by_op), min(40, len(by_op)))
    assert failures([by_op[op] for op in chosen], run_compiled) == {}


def test_the_backend_of_the_onnx_package():
    node = onnx.helper.make_node("Split", ["x"], ["a", "b"], num_outputs=2)
    x = np.arange(4, dtype=np.float32)
    found = backend.run_node(node, [x], opset_version=18)
    assert found["b"].tolist() == [2.0, 3.0] and found[0].tolist() == [0.0, 1.0]
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sub", ["x", "y"], ["z"])],
        "net",
        [info("x", 1, [4]), info("y", 1, [4])],
        [info("z", 1, [4])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    assert backend.prepare(model, compiled=True).run({"y": x, "x": 2 * x}).z.tolist() == x.tolist()
    assert backend.is_compatible(model)
    graph.node[0].op_type = "StringConcat"
    assert not backend.is_compatible(onnx.helper.make_model(graph))
    with pytest.raises(ValueError, match="runs on the CPU"):
        backend.prepare(model, "CUDA")
