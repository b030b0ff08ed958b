"""Matrix products on Hopper, by warpgroups and the copy engine: loop interpreter, simulator, `ptxas`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from fake_cuda import fake_device
from lowering import f32, graph_of, random_arrays
from ptx_checks import assemble, check, emitted, simulate

import vitrify as torch
from vitrify import backends
from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.loops.nodes import Pipeline
from vitrify.codegen.loops.walk import statements
from vitrify.codegen.lower import LowerOptions
from vitrify.ir import dtypes, interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.runtime.gpu.tensor_maps import BoundMap
from vitrify.runtime.ptx_simulator.errors import DivergentBarrier, KernelFault, LaunchError, Race
from vitrify.runtime.ptx_simulator.tensor_maps import encoded
from vitrify.settings import get_float32_matmul_precision
from vitrify.tf32 import tf32_products

BATCH = Dim("batch", 64, 192)


def bf16(*shape):
    return TensorType(shape, dtypes.bf16)


def f16(*shape):
    return TensorType(shape, dtypes.f16)


def turned(F, x):
    return F.permute(x, dims=(*range(len(x.type.shape) - 2), -1, -2))


def linear(type_, m, n, k):
    """As a layer has it: bias and activation with the product."""
    types = type_(m, k), type_(n, k), type_(n)
    return graph_of(lambda F, x, w, b: F.relu(F.add(F.matmul(x, F.permute(w, dims=(1, 0))), b)), *types)


GRAPHS = {
    "both along the sum": lambda: linear(f16, 70, 72, 136),
    "right across": lambda: graph_of(lambda F, a, b: F.matmul(a, b), bf16(65, 72), bf16(72, 136)),
    "left across": lambda: graph_of(
        lambda F, a, b: F.matmul(F.permute(a, dims=(1, 0)), F.permute(b, dims=(1, 0))),
        bf16(200, 72),
        bf16(64, 200),
    ),
    "both across": lambda: graph_of(
        lambda F, a, b: F.matmul(F.permute(a, dims=(1, 0)), b), bf16(64, 72), bf16(64, 64)
    ),
    "a batch": lambda: graph_of(
        lambda F, a, b: F.matmul(a, F.permute(b, dims=(0, 2, 1))), bf16(3, 64, 64), bf16(3, 64, 64)
    ),
    "a part": lambda: graph_of(
        lambda F, a, b: F.matmul(F.slice(a, starts=(1, 8), stops=(66, 80), steps=(1, 1)), b),
        bf16(70, 88),
        bf16(72, 64),
    ),
    "a symbolic batch": lambda: graph_of(
        lambda F, a, b: F.matmul(a, F.permute(b, dims=(1, 0))), bf16(BATCH, 64), bf16(64, 64)
    ),
    "in parts": lambda: linear(bf16, 64, 64, 1200),
    "more slices than stages": lambda: linear(bf16, 64, 64, 504),
}
INTERPRETED = ("both along the sum", "both across")


@pytest.mark.parametrize("name", GRAPHS)
def test_products_of_warpgroups(name, tmp_path):
    graph = GRAPHS[name]()
    made = check(graph, random_arrays(graph, 67), interpret=name in INTERPRETED)
    assert "wgmma.mma_async" in made.text and "cp.async.bulk.tensor" in made.text
    for kernel, found in assemble(made.text, "sm_90a", tmp_path).items():
        assert found.spilled == 0 and found.registers <= 168, f"{kernel} {found}"
    assert "wgmma" not in emitted(graph, "sm_90").text


# tf32: 10 bits behind the point.

TF32 = LowerOptions(tf32=("matmul", "conv"))
CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
ROUNDED = {
    "both along the sum": (
        lambda: graph_of(lambda F, a, b: F.matmul(a, F.permute(b, dims=(1, 0))), f32(72, 68), f32(64, 68)),
        "slices of 16, 2x2 warps",
        "by 1 warpgroups, slices of 32",
    ),
    "both across": (
        lambda: graph_of(lambda F, a, b: F.matmul(F.permute(a, dims=(1, 0)), b), f32(24, 36), f32(24, 40)),
        "slices of 16, 2x2 warps",
        "slices of 16, 2x2 warps",
    ),
    "conv": (
        lambda: graph_of(lambda F, x, w: F.conv(x, w, **CONV), f32(2, 4, 6, 6), f32(32, 4, 3, 3)),
        "slices of 16, 2x2 warps",
        "slices of 16, 2x2 warps",
    ),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_float32_rounded_to_tf32(name, tmp_path):
    make, *tiles = ROUNDED[name]
    graph = make()
    arrays = random_arrays(graph)
    (want,) = interpreter.run(graph, arrays)
    for arch, tile in zip(("sm_80", "sm_90a"), tiles):
        made = emitted(graph, arch, options=TF32)
        (launch,) = made.program.launches
        assert tile in launch.kernel.comment
        (found,), _ = simulate(made, arrays, {})
        if name == "both across" or "warpgroups" in tile:
            (sequential,), _ = loops.run_program(made.program, arrays, {})
            np.testing.assert_allclose(found, sequential, rtol=1e-5, atol=1e-5)
        error = np.abs(found - want).max() / np.abs(want).max()
        assert 1e-7 < error < 2e-3
        for kernel in assemble(made.text, arch, tmp_path).values():
            assert kernel.spilled == 0 and kernel.registers <= 128
        assert "tf32" not in emitted(graph, arch).text


def test_who_says_what_is_rounded(monkeypatch):
    assert tf32_products() == ()  # tests set cudnn.allow_tf32 to False
    monkeypatch.setattr(backends.cudnn, "allow_tf32", True)
    assert tf32_products() == ("conv",)
    backends.cuda.matmul.allow_tf32 = True
    try:
        assert get_float32_matmul_precision() == "high" and tf32_products() == ("matmul", "conv")
    finally:
        backends.cuda.matmul.allow_tf32 = False
    assert get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("size", "tile"), [(4096, "128x256"), (2048, "128x128")])
def test_large_products_have_large_tiles_and_no_spills(size, tile, tmp_path):
    made = emitted(linear(bf16, size, size, size))
    (launch,) = made.program.launches
    assert launch.kernel.comment.startswith(f"tile {tile} by 2 warpgroups")
    (found,) = assemble(made.text, "sm_90a", tmp_path).values()
    assert found.spilled == 0 and found.registers <= 224


@pytest.mark.parametrize(
    "types",
    [
        (bf16(65, 70), bf16(70, 64)),  # rows that begin where no 16 bytes do
        (bf16(32, 64), bf16(64, 64)),  # few rows
        (TensorType((64, 64), dtypes.f32), TensorType((64, 64), dtypes.f32)),
    ],
)
def test_other_products_go_the_other_way(types):
    made = emitted(graph_of(lambda F, a, b: F.matmul(a, b), *types))
    assert not any(isinstance(s, Pipeline) for x in made.program.launches for s in statements(x.kernel.body))


def test_a_result_does_not_replace_what_is_copied_from():
    """The operands are read until the last tile is written."""

    def make(F, x, w):
        for _ in range(3):
            x = F.matmul(x, w)
        return x

    graph = graph_of(make, bf16(128, 128), bf16(128, 128))
    arrays = [(x * 0.25).astype(x.dtype) for x in random_arrays(graph)]
    check(graph, arrays, interpret=False, scale=4)
    for arch in ("sm_80", "sm_90a"):
        made = emitted(graph, arch)
        for launch in made.program.launches:
            assert len({id(a) for a in launch.args}) == 3
            offsets = [made.program.offsets[a.name] for a in launch.args if a.name in made.program.offsets]
            assert len(set(offsets)) == len(offsets)


# What the simulator finds when a kernel is broken.

BROKEN = {
    "nobody waits for a stage": (
        r"mbarrier\.try_wait\.parity\.shared::cta\.b64 p, \[%r\d+\], %r\d+;",
        "setp.eq.u32 p, 0, 0;",
        KernelFault,
        "asynchronously|uninitialized|wgmma reads it",
    ),
    "products are not waited for": (r"wgmma\.wait_group\.sync\.aligned 1;", "", Race, "not been waited for"),
    "no fence": (r"wgmma\.fence\.sync\.aligned;", "", Race, "no wgmma.fence"),
    "stages are not given back": (
        r"mbarrier\.arrive\.shared::cta\.b64 _, \[(%r\d+)\];",
        "",
        DivergentBarrier,
        "never ends",
    ),
    "too many bytes are expected": (
        r"(arrive\.expect_tx\.shared::cta\.b64 _, \[%r\d+\]), \d+",
        r"\1, 999999",
        DivergentBarrier,
        "never ends",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_faults_of_a_pipeline_are_found(name):
    pattern, to, error, message = BROKEN[name]
    graph = linear(bf16, 64, 64, 504)
    made = emitted(graph)
    text, count = re.subn(pattern, to, made.text)
    assert count
    broken = type(made)(text, made.launches, made.program, made.target)
    with pytest.raises(error, match=message):
        simulate(broken, random_arrays(graph), {})


def test_the_driver_encodes_tensor_maps():
    raw, device = fake_device()
    function = device.load(".version 8.0").function("k")
    seen = BoundMap(0x10000, "bf16", (3, 70, 80), (11200, 160), (1, 64, 64))
    device.launch(function, 1, 160, 0, [0x10000, seen, 7])
    ((_, args),) = [c for c in raw.calls if c[0] == "cuTensorMapEncodeTiled"]
    place, kind, rank, address, sizes, strides, box, ones, interleave, swizzle, _, fill = args
    assert (kind, rank, address, interleave, swizzle, fill) == (9, 3, 0x10000, 0, 3, 0)
    assert (list(sizes), list(strides)) == ([80, 70, 3], [160, 11200])
    assert (list(box), list(ones)) == ([64, 64, 1], [1, 1, 1])
    assert place % 64 == 0
    (launch,) = [c for c in raw.calls if c[0] == "cuLaunchKernel"]
    assert launch[1][9][1] == place and raw.params[0][::2] == [0x10000, 7]


def test_a_layer_on_a_device(driver):
    """From a tensor to the driver's launch; the last run is a captured one."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(72, 64).to(torch.bfloat16)
    x = torch.randn(70, 72).to(torch.bfloat16)
    want = layer(x).float()
    there = layer.cuda()
    run = torch.compile(lambda v: there(v))
    for _ in range(4):
        found = run(x.cuda()).cpu().float()
        assert (found - want).abs().max().item() < 0.05
    assert any("wgmma" in graph.assembly_text() for graph in run.graphs())
    assert (there(x.cuda()).cpu().float() - want).abs().max().item() < 0.05


def test_a_map_that_the_driver_refuses():
    with pytest.raises(LaunchError, match="no tensor map"):
        encoded(BoundMap(0x10008, "bf16", (64, 64), (128,), (64, 64)))
    assert encoded(BoundMap(0x10000, "bf16", (64, 64), (128,), (64, 64))).dtype == np.uint8
