"""Gradient clipping in a training step, eager and as one compiled graph."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch

CLIPS = {
    "norm": lambda p: torch.nn.utils.clip_grad_norm_(p, 0.5),
    "norm_1": lambda p: torch.nn.utils.clip_grad_norm_(p, 1.0, norm_type=1),
    "norm_inf": lambda p: torch.nn.utils.clip_grad_norm_(p, 0.05, norm_type=float("inf")),
    "norm_large": lambda p: torch.nn.utils.clip_grad_norm_(p, 100.0),
    "value": lambda p: torch.nn.utils.clip_grad_value_(p, 0.02),
}


def trained(clip, compile):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    x, y = torch.randn(16, 6), torch.randint(3, (16,))

    def step(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        norm = CLIPS[clip](net.parameters())
        optimizer.step()
        return loss if norm is None else (loss, norm)

    run = torch.compile(step) if compile else step
    found = [run(x, y) for _ in range(6)]
    if compile:
        assert len(run.report().compiles) == 1
    flat = [t.item() for each in found for t in (each if isinstance(each, tuple) else (each,))]
    return np.array(flat), [p.grad.numpy().copy() for p in net.parameters()]


@pytest.mark.parametrize("clip", CLIPS)
def test_a_compiled_step_clips_as_the_eager_one(clip):
    (numbers, grads), (eager_numbers, eager_grads) = trained(clip, True), trained(clip, False)
    np.testing.assert_allclose(numbers, eager_numbers, rtol=1e-5)
    for grad, eager in zip(grads, eager_grads):
        np.testing.assert_allclose(grad, eager, rtol=1e-4, atol=1e-6)
    if clip == "value":
        assert max(np.abs(g).max() for g in grads) <= 0.02 + 1e-7


def test_the_norm_is_at_most_the_limit():
    _, grads = trained("norm", True)
    assert np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads)) <= 0.5 + 1e-4
