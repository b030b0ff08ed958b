"""Decomposition leaves primitives only, and the same values."""

from __future__ import annotations

import numpy as np
import pytest

from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.interpreter import run
from vitrify.ir.op import all_ops
from vitrify.ir.parser import parse
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify
from vitrify.passes.decompose import Decompose

COMPOSITES = [op for op in all_ops() if op.level == "composite"]
SAMPLES = [(op, i) for op in COMPOSITES for i in range(len(op.samples))]

BEFORE = """
graph g(%b: f32[5], %x: f32[2,3], %w: f32[3,5]) -> f32[2,5] {
  %0: f32[2,5] = addmm(%b, %x, %w)   # net.py:8 · fc
  %1: f32[2,5] = relu(%0)   # net.py:9
  return %1
}"""


def test_nodes_keep_the_users_line_and_results_their_name():
    after = verify(Decompose().run(parse(BEFORE)))
    assert all(node.op.level == "primitive" for node in after.nodes)
    assert {str(node.location) for node in after.nodes if node.inputs} == {"net.py:8 · fc", "net.py:9"}
    assert after.outputs[0].name == "1"
    assert any(v.name == "0" for node in after.nodes for v in node.outputs)


def test_what_is_to_be_kept_stays():
    after = Decompose(keep=("relu",)).run(parse(BEFORE))
    assert [node.op.name for node in after.nodes if node.op.level == "composite"] == ["relu"]


@pytest.mark.parametrize(("op", "row"), SAMPLES, ids=[f"{op.name}-{i}" for op, i in SAMPLES])
def test_every_composite_means_its_decomposition(op, row):
    sample = op.samples[row]
    arrays = [np.asarray(a) for a in sample.make(np.random.default_rng(0))]
    F = GraphBuilder(op.name)
    operands = [
        F.input(f"x{i}", TensorType(a.shape, dtypes.from_numpy(a.dtype))) for i, a in enumerate(arrays)
    ]
    result = F.apply(op, operands, sample.attrs)
    before = verify(F.finish(result if isinstance(result, tuple) else (result,)))
    after = verify(Decompose().run(before))
    assert all(node.op.level == "primitive" for node in after.nodes)
    for a, b in zip(run(before, arrays), run(after, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9 * sample.tolerance, atol=1e-11)
