"""What fusion puts together, what it keeps apart, and the reasons it gives."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from graphs import random_graph, random_inputs
from lowering import f32, graph_of
from training_graphs import CONV, POOL, lenet_step, sgd_graph

from vitrify.ir import dtypes, interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph, Node, Value
from vitrify.ir.op import VJPContext, op_named
from vitrify.ir.parser import parse
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify
from vitrify.passes.fusion import Fusion
from vitrify.passes.fusion_check import check_fusion, unfuse
from vitrify.passes.pipeline import default_pipeline, run_pipeline

BATCH = Dim("batch", 1, 256)


def report(graph: Graph, fusion: Fusion = Fusion()):
    """Fusion after the passes before it, checked."""
    *_, before = run_pipeline(graph, default_pipeline()[:-1])
    found = fusion.run_with_report(before)
    check_fusion(before, found.graph)
    return found


def groups(graph: Graph, fusion: Fusion = Fusion()) -> list[str]:
    """Each group's kind and the ops that compute, constants and views left out."""
    free = ("full", "iota", "reshape", "permute", "expand", "slice", "flip")
    return [
        f"{node.attrs['kind']}: "
        + " ".join(n.op.name for n in node.regions[0].nodes if n.op.name not in free)
        for node in report(graph, fusion).graph.nodes
    ]


def reasons(graph: Graph, fusion: Fusion = Fusion()) -> set[str]:
    return {str(r.reason) for r in report(graph, fusion).refusals}


def test_a_linear_layer_with_relu_is_one_kernel():
    def make(F, x, w, b):
        return F.relu(F.addmm(b, x, F.permute(w, dims=(1, 0))))

    assert groups(graph_of(make, f32(8, 3), f32(5, 3), f32(5))) == ["contraction: matmul add maximum"]


def test_convolution_bias_relu_pool():
    def make(F, x, w, b):
        return F.max_pool(F.relu(F.convolution(x, w, b, **CONV)), **POOL)

    graph = graph_of(make, f32(2, 3, 8, 8), f32(4, 3, 3, 3), f32(4))
    assert groups(graph) == ["contraction: conv add maximum", "window: max_pool"]


def test_the_text_of_a_fused_graph():
    def make(F, x, w, b):
        y = F.addmm(b, x, w)
        return F.relu(y), F.sum(y, dims=(0,))

    graph = report(graph_of(make, f32(BATCH, 3), f32(3, 5), f32(5))).graph
    assert (
        str(graph).strip()
        == """\
dims batch in 1..256
graph test(%x0: f32[batch,3], %x1: f32[3,5], %x2: f32[5]) -> (f32[batch,5], f32[5]) {
  %0: f32[batch,5], %1: f32[batch,5] = fused(%x0, %x1, %x2) {name="fused_0", kind="contraction"}
    region fused_0(%x0: f32[batch,3], %x1: f32[3,5], %x2: f32[5]) -> (f32[batch,5], f32[batch,5]) {
      %3: f32[batch,5] = matmul(%x0, %x1)
      %0: f32[batch,5] = add(%3, %x2)
      %5: f32[] = full() {shape=[], value=0.0, dtype=f32}
      %1: f32[batch,5] = maximum(%0, %5)
      return %0, %1
    }
  %2: f32[5] = fused(%0) {name="fused_1", kind="reduce"}
    region fused_1(%0: f32[batch,5]) -> f32[5] {
      %2: f32[5] = sum(%0) {dims=[0]}
      return %2
    }
  return %1, %2
}"""
    )


