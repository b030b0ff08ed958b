"""What eager ops and layers cost beside PyTorch's: python benchmarks/eager_overhead.py [--torch PYTHON]

Each figure is the minimum over many repeats of a loop, in microseconds of the calling thread's CPU time a call, with
one thread computing. With `--torch`, an interpreter that has PyTorch, both libraries run in turns, so that a busy
machine disturbs both, and the last column is their ratio. Of convolutions each part is measured alone: forward (y), the
gradient of the input (dx) and of the weight (dw), and forward and backward, to input, weight and bias, together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROUNDS, SECONDS = 3, 0.2  # a case is repeated for so long in each round
LOOP_SECONDS = 2e-3  # a loop takes at least as long, far above the clock's resolution
# (input, weight, stride, padding, groups): LeNet's second layer in a batch, one of ResNet's, and its strided kind;
# depthwise ones as in MobileNet, and with wider kernels and in one dim; grouped ones as in ResNeXt.
CONVOLUTIONS = {
    "conv2d 5x5, 64x6x12x12": ((64, 6, 12, 12), (16, 6, 5, 5), 1, 0, 1),
    "conv2d 3x3, 4x64x28x28": ((4, 64, 28, 28), (64, 64, 3, 3), 1, 1, 1),
    "conv2d 3x3/2, 8x32x32x32": ((8, 32, 32, 32), (64, 32, 3, 3), 2, 1, 1),
    "depthwise 3x3, 8x32x112x112": ((8, 32, 112, 112), (32, 1, 3, 3), 1, 1, 32),
    "depthwise 3x3/2, 8x96x56x56": ((8, 96, 56, 56), (96, 1, 3, 3), 2, 1, 96),
    "depthwise 5x5, 8x240x28x28": ((8, 240, 28, 28), (240, 1, 5, 5), 1, 2, 240),
    "depthwise 3x3, 8x384x14x14": ((8, 384, 14, 14), (384, 1, 3, 3), 1, 1, 384),
    "depthwise 3x3/2, 8x576x14x14": ((8, 576, 14, 14), (576, 1, 3, 3), 2, 1, 576),
    "depthwise 3x3, 1x960x7x7": ((1, 960, 7, 7), (960, 1, 3, 3), 1, 1, 960),
    "depthwise 3x3, 8x960x7x7": ((8, 960, 7, 7), (960, 1, 3, 3), 1, 1, 960),
    "depthwise 7x7, 8x96x56x56": ((8, 96, 56, 56), (96, 1, 7, 7), 1, 3, 96),
    "depthwise 9, 4x256x400": ((4, 256, 400), (256, 1, 9), 1, 4, 256),
    "grouped 3x3, 8x256x28x28": ((8, 256, 28, 28), (256, 8, 3, 3), 1, 1, 32),
    "grouped 3x3/2, 8x256x28x28": ((8, 256, 28, 28), (256, 8, 3, 3), 2, 1, 32),
}
LSTMS = {"LSTM 32-32, 16 steps of 8": (32, 32, 16, 8), "LSTM 64-128, 32 steps of 16": (64, 128, 32, 16)}


def cases(torch: Any) -> dict[str, Callable[[], Any]]:
    torch.set_num_threads(1)
    a, b = torch.ones(4), torch.ones(4)
    leaf = torch.ones(4, requires_grad=True)
    linear, x = torch.nn.Linear(32, 32), torch.ones(32, 32)

    def chain() -> None:
        leaf.grad = None
        (leaf * b).exp().sum().backward()

    return {
        **_layers(torch),
        "add": lambda: a + b,
        "add, with grad": lambda: leaf + b,
        "mul by a number": lambda: a * 2.0,
        "linear 32x32": lambda: linear(x),
        "mul, exp, sum, backward": chain,
    }


def _layers(torch: Any) -> dict[str, Callable[[], Any]]:
    """Convolutions and their parts; forward and backward of LSTMs."""
    found: dict[str, Callable[[], Any]] = {}

    def add(name: str, forward: Callable[[], Any], leaves: tuple[Any, ...]) -> None:
        found[name] = lambda: torch.autograd.grad(forward().sum(), leaves)

    def add_convolution(
        name: str, size: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: int, groups: int
    ) -> None:
        leaves = tuple(torch.randn(*n, requires_grad=True) for n in (size, kernel, kernel[:1]))
        function = getattr(torch.nn.functional, f"conv{len(size) - 2}d")

        def forward() -> Any:
            return function(*leaves, stride=stride, padding=padding, groups=groups)

        def alone() -> Any:
            with torch.no_grad():
                return forward()

        y = forward()
        dy = torch.ones_like(y)
        found[f"{name}: y"] = alone
        for part, leaf in (("dx", leaves[0]), ("dw", leaves[1])):
            found[f"{name}: {part}"] = lambda leaf=leaf: torch.autograd.grad(y, leaf, dy, retain_graph=True)
        add(f"{name}: all", forward, leaves)

    def add_lstm(name: str, inputs: int, hidden: int, steps: int, batch: int) -> None:
        module, x = torch.nn.LSTM(inputs, hidden), torch.randn(steps, batch, inputs)
        add(name, lambda: module(x)[0], tuple(module.parameters()))

    for name, convolution in CONVOLUTIONS.items():
        add_convolution(name, *convolution)
    for name, lstm in LSTMS.items():
        add_lstm(name, *lstm)
    return found


def measure(library: str) -> dict[str, float]:
    """The minima of one round, in microseconds a call."""
    if library == "vitrify":
        import vitrify as torch
    else:
        import torch  # type: ignore[no-redef]
    return {name: _least(call) for name, call in cases(torch).items()}


def _least(call: Callable[[], Any]) -> float:
    """The least microseconds a call, over loops for SECONDS."""
    call()
    loops = max(1, round(LOOP_SECONDS / max(_seconds(call, 3) / 3, 1e-9)))
    stop = time.perf_counter() + SECONDS
    best = float("inf")
    while time.perf_counter() < stop:
        best = min(best, _seconds(call, loops))
    return best / loops * 1e6


def _seconds(call: Callable[[], Any], loops: int) -> float:
    start = time.thread_time()
    for _ in range(loops):
        call()
    return time.thread_time() - start


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
            one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            command = [python, __file__, "--measure", side]
            output = subprocess.check_output(command, text=True, env=one_thread)
            for name, value in json.loads(output).items():
                best[side][name] = min(value, best[side].get(name, value))
    both = len(sides) == 2
    print(f"{'microseconds a call':40}" + "".join(f"{side:>10}" for side in sides) + f"{'ratio':>8}" * both)
    for name in best["vitrify"]:
        found = [best[side][name] for side in sides]
        ratio = f"{found[0] / found[1]:8.2f}" if both else ""
        print(f"{name:40}" + "".join(f"{value:10.2f}" for value in found) + ratio)


if __name__ == "__main__":
    main()
