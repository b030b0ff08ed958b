"""Whole models side by side with PyTorch 2.13, ONNX Runtime and OpenVINO: inference and training steps.

    python benchmarks/models.py [--threads 1,2] [--only resnet] [--no-torch-compile] [--rounds 5] [--seconds 0.5]

Each model runs in a process of its own, the competitors taking turns block by block. Figures are medians of the
blocks' medians; the ratio is vitrify's time to that of the fastest other. ONNX Runtime and OpenVINO (where they are
installed) run the model that `vitrify.onnx.export` wrote. First calls are those of vitrify with an empty cache, and
of torch.compile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import others
import torch
from model_networks import MODELS, Model, step_of
from timing import interleaved

import vitrify

Runs = dict[str, Callable[[], object]]


def tensors(lib: Any, model: Model, batch: int) -> list[Any]:
    return [lib.from_numpy(a) for a in model.inputs(batch)]


def training(model: Model, batch: int, with_torch_compile: bool) -> tuple[Runs, dict[str, float]]:
    """What runs a step, and the seconds that first calls took. RuntimeError where the losses differ."""
    x, y = tensors(vitrify, model, batch)
    tx, ty = tensors(torch, model, batch)
    step, torch_step = vitrify.compile(step_of(vitrify, model)[0]), step_of(torch, model)[0]
    firsts: dict[str, float] = {}
    loss = _timed(firsts, "vitrify", lambda: step(x, y))
    wanted = torch_step(tx, ty)
    if abs(loss.item() - wanted.item()) > 1e-3 * abs(wanted.item()):
        raise RuntimeError(f"the losses differ: {loss.item()} and PyTorch's {wanted.item()}")
    runs: Runs = {"vitrify": lambda: step(x, y), "PyTorch": lambda: torch_step(tx, ty)}
    if with_torch_compile:
        compiled = torch.compile(step_of(torch, model)[0])
        _timed(firsts, "torch.compile", lambda: compiled(tx, ty))
        runs["torch.compile"] = lambda: compiled(tx, ty)
    return runs, firsts


def inference(
    model: Model, batch: int, with_torch_compile: bool, threads: int
) -> tuple[Runs, dict[str, float]]:
    """What runs the model, and the seconds that first calls took. RuntimeError where the results differ."""
    (x, _), (tx, _) = tensors(vitrify, model, batch), tensors(torch, model, batch)
    vitrify.manual_seed(0)
    torch.manual_seed(0)
    net, torch_net = model.make(vitrify).eval(), model.make(torch).eval()
    fast = vitrify.compile(net)
    firsts: dict[str, float] = {}
    found = _timed(firsts, "vitrify", lambda: fast(x))
    wanted = torch_net(tx)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-3, atol=1e-3)
    runs: Runs = {"vitrify": lambda: fast(x), "PyTorch": lambda: torch_net(tx)}
    if with_torch_compile:
        compiled = torch.compile(torch_net)
        _timed(firsts, "torch.compile", lambda: compiled(tx))
        runs["torch.compile"] = lambda: compiled(tx)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        proto = vitrify.onnx.export(net, (x,), path)
        named = {proto.graph.input[0].name: x.numpy()}
        for name, make in (("ONNX Runtime", others.onnx_runtime), ("OpenVINO", others.openvino)):
            run = make(path, named, threads)
            if run is not None:
                np.testing.assert_allclose(run()[0], wanted.numpy(), rtol=1e-3, atol=1e-3)
                runs[name] = run
    return runs, firsts


def _timed(times: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    found = run()
    times[name] = time.perf_counter() - start
    return found


def measure(name: str, threads: int, options: argparse.Namespace) -> None:
    """Prints the rows of one model."""
    model = MODELS[name]
    torch.set_num_threads(threads)
    vitrify.set_num_threads(threads)
    compile_too = not options.no_torch_compile
    for batch in model.batches:
        with vitrify.no_grad(), torch.no_grad():
            runs, firsts = inference(model, batch, compile_too, threads)
            row(name, "inference", batch, threads, interleaved(runs, options.rounds, options.seconds), firsts)
    runs, firsts = training(model, model.batches[-1], compile_too)
    times = interleaved(runs, options.rounds, options.seconds)
    row(name, "training", model.batches[-1], threads, times, firsts)


def row(
    name: str, what: str, batch: int, threads: int, times: dict[str, float], firsts: dict[str, float]
) -> None:
    own = times.pop("vitrify")
    best = min(times, key=times.__getitem__)
    others = ", ".join(f"{other} {seconds * 1e3:.2f}" for other, seconds in times.items())
    first = ", ".join(f"{who} {seconds:.1f}" for who, seconds in firsts.items())
    cells = (
        name,
        f"{what}, batch {batch}",
        threads,
        f"{own * 1e3:.2f}",
        others,
        f"{own / times[best]:.2f}",
        first,
    )
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one block")
    parser.add_argument("--no-torch-compile", action="store_true")
    parser.add_argument("--model", help=argparse.SUPPRESS)  # a process of its own for one model
    options = parser.parse_args()
    if options.model:
        measure(options.model, int(options.threads), options)
        return
    print("| model | | threads | vitrify, ms | others, ms | ratio to the best | first call, s |")
    print("|---|---|---|---|---|---|---|")
    for name in (n for n in MODELS if options.only.lower() in n.lower()):
        for threads in options.threads.split(","):
            with tempfile.TemporaryDirectory() as cache:
                words = [*sys.argv, "--model", name, "--threads", threads]
                subprocess.run(
                    [sys.executable, *words], env={**os.environ, "VITRIFY_CACHE_DIR": cache}, check=True
                )


if __name__ == "__main__":
    main()
