"""The checker of fused graphs: what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lowering import f32, graph_of, group
from training_graphs import POOL, lenet_step

from vitrify.ir import dtypes
from vitrify.ir.graph import Graph, IRError
from vitrify.ir.op import op_named
from vitrify.ir.types import TensorType
from vitrify.passes.fusion import Fusion
from vitrify.passes.fusion_check import check_fusion, unfuse
from vitrify.passes.fusion_check_groups import check_group
from vitrify.passes.pipeline import default_pipeline, run_pipeline

STATE = TensorType((2,), dtypes.i64)


def refused(kind: str, make, *types) -> str:
    """The message with which a group is refused."""
    with pytest.raises(IRError) as error:
        check_group(group(kind, make, *types).nodes[0])
    return str(error.value)


def test_kinds_hold_what_they_may():
    assert "unknown kind of group 'slab'" in refused("slab", lambda F, x: F.exp(x), f32(3))
    assert "a loop group cannot hold sum" in refused("loop", lambda F, x: F.sum(x, dims=(0,)), f32(3))
    assert "without a reduction" in refused("reduce", lambda F, x: F.exp(x), f32(3))
    assert "a reduce group cannot hold matmul" in refused(
        "reduce", lambda F, x: F.sum(F.matmul(x, x), dims=(0,)), f32(3, 3)
    )
    assert "holds one contraction op, got ['matmul', 'matmul']" in refused(
        "contraction", lambda F, x: F.matmul(F.matmul(x, x), x), f32(3, 3)
    )
    assert "holds one window op, got []" in refused("window", lambda F, x: F.exp(x), f32(3))
    assert "a single group holds one op of its own" in refused("single", lambda F, x: F.exp(x), f32(3))


def test_reductions_of_a_group_agree():
    def other_dims(F, x):
        return F.sum(x, dims=(0,)), F.sum(x, dims=(2,))

    assert "reduces another shape or other dims" in refused("reduce", other_dims, f32(3, 3, 3))


def test_sums_over_rows_are_known_last():
    def sums(F, x):
        return F.sum(x, dims=(0,)), F.sum(x, dims=(1,))

    check_group(group("reduce", sums, f32(3, 3)).nodes[0])

    def read_early(F, x):
        total = F.sum(x, dims=(0,))
        return total, F.sum(F.sub(x, total), dims=(1,))

    assert "sums over rows, and can only be a result" in refused("reduce", read_early, f32(3, 3))


def test_a_row_knows_only_its_own_result():
    def transposed(F, x):
        return F.sub(x, F.permute(F.sum(x, dims=(1,), keepdim=True), dims=(1, 0)))

    assert "is read at [0, .1], not at" in refused("reduce", transposed, f32(3, 3)).replace(
        "[.1, 0]", "[0, .1]"
    )

    def shifted(F, x):
        total = F.sum(x, dims=(1,))
        return F.sub(total, F.flip(total, dims=(0,)))

    assert "is read at" in refused("reduce", shifted, f32(3, 4))


def test_an_epilogue_reads_where_the_kernel_stands():
    def transposed(F, x, y):
        return F.exp(F.permute(F.matmul(x, y), dims=(1, 0)))

    assert "is read at [.1, .0], not at [.0, .1]" in refused("contraction", transposed, f32(3, 3), f32(3, 3))

    def pooled(F, x):
        y = F.max_pool(x, **POOL)
        return F.add(y, F.flip(y, dims=(0,)))

    assert "is read at" in refused("window", pooled, f32(2, 4, 4))


def test_operands_of_a_contraction_come_from_memory():
    assert "comes through exp" in refused("contraction", lambda F, x: F.matmul(F.exp(x), x), f32(3, 3))
    assert "comes through pad" in refused(
        "contraction", lambda F, x: F.matmul(F.pad(x, low=(1, 0), high=(0, 0)), x), f32(3, 3)
    )
    check_group(group("contraction", lambda F, x: F.matmul(F.permute(x, dims=(1, 0)), x), f32(3, 3)).nodes[0])


def test_outputs_fit_their_kind():
    def part(F, x, y):
        return F.slice(F.matmul(x, y), starts=(0, 0), stops=(1, 3), steps=(1, 1))

    assert "has not as many elements as" in refused("contraction", part, f32(3, 3), f32(3, 3))

    def flat(F, x, y):
        return F.reshape(F.matmul(x, y), shape=(9,))

    check_group(group("contraction", flat, f32(3, 3), f32(3, 3)).nodes[0])
    assert "result is that of its argmax" in refused("single", lambda F, x: F.neg(F.argmax(x, dim=0)), f32(3))


def fused_pair(graph: Graph) -> tuple[Graph, Graph]:
    *_, before = run_pipeline(graph, default_pipeline()[:-1])
    return before, Fusion().run(before)


def test_a_training_step_is_legal():
    check_fusion(*fused_pair(lenet_step(8)))


def test_another_value_is_noticed():
    before, fused = fused_pair(graph_of(lambda F, x, y: (F.exp(x), F.sin(y)), f32(3), f32(3)))
    changed = tuple(replace(n, op=op_named("cos")) if n.op.name == "sin" else n for n in before.nodes)
    with pytest.raises(IRError, match=r"output 1: .* of the fused graph is not"):
        check_fusion(replace(before, nodes=changed), fused)


def test_swapped_outputs_are_noticed():
    before, fused = fused_pair(graph_of(lambda F, x: (F.exp(x), F.neg(x)), f32(3)))
    with pytest.raises(IRError, match="output 0"):
        check_fusion(before, replace(fused, outputs=fused.outputs[::-1]))


def test_a_loose_node_is_noticed():
    before, _ = fused_pair(graph_of(lambda F, x: F.exp(x), f32(3)))
    with pytest.raises(IRError, match="is in no group"):
        check_fusion(before, before)


def test_lost_aliases_are_noticed():
    graph = graph_of(lambda F, x: F.exp(x), f32(3))
    before, fused = fused_pair(replace(graph, aliases={0: 0}))
    with pytest.raises(IRError, match="inputs or aliases"):
        check_fusion(before, replace(fused, aliases={}))


def test_a_draw_that_is_made_twice_is_noticed():
    def make(F, x, state):
        drawn = F.random_uniform(state, shape=(3,), dtype=dtypes.f32)
        return F.add(x, drawn), F.mul(x, drawn)

    before, fused = fused_pair(graph_of(make, f32(3), STATE))
    single = next(n for n in fused.nodes if n.attrs["kind"] == "single")
    copy = replace(single, outputs=tuple(type(v)(v.name, v.type) for v in single.outputs))
    with pytest.raises(IRError, match="is computed 2 times"):
        check_fusion(before, replace(fused, nodes=(copy, *fused.nodes)))


def test_opening_groups_gives_back_the_nodes():
    before, fused = fused_pair(lenet_step(8))
    opened = unfuse(fused)
    assert {n.op.name for n in opened.nodes} == {n.op.name for n in before.nodes}
    copies = len(opened.nodes) - len(before.nodes)
    repeated = [n for n in opened.nodes if n.op.lowering not in ("constant", "view", "pointwise")]
    assert copies > 0 and len(repeated) == sum(
        n.op.lowering not in ("constant", "view", "pointwise") for n in before.nodes
    )
