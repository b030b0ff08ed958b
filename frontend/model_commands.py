"""`vitrify run-model`, `compare` and `bench-model`: a trained model from the command line (docs/models.md)."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .autograd.grad_mode import no_grad
from .compile import pytree
from .named_models import NamedModel, ScriptFailed, add_input_options, arguments, models_of, told
from .native_export import ExportError
from .nn.modules.module import Module
from .onnx import GraphModule
from .runtime import progress
from .runtime.threads import get_num_threads, set_num_threads
from .tensor import Tensor

Array = np.ndarray[Any, Any]

_MODEL = "net.onnx, net.so or script.py:name; @eager, @fp32, @bf16 or @int8 may follow"


def add_model_commands(commands: Any) -> None:
    """Declare them among an argparse parser's subcommands."""
    run = commands.add_parser("run-model", help="call a model and print or save what it returns")
    run.add_argument("model", metavar="MODEL", help=_MODEL)
    add_input_options(run)
    run.add_argument("-o", "--output", metavar="out.npz", help="save the outputs by name")
    compare = commands.add_parser("compare", help="call two models with the same arguments and compare")
    compare.add_argument("model", metavar="A", help=_MODEL)
    compare.add_argument("other", metavar="B")
    add_input_options(compare)
    compare.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        help="how far outputs may be apart, as a part of the largest number in them (default: %(default)s)",
    )
    bench = commands.add_parser("bench-model", help="time a model, side by side with others")
    bench.add_argument("model", metavar="MODEL", help=_MODEL)
    add_input_options(bench)
    bench.add_argument(
        "--against", metavar="MODEL", action="append", default=[], help="others, timed in turns"
    )
    bench.add_argument(
        "--threads", help="1,2: each of these numbers of threads (default: as many as there are)"
    )
    bench.add_argument(
        "--tune",
        action="store_true",
        help="choose among ways to compute a kernel by measurement, in the first call",
    )
    bench.add_argument("--seconds", type=float, default=3.0, help="of timing each (default: %(default)s)")


