"""Pooling and its gradients: kernels, strides, padding, dilation, NaN and ties, and what is fused around
them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from lowering import SHARED, check, f32, fused, graph_of, lowered, random_arrays

from vitrify.codegen.loops.printer import print_kernel
from vitrify.ir.dims import Dim

BATCH = Dim("batch", 1, 64)


def pool(kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    def pair(n):
        return (n, n) if isinstance(n, int) else n

    return {
        "kernel": pair(kernel),
        "stride": pair(stride or kernel),
        "padding": pair(padding),
        "dilation": pair(dilation),
        "ceil_mode": ceil_mode,
    }


POOLS = {
    "2": pool(2),
    "3": pool(3),
    "2x3": pool((2, 3)),
    "3 by 2": pool(3, 2),
    "3 by 1 padded": pool(3, 1, 1),
    "3 by 2 padded": pool(3, 2, 1),
    "2 by 2 ceil": pool(2, 2, 0, 1, True),
    "2 dilated": pool(2, 1, 0, 2),
    "3 dilated, padded": pool(3, 2, (1, 1), 2),
}


def average(attrs):
    return {**{k: v for k, v in attrs.items() if k != "dilation"}, "count_include_pad": False}


@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize("attrs", POOLS.values(), ids=POOLS)
def test_max_pool_and_gradient(attrs, options):
    def make(F, x):
        y = F.max_pool(x, **attrs)
        return y, F.max_pool_grad(x, F.mul(y, y), **attrs), F.max_pool_gather(x, F.neg(x), **attrs)

    graph = graph_of(make, f32(2, 2, 11, 13))
    check(graph, random_arrays(graph), options=options, interpret=options is None)


@pytest.mark.parametrize("attrs", [a for a in POOLS.values() if a["dilation"] == (1, 1)], ids=str)
@pytest.mark.parametrize("include", [False, True])
def test_avg_pool_and_gradient(attrs, include):
    attrs = {**average(attrs), "count_include_pad": include}

    def make(F, x):
        y = F.avg_pool(x, **attrs)
        return y, F.avg_pool_grad(F.mul(y, y), input_size=(2, 2, 11, 13), **attrs)

    graph = graph_of(make, f32(2, 2, 11, 13))
    check(graph, random_arrays(graph))


@pytest.mark.parametrize("kernel", [(9, 11), (28, 28)], ids=str)
def test_large_windows_are_reductions(kernel):
    attrs = pool(kernel)
    graph = graph_of(
        lambda F, x: (F.max_pool(x, **attrs), F.avg_pool(F.relu(x), **average(attrs))), f32(2, 3, 30, 33)
    )
    program = check(graph, random_arrays(graph), interpret=False)
    assert sum(sum(ord(c) == 10 for c in print_kernel(x.kernel)) for x in program.launches) < 80


@pytest.mark.parametrize("batch", [2, BATCH], ids=str)
def test_the_gradient_of_a_window_that_is_the_image_goes_along_it(batch):
    attrs = pool((5, 7))

    def make(F, x, g):
        largest, mean = F.max_pool_grad(x, g, **attrs), F.avg_pool_grad(g, input_size=shape, **average(attrs))
        return F.add(largest, x), F.mul(mean, x)

    shape = (batch, 40, 5, 7)
    graph = graph_of(make, f32(*shape), f32(batch, 40, 1, 1))
    program = check(graph, random_arrays(graph))
    for launch in program.launches[-2:]:
        text = print_kernel(launch.kernel)
        assert re.search(r"35\*[ip]", text) and "35*l" not in text


@pytest.mark.parametrize("attrs", [pool((9, 8)), pool((9, 8), (5, 4), (2, 3))], ids=["apart", "overlapping"])
def test_gradients_of_large_windows(attrs):
    def make(F, x):
        y = F.max_pool(x, **attrs)
        z = F.avg_pool(x, **average(attrs))
        return F.max_pool_grad(x, y, **attrs), F.avg_pool_grad(z, input_size=(2, 30, 33), **average(attrs))

    graph = graph_of(make, f32(2, 30, 33))
    arrays = random_arrays(graph)
    nans = [arrays[0].copy()]
    nans[0][0, 3:20:4, 5:30:7] = np.nan
    check(graph, arrays, nans, interpret=False)


@pytest.mark.parametrize("attrs", [pool(2), pool(3, 2, 1)], ids=["tiles", "overlapping"])
def test_nan_wins_and_the_first_of_equals(attrs):
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[0, 0, 2, 3] = x[0, 0, 5, 5] = np.nan
    x[0, 0, 6:, :2] = np.inf
    x[0, 0, 0, 6:] = -np.inf

    def make(F, x):
        y = F.max_pool(x, **attrs)
        return y, F.max_pool_grad(x, F.ones_like(y), **attrs)

    graph = graph_of(make, f32(*x.shape))
    check(graph, [x])


def test_epilogues_of_pooling():
    """relu before, a mask after: no array is written in between."""
    attrs = pool(2)

    def make(F, x, dy):
        grad = F.max_pool_grad(F.relu(x), dy, **attrs)
        return F.mul(F.max_pool(F.relu(x), **attrs), 2.0), F.where(F.gt(x, 0.0), grad, 0.0)

    graph = graph_of(make, f32(2, 3, 8, 10), f32(2, 3, 4, 5))
    assert [n.attrs["kind"] for n in fused(graph).nodes] == ["window", "window"]
    check(graph, random_arrays(graph))


def test_tiles_store_neighbours_together():
    """The gradient of a 2x2 pooling goes over the windows; the two elements of a window's row lie side by
    side."""
    attrs = pool(2)
    graph = graph_of(lambda F, x, dy: F.max_pool_grad(x, dy, **attrs), f32(4, 16, 32), f32(4, 8, 16))
    (launch,) = lowered(graph, "x86-64-avx512").launches
    lines = [s.strip() for s in print_kernel(launch.kernel).splitlines()]
    places = [s.split(" = ")[0].partition("2*l")[2] for s in lines if s.startswith("0[")]
    assert places == ["]", "+1]", "+32]", "+33]"]


@pytest.mark.parametrize("batch", [1, 7])
def test_symbolic_batch(batch):
    attrs, overlapping = pool(2), pool(3, 2, 1)

    def make(F, x):
        y = F.max_pool(x, **attrs)
        z = F.max_pool(x, **overlapping)
        return y, F.max_pool_grad(x, y, **attrs), F.max_pool_grad(x, z, **overlapping)

    graph = graph_of(make, f32(BATCH, 3, 8, 10))
    check(graph, random_arrays(graph, batch), options=SHARED, interpret=batch == 1)


@pytest.mark.parametrize("target", ["x86-64-avx2", "x86-64-sse2"])
def test_narrower_targets(target):
    attrs = pool(2)

    def make(F, x):
        y = F.max_pool(x, **attrs)
        return y, F.max_pool_grad(x, F.mul(y, y), **attrs)

    graph = graph_of(make, f32(2, 3, 11, 14))
    check(graph, random_arrays(graph), target=target, interpret=False)
