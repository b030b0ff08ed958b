"""What `make fuzz` found, shrunk."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import random_inputs

import vitrify as torch
from vitrify import nn
from vitrify.codegen.lower import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import interpreter
from vitrify.ir.parser import parse
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.runtime.bisect import examine
from vitrify.runtime.execute import run_program


def test_a_counter_without_dims_that_is_updated():
    """Batch norm's `num_batches_tracked` came back from `run_program` as an array of one dim."""
    report = torch.compile(nn.Sequential(nn.BatchNorm1d(1))).check(torch.randn(2, 1))
    assert report.ok, str(report)


@pytest.mark.parametrize("op", ["max_pool_grad", "avg_pool_grad"])
def test_pooling_over_a_dim_smaller_than_its_stride(op):
    """Whole strides of the dim there are none, and that part of the space could not be lowered with an epilogue."""
    of_max = op == "max_pool_grad"
    attrs = "dilation=[1,1]" if of_max else "ceil_mode=false, count_include_pad=true, input_size=[3,4,3,1]"
    graph = parse(
        "graph pool(%x: f32[3,4,3,1], %dy: f32[3,4,2,1]) -> (f32[3,4,3,1]) {\n"
        f"  %0: f32[3,4,3,1] = {op}({'%x, ' if of_max else ''}%dy) "
        f"{{kernel=[2,2], stride=[2,2], padding=[1,1], {attrs}}}\n"
        "  %1: f32[3,4,3,1] = add(%x, %0)\n  return %1\n}"
    )
    found = examine(graph, random_inputs(graph))
    assert found.fault is None, str(found.fault)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="runs x86-64 code")
def test_float16_without_instructions_for_it():
    """LLVM called functions for it, of a library that a compiled program does not have."""
    graph = parse(
        "graph half(%x: f16[65536], %y: f32[100000], %z: f64[1000])"
        " -> (f32[65536], f16[100000], f16[1000], f64[65536]) {\n"
        "  %0: f32[65536] = convert(%x) {dtype=f32}\n"
        "  %1: f16[100000] = convert(%y) {dtype=f16}\n"
        "  %2: f16[1000] = convert(%z) {dtype=f16}\n"
        "  %3: f64[65536] = convert(%x) {dtype=f64}\n"
        "  return %0, %1, %2, %3\n}"
    )
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 1 << 32, 100_000, np.uint32).view(np.float32)
    ties = np.arange(3000, dtype=np.float32) * np.float32(2.0**-25)
    numbers[:6000] = np.concatenate([ties, ties + np.float32(1.0)])
    numbers[6000:6004] = [65519.996, 65520, 65536, np.inf]
    inputs = [
        np.arange(65536, dtype=np.uint16).view(np.float16),
        numbers,
        rng.standard_normal(1000) * 2.0**-14,
    ]
    target = Target.named("x86-64-sse2")
    program = lower_graph(run_pipeline(graph, default_pipeline())[-1], target)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = interpreter.run(graph, inputs)
    for want, got in zip(expected, run_program(program, inputs, target=target), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.slow
def test_some_of_each_kind():
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), "--examples", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
