"""Sums over the rows of a reshaped value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowering import check, fused, graph_of, random_arrays

from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph
from vitrify.ir.parser import parse
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify
from vitrify.passes.dce import DeadCodeElimination
from vitrify.passes.reduce_before_reshape import ReduceBeforeReshape


def after(text: str) -> Graph:
    return verify(DeadCodeElimination().run(ReduceBeforeReshape().run(parse(text))))


@pytest.mark.parametrize("op", ["sum", "amax", "prod"])
def test_before_and_after(op: str) -> None:
    before = f"""
dims l in 1..32
graph g(%x: f32[l,3,5], %y: f32[4,3*l]) -> (f32[5], f32[4,5], f32[1,5]) {{
  %0: f32[3,l,5] = permute(%x) {{dims=[1,0,2]}}
  %1: f32[3*l,5] = reshape(%0) {{shape=[3*l,5]}}
  %2: f32[5] = {op}(%1) {{dims=[0], keepdim=false}}
  %3: f32[4,5] = matmul(%y, %1)
  %4: f32[1,5] = {op}(%1) {{dims=[0], keepdim=true}}
  return %2, %3, %4
}}"""
    expected = f"""
dims l in 1..32
graph g(%x: f32[l,3,5], %y: f32[4,3*l]) -> (f32[5], f32[4,5], f32[1,5]) {{
  %0: f32[3,l,5] = permute(%x) {{dims=[1,0,2]}}
  %1: f32[3*l,5] = reshape(%0) {{shape=[3*l,5]}}
  %2: f32[5] = {op}(%x) {{dims=[0,1], keepdim=false}}
  %3: f32[4,5] = matmul(%y, %1)
  %5: f32[5] = {op}(%x) {{dims=[0,1], keepdim=false}}
  %4: f32[1,5] = reshape(%5) {{shape=[1,5]}}
  return %2, %3, %4
}}"""
    assert after(before) == parse(expected)


@pytest.mark.parametrize(
    "nodes",
    [
        # The mean of rows that are used as rows.
        "%2: f32[5] = sum(%1) {dims=[0]}\n  %3: f32[6,5] = sub(%1, %2)",
        # Other columns.
        "%9: f32[3,10] = reshape(%1) {shape=[3,10]}\n  %2: f32[10] = sum(%9) {dims=[0]}\n  %3: f32[6,5] = exp(%1)",
        # Columns that are reduced too, or rows that are not.
        "%2: f32[] = sum(%1) {dims=[0,1]}\n  %3: f32[6,5] = matmul(%1, %w)",
        "%2: f32[6] = sum(%1) {dims=[1]}\n  %3: f32[6,5] = matmul(%1, %w)",
    ],
)
def test_what_stays(nodes: str) -> None:
    result = next(n for n in ("f32[10]", "f32[6] ", "f32[] ", "f32[5]") if f"%2: {n}" in nodes).strip()
    graph = parse(
        f"graph g(%x: f32[2,3,5], %w: f32[5,5]) -> ({result}, f32[6,5]) {{\n"
        f"  %1: f32[6,5] = reshape(%x) {{shape=[6,5]}}\n  {nodes}\n  return %2, %3\n}}"
    )
    assert ReduceBeforeReshape().run(graph) is graph


def norm_and_linear(F: Any, x: Any, scale: Any, dy: Any, w: Any) -> tuple[Any, ...]:
    """The gradient of a norm's input, and with it those of the linear layer before: of its bias and of its weight."""
    batch, length, width = F.type_of(x).shape
    product = F.mul(dy, F.mul(x, scale))
    total = F.sum(product, dims=(2,), keepdim=True)
    dx = F.sub(F.mul(dy, scale), F.mul(x, total))
    rows = F.reshape(dx, shape=(batch * length, width))
    bias = F.sum(rows, dims=(0,), keepdim=False)
    return (
        dx,
        F.sum(F.mul(dy, x), dims=(0, 1), keepdim=False),
        bias,
        F.matmul(F.permute(rows, dims=(1, 0)), w),
    )


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.bf16], ids=str)
@pytest.mark.parametrize("batch", [9, Dim("batch", 1, 64)], ids=["fixed", "symbolic"])
@pytest.mark.parametrize("width", [80, 67], ids=str)
def test_a_bias_gradient_is_made_by_the_kernel_that_writes_what_it_sums(
    dtype: dtypes.DType, batch: Any, width: int
) -> None:
    length = 113
    rows = TensorType((batch, length, width), dtype)
    graph = graph_of(
        norm_and_linear,
        rows,
        TensorType((width,), dtype),
        rows,
        TensorType((batch * length, 5), dtype),
    )
    kinds = [n.attrs["kind"] for n in fused(graph).nodes]
    assert sorted(kinds) == ["contraction", "reduce"]
    check(graph, random_arrays(graph, 9), interpret=False, scale=40.0)


def test_sums_of_few_rows_agree() -> None:
    for batch, length, width in ((1, 1, 1), (2, 3, 5), (7, 1, 17)):
        rows = TensorType((batch, length, width), dtypes.f32)
        matrix = TensorType((batch * length, 5), dtypes.f32)
        graph = graph_of(norm_and_linear, rows, TensorType((width,), dtypes.f32), rows, matrix)
        check(graph, random_arrays(graph), scale=4.0)


def test_nothing_to_sum() -> None:
    def make(F: Any, x: Any) -> Any:
        return F.sum(F.reshape(x, shape=(0, 4)), dims=(0,), keepdim=False)

    graph = graph_of(make, TensorType((0, 3, 4), dtypes.f32))
    check(graph, [np.zeros((0, 3, 4), np.float32)])
