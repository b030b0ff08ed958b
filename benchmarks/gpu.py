"""Kernels, models and calls on a CUDA device beside PyTorch there, eager and torch.compile.

    python benchmarks/gpu.py [--only copy,overhead,pointwise,rows,matmul,attention,models] [--write]
    python benchmarks/gpu.py --minutes 8 --folder FOLDER        where a machine is lent for a while
    VITRIFY_CUDA=simulator python benchmarks/gpu.py --dry

Each table runs in a process of its own, so that a fault ends one table. Competitors take turns in it, block by block. A
block is as many calls as last `--seconds`, between two CUDA events of the competitor's own library on the default
stream, after one call that is not counted. A figure is the median of the blocks. Lines of the table `overhead` count the
host's time instead, up to the return of the last call. Before it is timed, vitrify's result is compared with PyTorch's.

A line's floor is the greater of its bytes by the bandwidth of the copy, which is measured in the same run, and its
operations by the rate of the units at the highest clock. `--dry` runs every line once at tiny sizes and times nothing.
Without PyTorch, its columns are empty and results are compared with vitrify's eager ones. `--write` replaces
docs/performance-gpu.md.

What is measured is kept: `--folder` has a line of JSON for each line of a table as soon as it is there (`results`), and
the report of all of them after each table (`performance-gpu.md`). Run again with the same folder, lines that are there
are not measured again. `--minutes`: no line begins later than that.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gpu_lines import BF16, COPY, F32, MICROSECONDS, TF32, Line, tables

import vitrify

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs" / "performance-gpu.md"
NAMES = ("copy", "overhead", "pointwise", "rows", "matmul", "attention", "models")
VITRIFY, EAGER, COMPILED = "vitrify", "PyTorch", "torch.compile"
# Operations per clock of one multiprocessor, dense, by compute capability: NVIDIA's architecture white papers of the
# A100 and the H100 (312 and 989 TFLOP/s of bf16 on 108 and 132 multiprocessors at 1410 and 1830 MHz).
RATES = {
    (8, 0): {BF16: 2048, TF32: 1024, F32: 128},
    (9, 0): {BF16: 4096, TF32: 2048, F32: 256},
}
COLUMNS = (
    "floor, ms", "vitrify, ms", "rate", "floor / time", "PyTorch, ms", "torch.compile, ms", "to the faster", "goal",
)  # fmt: skip
Runs = dict[str, Callable[[], Any]]


def has_torch() -> bool:
    """Whether there is a PyTorch that sees the device."""
    return torch is not None and torch.cuda.is_available()


def use_tf32(allowed: bool) -> None:
    """Whether float32 products may be rounded to TF32, for both libraries."""
    precision = "high" if allowed else "highest"
    vitrify.set_float32_matmul_precision(precision)
    if torch is not None:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = allowed


def competitors(line: Line) -> tuple[Runs, dict[str, float]]:
    """What calls the line's function, and the seconds that first calls took. RuntimeError where results differ."""
    runs: Runs = {}
    firsts: dict[str, float] = {}
    results: dict[str, np.ndarray[Any, Any]] = {}
    for name, lib, compiles in (
        (VITRIFY, vitrify, True), (EAGER, torch, False), (COMPILED, torch, True),
    ):  # fmt: skip
        if lib is torch and not has_torch():
            continue
        function, given = line.make(lib)
        run = functools.partial(lib.compile(function) if compiles else function, *given)
        start = time.perf_counter()
        try:
            found = run()
        except Exception:
            if name != COMPILED:
                raise
            traceback.print_exc()  # a torch.compile that does not work here (no Triton) leaves its column empty
            continue
        lib.cuda.synchronize()
        firsts[name] = time.perf_counter() - start
        results[name] = found.detach().cpu().float().numpy()
        runs[name] = run
    if EAGER not in results:
        function, given = line.make(vitrify)
        results[EAGER] = function(*given).detach().cpu().float().numpy()
    apart = _distance(results[VITRIFY], results[EAGER])
    if not apart <= line.tolerance:
        raise RuntimeError(f"{line.name}: the results differ by {apart:.1e} of the largest")
    return runs, firsts


