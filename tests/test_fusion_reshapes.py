"""Reshapes between a contraction and what is made of its result, who makes what stands between a contraction and a
reduction, and what is made twice rather than kept."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import check, f32, fused, graph_of
from training_graphs import CONV

from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph
from vitrify.ir.op import VJPContext, op_named
from vitrify.ir.types import TensorType

BATCH = Dim("batch", 1, 64)
VIEWS = ("full", "iota", "reshape", "permute", "expand", "slice")


def groups(graph: Graph) -> list[str]:
    """Each group's kind and the ops that compute, of groups that compute anything."""
    found = []
    for node in fused(graph).nodes:
        ops = [n.op.name for n in node.regions[0].nodes if n.op.name not in VIEWS]
        found += [f"{node.attrs['kind']}: {' '.join(ops)}"] if ops else []
    return found


def arrays(graph: Graph, **sizes: int):
    rng = np.random.default_rng(0)
    found = []
    for value in graph.inputs:
        shape = [n if isinstance(n, int) else sizes[str(n)] for n in value.type.shape]
        found.append(rng.standard_normal(shape).astype(value.type.dtype.numpy))
    return found


def linear(F, x, w, b):
    """The last dim of [batch, length, k], all rows together."""
    batch, length, k = F.type_of(x).shape
    flat = F.addmm(b, F.reshape(x, shape=(batch * length, k)), w)
    return F.reshape(flat, shape=(batch, length, F.type_of(w).shape[1]))


@pytest.mark.parametrize("batch", [3, BATCH], ids=str)
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "f16"])
def test_residual_and_activation_join_the_product_of_the_rows(batch, dtype):
    def make(F, x, w, b, residual, places):
        y = linear(F, x, w, b)
        return F.add(F.mul(F.tanh(y), places), residual), y

    def of(*shape):
        return TensorType(shape, getattr(dtypes, dtype))

    graph = graph_of(make, of(batch, 8, 6), of(6, 20), of(20), of(batch, 8, 20), of(8, 20))
    (kind,) = groups(graph)
    assert kind.startswith("contraction: ") and "tanh" in kind
    check(graph, *(arrays(graph, batch=n) for n in ((3,) if batch == 3 else (1, 5))))


def test_a_result_in_two_shapes_is_stored_in_both():
    def make(F, x, w):
        y = F.matmul(x, w)
        return F.exp(y), F.neg(F.reshape(y, shape=(2, 3, 4, 5)))

    graph = graph_of(make, f32(6, 7), f32(7, 20))
    assert groups(graph) == ["contraction: matmul exp neg"]
    check(graph, arrays(graph))


def test_rows_of_an_image_join_the_convolution():
    """What attention over the places of an image does."""

    def make(F, x, w, scale):
        y = F.convolution(x, w, **CONV)
        batch, channels, height, width = F.type_of(y).shape
        return F.mul(F.reshape(y, shape=(batch, channels, height * width)), scale)

    graph = graph_of(make, f32(2, 3, 7, 6), f32(4, 3, 3, 3), f32(4, 1))
    assert groups(graph) == ["contraction: conv mul"]
    check(graph, arrays(graph))


def test_a_transposed_result_stays_another_kernel():
    """Not every view leaves the order of the elements."""

    def make(F, x, w):
        y = F.permute(F.reshape(F.matmul(x, w), shape=(4, 2, 6)), dims=(1, 0, 2))
        return F.exp(F.reshape(y, shape=(8, 6)))

    graph = graph_of(make, f32(8, 5), f32(5, 6))
    assert len(groups(graph)) == 2
    check(graph, arrays(graph))


def norm_after_a_product(F, dy, w, x, weight):
    """The gradient of x in standardize(x) * weight @ w, and that of weight."""
    product = F.matmul(dy, w)
    op = op_named("standardize")
    context = VJPContext((x, weight, weight), (None,), op.normalise_attrs({"dims": (1,)}), (True,) * 3)
    dx, dweight, dbias = op.vjp(F, context, product)
    return dx, F.sum(dweight, dims=(0,)), F.sum(dbias, dims=(0,))


def test_products_that_a_norm_reads_are_made_by_the_norm():
    """One array between the two kernels, not one for each product."""
    graph = graph_of(norm_after_a_product, f32(256, 48), f32(48, 256), f32(256, 256), f32(256))
    first, *_ = fused(graph).nodes
    assert groups(graph)[0] == "contraction: matmul" and len(first.outputs) == 1
    assert len(groups(graph)) == 2
    check(graph, arrays(graph), interpret=False, scale=8)


