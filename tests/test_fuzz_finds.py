"""What `make fuzz` found, shrunk."""

from __future__ import annotations

import pytest
from graphs import random_inputs

import vitrify as torch
from vitrify import nn
from vitrify.ir.parser import parse
from vitrify.runtime.bisect import examine


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
