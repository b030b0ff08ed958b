"""Convolutions and both gradients lowered: ranks, strides, padding, dilation, groups, dtypes, symbolic
batch."""

from __future__ import annotations

import random

import pytest
from contractions import check, group, interpret, lowered

from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType

LENET = (
    (2, (1, 32, 32), (6, 1, 5, 5)),
    (3, (6, 14, 14), (16, 6, 5, 5)),
)


def geometry(rank, stride=1, padding=0, dilation=1, groups=1):
    return {
        "stride": (stride,) * rank,
        "padding": (padding,) * rank,
        "dilation": (dilation,) * rank,
        "groups": groups,
    }


def three(n, image, kernel, dtype=dtypes.f32, **attrs):
    """The convolution and its two gradients as groups."""
    x, w = TensorType((n, *image), dtype), TensorType(kernel, dtype)
    space = tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(
            image[1:], kernel[2:], attrs["stride"], attrs["padding"], attrs["dilation"], strict=True
        )
    )
    y = TensorType((n, kernel[0], *space), dtype)
    return (
        group((x, w), lambda F, x, w: F.conv(x, w, **attrs)),
        group((y, w), lambda F, y, w: F.conv_input_grad(y, w, input_size=x.shape, **attrs)),
        group((x, y), lambda F, x, y: F.conv_weight_grad(x, y, weight_size=kernel, **attrs)),
    )


@pytest.mark.parametrize(("n", "image", "kernel"), LENET, ids=["conv1", "conv2"])
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64])
def test_lenet_layers(n, image, kernel, dtype):
    for graph in three(n, image, kernel, dtype, **geometry(2)):
        check(graph, depth=n * 784)


def _random_case(seed):
    rng = random.Random(seed)
    rank = rng.choice([1, 2, 2, 3])
    attrs = geometry(
        rank,
        rng.choice([1, 1, 2, 3]),
        rng.choice([0, 0, 1, 2, 3]),
        rng.choice([1, 1, 2]),
        rng.choice([1, 1, 2, 3]),
    )
    kernel = tuple(rng.choice([1, 2, 3]) for _ in range(rank))
    image = tuple(rng.randint((k - 1) * attrs["dilation"][0] + 1, 12 if rank < 3 else 7) for k in kernel)
    inner, outer = rng.choice([1, 2, 3, 5]), rng.choice([1, 2, 4, 17])
    groups = attrs["groups"]
    return rng.choice([1, 2, 7]), (inner * groups, *image), (outer * groups, inner, *kernel), attrs


@pytest.mark.parametrize("seed", range(24))
def test_geometries(seed):
    n, image, kernel, attrs = _random_case(seed)
    for graph in three(n, image, kernel, **attrs):
        check(graph, depth=300)


def test_uneven_geometry():
    attrs = {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1), "groups": 1}
    for graph in three(2, (3, 6, 9), (4, 3, 3, 2), **attrs):
        check(graph)


def test_depthwise():
    for graph in three(2, (20, 9, 18), (20, 1, 3, 3), **geometry(2, padding=1, groups=20)):
        check(graph)


@pytest.mark.parametrize(
    "stride",
    [pytest.param(s, marks=pytest.mark.slow if s[0] == 1 else ()) for s in ((1, 2), (2, 2), (1, 3), (4, 4))],
    ids=str,
)
def test_strided_depthwise_reads_neighbours_in_phases(stride):
    attrs = geometry(2, padding=1, groups=20) | {"stride": stride}
    forward, *_ = graphs = three(2, (20, 13, 70), (20, 1, 3, 3), **attrs)
    for graph in graphs:
        check(graph, depth=3000)
    few, *_ = three(1, (4, 13, 70), (4, 1, 3, 3), **attrs | {"groups": 4})
    interpret(few, "x86-64-avx512", depth=3000)
    assert "along x" in check(forward, depth=3000).launches[-1].kernel.comment


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("image", "kernel", "attrs"),
    [
        ((5, 14, 14), (5, 1, 5, 5), geometry(2, stride=2, padding=2, groups=5)),
        ((6, 9, 11), (12, 1, 3, 4), geometry(2, stride=2, padding=1, groups=6)),
        ((6, 12, 7), (6, 1, 3, 2), geometry(2, stride=3, groups=6) | {"padding": (0, 2)}),
        ((5, 33), (5, 1, 7), geometry(1, stride=2, padding=3, groups=5)),
        ((3, 5, 6, 9), (3, 1, 3, 3, 3), geometry(3, stride=2, padding=1, groups=3)),
        ((4, 9, 9), (4, 1, 3, 3), geometry(2, stride=2, padding=2, dilation=2, groups=4)),
    ],
    ids=str,
)
def test_depthwise_in_phases(image, kernel, attrs):
    for graph in three(2, image, kernel, **attrs):
        check(graph, threads=(1, 2, 3))
        interpret(graph, "x86-64-avx2")
    for graph in three(1, image, kernel, dtypes.f64, **attrs):
        check(graph)


