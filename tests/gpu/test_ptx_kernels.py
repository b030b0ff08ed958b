"""Kernels for GPUs: what the loop interpreter and the simulator compute, what `ptxas` makes of them, how they are
walked."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import f32, fused, graph_of, random_arrays
from ptx_checks import assemble, check, emitted, simulate
from training_graphs import lenet_step, step_inputs

from vitrify.codegen.loops.nodes import Kernel
from vitrify.codegen.loops.printer import print_kernel
from vitrify.ir import dtypes, interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.passes import fusion_columns, fusion_expansion

BATCH = Dim("batch", 1, 64)
POOL = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0), "ceil_mode": False}
CONV = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 1), "groups": 2}


def bf16(*shape):
    return TensorType(shape, dtypes.bf16)


def i64(*shape):
    return TensorType(shape, dtypes.i64)


def norm(F, x, weight):
    mean = F.mean(x, dims=(1,), keepdim=True)
    centered = F.sub(x, mean)
    variance = F.mean(F.mul(centered, centered), dims=(1,), keepdim=True)
    return F.mul(F.mul(centered, F.rsqrt(F.add(variance, 1e-5))), weight)


def lstm(batch, hidden: int, reverse: bool):
    """A layer over 4 steps: a scan, whose parts begin where no 16 bytes do."""
    F = GraphBuilder("lstm")
    x = F.input("x", f32(batch * 4, 4 * hidden))
    states = [F.input(name, f32(batch, hidden)) for name in "hc"]
    w = F.input("w", f32(4 * hidden, hidden))
    return F.finish(F.lstm(x, *states, w, batch_sizes=(batch,) * 4, reverse=reverse))


GRAPHS = {
    "bias and relu": lambda: graph_of(lambda F, x, b: F.relu(F.add(x, b)), f32(6, 1, 64), f32(3, 1)),
    "ragged row": lambda: graph_of(lambda F, x: F.exp(x), f32(1003)),
    "scalar": lambda: graph_of(lambda F, x: F.exp(x), f32()),
    "functions": lambda: graph_of(
        lambda F, x: F.add(F.erf(F.sin(x)), F.add(F.tanh(x), F.log1p(F.exp(x)))), f32(65)
    ),
    "division": lambda: graph_of(
        lambda F, x, y: F.add(F.div(F.sqrt(F.abs(x)), y), F.rsqrt(F.abs(y))), f32(130), f32(130)
    ),
    "remainder": lambda: graph_of(
        lambda F, x, y: F.add(F.remainder(x, y), F.floor_divide(x, y)), f32(130), f32(130)
    ),
    "bfloat16": lambda: graph_of(lambda F, x, y: F.mul(F.exp(x), y), bf16(64, 32), bf16(32)),
    "integers": lambda: graph_of(
        lambda F, x, y: F.add(F.floor_divide(x, F.add(y, 1)), F.remainder(x, F.add(y, 1))), i64(99), i64(99)
    ),
    "symbolic batch": lambda: graph_of(lambda F, x, b: F.relu(F.add(x, b)), f32(BATCH, 33), f32(33)),
    "transpose": lambda: graph_of(
        lambda F, x, y: F.add(F.permute(x, dims=(1, 0)), y), f32(40, 70), f32(70, 40)
    ),
    "transpose of a batch": lambda: graph_of(
        lambda F, x: F.exp(F.permute(x, dims=(0, 2, 1))), TensorType((3, 33, 48), dtypes.bf16)
    ),
    "padding": lambda: graph_of(lambda F, x: F.pad(x, low=(1, 2), high=(2, 0), value=3.0), f32(4, 9)),
    "concat": lambda: graph_of(lambda F, x, y: F.concat(x, y, dim=1), f32(4, 9), f32(4, 3)),
    "softmax of short rows": lambda: graph_of(lambda F, x: F.softmax(x, dim=1), f32(6, 10)),
    "softmax of a warp": lambda: graph_of(lambda F, x: F.softmax(x, dim=1), f32(6, 384)),
    "softmax of a block": lambda: graph_of(lambda F, x: F.softmax(x, dim=1), f32(3, 4100)),
    "softmax of ragged rows": lambda: graph_of(lambda F, x: F.softmax(x, dim=1), f32(3, 5003)),
    "softmax across rows": lambda: graph_of(lambda F, x: F.softmax(x, dim=1), f32(2, 70, 9)),
    "layer norm": lambda: graph_of(norm, f32(BATCH, 96), f32(96)),
    "bias gradient": lambda: graph_of(lambda F, x: F.sum(x, dims=(0,), keepdim=False), f32(130, 37)),
    "full sum": lambda: graph_of(lambda F, x: F.sum(x, dims=(0, 1), keepdim=False), f32(70, 1100)),
    "any and amax": lambda: graph_of(
        lambda F, x: (
            F.amax(x, dims=(1,), keepdim=False),
            F.any(F.gt(x, 2.0), dims=(1,), keepdim=False),
        ),
        f32(9, 65),
    ),
    "sum in float64": lambda: graph_of(
        lambda F, x: F.sum(x, dims=(1,), keepdim=False), TensorType((5, 100), dtypes.f64)
    ),
    "empty rows": lambda: graph_of(lambda F, x: F.sum(x, dims=(1,), keepdim=False), f32(3, 0)),
    "argmax": lambda: graph_of(lambda F, x: F.argmax(x, dim=1, keepdim=False), f32(7, 50)),
    "matmul": lambda: graph_of(
        lambda F, a, b, c: F.relu(F.add(F.matmul(a, b), c)), f32(3, 20, 17), f32(17, 35), f32(35)
    ),
    "matmul in tiles": lambda: graph_of(lambda F, a, b: F.matmul(a, b), f32(130, 40), f32(40, 140)),
    "matmul in parts": lambda: graph_of(lambda F, a, b: F.matmul(a, b), f32(8, 1100), f32(1100, 9)),
    "matmul of a symbolic batch": lambda: graph_of(
        lambda F, a, b: F.matmul(a, F.permute(b, dims=(1, 0))), f32(BATCH, 17), f32(35, 17)
    ),
    "matmul in bfloat16": lambda: graph_of(lambda F, a, b: F.matmul(a, b), bf16(20, 40), bf16(40, 24)),
    "matmul in float16 in tiles": lambda: graph_of(
        lambda F, a, b, c: F.relu(F.add(F.matmul(a, F.permute(b, dims=(1, 0))), c)),
        *(TensorType(shape, dtypes.f16) for shape in ((70, 64), (96, 64), (96,))),
    ),
    "matmul of bfloat16 columns": lambda: graph_of(
        lambda F, a, b: F.matmul(F.permute(a, dims=(1, 0)), b), bf16(128, 64), bf16(128, 96)
    ),
    "matmul of ragged bfloat16": lambda: graph_of(
        lambda F, a, b: F.matmul(a, F.permute(b, dims=(1, 0))), bf16(70, 200), bf16(51, 200)
    ),
    "conv in bfloat16": lambda: graph_of(
        lambda F, x, w: F.conv(x, w, **{**CONV, "groups": 1}), bf16(2, 4, 9, 8), bf16(32, 4, 3, 3)
    ),
    "conv": lambda: graph_of(lambda F, x, w: F.conv(x, w, **CONV), f32(2, 4, 9, 8), f32(6, 2, 3, 3)),
    "conv input gradient": lambda: graph_of(
        lambda F, dy, w: F.conv_input_grad(dy, w, input_size=(2, 4, 9, 8), **CONV),
        f32(2, 6, 5, 10),
        f32(6, 2, 3, 3),
    ),
    "conv weight gradient": lambda: graph_of(
        lambda F, x, dy: F.conv_weight_grad(x, dy, weight_size=(6, 2, 3, 3), **CONV),
        f32(2, 4, 9, 8),
        f32(2, 6, 5, 10),
    ),
    "max pool": lambda: graph_of(lambda F, x: F.max_pool(x, dilation=(1, 1), **POOL), f32(2, 3, 9, 8)),
    "max pool gradient": lambda: graph_of(
        lambda F, x, dy: F.max_pool_grad(x, dy, dilation=(1, 1), **POOL), f32(2, 3, 9, 8), f32(2, 3, 5, 4)
    ),
    "gather": lambda: graph_of(lambda F, x, i: F.gather(x, i, dim=1), f32(6, 8), i64(6, 3)),
    "embedding": lambda: graph_of(lambda F, x, i: F.index_select(x, i, dim=0), f32(9, 32), i64(7)),
    "embedding gradient": lambda: graph_of(
        lambda F, x, i, s: F.index_add(x, i, s, dim=0), f32(9, 32), i64(7), f32(7, 32)
    ),
    "scatter": lambda: graph_of(
        lambda F, x, i, s: F.scatter_add(x, i, s, dim=0), f32(6, 8), i64(4, 8), f32(4, 8)
    ),
    "lstm": lambda: lstm(3, 5, reverse=False),
    "lstm of a symbolic batch, backwards": lambda: lstm(BATCH, 4, reverse=True),
    "random": lambda: graph_of(
        lambda F, s: F.random_uniform(s, shape=(67,), dtype=dtypes.f32, stream=3), i64(2)
    ),
}
# What the loop interpreter takes seconds for. It runs "matmul in bfloat16" and "matmul of bfloat16 columns".
LARGE = {
    *("softmax of a block", "softmax of ragged rows", "full sum"),
    *("matmul", "matmul in tiles", "matmul in parts", "matmul of a symbolic batch"),
    *("matmul in float16 in tiles", "matmul of ragged bfloat16"),
    *("conv", "conv in bfloat16", "conv input gradient"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_results(name):
    """What the graph's interpreter gives, under the loop interpreter and in the simulator."""
    graph = GRAPHS[name]()
    check(graph, random_arrays(graph), interpret=name not in LARGE)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_kernels_assemble_without_spills(arch, tmp_path):
    for name, make in GRAPHS.items():
        made = emitted(make(), arch)
        kernels = assemble(made.text, arch, tmp_path)
        assert len(kernels) == made.text.count(".visible .entry")
        for kernel, found in kernels.items():
            assert found.spilled == 0 and found.registers <= 168, f"{name}: {kernel} {found}"


