"""The kernels of `attention` and `attention_grad` on a GPU, against the ops' NumPy rules: PTX in the simulator (which
finds races and accesses out of bounds), the loop interpreter, and what `ptxas` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowering import fused
from ptx_checks import Array, PtxProgram, assemble, check, emitted, simulate

from vitrify.codegen import gpu
from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.lower import LowerOptions
from vitrify.codegen.target import GpuTarget
from vitrify.ir import dims, dtypes, interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dtypes import DType
from vitrify.ir.graph import Graph
from vitrify.ir.op import op_named
from vitrify.ir.ops.attention import ATTRS
from vitrify.ir.types import TensorType

FORWARD, BACKWARD = op_named("attention"), op_named("attention_grad")
STATE = np.array([3, 4], np.int64)
TF32 = LowerOptions(tf32=("matmul",))


def random(*shape: int, dtype: DType = dtypes.bf16) -> Array:
    found: Array = np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype.numpy)
    return found


def operands(
    q: tuple[int, ...], k: tuple[int, ...], width: int = 0, dtype: DType = dtypes.bf16
) -> list[Array]:
    return [random(*shape, dtype=dtype) for shape in (q, k, (*k[:-1], width or k[-1]))]


def seen(*shape: int, share: float = 0.5) -> Array:
    return np.random.default_rng(5).random(shape) < share


def graph_of(op: Any, arrays: list[Array], **attrs: Any) -> Graph:
    builder = GraphBuilder(op.name)
    types = [TensorType(a.shape, dtypes.from_numpy(a.dtype)) for a in arrays]
    found = builder.apply(op, [builder.input(f"x{i}", t) for i, t in enumerate(types)], attrs)
    return builder.finish(list(found))


def gradient_operands(arrays: list[Array], **attrs: Any) -> list[Array]:
    full = {name: attrs.get(name, attr.default) for name, attr in ATTRS.items()}
    out, log_sum = FORWARD.numpy(*arrays, **full)
    dy = random(*out.shape, dtype=dtypes.from_numpy(out.dtype))
    q, k, v, *rest = arrays
    wide = log_sum.dtype
    return [dy, q, k, v, log_sum, np.add.reduce(dy.astype(wide) * out.astype(wide), axis=-1), *rest]


def check_both(arrays: list[Array], interpret: bool = False, **attrs: Any) -> list[PtxProgram]:
    grads = gradient_operands(arrays, **attrs)
    return [
        check(graph_of(op, given, **attrs), given, interpret=interpret, scale=2.0)
        for op, given in ((FORWARD, arrays), (BACKWARD, grads))
    ]


ROWS = ((1, 2, 70, 32), (1, 2, 70, 32))
CASES: dict[str, tuple[list[Array], dict[str, Any]]] = {
    "several tiles": (operands((1, 150, 16), (1, 200, 16)), {"scale": 0.25}),
    "odd size and width": (operands((2, 40, 21), (2, 70, 21), 19), {"scale": -0.3}),
    "size of one copy": (operands((2, 40, 24), (2, 70, 24), 40), {"scale": 0.2}),
    "causal": (operands(*ROWS), {"causal": True, "scale": 0.2}),
    "causal, more queries": (operands((2, 150, 16), (2, 33, 16)), {"causal": True}),
    "causal, more keys": (operands((2, 33, 16), (2, 200, 16)), {"causal": True}),
    "shared heads and an added mask": (
        [*operands((2, 4, 33, 16), (2, 2, 65, 16)), random(33, 65)],
        {"scale": 0.3},
    ),
    "float16, bool mask": (
        [*operands((3, 33, 16), (3, 65, 16), dtype=dtypes.f16), seen(3, 33, 65)],
        {"safe": True, "causal": True},
    ),
    "hidden rows": ([*operands((3, 33, 16), (3, 65, 16)), seen(3, 1, 65, share=0.02)], {"safe": True}),
    "hidden rows are NaN": ([*operands((3, 33, 16), (3, 65, 16)), seen(3, 33, 1)], {}),
    "dropout": ([*operands((3, 33, 16), (3, 65, 16)), STATE], {"p": 0.3, "stream": 1}),
    "dropout in fours, causal": ([*operands((1, 33, 16), (1, 68, 16)), STATE], {"p": 0.3, "causal": True}),
    "wide rows": (operands((1, 40, 256), (1, 40, 256), 200), {"scale": 0.05}),
    "one key": (operands((2, 9, 16), (2, 1, 16)), {}),
    "float32": (operands((2, 40, 24), (2, 70, 24), 40, dtype=dtypes.f32), {"scale": 0.2, "causal": True}),
    "float32, odd, dropout": (
        [*operands((1, 17, 5), (1, 35, 5), 7, dtype=dtypes.f32), random(17, 35, dtype=dtypes.f32), STATE],
        {"p": 0.5},
    ),
    "float64": (operands((1, 9, 3), (1, 8, 3), dtype=dtypes.f64), {"causal": True}),
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("arrays", "attrs"), CASES.values(), ids=CASES)
def test_kernels_agree_with_numpy(arrays: list[Array], attrs: dict[str, Any]) -> None:
    for made in check_both(arrays, **attrs):
        assert all(x.launch.kernel.comment.startswith("tile ") for x in made.launches)


GROUPS: dict[str, tuple[list[Array], dict[str, Any]]] = {
    "causal": (operands((1, 1, 150, 64), (1, 1, 200, 64)), {"causal": True, "scale": 0.125}),
    "two boxes, shared heads, a mask, dropout": (
        [*operands((1, 2, 70, 128), (1, 1, 65, 128), 64, dtypes.f16), seen(70, 65), STATE],
        {"safe": True, "scale": 0.09, "p": 0.2},
    ),
    "two boxes of values": (operands((1, 64, 64), (1, 64, 64), 128), {"scale": 0.125}),
}


@pytest.mark.parametrize(("arrays", "attrs"), GROUPS.values(), ids=GROUPS)
def test_warpgroups_agree_with_numpy(arrays: list[Array], attrs: dict[str, Any]) -> None:
    for made in check_both(arrays, **attrs):
        assert all("warpgroups" in x.launch.kernel.comment for x in made.launches)
        assert "wgmma" in made.text


def test_loops_say_what_warpgroups_do() -> None:
    arrays = operands((1, 64, 64), (1, 64, 64))
    check(graph_of(FORWARD, arrays, scale=0.125), arrays, scale=2.0)


def test_loops_say_what_tensor_cores_do() -> None:
    check_both(operands((1, 17, 8), (1, 18, 8)), interpret=True, causal=True, scale=0.3)


def test_loops_say_what_fma_units_do() -> None:
    arrays = operands((1, 9, 5), (1, 9, 5), dtype=dtypes.f32)
    check(graph_of(FORWARD, arrays, scale=0.3), arrays)


# What ptxas may spill, in bytes.
BUDGET = {dtypes.bf16: 8, dtypes.f32: 16}


@pytest.mark.sweep(5)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("dtype", [dtypes.bf16, dtypes.f32], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_kernels_assemble_within_the_budget(arch: str, dtype: DType, size: int, tmp_path: Path) -> None:
    """A long causal sequence, whose blocks fill the machine: the largest tiles."""
    rows = TensorType((4, 16, 2048, size), dtype)
    line = TensorType(rows.shape[:-1], dtypes.f32)
    for op, types in ((FORWARD, [rows] * 3), (BACKWARD, [rows] * 4 + [line] * 2)):
        builder = GraphBuilder(op.name)
        given = [builder.input(f"x{i}", t) for i, t in enumerate(types)]
        found = builder.apply(op, given, {"causal": True, "scale": 0.125})
        made = emitted(builder.finish(list(found)), arch)
        for name, kernel in assemble(made.text, arch, tmp_path).items():
            assert kernel.spilled <= BUDGET[dtype], f"{op.name} {name}: {kernel}"
        assert all(launch.shared_bytes <= made.target.most_shared_bytes for launch in made.launches)


@pytest.mark.parametrize("arch", ["sm_70", "sm_86", "sm_90a"])
@pytest.mark.parametrize("dtype", [dtypes.f16, dtypes.f32], ids=lambda dtype: dtype.name)
def test_every_size_of_row_has_a_tile(arch: str, dtype: DType) -> None:
    target = GpuTarget.named(arch)
    for size in (1, 64, 100, 256):
        rows = TensorType((1, 1, 300, size), dtype)
        line = TensorType(rows.shape[:-1], dtypes.f32)
        for op, types in ((FORWARD, [rows] * 3), (BACKWARD, [rows] * 4 + [line] * 2)):
            builder = GraphBuilder(op.name)
            found = builder.apply(op, [builder.input(f"x{i}", t) for i, t in enumerate(types)], {})
            program = gpu.lower_graph(fused(builder.finish(list(found))), target)
            assert program.launches


@pytest.mark.parametrize(
    ("q", "k"), [((2, 40, 24), (2, 70, 24)), ((1, 20, 16), (1, 18, 16))], ids=["tiles", "loops"]
)
def test_tf32(q: tuple[int, ...], k: tuple[int, ...]) -> None:
    """Products of numbers rounded to 10 bits behind the point."""
    arrays = operands(q, k, dtype=dtypes.f32)
    attrs = {"causal": True, "scale": 0.3}
    for op, given in ((FORWARD, arrays), (BACKWARD, gradient_operands(arrays, **attrs))):
        graph = graph_of(op, given, **attrs)
        made = emitted(graph, options=TF32)
        assert "m16n8k8.row.col.f32.tf32" in made.text
        want, (got, code) = interpreter.run(graph, given), simulate(made, given, {})
        assert code == 0
        results = [got]
        if q == (1, 20, 16):
            results.append(loops.run_program(made.program, given, {})[0])
        for found in results:
            for a, b in zip(found, want, strict=True):
                np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("op", [FORWARD, BACKWARD], ids=lambda op: op.name)
def test_one_program_for_every_batch_and_length(op: Any) -> None:
    batch, length = dims.Dim("batch", 1, 4), dims.Dim("length", 1, 100)
    given = operands((2, 2, 40, 16), (2, 2, 40, 16))
    full = given if op is FORWARD else gradient_operands(given, causal=True)
    builder = GraphBuilder(op.name)
    types = [TensorType((batch, 2, length, *a.shape[3:]), dtypes.from_numpy(a.dtype)) for a in full]
    found = builder.apply(op, [builder.input(f"x{i}", t) for i, t in enumerate(types)], {"causal": True})
    graph = builder.finish(list(found))
    sizes = [operands((n, 2, l, 16), (n, 2, l, 16)) for n, l in ((1, 65), (2, 9))]
    if op is BACKWARD:
        sizes = [gradient_operands(arrays, causal=True) for arrays in sizes]
    check(graph, *sizes, interpret=False, scale=2.0)