def test_images_of_a_depthwise_convolution_are_copied_when_their_turn_comes():
    graph, *_ = three(2, (20, 30, 30), (20, 1, 3, 3), **geometry(2, padding=1, groups=20))
    (launch,) = check(graph).launches
    assert [b.space for b in launch.kernel.locals].count("stack") == 1
    few, *_ = three(1, (5, 30, 30), (5, 1, 3, 3), **geometry(2, padding=1, groups=5))
    interpret(few, "x86-64-avx512")
    large, *_ = three(1, (2, 300, 300), (2, 1, 3, 3), **geometry(2, padding=1, groups=2))
    border, _ = check(large).launches
    assert border.kernel.name.startswith("zero_border")


def test_a_strided_depthwise_input_gradient_has_zeros_along_rows_and_copies_each_image_itself():
    _, graph, _ = three(2, (20, 30, 31), (20, 1, 3, 3), **geometry(2, stride=2, padding=1, groups=20))
    launches = check(graph, threads=(1, 2, 3), depth=3000).launches
    assert [launch.kernel.name for launch in launches] == ["conv_input_grad", "conv_input_grad1"]
    assert all("stack" in [b.space for b in launch.kernel.locals] for launch in launches)
    _, few, _ = three(1, (5, 30, 31), (5, 1, 3, 3), **geometry(2, stride=2, padding=1, groups=5))
    interpret(few, "x86-64-avx512", depth=3000)
    interpret(few, "x86-64-avx2", depth=3000)
    # Many channels to a group: products with zeros would cost more than storing to every second element.
    _, graph, _ = three(2, (8, 9, 9), (32, 4, 3, 3), **geometry(2, stride=2, padding=1, groups=2))
    assert len([n for n in check(graph).launches if n.kernel.name.startswith("conv")]) == 4


@pytest.mark.sweep(4)
@pytest.mark.parametrize("stride", [1, 2, (1, 3)], ids=str)
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.bf16], ids=str)
def test_a_depthwise_weight_gradient_copies_each_image_of_the_batch_itself(dtype, stride):
    """Channels in tiles too, the last of which is smaller."""
    attrs = geometry(2, padding=1, groups=21)
    attrs["stride"] = stride if isinstance(stride, tuple) else (stride, stride)
    *_, graph = three(3, (21, 30, 37), (21, 1, 3, 3), dtype, **attrs)
    check(graph, threads=(1, 2, 3), depth=3000)
    for target in ("x86-64-avx512", "x86-64-avx2"):
        launches = lowered(graph, target).launches
        if dtype is not dtypes.bf16:  # in words, which are woven from whole images
            assert not any("border" in launch.kernel.name for launch in launches)
            assert all("stack" in [b.space for b in launch.kernel.locals] for launch in launches)
    *_, few = three(2, (5, 11, 19), (5, 1, 3, 3), dtype, **attrs | {"groups": 5})
    for target in ("x86-64-avx512", "x86-64-avx2"):
        interpret(few, target, depth=3000)


def test_a_depthwise_weight_gradient_of_any_batch():
    batch = Dim("batch", 1, 9)
    x, y = (TensorType((batch, 12, 17, 23), dtypes.f32) for _ in range(2))
    attrs = geometry(2, padding=1, groups=12)
    graph = group((x, y), lambda F, x, y: F.conv_weight_grad(x, y, weight_size=(12, 1, 3, 3), **attrs))
    check(graph, [{"batch": n} for n in (1, 4, 9)], depth=3000)
    for target in ("x86-64-avx512", "x86-64-avx2"):
        assert not any("border" in launch.kernel.name for launch in lowered(graph, target).launches)


def test_a_border_is_shared_among_threads_by_images():
    graph, *_ = three(3, (8, 40, 40), (4, 8, 3, 3), dtypes.f64, **geometry(2, padding=1))
    border = check(graph, threads=(1, 2, 3)).launches[0].kernel
    (loop,) = border.body
    assert border.name == "zero_border"
    assert (loop.kind, loop.extent) == ("parallel", 24)


def test_pointwise_kernel_needs_no_border():
    graph, *_ = three(2, (8, 6, 6), (9, 8, 1, 1), **geometry(2))
    assert not any("border" in launch.kernel.name for launch in check(graph).launches)


