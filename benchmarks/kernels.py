"""Single kernels beside PyTorch, torch.compile, ONNX Runtime, OpenVINO and JAX, and how far from the roofline.

    python benchmarks/kernels.py [--only matmul,rows] [--lines softmax] [--threads 1,2] [--rounds 3] [--seconds 0.05]
        [--no-torch-compile] [--results kernels.jsonl] [--write]

A line is a function of `kernel_lines.py`, called from Python: vitrify's compiled, PyTorch's as it is. Each table has a
process of its own that may run on as many CPUs as there are threads; the competitors take turns block by block, and
figures are medians of the blocks' medians. All results are compared with PyTorch's before. `--results` appends a line
of JSON for each line, so that a run may be taken in parts; `--write` makes docs/performance-kernels-CPU.md of all in it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import others
import torch
from kernel_lines import BF16, F32, INT8, TABLES, Line
from timing import PAUSE, interleaved

import vitrify
from vitrify.codegen.target import Target
from vitrify.runtime.peaks import Peaks, peaks

Runs = dict[str, Callable[[], Any]]
VITRIFY, EAGER, COMPILED, ONNX, OPENVINO, JAX = (
    "vitrify", "PyTorch", "torch.compile", "ONNX Runtime", "OpenVINO", "JAX",
)  # fmt: skip
OTHERS = (EAGER, COMPILED, ONNX, OPENVINO, JAX)
ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "docs" / "performance-kernels-{cpu}.md"


def competitors(line: Line, threads: int, compile_too: bool) -> tuple[Runs, dict[str, float]]:
    """What calls the line's function, and the seconds that first calls took. RuntimeError where results differ."""
    runs = {VITRIFY: _call(vitrify, line, vitrify.compile), EAGER: _call(torch, line)}
    if compile_too:
        torch.compiler.reset()
        runs[COMPILED] = _call(torch, line, torch.compile)
    if line.onnx and not line.training:
        runs |= _by_onnx(line, threads)
    if line.jax is not None:
        run = _by_jax(line)
        if run is not None:
            runs[JAX] = run
    firsts: dict[str, float] = {}
    results: dict[str, list[np.ndarray[Any, Any]]] = {}
    for name, run in list(runs.items()):
        start = time.perf_counter()
        try:
            results[name] = _arrays(run())
        except Exception:
            if name == VITRIFY:
                raise
            traceback.print_exc()  # the column stays empty
            del runs[name]
        firsts[name] = time.perf_counter() - start
    for name, found in results.items():
        apart = max(_distance(a, b) for a, b in zip(found, results[EAGER], strict=True))
        if not apart <= line.tolerance:
            raise RuntimeError(
                f"{line.name}: the results of {name} and PyTorch differ by {apart:.1e} of the largest"
            )
    return runs, firsts


def _call(lib: Any, line: Line, compiler: Callable[[Any], Any] = lambda f: f) -> Callable[[], Any]:
    function, given = line.make(lib)
    function = compiler(function)
    return lambda: function(*given)


def _by_onnx(line: Line, threads: int) -> Runs:
    """ONNX Runtime and OpenVINO, with what `vitrify.onnx.export` writes."""
    function, given = line.make(vitrify)
    net = function if isinstance(function, vitrify.nn.Module) else _module(function)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "line.onnx"
        proto = vitrify.onnx.export(net, given, path)
        named = {i.name: x.numpy() for i, x in zip(proto.graph.input, given, strict=True)}
        found = {
            ONNX: others.onnx_runtime(path, named, threads),
            OPENVINO: others.openvino(path, named, threads),
        }
    return {name: run for name, run in found.items() if run is not None}


def _module(function: Callable[..., Any]) -> vitrify.nn.Module:
    net = vitrify.nn.Module().eval()
    net.forward = function
    return net


def _by_jax(line: Line) -> Callable[[], Any] | None:
    """None where JAX is not installed."""
    try:
        import jax
    except ImportError:
        return None
    function, given = line.make(torch)
    weights = list(function.parameters()) if isinstance(function, torch.nn.Module) else []
    arrays = [jax.numpy.asarray(x.detach().numpy()) for x in (*given, *weights)]
    compiled = jax.jit(line.jax)
    return lambda: compiled(*arrays).block_until_ready()


