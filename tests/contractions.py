"""Fused groups around a contraction, lowered, verified, run natively and by NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.loops.nodes import Program
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.lower import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dims, interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Graph, Value
from vitrify.ir.op import op_named
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import compile_program, run_program

Array = np.ndarray[Any, Any]
Make = Callable[..., Value | Sequence[Value]]


def group(types: Sequence[TensorType], make: Make) -> Graph:
    """A graph of one fused group of kind "contraction": `make(F, *inputs)` is its body."""
    body = GraphBuilder("body")
    inputs = [body.input(f"x{i}", t) for i, t in enumerate(types)]
    made = make(body, *inputs)
    outputs = [made] if isinstance(made, Value) else list(made)
    region = body.finish(outputs)
    outer = GraphBuilder("outer")
    operands = [outer.input(v.name, v.type) for v in inputs]
    attrs = {"name": "group", "kind": "contraction"}
    results = outer.region_node(op_named("fused"), operands, attrs, (region,), [v.type for v in outputs])
    return outer.finish(results)


def lowered(graph: Graph, target: str = "") -> Program:
    program = lower_graph(graph, Target.named(target) if target else Target.host())
    verify_program(program)
    return program


def interpret(
    graph: Graph, target: str = "", bindings: Sequence[Mapping[str, int]] = ({},), depth: int = 100
) -> None:
    """The group's program for a target gives what NumPy gives, under the loop interpreter, which checks every
    access."""
    program = lowered(graph, target)
    for bound in bindings:
        inputs = operands_of(graph, bound)
        want = interpreter.run(graph, inputs, bound)
        got, status = loops.run_program(program, inputs, bound)
        assert status == 0
        for array, reference, exact in zip(got, want, in_double(graph, inputs, bound), strict=True):
            close(array, reference, exact, depth)


def operands_of(graph: Graph, bindings: Mapping[str, int], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    found = []
    for value in graph.inputs:
        shape = tuple(dims.evaluate(d, bindings) for d in value.type.shape)
        dtype = value.type.dtype
        made = rng.standard_normal(shape) if dtype.is_floating_point else rng.integers(-9, 9, shape)
        found.append(np.asarray(made).astype(dtype.numpy))
    return found


def close(got: Array, want: Array, exact: Array, depth: int) -> None:
    """`got` is as near to `exact` (float64) as `want` is, or within the rounding of a sum of `depth`
    terms."""
    assert got.shape == want.shape and got.dtype == want.dtype
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
        return
    if not got.size:
        return
    precision = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 1e-3}.get(got.dtype.name, 8e-3)
    scale = np.abs(exact).max() + np.sqrt(depth + 1)
    error = np.abs(got.astype(np.float64) - exact).max()
    allowed = max(np.abs(want.astype(np.float64) - exact).max(), 4 * precision * scale)
    assert error <= allowed, f"error {error} of {scale}, NumPy's is {allowed}"


def check(
    graph: Graph,
    bindings: Sequence[Mapping[str, int]] = ({},),
    depth: int = 100,
    threads: Sequence[int] = (1, 2),
    target: str = "",
) -> Program:
    """The group's program, for this machine or a target that it can run, gives what NumPy gives, the same bits on every
    number of threads."""
    program = lowered(graph, target)
    loaded = compile_program(program)
    for bound in bindings:
        inputs = operands_of(graph, bound)
        want = interpreter.run(graph, inputs, bound)
        exact = in_double(graph, inputs, bound)
        runs = [run_program(program, inputs, bound, threads=n, loaded=loaded) for n in threads]
        for i, array in enumerate(want):
            close(runs[0][i], array, exact[i], depth)
            for other in runs[1:]:
                assert runs[0][i].tobytes() == other[i].tobytes(), "the thread count changed bits"
    return program


def in_double(graph: Graph, inputs: Sequence[Array], bound: Mapping[str, int]) -> list[Array]:
    """The group in float64: its own nodes on wider operands."""
    (node,) = graph.nodes
    (body,) = node.regions
    env = dict(zip(body.inputs, (a.astype(np.float64) if a.dtype.kind not in "iub" else a for a in inputs)))
    for inner in body.nodes:
        results = interpreter.evaluate_node(inner, [env[v] for v in inner.inputs], bound)
        env.update(zip(inner.outputs, results))
    return [np.asarray(env[v], np.float64) for v in body.outputs]
