"""Reduce groups: rows, columns and whole arrays, in one stage or several."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import SHARED, check, close, f32, graph_of, lowered, random_arrays

from vitrify.codegen.loops.printer import print_kernel
from vitrify.ir import dtypes, interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.passes import fusion_columns
from vitrify.runtime.execute import compile_program, run_program

BATCH = Dim("batch", 1, 64)
SHAPES = ((5, 7), (64, 10), (3, 100), (100, 3), (2, 3, 37), (9, 16, 5), (4, 6, 8, 8), (1, 1), (130, 70))


def every_dims(rank):
    return [tuple(d for d in range(rank) if bits >> d & 1) for bits in range(1, 1 << rank)]


@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_over_every_choice_of_dims(shape, options):
    """All of them in one graph; each is its own group."""

    def make(F, x):
        return [F.sum(x, dims=d, keepdim=len(d) % 2 == 0) for d in every_dims(len(shape))]

    graph = graph_of(make, f32(*shape))
    small = int(np.prod(shape)) < 400
    check(graph, random_arrays(graph), options=options, interpret=small)


@pytest.mark.parametrize("op", ["sum", "prod", "amax", "amin"])
@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)], ids=str)
def test_every_combination(op, dims):
    for dtype in (dtypes.f32, dtypes.f64, dtypes.i64, dtypes.i32, dtypes.u8):
        type_ = TensorType((6, 21), dtype)
        graph = graph_of(lambda F, x: getattr(F, op)(x, dims=dims), type_)
        check(graph, random_arrays(graph), interpret=dtype is dtypes.f32)


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)], ids=str)
def test_any_and_all(dims):
    graph = graph_of(
        lambda F, x: (F.any(x, dims=dims), F.all(x, dims=dims)), TensorType((5, 40), dtypes.bool_)
    )
    check(graph, random_arrays(graph), [np.ones((5, 40), bool)], [np.zeros((5, 40), bool)])


@pytest.mark.parametrize("dims", [(0,), (1,)], ids=str)
def test_extremes_keep_nan(dims):
    graph = graph_of(lambda F, x: (F.amax(x, dims=dims), F.amin(x, dims=dims)), f32(40, 40))
    x = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    x[3, 5] = x[39, 39] = np.nan
    x[7] = -np.inf
    check(graph, [x])


def test_narrow_sums_are_carried_in_float32():
    x = np.full((4, 4096), 1.0, dtypes.bf16.numpy)
    graph = graph_of(lambda F, x: F.sum(x, dims=(1,)), TensorType(x.shape, dtypes.bf16))
    program = lowered(graph)
    (total,) = run_program(program, [x])
    assert total.astype(np.float32).tolist() == [4096.0] * 4


@pytest.mark.parametrize("shape", [(64, 10), (3, 100), (17, 1), (5, 5000), (2, 9, 6)], ids=str)
@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
def test_softmax_and_its_gradient_are_one_kernel_each(shape, options):
    dim = 1

    def make(F, x, dy):
        y = F.softmax(x, dim=dim)
        return y, F.mul(y, F.sub(dy, F.sum(F.mul(dy, y), dims=(dim,), keepdim=True)))

    graph = graph_of(make, f32(*shape), f32(*shape))
    program = check(graph, random_arrays(graph), options=options, interpret=int(np.prod(shape)) < 1000)
    assert len(program.launches) == 1


def test_costly_values_are_kept_along_a_row():
    """softmax computes each exponential once: the second pass keeps it on the stack for the third."""
    graph = graph_of(lambda F, x: F.softmax(x, dim=1), f32(4, 48))
    (launch,) = lowered(graph, "x86-64-avx512").launches
    text = print_kernel(launch.kernel)
    assert "stack row: f32[48]" in text
    assert text.count("exp_below(") == 1


@pytest.mark.parametrize("target", ["x86-64-avx2", "x86-64-avx512"])
def test_powers_of_differences_with_the_greatest_need_no_bound_above(target):
    def make(F, x, y):
        return F.softmax(x, dim=1), F.sum(F.exp(F.sub(x, F.amax(y, dims=(1,), keepdim=True))), dims=(1,))

    graph = graph_of(make, f32(9, 64), f32(9, 64))
    text = "".join(print_kernel(x.kernel) for x in lowered(graph, target).launches)
    assert text.count("exp_below(") == 1 and text.count("exp(") == 1
    x, y = random_arrays(graph)
    x[0, 3], x[1, :], x[2, 5], x[3, 7] = -np.inf, -np.inf, np.inf, np.nan
    with np.errstate(all="ignore"):
        check(graph, [100 * x, y], target="x86-64-avx2")


@pytest.mark.parametrize("columns", [200, 256, 777])
def test_costly_passes_compute_several_short_vectors_side_by_side(columns):
    graph = graph_of(lambda F, x: (F.softmax(x, dim=1), F.erf(x)), f32(5, columns))
    program = check(graph, random_arrays(graph), target="x86-64-avx2")
    assert all("vector 32" in print_kernel(x.kernel) for x in program.launches)
    assert not any("vector 32" in print_kernel(x.kernel) for x in lowered(graph, "x86-64-avx512").launches)


@pytest.mark.parametrize("shape", [(300, 2), (2, 3000), (40, 6, 28, 28)], ids=str)
def test_statistics(shape):
    """mean and variance: the second pass reads the first one's result."""
    dims = tuple(d for d in range(len(shape)) if d != 1)
    graph = graph_of(
        lambda F, x: (F.mean(x, dims=dims), F.var(x, dims=dims, correction=0, keepdim=True)), f32(*shape)
    )
    check(graph, random_arrays(graph), interpret=False, scale=4)


