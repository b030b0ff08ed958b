"""Training steps while another process takes one of the cores: how much longer than on a quiet machine.

    python benchmarks/busy.py [--threads 2] [--rounds 5] [--seconds 2]

A compiled step and PyTorch's eager one take turns, quiet and beside one process that spins, all threads allowed. The
table has the median and the slowest tenth of the calls, as multiples of each library's own quiet median. A step that
cannot use the busy core at all would take twice as long with two threads.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lenet
import model_networks
import models
import torch

import vitrify


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Meanwhile so many processes compute without a pause."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    time.sleep(0.3)
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def calls(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, after a pause in which idle threads of others go to sleep."""
    time.sleep(0.3)
    run()
    found = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 10:
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return found


def steps() -> dict[str, dict[str, Callable[[], object]]]:
    """The runs of each library, by model."""
    found: dict[str, dict[str, Callable[[], object]]] = {}
    inputs = {lib: lenet.batch(lib) for lib in (vitrify, torch)}
    ours, theirs = vitrify.compile(lenet.make_step(vitrify)), lenet.make_step(torch)
    found["LeNet, batch 64"] = {
        "vitrify": lambda: ours(*inputs[vitrify]),
        "PyTorch": lambda: theirs(*inputs[torch]),
    }
    for name in ("MLP 784-512-512-10", "GPT, 6 layers, 128 tokens"):
        model = model_networks.MODELS[name]
        batch = model.batches[-1]
        runs, _ = models.training(model, batch, False)
        found[f"{name}, batch {batch}"] = runs
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    for lib in (vitrify, torch):
        lib.set_num_threads(args.threads)
    print(f"{args.threads} threads; busy: the median and the slowest tenth, over the quiet median")
    print(
        "| step | library | quiet, ms | quiet, slowest tenth | busy | busy, slowest tenth |\n|---|---|---|---|---|---|"
    )
    for name, runs in steps().items():
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(args.rounds):
            for processes in (0, 1):
                with spinning(processes):
                    for library, run in runs.items():
                        times.setdefault((library, processes), []).extend(calls(run, args.seconds))
        for library in runs:
            quiet, busy = times[library, 0], times[library, 1]
            usual = statistics.median(quiet)
            tenth = [statistics.quantiles(found, n=10)[-1] / usual for found in (quiet, busy)]
            print(
                f"| {name} | {library} | {usual * 1e3:.2f} | {tenth[0]:.2f} "
                f"| {statistics.median(busy) / usual:.2f} | {tenth[1]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
