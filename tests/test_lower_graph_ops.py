"""Every op's samples, compiled: the samples of an op together in one graph, fused and not."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import check
from op_cases import Case

from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import symbol
from vitrify.ir.op import Op, all_ops
from vitrify.ir.types import TensorType

OPS = [op for op in all_ops() if op.samples]
NARROW = [op for op in OPS if op.lowering in ("pointwise", "reduce", "window", "view")]


def all_samples(op: Op, dtype: dtypes.DType) -> tuple[object, list[np.ndarray]]:
    """A graph that applies the op to every sample's operands, and the operands."""
    F = GraphBuilder(op.name)
    arrays: list[np.ndarray] = []
    outputs = []
    for number, sample in enumerate(op.samples):
        case = Case(op, number, sample)
        operands = case.operands(dtype)
        values = [F.input("x", TensorType(a.shape, dtypes.from_numpy(a.dtype))) for a in operands]
        told = {op.sizes: (symbol(f"u{number}"),)} if op.sizes else {}
        results = F.apply(op, values, {**sample.attrs, **told})
        outputs += results if isinstance(results, tuple) else [results]
        arrays += operands
    return F.finish(outputs), arrays


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op(op):
    graph, arrays = all_samples(op, dtypes.f32)
    check(graph, arrays, scale=max(s.tolerance for s in op.samples))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op_unfused(op):
    graph, arrays = all_samples(op, dtypes.f32)
    check(graph, arrays, interpret=False, fuse=False, scale=max(s.tolerance for s in op.samples))


@pytest.mark.sweep(3)
@pytest.mark.parametrize("op", NARROW, ids=lambda op: op.name)
def test_op_in_bfloat16(op):
    graph, arrays = all_samples(op, dtypes.bf16)
    check(graph, arrays, interpret=False, scale=max(s.tolerance for s in op.samples))
