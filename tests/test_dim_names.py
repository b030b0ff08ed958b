"""Dims that a user calls like lowerings call their loops."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify
import vitrify.nn.functional as F
from vitrify.codegen.lower.dim_names import hidden, shown
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.types import TensorType


def of_sizes(function, dynamic, example, *others):
    """The function's results and gradients, eager and compiled, for arrays of these shapes."""
    compiled = vitrify.compile(function, dynamic_shapes={"x": dynamic})
    for shape in (example, *others):
        x = vitrify.randn(*shape, requires_grad=True)
        want = function(x)
        (want_grad,) = vitrify.autograd.grad(want.square().sum(), x)
        found = compiled(x)
        (found_grad,) = vitrify.autograd.grad(found.square().sum(), x)
        vitrify.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
        vitrify.testing.assert_close(found_grad, want_grad, rtol=1e-4, atol=1e-4)


NAMES = [("i", "j"), ("x", "y"), ("w", "h"), ("l", "n"), ("r", "k"), ("m", "n_b"), ("acc_r", "t")]


@pytest.mark.parametrize("first, second", NAMES)
def test_pointwise_reduce_and_matmul(first, second):
    weight = vitrify.randn(6, 5)

    def function(x):
        y = (x @ weight).relu()
        return F.softmax(y, 1).sum(0) + y.mean((0, 1))

    dynamic = {0: vitrify.Dim(first, 1, 64), 1: vitrify.Dim(second, 1, 64)}
    of_sizes(function, dynamic, (3, 4, 6), (7, 2, 6), (1, 17, 6))


@pytest.mark.sweep(3)
@pytest.mark.parametrize("first, second", [("h", "w"), ("x", "y"), ("n", "kx"), ("x_b", "o")])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: F.conv2d(x, w, stride=2, padding=1),
        lambda x, w: F.conv2d(x, w, stride=(1, 3), dilation=2, padding=2),
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        lambda x, w: F.max_pool2d(x, 3, 2, 1),
        lambda x, w: F.avg_pool2d(x, 2, 2, 1, ceil_mode=True),
    ],
    ids=["conv", "dilated", "transposed", "max", "avg"],
)
def test_windows_of_symbolic_images(first, second, function):
    weight = vitrify.randn(4, 4, 3, 3)
    dynamic = {2: vitrify.Dim(first, 5, 64), 3: vitrify.Dim(second, 5, 64)}
    of_sizes(lambda x: function(x, weight), dynamic, (2, 4, 9, 8), (2, 4, 7, 21), (2, 4, 10, 5))


def test_only_such_names_are_changed():
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((vitrify.Dim("batch", 1), 3), dtypes.f32))
    graph = builder.finish([builder.exp(x)])
    assert hidden(graph) == (graph, {})
    marker = object()
    assert shown(marker, {}) is marker


def test_host_calls_and_sizes_told_by_a_run():
    def function(x):
        kept = x[x > 0]
        return kept.sort().values, vitrify.linalg.inv(x.T @ x + 5 * vitrify.eye(3))

    compiled = vitrify.compile(function, dynamic_shapes={"x": {0: vitrify.Dim("i", 1, 64)}})
    for rows in (4, 9):
        x = vitrify.tensor(np.random.default_rng(0).normal(size=(rows, 3)))
        vitrify.testing.assert_close(compiled(x), function(x))
