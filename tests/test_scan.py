"""The op `scan`: what it means, its text, what the verifier asks of it, and what passes do inside and around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vitrify as torch
from vitrify.ir import dtypes
from vitrify.ir.builder import ARRAYS, GraphBuilder
from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph, IRError
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify
from vitrify.passes.dce import DeadCodeElimination
from vitrify.passes.decompose import Decompose
from vitrify.passes.fusion import Fusion
from vitrify.passes.fusion_check import check_fusion
from vitrify.passes.pipeline import default_pipeline, run_pipeline

SUMS = """\
graph sums(%s: f32[2], %x: f32[3,2], %w: f32[2]) -> (f32[2], f32[3,2]) {
  %0: f32[2], %1: f32[3,2] = scan(%s, %x, %w) {carries=1, sequences=1, length=3}
    region step(%c0: f32[2], %x0: f32[2], %w0: f32[2]) -> (f32[2], f32[2]) {
      %0: f32[2] = mul(%x0, %w0)
      %1: f32[2] = add(%c0, %0)
      return %1, %1
    }
  return %0, %1
}"""


def f32(*shape):
    return TensorType(shape, dtypes.f32)


def arrays_for(graph: Graph, bindings=None, seed: int = 0):
    rng = np.random.default_rng(seed)
    shapes = [v.type.bind(bindings or {}).shape for v in graph.inputs]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_its_meaning_forwards_and_backwards():
    graph = parse(SUMS)
    s, x, w = arrays_for(graph)
    final, sums = run(graph, [s, x, w])
    want = s + np.cumsum(x * w, axis=0)
    np.testing.assert_allclose(sums, want, rtol=1e-6)
    np.testing.assert_array_equal(final, sums[-1])
    backwards = parse(SUMS.replace("length=3", "length=3, reverse=true"))
    final, sums = run(backwards, [s, x, w])
    np.testing.assert_allclose(sums, s + np.cumsum((x * w)[::-1], axis=0)[::-1], rtol=1e-6)
    np.testing.assert_array_equal(final, sums[0])


def test_it_reads_back_as_it_was_written():
    graph = parse(SUMS)
    assert to_text(graph) == SUMS
    assert parse(to_text(graph)) == graph


def test_a_builder_makes_one_node_and_another_writes_the_steps_out():
    def step(F, state, given, weights):
        total = F.add(state[0], F.mul(given[0], weights[0]))
        return (total,), (total,)

    F = GraphBuilder("sums")
    s, x, w = F.input("s", f32(2)), F.input("x", f32(3, 2)), F.input("w", f32(2))
    (final,), (sums,) = F.scan(step, (s,), (x,), (w,), length=3)
    graph = verify(F.finish([final, sums]))
    assert graph == parse(SUMS)
    given = arrays_for(graph)
    (final,), (sums,) = ARRAYS.scan(step, given[:1], given[1:2], given[2:], length=3)
    for got, want in zip((final, sums), run(graph, given)):
        np.testing.assert_array_equal(got, want)


def test_a_symbolic_length():
    n = Dim("n", 1, 9)
    F = GraphBuilder("g")
    s, x = F.input("s", f32(2)), F.input("x", f32(n, 2))
    (final,), _ = F.scan(lambda F, s, x, w: ((F.add(s[0], x[0]),), ()), (s,), (x,), length=n)
    graph = verify(F.finish([final]))
    assert parse(to_text(graph)) == graph
    s, x = arrays_for(graph, {"n": 4})
    np.testing.assert_allclose(run(graph, [s, x])[0], s + x.sum(0), rtol=1e-6)
    with pytest.raises(TypeError, match="a scan of n steps cannot be written out"):
        ARRAYS.scan(lambda F, s, x, w: (s, ()), (s,), length=n)


BROKEN = [
    ("sequences=1", "sequences=3", "1 carries and 3 sequences among 3 operands"),
    ("length=3", "length=4", r"expected a sequence of length 4, got f32\[3,2\]"),
    ("return %1, %1", "return %1", r"region step returns|gives"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN)
def test_what_the_verifier_asks(old, new, message):
    with pytest.raises(IRError, match=message):
        parse(SUMS.replace(old, new))


def test_states_keep_their_type():
    graph = parse(SUMS)
    node = graph.nodes[0]
    (body,) = node.regions
    wide = replace(body, outputs=(body.nodes[1].outputs[0], body.inputs[1]))
    F = GraphBuilder("step")
    inputs = [F.input(v.name, v.type) for v in body.inputs]
    wide = F.finish([F.reshape(inputs[0], shape=(2, 1)), inputs[1]])
    with pytest.raises(IRError, match=r"the body turns states \(f32\[2\]\) into \(f32\[2,1\]\)"):
        verify(replace(graph, nodes=(replace(node, regions=(wide,)),)))


LAYERS = {
    "rnn": lambda F, x, h, w: F.rnn(x, h, w, batch_sizes=(2, 2, 2, 1, 1, 1)),
    "gru": lambda F, x, h, w: F.gru(x, h, w, batch_sizes=(2, 2, 2, 1, 1, 1), reverse=True),
    "lstm": lambda F, x, h, w: F.lstm(x, h, h, w, batch_sizes=(3, 3, 3)),
    "lstm backwards": lambda F, x, h, w: F.lstm(x, h, h, w, batch_sizes=(3, 3, 3), reverse=True),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_recurrent_layer_at_every_stage(layer):
    gates = {"r": 1, "g": 3, "l": 4}[layer[0]]
    batch = 3 if gates == 4 else 2
    F = GraphBuilder("g")
    given = F.input("x", f32(9, 2 * gates)), F.input("h", f32(batch, 2)), F.input("w", f32(2 * gates, 2))
    graph = F.finish(LAYERS[layer](F, *given))
    arrays = arrays_for(graph)
    want = run(graph, arrays)
    *stages, before, after = run_pipeline(graph, default_pipeline())
    for stage in (*stages, before, after):
        assert parse(to_text(stage)) == stage
        for got, expected in zip(run(stage, arrays), want):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    check_fusion(before, after)
    scans = [n for n in after.nodes if n.op.name == "scan"]
    assert len(scans) == (1 if gates == 4 else 2)  # one for each run of steps with as many rows
    assert {n.op.name for scan in scans for n in scan.regions[0].nodes} == {"fused"}


def test_composites_in_a_body_are_decomposed():
    F = GraphBuilder("g")
    s, x = F.input("s", f32(2, 3)), F.input("x", f32(4, 2, 3))
    (final,), _ = F.scan(
        lambda F, s, x, w: ((F.softmax(F.add(s[0], x[0]), dim=1),), ()), (s,), (x,), length=4
    )
    graph = F.finish([final])
    apart = verify(Decompose().run(graph))
    assert all(n.op.level == "primitive" for n in apart.nodes[0].regions[0].nodes)
    arrays = arrays_for(graph)
    np.testing.assert_allclose(run(apart, arrays)[0], run(graph, arrays)[0], rtol=1e-6)


DEAD = """\
graph g(%a: f32[2], %b: f32[2], %x: f32[3,2], %y: f32[3,2], %w: f32[2], %v: f32[2]) -> f32[2] {
  %0: f32[2], %1: f32[2], %2: f32[3,2] = scan(%a, %b, %x, %y, %w, %v) {carries=2, sequences=2, length=3}
    region step(%a: f32[2], %b: f32[2], %x: f32[2], %y: f32[2], %w: f32[2], %v: f32[2]) -> (f32[2], f32[2], f32[2]) {
      %0: f32[2] = mul(%x, %w)
      %1: f32[2] = add(%a, %0)
      %2: f32[2] = add(%b, %a)
      %3: f32[2] = mul(%y, %v)
      return %1, %2, %3
    }
  return RESULT
}"""

PRUNED = """\
graph g(%a: f32[2], %b: f32[2], %x: f32[3,2], %y: f32[3,2], %w: f32[2], %v: f32[2]) -> f32[2] {
  %0: f32[2] = scan(%a, %x, %w) {carries=1, sequences=1, length=3}
    region step(%a: f32[2], %x: f32[2], %w: f32[2]) -> f32[2] {
      %0: f32[2] = mul(%x, %w)
      %1: f32[2] = add(%a, %0)
      return %1
    }
  return %0
}"""


def test_what_of_a_scan_is_dead_goes():
    after = DeadCodeElimination().run(parse(DEAD.replace("RESULT", "%0")))
    assert verify(after) == parse(PRUNED)


def test_a_state_that_another_needs_stays():
    after = verify(DeadCodeElimination().run(parse(DEAD.replace("RESULT", "%1"))))
    assert after.nodes[0].attrs["carries"] == 2
    assert [v.name for v in after.nodes[0].inputs] == ["a", "b", "x", "w"]


def test_results_that_are_one_value_get_places_of_their_own():
    graph = parse(SUMS)
    fused = verify(Fusion().run(graph))
    check_fusion(graph, fused)
    (body,) = fused.nodes[0].regions
    assert len(set(body.outputs)) == 2
    given = arrays_for(fused)
    for got, want in zip(run(fused, given), run(graph, given)):
        np.testing.assert_array_equal(got, want)


def test_a_check_of_fusion_looks_into_bodies():
    before = parse(SUMS)
    with pytest.raises(IRError, match="is in no group"):
        check_fusion(before, before)
    other = Fusion().run(parse(SUMS.replace("mul(%x0, %w0)", "sub(%x0, %w0)")))
    with pytest.raises(IRError, match="of the fused graph is not"):
        check_fusion(before, other)


def test_the_steps_of_ctc_are_loops():
    torch.manual_seed(0)
    log_probs = torch.randn(40, 3, 6).log_softmax(2).requires_grad_()
    targets, lengths = torch.randint(1, 6, (3, 5)), (torch.tensor([40, 31, 9]), torch.tensor([5, 3, 4]))

    def loss():
        return torch.nn.functional.ctc_loss(log_probs, targets, *lengths)

    compiled = torch.compile(loss)
    gradients = [torch.autograd.grad(f(), log_probs)[0] for f in (loss, compiled)]
    torch.testing.assert_close(*gradients)
    assert "ctc_states" in str(compiled.graph("traced"))
    assert len(compiled.graph("fused").nodes) < 60
