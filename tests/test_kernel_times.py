"""Programs that time their own launches, and the peaks they are held against."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.target import Target
from vitrify.compile.compiled import measuring
from vitrify.ir import dtypes
from vitrify.runtime import kernel_times, peaks
from vitrify.runtime.execute import run_program


@pytest.fixture
def product():
    @torch.compile
    def product(x, w):
        return torch.relu(x @ w).sum(1)

    return product


def test_launches_are_counted_with_their_time_and_work(product):
    x, w = torch.randn(32, 16), torch.randn(16, 8)
    expected = product(x, w)
    with measuring() as session:
        for _ in range(3):
            assert torch.equal(product(x, w), expected)
    product(x, w)
    (lines,) = [lines for _, lines in session.by_graph()]
    report = product.report()
    assert [(t.name, t.source) for t in lines] == [(k.kernel, k.source) for k in report.kernels()]
    assert [t.calls for t in lines] == [3] * len(lines)
    assert [(t.flops, t.bytes) for t in lines] == [(3 * k.flops, 3 * k.bytes) for k in report.kernels()]
    assert all(0 < t.seconds < 10 for t in lines)
    assert lines[0].location.file == __file__ and lines[0].peak_dtype == "f32"
    assert lines[0].gflops == pytest.approx(lines[0].flops / lines[0].seconds / 1e9)


def test_every_run_is_in_the_log_in_order(product):
    x, w = torch.randn(32, 16), torch.randn(16, 8)
    with measuring() as session:
        product(x, w)
        product(x, w)
    count = len(session.launch_times())
    assert [r.index for r in session.runs] == [*range(count)] * 2 and session.dropped == 0
    assert len(session.calls) == 2
    for number, run in enumerate(session.runs):
        call = session.calls[number // count]
        assert call.begin <= run.begin <= run.end <= call.end
    total = sum(t.seconds for t in session.launch_times())
    assert total == pytest.approx(sum(r.end - r.begin for r in session.runs) / 1e9)


def test_outside_a_block_nothing_is_measured(product):
    x, w = torch.randn(4, 4), torch.randn(4, 4)
    product(x, w)
    (graph,) = product.graphs()
    assert "clock_gettime" not in graph.llvm_text()
    with measuring() as session:
        product(x, w)
    product(x, w)
    assert [t.calls for t in session.launch_times()] == [1] * len(session.launch_times())
    assert graph.measured.counters[0, 0] == 1
    with pytest.raises(RuntimeError, match="profilers do not nest"), measuring(), measuring():
        pass
    assert kernel_times.active() is None
    with measuring(log=False) as outer:
        product(x, w)
        with measuring() as inner:
            product(x, w)
        product(x, w)
    assert (outer.launch_times()[0].calls, inner.launch_times()[0].calls) == (3, 1)
    assert not outer.runs and inner.runs


def test_the_turns_of_a_loop_count_one_by_one():
    cell = torch.nn.LSTM(4, 8)
    run = torch.compile(lambda x: cell(x)[0])
    x = torch.randn(7, 2, 4)
    with torch.no_grad():
        run(x)
        with measuring() as session:
            run(x)
    assert 7 in [t.calls for t in session.launch_times()]


def test_symbolic_sizes_give_the_work_of_each_call():
    fast = torch.compile(lambda x: x * 2 + 1, dynamic_shapes={"x": {0: torch.Dim("batch", 1, 64)}})
    with measuring() as session:
        fast(torch.ones(3, 5))
        fast(torch.ones(60, 5))
    (line,) = session.launch_times()
    assert line.calls == 2 and line.bytes == 2 * 4 * 5 * 63


def test_host_calls_and_sizes_that_only_a_run_tells_are_measured():
    fast = torch.compile(lambda x: torch.nonzero(x)[:, 0] * 2)
    with measuring() as session:
        assert fast(torch.tensor([0.0, 1.0, 1.0])).tolist() == [2, 4]
    lines = session.launch_times()
    assert all(t.calls == 1 for t in lines)
    assert "" in [t.peak_dtype for t in lines]


def test_forward_and_backward_of_a_model():
    net = torch.nn.Linear(4, 3)
    fast = torch.compile(net)
    with measuring() as session:
        fast(torch.ones(2, 4)).sum().backward()
    assert len(session.by_graph()) == 2
    assert all(t.calls == 1 for t in session.launch_times())
    assert net.weight.grad.shape == (3, 4)


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64])
def test_the_programs_behind_the_peaks_compute_what_they_say(dtype, monkeypatch):
    monkeypatch.setattr(peaks, "ROUNDS", 40)
    monkeypatch.setattr(peaks, "COPY_ELEMENTS", 128)
    target = Target.host()
    multiply_add, copy = peaks.multiply_add_program(dtype, target), peaks.copy_program(target)
    verify_program(multiply_add)
    verify_program(copy)
    (found,) = run_program(multiply_add, [])
    np.testing.assert_allclose(found, 2.0, rtol=1e-6)
    given = np.arange(peaks.CHUNKS * 128, dtype=np.float32).reshape(peaks.CHUNKS, 128)
    (found,) = run_program(copy, [given])
    np.testing.assert_array_equal(found, given)


def test_percent_of_the_roofline():
    machine = peaks.Peaks(f32=100.0, f64=50.0, memory=10.0, threads=1)
    assert machine.percent("f32", 50e9, 1e9, 1.0) == pytest.approx(50)
    assert machine.percent("f64", 50e9, 1e9, 1.0) == pytest.approx(100)
    assert machine.percent("f32", 0, 5e9, 1.0) == pytest.approx(50)
    assert machine.percent("", 1e9, 1e9, 1.0) is None
    assert machine.percent("bf16", 1e9, 1e9, 1.0) is None and machine.rates == "100 GFLOP/s f32, 50 f64"
    tiles = peaks.Peaks(f32=100.0, f64=50.0, memory=10.0, threads=1, bf16=1000.0, i8=2000.0)
    assert tiles.percent("bf16", 500e9, 1e9, 1.0) == pytest.approx(50)
    assert tiles.rates == "100 GFLOP/s f32, 50 f64, in tile registers 1000 bf16, 2000 i8"


def test_sizes_that_a_run_told_outlive_the_measuring():
    compiled = torch.compile(lambda x: x[x > 0] * 2)
    with measuring():
        compiled(torch.tensor([1.0, -1.0, 2.0]))
    assert compiled.report().dims == {"u0": 2}