def test_random_numbers_are_the_cpus():
    """Bit for bit what the reference gives, whatever the number of threads."""
    graph = GRAPHS["random"]()
    arrays = [np.array([1234567890123, 42])]
    made = emitted(graph)
    (got,), _ = simulate(made, arrays, {})
    (want,) = interpreter.run(graph, arrays)
    assert got.tobytes() == want.tobytes()


def test_neighbours_are_read_and_written_in_16_bytes():
    text = emitted(GRAPHS["bias and relu"]()).text
    assert "ld.global.v4.b32" in text and "st.global.v4.b32" in text
    half = emitted(GRAPHS["bfloat16"]()).text
    assert half.count("ld.global.v4.b32") == 2 and "st.global.v4.b32" in half


def test_products_and_sums_are_rounded_as_on_the_cpu():
    """Nothing is contracted that the loop IR wrote apart; division and square root are IEEE's."""
    text = emitted(graph_of(lambda F, x, y: F.add(F.mul(x, y), x), f32(64), f32(64))).text
    assert "mul.rn.f32" in text and "add.rn.f32" in text and "fma" not in text
    text = emitted(graph_of(lambda F, x, y: F.div(F.sqrt(x), y), f32(64), f32(64))).text
    assert "div.rn.f32" in text and "sqrt.rn.f32" in text
    assert "approx" not in text and ".ftz" not in text


