"""Eager grouped convolutions by compiled columns: the same as the ops' NumPy rules say."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify
import vitrify.nn.functional as F
from vitrify import grouped
from vitrify.ir.op import op_named

# x, w, stride, padding, dilation, groups
CASES = [
    ((2, 4, 7, 6), (6, 2, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((3, 6, 8, 6), (4, 3, 5, 4), (2, 2), (2, 1), (1, 1), 2),
    ((2, 4, 8, 9), (4, 2, 3, 5), (2, 3), (2, 1), (2, 1), 2),
    ((2, 4, 12), (4, 2, 2), (3,), (0,), (1,), 2),  # elements of x that no window reads
    ((2, 4, 4, 4, 4), (4, 2, 3, 3, 3), (2, 2, 1), (1, 1, 1), (1, 1, 1), 2),
    ((2, 4, 9, 9), (4, 2, 7, 7), (1, 1), (3, 3), (1, 1), 2),
    ((2, 6, 12, 12), (6, 3, 3, 3), (2, 2), (3, 3), (3, 3), 2),
    ((2, 6, 8, 8), (6, 3, 2, 2), (2, 2), (0, 0), (1, 1), 2),
]


@pytest.fixture
def all_sizes(monkeypatch):
    monkeypatch.setattr(grouped, "FEWEST_PRODUCTS", 0)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_three_ops_are_their_numpy_rules(case, dtype, all_sizes, monkeypatch):
    size, w_shape, stride, padding, dilation, groups = case
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    draws = np.random.default_rng(0)

    def draw(*shape):
        return draws.normal(size=shape).astype(dtype)

    x, w, bias = draw(*size), draw(*w_shape), draw(w_shape[0])
    y = op_named("convolution").numpy(x, w, bias, **geometry)
    dy = draw(*y.shape)
    inputs, weights = {"input_size": size, **geometry}, {"weight_size": w_shape, **geometry}
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype is np.float32 else {"atol": 1e-12}
    for elements in (1, grouped.COLUMN_ELEMENTS):  # a group at a time; everything at once
        monkeypatch.setattr(grouped, "COLUMN_ELEMENTS", elements)
        for name, operands, attrs in (
            ("conv", (x, w), geometry),
            ("convolution", (x, w, bias), geometry),
            ("conv_input_grad", (dy, w), inputs),
            ("conv_weight_grad", (x, dy), weights),
        ):
            found = grouped.run(name, operands, attrs)
            want = op_named(name).numpy(*operands, **attrs)
            assert found is not None and found.dtype == want.dtype
            np.testing.assert_allclose(found, want, **tolerance)


def test_eager_code_uses_them_for_any_memory_layout(all_sizes):
    vitrify.manual_seed(0)
    x = vitrify.randn(2, 8, 8, 6).permute(0, 3, 1, 2).requires_grad_()  # channels last
    w = vitrify.randn(6, 3, 3, 3, requires_grad=True)
    F.conv2d(x, w, padding=1, stride=2, groups=2).sum().backward()  # its gradient is one number, expanded
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    F.conv2d(*wide, padding=1, stride=2, groups=2).sum().backward()
    for narrow, exact in zip((x, w), wide):
        vitrify.testing.assert_close(narrow.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)


def test_windows_that_are_not_as_many_as_places_are_left_to_numpy(all_sizes):
    geometry = {"stride": (1, 1), "dilation": (1, 1), "groups": 2}
    operands = np.ones((1, 4, 6, 6), np.float32), np.ones((4, 2, 3, 3), np.float32)
    assert grouped.run("conv", operands, {"padding": (0, 0), **geometry}) is None
    assert grouped.run("conv", operands, {"padding": (1, 1), **geometry}) is not None