def test_softmax_cross_entropy_and_its_gradient():
    """One pass over the scores forward and backward; what joins all rows stays outside."""

    def make(F, x, y):
        logp = F.log_softmax(x, dim=1)
        loss = F.nll_loss(logp, y)
        ones = F.ones_like(loss)
        (dlogp, *_) = nll_gradient(F, logp, y, ones)
        return loss, F.sub(dlogp, F.mul(F.exp(logp), F.sum(dlogp, dims=(1,), keepdim=True)))

    def nll_gradient(F, logp, y, dy):
        op = op_named("nll_loss")
        attrs = op.normalise_attrs({})
        return op.vjp(F, VJPContext((logp, y), (None,), attrs, (True, False)), dy)

    graph = graph_of(make, f32(64, 10), TensorType((64,), dtypes.i64))
    found = report(graph)
    kinds = [n.attrs["kind"] for n in found.graph.nodes]
    rows = [n for n in found.graph.nodes if any(m.op.name == "amax" for m in n.regions[0].nodes)]
    assert len(rows) == 1
    inside = [m.op.name for m in rows[0].regions[0].nodes]
    assert inside.count("sum") == 3 and inside.count("exp") == 2
    assert kinds.count("reduce") <= 3 and "loop" not in kinds
    assert "different_reduction" in {str(r.reason) for r in found.refusals}


def test_layer_norm_is_one_kernel():
    def make(F, x, w, b):
        centred = F.sub(x, F.mean(x, dims=(1,), keepdim=True))
        scale = F.rsqrt(F.add(F.var(x, dims=(1,), keepdim=True, correction=0), 1e-5))
        return F.add(F.mul(F.mul(centred, scale), w), b)

    assert len(groups(graph_of(make, f32(16, 100), f32(100), f32(100)))) == 1


def norm_gradients(F, x, w, b, dy):
    """A layer norm's gradients with respect to x, w and b."""
    op = op_named("standardize")
    context = VJPContext((x, w, b), (None,), op.normalise_attrs({"dims": (1,)}), (True,) * 3)
    dx, dw, db = op.vjp(F, context, dy)
    return dx, F.sum(dw, dims=(0,)), F.sum(db, dims=(0,))


@pytest.mark.parametrize("shape", [(256, 256), (BATCH, 512)], ids=str)
def test_sums_over_rows_are_made_with_the_rows(shape):
    types = f32(*shape), f32(shape[1]), f32(shape[1]), f32(*shape)
    (kind,) = groups(graph_of(norm_gradients, *types))
    assert kind.startswith("reduce") and kind.count("sum") == 6


def test_sums_over_rows_of_small_arrays_are_kernels_of_their_own():
    assert len(groups(graph_of(norm_gradients, f32(64, 100), f32(100), f32(100), f32(64, 100)))) == 3


@pytest.mark.parametrize("size", [256, 300])
def test_what_follows_sums_over_rows_waits_for_all_rows(size):
    """Of a square array too, whose columns and rows have one shape."""

    def make(F, x, w, b, dy):
        dx, dw, db = norm_gradients(F, x, w, b, dy)
        return dx, F.sub(w, F.mul(dw, 0.1)), F.add(F.sum(dx, dims=(1,)), F.exp(db))

    first, *rest = groups(graph_of(make, f32(size, size), f32(size), f32(size), f32(size, size)))
    assert first.startswith("reduce") and first.count("sum") == 7
    assert rest and all(kind.startswith("loop") for kind in rest)


def test_an_optimizer_step_is_one_kernel():
    shapes = tuple((n, 3) for n in range(1, 9))
    assert groups(sgd_graph(shapes)) == ["loop: " + " ".join(["mul sub"] * 8)]


def test_large_loops_stay_kernels_of_their_own():
    graph = sgd_graph(((1000, 100), (3,), (1000, 100), (4,)))
    assert groups(graph) == ["loop: mul sub", "loop: mul sub", "loop: mul sub mul sub"]


def test_updates_join_the_gradients_they_wait_for():
    """Weight gradients end in the update; no kernel of a training step only moves parameters."""
    found = groups(lenet_step(64))
    assert not [g for g in found if g.startswith("loop")]
    assert sum(g.startswith("contraction: conv_weight_grad mul add mul sub") for g in found) == 2
    assert len(found) <= 27


