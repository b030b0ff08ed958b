"""Sums of products of bfloat16 pairs and 8-bit fours: the operations, and contractions in words.

Native code in fours and of bfloat16 needs a processor with AVX512-BF16 and VNNI, in pairs of integers any x86; the loop
interpreter needs nothing.
"""

from __future__ import annotations

import numpy as np
import pytest
from contractions import check, close, group, interpret, lowered, operands_of
from test_lower_gemm import FORMS, SIZES, matrices

from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.nodes import Apply, Buffer, Const, For, Kernel, Launch, Load, Program, Store
from vitrify.codegen.loops.verify import LoopError, verify_program
from vitrify.codegen.lower import contraction_lower
from vitrify.codegen.lower.choices import Candidate
from vitrify.codegen.lower.contraction_forms import Chosen
from vitrify.codegen.lower.contraction_merge import merge_axes
from vitrify.codegen.lower.contraction_plan import Choice
from vitrify.codegen.lower.contraction_words import in_words
from vitrify.codegen.packed import PACKED, dot, pack, packing, per_word
from vitrify.codegen.target import Target
from vitrify.ir import dims, dtypes
from vitrify.ir import interpreter as ir_interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import compile_program, run_program

HOST = Target.host()
NATIVE = pytest.mark.skipif(
    not (HOST.has("avx512bf16") and HOST.has("avx512vnni")), reason="needs AVX512-BF16 and VNNI"
)
WORDS = "x86-64-avx512-dot"
LANES = 16
SIZE = 3 * LANES - 5


