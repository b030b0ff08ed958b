"""The kernels of `attention` and `attention_grad` against the op's NumPy rule: odd sizes, masks, shared heads, dropout,
symbolic batch and length, under the loop interpreter, natively, for each ISA of the machine, with one thread and two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowering import SHARED, check, lowered

from vitrify.codegen.lower.attention_blocks import ranked_blocks
from vitrify.codegen.target import Target
from vitrify.ir import dims, dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Graph, Value
from vitrify.ir.op import op_named
from vitrify.ir.ops.attention import ATTRS, Array
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import compile_program, run_program

FORWARD, BACKWARD = op_named("attention"), op_named("attention_grad")
STATE = np.array([3, 4], np.int64)
INF = np.inf


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def graph_of(op: Any, arrays: list[Array], results: Any = None, **attrs: Any) -> Graph:
    builder = GraphBuilder(op.name)
    types = [TensorType(a.shape, dtypes.from_numpy(a.dtype)) for a in arrays]
    found = builder.apply(op, [builder.input(f"x{i}", t) for i, t in enumerate(types)], attrs)
    return builder.finish([found[i] for i in results or range(len(found))])


def full(attrs: dict[str, Any]) -> dict[str, Any]:
    return {name: attrs.get(name, attr.default) for name, attr in ATTRS.items()}


def rounded(arrays: list[Array], dtype: dtypes.DType) -> list[Array]:
    return [a.astype(dtype.numpy) if a.dtype == np.float32 else a for a in arrays]


def exactly(op: Any, given: list[Array], attrs: dict[str, Any], dtype: dtypes.DType) -> list[Array]:
    """The op's rule in float64, of the rounded operands."""
    wide = (a.astype(np.float64) if a.dtype == dtype.numpy else a for a in given)
    return list(op.numpy(*wide, **full(attrs)))


def near(found: list[Array], exact: list[Array], tolerance: float) -> None:
    """Errors below so much of the largest number."""
    for a, b in zip(found, exact, strict=True):
        size = np.abs(b[np.isfinite(b)]).max(initial=1e-3)
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=0, atol=tolerance * size)


def gradient_operands(arrays: list[Array], **attrs: Any) -> list[Array]:
    out, log_sum = FORWARD.numpy(*arrays, **full(attrs))
    dy = random(*out.shape).astype(out.dtype)
    q, k, v, *rest = arrays
    delta = np.add.reduce(dy.astype(log_sum.dtype) * out, axis=-1)
    return [dy, q, k, v, log_sum, delta, *rest]


def check_both(arrays: list[Array], interpret: bool = False, target: str = "", **attrs: Any) -> None:
    options = {"interpret": interpret, "target": target, "scale": 4.0}
    check(graph_of(FORWARD, arrays, **attrs), arrays, **options)
    grads = gradient_operands(arrays, **attrs)
    check(graph_of(BACKWARD, grads, **attrs), grads, **options)


def seen(*shape: int, share: float = 0.5) -> Array:
    return np.random.default_rng(5).random(shape) < share


CASES: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("odd", [random(2, 40, 24), random(2, 70, 24), random(2, 70, 20)], {}),
    ("causal", [random(1, 2, 70, 16)] * 3, {"causal": True}),
    ("causal, more queries", [random(2, 90, 8), random(2, 33, 8), random(2, 33, 8)], {"causal": True}),
    ("causal, more keys", [random(2, 33, 8), random(2, 200, 8), random(2, 200, 8)], {"causal": True}),
    ("shared heads", [random(1, 4, 33, 16), random(1, 2, 65, 16), random(1, 2, 65, 16), random(33, 65)], {}),
    ("bool mask", [random(3, 33, 16), random(3, 65, 16), random(3, 65, 16), seen(3, 33, 65)], {"safe": True}),
    (
        "hidden rows",
        [random(3, 33, 16), random(3, 65, 16), random(3, 65, 16), seen(3, 1, 65, share=0.02)],
        {"safe": True},
    ),
    (
        "dropout",
        [random(3, 33, 16), random(3, 65, 16), random(3, 65, 16), STATE],
        {"p": 0.3, "stream": 1},
    ),
    ("dropout in fours", [random(3, 33, 16), random(3, 68, 16), random(3, 68, 16), STATE], {"p": 0.3}),
    ("one key", [random(2, 9, 5), random(2, 1, 5), random(2, 1, 3)], {}),
    ("doubles", [random(2, 40, 24).astype(np.float64)] * 3, {"causal": True}),
]


