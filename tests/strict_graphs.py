"""Graphs under strict numerics: the bits of the ops one after the other, and those of the compiled graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import vitrify as torch
from vitrify.codegen.lower import lower_graph
from vitrify.codegen.target import Target
from vitrify.dispatch import active_backend
from vitrify.ir.graph import Graph
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.runtime.execute import compile_program, run_program
from vitrify.strict_numerics import STRICT
from vitrify.tensor import wrap


def not_the_same_bits(graph: Graph, inputs: Sequence[np.ndarray]) -> list[str]:
    """The results that differ, with one thread or with two."""
    with torch.numerics("strict"):
        backend = active_backend()
        env = {v: wrap(a) for v, a in zip(graph.inputs, inputs)}
        for node in graph.nodes:
            env.update(zip(node.outputs, backend.apply(node.op, [env[v] for v in node.inputs], node.attrs)))
    fused = run_pipeline(graph, default_pipeline(STRICT.pipeline))[-1]
    program = lower_graph(fused, Target.host(), STRICT.lower)
    loaded = compile_program(program)
    different = []
    for count in (1, 2):
        found = run_program(program, inputs, threads=count, loaded=loaded)
        different += [
            f"%{value.name} with {count} threads"
            for value, array in zip(graph.outputs, found, strict=True)
            if not np.array_equal(
                numbers(env[value]._array), numbers(array), equal_nan=value.type.dtype.is_floating_point
            )
        ]
    return different


def numbers(array: np.ndarray) -> np.ndarray:
    """The elements as a type that NumPy knows NaN of, each exactly."""
    return array.astype(np.float32 if array.dtype.kind == "V" else array.dtype)
