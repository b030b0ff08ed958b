"""Bugs planted in each kind of pass and in lowering: bisection names the stage and the node, and its files show it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Graph
from vitrify.ir.op import op_named
from vitrify.ir.types import TensorType
from vitrify.passes import fusion_build, simplify
from vitrify.passes.base import Pass
from vitrify.runtime import bisect
from vitrify.runtime.agreement import difference
from vitrify.runtime.bisect import LOWERING, examine, replay

f32 = dtypes.f32


def network() -> Graph:
    """A graph with work for every pass."""
    F = GraphBuilder("network")
    x = F.input("x", TensorType((6, 8), f32))
    w = F.input("w", TensorType((8, 5), f32))
    b = F.input("b", TensorType((5,), f32))
    h = F.gelu(F.addmm(b, x, w))
    h = F.add(h, F.mul(F.neg(F.neg(h)), 1.0))
    s = F.log_softmax(h, dim=1)
    t = F.sigmoid(F.permute(F.sub(s, F.add(s, 2.0)), dims=(1, 0)))
    return F.finish([F.sum(s, dims=(0,)), t], made_by="test")


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    graph = network()
    return graph, [rng.standard_normal(v.type.sizes).astype(np.float32) for v in graph.inputs]


def found(case, tmp_path):
    """The fault, its files written and played again."""
    result = examine(*case)
    fault = result.fault
    assert fault is not None and fault.reproduced
    text, _ = fault.save(tmp_path, "fault")
    stage, apart = replay(text)
    assert stage == fault.stage and apart is not None
    assert len(fault.graph.nodes) <= 4
    return fault, result


def test_without_a_bug_everything_agrees(case):
    result = examine(*case)
    assert result.fault is None
    assert [name for name, _ in result.stages][-2:] == ["compiled, 1 thread", "compiled, 2 threads"]
    assert all(apart is None for _, apart in result.stages)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A pass that spoils what another gives: a value of one op is another's."""

    inner: Pass
    op: str
    put: str

    @property
    def name(self) -> str:
        return self.inner.name

    def run(self, graph: Graph) -> Graph:
        return graph_with(self.inner.run(graph), self.op, self.put)


def graph_with(graph: Graph, op: str, put: str) -> Graph:
    nodes = []
    for node in graph.nodes:
        regions = tuple(graph_with(body, op, put) for body in node.regions)
        changed = op_named(put) if node.op.name == op else node.op
        nodes.append(dataclasses.replace(node, op=changed, regions=regions))
    return dataclasses.replace(graph, nodes=tuple(nodes))


def plant(monkeypatch, name: str, op: str, put: str) -> None:
    real = bisect.default_pipeline
    monkeypatch.setattr(
        bisect,
        "default_pipeline",
        lambda options: tuple(Wrong(p, op, put) if p.name == name else p for p in real(options)),
    )


@pytest.mark.parametrize(
    "name, op, put",
    [
        ("simplify", "sigmoid", "tanh"),
        ("cse", "sub", "add"),
        ("dce", "mul", "maximum"),
        ("constant_folding", "exp", "expm1"),
    ],
)
def test_an_op_exchanged_by_a_pass_is_found(case, monkeypatch, tmp_path, name, op, put):
    plant(monkeypatch, name, op, put)
    fault, _ = found(case, tmp_path)
    assert fault.stage == name and f"= {put}(" in fault.node and f"= {op}(" in fault.before


def test_a_wrong_simplify_rule(case, monkeypatch, tmp_path):
    monkeypatch.setitem(simplify.RULES, "sigmoid", (lambda b, call: call.inputs[0],))
    fault, _ = found(case, tmp_path)
    assert fault.stage == "simplify"


def test_a_wrong_decomposition(case, monkeypatch, tmp_path):
    op = op_named("log_softmax")
    right = op.decompose
    object.__setattr__(op, "decompose", lambda F, x, dim: F.add(right(F, x, dim=dim), 0.25))
    try:
        fault, _ = found(case, tmp_path)
    finally:
        object.__setattr__(op, "decompose", right)
    assert fault.stage == "decompose" and "log_softmax" in fault.before


def test_a_wrong_fusion_body(case, monkeypatch, tmp_path):
    real = fusion_build._Builder._fused

    def wrong(self, group, name, members, memory):
        node = real(self, group, name, members, memory)
        return dataclasses.replace(node, regions=tuple(graph_with(r, "sub", "maximum") for r in node.regions))

    monkeypatch.setattr(fusion_build._Builder, "_fused", wrong)
    fault, _ = found(case, tmp_path)
    assert fault.stage == "fusion" and "maximum" in fault.node and "sub" in fault.before


def test_a_wrong_lowering(case, monkeypatch, tmp_path):
    op = op_named("sigmoid")
    right = op.scalar
    object.__setattr__(op, "scalar", lambda s, x: s.mul(right(s, x), 1.5))
    try:
        fault, result = found(case, tmp_path)
    finally:
        object.__setattr__(op, "scalar", right)
    assert fault.stage == LOWERING and "sigmoid" in fault.node
    assert result.stages[-1][0] == "compiled, 1 thread"


def test_rounding_is_no_difference():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((4, 3000)).astype(np.float32)
    exact = values.astype(np.float64).sum(1)
    forwards = np.add.accumulate(values, axis=1)[:, -1]
    assert difference(values.sum(1), forwards, exact) is None
    assert difference(values.sum(1), forwards + np.float32(0.01), exact) is not None
    nan = np.array([np.nan, 1.0], np.float32)
    assert difference(nan, nan.copy()) is None
    assert difference(nan, np.ones(2, np.float32)) == float("inf")
    assert difference(np.array([1, 2]), np.array([1, 5])) == 3


def test_what_cancels_to_nothing_is_rounding():
    """A bias before a batch norm of two rows has no gradient: what comes out are last places of other numbers."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(9, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = net(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    for seed in range(4):
        torch.manual_seed(seed)
        report = torch.compile(step).check(torch.randn(2, 9))
        assert report.ok, str(report)
