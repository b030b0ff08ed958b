"""`compiled.check` and `vitrify bisect`: eager, interpreted at every stage, compiled, on the same inputs."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from networks import digits, lenet
from test_compile_step import OPTIMIZERS, make_step

import vitrify as torch
from vitrify import nn
from vitrify.__main__ import main
from vitrify.ir.op import op_named
from vitrify.runtime.bisect import replay


@pytest.fixture
def wrong_tanh():
    """What kernels compute for tanh is off by a tenth."""
    op = op_named("tanh")
    right = op.scalar
    object.__setattr__(op, "scalar", lambda s, x: s.mul(right(s, x), 1.1))
    yield
    object.__setattr__(op, "scalar", right)


def test_a_training_step_agrees_and_leaves_no_trace():
    net = lenet()
    step = torch.compile(make_step(net, OPTIMIZERS["momentum"](net.parameters())))
    before = [p.detach().numpy().copy() for p in net.parameters()]
    report = step.check(*digits(3))
    assert report.ok, str(report)
    assert str(report).startswith("check of step: all agree")
    assert all(np.array_equal(p.detach().numpy(), b) for p, b in zip(net.parameters(), before))
    assert all(p.grad is None for p in net.parameters())


def test_random_numbers_are_the_same_in_all_runs_and_are_not_used_up():
    model = torch.compile(nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.GELU()))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    report = model.check(torch.randn(7, 5))
    assert report.ok, str(report)
    assert [g.name.rpartition(".")[2] for g in report.graphs] == ["forward", "backward"]
    torch.manual_seed(3)
    assert torch.equal(state, torch.get_rng_state())


def test_a_planted_bug_is_found_and_shown_again(wrong_tanh, tmp_path):
    def f(x, w):
        return torch.tanh(x @ w).sum(0)

    report = torch.compile(f).check(torch.randn(4, 3), torch.randn(3, 2))
    assert not report.ok
    (fault,) = report.faults
    assert fault.stage == "lowering" and "tanh" in fault.node
    assert fault.place.startswith(f"test_check.py:{f.__code__.co_firstlineno + 1}")
    assert "PARTS" in str(report) and "a graph of 1 nodes shows it" in str(report)
    text, arrays = report.save(tmp_path)
    assert text.name == "f_f_lowering.ir" and arrays.exists()
    stage, apart = replay(text)
    assert stage == "lowering" and apart is not None


def test_eager_code_that_means_something_else():
    seen = []

    def f(x):
        seen.append(None)
        return x * (2 if len(seen) == 1 else 3)

    report = torch.compile(f).check(torch.ones(3))
    (different,) = report.eager
    assert different.what == "the result" and different.apart == 1
    assert not report.ok and not report.faults


SCRIPT = """
import torch

@torch.compile
def f(x):
    return torch.softmax(x, -1) * 2

print(f(torch.ones(2, 3)).sum().item())
"""


def test_bisect_runs_a_script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "vitrify", "bisect", "script.py", "-o", "found"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4.0\n"
    assert "check of f: all agree" in done.stderr and "1 call checked, 0 where results part" in done.stderr
    assert not (tmp_path / "found").exists()


def test_bisect_finds_and_replays(tmp_path):
    planted = "from vitrify.ir.op import op_named\nop = op_named('exp')\nright = op.scalar\n"
    planted += "object.__setattr__(op, 'scalar', lambda s, x: s.add(right(s, x), 0.5))\n"
    (tmp_path / "script.py").write_text(planted + SCRIPT)
    command = [sys.executable, "-m", "vitrify", "bisect", "script.py", "-o", "found"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    # Softmax of equal numbers is the same with the bug; of one zero and two ones it is not.
    assert done.returncode == 0, done.stderr
    (tmp_path / "script.py").write_text(planted + SCRIPT.replace("torch.ones(2, 3)", "torch.eye(3)"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    (text,) = (tmp_path / "found").glob("*.ir")
    again = [sys.executable, "-m", "vitrify", "bisect", "--replay", str(text)]
    good = subprocess.run(again, capture_output=True, text=True)
    assert good.returncode == 0 and good.stdout == "lowering: results agree\n", good.stderr


def test_bisect_says_what_to_do_where_nothing_was_compiled(tmp_path, capsys):
    (tmp_path / "script.py").write_text("print('done')\n")
    command = [sys.executable, "-m", "vitrify", "bisect", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "torch.compile. Wrap the function" in done.stderr
    assert main(["bisect", "--replay", str(tmp_path / "none.ir")]) == 2
    assert re.fullmatch(r"vitrify bisect: .*none\.ir: .*No such file.*\n", capsys.readouterr().err)
