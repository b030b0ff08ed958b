"""`benchmarks/gpu.py`: its lines run and agree, and the report holds what was measured. On the simulator, tiny."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("cuda")

FOLDER = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def bench(cuda):
    sys.path.insert(0, FOLDER)
    try:
        import gpu

        yield gpu
    finally:
        sys.path.remove(FOLDER)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(name, marks=() if name in ("copy", "pointwise") else pytest.mark.slow)
        for name in ("copy", "pointwise", "rows", "matmul", "attention", "models", "overhead")
    ],
)
def test_every_line_runs_and_agrees(bench, table, tmp_path):
    found = run(bench, table, tmp_path)
    assert table in bench.NAMES and found and not [f for f in found if "error" in f]


def run(bench, table, folder):
    options = argparse.Namespace(dry=True, results=str(folder / "results"), until=None)
    bench.run_table(table, options)
    return [json.loads(text) for text in (folder / "results").read_text().splitlines()]


def test_the_report_has_rates_floors_and_goals(bench, monkeypatch):
    names = {line.name: table for table, make in bench.tables(True, bench.vitrify).items() for line in make()}
    found = [
        {"table": table, "name": name, "times": {"vitrify": 2e-3, "PyTorch": 1e-3, "torch.compile": 4e-3}}
        for name, table in names.items()
    ]
    found[1] = {"table": "pointwise", "name": found[1]["name"], "error": "RuntimeError: no"}
    found[2]["times"]["vitrify"] = 1e-6
    monkeypatch.setattr(bench, "peak", lambda unit: 1e15)
    text = "\n".join(bench.report(found, True))
    # 8 KiB in 2 ms; PyTorch is twice as fast.
    assert "| copy, 1 GiB | 2 | 2 | 0 GB/s | 1.00 | 1 | 4 | 0.50 | 0.95 of PyTorch's speed: missed |" in text
    assert "| RuntimeError: no |" in text and "0.9 of the copy's bandwidth: reached" in text
    assert "under 10 µs: missed" in text and "0 TFLOP/s" in text


def test_competitors_are_timed_in_turn(bench):
    line = next(bench.tables(True, bench.vitrify)["copy"]())
    runs, firsts = bench.competitors(line)
    order = []
    counted = {name: (lambda run=run, name=name: (order.append(name), run())) for name, run in runs.items()}
    for on_host in (False, True):
        times = bench.timed(counted, rounds=2, seconds=1e-4, on_host=on_host)
        assert times.keys() == runs.keys() == firsts.keys() and all(t > 0 for t in times.values())
    assert "vitrify" in order


def test_what_was_measured_is_not_measured_again(bench, tmp_path, capsys):
    results = tmp_path / "results"
    options = argparse.Namespace(dry=True, results=str(results), until=None)
    bench.run_table("copy", options)
    before = results.read_text()
    bench.run_table("copy", options)
    assert results.read_text() == before
    results.write_text(before + '{"table": "copy", "na')  # killed there
    assert bench.read_results(results) == [json.loads(text) for text in before.splitlines()]
    options.until = 0.0
    bench.run_table("pointwise", options)
    assert "no time is left" in capsys.readouterr().out and len(bench.read_results(results)) == 1
    options.until = None
    bench.run_table("overhead", options)
    assert len(bench.read_results(results)) == 3