def test_a_cheap_mask_is_computed_where_it_is_read():
    """The mask of a relu's gradient reads the activation again: it is no output of the forward kernel."""

    def make(F, x, w, dy):
        y = F.relu(F.matmul(x, w))
        dz = F.where(F.gt(y, 0.0), dy, 0.0)
        return y, F.matmul(F.permute(x, dims=(1, 0)), dz)

    graph = graph_of(make, f32(8, 3), f32(3, 5), f32(8, 5))
    for node in report(graph).graph.nodes:
        assert all(v.type.dtype is dtypes.f32 for v in node.outputs)


def test_a_costly_function_with_two_readers_is_computed_once():
    def make(F, x, w):
        y = F.exp(x)
        return F.matmul(y, w), F.sum(y, dims=(0,))

    found = groups(graph_of(make, f32(8, 3), f32(3, 5)))
    assert sum("exp" in g for g in found) == 1
    assert "operand_must_be_in_memory" in reasons(graph_of(make, f32(8, 3), f32(3, 5)))


def test_random_numbers_are_drawn_once():
    def make(F, x, y, state):
        drawn = F.random_uniform(state, shape=(4, 5), dtype=dtypes.f32)
        return F.mul(x, drawn), F.sum(F.mul(y, drawn), dims=(0,))

    graph = graph_of(make, f32(4, 5), f32(4, 5), TensorType((2,), dtypes.i64))
    found = groups(graph)
    assert sum("random_uniform" in g for g in found) == 1


def test_no_cycle_between_groups():
    """relu(y) is an epilogue of the first product, but not together with a sum that waits for the second."""

    def make(F, a, b, c):
        first = F.matmul(a, b)
        second = F.matmul(first, c)
        return F.add(first, second), F.relu(first)

    graph = graph_of(make, f32(4, 4), f32(4, 4), f32(4, 4))
    assert groups(graph) == ["contraction: matmul maximum", "contraction: matmul add"]


def test_a_cycle_is_a_reason():
    def make(F, x):
        total = F.sum(x, dims=(0, 1))
        rows = F.sum(x, dims=(1,))
        y = F.mul(x, F.sum(F.mul(rows, total), dims=(0,)))
        return F.sum(y, dims=(0, 1)), total

    assert "would_create_cycle" in reasons(graph_of(make, f32(30, 40)))


def test_different_spaces_are_a_reason():
    def make(F, x, w):
        y = F.matmul(x, w)
        return y, F.exp(F.slice(y, starts=(0, 0), stops=(2, 5), steps=(1, 1))), F.add(x, F.exp(w))

    assert reasons(graph_of(make, f32(5, 5), f32(5, 5))) == {"different_iteration_space"}


def test_views_in_the_way_are_a_reason():
    """A transposed result is read at another index than the kernel stands at."""

    def make(F, a, b):
        y = F.matmul(a, b)
        return F.add(y, F.permute(y, dims=(1, 0)))

    graph = graph_of(make, f32(5, 5), f32(5, 5))
    assert groups(graph) == ["contraction: matmul", "loop: add"]
    assert reasons(graph) == {"read_at_another_index"}


def test_a_transpose_of_arithmetic_needs_no_memory():
    graph = graph_of(lambda F, x, y: F.add(F.permute(F.exp(x), dims=(1, 0)), y), f32(3, 4), f32(4, 3))
    assert groups(graph) == ["loop: exp add"]


def test_returned_views_and_inputs():
    graph = graph_of(lambda F, x: (x, F.permute(x, dims=(1, 0)), F.exp(x)), f32(3, 4))
    found = report(graph).graph
    assert found.outputs[0] is found.inputs[0]
    assert len(found.nodes) <= 2


def test_group_sizes_are_bounded():
    def make(F, x):
        for _ in range(30):
            x = F.exp(x)
        return x

    found = groups(graph_of(make, f32(100)), Fusion(max_nodes=10))
    assert [g.count("exp") for g in found] == [10, 10, 10]
    assert "group_too_large" in reasons(graph_of(make, f32(100)), Fusion(max_nodes=10))


