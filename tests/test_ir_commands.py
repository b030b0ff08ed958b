"""Graphs as data: `vitrify ir`, passes as text, exports to Graphviz and networkx."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from vitrify.__main__ import main
from vitrify.ir import ops as _ops  # noqa: F401
from vitrify.ir.parser import parse
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.decompose import Decompose
from vitrify.passes.fusion import Fusion
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.passes.simplify import Simplify
from vitrify.passes.text import PASSES, PassSyntaxError, parse_passes, passes_text

TEXT = """\
graph soft(%x: f32[2,3], %w: f32[3,4]) -> f32[2,4] {
  %0: f32[2,4] = matmul(%x, %w)
  %1: f32[2,4] = softmax(%0) {dim=1}
  return %1
}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "soft.ir"
    path.write_text(TEXT)
    return path


def arrays():
    random = np.random.default_rng(0)
    return {"x": random.random((2, 3), np.float32), "w": random.random((3, 4), np.float32)}


def expected(x, w):
    e = np.exp(x @ w)
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("how", [[], ["--native"]])
def test_a_graph_runs_on_arrays_from_a_file(file, tmp_path, named, how):
    given = arrays()
    if named:
        np.savez(tmp_path / "in.npz", **dict(reversed(given.items())))
    else:
        np.savez(tmp_path / "in.npz", *given.values())
    words = ["ir", "run", str(file), "--inputs", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")]
    assert main([*words, *how]) == 0
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["1"], expected(**given), rtol=1e-5)


def test_what_was_optimized_runs_natively_as_it_is(file, tmp_path, capsys):
    fused = tmp_path / "fused.ir"
    assert main(["ir", "opt", str(file), "-o", str(fused)]) == 0
    graph = parse(fused.read_text())
    assert graph == run_pipeline(parse(TEXT), default_pipeline())[-1]
    assert {n.op.name for n in graph.nodes} == {"fused"}
    np.savez(tmp_path / "in.npz", **arrays())
    assert main(["ir", "run", str(fused), "--inputs", str(tmp_path / "in.npz"), "--native"]) == 0
    out = capsys.readouterr().out
    assert "f32[2,4] =" in out and f"{expected(**arrays())[0, 0]:.4f}"[:5] in out


def test_passes_are_chosen_by_name(file, capsys):
    assert main(["ir", "opt", str(file), "-p", "decompose, cse"]) == 0
    found = parse(capsys.readouterr().out)
    assert "exp" in [n.op.name for n in found.nodes] and "softmax" not in [n.op.name for n in found.nodes]
    assert main(["ir", "opt", str(file), "-p", "decompose{keep=[softmax]}"]) == 0
    assert parse(capsys.readouterr().out) == parse(TEXT)


def test_the_memory_plan_of_what_passes_leave(file, tmp_path, capsys):
    assert main(["ir", "opt", str(file), "-p", "decompose, fusion{max_nodes=8},memory_plan"]) == 0
    text = capsys.readouterr().out
    assert "# memory plan of soft for " in text and "2 launches" in text
    assert re.search(r"#  +0 +32 +0-1  0 +f32\[2,4\]  fused_0\n", text)
    assert "# x  f32[2,3]  input\n# w  f32[3,4]  input\n# 1  f32[2,4]  output\n" in text
    fused = tmp_path / "fused.ir"
    fused.write_text(text)
    assert main(["ir", "opt", str(fused), "-p", "memory_plan"]) == 0
    assert capsys.readouterr().out == text, "the plan is comments: the file is read as a graph again"
    file.write_text("dims n in 1..64\n" + TEXT.replace("f32[2,", "f32[n,"))
    assert main(["ir", "opt", str(file), "-p", "decompose, fusion, memory_plan"]) == 0
    assert "# arena of 64*n bytes\n#\n" in capsys.readouterr().out


def test_a_memory_plan_needs_kernels(file, capsys):
    for passes, message in [
        ("memory_plan", "soft is not fused: memory_plan plans the kernels of groups; put fusion before it"),
        ("fusion, memory_plan", "no lowering for this op.*decompose comes before fusion"),
        ("memory_plan, fusion", "memory_plan comes last"),
        ("fusion, memory_plans", "no pass 'memory_plans'; did you mean memory_plan?"),
    ]:
        assert main(["ir", "opt", str(file), "-p", passes]) == 1
        assert re.search(message, capsys.readouterr().err, re.DOTALL)
    with pytest.raises(PassSyntaxError, match="memory_plan makes no graph"):
        parse_passes("fusion, memory_plan")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04abc", b"not an archive"])
def test_inputs_that_are_no_archive(file, tmp_path, capsys, content):
    (tmp_path / "in.npz").write_bytes(content)
    assert main(["ir", "run", str(file), "--inputs", str(tmp_path / "in.npz")]) == 1
    assert "in.npz cannot be read as arrays" in capsys.readouterr().err


