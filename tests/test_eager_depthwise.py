"""Eager depthwise convolutions by compiled kernels: the same as the ops' NumPy rules say."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify
import vitrify.nn.functional as F
from vitrify import depthwise
from vitrify.ir.op import op_named

# x, kernel, stride, padding, dilation
CASES = [
    ((2, 5, 9, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 3, 9, 8), (3, 2), (2, 2), (1, 0), (1, 1)),
    ((1, 4, 12, 7), (5, 3), (2, 1), (2, 1), (1, 2)),
    ((3, 2, 7, 7), (3, 3), (3, 2), (0, 1), (1, 1)),
    ((1, 2, 6, 20), (1, 1), (2, 2), (0, 0), (1, 1)),
    ((4, 6, 23), (9,), (1,), (4,), (1,)),
    ((2, 6, 23), (4,), (3,), (1,), (2,)),
    ((2, 3, 5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 1, 0), (1, 1, 2)),
    # As many windows as places for them: on flat images.
    ((2, 3, 7, 7), (7, 7), (1, 1), (3, 3), (1, 1)),
    ((3, 2, 8, 6), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((2, 3, 9, 8), (5, 3), (3, 2), (2, 2), (1, 2)),
    ((2, 5, 12), (3,), (2,), (1,), (1,)),
    ((2, 3, 4, 6, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    # More windows than places.
    ((2, 3, 5, 6), (4, 3), (1, 1), (3, 2), (1, 1)),
]


@pytest.fixture
def compiled(monkeypatch):
    """All depthwise convolutions are compiled; how many were."""
    runs: list[str] = []
    run = depthwise.run

    def counted(name, *rest):
        found = run(name, *rest)
        runs.extend([name] if found is not None else [])
        return found

    monkeypatch.setattr(depthwise, "FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(depthwise, "run", counted)
    return runs


@pytest.mark.sweep(3)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_three_ops_are_their_numpy_rules(case, dtype, compiled):
    size, kernel, stride, padding, dilation = case
    channels = size[1]
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": channels}
    draws = np.random.default_rng(0)

    def draw(*shape):
        return draws.normal(size=shape).astype(dtype)

    x, w, bias = draw(*size), draw(channels, 1, *kernel), draw(channels)
    y = op_named("convolution").numpy(x, w, bias, **geometry)
    dy = draw(*y.shape)
    inputs, weights = {"input_size": size, **geometry}, {"weight_size": w.shape, **geometry}
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype is np.float32 else {}
    for name, operands, attrs in (
        ("conv", (x, w), geometry),
        ("convolution", (x, w, bias), geometry),
        ("conv_input_grad", (dy, w), inputs),
        ("conv_weight_grad", (x, dy), weights),
    ):
        found = depthwise.run(name, operands, attrs)
        want = op_named(name).numpy(*operands, **attrs)
        assert found.dtype == want.dtype
        np.testing.assert_allclose(found, want, **tolerance)
    assert compiled == ["conv", "convolution", "conv_input_grad", "conv_weight_grad"]


def test_eager_code_uses_them_for_any_memory_layout(compiled):
    vitrify.manual_seed(0)
    x = vitrify.randn(2, 8, 8, 6).permute(0, 3, 1, 2).requires_grad_()  # channels last
    w = vitrify.randn(6, 1, 3, 3, requires_grad=True)
    y = F.conv2d(x, w, padding=1, groups=6)
    y.sum().backward()  # whose gradient is one number, expanded
    assert compiled == ["convolution", "conv_input_grad", "conv_weight_grad"]
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    F.conv2d(*wide, padding=1, groups=6).sum().backward()
    for narrow, exact in zip((x, w), wide):
        vitrify.testing.assert_close(narrow.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)


def test_second_derivatives(compiled):
    x = vitrify.randn(1, 2, 5, 5, dtype=vitrify.float64, requires_grad=True)
    w = vitrify.randn(2, 1, 3, 3, dtype=vitrify.float64, requires_grad=True)
    assert vitrify.autograd.gradgradcheck(lambda x, w: F.conv2d(x, w, padding=1, stride=2, groups=2), (x, w))


@pytest.mark.parametrize(
    "size, kernel, padding, groups",
    [
        ((1, 4, 6, 6), (8, 1, 3, 3), 1, 4),  # two results a channel
        ((1, 4, 6, 6), (4, 2, 3, 3), 1, 2),  # two channels a group
        ((0, 4, 6, 6), (4, 1, 3, 3), 1, 4),
    ],
)
def test_others_are_left_to_numpy(size, kernel, padding, groups, compiled):
    F.conv2d(vitrify.randn(*size), vitrify.randn(*kernel), padding=padding, groups=groups)
    assert all(name not in compiled for name in ("conv", "convolution")) or size[0] == 0


def test_padding_beyond_the_kernel(compiled):
    x = vitrify.randn(1, 2, 4, 4, requires_grad=True)
    F.conv2d(x, vitrify.ones(2, 1, 1, 1), padding=1, groups=2).sum().backward()
    assert (x.grad == 1).all()
    assert compiled == ["convolution"]


def test_what_lies_beyond_an_image_counts_for_nothing(compiled):
    x = vitrify.ones(2, 3, 6, 6)
    x[1, 1] = float("inf")
    w = vitrify.ones(3, 1, 3, 3, requires_grad=True)
    for stride in (1, 2):
        y = F.conv2d(x, w, padding=1, stride=stride, groups=3)
        others = [y[0], y[1, 0], y[1, 2]]
        assert all(vitrify.isfinite(t).all() for t in others)
        (grad,) = vitrify.autograd.grad(y, w, vitrify.ones_like(y))
        assert vitrify.isfinite(grad[[0, 2]]).all() and vitrify.isinf(grad[1]).all()
    assert compiled == ["convolution", "conv_weight_grad"] * 2


def test_small_ones_are_not_compiled():
    assert depthwise.run(
        "conv",
        (np.ones((1, 4, 6, 6), np.float32), np.ones((4, 1, 3, 3), np.float32)),
        {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 4},
    ) is None  # fmt: skip


def test_few_kernels_serve_all_sizes(compiled):
    depthwise._taps_kernel.cache_clear()
    for channels, n in ((3, 8), (5, 11), (16, 9)):
        F.conv2d(vitrify.ones(2, channels, n, n + 1), vitrify.ones(channels, 1, 3, 3), groups=channels)
    assert depthwise._taps_kernel.cache_info().currsize == 1
