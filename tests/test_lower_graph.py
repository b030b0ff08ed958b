"""Whole graphs: networks, training steps, donated inputs, memory."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import random_graph, random_inputs
from lowering import SHARED, check, close, f32, fused, graph_of, lowered, random_arrays
from training_graphs import lenet_graph, lenet_step, sgd_graph, step_inputs

from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.lower import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim
from vitrify.ir.graph import IRError
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.memory_plan import check_plan
from vitrify.runtime.execute import compile_program, run_program

BATCH = Dim("batch", 1, 256)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "unfused"])
def test_lenet_step(fuse):
    graph = lenet_step(3)
    check(graph, step_inputs(graph, 3), interpret=False, fuse=fuse, scale=10)


def test_symbolic_lenet_step():
    graph = lenet_step(BATCH)
    check(graph, *(step_inputs(graph, n) for n in (1, 7, 64)), interpret=False, scale=40)


def test_symbolic_lenet_inference():
    graph = lenet_graph(BATCH)
    check(graph, *(random_arrays(graph, n) for n in (1, 7, 64)), interpret=False, scale=20)


def test_training_follows_the_interpreter():
    """Ten steps, each from the parameters that the one before left; what differs by rounding grows from step to step."""
    graph = lenet_step(4)
    program = lowered(graph)
    loaded = compile_program(program)
    ours = theirs = step_inputs(graph, 4)
    for _ in range(10):
        got = run_program(program, ours, loaded=loaded)
        want = interpreter.run(graph, theirs)
        assert abs(float(got[0]) - float(want[0])) <= 3e-4 * abs(float(want[0]))
        ours = [*ours[:4], *got[1:]]
        theirs = [*theirs[:4], *want[1:]]


@pytest.mark.sweep(2)
@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    graph = random_graph(seed, nodes=6 + seed % 20, tame=True, symbolic=seed % 3 == 0)
    batches = (1, 5) if seed % 3 == 0 else (3,)
    check(graph, *(random_inputs(graph, seed, n) for n in batches), options=SHARED if seed % 2 else None)


@pytest.mark.parametrize("seed", range(12))
def test_random_gradients(seed):
    graph = random_graph(seed, nodes=10, tame=True)
    floats = tuple(v.name for v in graph.inputs if v.type.dtype.is_floating_point)
    outputs = tuple(i for i, v in enumerate(graph.outputs) if v.type.dtype.is_floating_point)
    joint = Autodiff(wrt=floats, outputs=outputs, seed="ones").run(graph)
    check(joint, random_inputs(joint, seed), interpret=False, scale=20)


# Donated inputs


def donating(make, types, aliases):
    F = GraphBuilder("donating")
    inputs = [F.input(f"x{i}", t) for i, t in enumerate(types)]
    return F.finish(make(F, *inputs), aliases)


HAZARDS = {
    "in place": (lambda F, a: [F.add(a, 1.0)], 1, {0: 0}, 0),
    "swap": (lambda F, a, b: [F.mul(b, 2.0), F.mul(a, 2.0)], 2, {0: 0, 1: 1}, None),
    "swap of the inputs themselves": (lambda F, a, b: [b, a], 2, {0: 0, 1: 1}, 3),
    "old value kept elsewhere": (lambda F, a, b: [F.exp(a), a], 2, {0: 0, 1: 1}, 2),
    "rotation": (lambda F, a, b, c: [b, c, F.neg(a)], 3, {0: 0, 1: 1, 2: 2}, None),
    "itself": (lambda F, a: [a], 1, {0: 0}, 0),
    "old value returned": (lambda F, a: [F.add(a, 1.0), a], 1, {0: 0}, None),
    "old value read later": (
        lambda F, a, b: [F.add(a, 1.0), F.sum(F.matmul(F.reshape(a, shape=(6, 4)), b), dims=(0, 1))],
        2,
        {0: 0},
        None,
    ),
    "read at another index": (lambda F, a: [F.flip(a, dims=(0,))], 1, {0: 0}, 1),
    "transposed": (
        lambda F, a: [F.reshape(F.permute(F.reshape(a, shape=(4, 6)), dims=(1, 0)), shape=(4, 6))],
        1,
        {0: 0},
        1,
    ),
    "reduced first": (lambda F, a: [F.sub(a, F.sum(a, dims=(1,), keepdim=True))], 1, {0: 0}, None),
    "returned twice": (lambda F, a: [y := F.add(a, 1.0), y], 1, {0: 0}, None),
    "read by the next launch": (
        lambda F, a, b: [F.add(a, b), F.sum(F.exp(F.add(a, b)), dims=(0,))],
        2,
        {0: 0},
        None,
    ),
    "shifted": (
        lambda F, a: [F.pad(F.slice(a, starts=(0, 0), stops=(3, 6), steps=(1, 1)), low=(1, 0), high=(0, 0))],
        1,
        {0: 0},
        1,
    ),
}


@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize(("make", "count", "aliases", "copies"), HAZARDS.values(), ids=HAZARDS)
def test_donated_inputs(make, count, aliases, copies, options):
    types = [f32(4, 6), f32(4, 6), f32(4, 6)][:count]
    if make is HAZARDS["old value read later"][0]:
        types[1] = f32(4, 6)
    graph = donating(make, types, aliases)
    arrays = random_arrays(graph)
    program = check(graph, arrays, options=options)
    for output, position in aliases.items():
        assert program.outputs[output] is program.inputs[position]
    if copies is not None and options is None:
        assert sum(x.kernel.name.startswith("copy") for x in program.launches) == copies


def test_an_optimizer_step_is_one_kernel_without_copies():
    graph = sgd_graph()
    program = check(graph, random_arrays(graph))
    assert [x.source for x in program.launches] == ["fused_0"]
    assert not program.arena


def test_a_whole_step_writes_parameters_in_place():
    program = lowered(lenet_step(4))
    assert not [x for x in program.launches if x.kernel.name.startswith("copy")]


def test_a_value_may_take_the_place_of_one_that_dies():
    """Three maps in a row, kept apart: the second writes over the first one's result."""

    def make(F, x):
        for _ in range(3):
            x = F.exp(F.flip(x, dims=(0,)))
        return x

    graph = graph_of(make, f32(64, 64))
    program = lowered(graph, fuse=False)
    peak = int(program.arena_bytes)
    assert peak <= 2 * 64 * 64 * 4
    check(graph, random_arrays(graph), interpret=False, fuse=False, scale=100)


