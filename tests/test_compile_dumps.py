"""Every stage can be read, parsed back and run."""

from __future__ import annotations

import numpy as np
import pytest
from networks import digits, lenet
from test_compile_step import OPTIMIZERS, make_step

import vitrify as torch
from vitrify.ir import dtypes
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text


def inputs_of(graph, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for value in graph.inputs:
        shape = value.type.bind({s.name: 3 for s in graph.symbols}).shape
        if value.type.dtype is dtypes.i64:
            found.append(rng.integers(0, 10, shape))
        else:
            found.append((rng.standard_normal(shape) * 0.1).astype(value.type.dtype.numpy))
    return found


@pytest.fixture(scope="module")
def step():
    net = lenet()
    compiled = torch.compile(make_step(net, OPTIMIZERS["momentum"](net.parameters())))
    compiled(*digits(3))
    return compiled


def test_every_stage_of_a_step_parses_back_and_runs(step):
    compiled = step._graph()
    inputs = inputs_of(compiled.traced)
    want = run(compiled.traced, inputs)
    for name in compiled.stage_names():
        graph = compiled.stage(name)
        parsed = parse(to_text(graph))
        assert parsed == graph, name
        for a, b in zip(run(parsed, inputs), want):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


def test_every_stage_of_a_symbolic_model_parses_back_and_runs():
    net = lenet()
    fast = torch.compile(net, dynamic_shapes={"x": {0: torch.Dim("batch", 1, 256)}})
    fast(digits(3)[0])
    for compiled in fast._compiled._current().graphs():
        inputs = inputs_of(compiled.traced)
        want = run(compiled.traced, inputs)
        for name in compiled.stage_names():
            parsed = parse(to_text(compiled.stage(name)))
            assert parsed == compiled.stage(name), name
            for a, b in zip(run(parsed, inputs), want):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


def test_dumps_are_numbered_files_for_every_stage(tmp_path):
    net = lenet()
    with torch.no_grad():
        torch.compile(net, dump=tmp_path)(digits(1)[0])
    (folder,) = tmp_path.iterdir()
    names = sorted(p.name for p in folder.iterdir())
    assert names[0] == "00-traced.ir"
    assert any(n.endswith("fusion.ir") for n in names)
    assert names[-3:] == [
        f"{len(names) - 3:02}-loops.txt",
        f"{len(names) - 2:02}-program.ll",
        f"{len(names) - 1:02}-program.s",
    ]
    assert parse((folder / "00-traced.ir").read_text()).name == "LeNet"


def test_the_environment_variable_dumps_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("VITRIFY_DUMP", str(tmp_path))
    torch.compile(lambda x: x + 1)(torch.ones(3))
    assert list(tmp_path.rglob("00-traced.ir"))


def test_nodes_know_the_users_line_and_module(step):
    places = {str(n.location) for n in step.graph("traced").nodes if n.location is not None}
    assert any("networks.py" in p and "conv1" in p for p in places)
    assert any("backward" in p for p in places)


def test_the_report_names_stages_kernels_and_memory(step):
    text = str(step.report())
    for part in ("traced", "fusion", "arena", "lower bound", "first call"):
        assert part in text
    assert "vector" in step.loops() and "define" in step.llvm() and "ret" in step.assembly()
    assert step.report().arena_bytes <= 1.2 * step.report().arena_lower_bound
