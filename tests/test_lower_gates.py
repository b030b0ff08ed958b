"""Gates of a recurrent step and their product as one kernel: which groups are, and what they compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vitrify
from vitrify import nn
from vitrify.codegen.llvm.program import emit_program
from vitrify.codegen.loops.interpreter import run_program as interpret
from vitrify.codegen.loops.printer import print_program
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.lower.program import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim
from vitrify.ir.graph import IRError
from vitrify.ir.interpreter import run
from vitrify.ir.types import TensorType
from vitrify.passes.fusion import Fusion
from vitrify.passes.fusion_check import check_fusion
from vitrify.passes.fusion_check_groups import check_group
from vitrify.passes.pipeline import PipelineOptions, default_pipeline, run_pipeline
from vitrify.runtime.execute import compile_program
from vitrify.runtime.execute import run_program as native


def layer(op, batch, hidden, steps=4, dtype=dtypes.f32, **attrs):
    F = GraphBuilder(op)
    gates = {"gru": 3, "lstm": 4}[op]
    x = F.input("x", TensorType((batch * steps, gates * hidden), dtype))
    states = [F.input(n, TensorType((batch, hidden), dtype)) for n in ("h", "c")[: 2 if op == "lstm" else 1]]
    w = F.input("w", TensorType((gates * hidden, hidden), dtype))
    return F.finish(getattr(F, op)(x, *states, w, batch_sizes=(batch,) * steps, **attrs))


def kinds(graph):
    (scan,) = [n for n in graph.nodes if n.op.name == "scan"]
    return [n.attrs["kind"] for n in scan.regions[0].nodes]


def check(graph, target=None, bindings=None, slow=False):
    """The graph as native code with 1, 2 and 3 threads, the same to the bit, against the interpreter; the program."""
    bindings = bindings or {}
    rng = np.random.default_rng(3)
    types = [v.type.bind(bindings) for v in graph.inputs]
    # Of larger weights the steps would make much of rounding.
    scale = 0.5 / np.sqrt(types[-1].shape[1])
    arrays = [(rng.standard_normal(t.shape) * scale).astype(t.dtype.numpy) for t in types]
    want = run(graph, arrays, bindings)
    program = lower_graph(run_pipeline(graph, default_pipeline())[-1], target or Target.host())
    verify_program(program)
    loaded = compile_program(program)
    found = [native(program, arrays, bindings, threads, loaded=loaded) for threads in (1, 2, 3)]
    for others in found[1:]:
        for got, again in zip(found[0], others):
            np.testing.assert_array_equal(got, again)
    results = [found[0]]
    if slow:
        outputs, status = interpret(program, arrays, bindings)
        assert status == 0
        results.append(outputs)
    tolerance = 1e-5 if graph.inputs[0].type.dtype is dtypes.f32 else 1e-12
    for outputs in results:
        for got, expected in zip(outputs, want):
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    return program


@pytest.mark.sweep(5)
@pytest.mark.parametrize("hidden", [8, 16, 37, 256])
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("op", ["lstm", "gru"])
def test_steps(op, batch, hidden):
    graph = layer(op, batch, hidden)
    assert kinds(run_pipeline(graph, default_pipeline())[-1]) == ["gates"]
    program = check(graph, slow=(batch, hidden) == (3, 37))
    names = [launch.kernel.name for launch in program.launches]
    assert names.count("gates") == 1
    (repeat,) = program.repeats
    assert [launch.kernel.name for launch in program.launches[repeat.first : repeat.end]] == ["gates"]


@pytest.mark.parametrize("target", ["x86-64-avx2", "x86-64-sse2"])
@pytest.mark.parametrize("op", ["lstm", "gru"])
def test_other_instruction_sets(op, target):
    check(layer(op, 5, 20), Target.named(target))


def test_float64_and_reversed():
    check(layer("lstm", 7, 24, dtype=dtypes.f64, reverse=True))


def test_a_symbolic_batch():
    graph = layer("lstm", Dim("batch", 1, 20), 33)
    for size in (1, 6, 20):
        check(graph, bindings={"batch": size})


def test_rows_of_a_long_sequence_are_fetched_early():
    program = check(layer("lstm", 16, 128, steps=64))
    assert "prefetch x_part" in print_program(program)


def test_a_step_whose_weights_are_not_kept_is_two_launches():
    """Packing weights for one step would cost more than the step."""
    graph = layer("lstm", 2, 64, steps=1)
    fused = run_pipeline(graph, default_pipeline())[-1]
    assert fused.nodes[0].attrs["kind"] == "gates"
    names = [launch.kernel.name for launch in check(graph).launches]
    assert "gates" not in names and "matmul" in names


def test_strict_numerics_leave_the_product_alone():
    fused = run_pipeline(layer("lstm", 2, 16), default_pipeline(PipelineOptions(strict=True)))[-1]
    assert "gates" not in kinds(fused)


def step(reads):
    """A product [2, 32] of two gates of 16 units, and what `reads(F, product)` makes of it."""
    F = GraphBuilder("g")
    h, w = F.input("h", TensorType((2, 16), dtypes.f32)), F.input("w", TensorType((16, 32), dtypes.f32))
    return F.finish(reads(F, F.matmul(h, w)))


def part(F, y, start, stop, rows=2):
    return F.slice(y, starts=(0, start), stops=(rows, stop), steps=(1, 1))


def one_unit(F, y):
    return F.mul(F.tanh(part(F, y, 0, 16)), F.sigmoid(part(F, y, 16, 32)))


@pytest.mark.parametrize(
    "reads",
    [
        lambda F, y: [one_unit(F, y), y],
        lambda F, y: [F.mul(F.tanh(part(F, y, 0, 16)), F.sigmoid(part(F, y, 8, 24)))],
        lambda F, y: [F.add(one_unit(F, y), F.amax(y, dims=(1,), keepdim=True))],
    ],
)
def test_what_stays_apart(reads):
    graph = step(reads)
    fused = Fusion().run(graph)
    check_fusion(graph, fused)
    assert "gates" not in [n.attrs["kind"] for n in fused.nodes]


def test_the_checker_knows_where_a_unit_may_be_read():
    graph = step(lambda F, y: [one_unit(F, y)])
    fused = Fusion().run(graph)
    check_fusion(graph, fused)
    (node,) = fused.nodes
    assert node.attrs["kind"] == "gates"
    other = step(lambda F, y: [F.mul(F.tanh(part(F, y, 0, 16)), F.sigmoid(part(F, y, 8, 24)))])
    with pytest.raises(IRError, match=r"is read at .*8.*, not at"):
        check_group(replace(node, regions=(other,)))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_layers_of_modules_and_their_gradients(kind, bidirectional):
    """Packed sequences, projections and both directions, compiled as eagerly."""
    vitrify.manual_seed(0)
    more = {"proj_size": 9} if kind == "LSTM" else {}
    net = getattr(nn, kind)(5, 19, num_layers=2, bidirectional=bidirectional, **more)
    x = vitrify.randn(7, 3, 5)

    def both(x):
        packed = nn.utils.rnn.pack_padded_sequence(x, vitrify.tensor([7, 7, 4]))
        padded, _ = nn.utils.rnn.pad_packed_sequence(net(packed)[0])
        y = net(x)[0]
        loss = (y * y).mean() + padded.sin().mean()
        loss.backward()
        return y, padded

    def gradients():
        found = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        return found

    want, slopes = both(x), gradients()
    got, others = vitrify.compile(both)(x), gradients()
    for a, b in zip((*want, *slopes), (*got, *others)):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-6)


def test_each_thread_takes_one_chunk_of_a_small_step():
    """So that the weights it reads stay in its core's cache."""
    target = Target.host()

    def entry(batch):
        graph = run_pipeline(layer("lstm", batch, 256), default_pipeline())[-1]
        return list(emit_program(lower_graph(graph, target), target))[-1]

    assert entry(1).count(" = udiv i64 %most") == 1
    assert " = udiv i64 %most" not in entry(64)