LONG_BATCH = Dim("batch", 1, 4000)


@pytest.mark.parametrize("shape", [(1203, 261), (37, 31, 261), (110, 3003), (LONG_BATCH, 261)], ids=str)
def test_statistics_of_columns_of_large_arrays(shape):
    """Short vectors: several rows are read along at a time, and the sums lie in memory."""
    dims = tuple(range(len(shape) - 1))

    def make(F, x):
        mean = F.mean(x, dims=dims, keepdim=True)
        away = F.sub(x, mean)
        return away, F.mean(F.mul(away, away), dims=dims), F.sum(x, dims=dims), F.amax(x, dims=dims)

    graph = graph_of(make, f32(*shape))
    program = lowered(graph, "x86-64-avx2")
    assert any("stack acc_" in print_kernel(x.kernel) for x in program.launches)
    assert not any("stack acc_" in print_kernel(x.kernel) for x in lowered(graph, "x86-64-avx512").launches)
    sizes = (1, 3, 1203) if LONG_BATCH in shape else shape[:1]
    for size in sizes:
        x = np.random.default_rng(0).normal(size=(size, *shape[1:])).astype(np.float32)
        check(graph, [x], interpret=size < 8, target="x86-64-avx2", scale=4)


@pytest.mark.parametrize("columns", [261, 1100])
def test_sums_of_columns_of_large_arrays_are_made_of_chunks_of_rows(columns):
    graph = graph_of(lambda F, x: F.sum(F.mul(x, x), dims=(0,)), f32(1203, columns))
    program = check(graph, random_arrays(graph), interpret=False, target="x86-64-avx2")
    assert [x.kernel.name for x in program.launches] == ["fused_0_partial", "fused_0_combine"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_sum_is_split_the_same_for_any_number_of_threads(threads):
    graph = graph_of(lambda F, x: F.sum(F.mul(x, x), dims=(0, 1)), f32(401, 503))
    program = lowered(graph)
    assert [x.kernel.name for x in program.launches] == ["fused_0_partial", "fused_0_combine"]
    (x,) = arrays = random_arrays(graph)
    loaded = compile_program(program)
    (total,) = run_program(program, arrays, threads=threads, loaded=loaded)
    exact = np.square(x.astype(np.float64)).sum()
    assert abs(float(total) - exact) < 1e-6 * exact
    assert total.tobytes() == run_program(program, arrays, threads=3 - threads, loaded=loaded)[0].tobytes()


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
def test_symbolic_batch(batch, options):
    def make(F, x, b):
        y = F.log_softmax(F.add(x, b), dim=1)
        return y, F.sum(y, dims=(0,)), F.mean(x, dims=(0, 1)), F.amax(x, dims=(1,))

    graph = graph_of(make, f32(BATCH, 10), f32(10))
    check(graph, random_arrays(graph, batch), options=options, interpret=batch == 7)


def test_reducing_nothing_and_reducing_nothings():
    def make(F, x, y):
        return F.sum(x, dims=()), F.sum(y, dims=(1,)), F.prod(y, dims=(0, 1)), F.sum(y, dims=(0,))

    graph = graph_of(make, f32(3, 4), f32(3, 0))
    check(graph, random_arrays(graph))


def test_results_no_worse_than_float32_numpy():
    """Against float64, the fixed trees are at least as good as NumPy's pairwise sums."""
    graph = graph_of(lambda F, x: F.sum(x, dims=(1,)), f32(16, 5000))
    (x,) = arrays = random_arrays(graph)
    (got,) = run_program(lowered(graph), arrays)
    (want,) = interpreter.run(graph, arrays)
    exact = x.astype(np.float64).sum(1)
    assert np.abs(got - exact).max() <= 2 * np.abs(want - exact).max()
    close(got, want)


@pytest.fixture
def small_column_sums(monkeypatch):
    """Sums over rows join the rows' kernel for small arrays too."""
    for name in ("MIN_ELEMENTS", "MIN_ROWS", "MIN_COLUMNS"):
        monkeypatch.setattr(fusion_columns, name, 1)


def standardized(F, x, dy):
    """Rows in stages, elements along them, one result a row, two sums over rows and an extreme."""
    last = x.type.rank - 1
    centred = F.sub(x, F.mean(x, dims=(last,), keepdim=True))
    normal = F.mul(centred, F.rsqrt(F.add(F.mean(F.mul(centred, centred), dims=(last,), keepdim=True), 0.1)))
    product = F.mul(normal, dy)
    over = tuple(range(last))
    totals = F.sum(product, dims=over), F.sum(dy, dims=over, keepdim=True), F.amax(product, dims=over)
    return F.mul(normal, F.sum(product, dims=(last,), keepdim=True)), F.sum(product, dims=(last,)), *totals


@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize("shape", [(37, 33), (5, 7, 16), (3, 50), (1, 40), (600, 70)], ids=str)
def test_sums_over_rows_in_the_pass_over_rows(small_column_sums, shape, options):
    graph = graph_of(standardized, f32(*shape), f32(*shape))
    program = check(graph, random_arrays(graph), options=options, interpret=shape[0] < 100, scale=4)
    assert [x.kernel.name for x in program.launches] == ["fused_0", "fused_0_columns"]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_sums_over_rows_of_a_symbolic_batch(small_column_sums, batch):
    graph = graph_of(standardized, f32(BATCH, 3, 20), f32(BATCH, 3, 20))
    check(graph, random_arrays(graph, batch), options=SHARED, interpret=batch == 7, scale=4)


def test_sums_over_rows_that_lie_transposed_and_narrow(small_column_sums):
    def make(F, x, dy):
        return standardized(F, F.permute(x, dims=(1, 0, 2)), dy)

    graph = graph_of(make, f32(6, 5, 20), f32(5, 6, 20))
    check(graph, random_arrays(graph), options=SHARED, scale=4)

    def halves(F, x):
        y = F.mul(x, F.sum(x, dims=(1,), keepdim=True))
        return y, F.sum(y, dims=(0,))

    for dtype in (dtypes.f16, dtypes.bf16, dtypes.f64):
        graph = graph_of(halves, TensorType((50, 24), dtype))
        check(graph, random_arrays(graph), options=SHARED, scale=4)


@pytest.mark.parametrize(
    ("shape", "level"), [((600, 1024), 1), ((80, 8000), 2), ((80, 1024), 0), ((2, 300000), 0)]
)
def test_long_passes_prefetch_for_the_next(shape, level):
    """Where the rows come from memory, and some of them fit in the second-level cache."""
    graph = graph_of(lambda F, x: F.softmax(x, dim=1), f32(*shape))
    text = print_kernel(lowered(graph).launches[-1].kernel)
    assert [f"into cache {n}" in text for n in (1, 2)] == [level == 1, level == 2]
    check(graph, random_arrays(graph), interpret=False)


@pytest.mark.parametrize("extra", [0, 129])
def test_accumulators_of_long_rows_read_parts_of_their_own(extra):
    graph = graph_of(lambda F, x: (F.sum(x, dims=(1,)), F.amax(x, dims=(1,))), f32(3, (1 << 16) + extra))
    x = np.random.default_rng(extra).standard_normal((3, (1 << 16) + extra)).astype(np.float32)
    check(graph, [x])