@pytest.mark.parametrize(("arrays", "attrs"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_kernels_compute_the_op(arrays: list[Array], attrs: dict[str, Any]) -> None:
    check_both(arrays, scale=0.3, **attrs)


PAIRS = "x86-64-avx512-dot"
SHORT = {"bf16": dtypes.bf16, "f16": dtypes.f16}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("dtype", SHORT.values(), ids=list(SHORT))
@pytest.mark.parametrize(
    ("target", "case"),
    [
        *(("", c) for c in CASES[:-1]),
        *((t, CASES[i]) for t in (PAIRS, "x86-64-avx512", "x86-64-avx2", "x86-64-sse2") for i in (0, 4)),
    ],
    ids=lambda x: x if isinstance(x, str) else x[0],
)
def test_short_numbers(
    target: str, case: tuple[str, list[Array], dict[str, Any]], dtype: dtypes.DType
) -> None:
    """Sums and softmax are in float32: what is rounded besides the results are weights that words hold. Errors are those
    of rounding the exact results, a few times over."""
    _, arrays, attrs = case
    arrays, attrs = rounded(arrays, dtype), {"scale": 0.3, **attrs}
    machine = Target.named(target) if target else Target.host()
    if machine.has("avx512bf16") and not Target.host().has("avx512bf16"):
        pytest.skip("needs AVX512-BF16")
    places = 8 if dtype is dtypes.bf16 else 11
    for op, given in ((FORWARD, arrays), (BACKWARD, gradient_operands(arrays, **attrs))):
        graph = graph_of(op, given, **attrs)
        program = lowered(graph, target)
        words = any("dot_bf16" in str(launch.kernel) for launch in program.launches)
        even = all(n % 2 == 0 for n in arrays[0].shape[-1:] + arrays[2].shape[-1:])
        tiles = machine.has_tiles("dot_bf16") and all(
            n % 16 == 0 and rows >= 32 for *_, rows, n in (a.shape for a in arrays[:3])
        )
        pairs = machine.has("avx512bf16") and not machine.has_slow_pairs
        assert words == (dtype is dtypes.bf16 and even and (pairs or tiles))
        loaded = compile_program(program)
        one, two = (run_program(program, given, {}, threads, loaded=loaded) for threads in (1, 2))
        assert [a.tobytes() for a in one] == [b.tobytes() for b in two]
        near(one, exactly(op, given, attrs, dtype), 3 / 2**places)


@pytest.mark.parametrize("dtype", SHORT.values(), ids=list(SHORT))
@pytest.mark.parametrize("attrs", [{}, {"causal": True}], ids=str)
def test_loops_mean_the_op_in_short_numbers(attrs: dict[str, Any], dtype: dtypes.DType) -> None:
    arrays = [random(1, 9, 4), random(1, 67, 4), random(1, 67, 2)]
    check_both([a.astype(dtype.numpy) for a in arrays], interpret=True, scale=0.5, **attrs)


@pytest.mark.parametrize("dtype", SHORT.values(), ids=list(SHORT))
def test_short_numbers_that_are_no_numbers(dtype: dtypes.DType) -> None:
    q, k, v = (random(1, n, 8).astype(dtype.numpy) for n in (17, 13, 13))
    mask = np.zeros((17, 13), np.float32)
    mask[3] = -INF
    check_both([q, k, v, mask], safe=True)
    check_both([q, k, v, mask.astype(dtype.numpy)])
    for number in (np.nan, INF):
        k[0, 5, 2] = number
        check_both([q, k, v, mask.astype(dtype.numpy)], safe=True)


@pytest.mark.parametrize("attrs", [{}, {"causal": True}, {"p": 0.5}], ids=str)
def test_loops_mean_the_op(attrs: dict[str, Any]) -> None:
    arrays = [random(1, 9, 3), random(1, 67, 3), random(1, 67, 2), *([STATE] if "p" in attrs else [])]
    check_both(arrays, interpret=True, scale=0.5, **attrs)


@pytest.mark.parametrize("target", ["x86-64-avx2", "x86-64-sse2"])
def test_other_instruction_sets(target: str) -> None:
    check_both([random(2, 33, 24), random(2, 70, 24), random(2, 70, 20)], target=target, causal=True)


def test_hidden_rows_are_nan_unless_safe() -> None:
    q, k, v, mask = random(1, 16, 8), random(1, 12, 8), random(1, 12, 8), np.zeros((16, 12), np.float32)
    mask[3] = -INF
    check_both([q, k, v, mask])
    check_both([q, k, v, mask], safe=True)
    k[0, 5, 2] = np.nan
    check_both([q, k, v, mask])
    k[0, 5, 2] = INF
    check_both([q, k, v, mask], safe=True)


def test_a_row_of_the_least_numbers_weighs_all_keys_alike() -> None:
    """Though what is added to them is lost beside the mask's numbers."""
    q, k, v, mask = random(1, 40, 8), random(1, 12, 8), random(1, 12, 8), np.zeros((40, 12), np.float32)
    mask[3] = np.finfo(np.float32).min
    check_both([q, k, v, mask])
    np.testing.assert_allclose(
        FORWARD.numpy(q, k, v, mask, **{n: a.default for n, a in ATTRS.items()})[0][0, 3], v[0].mean(0), 1e-5
    )


def test_scores_may_lie_far_apart() -> None:
    arrays = [random(1, 40, 8), random(1, 70, 8) * 40, random(1, 70, 8)]
    check(graph_of(FORWARD, arrays), arrays, interpret=False, scale=4.0)


def test_blocks_suit_the_registers_and_the_rows() -> None:
    """With sixteen registers three vectors of queries, where that does not compute many queries for nothing."""

    def usual(rows: int, registers: int) -> tuple[int, int]:
        return ranked_blocks(rows, 2048, 8, registers, 1 << 30, 1)[0].plan

    assert [usual(rows, 32) for rows in (7, 128, 512, 2048)] == [(1, 64), (2, 64), (2, 64), (2, 64)]
    assert [usual(rows, 16) for rows in (7, 128, 512, 2048)] == [(1, 64), (2, 64), (3, 64), (3, 64)]


def test_words_are_woven_where_the_machine_multiplies_them() -> None:
    arrays = [random(2, 41, 24).astype(dtypes.bf16.numpy)] * 3
    graphs = graph_of(FORWARD, arrays), graph_of(BACKWARD, gradient_operands(arrays))
    for graph in graphs:
        launches = lowered(graph, "x86-64-avx512-dot").launches
        assert any("woven_operand" in launch.kernel.name for launch in launches)


@pytest.mark.parametrize("rows", [24, 48, 51])
def test_blocks_of_three_vectors(rows: int) -> None:
    check_both([random(2, rows, 24), random(2, 70, 24), random(2, 70, 40)], target="x86-64-avx2", causal=True)


@pytest.mark.parametrize("results", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_gradients_that_nobody_wants_are_not_made(results: tuple[int, ...]) -> None:
    arrays = gradient_operands([random(2, 40, 16)] * 3)
    check(graph_of(BACKWARD, arrays, results), arrays, interpret=False, scale=4.0)


def test_batch_and_lengths_may_be_symbols() -> None:
    batch, rows, columns = (dims.Dim(n, 1, 300) for n in ("batch", "rows", "columns"))
    builder = GraphBuilder("symbolic")
    q = builder.input("q", TensorType((batch, 3, rows, 16), dtypes.f32))
    k, v = (builder.input(n, TensorType((batch, 3, columns, 16), dtypes.f32)) for n in "kv")
    out, log_sum = builder.attention(q, k, v, scale=0.25, causal=True)
    dy = builder.mul(out, 0.5)
    delta = builder.sum(builder.mul(dy, out), dims=(3,), keepdim=False)
    grads = builder.attention_grad(dy, q, k, v, log_sum, delta, scale=0.25, causal=True)
    graph = builder.finish([out, *grads])
    sizes = ((1, 33, 70), (2, 64, 64), (3, 1, 5))
    inputs = [[random(b, 3, r, 16), random(b, 3, c, 16), random(b, 3, c, 16)] for b, r, c in sizes]
    check(graph, *inputs, interpret=False, scale=4.0)


def projected(F: GraphBuilder, x: Value, steps_first: bool) -> list[Value]:
    """The thirds of one projection by heads: [batch, heads, length, size] of [batch, length, 3 width]; or, of steps that
    come first, [batch * heads, length, size], as `nn.MultiheadAttention` has them."""
    first, second, width = x.type.shape[0], x.type.shape[1], x.type.shape[2] // 3
    parts = []
    for i in range(3):
        third = F.slice(x, starts=(0, 0, width * i), stops=(first, second, width * (i + 1)), steps=(1, 1, 1))
        if steps_first:
            heads = F.reshape(third, shape=(first, second * 4, width // 4))
            parts.append(F.permute(heads, dims=(1, 0, 2)))
        else:
            heads = F.reshape(third, shape=(first, second, 4, width // 4))
            parts.append(F.permute(heads, dims=(0, 2, 1, 3)))
    return parts


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.bf16], ids=str)
@pytest.mark.parametrize("steps_first", [False, True])
def test_query_key_and_value_are_read_where_they_lie(steps_first: bool, dtype: dtypes.DType) -> None:
    """The thirds of one projection, by heads: no copies of them before the kernel, but for words."""
    builder = GraphBuilder("projected")
    shape = (19, 6, 3 * 24) if steps_first else (3, 19, 3 * 24)
    x = builder.input("x", TensorType(shape, dtype))
    graph = builder.finish([builder.attention(*projected(builder, x, steps_first), scale=0.3)[0]])
    program = check(graph, [random(*shape).astype(dtype.numpy)], interpret=False, scale=4.0)
    assert not any("copy_operand" in launch.kernel.name for launch in program.launches)
    assert len(program.launches) == 1 or dtype is not dtypes.f32


def test_small_ones_and_long_rows_are_taken_apart() -> None:
    for arrays in (
        [random(2, 3, 8)] * 3,
        [random(2, 3, 8).astype(np.float16)] * 3,
        [random(2, 40, 300)] * 3,
    ):
        graph = graph_of(FORWARD, arrays, [0])
        check(graph, arrays, interpret=False, scale=4.0)
        assert all("attention" not in launch.source for launch in lowered(graph, options=SHARED).launches)
