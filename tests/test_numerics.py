"""With strict numerics compiled code gives eager code's results to the bit."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from graphs import random_graph, random_inputs
from networks import digits, lenet
from samples.store import all_samples, family
from samples.table import Array, Sample, encode, note, run
from strict_graphs import not_the_same_bits
from test_compile_step import OPTIMIZERS, make_step

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn
from vitrify.ir.parser import parse

STRICT = {"numerics": "strict"}
# One sample in this many is checked by default; `make test-slow` checks all.
STEP = 120
# NumPy computes these on both sides, in an order that is its own affair.
NUMPYS = ("complex", "fft", "linalg")


def chosen_samples() -> Iterator[Any]:
    for sample in all_samples():
        if sample.family not in NUMPYS and note(family(sample.family).eager_only, sample) is None:
            later = zlib.crc32(sample.key.encode()) % STEP
            label = f"{sample.family}: {sample.key}"
            yield pytest.param(sample, marks=pytest.mark.slow if later else (), id=label)


@pytest.mark.parametrize("sample", list(chosen_samples()))
def test_samples(sample: Sample) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.numerics("strict"):  # for both: what makes a module may compute its parameters
            eager = run(torch, family(sample.family), sample)
            compiled = run(torch, family(sample.family), sample, compile=True, options=STRICT)
    assert "error" not in eager, eager["error"]
    ours: list[Array] = []
    theirs: list[Array] = []
    assert encode(compiled, ours) == encode(eager, theirs)
    assert [bits(a) for a in ours] == [bits(a) for a in theirs]


def bits(array: Array) -> bytes:
    """The array's bytes, all NaNs alike: IEEE 754 leaves their payload open."""
    if array.dtype.kind in "fcV":
        array = np.where(np.isnan(array), np.array(np.nan).astype(array.dtype), array)
    return array.tobytes()


def train(optimizer: str, compiled: bool, threads: int = 2) -> list[bytes]:
    """Losses and final parameters of a few steps."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        net = lenet()
        step = make_step(net, OPTIMIZERS[optimizer](net.parameters()))
        call = torch.compile(step, options=STRICT) if compiled else step
        with torch.numerics("fast" if compiled else "strict"):
            losses = [call(*digits(3 + i)).detach().numpy().tobytes() for i in range(3)]
    finally:
        torch.set_num_threads(before)
    return losses + [p.detach().numpy().tobytes() for p in net.parameters()]


@pytest.mark.parametrize(
    "optimizer", [pytest.param(name, marks=pytest.mark.slow if name != "adam" else ()) for name in OPTIMIZERS]
)
def test_training_steps(optimizer: str) -> None:
    assert train(optimizer, compiled=True) == train(optimizer, compiled=False)


def test_bits_do_not_depend_on_threads() -> None:
    assert train("adam", compiled=True, threads=1) == train("adam", compiled=True, threads=2)
    assert train("adam", compiled=False, threads=1) == train("adam", compiled=False, threads=2)


@pytest.mark.parametrize("seed", range(4))
def test_random_graphs(seed: int) -> None:
    """`make fuzz` runs more of them, and their gradients."""
    graph = random_graph(seed, nodes=8, tame=True)
    assert not not_the_same_bits(graph, random_inputs(graph, seed))


def test_a_product_is_not_turned_round() -> None:
    """The transposed product of a tall operand would be another kind of kernel, with another order of sums."""
    graph = parse(
        "graph g(%x: f32[4,4], %dy: f32[4,1]) -> (f32[1,4]) {\n"
        "  %0: f32[4,4] = permute(%x) {dims=[1,0]}\n"
        "  %1: f32[4,1] = matmul(%0, %dy)\n"
        "  %2: f32[1,4] = permute(%1) {dims=[1,0]}\n"
        "  return %2\n}"
    )
    assert not not_the_same_bits(graph, random_inputs(graph))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.lstm = nn.LSTM(12, 9, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(18, 3, batch_first=True)
        self.norm = nn.LayerNorm(18)
        self.out = nn.Linear(18, 5)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(self.embedding(words))
        mixed, _ = self.attention(states, states, states)
        return self.out(F.gelu(self.norm(states + mixed)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.group_norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.norm(self.stem(x)))
        x = x + self.group_norm(self.depthwise(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.mark.parametrize("make", [Tagger, Residual])
def test_models_and_their_gradients(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    x = torch.randint(0, 20, (3, 7)) if make is Tagger else torch.randn(2, 3, 13, 11)

    def gradients(model: Any) -> list[bytes]:
        for p in model.parameters():
            p.grad = None
        result = model(x)
        result.square().mean().backward()
        return [result.detach().numpy().tobytes(), *(p.grad.numpy().tobytes() for p in model.parameters())]

    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.numerics("strict"):
        eager = gradients(model)
        model.load_state_dict(state)
        assert gradients(torch.compile(model, options=STRICT)) == eager


def test_numpy_and_our_kernels_differ_without() -> None:
    """So that the tests above can fail."""
    x = torch.linspace(-3, 3, 1000)
    plain = x.exp().sum()
    with torch.numerics("strict"):
        strict = x.exp().sum()
        with torch.numerics("fast"):
            assert torch.equal(x.exp().sum(), plain)
    assert not torch.equal(strict, plain) and torch.allclose(strict, plain)


def test_what_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="numerics are 'strict' or 'fast', not 'exact'"),
        torch.numerics("exact"),
    ):
        pass
    with pytest.raises(RuntimeError, match="the option numerics is 'fast' or 'strict', not 'exact'"):
        torch.compile(torch.sin, options={"numerics": "exact"})
    with pytest.raises(ValueError, match="strict numerics do not go with"):
        torch.compile(lambda x: x.sum(), dynamic_shapes={"x": {0: torch.Dim("n", 1, 9)}}, options=STRICT)

    @torch.compile
    def inside(x: torch.Tensor) -> torch.Tensor:
        with torch.numerics("strict"):
            return x + 1

    with pytest.raises(RuntimeError, match=r"numerics\(\) inside a compiled function"):
        inside(torch.ones(2))


def test_attention_and_its_gradients() -> None:
    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q.grad = k.grad = v.grad = None
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        (y * y).sum().backward()
        return y, q.grad, k.grad, v.grad

    given = [torch.randn(2, 3, 9, 8).requires_grad_() for _ in range(3)]
    with torch.numerics("strict"):
        eager = [None if t is None else t.detach().clone() for t in run(*given)]
    compiled = torch.compile(run, options={"numerics": "strict"})(*given)
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled))