def _special(dtype: dtypes.DType, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Numbers of the dtype, some of them denormal, infinite, NaN or the largest there are."""
    if not dtype.is_floating_point:
        info = np.iinfo(dtype.numpy)
        return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype.numpy)
    found = rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 12, shape)
    odd = rng.random(shape) < 0.1
    found[odd] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-39, -1e-39, 2.0**-126, 3e38], odd.sum())
    return found.astype(np.float32).astype(dtype.numpy)


def _words_program(op: str, loop: str, apart: bool) -> Program:
    """y[i] = dot(total[i], word i of a, word i of b); the numbers of a word lie side by side or `apart`."""
    total_type, result = PACKED[op][0][0], PACKED[op][1]
    left, right = (dtypes.bf16,) * 2 if op == "dot_bf16" else (dtypes.u8, dtypes.i8)
    count = per_word(packing(op, left))
    total, out = Buffer("t", total_type, (SIZE,)), Buffer("y", result, (SIZE,))
    a, b = (Buffer(n, d, (count, SIZE) if apart else (SIZE, count)) for n, d in (("a", left), ("b", right)))

    def value(at: dims.DimLike):
        words = [
            pack(packing(op, x.dtype), [Load(x, (k, at) if apart else (at, k)) for k in range(count)])
            for x in (a, b)
        ]
        return dot(op, Load(total, (at,)), *words)

    if loop == "scalar":
        i = dims.symbol("i", 0, SIZE - 1)
        body = (For("i", SIZE, (Store(out, (i,), value(i)),)),)
    else:
        whole, rest = divmod(SIZE, LANES)
        v = dims.symbol("v", 0, LANES - 1)
        at = dims.symbol("i", 0, whole - 1) * LANES + v
        full = For("v", LANES, (Store(out, (at,), value(at)),), "vector", LANES)
        end = whole * LANES + v
        last = For("v", rest, (Store(out, (end,), value(end)),), "vector", LANES)
        body = (For("i", whole, (full,)), last)
    kernel = Kernel(op, (total, a, b, out), frozenset({"y"}), body)
    return Program(op, (total, a, b), (out,), (), (Launch(kernel, (total, a, b, out)),))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("loop", ["scalar", "vector"])
@pytest.mark.parametrize("op", ["dot_bf16", "dot_u8i8", "dot_i16"])
def test_operations_are_to_the_bit_what_the_interpreter_says(op, loop, apart):
    if not HOST.has_dot(op):
        pytest.skip(f"this processor has no {op}")
    program = _words_program(op, loop, apart)
    verify_program(program)
    rng = np.random.default_rng(3)
    for _ in range(8):
        arrays = [_special(b.dtype, b.shape, rng) for b in program.inputs]
        (want,), status = interpreter.run_program(program, arrays)
        (got,) = run_program(program, arrays)
        assert status == 0
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[want == 0]))


def test_denormal_numbers_are_zeros_to_the_product_of_bfloat16():
    def value(total: float, pairs: list[tuple[float, float]]) -> float:
        x, y = (pack("pack_bf16", [Const(p[i], dtypes.bf16) for p in pairs]) for i in (0, 1))
        out = Buffer("y", dtypes.f32, (1,))
        stored = Store(out, (0,), dot("dot_bf16", Const(total, dtypes.f32), x, y))
        program = Program(
            "d", (), (out,), (), (Launch(Kernel("d", (out,), frozenset({"y"}), (stored,)), (out,)),)
        )
        return float(interpreter.run_program(program, [])[0][0][0])

    assert value(1e-40, [(1.0, 1.0)]) == 1.0
    assert value(0.0, [(1e-39, 2.0**100)]) == 0.0
    assert value(0.0, [(2.0**-64, 2.0**-63), (2.0**-64, 2.0**-63)]) == 0.0  # each product is denormal
    assert value(3.0, [(2.0, 4.0), (5.0, 0.5)]) == 13.5


def test_operations_take_only_their_dtypes():
    out = Buffer("y", dtypes.u32, (1,))
    wrong = Apply("pack_i8", (Const(1, dtypes.u8),) * 4, dtypes.u32)
    kernel = Kernel("d", (out,), frozenset({"y"}), (Store(out, (0,), wrong),))
    with pytest.raises(LoopError, match="pack_i8 takes i8, i8, i8, i8 and gives u32"):
        verify_program(Program("d", (), (out,), (), (Launch(kernel, (out,)),)))


def _comment(program: Program) -> str:
    return " ".join(x.kernel.comment for x in program.launches)


def integers(m: int, k: int, n: int, left=dtypes.u8, right=dtypes.i8, transposed: bool = False):
    """The product of 8-bit matrices in int32."""
    types = TensorType((m, k), left), TensorType((n, k) if transposed else (k, n), right)

    def make(F, x, y):
        x, y = F.convert(x, dtype=dtypes.i32), F.convert(y, dtype=dtypes.i32)
        return F.matmul(x, F.permute(y, dims=(1, 0)) if transposed else y)

    return group(types, make)


@NATIVE
@pytest.mark.parametrize("size", [*SIZES, (128, 130, 96), (65, 257, 70)], ids=str)
def test_every_transpose_of_bfloat16(size):
    for left in (False, True):
        for right in (False, True):
            check(matrices(*size, dtypes.bf16, left=left, right=right), depth=size[1], target=WORDS)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("target", [WORDS, "x86-64-avx512", "x86-64-avx2", "x86-64-sse2", "aarch64-neon"])
@pytest.mark.parametrize("size", [(1, 10, 11), (5, 3, 18), (9, 8, 5), (13, 2, 37), (3, 0, 4)], ids=str)
def test_under_the_loop_interpreter(target, size):
    for dtype in (dtypes.bf16, dtypes.f16):
        for left, right in ((False, False), (True, True)):
            interpret(matrices(*size, dtype, left=left, right=right), target)
    for transposed in (False, True):
        interpret(integers(*size, transposed=transposed), target)


def _runs_here(target: str) -> bool:
    levels = {"sse2": 0, "avx2": 1, "avx512": 2, "avx512-dot": 3}
    here = {"sse2": 0, "avx2": 1, "avx512": 2}.get(HOST.isa, -1)
    if HOST.has("avx512bf16") and HOST.has("avx512vnni"):
        here = 3
    return levels[target.removeprefix("x86-64-")] <= here


@pytest.mark.parametrize("target", [WORDS, "x86-64-avx512", "x86-64-avx2", "x86-64-sse2"])
def test_every_instruction_set_that_runs_here(target):
    if not _runs_here(target):
        pytest.skip(f"{target} does not run here")
    for dtype in (dtypes.bf16, dtypes.f16):
        for graph in (
            matrices(33, 71, 50, dtype, right=True),
            matrices(64, 64, 64, dtype),
            matrices(1, 130, 40, dtype, right=True),
            convolution(((2, 6, 9, 8), (8, 6, 3, 3), 1, 1, 1, 1), dtype=dtype),
        ):
            program, inputs = lowered(graph, target), operands_of(graph, {})
            (got,) = run_program(program, inputs, target=Target.named(target))
            (want,) = ir_interpreter.run(graph, inputs, {})
            np.testing.assert_allclose(
                got.astype(np.float32), want.astype(np.float32), rtol=2e-2, atol=2e-2 * np.abs(want).max()
            )
    graph = integers(33, 70, 50)
    (got,) = run_program(lowered(graph, target), operands_of(graph, {}), target=Target.named(target))
    np.testing.assert_array_equal(got, ir_interpreter.run(graph, operands_of(graph, {}), {})[0])


def _force(monkeypatch, plan) -> None:
    """Every contraction that can be is in words, walked by this plan."""

    def forms(ctx, problem, elements, target, count):
        words = in_words(ctx, problem, target)
        merged, stored = merge_axes(ctx, problem if words is None else words.problem, elements)
        return [Candidate("forced", 0.0, Chosen(merged, stored, (), (Choice(plan),)))]

    monkeypatch.setattr(contraction_lower, "ranked_forms", forms)


ALIKE = [(dtypes.i8, dtypes.i8), (dtypes.u8, dtypes.u8)]


def extreme_operands(graph, bindings=None, seed=0):
    """Operands of all 8-bit integers there are."""
    rng, found = np.random.default_rng(seed), []
    for value in graph.inputs:
        info = np.iinfo(value.type.dtype.numpy)
        shape = tuple(dims.evaluate(d, bindings or {}) for d in value.type.shape)
        found.append(rng.integers(info.min, info.max, shape, endpoint=True).astype(info.dtype))
    return found


@NATIVE
@pytest.mark.parametrize(
    "size", [*SIZES, (128, 130, 96), (65, 256, 70), (1, 1024, 64), (3, 4096, 5)], ids=str
)
@pytest.mark.parametrize("types", ALIKE, ids=str)
def test_products_of_integers_of_one_kind_are_in_words(types, size):
    for transposed in (False, True):
        graph = integers(*size, *types, transposed=transposed)
        program, inputs = lowered(graph), extreme_operands(graph)
        (want,) = ir_interpreter.run(graph, inputs, {})
        loaded = compile_program(program)
        for threads in (1, 2, 3):
            np.testing.assert_array_equal(
                run_program(program, inputs, threads=threads, loaded=loaded)[0], want
            )
    if size == (65, 256, 70):
        assert "dot_u8i8" in _comment(program)


def test_products_of_integers_of_one_kind_with_symbolic_rows_and_a_batch():
    rows = Dim("rows", 0, 64)
    check(integers(rows, 64, 70, *ALIKE[0]), [{"rows": n} for n in (0, 1, 3, 17, 64)])
    x, y = TensorType((2, 1, rows, 36), dtypes.i8), TensorType((3, 36, 41), dtypes.i8)
    graph = group([x, y], lambda F, x, y: F.matmul(*(F.convert(z, dtype=dtypes.i32) for z in (x, y))))
    check(graph, [{"rows": n} for n in (1, 5)])


@pytest.mark.sweep(4)
@pytest.mark.parametrize("target", [WORDS, "x86-64-avx512", "x86-64-avx2", "x86-64-sse2", "aarch64-neon"])
@pytest.mark.parametrize(
    "size", [(1, 10, 11), (5, 3, 18), (9, 8, 5), (13, 2, 37), (3, 0, 4), (17, 12, 33)], ids=str
)
@pytest.mark.parametrize("types", ALIKE, ids=str)
def test_integers_of_one_kind_under_the_loop_interpreter(target, size, types):
    for transposed in (False, True):
        interpret(integers(*size, *types, transposed=transposed), target)


@NATIVE
@pytest.mark.parametrize("plan", FORMS, ids=str)
@pytest.mark.parametrize("size", [(17, 36, 41), (8, 8, 32), (3, 64, 18)], ids=str)
def test_every_form(monkeypatch, plan, size):
    _force(monkeypatch, plan)
    for left, right in ((False, False), (True, True)):
        check(matrices(*size, dtypes.bf16, left=left, right=right), depth=size[1], target=WORDS)
        if size[0] == 8:
            interpret(matrices(*size, dtypes.bf16, left=left, right=right), WORDS)
    for transposed in (False, True):
        check(integers(*size, transposed=transposed))


@NATIVE
@pytest.mark.parametrize("size", [(17, 37, 41), (5, 7, 18), (16, 2, 33), (4, 67, 16)], ids=str)
def test_words_past_the_end_of_the_sum_are_filled(monkeypatch, size):
    _force(monkeypatch, FORMS[2])  # both operands packed
    for left, right in ((False, False), (True, True)):
        check(matrices(*size, dtypes.bf16, left=left, right=right), depth=size[1], target=WORDS)
        interpret(matrices(*size, dtypes.bf16, left=left, right=right), WORDS, depth=size[1])
    if size[1] > 3:
        for transposed in (False, True):
            check(integers(*size, transposed=transposed))


@NATIVE
@pytest.mark.parametrize("place", ["rows", "sum", "columns", "batch"])
def test_symbolic_batch(place):
    batch = Dim("batch", 0, 256)
    shapes = {
        "rows": ((batch, 40), (40, 33)),
        "sum": ((30, batch), (batch, 33)),
        "columns": ((30, 17), (17, batch)),
        "batch": ((batch, 9, 17), (batch, 17, 20)),
    }[place]
    graph = group([TensorType(s, dtypes.bf16) for s in shapes], lambda F, x, y: F.matmul(x, y))
    assert "in words" in _comment(
        check(graph, [{"batch": b} for b in (0, 1, 7, 16, 64, 65)], depth=65, target=WORDS)
    )


@pytest.mark.parametrize("size", [(512, 512, 512), (1, 1024, 1024), (64, 400, 120), (333, 127, 65)], ids=str)
def test_bfloat16_is_multiplied_in_pairs_where_the_target_can(size):
    for right in (False, True):
        graph = matrices(*size, dtypes.bf16, right=right)
        assert ("in words" in _comment(lowered(graph, WORDS))) and (
            "in words" not in _comment(lowered(graph, "x86-64-avx2"))
        )


def test_a_float32_sum_of_bfloat16_factors_is_rounded_once():
    """`addmm` of bfloat16: the bias is added to the sum, not to a rounded sum."""
    types = [TensorType(s, dtypes.bf16) for s in ((20, 64), (64, 24), (24,))]

    def make(F, x, w, bias):
        wide = [F.convert(v, dtype=dtypes.f32) for v in (x, w, bias)]
        return F.convert(F.add(F.matmul(*wide[:2]), wide[2]), dtype=dtypes.bf16)

    graph = group(types, make)
    assert "in words" in _comment(lowered(graph, WORDS))
    x, w, bias = (a.astype(np.float32) for a in operands_of(graph, {}))
    (got,), _ = interpreter.run_program(lowered(graph, WORDS), operands_of(graph, {}))
    exact = x.astype(np.float64) @ w + bias
    close(got, exact.astype(dtypes.bf16.numpy), exact, 64)
    assert (got == exact.astype(np.float32).astype(dtypes.bf16.numpy)).mean() > 0.95


@NATIVE
def test_integers_wrap_as_int32_does():
    graph = integers(4, 262144, 16)
    x = np.full((4, 262144), 255, np.uint8)
    y = np.full((262144, 16), 127, np.int8)
    (got,) = run_program(lowered(graph), [x, y])
    np.testing.assert_array_equal(got, np.full((4, 16), 255 * 127 * 262144).astype(np.int32))


# x, weight, stride, padding, dilation, groups.
CONVOLUTIONS = [
    ((2, 4, 9, 7), (6, 4, 3, 3), 1, 1, 1, 1),
    ((1, 3, 8, 8), (5, 3, 3, 3), 1, 1, 1, 1),  # words do not fill three channels
    ((2, 8, 6, 6), (10, 8, 1, 1), 1, 0, 1, 1),
    ((1, 8, 9, 9), (8, 4, 3, 3), 2, 1, 1, 2),
    ((2, 6, 10, 5), (4, 6, 3, 2), 1, 0, 2, 1),
    ((1, 4, 7, 6), (4, 1, 3, 3), 1, 1, 1, 4),
]


def convolution(case, kind: str = "conv", dtype: dtypes.DType = dtypes.bf16):
    x, w, stride, padding, dilation, groups = case
    attrs = {
        "stride": (stride,) * 2,
        "padding": (padding,) * 2,
        "dilation": (dilation,) * 2,
        "groups": groups,
    }
    space = [
        (n + 2 * padding - (k - 1) * dilation - 1) // stride + 1 for n, k in zip(x[2:], w[2:], strict=True)
    ]
    y = (x[0], w[0], *space)
    shapes = {"conv": (x, w), "conv_input_grad": (y, w), "conv_weight_grad": (x, y)}[kind]

    def make(F, a, b):
        size = {"conv_input_grad": {"input_size": x}, "conv_weight_grad": {"weight_size": w}}.get(kind, {})
        return getattr(F, kind)(a, b, **attrs, **size)

    return group([TensorType(s, dtype) for s in shapes], make)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions(case):
    for dtype in (dtypes.bf16, dtypes.f16):
        for kind in ("conv", "conv_input_grad", "conv_weight_grad"):
            check(convolution(case, kind, dtype), depth=200)


@pytest.mark.parametrize("target", [WORDS, "x86-64-avx2"])
@pytest.mark.parametrize(
    "case", [((1, 2, 5, 4), (3, 2, 3, 3), 1, 1, 1, 1), ((2, 4, 4, 3), (2, 4, 2, 1), 1, 0, 1, 1)]
)
def test_convolutions_under_the_loop_interpreter(target, case):
    for kind in ("conv", "conv_input_grad", "conv_weight_grad"):
        interpret(convolution(case, kind), target)


def test_converted_factors_are_bordered_and_copied_as_they_are_stored():
    """Convolutions of bfloat16 with a bias convert to float32 first (`ir/half_precision.py`)."""
    types = [TensorType(s, dtypes.bf16) for s in ((1, 32, 12, 12), (48, 32, 5, 5), (48, 1, 1))]
    attrs = {"stride": (2, 2), "padding": (2, 2), "dilation": (1, 1), "groups": 1}

    def make(F, x, w, bias):
        wide = [F.convert(v, dtype=dtypes.f32) for v in (x, w, bias)]
        return F.convert(F.add(F.conv(*wide[:2], **attrs), wide[2]), dtype=dtypes.bf16)

    graph = group(types, make)
    assert "in words" in _comment(lowered(graph, WORDS))
    check(graph, depth=800)
    odd = [TensorType(s, dtypes.bf16) for s in ((64, 36), (48, 48))]
    turned = group(
        odd,
        lambda F, x, w: F.matmul(
            F.convert(F.reshape(F.permute(x, dims=(1, 0)), shape=(48, 48)), dtype=dtypes.f32),
            F.convert(w, dtype=dtypes.f32),
        ),
    )
    assert "in words" in _comment(lowered(turned, WORDS))
    check(turned, depth=48)


def test_an_image_is_woven_where_its_channels_are_apart():
    graph = convolution(((1, 64, 28, 28), (64, 64, 5, 5), 1, 2, 1, 1))
    names = [launch.kernel.name for launch in lowered(graph, WORDS).launches]
    assert any(name.startswith("woven") for name in names) and "in words" in _comment(lowered(graph, WORDS))
    names = [launch.kernel.name for launch in lowered(graph, "x86-64-avx2").launches]
    assert any(name.startswith("widened") for name in names)


def test_convolutions_by_winograd_read_short_numbers():
    for dtype in (dtypes.bf16, dtypes.f16):
        graph = convolution(((2, 64, 28, 27), (64, 64, 3, 3), 1, 1, 1, 1), dtype=dtype)
        program = check(graph, depth=576)
        if HOST.isa == "avx512" and not HOST.has_tiles("dot_bf16"):
            assert any(x.kernel.name.startswith("winograd") for x in program.launches)