@pytest.mark.parametrize("dtype", [dtypes.f16, dtypes.bf16])
def test_narrow_floats_sum_in_f32(dtype):
    for graph in three(2, (3, 7, 7), (4, 3, 3, 3), dtype, **geometry(2, padding=1)):
        check(graph)


def test_empty_batch():
    for graph in three(0, (3, 7, 7), (4, 3, 3, 3), **geometry(2, padding=1)):
        check(graph)


def test_symbolic_batch():
    batch = Dim("batch", 0, 256)
    for graph in three(batch, (3, 8, 8), (5, 3, 3, 3), **geometry(2, padding=1)):
        check(graph, [{"batch": b} for b in (0, 1, 7, 64)], depth=4096)


def test_bias_relu_and_mask():
    x, w, bias = (TensorType(s, dtypes.f32) for s in ((2, 3, 9, 9), (4, 3, 3, 3), (1, 4, 1, 1)))
    y = TensorType((2, 4, 9, 9), dtypes.f32)
    attrs = geometry(2, padding=1)
    check(group((x, w, bias), lambda F, x, w, b: F.maximum(F.add(F.conv(x, w, **attrs), b), 0.0)))
    check(
        group(
            (y, w, x),
            lambda F, y, w, x: F.where(
                F.gt(x, 0.0), F.conv_input_grad(y, w, input_size=x.type.shape, **attrs), 0.0
            ),
        )
    )


def test_a_long_sum_is_split_into_parts_that_do_not_depend_on_threads():
    _, _, graph = three(64, (6, 14, 14), (16, 6, 5, 5), **geometry(2))
    check(graph, depth=6400, threads=(1, 2, 3))
    launches = lowered(graph, "x86-64-avx512").launches
    assert any(launch.kernel.name.endswith("_parts") for launch in launches)
    scaled = group(
        (
            TensorType((64, 1, 9, 9), dtypes.f32),
            TensorType((64, 2, 9, 9), dtypes.f32),
            TensorType((2, 1, 3, 3), dtypes.f32),
        ),
        lambda F, x, y, w: F.sub(
            w, F.mul(F.conv_weight_grad(x, y, weight_size=(2, 1, 3, 3), **geometry(2, padding=1)), 0.1)
        ),
    )
    check(scaled, depth=5184)


def test_long_chains_of_sums_begin_afresh_where_registers_are_few():
    *_, graph = three(64, (6, 14, 14), (16, 6, 5, 5), **geometry(2))
    *_, short = three(40, (6, 14, 14), (16, 6, 5, 5), **geometry(2))

    def comments(graph, target):
        return " ".join(launch.kernel.comment for launch in lowered(graph, target).launches)

    assert "afresh at each n" in comments(graph, "x86-64-avx2")
    assert "afresh" not in comments(short, "x86-64-avx2") + comments(graph, "x86-64-avx512")


@pytest.mark.sweep(5)
@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-avx2", "aarch64-neon"])
@pytest.mark.parametrize(
    ("image", "kernel", "attrs"),
    [
        ((1, 6, 6), (3, 1, 5, 5), geometry(2)),
        ((2, 5, 7), (18, 2, 3, 2), geometry(2, stride=2, padding=1)),
        ((4, 5, 4), (4, 2, 2, 3), geometry(2, padding=2, dilation=2, groups=2)),
        ((2, 9), (3, 2, 4), geometry(1, stride=3, padding=1)),
    ],
    ids=str,
)
def test_under_the_loop_interpreter(target, image, kernel, attrs):
    for graph in three(2, image, kernel, **attrs):
        interpret(graph, target)


def test_wide_strides_put_zeros_between_instead_of_phases():
    for graph in three(1, (1, 11, 11), (2, 1, 6, 6), **geometry(2, stride=5)):
        check(graph)
        interpret(graph)


def test_a_pointwise_kernel_walks_an_image_as_one_row():
    x, w, b = (TensorType(s, dtypes.f32) for s in ((2, 8, 6, 7), (9, 8, 1, 1), (9, 1, 1)))
    y = TensorType((2, 9, 6, 7), dtypes.f32)
    graph = group((x, w, b, y), lambda F, x, w, b, r: F.add(F.add(F.conv(x, w, **geometry(2)), b), r))
    (launch,) = [k for k in check(graph).launches if k.kernel.name == "conv"]
    assert " y" not in launch.kernel.comment


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64])
def test_tiles_across_the_result_are_turned_on_their_way_out(dtype):
    """Lanes along the outputs, of which each has its own image: rows of the image are stored."""
    x, w, b = (TensorType(s, dtype) for s in ((2, 24, 33, 35), (40, 24, 3, 3), (40, 1, 1)))
    y = TensorType((2, 40, 17, 18), dtype)
    attrs = geometry(2, stride=2, padding=1)
    graph = group((x, w, b, y), lambda F, x, w, b, r: F.mul(F.add(F.conv(x, w, **attrs), b), r))
    program = check(graph, depth=9 * 24)
    assert any("stored along x" in launch.kernel.comment for launch in program.launches)


