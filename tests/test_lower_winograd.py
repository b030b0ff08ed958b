"""Convolutions by Winograd's filtering: the matrices, the kernels at odd sizes and on each ISA, the error, the
choice."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from contractions import check, group, interpret, lowered, operands_of
from test_lower_conv import geometry, three

import vitrify as torch
from vitrify.codegen.lower import LowerOptions, lower_graph, winograd_lower
from vitrify.codegen.lower.choices import Candidate
from vitrify.codegen.lower.winograd_matrices import POINTS, matrices
from vitrify.codegen.lower.winograd_plan import WinogradPlan
from vitrify.codegen.target import Target
from vitrify.ir import dtypes, interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import compile_program, run_program

# Batch, image, kernel, padding: tiles that reach past the result, channels and outputs that fill no vector or several.
SHAPES = (
    (1, (17, 9, 18), (20, 17, 3, 3), 1),
    (3, (5, 7, 7), (33, 5, 3, 3), 0),
    (2, (16, 12, 35), (48, 16, 3, 3), 1),
    (3, (40, 5, 3), (16, 40, 3, 3), 2),
    (1, (3, 4, 4), (2, 3, 3, 3), 0),
)
PLANS = (
    (2, 1, 6, 2, False, 0),
    (4, 1, 5, 1, True, 0),
    (4, 2, 7, 4, False, 0),
    (2, 3, 3, 1, True, 0),
    (4, 1, 5, 2, True, 1),
    (2, 2, 7, 1, False, 2),
)


@pytest.fixture
def force(monkeypatch):
    """Sets m, strips, rows, vectors, the order and the chunk of the plan that every convolution takes that can."""

    def set_plan(m, strips, rows, vectors, outputs_first, chunk):
        def ranked(sizes, target, direct, steady, count):
            lanes = target.lanes(dtypes.f32)
            plan = WinogradPlan(m, lanes, strips, rows, vectors, outputs_first=outputs_first, chunk=chunk)
            return [Candidate("forced", 0.0, plan)]

        monkeypatch.setattr(winograd_lower, "ranked_winograd", ranked)

    return set_plan


def kernels(program):
    return [launch.kernel.name for launch in program.launches]


@pytest.mark.parametrize("m", POINTS)
def test_the_matrices_filter_exactly(m):
    found = matrices(m)
    rng = np.random.default_rng(m)
    d, g = ([Fraction(int(v)) for v in rng.integers(-9, 9, count)] for count in (m + 2, 3))

    def product(matrix, vector):
        return [sum(f * v for f, v in zip(row, vector, strict=True)) for row in matrix]

    products = [u * v for u, v in zip(product(found.weight, g), product(found.input, d), strict=True)]
    assert product(found.output, products) == [sum(d[i + k] * g[k] for k in range(3)) for i in range(m)]


@pytest.mark.parametrize("m", POINTS)
def test_the_matrices_are_float32_numbers_but_for_the_weights(m):
    found = matrices(m)
    for row in (*found.input, *found.output):
        assert all(Fraction(float(np.float32(float(f)))) == f for f in row)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("shape", "plan"), [(s, PLANS[(i + j) % 6]) for i, s in enumerate(SHAPES) for j in (0, 1, 4)], ids=str
)
def test_odd_sizes(force, shape, plan):
    force(*plan)
    n, image, kernel, padding = shape
    forward, backward, _ = three(n, image, kernel, **geometry(2, padding=padding))
    for graph, name in ((forward, "conv"), (backward, "conv_input_grad")):
        before = [] if plan[-1] else ["winograd_weight"]
        assert kernels(check(graph, depth=60000, threads=(1, 2, 3))) == [*before, "winograd_input", name]


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("target", "plan"),
    [
        ("x86-64-avx512", PLANS[1]),
        ("x86-64-avx2", PLANS[0]),
        ("x86-64-sse2", PLANS[1]),
        ("aarch64-neon", PLANS[0]),
        ("x86-64-avx512", PLANS[5]),
        ("x86-64-sse2", PLANS[4]),
    ],
    ids=str,
)
def test_under_the_loop_interpreter(force, target, plan):
    force(*plan)
    forward, backward, _ = three(1, (5, 5, 7), (6, 5, 3, 3), **geometry(2, padding=1))
    interpret(forward, target, depth=60000)
    if plan[0] == 4:
        interpret(backward, target, depth=60000)


# Batch, volume, kernel, stride from plane to plane, padding.
VOLUMES = (
    (2, (16, 4, 7, 9), (18, 16, 3, 3, 3), 1, (1, 1, 1)),
    (1, (32, 5, 6, 6), (16, 32, 2, 3, 3), 2, (0, 1, 1)),
    (1, (16, 3, 8, 11), (7, 16, 1, 3, 3), 1, (0, 0, 1)),
    (2, (16, 1, 5, 6), (32, 16, 3, 3, 3), 1, (2, 2, 2)),
)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("volume", "plan"), [(v, PLANS[(i + j) % 6]) for i, v in enumerate(VOLUMES) for j in (0, 3, 4)], ids=str
)
def test_volumes_plane_by_plane(force, volume, plan):
    force(*plan)
    n, image, kernel, stride, padding = volume
    attrs = geometry(3) | {"stride": (stride, 1, 1), "padding": padding}
    forward, backward, _ = three(n, image, kernel, **attrs)
    assert "winograd_input" in kernels(check(forward, depth=120000, threads=(1, 2)))
    # Into as many channels as outputs, which must fill vectors.
    fills = kernel[0] % Target.host().lanes(dtypes.f32) == 0 and stride == 1
    assert ("winograd_input" in kernels(check(backward, depth=120000, threads=(1, 2)))) == fills


@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-sse2", "aarch64-neon"])
def test_volumes_under_the_loop_interpreter(force, target):
    force(*PLANS[0])
    lanes = Target.named(target).lanes(dtypes.f32)
    forward, backward, _ = three(1, (lanes, 2, 3, 4), (lanes, lanes, 2, 3, 3), **geometry(3, padding=1))
    for graph in (forward, backward):
        assert "winograd_input" in kernels(lowered(graph, target))
        interpret(graph, target, depth=60000)


def test_a_volumes_symbolic_batch(force):
    force(*PLANS[1][:4], False, 0)
    batch = Dim("batch", 0, 64)
    forward, backward, _ = three(batch, (16, 3, 6, 5), (16, 16, 3, 3, 3), **geometry(3, padding=1))
    for graph in (forward, backward):
        program = check(graph, [{"batch": b} for b in (0, 1, 3)], depth=60000)
        assert "winograd_input" in kernels(program)


@pytest.mark.parametrize("plan", PLANS[1:], ids=str)
def test_symbolic_batch(force, plan):
    force(*(plan[:4]), False, plan[5])
    batch = Dim("batch", 0, 64)
    for graph in three(batch, (17, 8, 6), (18, 17, 3, 3), **geometry(2, padding=1))[:2]:
        program = check(graph, [{"batch": b} for b in (0, 1, 3, 7)], depth=60000)
        assert "winograd_input" in kernels(program)


@pytest.mark.parametrize("plan", (*PLANS[:2], PLANS[5]), ids=str)
def test_what_stands_behind_the_sum(force, plan):
    force(*plan)
    x, w, bias = (TensorType(s, dtypes.f32) for s in ((2, 17, 9, 9), (20, 17, 3, 3), (1, 20, 1, 1)))
    y = TensorType((2, 20, 9, 9), dtypes.f32)
    attrs = geometry(2, padding=1)

    def body(F, x, w, b, r):
        return F.maximum(F.add(F.add(F.conv(x, w, **attrs), b), r), 0.0)

    check(group((x, w, bias, y), body), depth=60000)

    def flat(F, x, w, b, r):
        found = F.add(F.conv(x, w, **attrs), b)
        return found, F.reshape(F.mul(found, r), shape=(2, 20, 81))

    check(group((x, w, bias, y), flat), depth=60000)


@pytest.mark.parametrize("plan", (*PLANS[:2], PLANS[4]), ids=str)
def test_operands_through_views(force, plan):
    force(*plan)
    whole = TensorType((2, 34, 9, 9), dtypes.f32)
    turned = TensorType((17, 20, 3, 3), dtypes.f32)

    def body(F, x, w):
        half = F.slice(x, starts=(0, 17, 0, 0), stops=(2, 34, 9, 9), steps=(1, 1, 1, 1))
        return F.conv(half, F.permute(w, dims=(1, 0, 2, 3)), **geometry(2, padding=1))

    assert "winograd_input" in kernels(check(group((whole, turned), body), depth=60000))

    def channels_last(F, x, w):
        return F.conv(F.permute(x, dims=(0, 3, 1, 2)), w, **geometry(2, padding=1))

    types = (TensorType((2, 9, 9, 17), dtypes.f32), TensorType((20, 17, 3, 3), dtypes.f32))
    assert "winograd_input" not in kernels(check(group(types, channels_last), depth=60000))


@pytest.mark.parametrize("m", POINTS)
@pytest.mark.parametrize("channels", [64, 512])
def test_the_error_is_within_pytorchs_tolerances(force, m, channels):
    """PyTorch compares float32 with rtol 1.3e-6 and atol 1e-5. Against float64, on normal numbers, and relative to the
    results' root mean square: its mean is within the first and its maximum within the second over 64 channels, and
    both grow with the square root of the number of terms, as those of a plain sum do."""
    force(m, 1, 6, 2, False, 0)
    attrs = geometry(2, padding=1)
    for forward in (True, False):
        graph = three(1, (channels, 14, 14), (32, channels, 3, 3), **attrs)[0]
        if not forward:
            graph = three(1, (32, 14, 14), (channels, 32, 3, 3), **attrs)[1]
        inputs = operands_of(graph, {})
        (got,) = run_program(lowered(graph), inputs, {}, loaded=compile_program(lowered(graph)))
        wide = three(1, (channels, 14, 14), (32, channels, 3, 3), dtypes.f64, **attrs)[0]
        if not forward:
            wide = three(1, (32, 14, 14), (channels, 32, 3, 3), dtypes.f64, **attrs)[1]
        (exact,) = interpreter.run(wide, [a.astype(np.float64) for a in inputs])
        size = np.sqrt(np.mean(exact**2))
        error = np.abs(got - exact) / size
        grown = np.sqrt(channels / 64)
        assert np.sqrt(np.mean(error**2)) <= 1.3e-6 * grown
        assert error.max() <= 1e-5 * grown


RESNET = (((64, 56, 56), 64), ((128, 28, 28), 128), ((256, 14, 14), 256), ((512, 7, 7), 512))


@pytest.mark.parametrize(("image", "outputs"), RESNET)
def test_a_resnets_layers_are_computed_so(image, outputs):
    for graph in three(8, image, (outputs, image[0], 3, 3), **geometry(2, padding=1))[:2]:
        names = tuple(v.name for v in graph.inputs[1:])
        program = lower_graph(graph, Target.named("x86-64-avx512"), LowerOptions(steady_inputs=names))
        weight, _, products = program.launches
        assert "Winograd F(4x4, 3x3)" in products.kernel.comment
        # What depends on the weights alone is a launch of its own, which need not be repeated.
        assert weight.kernel.name == "winograd_weight" and program.preparing == 1
        assert [a for a in weight.args if a in program.inputs] == [program.inputs[1]]
        # Where it must be, it is made where it is used if there is much of it and little to multiply it with.
        program = lowered(graph, "x86-64-avx512")
        assert ("winograd_weight" in kernels(program)) == (outputs < 256)


@pytest.mark.parametrize(
    ("image", "kernel", "attrs", "dtype"),
    [
        ((64, 56, 56), (64, 64, 3, 3), {"stride": 2, "padding": 1}, dtypes.f32),
        ((64, 56, 56), (64, 64, 3, 3), {"dilation": 2, "padding": 2}, dtypes.f32),
        ((64, 56, 56), (64, 32, 3, 3), {"groups": 2, "padding": 1}, dtypes.f32),
        ((64, 56, 56), (64, 64, 3, 3), {"padding": 1}, dtypes.f64),
        ((64, 56, 56), (64, 64, 5, 5), {"padding": 2}, dtypes.f32),
        ((3, 224, 224), (64, 3, 3, 3), {"padding": 1}, dtypes.f32),
    ],
    ids=str,
)
def test_others_are_not(image, kernel, attrs, dtype):
    for graph in three(1, image, kernel, dtype, **geometry(2, **attrs))[:2]:
        assert "winograd_input" not in kernels(lowered(graph, "x86-64-avx512"))


def test_strict_numerics_take_the_same_kernels():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(32, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(64, 32, 3, padding=1)
    )
    x = torch.randn(2, 32, 28, 28)

    def gradients(model):
        net.zero_grad()
        inside = x.clone().requires_grad_()
        found = model(inside)
        found.square().sum().backward()
        return [
            found.detach().numpy().tobytes(),
            *(p.grad.numpy().tobytes() for p in (inside, *net.parameters())),
        ]

    with torch.numerics("strict"):
        eager = gradients(net)
    assert gradients(torch.compile(net, options={"numerics": "strict"})) == eager
