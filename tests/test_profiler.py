"""`torch.profiler`: records of eager ops and compiled kernels, tables, traces, schedules."""

from __future__ import annotations

import gzip
import json
import re
import threading
from pathlib import Path

import pytest

import vitrify as torch
from vitrify.eager import EAGER
from vitrify.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule
from vitrify.profiler.averages import bytes_text, time_text


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.last = torch.nn.Linear(8, 2)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


def rows(p, **options):
    return {e.key: e for e in p.key_averages(**options)}


def test_eager_ops_are_counted_with_lines_modules_and_memory():
    net, x = Net(), torch.randn(3, 4)
    with torch.profile() as p:
        net(x)
        net(x).sum().backward()
    found = rows(p)
    assert found["relu"].count == 2
    assert found["relu"].cpu_memory_usage == 2 * 3 * 8 * 4
    assert all(e.cpu_time_total > 0 for e in found.values())
    relus = [r for r in p.events() if r.name == "relu"]
    assert {r.file for r in relus} == {__file__}
    assert "torch.relu" in Path(__file__).read_text().splitlines()[relus[0].line - 1]
    assert {"first", "last"} <= {r.module for r in p.events()}
    by_module = p.table(by="module")
    assert re.search(r"^first +", by_module, re.MULTILINE) and re.search(r"^last +", by_module, re.MULTILINE)
    assert f"{relus[0].line}" in p.table(by="line")


def test_nothing_is_in_the_way_without_a_profiler():
    with profile():
        assert "apply" in vars(EAGER)
    assert "apply" not in vars(EAGER)
    with pytest.raises(ZeroDivisionError), profile():
        raise ZeroDivisionError
    assert "apply" not in vars(EAGER)
    with pytest.raises(RuntimeError, match="do not nest"), profile(), profile():
        pass
    assert "apply" not in vars(EAGER)
    with profile() as p:
        torch.ones(2) + 1
    assert rows(p)["add"].count == 1


def test_kernels_of_compiled_functions_have_time_and_work():
    step = torch.compile(lambda x, w: torch.relu(x @ w).sum())
    x, w = torch.randn(16, 8), torch.randn(8, 4)
    step(x, w)
    with profile() as p:
        for _ in range(4):
            step(x, w)
    found = rows(p)
    assert found["compiled <lambda>"].count == 4
    kernels = [e for key, e in found.items() if key.startswith("<lambda>/")]
    assert kernels and all(e.count == 4 and e.cpu_time_total > 0 for e in kernels)
    assert sum(e.flops for e in kernels) >= 4 * 2 * 16 * 8 * 4
    total = sum(e.cpu_time_total for e in kernels)
    call = found["compiled <lambda>"]
    assert call.self_cpu_time_total == pytest.approx(call.cpu_time_total - total, abs=0.1)
    assert call.cpu_memory_usage > 0
    assert [k.calls for k in p.kernels()] == [4] * len(kernels)
    text = p.table(by="kernel")
    assert "GFLOP/s" in text and "roofline" in text and "test_profiler.py" in text


def test_ranges_hold_what_ran_inside():
    @record_function("decorated")
    def twice(x):
        return x + x

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as p:
        with record_function("outer"):
            twice(torch.ones(2, 3))
        torch.ones(2) * 2
    found = rows(p)
    assert found["outer"].cpu_time_total >= found["decorated"].cpu_time_total >= found["add"].cpu_time_total
    inside = found["decorated"].cpu_time_total - found["add"].cpu_time_total
    assert found["decorated"].self_cpu_time_total == pytest.approx(inside)
    assert found["mul"].count == 1
    shaped = [e for e in p.key_averages(group_by_input_shape=True) if e.key == "add"]
    assert [e.input_shapes for e in shaped] == [((2, 3), (2, 3))]
    with record_function("nobody listens"):
        pass


def test_other_threads_are_seen():
    with profile() as p:
        other = threading.Thread(target=lambda: torch.ones(3).exp())
        other.start()
        other.join()
        torch.ones(3).log()
    threads = {r.name: r.thread for r in p.events()}
    assert threads["exp"] != threads["log"]


