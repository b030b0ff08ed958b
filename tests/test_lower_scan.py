"""Scans as loop IR and native code: against the interpreter, and what is placed and computed where."""

from __future__ import annotations

import numpy as np
import pytest

from vitrify.codegen.loops.interpreter import run_program as interpret
from vitrify.codegen.loops.nodes import Part, Repeat, whole
from vitrify.codegen.loops.printer import print_program
from vitrify.codegen.loops.verify import LoopError, verify_program
from vitrify.codegen.lower.program import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim
from vitrify.ir.interpreter import run
from vitrify.ir.types import TensorType
from vitrify.passes.memory_plan import check_plan, plan_memory
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.runtime.execute import compile_program
from vitrify.runtime.execute import run_program as native


def f32(*shape):
    return TensorType(shape, dtypes.f32)


def lowered(graph):
    program = lower_graph(run_pipeline(graph, default_pipeline())[-1], Target.host())
    verify_program(program)
    return program


def check(graph, bindings=None, slow=True, tolerance=1e-5):
    """The graph under both interpreters and as native code with one thread and several; the program."""
    bindings = bindings or {}
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(v.type.bind(bindings).shape).astype(np.float32) * 0.5 for v in graph.inputs]
    want = run(graph, arrays, bindings)
    program = lowered(graph)
    loaded = compile_program(program)
    results = [native(program, arrays, bindings, threads, loaded=loaded) for threads in (1, 3)]
    for got, again in zip(*results):
        np.testing.assert_array_equal(got, again)
    found = [results[0]]
    if slow:
        outputs, status = interpret(program, arrays, bindings)
        assert status == 0
        found.append(outputs)
    for outputs in found:
        for got, expected in zip(outputs, want):
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    return program


def layer(op, steps=5, batch=3, hidden=4, **attrs):
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[op]
    F = GraphBuilder(op)
    x = F.input("x", f32(batch * steps, gates * hidden))
    states = [F.input(n, f32(batch, hidden)) for n in ("h", "c")[: 2 if op == "lstm" else 1]]
    w = F.input("w", f32(gates * hidden, hidden))
    sizes = (batch,) * steps
    found = getattr(F, op)(x, *states, w, batch_sizes=sizes, **attrs)
    return F.finish(found)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("op", ["rnn", "gru", "lstm"])
def test_layers(op, reverse):
    check(layer(op, reverse=reverse))


def test_a_symbolic_batch():
    batch = Dim("batch", 1, 8)
    for size in (1, 5):
        check(layer("lstm", batch=batch), {"batch": size}, slow=size == 5)


def test_a_symbolic_length():
    n = Dim("n", 1, 12)
    F = GraphBuilder("g")
    s, x, w = F.input("s", f32(3, 4)), F.input("x", f32(n, 3, 4)), F.input("w", f32(4, 4))

    def step(F, state, given, weights):
        y = F.tanh(F.add(given[0], F.matmul(state[0], weights[0])))
        return (y,), (y,)

    (final,), (stacked,) = F.scan(step, (s,), (x,), (w,), length=n, reverse=True)
    graph = F.finish([final, stacked])
    for size in (1, 2, 7):
        check(graph, {"n": size}, slow=size == 2)


def test_many_threads_give_the_same_bits():
    program = check(layer("lstm", steps=6, batch=64, hidden=64), slow=False)
    assert any(launch.kernel.parallel is not None for launch in program.launches)


def test_one_step_of_code_for_any_length():
    short, long = (lowered(layer("gru", steps=n)) for n in (3, 60))
    assert len(short.launches) == len(long.launches)
    assert [r.count for r in long.repeats] == [60]


def test_weights_are_packed_once():
    program = lowered(layer("lstm", hidden=32))
    (repeat,) = program.repeats
    packs = [i for i, launch in enumerate(program.launches) if launch.kernel.name.startswith("pack")]
    assert packs and all(i < repeat.first for i in packs)


