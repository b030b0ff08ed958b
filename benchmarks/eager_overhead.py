"""What a small eager op costs beside PyTorch's: python benchmarks/eager_overhead.py [--torch PYTHON]

Each figure is the minimum over many repeats of a loop, in microseconds a call, on one thread. With `--torch`, an
interpreter that has PyTorch, both libraries run in turns, so that a busy machine disturbs both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

LOOPS, ROUNDS, REPEATS = 300, 5, 40


def cases(torch: Any) -> dict[str, Callable[[], Any]]:
    torch.set_num_threads(1)
    a, b = torch.ones(4), torch.ones(4)
    leaf = torch.ones(4, requires_grad=True)
    linear, x = torch.nn.Linear(32, 32), torch.ones(32, 32)

    def chain() -> None:
        leaf.grad = None
        (leaf * b).exp().sum().backward()

    return {
        "add": lambda: a + b,
        "add, with grad": lambda: leaf + b,
        "mul by a number": lambda: a * 2.0,
        "linear 32x32": lambda: linear(x),
        "mul, exp, sum, backward": chain,
    }


def measure(library: str) -> dict[str, float]:
    """The minima of one round, in microseconds a call."""
    if library == "vitrify":
        import vitrify as torch
    else:
        import torch  # type: ignore[no-redef]
    found = {}
    for name, call in cases(torch).items():
        best = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            for _ in range(LOOPS):
                call()
            best = min(best, time.perf_counter() - start)
        found[name] = best / LOOPS * 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", help="an interpreter that has PyTorch")
    parser.add_argument("--measure", choices=("vitrify", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    sides = {"vitrify": sys.executable} | ({"torch": options.torch} if options.torch else {})
    best: dict[str, dict[str, float]] = {side: {} for side in sides}
    for _ in range(ROUNDS):
        for side, python in sides.items():
            output = subprocess.check_output([python, __file__, "--measure", side], text=True)
            for name, value in json.loads(output).items():
                best[side][name] = min(value, best[side].get(name, value))
    print(f"{'microseconds a call':26}" + "".join(f"{side:>10}" for side in sides))
    for name in best["vitrify"]:
        print(f"{name:26}" + "".join(f"{best[side][name]:10.2f}" for side in sides))


if __name__ == "__main__":
    main()
