"""Matrix products lowered: every transpose, size and dtype, epilogues, batches, symbolic dims."""

from __future__ import annotations

import numpy as np
import pytest
from contractions import check, group, interpret, lowered

from vitrify.codegen.loops.printer import print_program
from vitrify.codegen.lower import contraction_lower
from vitrify.codegen.lower.choices import Candidate
from vitrify.codegen.lower.contraction_forms import Chosen
from vitrify.codegen.lower.contraction_merge import merge_axes
from vitrify.codegen.lower.contraction_plan import Choice
from vitrify.codegen.lower.tiling import Plan
from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.graph import IRError
from vitrify.ir.types import TensorType

SIZES = (
    (1, 1, 1),
    (1, 400, 120),
    (7, 3, 5),
    (13, 17, 16),
    (64, 33, 10),
    (6, 64, 65),
    (50, 1, 100),
    (97, 70, 66),
)


def matrices(m, k, n, dtype=dtypes.f32, left=False, right=False):
    a = TensorType((k, m) if left else (m, k), dtype)
    b = TensorType((n, k) if right else (k, n), dtype)

    def make(F, x, y):
        x = F.permute(x, dims=(1, 0)) if left else x
        y = F.permute(y, dims=(1, 0)) if right else y
        return F.matmul(x, y)

    return group((a, b), make)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)], ids=str)
def test_every_transpose(size, transposed):
    check(matrices(*size, left=transposed[0], right=transposed[1]), depth=size[1])


@pytest.mark.parametrize("size", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)], ids=str)
def test_zero_sizes(size):
    check(matrices(*size))


@pytest.mark.parametrize(
    "dtype", [dtypes.f64, dtypes.f16, dtypes.bf16, dtypes.i8, dtypes.u8, dtypes.i32, dtypes.i64]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_dtypes(dtype, transposed):
    check(matrices(7, 37, 21, dtype, right=transposed), depth=37)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 4, 9), (5, 9, 7)),
        ((5, 4, 9), (9, 7)),
        ((4, 9), (3, 9, 7)),
        ((2, 1, 4, 9), (3, 9, 17)),
        ((2, 3, 1, 9), (2, 1, 9, 33)),
    ],
    ids=str,
)
def test_batches_broadcast(a, b):
    check(group((TensorType(a, dtypes.f32), TensorType(b, dtypes.f32)), lambda F, x, y: F.matmul(x, y)))


def test_epilogue_and_several_results():
    types = [TensorType(s, dtypes.f32) for s in ((20, 30), (40, 30), (40,), (20, 40))]

    def make(F, x, w, bias, residual):
        y = F.add(F.matmul(x, F.permute(w, dims=(1, 0))), bias)
        return F.maximum(y, 0.0), F.where(F.gt(residual, 0.0), y, residual)

    check(group(types, make))


def with_residual(rows, inner, dtype=dtypes.f32):
    types = [TensorType(s, dtype) for s in ((rows, inner), (inner, 515), (515,), (rows, 515))]
    return group(types, lambda F, x, w, bias, residual: F.add(F.add(F.matmul(x, w), bias), residual))


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.bf16], ids=str)
@pytest.mark.parametrize("inner", [37, Dim("inner", 1, 200)], ids=str)
def test_what_an_epilogue_reads_is_fetched_while_the_sums_are_made(inner, dtype):
    """A part of the sums beside the fetches of each row of a tile."""
    graph = with_residual(Dim("rows", 1, 700), inner, dtype)
    program = check(graph, [{"rows": 3, "inner": 33}, {"rows": 301, "inner": 40}])
    assert "prefetch x3" in print_program(program) or dtype is dtypes.bf16


@pytest.mark.parametrize(("rows", "inner"), [(300, 5000), (300, 8), (40, 64)])
def test_what_would_be_gone_again_or_is_near_is_not_fetched(rows, inner):
    assert "prefetch x3" not in print_program(lowered(with_residual(rows, inner)))