@pytest.mark.parametrize("target", ["x86-64-avx2", "aarch64-neon"])
def test_turned_tiles_under_the_loop_interpreter(target):
    x, w = TensorType((1, 1, 35, 33), dtypes.f32), TensorType((18, 1, 3, 3), dtypes.f32)
    interpret(group((x, w), lambda F, x, w: F.conv(x, w, **geometry(2, stride=2, padding=1))), target)


@pytest.mark.parametrize(
    ("image", "kernel", "attrs"),
    [
        ((70, 7, 7), (96, 70, 3, 3), geometry(2, padding=1)),
        ((64, 9, 5), (65, 64, 3, 2), geometry(2)),
        ((48, 9, 9), (80, 48, 3, 3), geometry(2, stride=2, padding=1)),
        ((48, 11), (80, 48, 3), geometry(1, padding=1, dilation=2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [1, 3])
def test_weight_gradients_of_small_images_are_matrix_products(n, image, kernel, attrs):
    """The image is unfolded: lanes run along the rows of all of a channel's weights."""
    *_, graph = three(n, image, kernel, **attrs)
    program = check(graph, depth=n * image[-1] ** 2)
    names = [launch.kernel.name for launch in program.launches]
    assert "unfolded_operand" in names


def test_an_unfolded_image_of_any_batch():
    *_, graph = three(Dim("batch", 1, 2), (64, 7, 7), (96, 64, 3, 3), **geometry(2, padding=1))
    program = check(graph, [{"batch": n} for n in (1, 2)], depth=2 * 49)
    assert any(launch.kernel.name == "unfolded_operand" for launch in program.launches)


@pytest.mark.parametrize("attrs", [geometry(2, padding=1), geometry(2, stride=2, padding=1)], ids=str)
def test_an_unfolded_image_under_the_loop_interpreter(attrs):
    *_, graph = three(1, (5, 5, 5), (18, 5, 3, 3), **attrs)
    interpret(graph)
    names = [launch.kernel.name for launch in lowered(graph).launches]
    assert "unfolded_operand" in names


FAR = [
    # Channels more than a page apart, a kernel with one element in a plane.
    ((5, 12, 10, 11), (7, 5, 3, 1, 1), {}),
    ((5, 12, 10, 11), (18, 5, 3, 1, 1), {"padding": (1, 0, 0)}),
    ((4, 19, 9, 8), (9, 4, 5, 1, 1), {"stride": (2, 1, 1), "padding": (2, 0, 0)}),
    ((4, 14, 11, 10), (6, 4, 2, 1, 1), {"stride": (1, 2, 2), "dilation": (3, 1, 1), "padding": (2, 1, 0)}),
    ((3, 40, 33), (8, 3, 3, 1), {"padding": (1, 0)}),
    ((6, 40, 33), (6, 6, 7, 1), {"padding": (3, 0), "stride": (2, 3)}),
]


@pytest.mark.parametrize(("image", "kernel", "given"), FAR)
def test_far_channels_are_turned(image, kernel, given):
    rank = len(image) - 1
    attrs = geometry(rank) | given
    forward, backward, weights = three(2, image, kernel, **attrs)
    program = check(forward, depth=60, threads=(1, 2))
    assert "turned_operand" in [launch.kernel.name for launch in program.launches]
    check(backward, depth=60, threads=(1, 2))
    check(weights, depth=60000)


def test_far_channels_of_a_symbolic_batch_are_turned():
    batch = Dim("batch", 0, 64)
    forward, _, _ = three(batch, (5, 12, 10, 11), (7, 5, 3, 1, 1), **(geometry(3) | {"padding": (1, 0, 0)}))
    program = check(forward, [{"batch": b} for b in (0, 1, 3)], depth=60)
    assert "turned_operand" in [launch.kernel.name for launch in program.launches]


@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-sse2", "aarch64-neon"])
def test_far_channels_under_the_loop_interpreter(target):
    forward, backward, _ = three(1, (3, 10, 9, 12), (5, 3, 3, 1, 1), **(geometry(3) | {"padding": (1, 0, 0)}))
    for graph in (forward, backward):
        interpret(graph, target, depth=60)
