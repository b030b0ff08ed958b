"""Trained models side by side with PyTorch 2.13, torch.compile, ONNX Runtime and OpenVINO. `make models` fetches them.

    python benchmarks/trained_models.py [--threads 1,2] [--only silero] [--no-torch-compile] [--rounds 5] [--seconds 0.5]

Each model runs in a process of its own, the competitors taking turns block by block. Figures are medians of the
blocks' medians; the ratio is the time of `vitrify.compile(net)` to that of the fastest other. `exported` is the library
that `vitrify.export` wrote, `optimized` what `optimize_for_inference` gives, compiled. ONNX Runtime and OpenVINO run the
model's own ONNX file, or what `vitrify.onnx.export` wrote; all results are compared with PyTorch's, or ONNX Runtime's.

`load` is the time of `vitrify.load_exported` in a new process, file cache warm. Where a call makes one token, tokens/s x
bytes of weights is compared with the rate at which a sum reads memory, with the same threads, taking turns with it.
"""

from __future__ import annotations

import argparse
import inspect
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
from timing import interleaved
from trained_nets import CASES, Trained, model_files

import vitrify

Runs = dict[str, Callable[[], object]]
OWN = ("vitrify", "exported", "optimized")
_READ = 1 << 28  # bytes that the read rate is measured on, far more than any cache

_LOAD = """
import sys, time, vitrify
load = vitrify.load_exported  # imports what loads
start = time.perf_counter()
load(sys.argv[1])
print(time.perf_counter() - start)
"""


def arrays(found: Any) -> list[np.ndarray[Any, Any]]:
    """Results of any library as a list of arrays."""
    if isinstance(found, list | tuple):
        return [array for part in found for array in arrays(part)]
    return [np.asarray(found.detach().numpy() if hasattr(found, "detach") else found)]


