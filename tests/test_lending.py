"""Values that lie in results nothing has written yet: never two at once, gone before the result is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitrify as torch
from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.nodes import Buffer, Program
from vitrify.codegen.loops.verify import LoopError, verify_program
from vitrify.codegen.lower import LowerOptions, lending, lower_graph
from vitrify.codegen.target import Target
from vitrify.ir import dtypes
from vitrify.ir.interpreter import run
from vitrify.nn import functional as F
from vitrify.passes.memory_plan import Interval
from vitrify.passes.pipeline import default_pipeline, run_pipeline

LAUNCHES = 30
lifetimes = st.tuples(st.integers(0, LAUNCHES - 1), st.integers(0, 9), st.integers(1, 80))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, LAUNCHES), st.integers(1, 100)), max_size=5),
    st.lists(lifetimes, max_size=40),
)
def test_guests_of_a_result_never_meet(results, values):
    rooms = [
        (Buffer(f"r{i}", dtypes.u8, (lending.LEAST_RESULT // 8 * n,)), first)
        for i, (first, n) in enumerate(results)
    ]
    intervals = [
        Interval(f"v{i}", n * 2048, first, min(first + length, LAUNCHES - 1))
        for i, (first, length, n) in enumerate(values)
    ]
    places = lending.lend(rooms, intervals)
    first_write = {room.name: first for room, first in rooms}
    guests = [i for i in intervals if i.name in places]
    for n, one in enumerate(guests):
        place = places[one.name]
        assert place.offset % 64 == 0 and 0 <= place.offset <= place.result.nbytes - one.nbytes
        assert one.last < first_write[place.result.name]
        for other in guests[:n]:
            if places[other.name].result is place.result:
                apart = one.last < other.first or other.last < one.first
                low, high = sorted([(place.offset, one.nbytes), (places[other.name].offset, other.nbytes)])
                assert apart or low[0] + low[1] <= high[0]


class Net(torch.nn.Module):
    """With 128 of width activations of 64 kB, gradients of 64 kB to 262 kB."""

    def __init__(self, width=128):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(6))
        self.head = torch.nn.Linear(width, 4 * width)
        self.embedding = torch.nn.Embedding(500, width)

    def forward(self, words):
        x = self.embedding(words)
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return self.head(x)


def step_of(net: Net) -> Callable[..., torch.Tensor]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(words, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(words), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, 500, (128,)), torch.randint(0, 512, (128,))


@pytest.fixture(scope="module")
def stages(batch):
    torch.manual_seed(0)
    traced = torch.compile(step_of(Net())).trace(*batch).graph
    return run_pipeline(traced, default_pipeline())


@pytest.fixture(scope="module")
def program(stages) -> Program:
    return lower_graph(stages[-1], Target.host())


def test_a_step_needs_less(stages, program):
    verify_program(program)
    alone = lower_graph(stages[-1], Target.host(), LowerOptions(lend=False))
    assert not alone.lenders and len(program.lenders) > 5
    assert program.arena_bytes < 0.7 * alone.arena_bytes


def test_loop_interpreter(monkeypatch):
    monkeypatch.setattr(lending, "LEAST_RESULT", 256)
    monkeypatch.setattr(lending, "LEAST_VALUE", 64)
    words, labels = torch.randint(0, 500, (8,)), torch.randint(0, 32, (8,))
    traced = torch.compile(step_of(Net(8))).trace(words, labels).graph
    graph = run_pipeline(traced, default_pipeline())[-1]
    program = lower_graph(graph, Target.host())
    assert len(program.lenders) > 5
    rng = np.random.default_rng(0)
    arrays = []
    for value in graph.inputs:
        shape = value.type.sizes
        numbers = rng.integers(0, 32, shape) if value.type.dtype.is_integral else rng.normal(0, 0.5, shape)
        arrays.append(np.asarray(numbers, value.type.dtype.numpy))
    want = run(graph, [a.copy() for a in arrays])
    got, code = interpreter.run_program(program, [a.copy() for a in arrays])
    assert code == 0
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_steps_train_as_eager_ones_do(batch, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        nets = []
        for compiled in (False, True):
            torch.manual_seed(0)
            net = Net()
            step = torch.compile(step_of(net)) if compiled else step_of(net)
            losses = [step(*batch).item() for _ in range(4)]
            nets.append((losses, [p.grad.numpy().copy() for p in net.parameters()]))
    finally:
        torch.set_num_threads(before)
    (eager_losses, eager), (losses, grads) = nets
    np.testing.assert_allclose(losses, eager_losses, 1e-5)
    for a, b in zip(grads, eager, strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-6)


def test_gradients_of_a_call_before_a_failed_one_are_gone(batch):
    torch.manual_seed(0)
    net = Net()
    step = torch.compile(step_of(net))
    step(*batch)
    held = net.head.weight.grad
    kept = held.clone()
    step(*batch)
    assert torch.equal(held, kept)  # someone holds it: the second call took other memory
    words, labels = batch
    with pytest.raises(IndexError):
        step(words, torch.where(torch.arange(128) == 77, torch.tensor(512), labels))
    assert all(p.grad is None for p in net.parameters()) and torch.equal(held, kept)
    losses = [step(*batch).item() for _ in range(3)]
    assert losses[2] < losses[1] < losses[0] and all(p.grad.isfinite().all() for p in net.parameters())


def test_the_verifier_knows_who_may_lie_where(program):
    buffer, lender = next(iter(program.lenders.items()))
    tied = next(b for b in program.outputs if b in program.inputs)
    with pytest.raises(LoopError, match="no output of its own"):
        verify_program(replace(program, lenders={buffer: tied}))
    with pytest.raises(LoopError, match="past"):
        verify_program(replace(program, offsets={**program.offsets, buffer.name: lender.nbytes}))
    results = [b for b in program.outputs if b not in program.inputs]
    beside, lender = next(
        (b, r)
        for launch in program.launches
        for b in launch.args
        for r in launch.args
        if b in program.arena and r in results and b.nbytes <= r.nbytes
    )
    with pytest.raises(LoopError, match="when that is written"):
        verify_program(
            replace(program, lenders={beside: lender}, offsets={**program.offsets, beside.name: 0})
        )
