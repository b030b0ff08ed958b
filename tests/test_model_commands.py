"""`vitrify run-model`, `compare` and `bench-model`."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import vitrify
from vitrify.__main__ import main
from vitrify.model_commands import difference

SCRIPT = """import torch, torch.nn as nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
other = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
other.load_state_dict(net.state_dict())
other[2].weight.data[0] += 1
def double(x): return {"twice": 2 * x, "half": [x / 2]}
broken = nn.Linear(2, 3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SCRIPT)
    with vitrify.as_torch():  # the commands leave it in place for good
        yield tmp_path


def test_run_model(folder, capsys):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez("x.npz", x=x)
    assert main(["run-model", "net.py:double", "--inputs", "x.npz", "-o", "y.npz"]) == 0
    printed = capsys.readouterr().out
    assert "output.twice: float32[2, 3], 0 to 10, mean 5" in printed and "[ 6.  8. 10.]" in printed
    with np.load("y.npz") as file:
        assert (
            file["output.twice"].tolist() == (2 * x).tolist()
            and file["output.half.0"].tolist() == (x / 2).tolist()
        )
    assert main(["run-model", "net.py:net@int8", "f32[300, 20]", "--seed", "3"]) == 0
    assert "output: float32[300, 5], " in capsys.readouterr().out


def test_folders_with_an_at_sign(folder, capsys):
    (folder / "a@b").mkdir()
    (folder / "a@b" / "net.py").write_text(SCRIPT)
    assert main(["run-model", "a@b/net.py:net@eager", "f32[3, 20]"]) == 0
    assert main(["run-model", "a@b/net.py:double", "f32[3]"]) == 0


def test_a_script_may_train_its_model(folder, capsys):
    (folder / "net.py").write_text(SCRIPT + "net(torch.ones(1, 20)).sum().backward()\n")
    assert main(["run-model", "net.py:net@eager", "f32[3, 20]"]) == 0
    assert "output: float32[3, 5]" in capsys.readouterr().out


def test_compare(folder, capsys):
    assert main(["compare", "net.py:net", "net.py:net@eager", "f32[3, 20]"]) == 0
    printed = capsys.readouterr().out
    assert "output: [3, 5] at most" in printed and "none of 3 layers is apart by more than 0.001" in printed
    assert main(["compare", "net.py:net", "net.py:other", "f32[3, 20]"]) == 1
    assert "first apart: 2, by " in capsys.readouterr().out
    assert main(["compare", "net.py:net", "net.py:double", "f32[3, 20]"]) == 1
    assert "has 1 outputs, net.py:double 2" in capsys.readouterr().err
    assert main(["compare", "net.py:net", "net.py:net@int8", "f32[3, 20]", "--tolerance", "0.05"]) == 0
    capsys.readouterr()
    assert main(["compare", "net.py:net", "net.py:net@int8", "f32[3, 20]", "--tolerance", "1e-6"]) == 1
    assert "first apart: 0, by " in capsys.readouterr().out


def test_libraries_and_onnx_files(folder, capsys):
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    assert main(["compile", "net.py:net", "f32[batch=1:8, 20]", "-o", "net.so"]) == 0
    space: dict[str, object] = {}
    exec(SCRIPT, space)
    dims = {"input": {0: vitrify.Dim("batch", 1, 8)}}
    for name in ("net", "other"):
        vitrify.onnx.export(space[name].eval(), vitrify.zeros(2, 20), f"{name}.onnx", dynamic_shapes=dims)
    capsys.readouterr()
    assert main(["compare", "net.onnx", "net.so", "--dim", "batch=3"]) == 0
    printed = capsys.readouterr().out
    assert "output: [3, 5] at most" in printed and "both models must be Modules or ONNX files" in printed
    assert main(["compare", "net.onnx", "other.onnx", "--dim", "batch=3"]) == 1
    assert "first apart: output, by" in capsys.readouterr().out
    assert (
        main(["compare", "net.py:net", "net.so", "--dim", "batch=2"]) == 0
    )  # the second one says what the arguments are
    assert main(["run-model", "net.onnx"]) == 1
    assert "the dim batch is open: give its size with --dim batch=1" in capsys.readouterr().err
    assert main(["compile", "net.onnx", "f32[2, 20]", "-o", "again.so"]) == 0
    assert main(["compare", "again.so", "net.so", "--dim", "batch=2"]) == 0
    assert main(["compile", "net.onnx@int8", "-o", "small.so"]) == 0  # the file says the types, dims by name
    assert "layers replaced     2 int8 weight" in capsys.readouterr().err
    assert main(["compare", "small.so", "net.so", "--dim", "batch=5", "--tolerance", "0.03"]) == 0
    assert main(["compile", "net.onnx", "f32[2, 20]", "-o", "x.so", "--fixed", "flag=true"]) == 1
    assert "'flag' is no input of the graph; they are input" in capsys.readouterr().err


def test_bench_model(folder, capsys):
    words = [
        "bench-model",
        "net.py:net",
        "f32[3, 20]",
        "--against",
        "net.py:net@eager",
        "--seconds",
        "0.02",
        "--threads",
        "1",
    ]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].startswith("net.py:net ") and lines[2].startswith("net.py:net@eager ")


@pytest.mark.parametrize(
    "words, message",
    [
        (["net.py:nothing"], "net.py defines no 'nothing'"),
        (["net.py"], "'net.py' is not SCRIPT:NAME, nor a .onnx or .so file"),
        (["net.py:net@fp8"], "after @ comes eager, fp32, bf16, int8"),
        (["net.so@eager"], "it has no @eager"),
        (["none.onnx"], "No such file"),
        (["net.py:net"], "does not say what its arguments are"),
        (["net.py:net", "f32[3, 20]", "--dim", "batch"], "is not NAME=SIZE"),
        (["net.py:double@int8", "f32[3, 20]"], "only a Module can be optimized"),
        (["net.py:net", "f32[3, 20]", "--fixed", "x=1"], "--fixed x=1 is for ONNX files; net.py:net is none"),
        (["net.py:net", "--inputs", "x.npz"], "'z' is no argument; they are input"),
        (["net.py:broken", "f32[3, 3]"], "shapes cannot be multiplied"),
    ],
)
def test_what_is_wrong_is_said(folder, capsys, words, message):
    np.savez("x.npz", z=np.zeros(3))
    assert main(["run-model", *words]) == 1
    assert message in capsys.readouterr().err


def test_difference():
    a = np.array([1.0, np.nan, np.inf, -4.0])
    assert difference(a, a.copy()).largest == 0
    assert difference(a, np.array([1.5, np.nan, np.inf, -4.0])).relative == 0.125
    assert difference(a, np.array([1.0, 2.0, np.inf, -4.0])).largest == np.inf
    assert difference(a, a[:2]).largest == np.inf
    assert difference(np.zeros(0), np.zeros(0)).largest == 0
    assert difference(np.array([True]), np.array([False])).largest == 1


@pytest.mark.parametrize("words", [["run-model", "x.onnx"], ["compile", "x.onnx", "-o", "x.so"]])
def test_a_missing_package_is_one_line(folder, capsys, monkeypatch, words):
    monkeypatch.setitem(sys.modules, "onnx", None)
    (folder / "x.onnx").write_bytes(b"")
    assert main(words) == 1
    assert capsys.readouterr().err.strip().endswith("pip install 'vitrify[onnx]'")


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.split()[0] == "vitrify"
