"""Recomputation: the same bits from less memory."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest
from random_modules import draw_module

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn
from vitrify.ir import interpreter
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.ir.verifier import verify
from vitrify.passes.cse import CommonSubexpressions
from vitrify.passes.fusion import Fusion
from vitrify.passes.fusion_check import check_fusion
from vitrify.passes.host import runs_on_host
from vitrify.passes.pipeline import PipelineOptions, default_pipeline, run_pipeline
from vitrify.passes.recompute import Recompute, recomputed
from vitrify.passes.recompute_schedule import footprint
from vitrify.passes.text import parse_passes, passes_text
from vitrify.runtime.compiled_graph import CompileOptions

BUDGETS = (1.0, 0.0)


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(3 * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Dropped(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.inner, self.drop = nn.Linear(width, width), nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(torch.tanh(self.inner(x)))


def stack() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(*(Block(16) for _ in range(3)), nn.Linear(16, 4)), torch.randn(32, 16)


def images() -> tuple[nn.Module, torch.Tensor]:
    def layer(inside: int, outside: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]

    layers = [*layer(3, 8), *layer(8, 8), nn.MaxPool2d(2), *layer(8, 12), *layer(12, 12)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 36, 4)), torch.randn(4, 3, 12, 12)


def dropped() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(*(Dropped(24) for _ in range(4)), nn.Linear(24, 4)), torch.randn(16, 24)


def attending() -> tuple[nn.Module, torch.Tensor]:
    layer = nn.TransformerEncoderLayer(16, 2, 48, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(16, 4)), torch.randn(2, 24, 16)


def recurrent() -> tuple[nn.Module, torch.Tensor]:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(8, 8, num_layers=2), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.lstm(x)[0])

    return Last(), torch.randn(12, 3, 8)


NETWORKS = {f.__name__: f for f in (stack, images, dropped, attending, recurrent)}


def trained(make, budget, numerics: str = "fast", steps: int = 2):
    """The losses, and all parameters and gradients after so many steps; and the compiled step."""
    torch.manual_seed(0)
    net, x = make()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)

    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    compiled = torch.compile(step, options=options_of(budget, numerics))
    torch.manual_seed(1)
    found = [compiled(x).numpy() for _ in range(steps)]
    found += [a.numpy().copy() for p in net.parameters() for a in (p.detach(), p.grad)]
    return found, compiled


def options_of(budget, numerics: str) -> CompileOptions:
    pipeline = PipelineOptions(strict=numerics == "strict", memory_budget=budget)
    return CompileOptions(pipeline, verify=True)


def arena(compiled) -> int:
    return compiled.graphs()[0].arena_bytes({})


def gradients_of(net):
    """A step without an optimizer."""

    def step(x: torch.Tensor) -> torch.Tensor:
        for p in net.parameters():
            p.grad = None
        loss = net(x).square().mean()
        loss.backward()
        return loss

    return step


@functools.cache
def training_graph(make):
    """The graph of a step as the pass gets it."""
    torch.manual_seed(0)
    net, x = make()
    traced = torch.compile(gradients_of(net)).trace(x).graph
    return run_pipeline(traced, default_pipeline()[:-1])[-1]


@pytest.mark.parametrize("numerics", ["fast", pytest.param("strict", marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_results_are_the_same_bits(make, numerics) -> None:
    wanted, plain = trained(make, None, numerics)
    for budget in BUDGETS if numerics == "fast" else BUDGETS[-1:]:
        found, compiled = trained(make, budget, numerics)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"budget {budget}")
    assert arena(compiled) <= arena(plain)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_smaller_budget_is_no_more_memory(make) -> None:
    graph = training_graph(make)
    peaks = [Recompute(budget).run_with_report(graph).peak for budget in (1.0, 0.5, 0.0)]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] <= footprint(Fusion().run(graph), {})[0]


@pytest.mark.parametrize("make", [stack, images, attending])
def test_memory_falls_by_a_third_and_more(make) -> None:
    graph = training_graph(make)
    found = Recompute(0.0).run_with_report(graph)
    assert found.nodes
    assert found.peak < 0.67 * found.peak_before
    assert found.peak == footprint(Fusion().run(found.graph), {})[0]
    assert found.nodes == tuple(recomputed(graph, found.graph))


def test_only_what_is_cheap_is_computed_again_at_1() -> None:
    graph = training_graph(stack)
    nodes = Recompute(1.0).run_with_report(graph).nodes
    assert {n.op.lowering for n in nodes} <= {"pointwise", "view", "constant"}
    dear = {n.op.lowering for n in Recompute(0.0).run_with_report(graph).nodes}
    assert "contraction" in dear


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_graph_means_the_same_reads_back_and_stays_apart(make) -> None:
    graph = training_graph(make)
    after = verify(Recompute(0.0).run(graph))
    assert parse(to_text(after)) == after
    check_fusion(graph, Fusion().run(graph))
    check_fusion(after, Fusion().run(after))
    rng = np.random.default_rng(0)
    inputs = []
    for value in graph.inputs:
        inputs.append(rng.uniform(0.5, 2.5, value.type.sizes).astype(value.type.dtype.numpy))
    for a, b in zip(interpreter.run(graph, inputs), interpreter.run(after, inputs), strict=True):
        np.testing.assert_array_equal(a, b)
    # CSE must not make one of what is there twice.
    twice = [
        [n for n in recomputed(graph, g) if n.inputs] for g in (after, CommonSubexpressions().run(after))
    ]
    assert len(twice[0]) == len(twice[1])


def noisy() -> tuple[nn.Module, torch.Tensor]:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = torch.tanh(layer(x)) * torch.rand_like(x)
            return x

    return Noisy(), torch.randn(64, 24)


def test_random_numbers_are_computed_again_alike() -> None:
    nodes = Recompute(0.0).run_with_report(training_graph(noisy)).nodes
    assert "random_uniform" in {n.op.name for n in nodes}
    wanted, _ = trained(noisy, None)
    found, _ = trained(noisy, 0.0)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_runs_on_the_host_is_never_computed_again() -> None:
    def make() -> tuple[nn.Module, torch.Tensor]:
        class Sorted(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                for _ in range(3):
                    x = torch.tanh(self.b(torch.sort(self.a(x), dim=0)[0]))
                return x

        return Sorted(), torch.randn(64, 16)

    graph = training_graph(make)
    assert any(map(runs_on_host, graph.nodes))
    assert not any(map(runs_on_host, Recompute(0.0).run_with_report(graph).nodes))
    wanted, _ = trained(make, None)
    found, _ = trained(make, 0.0)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_budget_in_bytes_is_kept() -> None:
    wanted, plain = trained(stack, None)
    _, least = trained(stack, 0.0)
    assert arena(least) < arena(plain)
    budget = (arena(least) + arena(plain)) // 2
    found, compiled = trained(stack, budget)
    assert arena(compiled) <= budget
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    found, compiled = trained(stack, arena(plain))
    assert compiled.explain().facts["graphs"][0]["recomputed"]["nodes"] == 0


def test_a_budget_that_cannot_be_kept_names_the_least() -> None:
    with pytest.raises(
        RuntimeError, match=r"memory_budget of 100 bytes; the least that it was brought to is [\d,]+ by"
    ):
        trained(stack, 100)


@pytest.mark.parametrize("given", [1.5, -0.1, -3, True, "half", float("nan")])
def test_what_is_no_budget(given) -> None:
    with pytest.raises(
        RuntimeError, match=r"memory_budget is a float from 0\.0 to 1\.0, a number of bytes or None"
    ):
        torch.compile(torch.sin, options={"memory_budget": given})


def test_the_option_reaches_the_pass_and_the_explanation() -> None:
    net, x = stack()
    compiled = torch.compile(gradients_of(net), options={"memory_budget": 0})
    compiled(x)
    facts = compiled.explain().facts["graphs"][0]["recomputed"]
    assert facts["budget"] == 0.0
    assert facts["nodes"] > 0
    assert facts["ops"]["matmul"] > 0
    assert facts["bytes"] < facts["bytes_before"]
    assert "computed again for a memory budget of 0.0" in str(compiled.explain())
    assert "recompute" in compiled.graphs()[0].stage_names()


def test_the_pass_has_a_text() -> None:
    for text in ("recompute{budget=0.5}", "recompute{budget=100000}", "recompute{budget=0.0, strict=true}"):
        (step,) = parse_passes(text)
        assert passes_text([step]) == text


def test_a_graph_with_nothing_to_keep_stays_as_it_is() -> None:
    text = """
    graph g(%x: f32[64], %y: f32[64]) -> (f32[64]) {
      %a: f32[64] = mul(%x, %y)
      %b: f32[64] = tanh(%a)
      return %b
    }"""
    graph = parse(text)
    assert Recompute(0.0).run(graph) == graph


@pytest.mark.parametrize("seed", range(6))
def test_random_modules_have_the_same_gradients(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    module, x = draw_module(rng)
    x.requires_grad = True
    parameters = [x, *module.parameters()]

    def gradients(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = module(x).square().sum()
        if not loss.requires_grad:
            return (loss,)
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    state = {name: value.clone() for name, value in module.state_dict().items()}
    found = []
    for budget in (None, 0.0):
        module.load_state_dict(state)
        torch.manual_seed(seed)
        compiled = torch.compile(gradients, options=options_of(budget, "fast"))
        found.append([None if g is None else g.numpy() for g in compiled(x)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b) if a is not None else None
