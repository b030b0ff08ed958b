"""Rows that are products of symbolic dims."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import check, f32, fused, graph_of

from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph
from vitrify.ir.parser import parse
from vitrify.ir.verifier import verify
from vitrify.passes.dce import DeadCodeElimination
from vitrify.passes.split_rows import SplitRows

S, L = Dim("s", 1, 16), Dim("l", 1, 32)


def arrays(graph: Graph, s: int, l: int):
    rng = np.random.default_rng(0)
    sizes = {"s": s, "l": l, "l*s": s * l}
    shapes = [[n if isinstance(n, int) else sizes[str(n)] for n in v.type.shape] for v in graph.inputs]
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def linear(F, x, w, b):
    s, l, k = F.type_of(x).shape
    return F.reshape(F.addmm(b, F.reshape(x, shape=(s * l, k)), w), shape=(s, l, F.type_of(w).shape[1]))


def split(graph: Graph) -> Graph:
    return verify(DeadCodeElimination().run(SplitRows().run(graph)))


def test_before_and_after():
    before = """
dims l in 1..32, s in 1..16
graph g(%x: f32[s,l,6], %w: f32[6,4], %b: f32[4]) -> f32[s,l,4] {
  %0: f32[l*s,6] = reshape(%x) {shape=[l*s,6]}
  %1: f32[l*s,4] = matmul(%0, %w)
  %2: f32[l*s,4] = add(%1, %b)
  %3: f32[l*s,4] = tanh(%2)
  %4: f32[s,l,4] = reshape(%3) {shape=[s,l,4]}
  return %4
}"""
    assert [n.op.name for n in split(parse(before)).nodes] == ["matmul", "add", "tanh"]


def test_rows_that_an_index_can_follow_stay():
    batch = Dim("batch", 1, 8)
    for graph in (
        graph_of(linear, f32(2, 3, 4), f32(4, 5), f32(5)),
        graph_of(linear, f32(batch, 3, 4), f32(4, 5), f32(5)),
    ):
        assert SplitRows().run(graph) is graph


@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (16, 32)], ids=str)
def test_a_layer_has_the_kernels_of_a_fixed_size(sizes):
    def make(F, x, w, b, v, places):
        y = F.gelu(linear(F, x, w, b))
        return F.add(
            F.add(linear(F, y, v, F.full(shape=(6,), value=0.5, dtype=F.type_of(x).dtype)), x), places
        )

    graph = graph_of(make, f32(S, L, 6), f32(6, 20), f32(20), f32(20, 6), f32(L, 6))
    assert [n.attrs["kind"] for n in fused(graph).nodes] == ["contraction", "contraction"]
    check(graph, arrays(graph, *sizes), interpret=sizes != (16, 32))


def test_what_reads_the_rows_together_reads_them():
    """The gradient of a weight, and operands that are rows already."""

    def make(F, x, w, b, mask, scale, dy):
        rows = F.matmul(F.reshape(x, shape=(S * L, 6)), w)
        y = F.mul(F.mul(F.add(F.add(rows, b), mask), scale), F.reshape(dy, shape=(S * L, 5)))
        dw = F.matmul(F.permute(F.reshape(x, shape=(S * L, 6)), dims=(1, 0)), y)
        return F.reshape(y, shape=(S, L, 5)), dw, F.sum(y, dims=(0,)), y

    types = f32(S, L, 6), f32(6, 5), f32(1, 5), f32(S * L, 5), f32(S * L, 1), f32(S, L, 5)
    graph = graph_of(make, *types)
    assert any(n.op.name == "matmul" and n.outputs[0].type.rank == 3 for n in split(graph).nodes)
    check(graph, arrays(graph, 3, 7), arrays(graph, 1, 4))


def test_heads_that_become_features():
    """What attention gives, [s, heads, l, size], goes through a linear layer."""

    def make(F, heads, w, residual):
        x = F.reshape(F.permute(heads, dims=(0, 2, 1, 3)), shape=(S * L, 8))
        return F.add(F.reshape(F.matmul(x, w), shape=(S, L, 6)), residual)

    graph = graph_of(make, f32(S, 2, L, 4), f32(8, 6), f32(S, L, 6))
    assert [n.attrs["kind"] for n in fused(graph).nodes] == ["contraction"]
    check(graph, arrays(graph, 3, 5), arrays(graph, 2, 1))
