"""Groups of one op that indexes by data or draws random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import SHARED, check, f32, graph_of, lowered, random_arrays

from vitrify.codegen.loops import interpreter as loops
from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import CheckError, compile_program, run_program

BATCH = Dim("batch", 1, 64)


def i64(*shape):
    return TensorType(shape, dtypes.i64)


@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_gather_and_scatter_add(dim, options):
    def make(F, x, index, base):
        return F.gather(x, index, dim=dim), F.scatter_add(base, index, x, dim=dim)

    graph = graph_of(make, f32(6, 7, 8), i64(5, 6, 7), f32(6, 7, 8))
    check(graph, random_arrays(graph), options=options)


@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("index", [(9,), (2, 3), ()], ids=str)
def test_index_select_and_index_add(dim, index, options):
    shape = (5, 6, 35)
    picked = (*shape[:dim], *index, *shape[dim + 1 :])

    def make(F, x, index, src):
        return F.index_select(x, index, dim=dim), F.index_add(x, index, src, dim=dim)

    graph = graph_of(make, f32(*shape), i64(*index), f32(*picked))
    check(graph, random_arrays(graph), options=options, interpret=options is None)


def test_many_elements_in_one_place_add_in_order():
    """Sums that depend on the order give the bits of the serial sum."""
    graph = graph_of(lambda F, b, i, s: F.scatter_add(b, i, s, dim=0), f32(2), i64(1000), f32(1000))
    rng = np.random.default_rng(0)
    base, src = np.zeros(2, np.float32), rng.normal(size=1000).astype(np.float32)
    index = rng.integers(0, 2, 1000)
    want = base.copy()
    np.add.at(want, index, src)
    program = lowered(graph, options=SHARED)
    loaded = compile_program(program)
    for threads in (1, 2):
        (got,) = run_program(program, [base, index, src], threads=threads, loaded=loaded)
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda F, x, i: F.index_select(x, i, dim=0), "index out of range in self"),
        (lambda F, x, i: F.gather(x, i, dim=0), "index out of bounds for dimension 0 with size 5"),
        (
            lambda F, x, i: F.scatter_add(x, i, F.relu(x), dim=0),
            "index out of bounds for dimension 0 with size 5",
        ),
        (lambda F, x, i: F.index_add(x, i, F.relu(x), dim=0), "index out of range in self"),
    ],
    ids=["index_select", "gather", "scatter_add", "index_add"],
)
@pytest.mark.parametrize("bad", [-1, 5, 1 << 40])
def test_a_bad_index_is_reported_and_harmless(make, message, bad):
    graph = graph_of(make, f32(5), i64(5))
    program = lowered(graph)
    arrays = [np.ones(5, np.float32), np.array([0, 1, bad, 3, 4])]
    with pytest.raises(CheckError, match=message):
        run_program(program, arrays)
    _, code = loops.run_program(program, arrays, {})
    assert program.messages[code].startswith(message)


@pytest.mark.parametrize("op", ["argmax", "argmin"])
@pytest.mark.parametrize("dim", [0, 1])
def test_positions_of_extremes(op, dim):
    graph = graph_of(lambda F, x: getattr(F, op)(x, dim=dim), f32(40, 40))
    x = np.random.default_rng(0).integers(-3, 4, (40, 40)).astype(np.float32)
    nans = x.copy()
    nans[3, 7] = nans[3, 20] = nans[30, 7] = np.nan
    infinite = np.full((40, 40), -np.inf, np.float32)
    check(graph, [x], [nans], [infinite])


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 16), (33, 7)], ids=str)
def test_random_uniform(shape):
    def make(F, state):
        drawn = F.random_uniform(state, shape=shape, dtype=dtypes.f32, stream=2)
        return drawn, F.mul(F.random_uniform(state, shape=shape, dtype=dtypes.f64), 2.0)

    graph = graph_of(make, i64(2))
    check(graph, [np.array([5, 3])], [np.array([-1, 1 << 60])], options=SHARED)


def test_dropout_draws_once():
    """The same draw forward and backward: one random node, whatever reads it."""

    def make(F, x, dy, state):
        return F.dropout(x, state, p=0.25), F.dropout(dy, state, p=0.25)

    graph = graph_of(make, f32(4, 50), f32(4, 50), i64(2))
    program = check(graph, [np.ones((4, 50), np.float32), np.ones((4, 50), np.float32), np.array([1, 2])])
    assert len(program.launches) == 2


@pytest.mark.parametrize("batch", [1, 7])
def test_symbolic_batch(batch):
    def make(F, x, index, state):
        picked = F.index_select(x, index, dim=0)
        drawn = F.random_uniform(state, shape=(BATCH, 3), dtype=dtypes.f32)
        return picked, F.index_add(x, index, picked, dim=0), drawn, F.argmax(picked, dim=0)

    graph = graph_of(make, f32(9, 3), i64(BATCH), i64(2))
    check(graph, random_arrays(graph, batch), options=SHARED)
