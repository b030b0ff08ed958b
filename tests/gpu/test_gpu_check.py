"""`compiled.check`, `vitrify bisect` and tests for NaN of functions on a device: the same reports as on the CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn
from vitrify.codegen.gpu import rows
from vitrify.runtime.bisect import replay
from vitrify.runtime.gpu import device as gpu_device

pytestmark = pytest.mark.usefixtures("cuda")
FINITE = {"check_finite": True}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32)).cuda()


def test_a_training_step_agrees_and_leaves_no_trace():
    torch.manual_seed(0)
    with torch.device("cpu"):
        model = nn.Sequential(
            nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 3)
        ).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    @torch.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = numbers(5, 6), torch.tensor([0, 2, 1, 1, 0], device="cuda")
    before = [p.tolist() for p in model.parameters()]
    state = torch.cuda.get_rng_state()
    report = step.check(x, y)
    assert report.ok, str(report)
    assert [name for name, _ in report.graphs[0].stages][-1] == "compiled, cuda:0"
    assert [p.tolist() for p in model.parameters()] == before
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_a_model_is_checked_both_ways_without_tf32():
    with torch.device("cpu"):
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).cuda()
    torch.backends.cudnn.allow_tf32 = True
    report = torch.compile(model).check(numbers(2, 2, 6, 6))
    assert report.ok, str(report)
    assert [g.name.rpartition(".")[2] for g in report.graphs] == ["forward", "backward"]


def test_a_bug_in_a_schedule_for_gpus_is_found_and_shown_again(monkeypatch, tmp_path):
    shuffle = rows.Shuffle

    def wrong(load, mask):  # the tree of a row's reduction reads the wrong neighbour
        return shuffle(load, 1 if mask == 2 else mask)

    def f(x):
        return torch.softmax(x * 2, -1) + 1

    x = numbers(3, 37)
    compiled = torch.compile(f)
    f(x)  # the programs of eager code are there, without the bug
    with monkeypatch.context() as patched:
        patched.setattr(rows, "Shuffle", wrong)
        report = compiled.check(x)
        (fault,) = report.faults
        (text, _) = report.save(tmp_path)
        assert replay(text)[1] is not None
    assert fault.stage == "lowering" and fault.device == "cuda" and "a graph of 1 nodes" in str(fault)
    assert fault.place.startswith(f"test_gpu_check.py:{f.__code__.co_firstlineno + 1}")
    assert "lowering (cuda):" in str(report)
    assert replay(text) == ("lowering", None)
    assert compiled.check(x).ok
    before = gpu_device.install([])
    try:
        with pytest.raises(ValueError, match="code for cuda, and there is no such device"):
            replay(text)
    finally:
        gpu_device.install(before)


SCRIPT = """
import torch

@torch.compile
def f(x):
    return torch.softmax(x, -1) * 2

print(f(torch.ones(2, 3, device="cuda")).sum().item())
"""


def test_bisect_of_a_script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "vitrify", "bisect", "script.py", "-o", "found"]
    environment = {**os.environ, "VITRIFY_CUDA": os.environ.get("VITRIFY_CUDA", "simulator")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4.0\n"
    assert re.search(r"compiled, cuda:0 +agrees", done.stderr)
    assert "1 call checked, 0 where results part" in done.stderr


def message(call) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


def test_nan_is_reported_as_on_the_cpu():
    def f(x, y):
        z = x + 3
        return torch.tanh(z / y) * 2

    texts = []
    for device in ("cpu", "cuda"):
        compiled = torch.compile(f, options=FINITE)
        x, y = torch.ones(3, 5, device="cpu"), torch.ones(3, 5, device="cpu")
        good = f(x, y).to(device)
        torch.testing.assert_close(compiled(x.to(device), y.to(device)), good)
        y[1, 2] = 0
        x[1, 2] = -3
        a, b = x.to(device), y.to(device)
        texts.append(message(partial(compiled, a, b)))
        for _ in range(3):  # on a driver, captured
            assert message(partial(compiled, a, b)) == texts[-1]
    line = f.__code__.co_firstlineno + 2
    assert texts[0] == texts[1]
    where = f"in the forward pass of test_gpu_check.py:{line}"
    assert texts[1].startswith(f"div gave NaN at [1, 2] of float32[3, 5], {where}")
    assert "%y: float32[3, 5], from 0 to 1, 1 times zero" in texts[1]


def test_the_backward_pass_is_named_and_parameters_stay():
    with torch.device("cpu"):
        layer = nn.Linear(4, 3, bias=False).cuda()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with torch.no_grad():
        layer.weight.fill_(0.0)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = torch.sqrt(layer(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    with torch.autograd.detect_anomaly(check_nan=True):
        text = message(lambda: step(numbers(2, 4)))
    assert "in the backward pass of test_gpu_check.py" in text and "times zero" in text
    assert not layer.weight.abs().sum().item()


def test_a_loop_says_in_which_step():
    with torch.device("cpu"):
        rnn = nn.RNN(3, 4).cuda()

    def f(x):
        return torch.log(rnn(x)[0]).sum()

    x = numbers(5, 2, 3)
    with torch.no_grad():
        text = message(lambda: torch.compile(f, options=FINITE)(x))
        assert text.startswith("log gave NaN"), text
        x[3] = float("nan")
        text = message(lambda: torch.compile(f, options=FINITE)(x))
    assert "NaN" in text and "times NaN" in text