def test_arena_stays_near_the_lower_bound():
    """The step's arena against the largest sum of bytes that are alive at once."""
    from vitrify.codegen.lower.lifetimes import memory_intervals
    from vitrify.passes.memory_plan import lower_bound, plan_memory

    program = lowered(lenet_step(64))
    intervals = list(memory_intervals(program.launches, {*program.inputs, *program.outputs}))
    assert program.arena_bytes <= 1.2 * lower_bound(intervals)
    check_plan(plan_memory(intervals))


def test_empty_values_between_kernels():
    """A product over no elements of an empty value, which no launch computes."""
    graph = graph_of(lambda F, x, w: F.matmul(F.exp(x), w), f32(3, 0), f32(0, 4))
    check(graph, random_arrays(graph))


def test_only_fused_graphs_are_lowered():
    graph = graph_of(lambda F, x: F.exp(x), f32(3))
    with pytest.raises(IRError, match="only fused groups can be lowered"):
        lower_graph(graph, Target.host())


def test_launches_say_what_they_do():
    program = lowered(lenet_step(4))
    names = {n.attrs["name"] for n in fused(lenet_step(4)).nodes}
    assert names == {x.source for x in program.launches}
    for launch in program.launches:
        assert launch.bytes != 0 and launch.kernel.cost != 0


def test_a_nan_goes_where_it_goes_in_numpy():
    graph = lenet_step(2)
    arrays = step_inputs(graph, 2)
    arrays[0][1, 0, 5, 5] = np.nan
    got = run_program(lowered(graph), arrays)
    with np.errstate(all="ignore"):
        want = interpreter.run(graph, arrays)
    for a, b in zip(got, want):
        assert np.array_equal(np.isnan(a), np.isnan(b))


def test_the_loop_interpreter_agrees_on_a_small_network():
    def make(F, x, w, b):
        y = F.relu(F.convolution(x, w, b, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1))
        y = F.max_pool(y, kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=False)
        return F.log_softmax(F.reshape(y, shape=(2, 12)), dim=1)

    graph = graph_of(make, f32(2, 2, 4, 4), f32(3, 2, 3, 3), f32(3))
    arrays = random_arrays(graph)
    got, code = loops.run_program(lowered(graph), arrays, {})
    assert code == 0
    close(got[0], interpreter.run(graph, arrays)[0])