def test_a_batch_norms_gradient_is_one_kernel_after_the_convolution():
    def make(F, dy, w, x, mean, scale):
        d = F.conv_input_grad(dy, w, input_size=F.type_of(x).shape, **CONV)
        d = F.where(F.gt(x, 0.0), d, 0.0)
        centred = F.sub(x, mean)
        count = 2 * 12 * 12
        sums = [F.sum(t, dims=(0, 2, 3), keepdim=True) for t in (d, F.mul(d, centred))]
        inner = F.sub(d, F.add(F.div(sums[0], count), F.mul(centred, F.div(F.mul(sums[1], scale), count))))
        return F.mul(inner, scale), sums[1]

    types = f32(2, 5, 10, 10), f32(5, 4, 3, 3), f32(2, 4, 12, 12), f32(1, 4, 1, 1), f32(1, 4, 1, 1)
    graph = graph_of(make, *types)
    first, second = groups(graph)
    assert first.startswith("contraction: ") and second.startswith("reduce: ")
    assert len(fused(graph).nodes[0].outputs) == 1
    check(graph, arrays(graph), scale=4)


def test_what_others_read_too_stays_with_the_product():
    """Nothing is saved by moving a mask that the next product reads from memory anyway."""

    def make(F, dy, w, x, other):
        d = F.where(F.gt(x, 0.0), F.matmul(dy, w), 0.0)
        return F.sum(d, dims=(0,)), F.matmul(d, other)

    graph = graph_of(make, f32(16, 8), f32(8, 12), f32(16, 12), f32(12, 9))
    assert groups(graph)[0].split() == ["contraction:", "gt", "matmul", "where"]
    check(graph, arrays(graph))


def test_weight_decay_beside_the_sums_over_rows():
    """An optimizer's arithmetic on a norm's weight does not keep its gradient from being made with the rows."""

    def make(F, x, w, b, dy):
        op = op_named("standardize")
        context = VJPContext((x, w, b), (None,), op.normalise_attrs({"dims": (1,)}), (True,) * 3)
        dx, dw, db = op.vjp(F, context, dy)
        decayed = F.mul(w, 0.99)
        return dx, F.sub(decayed, F.mul(F.sum(dw, dims=(0,)), 0.1)), F.sum(db, dims=(0,))

    graph = graph_of(make, f32(256, 256), f32(256), f32(256), f32(256, 256))
    rows, update = groups(graph)
    assert rows.startswith("reduce") and rows.count("sum") == 6 and update.startswith("loop")
    check(graph, arrays(graph), interpret=False, scale=8)


@pytest.mark.parametrize("rows", [256, Dim("rows", 1, 256)], ids=str)
def test_what_is_cheap_is_computed_again(rows):
    """A norm keeps its rows' means for the gradient, not what is left of the rows without them."""

    def make(F, x, w, dy, v):
        centred = F.sub(x, F.mul(F.sum(x, dims=(1,), keepdim=True), 1 / 128))
        scale = F.rsqrt(F.sum(F.mul(centred, centred), dims=(1,), keepdim=True))
        y = F.matmul(F.mul(centred, scale), w)
        d = F.mul(F.matmul(F.mul(dy, y), v), centred)
        return y, F.sum(d, dims=(1,)), F.sum(d, dims=(0,))

    graph = graph_of(make, f32(rows, 128), f32(128, 16), f32(rows, 16), f32(16, 128))
    norm = fused(graph).nodes[0]
    assert [n.op.name for n in norm.regions[0].nodes].count("sum") == 2
    assert sorted(v.type.shape[1] for v in norm.outputs) == [1, 128]
    check(graph, arrays(graph, rows=200), interpret=False, scale=8)


def test_a_window_is_walked_in_its_own_shape_only():
    """Windows write themselves out where they are read: elsewhere each of their taps would find its place by divisions,
    in each of the selections that come before it."""

    def make(F, x):
        pooled = F.max_pool(x, kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1))
        return F.exp(F.reshape(pooled, shape=(72,)))

    graph = graph_of(make, f32(2, 3, 6, 7))
    window, loop = fused(graph).nodes
    assert (window.attrs["kind"], loop.attrs["kind"]) == ("window", "loop")
    check(graph, arrays(graph), scale=8)


def counted(graph: Graph) -> int:
    return len(fused(graph).nodes)


def test_what_is_returned_turned_is_computed_as_it_is_stored():
    """Images as [N, H, W, C], a matrix across: not written once as it lies and then again."""

    def image(F, x, b):
        return (F.permute(F.maximum(F.mul(x, b), x), dims=(0, 2, 3, 1)),)

    graph = graph_of(image, f32(2, 33, 17, 19), f32(33, 1, 1))
    assert counted(graph) == 1
    check(graph, arrays(graph))

    def matrix(F, x, y):
        flat = F.reshape(F.exp(F.add(x, y)), shape=(40, 63))
        return (F.permute(flat, dims=(1, 0)),)

    graph = graph_of(matrix, f32(40, 7, 9), f32(40, 7, 9))
    assert counted(graph) == 1
    check(graph, arrays(graph))


def test_what_is_returned_turned_but_read_too_is_kept():
    def twice(F, x):
        y = F.exp(x)
        return F.permute(y, dims=(1, 0)), F.add(y, x)

    def many(F, a, b, c):
        return (F.permute(F.add(F.mul(a, b), c), dims=(1, 0)),)

    for make, inputs in ((twice, 1), (many, 3)):
        graph = graph_of(make, *[f32(37, 45)] * inputs)
        assert counted(graph) == 2
        check(graph, arrays(graph))