def test_views_of_operands_fold_into_the_index():
    image, weight = TensorType((4, 16, 5, 5), dtypes.f32), TensorType((120, 400), dtypes.f32)
    flat = group(
        (image, weight), lambda F, x, w: F.matmul(F.reshape(x, shape=(4, 400)), F.permute(w, dims=(1, 0)))
    )
    assert not any("operand" in launch.kernel.name for launch in check(flat, depth=400).launches)
    every_other = group(
        (TensorType((9, 12), dtypes.f32), TensorType((6, 5), dtypes.f32)),
        lambda F, x, w: F.matmul(F.slice(x, starts=(1, 0), stops=(9, 12), steps=(3, 2)), w),
    )
    assert not any("operand" in launch.kernel.name for launch in check(every_other).launches)


def test_a_view_that_no_linear_index_reaches_is_copied():
    odd = group(
        (TensorType((9, 4), dtypes.f32), TensorType((6, 5), dtypes.f32)),
        lambda F, x, w: F.matmul(F.reshape(F.permute(x, dims=(1, 0)), shape=(6, 6)), w),
    )
    assert check(odd).launches[0].kernel.name.startswith("copy_operand")


SYMBOLIC = Dim("batch", 0, 256)


@pytest.mark.parametrize("place", ["rows", "sum", "columns", "batch"])
def test_symbolic_batch(place):
    shapes = {
        "rows": ((SYMBOLIC, 40), (40, 33)),
        "sum": ((30, SYMBOLIC), (SYMBOLIC, 33)),
        "columns": ((30, 17), (17, SYMBOLIC)),
        "batch": ((SYMBOLIC, 9, 17), (SYMBOLIC, 17, 20)),
    }[place]
    types = [TensorType(s, dtypes.f32) for s in shapes]
    graph = group(types, lambda F, x, y: F.matmul(x, y))
    check(graph, [{"batch": b} for b in (0, 1, 7, 16, 64, 65)], depth=65)


def test_nan_and_infinity_pass_through_only_where_they_stand():
    from vitrify.runtime.execute import run_program

    graph = matrices(5, 20, 19)
    program = lowered(graph)
    x, y = np.ones((5, 20), np.float32), np.ones((20, 19), np.float32)
    x[2, 3], y[1, 18] = np.nan, np.inf
    (got,) = run_program(program, [x, y])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, x @ y)


def test_two_contractions_in_one_group_are_refused():
    types = [TensorType((4, 4), dtypes.f32)] * 2
    with pytest.raises(IRError, match="holds one contraction"):
        lowered(group(types, lambda F, x, y: F.matmul(F.matmul(x, y), y)))


TARGETS = ["x86-64-avx512", "x86-64-avx2", "x86-64-sse2", "aarch64-neon"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [(1, 9, 11), (5, 3, 18), (19, 4, 1), (13, 2, 37), (4, 0, 3)], ids=str)
def test_under_the_loop_interpreter(target, size):
    for left, right in ((False, False), (True, True)):
        interpret(matrices(*size, left=left, right=right), target)


def test_symbolic_sizes_under_the_loop_interpreter():
    batch = Dim("batch", 1, 64)
    for shapes in (((batch, 6), (6, 19)), ((4, batch), (batch, 5)), ((5, 3), (3, batch))):
        types = [TensorType(s, dtypes.f32) for s in shapes]
        graph = group(types, lambda F, x, y: F.matmul(x, y))
        interpret(graph, bindings=[{"batch": b} for b in (1, 2, 9, 17)])


FORMS = [
    Plan("n", 16, 2, {"m": 3}, ("n", "m"), unroll={"k": 4}),
    Plan("n", 16, 1, {"m": 5}, ("m", "n"), {"m": 2, "n": 1}, padded=True, packed={1: "n"}),
    Plan("n", 16, 2, {"m": 4}, ("n", "m"), {"n": 1, "m": 3}, packed={0: "m", 1: "n"}, padded=True),
    Plan("m", 16, 1, {"n": 6}, ("n", "m"), {"n": 2}, packed={0: "m"}, padded=True),
    Plan("m", 16, 2, {}, ("n", "m")),  # gathers
    # Several panels are filled at once, of either operand.
    Plan("n", 8, 1, {"m": 2}, ("n", "m"), {"n": 2}, packed={0: "m", 1: "n"}, padded=True),
    Plan("k", 16, 1, {"m": 2, "n": 3}, ("n", "m"), {"m": 4}),
    Plan("n", 16, 1, {"m": 2}, ("m", "n"), {"m": 1}, split="k", parts=3),
    Plan("k", 16, 1, {"n": 4}, ("m", "n"), split="k", parts=2),
    Plan("k", 16, 2, {}, ("n", "m")),
    Plan("k", 16, 4, {"m": 3}, ("n", "m"), {"n": 2}),
    Plan("k", 8, 3, {"n": 2}, ("m", "n"), split="k", parts=3),
]


