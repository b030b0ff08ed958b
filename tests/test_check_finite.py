"""Compiled code that looks for NaN: which op, which line, which index, and what its operands were."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.compile.options import with_checks
from vitrify.runtime.compiled_graph import CompileOptions

FINITE = {"check_finite": True}


def message(call) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


def test_the_error_names_op_line_index_and_ranges():
    def f(x, y):
        z = x + 1
        return torch.tanh(z / y) * 2

    compiled = torch.compile(f, options=FINITE)
    x, y = torch.ones(3, 5), torch.ones(3, 5)
    assert torch.equal(compiled(x, y), f(x, y))
    y[1, 2] = 0
    x[1, 2] = -1
    text = message(lambda: compiled(x, y))
    line = f.__code__.co_firstlineno + 2
    assert text.startswith(
        f"div gave NaN at [1, 2] of float32[3, 5], in the forward pass of test_check_finite.py:{line}"
    )
    assert "%y: float32[3, 5], from 0 to 1, 1 times zero" in text
    y[1, 2] = 1
    assert torch.equal(compiled(x, y), f(x, y))


def test_infinite_numbers_are_found_unless_only_nan_is_looked_for():
    def f(x):
        return torch.exp(x) @ torch.ones(4, 2)

    x = torch.zeros(3, 4)
    x[2, 1] = 1000.0
    text = message(lambda: torch.compile(f, options=FINITE)(x))
    assert text.startswith("exp gave inf at [2, 1] of float32[3, 4], in the forward pass")
    assert np.isinf(torch.compile(f, options={"check_finite": "nan"})(x).numpy()).any()


def test_a_mask_of_infinite_numbers_within_a_kernel_is_no_fault():
    def f(x):
        return torch.softmax(x.masked_fill(x < 0, float("-inf")), -1)

    x = torch.tensor([[1.0, -1.0], [-1.0, 2.0]])
    compiled = torch.compile(f, options=FINITE)
    assert torch.equal(compiled(x), f(x))
    text = message(lambda: compiled(torch.full((2, 2), -1.0)))
    assert text.startswith(("sub gave NaN at [0, 0]", "softmax gave nan at [0, 0]"))


def step_of(layer, optimizer):
    def step(x):
        optimizer.zero_grad()
        loss = torch.sqrt(layer(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_the_backward_pass_is_named_and_parameters_stay():
    layer = nn.Linear(4, 3, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with torch.no_grad():
        layer.weight.fill_(0.5)
    step = step_of(layer, optimizer)
    compiled = torch.compile(step, options=FINITE)
    compiled(torch.ones(2, 4))
    before = layer.weight.detach().numpy().copy()
    assert not np.array_equal(before, np.full((3, 4), 0.5))
    text = message(lambda: compiled(torch.zeros(2, 4)))
    assert "in the backward pass of test_check_finite.py" in text
    assert np.array_equal(layer.weight.detach().numpy(), before)


def test_a_compiled_model_names_its_backward():
    torch.manual_seed(0)
    model = torch.compile(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), options=FINITE)
    out = model(torch.ones(1, 2))
    text = message(lambda: out.backward(torch.full((1, 2), float("nan"))))
    assert "in the backward pass" in text


def test_a_loop_says_in_which_step():
    def grow(x, h):
        for i in range(12):
            h = torch.exp(h @ h) * x[i]
        return h

    compiled = torch.compile(grow, options=FINITE)
    x, h = torch.full((12, 4, 4), 0.01), torch.zeros(4, 4)
    assert np.allclose(compiled(x, h).numpy(), grow(x, h).numpy())
    x[:] = 1.0
    text = message(lambda: compiled(x, h))
    line = grow.__code__.co_firstlineno + 2
    assert text.startswith(
        f"exp gave inf at [0, 0] of float32[4, 4] (and 15 more), in the forward pass of test_check_finite.py:{line}"
    )
    assert "step 2 of a loop" in text


def test_any_threads_find_it():
    def f(x):
        return torch.log(x) * 2

    x = torch.ones(300_000)
    x[200_001] = -1.0
    compiled = torch.compile(f, options=FINITE)
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            assert "log gave NaN at [200001] of float32[300000]" in message(lambda: compiled(x))
        finally:
            torch.set_num_threads(before)


def test_the_half_types_and_symbolic_sizes():
    def f(x):
        return x.float().log().to(torch.bfloat16) + 1

    batch = torch.Dim("batch", 1, 64)
    compiled = torch.compile(f, dynamic_shapes={"x": {0: batch}}, options=FINITE)
    compiled(torch.ones(5, 3, dtype=torch.bfloat16))
    x = torch.ones(7, 3, dtype=torch.bfloat16)
    x[6, 1] = -1.0
    assert "log gave NaN at [6, 1] of float32[7, 3]" in message(lambda: compiled(x))


def test_detect_anomaly_reaches_compiled_functions():
    def f(x):
        return torch.log(x)

    compiled = torch.compile(f)
    x = torch.full((3,), -1.0)
    assert np.isnan(compiled(x).numpy()).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.detect_anomaly():
            assert message(lambda: compiled(x)).startswith("log gave NaN at [0] of float32[3] (and 2 more)")
            assert np.isinf(compiled(torch.zeros(3)).numpy()).all()
        with torch.autograd.detect_anomaly(check_nan=False):
            compiled(x)
    assert np.isnan(compiled(x).numpy()).all()
    assert len(compiled.explain().to_dict()["compiles"]) == 2


def test_detect_anomaly_reaches_a_compiled_step():
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    compiled = torch.compile(step_of(layer, torch.optim.SGD(layer.parameters(), lr=0.1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.detect_anomaly():
            text = message(lambda: compiled(torch.ones(2, 4)))
    assert "in the backward pass of test_check_finite.py" in text
    assert not layer.weight.abs().sum().item()


def test_set_anomaly_enabled_reaches_compiled_functions():
    compiled = torch.compile(lambda x: torch.log(x))
    x = torch.full((3,), -1.0)
    assert np.isnan(compiled(x).numpy()).all()
    torch.set_anomaly_enabled(True)
    try:
        assert message(lambda: compiled(x)).startswith("log gave NaN at [0]")
    finally:
        torch.set_anomaly_enabled(False)
    assert np.isnan(compiled(x).numpy()).all()


def test_without_the_option_no_kernel_tests_anything():
    def f(x):
        return torch.log(x)

    compiled = torch.compile(f)
    compiled(torch.ones(3))
    assert "check" not in compiled.loops()
    tested = torch.compile(f, options=with_checks(CompileOptions(), "finite"))
    tested(torch.ones(3))
    assert "check" in tested.loops()
    assert len(compiled.graphs()[0].program.launches) < len(tested.graphs()[0].program.launches)


def test_options_that_do_not_exist():
    with pytest.raises(RuntimeError, match="unexpected option 'finite'; there"):
        torch.compile(lambda x: x, options={"finite": True})
    with pytest.raises(RuntimeError, match="True, False or 'nan', not 3"):
        torch.compile(lambda x: x, options={"check_finite": 3})