def _arrays(found: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(found, list | tuple):
        return [array for part in found for array in _arrays(part)]
    if hasattr(found, "detach"):
        found = found.detach()
        found = found.float().numpy() if found.is_floating_point() else found.numpy()
    return [np.array(found)]


def _distance(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    if a.shape != b.shape:
        raise RuntimeError(f"the results have shapes {a.shape} and {b.shape}")
    return float(np.abs(a.astype(np.float64) - b).max() / max(float(np.abs(b).max()), 1e-30))


def run_table(table: str, options: argparse.Namespace) -> None:
    """One table's lines, appended to the results."""
    threads = int(options.threads)
    torch.set_num_threads(threads)
    vitrify.set_num_threads(threads)
    roof = peaks(threads)
    with open(options.results, "a", encoding="utf-8") as results:
        for line in TABLES[table]():
            if options.lines and options.lines not in line.name:
                continue
            found: dict[str, Any] = {"table": table, "name": line.name, "threads": threads}
            found["floor"] = floor(line, roof)
            try:
                with vitrify.set_grad_enabled(line.training), torch.set_grad_enabled(line.training):
                    runs, found["firsts"] = competitors(line, threads, not options.no_torch_compile)
                    # On one CPU there is no thread of others that could spin beside the next competitor.
                    pause = 0.01 if threads == 1 else PAUSE
                    found["times"] = interleaved(runs, options.rounds, options.seconds, pause)
            except Exception as error:
                found["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                traceback.print_exc()
            print(json.dumps(found), file=results, flush=True)
            print(f"{threads} {line.name}: {_told(found)}", flush=True)


def _told(found: Mapping[str, Any]) -> str:
    if "error" in found:
        return str(found["error"])
    times = found["times"]
    return f"{_ratio(times):.2f}; " + ", ".join(f"{name} {_us(seconds)}" for name, seconds in times.items())


def floor(line: Line, roof: Peaks) -> float:
    """The least seconds by the roofline: bytes by the copy bandwidth, operations by the peak of their units."""
    target = Target.host()
    pairs, fours = target.has_dot("dot_i16"), target.has_dot("dot_u8i8")
    twice = target.has_dot("dot_bf16") and not target.has_slow_pairs
    peak = {
        F32: roof.f32,
        BF16: roof.bf16 or roof.f32 * (1 + twice),
        INT8: roof.i8 or roof.f32 * (4 if fours else 1 + pairs),
    }
    return max(line.bytes / (roof.memory * 1e9), line.flops / (peak[line.unit] * 1e9))


def _ratio(times: Mapping[str, float]) -> float:
    return times[VITRIFY] / min(times[name] for name in OTHERS if name in times)


def _us(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e6:.{max(0, 2 - len(str(int(seconds * 1e6))))}f}"


def report(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The tables in Markdown, of the last result of each line."""
    last = {(f["table"], f["threads"], f["name"]): f for f in found}
    ran = [name for name in OTHERS if any(name in f.get("times", {}) for f in last.values())]
    if absent := [name for name in OTHERS if name not in ran]:
        yield f"- Left out of this run: {', '.join(absent)}."
    for threads in sorted({f["threads"] for f in found}):
        mine = [f for f in last.values() if f["threads"] == threads]
        yield from ["", f"## {threads} thread{'s' if threads > 1 else ''}", "", *_summary(mine)]
        for table in TABLES:
            known = [f for f in mine if f["table"] == table]
            if not known:
                continue
            yield from ["", f"### {table[0].upper()}{table[1:]}", ""]
            yield f"| | floor | vitrify | of the roofline | {' | '.join(ran)} | ratio | |"
            yield "|---" * (6 + len(ran)) + "|"
            yield from (_row(f, ran) for f in known)


def _summary(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    ratios = {f["name"]: _ratio(f["times"]) for f in found if "times" in f}
    if not ratios:
        return
    mean = statistics.geometric_mean(ratios.values())
    behind = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if _behind(ratio)]
    told = f": {', '.join(behind)}" if behind else ""
    yield f"{len(ratios)} lines, geometric mean of the ratios {mean:.2f}. Behind the fastest other: {len(behind)}{told}."


def _row(found: Mapping[str, Any], others: Sequence[str]) -> str:
    if "error" in found:
        return f"| {found['name']} | {found['error']} |" + " |" * (4 + len(others))
    times = found["times"]
    own, ratio = times[VITRIFY], _ratio(times)
    columns = [_us(times.get(name)) for name in others]
    percent = f"{found['floor'] / own:.0%}"
    cells = [found["name"], _us(found["floor"]), _us(own), percent, *columns, f"{ratio:.2f}", _behind(ratio)]
    return f"| {' | '.join(cells)} |"


def _behind(ratio: float) -> str:
    return "behind" if ratio > 1.005 else ""


def heading() -> list[str]:
    """Date, machine, versions, commit, method."""
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    roofs = [
        f"{r.threads} thread{'s' if r.threads > 1 else ''}: {r.rates}, {r.memory:.1f} GB/s"
        for r in (peaks(n) for n in (1, 2))
    ]
    versions = [f"{name} {metadata.version(package)}" for name, package in PACKAGES if _installed(package)]
    return [
        f"# Single kernels on CPU: {Target.host().cpu}",
        "",
        "Written by `make bench`; [performance.md](performance.md) has whole models and what is behind the figures.",
        "",
        f"- {datetime.date.today()}, commit {commit or 'unknown'}, {Target.host().cpu}, {os.cpu_count()} CPUs",
        f"- {', '.join(versions)}",
        f"- Peaks measured by kernels of our own, memory read and written by a copy: {'; '.join(roofs)}. Where no "
        "tile registers multiply them, of bfloat16 twice float32's operations, of int8 four times where the CPU has the "
        "instruction, of int8 twice on other x86 CPUs.",
        "- Microseconds of a call from Python; competitors take turns block by block, medians of blocks' medians. "
        "Results were compared before. A floor is the greater of the bytes that must move by the copy's bandwidth, and "
        "the operations by the peak; more than 100 % of the roofline means that data came from a cache, or that a "
        "convolution went by Winograd's filtering. The ratio is vitrify's time to that of the fastest other.",
    ]


PACKAGES = (
    ("PyTorch", "torch"), ("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino"), ("JAX", "jax"), ("NumPy", "numpy"),
    ("llvmlite", "llvmlite"),
)  # fmt: skip


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(TABLES), help="these tables")
    parser.add_argument("--lines", default="", help="lines whose name holds this")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one block")
    parser.add_argument("--no-torch-compile", action="store_true")
    parser.add_argument("--results", help="a file of JSON lines that is kept")
    parser.add_argument("--write", action="store_true", help="replace docs/performance-kernels-CPU.md")
    parser.add_argument("--table", help=argparse.SUPPRESS)  # a process of its own for one table
    options = parser.parse_args()
    if options.table:
        logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
        run_table(options.table, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        results = Path(options.results or Path(folder) / "results")
        results.touch()
        failed = []
        for threads in map(int, filter(None, options.threads.split(","))):
            for table in filter(None, options.only.split(",")):
                words = [
                    sys.executable,
                    *sys.argv,
                    "--table",
                    table,
                    "--threads",
                    str(threads),
                    "--results",
                    str(results),
                ]
                if subprocess.run(words, preexec_fn=_on_cpus(threads)).returncode:
                    failed.append(table)
        found = [json.loads(text) for text in results.read_text(encoding="utf-8").splitlines()]
    text = "\n".join([*heading(), *report(found)])
    print(text)
    if options.write:
        Path(str(REPORTS).format(cpu=Target.host().cpu)).write_text(text + "\n", encoding="utf-8")
    if failed:
        sys.exit(f"tables that ended early: {failed}")


def _on_cpus(count: int) -> Callable[[], None] | None:
    """What confines a new process to so many CPUs; None where the system has no such thing."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    chosen = sorted(os.sched_getaffinity(0))[:count]
    return lambda: os.sched_setaffinity(0, chosen)


if __name__ == "__main__":
    main()
