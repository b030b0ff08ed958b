"""Memory of a training step: PyTorch's eager peak, and vitrify's by memory budget, with what the budget costs in time.

    python benchmarks/memory.py [--only resnet] [--times] [--rounds 7] [--budgets none,1.0,0.5,0.0]

A step is gradients set to None, forward, loss, backward, optimizer. Counted is what a step needs besides what is there
anyway (parameters, buffers, the optimizer's state, the batch): activations, temporaries and the gradients. vitrify's
figure is exact: the program's arena, kernels' scratch memory included, and the outputs that are not written over an
input, which are the gradients and the loss. PyTorch's is the largest sum of what its CPU allocator gave out and not got
back since the step began, from `torch.profiler` with `profile_memory=True`, in a process of its own (the profiler keeps
sizes of blocks from one session to the next) and after two steps; what oneDNN allocates by itself is not in it.

With `--times` the steps run on one thread, all budgets in one process in turns; the ratio is of the least CPU times.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from typing import Any

from model_networks import MODELS, Model, classes, numbers, resnet18, step_of

SMALL = Model(resnet18, lambda b: (numbers(b, 3, 64, 64), classes(1000, b)), (8,))
CASES: dict[str, Model] = {"ResNet-18, 64x64": SMALL, **MODELS}
MB = 1e6


def tensors(lib: Any, model: Model) -> list[Any]:
    return [lib.from_numpy(a) for a in model.inputs(model.batches[-1])]


def torch_peak(name: str) -> int:
    """Bytes. One call a process."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    model = CASES[name]
    x, y = tensors(torch, model)
    step, optimizer = step_of(torch, model)
    step(x, y)
    step(x, y)
    optimizer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        loss = step(x, y)
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    grads = sum(p.grad.nbytes for group in optimizer.param_groups for p in group["params"])
    # All that is left are the gradients and the loss: nothing was missed.
    if abs(alive - grads - loss.nbytes) > 1024:
        raise RuntimeError(f"{name}: {alive} bytes are left after the step, the gradients are {grads}")
    return peak


def planned(name: str, budget: float | None) -> tuple[int, float]:
    """Bytes of a step with this budget, and the operations of what is computed again as a share of the step's."""
    import vitrify
    from vitrify.codegen.lower import lower_graph
    from vitrify.codegen.target import Target
    from vitrify.ir.dims import evaluate
    from vitrify.passes.pipeline import PipelineOptions, default_pipeline, run_pipeline
    from vitrify.passes.recompute import Recompute, recomputed
    from vitrify.passes.recompute_cut import work

    model = CASES[name]
    traced = vitrify.compile(step_of(vitrify, model)[0]).trace(*tensors(vitrify, model)).graph
    passes = default_pipeline(PipelineOptions(memory_budget=budget))
    stages = run_pipeline(traced, passes, verify=False)
    program = lower_graph(stages[-1], Target.host())
    results = {b for b in program.outputs if b not in program.inputs}
    total = evaluate(program.arena_bytes, {}) + sum(evaluate(b.nbytes, {}) for b in results)
    again = 0.0
    for before, after, step in zip(stages, stages[1:], passes):
        if isinstance(step, Recompute):
            spent = sum(work(n, {}) for n in recomputed(before, after))
            again = spent / sum(work(n, {}) for n in before.nodes)
    return total, again


def times(name: str, budgets: list[float | None], rounds: int) -> list[float]:
    """The least CPU seconds of a step by budget. RuntimeError where the losses differ."""
    import vitrify

    vitrify.set_num_threads(1)
    model = CASES[name]
    x, y = tensors(vitrify, model)
    steps = [
        vitrify.compile(step_of(vitrify, model)[0], options={"memory_budget": budget}) for budget in budgets
    ]
    losses = [step(x, y).item() for step in steps]
    if any(abs(loss - losses[0]) > 1e-5 * abs(losses[0]) for loss in losses):
        raise RuntimeError(f"{name}: the losses differ: {losses}")
    least = [math.inf] * len(steps)
    for _ in range(rounds):
        for i, step in enumerate(steps):
            step(x, y)
            start = time.process_time()
            step(x, y)
            least[i] = min(least[i], time.process_time() - start)
    return least


def measure(name: str, options: argparse.Namespace) -> None:
    """Prints the row of a model."""
    words = [sys.executable, sys.argv[0], "--torch-peak", name]
    found = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    eager = int(found.stdout.split()[-1])
    cells = [name, f"batch {CASES[name].batches[-1]}", f"{eager / MB:.1f}"]
    least = times(name, options.budgets, options.rounds) if options.times else []
    for i, budget in enumerate(options.budgets):
        total, again = planned(name, budget)
        cell = f"{total / MB:.1f} ({total / eager:.2f})"
        cell += f" +{again:.1%}" if budget is not None else ""
        cell += f", {least[i] / least[0]:.2f}×" if least and i else ""
        cells.append(cell)
    print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--times", action="store_true", help="run the steps too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budgets", default="none,1.0,0.5,0.0")
    parser.add_argument("--torch-peak", help=argparse.SUPPRESS)  # a process of its own
    options = parser.parse_args()
    if options.torch_peak:
        print(torch_peak(options.torch_peak))
        return
    options.budgets = [None if b == "none" else float(b) for b in options.budgets.split(",")]
    heads = " | ".join("no budget" if b is None else f"budget {b}" for b in options.budgets)
    print(f"| model | | PyTorch, MB | {heads} |")
    print("|---|---|---|" + "---|" * len(options.budgets))
    for name in (n for n in CASES if options.only.lower() in n.lower()):
        measure(name, options)


if __name__ == "__main__":
    main()