def timed(times: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    found = run()
    times[name] = time.perf_counter() - start
    return found


def own_runs(model: Trained, net: Any, library: Path, firsts: dict[str, float]) -> Runs:
    given = tuple(vitrify.from_numpy(a) for a in model.inputs())
    shapes = model.dynamic_shapes()
    fast = vitrify.compile(net, dynamic_shapes=shapes)
    timed(firsts, "vitrify", lambda: fast(*given))
    better = vitrify.compile(vitrify.optimize_for_inference(net, given), dynamic_shapes=shapes)
    vitrify.export(net, given, library, dynamic_shapes=shapes)
    exported = vitrify.load_exported(library)
    return {
        "vitrify": lambda: fast(*given),
        "exported": lambda: exported(*given),
        "optimized": lambda: better(*given),
    }


def torch_runs(model: Trained, firsts: dict[str, float], compile_too: bool) -> Runs:
    net = model.net(torch)
    given = tuple(torch.from_numpy(a) for a in model.inputs())
    runs: Runs = {"PyTorch": lambda: net(*given)}
    if compile_too:
        compiled = torch.compile(net)
        timed(firsts, "torch.compile", lambda: compiled(*given))
        runs["torch.compile"] = lambda: compiled(*given)
    return runs


def onnx_file(model: Trained, net: Any, folder: Path) -> tuple[Path, dict[str, np.ndarray[Any, Any]]]:
    """The ONNX file that others run, and its inputs by name."""
    given = model.inputs()
    if model.file:
        named = dict(zip(net.input_names, given)) | {"sr": np.array(16000)}  # of Silero's alone
        return model_files.find(model.file), named
    path = folder / "model.onnx"
    shapes = model.dynamic_shapes()
    proto = vitrify.onnx.export(net, tuple(map(vitrify.from_numpy, given)), path, dynamic_shapes=shapes)
    by_name = dict(zip(inspect.signature(net.forward).parameters, given))
    return path, {i.name: by_name[i.name] for i in proto.graph.input}


def runs_of(
    model: Trained, threads: int, compile_too: bool, folder: Path
) -> tuple[Runs, dict[str, float], Any]:
    """What runs the model, the seconds of first calls, and the net. RuntimeError where results differ."""
    firsts: dict[str, float] = {}
    net = model.net(vitrify)
    runs = own_runs(model, net, folder / "model.so", firsts)
    if not model.file:
        runs |= torch_runs(model, firsts, compile_too)
    path, named = onnx_file(model, net, folder)
    for name, make in (("ONNX Runtime", others.onnx_runtime), ("OpenVINO", others.openvino)):
        run = make(path, named, threads)
        if run is not None:
            runs[name] = run
    trusted = next(name for name in ("PyTorch", "ONNX Runtime", "vitrify") if name in runs)
    wanted = [a.copy() for a in arrays(runs[trusted]())]
    for name, run in runs.items():
        for a, b in zip(arrays(run()), wanted, strict=True):
            error = np.abs(a.astype(np.float64) - b).max() / max(np.abs(b).max(), 1e-6)
            if a.shape != b.shape or not error < 1e-2:
                raise RuntimeError(f"{name} and {trusted} differ: {a.shape}, {b.shape}, {error:.2g}")
    return runs, firsts, net


def load_time(library: Path) -> float:
    """Seconds that a new process takes to load the library, the least of five."""
    words = [sys.executable, "-c", _LOAD, str(library)]
    times = [float(subprocess.run(words, capture_output=True, check=True).stdout) for _ in range(5)]
    return min(times)


def reading() -> Callable[[], object]:
    """Reads `_READ` bytes: a sum of our own, which is limited by memory."""
    block = vitrify.ones(_READ // 4)
    total = vitrify.compile(lambda x: x.sum())
    return lambda: total(block)


def with_int8(model: Trained, net: Any) -> tuple[Any, Callable[[], object]]:
    """The net with int8 weights, and what runs it, compiled. Its results are others, so nothing compares them."""
    given = tuple(vitrify.from_numpy(a) for a in model.inputs())
    short = vitrify.optimize_for_inference(net, given, precision="int8")
    fast = vitrify.compile(short, dynamic_shapes=model.dynamic_shapes())
    return short, lambda: fast(*given)


def read_each_call(net: Any) -> int:
    """Bytes of its weights, those that layers share counted once; of embeddings only some rows are read."""
    modules = [m for m in net.modules() if not type(m).__name__.endswith("Embedding")]
    tensors = [t for m in modules for t in [*m.parameters(recurse=False), *m.buffers(recurse=False)]]
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())


def measure(case: str, threads: int, options: argparse.Namespace) -> None:
    """Prints the row of one model."""
    model = CASES[case]
    torch.set_num_threads(threads)
    vitrify.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder, vitrify.no_grad(), torch.no_grad():
        library = Path(folder) / "model.so"
        runs, firsts, net = runs_of(model, threads, not options.no_torch_compile, Path(folder))
        nets = {"vitrify": net}
        if model.each_token:
            nets["int8"], runs["int8"] = with_int8(model, net)
            runs["reading"] = reading()
        times = interleaved(runs, options.rounds, options.seconds)
        load = load_time(library)
    note = ""
    if model.each_token:
        rate = _READ / times.pop("reading")
        told = []
        for name, each in nets.items():
            seconds = times["vitrify"] if name == "vitrify" else times.pop(name)
            read = read_each_call(each)
            told.append(
                f"{name} {1 / seconds:.1f} tokens/s x {read / 1e6:.0f} MB: {read / seconds / 1e9:.1f} of "
                f"{rate / 1e9:.1f} GB/s ({read / seconds / rate:.2f})"
            )
        note = ", ".join(told)
    own = {name: times.pop(name) for name in OWN}
    best = min(times, key=times.__getitem__)
    ms = lambda found: ", ".join(f"{name} {seconds * 1e3:.3g}" for name, seconds in found.items())
    row = [
        model.title, model.what, threads, f"{own['vitrify'] * 1e3:.3g}",
        f"{own['exported'] * 1e3:.3g}, {own['optimized'] * 1e3:.3g}", ms(times), f"{own['vitrify'] / times[best]:.2f}",
        ", ".join(f"{who} {seconds:.1f}" for who, seconds in firsts.items()), f"{load * 1e3:.1f}",
    ]  # fmt: skip
    print("|", " | ".join(map(str, [*row, note])), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument(
        "--only", default="", help=f"cases whose name holds this; they are {', '.join(CASES)}"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one block")
    parser.add_argument("--no-torch-compile", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # a process of its own for one model
    options = parser.parse_args()
    if options.case:
        measure(options.case, int(options.threads), options)
        return
    chosen = [name for name in CASES if options.only in name]
    print(
        "| model | a call | threads | vitrify, ms | exported, optimized | others, ms | ratio to the best"
        " | first call, s | load, ms | |"
    )
    print("|" + "---|" * 10)
    for name in chosen:
        for threads in options.threads.split(","):
            with tempfile.TemporaryDirectory() as cache:
                words = [*sys.argv, "--case", name, "--threads", threads]
                subprocess.run(
                    [sys.executable, *words], env={**os.environ, "VITRIFY_CACHE_DIR": cache}, check=True
                )


if __name__ == "__main__":
    main()
