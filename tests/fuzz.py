"""Random programs, longer than the tests run them: `make fuzz`, or `python tests/fuzz.py --examples 500 [NAME ...]`.

Each is run by the interpreter at every stage of the pipeline and by compiled code with one thread and with two
(`vitrify.runtime.bisect`). Hypothesis makes the choices, so a program that fails is shrunk; it is printed with where it
fails, and becomes a test in `test_fuzz_finds.py`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from graphs import random_graph, random_inputs
from hypothesis import HealthCheck, Verbosity, assume, given, note, settings
from hypothesis import strategies as st

import vitrify as torch
from vitrify import nn
from vitrify.codegen.lower import LowerOptions, lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dtypes, interpreter
from vitrify.ir.graph import Graph
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.runtime.bisect import examine
from vitrify.runtime.compiled_graph import CompileOptions
from vitrify.runtime.execute import compile_program, run_program

# Small works shared among threads as large ones are.
SHARED = LowerOptions(serial_below=8, reduce_chunks=4)
choices = st.randoms(note_method_calls=False, use_true_random=False)
options = st.sampled_from([CompileOptions(), CompileOptions(lower=SHARED)])
Arrays = list[np.ndarray[Any, Any]]


def must_agree(graph: Graph, inputs: Arrays, how: CompileOptions) -> None:
    """No stage parts from the traced graph, and the text form says all there is to say."""
    assert parse(to_text(graph)) == graph
    found = examine(graph, inputs, how)
    if found.fault is not None:
        note(f"inputs: {[a.tolist() for a in inputs]}")
        note(str(found.fault))
        raise AssertionError(f"{found.fault}\n{to_text(graph)}")


@given(choices, st.integers(1, 16), st.integers(0, 99), st.sampled_from([dtypes.f32, dtypes.f64]), options)
def graphs(rng: random.Random, nodes: int, seed: int, dtype: dtypes.DType, how: CompileOptions) -> None:
    """Graphs of ops that neither overflow nor magnify rounding."""
    graph = random_graph(rng, nodes=nodes, tame=True, dtype=dtype)
    must_agree(graph, random_inputs(graph, seed), how)


@given(choices, st.integers(1, 12), st.integers(0, 99), st.integers(1, 9), options)
def symbolic(rng: random.Random, nodes: int, seed: int, batch: int, how: CompileOptions) -> None:
    """Graphs with a symbolic batch."""
    graph = random_graph(rng, nodes=nodes, tame=True, symbolic=True)
    must_agree(graph, random_inputs(graph, seed, batch), how)


@given(choices, st.integers(1, 10), st.integers(0, 99), options)
def gradients(rng: random.Random, nodes: int, seed: int, how: CompileOptions) -> None:
    """Graphs with their gradients."""
    graph = random_graph(rng, nodes=nodes, tame=True)
    floats = tuple(v.name for v in graph.inputs if v.type.dtype.is_floating_point)
    outputs = tuple(i for i, v in enumerate(graph.outputs) if v.type.dtype.is_floating_point)
    assume(floats and outputs)
    joint = Autodiff(wrt=floats, outputs=outputs, seed="ones").run(graph)
    must_agree(joint, random_inputs(joint, seed), how)


@given(choices, st.integers(1, 12), st.integers(0, 99))
def threads(rng: random.Random, nodes: int, seed: int) -> None:
    """The bits do not depend on the number of threads."""
    graph = random_graph(rng, nodes=nodes, tame=True)
    inputs = random_inputs(graph, seed)
    fused = run_pipeline(graph, default_pipeline())[-1]
    loaded = compile_program(program := lower_graph(fused, Target.host(), SHARED))
    bound = interpreter.bind_symbols(graph, inputs)
    results = [run_program(program, inputs, bound, count, loaded=loaded) for count in (1, 2, 3)]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes(), to_text(graph)


LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "relu": lambda n, _: nn.ReLU(),
    "gelu": lambda n, _: nn.GELU(),
    "tanh": lambda n, _: nn.Tanh(),
    "softmax": lambda n, _: nn.Softmax(-1),
    "norm": lambda n, _: nn.LayerNorm(n),
    "batch norm": lambda n, _: nn.BatchNorm1d(n),
    "dropout": lambda n, _: nn.Dropout(0.3),
    "residual": lambda n, _: Residual(n),
}


layer_lists = st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=6)


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sigmoid(self.inner(x))


@given(layer_lists, st.integers(2, 9), st.integers(1, 9), st.booleans())
def models(layers: list[str], rows: int, width: int, step: bool) -> None:
    """Models and training steps: eager code takes part."""
    torch.manual_seed(0)
    widths = [width]
    made = []
    for name in layers:
        widths.append(width + 3 if name == "linear" and widths[-1] == width else widths[-1])
        made.append(LAYERS[name](widths[-2], widths[-1]))
    net = nn.Sequential(*made)
    x = torch.randn(rows, width)
    if not step:
        report = torch.compile(net).check(x)
    else:
        parameters = list(net.parameters())
        assume(parameters)
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

        def train(x: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = net(x).pow(2).mean()
            loss.backward()
            optimizer.step()
            return loss

        report = torch.compile(train).check(x)
    assert report.ok, str(report)


KINDS = {f.__name__: f for f in (graphs, symbolic, gradients, threads, models)}


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500, help="of each kind (default: %(default)s)")
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=f"of {', '.join(KINDS)} (default: all)")
    given_options = parser.parse_args()
    status = 0
    for name in given_options.kinds:
        start = time.monotonic()
        run = settings(
            max_examples=given_options.examples,
            deadline=None,
            database=None,
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )(KINDS[name])
        try:
            run()
            found = "nothing found"
        except Exception:
            status, found = 1, "FOUND"
            traceback.print_exc()
        print(
            f"{name}: {given_options.examples} examples, {time.monotonic() - start:.0f} s, {found}",
            flush=True,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
