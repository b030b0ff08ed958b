"""Compiled calls over and over, as loops make them: what a driver does as captured graphs, and changes in those. For a
card; `test_gpu_through_driver.py` counts the driver's functions."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn

pytestmark = pytest.mark.usefixtures("cuda")
TURNS = 14


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))


def test_steps_on_ever_other_memory():
    """Batches that are parts of a data set, and losses that are kept."""

    def losses(device):
        torch.manual_seed(0)
        with torch.device("cpu"):
            model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

        @torch.compile
        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        images = numbers(6 * TURNS, 8).to(device)
        classes = (torch.arange(6 * TURNS) % 4).to(device)
        kept = [step(images[at : at + 6], classes[at : at + 6]) for at in range(0, 6 * TURNS, 6)]
        return [loss.item() for loss in kept]

    np.testing.assert_allclose(losses("cuda"), losses("cpu"), rtol=1e-4)


def test_products_by_the_copy_engine_on_ever_other_memory():
    with torch.device("cuda"):
        layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).bfloat16()
    run, kept = torch.compile(layers), []
    with torch.no_grad():
        for i in range(TURNS):
            kept.append(torch.full((64, 64), i / 8, dtype=torch.bfloat16, device="cuda"))
            kept.append(run(kept[-1]))
        for x, y in zip(kept[::2], kept[1::2]):
            torch.testing.assert_close(y.float(), layers(x).float(), rtol=2e-2, atol=2e-2)


def test_scans_on_ever_other_memory():
    rnn, x = nn.LSTM(4, 8), numbers(TURNS, 5, 2, 4)
    run = torch.compile(lambda x: rnn(x)[0])
    with torch.no_grad():
        want = torch.stack([run(part) for part in x])
        rnn.cuda()
        torch.testing.assert_close(
            torch.stack([run(part) for part in x.cuda()]).cpu(), want, rtol=1e-4, atol=1e-5
        )


def test_numbers_of_the_cpu_that_change_and_are_written_to():
    scale, count = torch.tensor(1.0), torch.tensor(0)

    @torch.compile
    def run(x, shift):
        count.add_(1)
        return (x @ x).softmax(1).sum(0) * scale + shift * count

    x, d = numbers(9, 9), numbers(9, 9).cuda()
    for i in range(TURNS):
        scale.numpy()[...] = i // 4
        shift = torch.tensor(float(i % 3))
        got = run(d, shift)
        assert count.item() == i + 1
        want = (x @ x).softmax(1).sum(0) * scale + shift * (i + 1)
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)


def test_a_compiled_model_among_eager_code():
    def losses(device):
        torch.manual_seed(0)
        with torch.device("cpu"):
            model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to(device)
        compiled, optimizer = torch.compile(model), torch.optim.Adam(model.parameters(), lr=0.05)
        x, y = numbers(5, 6).to(device), torch.tensor([0, 2, 1, 1, 0]).to(device)
        for _ in range(TURNS):
            optimizer.zero_grad()
            loss = F.cross_entropy(compiled(x), y)
            loss.backward()
            optimizer.step()
            yield loss.item()

    np.testing.assert_allclose(list(losses("cuda")), list(losses("cpu")), rtol=1e-3)


def test_numbers_and_sizes_that_change():
    """Numbers are stored beside the state of random numbers; a size is a symbol from its third value on."""

    def scaled(x, by):
        return (x * by).softmax(-1) + by / 2

    compiled = torch.compile(scaled)
    for turn in range(6):
        x, by = numbers(3 + turn, 5, seed=turn), 0.5 * turn
        found = compiled(x.to("cuda"), by)
        np.testing.assert_allclose(found.cpu().numpy(), scaled(x, by).numpy(), rtol=1e-5, atol=1e-6)
    assert len(compiled.history.compiles) == 3