def model_command(options: argparse.Namespace) -> int:
    """The exit status: 0, or 1 where something is wrong with the models or they differ."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "run-model": _run, "compare": _compare, "bench-model": _bench,
    }  # fmt: skip
    try:
        with no_grad():
            return commands[options.command](options)
    except (ScriptFailed, ImportError, ExportError, ValueError, TypeError, RuntimeError, OSError) as error:
        return told(error)


def _run(options: argparse.Namespace) -> int:
    (model,) = models_of([options.model], options.fixed)
    args = arguments(model, options)
    outputs = _outputs(model.runnable(args)(*args))
    for name, array in outputs.items():
        print(f"{name}: {array.dtype}{list(array.shape)}{_summary(array)}")
        if array.size <= 20:
            print(f"  {np.array2string(array, precision=5, suppress_small=True, prefix='  ')}")
    if options.output:
        np.savez(options.output, allow_pickle=False, **outputs)
    return 0


def _summary(array: Array) -> str:
    if not array.size or array.dtype.kind == "b":
        return ""
    wide = array.astype(np.float64)
    bad = int((~np.isfinite(wide)).sum())
    text = f", {wide.min():.5g} to {wide.max():.5g}, mean {wide.mean():.5g}"
    return f"{text}, {bad} not finite" if bad else text


def _outputs(result: Any) -> dict[str, Array]:
    leaves, structure = pytree.flatten(result)
    names = pytree.paths(structure, "output")
    return {n: leaf.detach().numpy() for n, leaf in zip(names, leaves) if isinstance(leaf, Tensor)}


@dataclass(frozen=True)
class Difference:
    """The largest difference between two arrays, and that as a part of the largest number in the first."""

    largest: float
    relative: float


def difference(a: Array, b: Array) -> Difference:
    """Infinite where shapes differ, or a number is finite in one only."""
    if a.shape != b.shape:
        return Difference(np.inf, np.inf)
    if not a.size:
        return Difference(0.0, 0.0)
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(x - y))
    largest = float(np.where(np.isnan(apart), np.inf, apart).max())
    scale = float(np.abs(x[np.isfinite(x)]).max()) if np.isfinite(x).any() else 0.0
    return Difference(largest, largest / scale if scale else largest)


def _compare(options: argparse.Namespace) -> int:
    models = models_of([options.model, options.other], options.fixed)
    try:
        args = arguments(models[0], options)
    except ValueError:
        args = arguments(models[1], options)  # which may say what its arguments are
    found = [list(_outputs(model.runnable(args)(*args)).items()) for model in models]
    if len(found[0]) != len(found[1]):
        raise ValueError(f"{options.model} has {len(found[0])} outputs, {options.other} {len(found[1])}")
    apart = False
    for (name, a), (other, b) in zip(*found):
        gap = difference(a, b)
        apart |= gap.relative > options.tolerance
        label = name if name == other else f"{name} and {other}"
        if a.shape != b.shape:
            print(f"{label}: shapes {list(a.shape)} and {list(b.shape)}")
        else:
            print(f"{label}: {list(a.shape)} at most {gap.largest:.3g} apart, {gap.relative:.3g} relative")
    print(first_difference(models, args, options.tolerance))
    return int(apart)


def first_difference(models: Sequence[NamedModel], args: Sequence[Tensor], tolerance: float) -> str:
    """Says which layer is the first whose outputs are apart: of layers with the same names, run eagerly."""
    modules = [model.module(args) for model in models]
    if modules[0] is None or modules[1] is None:
        return "layers cannot be compared: both models must be Modules or ONNX files"
    first, second = (layer_outputs(module, args) for module in modules if module is not None)
    common = [name for name in first if name in second]
    if not common:
        return "layers cannot be compared: none has the same name in both models"
    for name in common:
        for a, b in zip(first[name], second[name]):
            gap = difference(a, b)
            if gap.relative > tolerance:
                return f"first apart: {name}, by {gap.largest:.3g}, {gap.relative:.3g} of the largest number"
    return f"none of {len(common)} layers is apart by more than {tolerance:g}"


def layer_outputs(module: Module, args: Sequence[Tensor]) -> dict[str, list[Array]]:
    """What each layer gives in one eager call, by name: submodules by path in the order in which they end, of an ONNX
    graph its values. Of a layer that runs several times the first."""
    found: dict[str, list[Array]] = {}
    if isinstance(module, GraphModule):

        def note(name: str, value: Any) -> None:
            array = value.detach().numpy() if isinstance(value, Tensor) else value
            if isinstance(array, np.ndarray) and array.dtype != object:
                found.setdefault(name, [array.copy()])

        with module.observed(note):
            module(*args)
        return found
    hooks = [
        layer.register_forward_hook(
            lambda layer, inputs, output, path=path: (
                found.setdefault(path, [a.copy() for a in _outputs(output).values()]) and None
            )
        )
        for path, layer in module.named_modules()
        if path
    ]
    try:
        module(*args)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _bench(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    models = models_of([options.model, *options.against], options.fixed)
    args = arguments(models[0], options)
    threads = [int(n) for n in options.threads.split(",")] if options.threads else [get_num_threads()]
    print(f"{'model':40} threads   first call     median    fastest")
    for count in threads:
        set_num_threads(count)
        runs, firsts = [], []
        for model in models:
            run = model.runnable(args, options.tune)
            start = time.perf_counter()
            run(*args)
            firsts.append(time.perf_counter() - start)
            runs.append(run)
        for model, first, times in zip(models, firsts, _in_turns(runs, args, options.seconds)):
            print(
                f"{model.text:40} {count:7} {first * 1e3:9.1f} ms {statistics.median(times) * 1e3:7.3f} ms "
                f"{min(times) * 1e3:7.3f} ms"
            )
    print(f"calls of the models in turns; {time.perf_counter() - began:.1f} s in all", file=sys.stderr)
    return 0


def _in_turns(
    runs: Sequence[Callable[..., Any]], args: Sequence[Tensor], seconds: float
) -> list[list[float]]:
    """Times of single calls; the functions take turns, so that what else the machine does hits all of them."""
    times: list[list[float]] = [[] for _ in runs]
    total = int(seconds * len(runs))
    end = time.perf_counter() + seconds * len(runs)
    with progress.watched("the models") as watch:
        while (now := time.perf_counter()) < end or len(times[0]) < 3:
            watch.step("run", min(total, int(seconds * len(runs) - (end - now))), total)
            for run, found in zip(runs, times):
                start = time.perf_counter()
                run(*args)
                found.append(time.perf_counter() - start)
    return times
