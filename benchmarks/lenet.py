"""LeNet side by side with PyTorch 2.13: training step, batch-1 inference, call overhead, compile and import times.

    make bench          (or: python benchmarks/lenet.py [--threads 1,2] [--no-torch-compile] [--rounds N])

Every comparison is made in one process, the competitors taking turns block by block, so that a change in the machine's
speed meets all of them. Quoted are medians over the blocks' medians, and ratios to vitrify's own figure of the same run.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from timing import interleaved

import vitrify

BATCH = 64


def make_net(lib):
    """LeNet written once for both libraries."""
    nn, F = lib.nn, lib.nn.functional

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(400, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = lib.flatten(x, 1)
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))

    lib.manual_seed(0)
    return LeNet()


def make_step(lib):
    net = make_net(lib)
    optimizer = lib.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    criterion = lib.nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def batch(lib):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 1, 32, 32)).astype(np.float32)
    return lib.from_numpy(x), lib.from_numpy(rng.integers(0, 10, BATCH))


def show(title: str, times: dict[str, float], unit: str) -> None:
    scale = {"ms": 1e3, "us": 1e6}[unit]
    own = times["vitrify"]
    for name, seconds in times.items():
        print(
            f"{title:34} {name:18} {seconds * scale:9.3f} {unit}   vitrify takes {own / seconds:5.2f} of it"
        )


def training(threads: int, rounds: int, with_torch_compile: bool) -> None:
    torch.set_num_threads(threads)
    vitrify.set_num_threads(threads)
    x, y = batch(vitrify)
    tx, ty = batch(torch)
    step, torch_step = vitrify.compile(make_step(vitrify)), make_step(torch)
    runs: dict[str, Callable[[], object]] = {
        "vitrify": lambda: step(x, y),
        "PyTorch eager": lambda: torch_step(tx, ty),
    }
    if with_torch_compile:
        compiled = torch.compile(make_step(torch))
        start = time.perf_counter()
        compiled(tx, ty)
        print(f"torch.compile: first call {time.perf_counter() - start:.1f} s")
        runs["torch.compile"] = lambda: compiled(tx, ty)
    show(f"step, batch {BATCH}, {threads} thread(s)", interleaved(runs, rounds, 0.3), "ms")


def inference(threads: int, rounds: int) -> None:
    torch.set_num_threads(threads)
    vitrify.set_num_threads(threads)
    net, torch_net = vitrify.compile(make_net(vitrify)), make_net(torch)
    x, tx = batch(vitrify)[0][:1].clone(), batch(torch)[0][:1].clone()
    with vitrify.no_grad(), torch.no_grad():
        runs = {"vitrify": lambda: net(x), "PyTorch eager": lambda: torch_net(tx)}
        show(f"inference, batch 1, {threads} thread(s)", interleaved(runs, rounds, 0.1), "us")


def native_call_of(compiled, arguments):
    """The native call that `compiled(*arguments)` makes, alone, and what must stay alive meanwhile."""
    binding = compiled._current()._binding
    record = binding.take()
    arrays = [t._array for t in arguments]
    arrays += [empty(shape, dtype) for empty, shape, dtype in binding.result_specs]
    for position, array in enumerate(arrays):
        record.objects[position] = id(array)
    return functools.partial(binding._invoke, record.address, record.objects_address), (record, arrays)


def host_side_alone(compiled, arguments, rounds: int) -> float:
    """Seconds of a call whose native part is left out: guards, outputs, wrapping and nothing else."""
    binding = compiled._current()._binding
    native, binding._invoke = binding._invoke, lambda record, objects: 0
    try:
        return interleaved({"call": functools.partial(compiled, *arguments)}, rounds, 0.1)["call"]
    finally:
        binding._invoke = native


def call_overhead(rounds: int) -> None:
    """Python call minus the same program called natively, and the Python side with the native call left out.

    The step's parameters, momenta and gradients fill the L2 cache: the first figure holds what Python's own
    memory pushes out of it, the second does not.
    """
    vitrify.set_num_threads(1)
    for name, function, arguments in (
        ("x + 1, 8 numbers", lambda x: x + 1, (vitrify.ones(8),)),
        ("LeNet step, batch 1", make_step(vitrify), tuple(t[:1].clone() for t in batch(vitrify))),
    ):
        compiled = vitrify.compile(function)
        compiled(*arguments)
        native, keep = native_call_of(compiled, arguments)
        times = interleaved(
            {"vitrify": functools.partial(compiled, *arguments), "native only": native}, rounds, 0.1
        )
        del keep
        extra = (times["vitrify"] - times["native only"]) * 1e6
        alone = host_side_alone(compiled, arguments, rounds) * 1e6
        print(
            f"call overhead, {name:22} {extra:6.2f} us  (call {times['vitrify'] * 1e6:.2f} us; "
            f"its Python side alone {alone:.2f} us)"
        )


COMPILE_PROBE = """
import json, sys, time
start = time.perf_counter()
import vitrify
imported = time.perf_counter() - start
sys.path.insert(0, {folder!r})
from lenet_step import step, x, y
start = time.perf_counter()
step(x, y)
first = time.perf_counter() - start
report = step.report()
print(json.dumps([imported, first, report.from_cache, report.arena_bytes, report.arena_lower_bound]))
"""

STEP_MODULE = """
import numpy as np
import vitrify as lib
{source}
_step = make_step(lib)
step = lib.compile(_step)
x, y = batch(lib)
"""


def compile_times(runs: int) -> None:
    """Fresh processes: the first with an empty cache folder, the others with what it left there."""
    import inspect

    source = f"BATCH = {BATCH}\n" + "\n".join(inspect.getsource(f) for f in (make_net, make_step, batch))
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "lenet_step.py"), "w", encoding="utf-8") as file:
            file.write(STEP_MODULE.format(source=source))
        colds, warms, imports = [], [], []
        for run in range(runs):
            environment = {**os.environ, "VITRIFY_CACHE_DIR": os.path.join(folder, f"cache{run}")}
            # An installed package has its byte code.
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            for times in (colds, warms):
                result = subprocess.run(
                    [sys.executable, "-c", COMPILE_PROBE.format(folder=folder)],
                    env=environment,
                    check=True,
                    capture_output=True,
                    text=True,
                )
                imported, first, from_cache, arena, bound = json.loads(result.stdout)
                assert from_cache is (times is warms)
                times.append(first)
                imports.append(imported)
    print(f"import vitrify: {statistics.median(imports):.3f} s")
    print(
        f"first step, cold: {statistics.median(colds):.2f} s; warm from disk: {statistics.median(warms):.3f} s"
    )
    print(f"arena {arena:,} bytes, lower bound {bound:,}: {arena / bound:.3f} of it")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-torch-compile", action="store_true")
    options = parser.parse_args()
    print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores")
    compile_times(3)
    call_overhead(options.rounds)
    for threads in map(int, options.threads.split(",")):
        training(threads, options.rounds, not options.no_torch_compile)
        inference(threads, options.rounds)


if __name__ == "__main__":
    main()
