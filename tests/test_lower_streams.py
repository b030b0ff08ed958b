"""Results that are written past the caches."""

from __future__ import annotations

import ctypes

import numpy as np
from lowering import check, f32, graph_of, lowered, random_arrays

from vitrify.codegen.loops.printer import print_kernel
from vitrify.codegen.target import Target
from vitrify.ir import interpreter
from vitrify.runtime.execute import compile_program

PAST = "written past the caches"
TARGET = "x86-64-avx2"
# Of two such arrays, a kernel moves far more than the target's last-level cache holds.
SHAPE = (3072, 1024)


def texts(graph, target=TARGET):
    return [print_kernel(x.kernel) for x in lowered(graph, target).launches]


def test_large_rows_are_written_past_the_caches():
    assert 2 * 4 * np.prod(SHAPE) >= 1.5 * Target.named(TARGET).l3
    graph = graph_of(lambda F, x: F.softmax(x, dim=1), f32(*SHAPE))
    (text,) = texts(graph)
    assert PAST in text and "prefetch x" in text and "prefetch 0" not in text
    check(graph, random_arrays(graph), interpret=False, target=TARGET)


def test_what_is_small_read_again_or_not_in_lines_is_not():
    def twice(F, x):
        y = F.softmax(x, dim=1)
        return y, F.sum(F.permute(y, dims=(1, 0)), dims=(1,))

    graphs = [
        graph_of(lambda F, x: F.softmax(x, dim=1), f32(300, 1024)),
        graph_of(lambda F, x: F.softmax(x, dim=1), f32(3072, 1023)),
        graph_of(lambda F, x: F.permute(x, dims=(1, 0)), f32(*SHAPE)),
        graph_of(lambda F, x: F.cumsum(x, dim=1), f32(*SHAPE)),
        graph_of(twice, f32(*SHAPE)),
    ]
    assert not any(PAST in text for graph in graphs[:4] for text in texts(graph))
    assert len(texts(graphs[4])) == 1 or PAST not in texts(graphs[4])[0]
    assert PAST not in texts(graphs[0], "x86-64-avx512")[0]


def test_memory_that_begins_anywhere():
    """What the caller gives for the result need not be a multiple of a vector's length."""
    graph = graph_of(lambda F, x: F.mul(F.exp(x), 0.5), f32(*SHAPE))
    program = lowered(graph, TARGET)
    assert PAST in print_kernel(program.launches[0].kernel)
    (x,) = arrays = random_arrays(graph)
    (want,) = interpreter.run(graph, arrays)
    loaded = compile_program(program)
    given = (ctypes.c_void_p * 2)(x.ctypes.data, 0)
    for start in (0, 1, 8):
        memory = np.zeros(want.size + 32, np.float32)
        first = (-memory.ctypes.data // 4) % 16 + start
        results = (ctypes.c_void_p * 1)(memory.ctypes.data + 4 * first)
        assert loaded.run(given, results, 0, 0, 2) == 0
        np.testing.assert_allclose(memory[first : first + want.size].reshape(SHAPE), want, rtol=1e-5)
        assert not memory[:first].any() and not memory[first + want.size :].any()