def test_states_take_turns_and_reshapes_are_no_copies():
    program = lowered(layer("rnn"))
    (repeat,) = program.repeats
    inside = [b for launch in program.launches[repeat.first : repeat.end] for b in launch.args]
    parts = {str(b.index) for b in inside if isinstance(b, Part)}
    assert parts == {"step", "(step % 2)", "((step+1) % 2)"}
    assert {whole(b).name for b in inside if isinstance(b, Part)} >= {"x"}
    assert f"repeat {repeat.var} in 0..5 {{" in print_program(program)


def test_a_state_written_over_its_donated_input():
    F = GraphBuilder("g")
    s, x = F.input("s", f32(4)), F.input("x", f32(6, 4))
    (final,), (stacked,) = F.scan(
        lambda F, s, x, w: ((F.add(s[0], x[0]),), (F.mul(s[0], x[0]),)), (s,), (x,), length=6
    )
    program = check(F.finish([final, stacked], {0: 0, 1: 1}))
    assert program.outputs[0] is program.inputs[0]


def test_scans_in_scans():
    F = GraphBuilder("g")
    s, x, w = F.input("s", f32(2, 4)), F.input("x", f32(5, 3, 2, 4)), F.input("w", f32(4, 4))

    def inner(F, state, given, weights):
        y = F.tanh(F.add(given[0], F.matmul(state[0], weights[0])))
        return (y,), (F.mul(y, y),)

    def outer(F, state, given, weights):
        (final,), (squares,) = F.scan(inner, state, given, weights, length=3)
        return (F.mul(final, F.sum(squares, dims=(0,))),), (squares,)

    (final,), (stacked,) = F.scan(outer, (s,), (x,), (w,), length=5)
    program = check(F.finish([final, stacked]))
    assert [(r.count) for r in sorted(program.repeats, key=lambda r: r.first)] == [5, 3]


def test_lifetimes_reach_over_the_repeat():
    program = lowered(layer("lstm", steps=4, batch=2, hidden=8))
    (repeat,) = program.repeats
    alive = {i.name: i for i in program.lifetimes}
    inside = {whole(b).name for launch in program.launches[repeat.first : repeat.end] for b in launch.args}
    for name in inside & alive.keys():
        uses = [
            n for n, launch in enumerate(program.launches) if name in {whole(b).name for b in launch.args}
        ]
        if min(uses) < repeat.first or max(uses) >= repeat.end:
            assert alive[name].first <= repeat.first and alive[name].last >= repeat.end - 1
    check_plan(plan_memory(program.lifetimes))


def test_what_the_verifier_asks_of_repeats():
    from dataclasses import replace

    program = lowered(layer("rnn"))
    (repeat,) = program.repeats
    with pytest.raises(LoopError, match="no dim or variable of a repeat"):
        verify_program(replace(program, repeats=()))
    with pytest.raises(LoopError, match="is already bound here"):
        verify_program(
            replace(program, repeats=(repeat, Repeat(repeat.first, repeat.first + 1, 2, repeat.var)))
        )


def test_a_piece_of_a_sequence_is_read_where_it_lies():
    F = GraphBuilder("g")
    s, x = F.input("s", f32(4)), F.input("x", f32(9, 4))
    rows = F.slice(x, starts=(2, 0), stops=(8, 4), steps=(1, 1))
    uneven = F.reshape(F.slice(F.reshape(x, shape=(36,)), starts=(3,), stops=(27,), steps=(1,)), shape=(6, 4))

    def step(F, state, given, weights):
        return (F.add(state[0], F.mul(given[0], given[1])),), ()

    (final,), _ = F.scan(step, (s,), (rows, uneven), length=6)
    program = check(F.finish([final]))
    first, _ = (
        {b.index for launch in program.launches for b in launch.args if isinstance(b, Part) and b.of is whole}
        for whole in (program.inputs[1], program.arena[0])
    )
    assert {str(i) for i in first} == {"step+2"}  # the rows; the others are copied, for they begin inside one
    assert len([launch for launch in program.launches if launch.source.startswith("fused")]) == 1