def test_narrow_floats_are_multiplied_on_tensor_cores():
    graph = graph_of(lambda F, a, b: F.matmul(a, F.permute(b, dims=(1, 0))), bf16(256, 256), bf16(256, 256))
    text = emitted(graph, "sm_80").text
    for word in ("mma.sync.aligned.m16n8k16", "ldmatrix.sync.aligned.m8n8.x4", "cp.async.cg.shared.global"):
        assert word in text
    assert "ld.global" not in text and "ld.shared" not in text
    assert "mma" not in emitted(graph, "sm_75").text


def test_large_slices_are_asked_for_at_the_launch():
    graph = graph_of(lambda F, a, b: F.matmul(a, F.permute(b, dims=(1, 0))), bf16(1536, 64), bf16(1536, 64))
    made = emitted(graph, "sm_80")
    (launch,) = made.launches
    assert launch.shared_bytes == 4 * 2 * 128 * 40 * 2 and ".extern .shared" in made.text
    check(graph, random_arrays(graph), interpret=False)


def test_what_is_read_across_is_turned_in_shared_memory():
    made = emitted(GRAPHS["transpose"]())
    (launch,) = made.program.launches
    assert [b.shape for b in launch.kernel.locals] == [(32, 33)]
    assert made.text.count("bar.sync") == 1