@contextlib.contextmanager
def grad_mode(training: bool) -> Iterator[None]:
    """Whether both libraries record what they compute, inside the block: outside of what is timed."""
    with vitrify.set_grad_enabled(training):
        if torch is None:
            yield
        else:
            with torch.set_grad_enabled(training):
                yield


def _distance(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    if a.shape != b.shape:
        raise RuntimeError(f"the results have shapes {a.shape} and {b.shape}")
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30))


def timed(runs: Runs, rounds: int, seconds: float, on_host: bool) -> dict[str, float]:
    """Seconds per call of each."""
    counts = {}
    for name, run in runs.items():
        for _ in range(5):  # addresses settle, and vitrify captures what it launches
            run()
        once = min(_block(name, run, 3, on_host) for _ in range(2))
        counts[name] = max(3, min(10000, int(seconds / max(once, 1e-7))))
    blocks: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            blocks[name].append(_block(name, run, counts[name], on_host))
    return {name: statistics.median(found) for name, found in blocks.items()}


def _block(name: str, run: Callable[[], Any], count: int, on_host: bool) -> float:
    lib = vitrify if name == VITRIFY else torch
    lib.cuda.synchronize()
    if on_host:
        start = time.perf_counter()
        for _ in range(count):
            run()
        found = time.perf_counter() - start
        lib.cuda.synchronize()
        return found / count
    begin, end = (lib.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / count


def run_table(name: str, options: argparse.Namespace) -> None:
    """One table's lines; what was found is a line of JSON each in the file `options.results`. Lines that are there
    already are left out, and no line begins after `options.until`."""
    known = {f["name"] for f in read_results(options.results) if f["table"] == name}
    with open(options.results, "a+", encoding="utf-8") as results:
        results.seek(0)
        if results.read()[-1:] not in ("", "\n"):
            results.write("\n")  # after a line that was being written when the process was killed
        for line in tables(options.dry, vitrify)[name]():
            if line.name in known:
                continue
            if options.until is not None and time.time() > options.until:
                print(f"{line.name}: no time is left", flush=True)
                continue
            found: dict[str, Any] = {"table": name, "name": line.name}
            try:
                use_tf32(line.tf32)
                with grad_mode(line.training):
                    runs, found["firsts"] = competitors(line)
                    if not options.dry:
                        found["times"] = timed(runs, options.rounds, options.seconds, name == "overhead")
            except Exception as error:
                found["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                traceback.print_exc()
            print(json.dumps(found), file=results, flush=True)
            print(f"{line.name}: {found.get('error') or found.get('times') or 'agrees'}", flush=True)


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """What lines were measured. One that was being written when the process was killed is left out."""
    found = []
    if os.path.exists(path):
        for text in Path(path).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(text))
    return found


def peak(unit: str) -> float | None:
    """The most operations a second of the units of a kind; None where nothing is known."""
    device: Any = vitrify.cuda.devices.gpu_for().device
    rate = RATES.get(device.capability, {}).get(unit)
    clock = getattr(device, "clock_rate", None)
    return rate * device.multiprocessors * clock if rate and clock else None


def report(found: list[dict[str, Any]], tiny: bool) -> list[str]:
    """The tables in Markdown."""
    times: Mapping[str, Any] = {f["name"]: f.get("times", {}) for f in found}
    made = {name: list(make()) for name, make in tables(tiny, vitrify).items()}
    copy = made["copy"][0]
    seconds = times.get(copy.name, {}).get(VITRIFY)
    bandwidth = copy.bytes / seconds if seconds else None
    text = []
    for table in NAMES:
        known = [f for f in found if f["table"] == table]
        if not known:
            continue
        text += [
            f"### {table}", "", f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"
        ]  # fmt: skip
        for one in known:
            line = next(m for m in made[table] if m.name == one["name"])
            text.append(_row(line, one, bandwidth))
        text.append("")
    return text


def _row(line: Line, found: dict[str, Any], bandwidth: float | None) -> str:
    if "error" in found:
        return f"| {line.name} | {found['error']} |" + " |" * (len(COLUMNS) - 1)
    times = found.get("times", {})
    own = times.get(VITRIFY)
    rate = peak(line.unit)
    floor = max(
        line.bytes / bandwidth if bandwidth else 0.0, line.flops / rate if rate and line.flops else 0.0
    )
    others = {name: times[name] for name in (EAGER, COMPILED) if name in times}
    best = min(others.values(), default=None)
    speed = ""
    if own:
        speed = (
            f"{line.flops / own / 1e12:.0f} TFLOP/s" if line.flops
            else f"{line.bytes / own / 1e9:.0f} GB/s" if line.bytes else ""
        )  # fmt: skip
    cells = [
        line.name, _ms(floor), _ms(own), speed,
        f"{floor / own:.2f}" if own and floor else "",
        _ms(others.get(EAGER)), _ms(others.get(COMPILED)),
        f"{best / own:.2f}" if own and best else "",
        _goal(line, own, others, bandwidth),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _goal(line: Line, own: float | None, others: Mapping[str, float], bandwidth: float | None) -> str:
    if line.goal is None:
        return ""
    by, wanted = line.goal
    if by == MICROSECONDS:
        text, reached = f"under {wanted:g} µs", own * 1e6 < wanted if own else None
    elif by == COPY:
        text = f"{wanted:g} of the copy's bandwidth"
        reached = line.bytes / own >= wanted * bandwidth if own and bandwidth else None
    else:
        text = f"{wanted:g} of {by}'s speed"
        reached = others[by] / own >= wanted if own and by in others else None
    return text + {True: ": reached", False: ": missed", None: ""}[reached]


def _ms(seconds: float | None) -> str:
    return f"{seconds * 1e3:.4g}" if seconds else ""


def heading() -> list[str]:
    """Date, card, driver, versions, commit, method."""
    device: Any = vitrify.cuda.devices.gpu_for().device
    driver = ".".join(map(str, getattr(device, "driver_version", ())))
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout
    memory = f"{device.total_memory / 1e9:.0f} GB"
    return [
        "# Speed on a GPU",
        "",
        "Written by `make bench-gpu`; [gpu.md](gpu.md) has what is behind it.",
        "",
        f"- {datetime.date.today()}, commit {commit or 'unknown'}{' with changes' if changed else ''}",
        f"- {device.name}, {memory}, compute capability {'.'.join(map(str, device.capability))}"
        + (f", driver for CUDA {driver}" if driver else ""),
        f"- PyTorch {torch.__version__}"
        if has_torch()
        else "- no PyTorch on this machine: its columns are empty",
        "- Competitors take turns block by block in one process; a block lies between two CUDA events (calls of "
        "`overhead`: the host's clock); figures are medians of the blocks. Data are random; results were compared "
        "before. A floor is the greater of the bytes that must move by the bandwidth of the copy in this run and the "
        "operations by the units' rate at the highest clock.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(NAMES), help="these tables")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one block")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, nothing is timed")
    parser.add_argument("--write", action="store_true", help="replace docs/performance-gpu.md")
    parser.add_argument("--folder", help="keep results and report there")
    parser.add_argument("--minutes", type=float, help="no line begins later")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument(
        "--table", choices=NAMES, help=argparse.SUPPRESS
    )  # a process of its own for one table
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not vitrify.cuda.is_available():
        sys.exit("no CUDA device: neither a driver's nor, with VITRIFY_CUDA=simulator, the simulator")
    if options.table:
        run_table(options.table, options)
        return
    if os.environ.get("VITRIFY_CUDA") == "simulator" and not options.dry:
        sys.exit("the simulator's times mean nothing: --dry")
    if options.dry and options.write:
        sys.exit("--dry measures nothing that could be written")
    with contextlib.ExitStack() as stack:
        folder = Path(options.folder or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, *sys.argv, "--results", str(folder / "results")]
        if options.minutes is not None:
            words += ["--until", str(time.time() + 60 * options.minutes)]
        failed = []
        for name in options.only.split(","):
            if subprocess.run([*words, "--table", name]).returncode:
                failed.append(name)
            found = read_results(folder / "results")
            text = "\n".join([*heading(), *report(found, options.dry)])
            for path in [folder / REPORT.name, *([REPORT] if options.write else [])]:
                path.write_text(text + "\n", encoding="utf-8")
    print(text)
    broken = [f["name"] for f in found if "error" in f]
    if failed or broken:
        sys.exit(f"tables that ended early: {failed or 'none'}; lines that failed: {broken or 'none'}")


if __name__ == "__main__":
    main()