def test_verify_says_what_is_wrong(file, tmp_path, capsys):
    bad = tmp_path / "bad.ir"
    bad.write_text(TEXT.replace("f32[2,4] = softmax", "f32[2,5] = softmax"))
    assert main(["ir", "verify", str(file), str(bad)]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{file}: soft, 2 nodes, sound\n"
    assert "bad.ir: " in captured.err and "f32[2,5]" in captured.err
    assert main(["ir", "verify", str(file)]) == 0


def test_commands_say_what_they_need(file, tmp_path, capsys):
    np.savez(tmp_path / "in.npz", x=arrays()["x"], v=arrays()["w"])
    assert main(["ir", "run", str(file), "--inputs", str(tmp_path / "in.npz")]) == 1
    assert "soft takes the inputs x, w: w missing; v unknown" in capsys.readouterr().err
    assert main(["ir", "opt", str(file), "-p", "simplfy"]) == 1
    assert "no pass 'simplfy'; did you mean simplify?" in capsys.readouterr().err
    assert main(["ir", "run", str(tmp_path / "nothing.ir")]) == 1
    assert "nothing.ir" in capsys.readouterr().err
    np.savez(tmp_path / "in.npz", x=arrays()["x"], w=arrays()["x"])
    assert main(["ir", "run", str(file), "--inputs", str(tmp_path / "in.npz")]) == 1
    assert "%w must be f32[3,4]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "passes",
    [
        default_pipeline(),
        (Simplify(), Decompose(("softmax", "gelu")), Fusion(enabled=False, max_nodes=3)),
        (Autodiff(("x", "a b"), (0, 2), "ones"), Autodiff((), None)),
    ],
)
def test_passes_are_read_as_they_are_written(passes):
    text = passes_text(passes)
    assert parse_passes(text) == passes
    assert parse_passes(text.replace(", ", " ,\n  ")) == passes


def test_a_pass_prints_what_is_not_the_default():
    assert passes_text([Fusion(), replace(Fusion(), cheap=2)]) == "fusion, fusion{cheap=2}"
    assert {step.name for step in default_pipeline()} <= PASSES.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the name of a pass, found 'the end', at column 1"),
        ("cse dce", "expected ',' or the end, found 'dce'"),
        ("fusion{speed=1}", "no option of fusion 'speed'; there are cheap, enabled"),
        ("fusion{enabled=1}", "fusion's enabled cannot be 1: it is bool"),
        ("fusion{cheap=true}", "fusion's cheap cannot be true: it is int"),
        ("fusion{cheap=1, cheap=2}", "fusion has cheap twice"),
        ("fusion{cheap", "expected '=', found 'the end'"),
        ("decompose{keep=[1]}", "cannot be [1]"),
        ("decompose{keep=[a b]}", "expected ',', found 'b'"),
        ("autodiff", "autodiff needs wrt"),
        ("cse, ?", "unexpected '?', at column 5"),
        ('decompose{keep=["\\x"]}', "is no string"),
    ],
)
def test_faults_in_the_text_are_named(text, message):
    with pytest.raises(PassSyntaxError) as caught:
        parse_passes(text)
    assert message in str(caught.value)


def test_a_graph_becomes_a_drawing():
    graph = parse(TEXT)
    fused = run_pipeline(graph, default_pipeline())[-1]
    dot = graph.to_dot()
    assert dot.startswith('digraph "soft" {\n') and dot.endswith("}\n")
    assert '"%x" [label="%x: f32[2,3]", shape=ellipse];' in dot
    assert '"%x" -> "0" [label="%x"];' in dot and '"0" -> "1" [label="%0"];' in dot
    assert '"1" [label="softmax\\n%1: f32[2,4]"];' in dot and '"1" -> "output 0"' in dot
    assert fused.to_dot().count("subgraph") == len(fused.nodes)
    assert graph.to_networkx().number_of_edges() == 3
    renderer = shutil.which("dot")
    if renderer:
        subprocess.run([renderer, "-Tsvg"], input=fused.to_dot(), text=True, check=True, capture_output=True)


def test_a_value_that_an_op_refuses_is_one_line(tmp_path, capsys):
    (tmp_path / "g.ir").write_text(
        "graph g(%x: f32[4], %i: i64[2]) -> (f32[2]) {\n  %0: f32[2] = index_select(%x, %i) {dim=0}\n  return %0\n}\n"
    )
    np.savez(tmp_path / "x.npz", x=np.zeros(4, np.float32), i=np.array([0, 9]))
    for native in ([], ["--native"]):
        words = ["ir", "run", str(tmp_path / "g.ir"), "--inputs", str(tmp_path / "x.npz"), *native]
        assert main(words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("vitrify: ") and "out of range" in line


def test_types_that_are_not_numpys_own(tmp_path, capsys):
    (tmp_path / "g.ir").write_text(
        "graph g(%x: bf16[2]) -> (bf16[2]) {\n  %0: bf16[2] = neg(%x)\n  return %0\n}\n"
    )
    x = np.array([1.5, -3], ml_dtypes.bfloat16)
    for stored in (x, x.view(np.uint16)):
        np.savez(tmp_path / "x.npz", x=stored, stage=np.array("fusion"))
        words = ["ir", "run", str(tmp_path / "g.ir"), "--inputs", str(tmp_path / "x.npz")]
        assert main(words) == 0
        assert "[-1.5 3]" in capsys.readouterr().out
