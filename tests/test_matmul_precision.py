"""`set_float32_matmul_precision("medium")`: the pass that rounds operands, and what compiled functions make of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.codegen.target import Target
from vitrify.ir.parser import parse
from vitrify.passes.precision import RoundMatmulOperands

NATIVE = pytest.mark.skipif(not Target.host().has("avx512bf16"), reason="needs AVX512-BF16")


@pytest.fixture(autouse=True)
def precision_as_it_was() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_operands_are_rounded_once_and_before_they_are_viewed():
    before = """
    graph g(%x: f32[32,64], %w: f32[48,64], %h: bf16[48,64]) -> (f32[32,48], f32[32,48]) {
      %0: f32[64,48] = permute(%w) {dims=[1,0]}
      %1: f32[32,48] = matmul(%x, %0)
      %2: f32[48,64] = convert(%h) {dtype=f32}
      %3: f32[64,48] = permute(%2) {dims=[1,0]}
      %4: f32[32,48] = matmul(%x, %3)
      return %1, %4
    }"""
    after = str(RoundMatmulOperands().run(parse(before)))
    assert after.count("{dtype=bf16}") == 2  # x and w; h is short already
    assert after.count("bf16[64,48] = permute(") == 2 and "bf16[64,48] = permute(%h)" in after


def test_small_products_and_other_dtypes_stay():
    for shapes in (("f32[8,64]", "f32[64,64]", "f32[8,64]"), ("f64[32,64]", "f64[64,64]", "f64[32,64]")):
        a, b, c = shapes
        graph = parse(f"graph g(%x: {a}, %w: {b}) -> {c} {{\n %0: {c} = matmul(%x, %w)\n return %0\n}}")
        assert RoundMatmulOperands().run(graph) is graph


@NATIVE
def test_compiled_functions_follow_the_setting():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64))
    x = torch.randn(40, 256)
    fast = torch.compile(net)
    with torch.no_grad():
        exact = fast(x).numpy().copy()
        torch.set_float32_matmul_precision("high")
        np.testing.assert_array_equal(fast(x).numpy(), exact)
        torch.set_float32_matmul_precision("medium")
        rounded = fast(x).numpy().copy()
        torch.set_float32_matmul_precision("highest")
        np.testing.assert_array_equal(fast(x).numpy(), exact)
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, atol=2e-2)
    short = net.to(torch.bfloat16)(x.to(torch.bfloat16)).to(torch.float32)
    assert np.abs(rounded - exact).max() < np.abs(short.detach().numpy() - exact).max()


@NATIVE
def test_gradients_too_and_strict_numerics_not():
    torch.manual_seed(0)
    w = torch.randn(64, 64, requires_grad=True)
    x = torch.randn(32, 64)

    def loss(x, w):
        return torch.tanh(x @ w).sum()

    found = {}
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        for numerics in ("fast", "strict"):
            w.grad = None
            torch.compile(loss, options={"numerics": numerics})(x, w).backward()
            found[precision, numerics] = w.grad.numpy().copy()
    np.testing.assert_array_equal(found["highest", "strict"], found["medium", "strict"])
    assert not np.array_equal(found["highest", "fast"], found["medium", "fast"])
    scale = np.abs(found["highest", "fast"]).max()
    np.testing.assert_allclose(found["medium", "fast"], found["highest", "fast"], atol=0.02 * scale)


def test_strict_numerics_of_bfloat16():
    """The same kernels, one op at a time: to the bit, with words or without."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 32, 3, stride=2, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(512, 64))
    net = net.to(torch.bfloat16)
    x = torch.randn(4, 8, 8, 8).to(torch.bfloat16)

    def loss(x):
        y = net(x)
        return (y @ y.T).to(torch.float32).sum() + (
            y.to(torch.float32) @ net[3].weight.to(torch.float32)
        ).sum()

    found = []
    for run in (loss, torch.compile(loss, options={"numerics": "strict"})):
        net.zero_grad()
        with torch.numerics("strict"):
            value = run(x)
            value.backward()
        found.append([value.item(), *(p.grad.to(torch.float32).numpy().copy() for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@NATIVE
def test_why_a_function_was_compiled_again():
    a = torch.randn(32, 32)
    product = torch.compile(lambda x: x @ x)
    product(a)
    torch.set_float32_matmul_precision("medium")
    product(a)
    assert "the precision of float32 matmuls was highest" in str(product.explain())