def test_tables_are_sorted_and_cut():
    with profile() as p:
        for _ in range(3):
            torch.ones(4).exp()
        torch.ones(4).log()
    averages = p.key_averages()
    lines = averages.table(sort_by="count", row_limit=1, header="mine").splitlines()
    assert lines[0] == "mine" and lines[2].startswith("Name") and lines[-1].startswith("Self CPU time total:")
    assert len(lines) == 7
    counts = [int(line.split()[-1]) for line in averages.table(sort_by="count").splitlines()[3:-2]]
    assert counts == sorted(counts, reverse=True)
    assert averages.total_average().count == sum(e.count for e in averages)
    with pytest.raises(ValueError, match="cannot sort a profile by 'beauty'"):
        averages.table(sort_by="beauty")
    with pytest.raises(ValueError, match="grouped by one of"):
        p.table(by="weather")
    assert (
        time_text(1500) == "1.500ms" and time_text(2.5) == "2.500us" and time_text(2e6, "ms") == "2000.000ms"
    )
    assert bytes_text(3) == "3 B" and bytes_text(3 << 20) == "3.00 MB"


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_chrome_trace_nests(tmp_path, name):
    step = torch.compile(lambda x: torch.softmax(x, 1))
    x = torch.randn(4, 4)
    step(x)
    with profile() as p, record_function("all of it"):
        step(x + 1)
    p.add_metadata("who", "me")
    p.add_metadata_json("what", "[1, 2]")
    p.export_chrome_trace(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    trace = json.loads(gzip.decompress(data) if name.endswith("gz") else data)
    assert trace["who"] == "me" and trace["what"] == [1, 2]
    events = {e["name"]: e for e in trace["traceEvents"] if e["ph"] == "X"}
    whole, call = events["all of it"], events["compiled <lambda>"]
    kernels = [e for e in events.values() if e["cat"] == "kernel"]
    assert kernels and events["add"]["cat"] == "cpu_op"
    assert events["add"]["args"]["line"].startswith(__file__)
    for outer, inner in [(whole, call), (whole, events["add"]), *((call, k) for k in kernels)]:
        assert outer["ts"] <= inner["ts"]
        assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 1e-3
        assert outer["tid"] == inner["tid"]


def test_a_schedule_says_what_is_recorded():
    plan = schedule(wait=1, warmup=1, active=2, repeat=1, skip_first=1)
    none, record = ProfilerAction.NONE, ProfilerAction.RECORD
    expected = [none, none, ProfilerAction.WARMUP, record, ProfilerAction.RECORD_AND_SAVE, none, none]
    assert [plan(step) for step in range(7)] == expected
    ready = []
    with profile(schedule=plan, on_trace_ready=lambda p: ready.append(rows(p))) as p:
        for _ in range(7):
            torch.ones(2).exp()
            p.step()
    (found,) = ready
    assert found["exp"].count == 2
    assert found["ProfilerStep#3"].count == found["ProfilerStep#4"].count == 1 and len(found) == 4
    with pytest.raises(AssertionError, match="Invalid profiler schedule arguments"):
        schedule(wait=1, warmup=1, active=0)
    with pytest.warns(UserWarning, match="won't be using warmup"):
        schedule(wait=0, warmup=0, active=1)


def test_the_older_names():
    with torch.autograd.profiler.profile(enabled=False) as p:
        torch.ones(2).exp()
    with pytest.raises(RuntimeError, match="not ready"):
        p.key_averages()
    with torch.autograd.profiler.profile() as p, torch.autograd.profiler.record_function("old"):
        torch.ones(2).exp()
    assert {"exp", "old"} <= rows(p).keys()


def test_a_trace_is_ready_at_the_end(tmp_path):
    handler = torch.profiler.tensorboard_trace_handler(str(tmp_path / "traces"), "worker")
    with profile(on_trace_ready=handler) as p:
        torch.ones(2).exp()
        with pytest.raises(RuntimeError, match="not ready"):
            p.key_averages()
    (file,) = (tmp_path / "traces").iterdir()
    assert file.name.startswith("worker.") and json.loads(file.read_text())["traceEvents"]


def test_gradients_and_branches_are_right_under_a_profiler():
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = net(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    x = torch.ones(2, 3)
    losses.append(step(x).item())
    with profile():
        losses += [step(x).item() for _ in range(2)]
        grad = net.weight.grad.clone()
    losses += [step(x).item() for _ in range(2)]
    assert not torch.equal(net.weight.grad, grad)
    twin = torch.nn.Linear(3, 1)
    assert losses == sorted(losses, reverse=True) and twin is not net
