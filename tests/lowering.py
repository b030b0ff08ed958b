"""Graphs through the whole compiler, at every step checked, against the reference interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.loops.nodes import Program
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.lower import LowerOptions, lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dtypes, interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Graph, Value
from vitrify.ir.op import op_named
from vitrify.ir.types import TensorType
from vitrify.passes.fusion_check import check_fusion
from vitrify.passes.pipeline import PipelineOptions, default_pipeline, run_pipeline
from vitrify.runtime.execute import compile_program, run_program

Array = np.ndarray[Any, Any]
# Small works shared among threads as large ones are, so that tests of sharing need no large arrays.
SHARED = LowerOptions(serial_below=8, reduce_chunks=4)
TOLERANCE = {"f16": 4e-3, "bf16": 3e-2, "f32": 2e-5, "f64": 1e-12}


def fused(graph: Graph, fuse: bool = True, keep: tuple[str, ...] = PipelineOptions.keep_composites) -> Graph:
    """The graph after the default pipeline, its fusion checked."""
    *_, before, after = run_pipeline(graph, default_pipeline(PipelineOptions(keep, fuse)))
    check_fusion(before, after)
    return after


def lowered(
    graph: Graph, target: str = "", options: LowerOptions | None = None, fuse: bool = True
) -> Program:
    machine = Target.named(target) if target else Target.host()
    program = lower_graph(fused(graph, fuse), machine, options)
    verify_program(program)
    return program


def close(got: Array, want: Array, scale: float = 1.0) -> None:
    """Equal within the dtype's rounding; exactly, for integers and bool."""
    assert got.shape == want.shape and got.dtype == want.dtype
    dtype = dtypes.from_numpy(got.dtype)
    if not dtype.is_floating_point:
        np.testing.assert_array_equal(got, want)
        return
    tolerance = scale * TOLERANCE[dtype.name]
    a, b = got.astype(np.float64), want.astype(np.float64)
    size = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * size)


def check(
    graph: Graph,
    *inputs: Sequence[Array],
    native: bool = True,
    interpret: bool = True,
    target: str = "",
    options: LowerOptions | None = None,
    fuse: bool = True,
    scale: float = 1.0,
) -> Program:
    """The compiled graph gives what the interpreter gives for each list of input arrays: under the loop
    interpreter, and natively with one thread and two, whose results must be the same bits."""
    program = lowered(graph, target, options, fuse)
    loaded = compile_program(program) if native else None
    for arrays in inputs:
        bindings = interpreter.bind_symbols(graph, arrays)
        want = interpreter.run(graph, arrays)
        if interpret:
            got, code = loops.run_program(program, arrays, bindings)
            assert code == 0, program.messages[code]
            for a, b in zip(got, want, strict=True):
                close(a, b, scale)
        if loaded is None:
            continue
        one, two = (run_program(program, arrays, bindings, n, loaded=loaded) for n in (1, 2))
        for a, b, c in zip(one, two, want, strict=True):
            assert a.tobytes() == b.tobytes(), "the number of threads changes the result"
            close(a, c, scale)
    return program


def graph_of(make: Any, *types: TensorType, name: str = "test") -> Graph:
    """The graph of `make(F, *inputs)`, which gives a value or several."""
    F = GraphBuilder(name)
    made = make(F, *(F.input(f"x{i}", t) for i, t in enumerate(types)))
    return F.finish([made] if isinstance(made, Value) else made)


def group(kind: str, make: Any, *types: TensorType) -> Graph:
    """A graph of one fused group whose body `make(F, *inputs)` is."""
    body = graph_of(make, *types, name="body")
    outer = GraphBuilder("outer")
    operands = [outer.input(v.name, v.type) for v in body.inputs]
    attrs = {"name": "group", "kind": kind}
    results = [v.type for v in body.outputs]
    return outer.finish(outer.region_node(op_named("fused"), operands, attrs, (body,), results))


def f32(*shape: Any) -> TensorType:
    return TensorType(shape, dtypes.f32)


def random_arrays(graph: Graph, batch: int = 3, seed: int = 0) -> list[Array]:
    """Normal numbers for floats, small integers, coin flips."""
    rng = np.random.default_rng(seed)
    arrays = []
    for value in graph.inputs:
        type_ = value.type.bind({s.name: batch for s in graph.symbols})
        if type_.dtype.is_floating_point:
            array = rng.normal(size=type_.shape)
        else:
            array = rng.integers(0, 2 if type_.dtype.kind == "bool" else 5, type_.shape)
        arrays.append(np.asarray(array).astype(type_.dtype.numpy))
    return arrays