def test_unfused():
    graph = graph_of(lambda F, x: F.sum(F.exp(F.neg(x)), dims=(0,)), f32(4, 5))
    assert groups(graph, Fusion(enabled=False)) == ["loop: neg", "loop: exp", "reduce: sum"]


def test_the_report_can_be_read():
    text = str(report(lenet_step(64)))
    assert "fused_0 (contraction): conv, reshape, add, full, maximum" in text
    assert "different_reduction" in text


def test_donated_inputs_are_read_before_they_are_overwritten():
    def make(F, w, x, g):
        y = F.matmul(x, g)
        return F.sub(w, F.mul(y, 0.1)), F.matmul(x, w)

    graph = graph_of(make, f32(4, 4), f32(4, 4), f32(4, 4))
    graph = Graph(graph.name, graph.inputs, graph.nodes, graph.outputs, {0: 0})
    names = [n.regions[0].nodes[-1].op.name for n in report(graph).graph.nodes]
    assert names == ["matmul", "sub"]


def test_what_waits_for_a_view_of_its_own_group():
    """The view has a group of its own, which reads what waits for it: that may not make a cycle."""
    text = """
    graph g(%x: f32[8, 16], %y: f32[8, 16]) -> (f32[128], f32[8, 16]) {
      %a: f32[8, 16] = exp(%x)
      %s: f32[8, 1] = sum(%a) {dims=[1], keepdim=true}
      %b: f32[8, 16] = div(%a, %s)
      %r: f32[128] = reshape(%b) {shape=[128]}
      %w: f32[8, 16] = later(%y, %r)
      %c: f32[8, 16] = neg(%w)
      %d: f32[8, 16] = mul(%c, %b)
      return %r, %d
    }"""
    graph = parse(text)
    found = Fusion().run(graph)
    check_fusion(graph, found)
    assert [n.regions[0].nodes[-1].op.name for n in found.nodes] == ["mul", "reshape"]


def with_random_waits(graph: Graph, seed: int) -> Graph:
    """A third of the nodes read an operand only after something else is there."""
    rng = random.Random(seed)
    later = op_named("later")
    there = list(graph.inputs)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.inputs and rng.random() < 0.3:
            at = rng.randrange(len(node.inputs))
            operand = node.inputs[at]
            waiting = Value(f"waiting_{len(nodes)}", operand.type)
            nodes.append(Node(later, (operand, rng.choice(there[-8:])), {}, (waiting,)))
            node = replace(node, inputs=(*node.inputs[:at], waiting, *node.inputs[at + 1 :]))
        nodes.append(node)
        there += node.outputs
    return verify(replace(graph, nodes=tuple(nodes)))


@pytest.mark.parametrize("seed", range(60))
def test_random_waits_make_no_cycle(seed):
    *_, graph = run_pipeline(random_graph(seed, nodes=10 + seed % 40), default_pipeline()[:-1])
    waiting = with_random_waits(graph, seed)
    check_fusion(waiting, Fusion().run(waiting))


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_mean_the_same(seed):
    graph = random_graph(seed, nodes=6 + seed % 30, symbolic=seed % 3 == 0)
    *_, before = run_pipeline(graph, default_pipeline()[:-1])
    found = Fusion().run(before)
    check_fusion(before, found)
    arrays = random_inputs(graph, seed)
    try:
        with np.errstate(all="ignore"):
            want = interpreter.run(before, arrays)
    except (IndexError, RuntimeError):
        return  # an op refuses these numbers
    with np.errstate(all="ignore"):
        for fused in (interpreter.run(found, arrays), interpreter.run(unfuse(found), arrays)):
            for a, b in zip(fused, want, strict=True):
                assert a.tobytes() == b.tobytes()


def test_fusing_twice_is_deterministic():
    first, second = report(lenet_step(64)).graph, report(lenet_step(64)).graph
    assert str(first) == str(second)
