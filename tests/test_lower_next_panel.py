"""Fetches of the weights' next panel while tiles read one."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import graph_of, lowered

from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.loops.nodes import Prefetch, Program
from vitrify.codegen.loops.walk import statements
from vitrify.codegen.lower import LowerOptions
from vitrify.codegen.target import Target
from vitrify.ir import dtypes, interpreter
from vitrify.ir.graph import Graph
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import run_program

# Two multiply-adds a cycle, vectors that are lines, 2 MiB of second-level cache.
WIDE, NARROW = "x86-64-amx", "x86-64-avx512"


def linear(rows: int, inner: int, columns: int) -> Graph:
    types = TensorType((rows, inner), dtypes.f32), TensorType((columns, inner), dtypes.f32)
    return graph_of(lambda F, x, w: F.matmul(x, F.permute(w, dims=(1, 0))), *types)


def program(graph: Graph, target: str = WIDE, steady: bool = True) -> Program:
    names = (graph.inputs[1].name,) if steady else ()
    return lowered(graph, target, LowerOptions(steady_inputs=names))


def fetches(found: Program) -> int:
    return sum(isinstance(stmt, Prefetch) for x in found.launches for stmt in statements(x.kernel.body))


def test_weights_that_left_the_cache_are_fetched_a_panel_ahead() -> None:
    assert fetches(program(linear(49, 320, 1280))) > 0
    assert fetches(program(linear(49, 320, 1280), NARROW)) == 0, "a core that has time to wait"
    assert fetches(program(linear(49, 32, 64))) == 0, "they stay"
    assert fetches(program(linear(2048, 320, 1280))) == 0, "the first of many tiles does not count"
    assert fetches(program(linear(49, 320, 1280), steady=False)) == 0, "packed just now"


@pytest.mark.parametrize("sizes", [(17, 54, 1000), (13, 35, 1503)], ids=str)
def test_the_results_stay_the_same(sizes: tuple[int, int, int]) -> None:
    """And nothing is read past the last panel, which the loop interpreter would report."""
    graph = linear(*sizes)
    found = program(graph)
    assert fetches(found) > 0
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.type.sizes).astype(np.float32) for v in graph.inputs]
    (want,) = interpreter.run(graph, inputs)
    results = [loops.run_program(found, inputs)[0]]
    if Target.host().isa == "avx512":
        results += [run_program(found, inputs, threads=n, target=Target.named(WIDE)) for n in (1, 2)]
    for (got,) in results:
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
