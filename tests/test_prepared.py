"""Compiled inference keeps packed weights between calls, and never stale ones."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.compile.specialization import Specialization


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(70, 90)
        self.second = nn.Linear(90, 33)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def specialization(model: nn.Module) -> Specialization:
    found = model._compiled._last
    assert found is not None
    return found


def agree(model: nn.Module, compiled: nn.Module, x: torch.Tensor) -> None:
    torch.testing.assert_close(compiled(x), model(x))


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(48, 70)


@pytest.fixture
def model() -> Net:
    torch.manual_seed(1)
    return Net()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def test_weights_are_packed_by_the_first_call_only(model, x):
    compiled = torch.compile(model)
    agree(model, compiled, x)
    kept = specialization(compiled).prepared
    assert kept is not None and kept.nbytes >= 4 * (70 * 90 + 90 * 33) and kept.is_current()
    agree(model, compiled, x)
    assert "computed once and kept" in str(compiled.explain())
    assert "  once" in str(compiled.report()) and "prepared" in str(compiled.report())


CHANGES = {
    "in place": lambda m: m.first.weight.mul_(2.0),
    "a part of it": lambda m: m.first.weight[3:5].zero_(),
    "through .data": lambda m: m.first.weight.data.add_(1.0),
    "other memory": lambda m: setattr(m.first.weight, "data", torch.randn(90, 70)),
    "load_state_dict": lambda m: m.load_state_dict(Net().state_dict()),
    "load_state_dict by assignment": lambda m: m.load_state_dict(Net().state_dict(), assign=True),
    "another parameter": lambda m: setattr(m, "first", nn.Linear(70, 90)),
    "nn.init": lambda m: nn.init.normal_(m.second.weight),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_weight_is_seen(model, x, change):
    compiled = torch.compile(model)
    agree(model, compiled, x)
    for _ in range(2):
        change(model)
        agree(model, compiled, x)
        agree(model, compiled, x)


def test_training_between_calls(model, x):
    compiled, target = torch.compile(model), torch.randn(48, 33)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile
    def step(given):
        optimizer.zero_grad()
        loss = (model(given) - target).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        agree(model, compiled, x)
        with torch.enable_grad():
            step(x)
    agree(model, compiled, x)


def test_memory_that_numpy_shares_is_not_prepared(model, x):
    weights = np.ones((90, 70), np.float32)
    model.first.weight = nn.Parameter(torch.from_numpy(weights))
    compiled = torch.compile(model)
    agree(model, compiled, x)
    weights[:] = 0.5
    agree(model, compiled, x)
    names = [
        specialization(compiled).trace.sources[n].path
        for n in specialization(compiled).compiled.prepared_inputs
    ]
    assert names == ["second.weight"]


def test_memory_handed_out_later_is_computed_by_every_call_again(model, x):
    compiled = torch.compile(model)
    agree(model, compiled, x)
    weights = model.first.weight.detach().numpy()
    for factor in (0.5, 2.0):
        weights *= factor
        agree(model, compiled, x)
    assert len(specialization(compiled).compiled.prepared_inputs) == 1
    assert "handed out" in compiled.explain().to_dict()["compiles"][1]["reason"]


def test_dlpack_hands_memory_out_too(model, x):
    compiled = torch.compile(model)
    agree(model, compiled, x)
    weights = np.from_dlpack(model.second.weight.detach())
    agree(model, compiled, x)
    assert weights.shape == (33, 90)
    assert len(specialization(compiled).compiled.prepared_inputs) == 1


def test_batches_share_what_is_kept(model):
    batch = torch.Dim("batch", 4, 64)
    run = torch.compile(lambda x: model(x), dynamic_shapes={"x": {0: batch}})
    for size in (5, 48, 5):
        x = torch.randn(size, 70)
        torch.testing.assert_close(run(x), model(x))
    assert len(run._specializations) == 1
    assert run._last.prepared is not None and len(run._last._bindings) == 2


def test_a_gradient_or_strict_numerics_keep_nothing(model, x):
    with torch.enable_grad():
        compiled = torch.compile(model)
        compiled(x)
        assert specialization(compiled).prepared is None
    for options in ({"numerics": "strict"}, {"check_finite": True}, {"prepare": False}):
        compiled = torch.compile(model, options=options)
        agree(model, compiled, x)
        assert specialization(compiled).prepared is None


def test_weights_that_the_call_itself_writes_are_not_steady(x):
    torch.manual_seed(0)
    weight = torch.randn(90, 70)

    @torch.compile
    def run(given):
        weight.mul_(0.5)
        return given @ weight.t()

    before = weight.clone()
    for power in (1, 2, 3):
        torch.testing.assert_close(run(x), x @ (before * 0.5**power).t())


def test_a_call_that_fails_leaves_nothing_half_made(model, x):
    table = nn.Embedding(10, 70)
    run = torch.compile(lambda i: model(table(i)))
    with pytest.raises(IndexError):
        run(torch.full((48,), 11))
    index = torch.arange(48) % 10
    torch.testing.assert_close(run(index), model(table(index)))


def test_threads_and_a_weight_that_changes_between_rounds(model, x):
    compiled, wrong = torch.compile(model), []
    compiled(x)
    for _ in range(5):
        model.first.weight.neg_()
        want = model(x)

        def call(want=want):
            with torch.no_grad():
                for _ in range(20):
                    if not torch.allclose(compiled(x), want, atol=1e-4):
                        wrong.append(1)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_code_from_disk_keeps_too(model, x):
    first = torch.compile(model)
    agree(model, first, x)
    from vitrify.runtime import compiled_graph

    compiled_graph._in_memory.clear()
    again = torch.compile(model)
    agree(model, again, x)
    found = specialization(again)
    assert found.compiled.from_cache and found.prepared is not None
    model.first.weight.zero_()
    agree(model, again, x)