def force(monkeypatch, plan):
    def forms(ctx, problem, elements, target, count):
        merged, stored = merge_axes(ctx, problem, elements)
        return [Candidate("forced", 0.0, Chosen(merged, stored, (), (Choice(plan),)))]

    monkeypatch.setattr(contraction_lower, "ranked_forms", forms)


@pytest.mark.parametrize("plan", FORMS, ids=str)
@pytest.mark.parametrize("size", [(17, 37, 41), (8, 5, 32), (3, 64, 18)], ids=str)
def test_every_form(monkeypatch, plan, size):
    force(monkeypatch, plan)
    for left, right in ((False, False), (True, True)):
        check(matrices(*size, left=left, right=right), depth=size[1])
        if size[0] == 8:
            interpret(matrices(*size, left=left, right=right), "x86-64-avx512")


@pytest.mark.parametrize("vectors", [1, 3])
def test_several_vectors_of_a_sum_whose_length_is_known_at_run_time(monkeypatch, vectors):
    force(monkeypatch, Plan("k", 16, vectors, {"n": 2}, ("m", "n")))
    types = [TensorType(s, dtypes.f32) for s in ((3, SYMBOLIC), (5, SYMBOLIC))]
    graph = group(types, lambda F, x, y: F.matmul(x, F.permute(y, dims=(1, 0))))
    check(graph, [{"batch": b} for b in (0, 1, 16, 47, 48, 49, 100)], depth=100)
    interpret(graph, "x86-64-avx512", [{"batch": b} for b in (0, 15, 65)])


@pytest.mark.parametrize(
    ("size", "transposed", "expected"),
    [
        ((1, 576, 4096), (False, True), "4x16 along k; tile n_s=2; order n n_s;"),  # from memory: two streams
        ((1, 400, 120), (False, True), "along k"),  # one row: straight from the weights, no packing
        ((64, 120, 400), (False, False), "4x16 along n; tile m=6"),
        ((1024, 1024, 1024), (False, False), "right packed along n"),
    ],
    ids=str,
)
def test_the_plan_follows_the_shape(size, transposed, expected):
    program = lowered(matrices(*size, left=transposed[0], right=transposed[1]), "x86-64-avx512")
    assert expected in program.launches[-1].kernel.comment


@pytest.mark.parametrize(
    ("k", "n", "dtype", "streams"),
    [
        (4096, 64, dtypes.f32, 4),
        (4100, 66, dtypes.f32, 2),
        (1000, 130, dtypes.f32, 2),
        (1000, 131, dtypes.f32, 0),
        (40, 200, dtypes.f32, 0),
        (5000, 60, dtypes.bf16, 4),
        (1200, 60, dtypes.f64, 4),
    ],
)
def test_a_matrix_that_is_read_once_is_read_in_streams(k, n, dtype, streams):
    types = [TensorType(s, dtype) for s in ((1, k), (n, k), (n,))]

    def make(F, x, w, bias):
        return F.maximum(F.add(F.matmul(x, F.permute(w, dims=(1, 0))), bias), 0.0)

    graph = group(types, make)
    program = check(graph, threads=(1, 2, 3), depth=k)
    assert (f"tile n_s={streams}" in program.launches[-1].kernel.comment) == (streams > 0)
    if k * n < 1 << 18:
        interpret(graph, "x86-64-avx2", depth=k)


def test_rows_of_a_batch_against_one_matrix_are_one_axis():
    batch = Dim("batch", 1, 64)
    types = [TensorType(s, dtypes.f32) for s in ((batch, 6, 20), (30, 20), (30,), (batch, 6, 30))]

    def make(F, x, w, bias, residual):
        return F.add(F.add(F.matmul(x, F.permute(w, dims=(1, 0))), bias), residual)

    program = check(group(types, make), [{"batch": b} for b in (1, 5, 32)])
    assert not any("b0" in launch.kernel.comment for launch in program.launches)