def test_an_inverted_residual_is_as_many_kernels_as_convolutions(monkeypatch):
    monkeypatch.setattr(fusion_expansion, "MIN_ELEMENTS", 1)
    alone = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}

    def make(F, x, w, v, u):
        made = F.relu(F.conv(x, w, **alone))
        made = F.sigmoid(F.conv(made, v, stride=(2, 2), padding=(1, 1), dilation=(1, 1), groups=6))
        return F.tanh(F.conv(made, u, **alone))

    graph = graph_of(make, f32(2, 4, 9, 8), f32(6, 4, 1, 1), f32(6, 1, 3, 3), f32(5, 6, 1, 1))
    assert [n.attrs["kind"] for n in fused(graph).nodes] == ["expansion"]
    made = check(graph, random_arrays(graph))
    assert len(made.program.launches) == 3


def test_sums_over_rows_read_what_the_rows_found(monkeypatch):
    """The group is two kernels here: rows side by side have no sum in common."""
    for name in ("MIN_ELEMENTS", "MIN_ROWS", "MIN_COLUMNS"):
        monkeypatch.setattr(fusion_columns, name, 1)

    def make(F, x, dy):
        product = F.mul(F.softmax(x, dim=1), dy)
        return F.sum(product, dims=(1,)), F.sum(product, dims=(0,))

    graph = graph_of(make, f32(BATCH, 40), f32(BATCH, 40))
    check(graph, random_arrays(graph, 9))
    names = [launch.kernel.name for launch in emitted(graph).program.launches]
    assert names == ["fused_0", "fused_0_columns"]


def test_a_row_that_fits_is_read_once():
    """Softmax keeps a row in registers between its three passes."""
    made = emitted(GRAPHS["softmax of a warp"]())
    assert made.text.count("ld.global") == 3  # 384 elements, 32 threads, 4 at a time
    assert "bar" not in made.text and "shfl.sync.bfly" in made.text


def test_an_index_out_of_bounds_is_reported():
    graph = GRAPHS["embedding"]()
    table, index = random_arrays(graph)
    index[3] = 9
    made = emitted(graph)
    _, code = simulate(made, [table, index], {})
    assert made.program.messages[code] == "index out of range in self"


def test_equal_kernels_are_emitted_once():
    def make(F, x, w):
        for _ in range(3):
            x = F.relu(F.matmul(x, w))
        return x

    made = emitted(graph_of(make, f32(32, 32), f32(32, 32)))
    assert len(made.launches) == 3 and made.text.count(".visible .entry") == 1


def test_a_reduction_has_one_order():
    """The tree is in the kernel: no atomics, and the grid does not change it."""
    graph = GRAPHS["full sum"]()
    made = emitted(graph)
    assert "atom." not in made.text and "\tred." not in made.text
    kernels = [x.kernel for x in made.program.launches]
    assert all(isinstance(k, Kernel) and k.grid is not None for k in kernels)
    assert "of thread ^ 16" in print_kernel(kernels[0])


def test_a_training_step_of_lenet():
    """30 kernels on one arena: forward, loss, gradients, momentum, new parameters."""
    graph = lenet_step(4)
    made = check(graph, step_inputs(graph, 4), interpret=False, scale=4)
    assert all(isinstance(x.kernel, Kernel) for x in made.program.launches)
