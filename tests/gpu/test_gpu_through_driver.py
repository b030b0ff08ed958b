"""Programs through the driver layer, its library over the simulator: captured graphs, streams, pinned memory, memory
that the allocator gives out again."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn

pytestmark = pytest.mark.usefixtures("driver")


def steps(device: str, count: int) -> list[float]:
    torch.manual_seed(0)
    with torch.device("cpu"):
        model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    @torch.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x = torch.from_numpy(np.random.RandomState(0).randn(5, 6).astype(np.float32)).to(device)
    y = torch.tensor([0, 2, 1, 1, 0], device=device)
    return [float(step(x, y)) for _ in range(count)]


def test_captured_steps_train_as_the_cpu_does(driver):
    np.testing.assert_allclose(steps("cuda", 6), steps("cpu", 6), rtol=1e-5)


def test_a_repeated_call_is_one_captured_graph(driver):
    calls = driver.raw.calls
    run = torch.compile(lambda x: (x @ x).softmax(1).sum(0))
    x = torch.from_numpy(np.random.RandomState(1).randn(9, 9).astype(np.float32))
    want, d = run(x), x.cuda()
    for _ in range(6):
        calls.clear()
        got = run(d)
        torch.testing.assert_close(got.cpu(), want)
        del got
    names = [name for name, _ in calls]
    assert "cuGraphLaunch" in names and "cuLaunchKernel" not in names
    d.mul_(0.5)  # the graph reads what is there now
    torch.testing.assert_close(run(d).cpu(), run(x * 0.5))


def test_a_check_that_fails_in_a_captured_graph_is_raised():
    loss = torch.compile(lambda x, y: F.nll_loss(x, y))
    x, y = torch.zeros(2, 3, device="cuda"), torch.tensor([0, 2], device="cuda")
    for _ in range(4):
        assert loss(x, y).item() == 0
    y[1] = 3
    with pytest.raises(IndexError, match="Target is out of bounds"):
        loss(x, y)
    y[1] = 1
    assert loss(x, y).item() == 0


def test_results_are_not_written_again_while_somebody_holds_them():
    double = torch.compile(lambda x: x * 2)
    x = torch.ones(3, device="cuda")
    held = []
    for i in range(6):
        held.append(double(x * i))
    assert [t.tolist() for t in held] == [[2.0 * i] * 3 for i in range(6)]


def test_work_on_streams_and_pinned_memory():
    stream = torch.cuda.Stream()
    x = torch.arange(6.0).pin_memory()
    assert x.is_pinned()
    with torch.cuda.stream(stream):
        d = x.to("cuda", non_blocking=True)
        y = (d * 2).sum()
        done = stream.record_event()
    torch.cuda.current_stream().wait_event(done)
    assert y.item() == 30.0


def test_a_step_with_numbers_and_random_numbers_does_not_wait_for_the_device(driver):
    calls = driver.raw.calls
    weight = nn.Parameter(torch.ones(4, device="cuda"))
    optimizer = torch.optim.SGD([weight], lr=0.5)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = F.dropout(weight * x, 0.5).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = torch.ones(4, device="cuda")
    for _ in range(4):
        step(x)
    calls.clear()
    before = weight.tolist()
    optimizer.param_groups[0]["lr"] = 0.0
    calls.clear()
    step(x)
    names = [name for name, _ in calls]
    assert "cuGraphLaunch" in names and "cuMemsetD32Async" in names
    assert not {"cuStreamSynchronize", "cuMemcpyHtoDAsync_v2", "cuLaunchKernel"} & set(names)
    assert weight.tolist() == before  # the new rate was there in time


def test_a_compiled_call_on_another_stream_brings_its_numbers_there(driver):
    weight = nn.Parameter(torch.ones(2, device="cuda"))
    optimizer = torch.optim.SGD([weight], lr=1.0)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = (weight * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = torch.ones(2, device="cuda")
    step(x)
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):
            step(x)
    assert weight.tolist() == [1 - 4.0] * 2


def test_a_compiled_model_among_eager_code_finds_the_addresses_it_had(driver):
    """The usual training loop: loss and optimizer are eager, and each step takes memory and gives it back."""

    def losses(device):
        torch.manual_seed(0)
        with torch.device("cpu"):
            model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to(device)
        compiled = torch.compile(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        x = torch.from_numpy(np.random.RandomState(0).randn(5, 6).astype(np.float32)).to(device)
        y = torch.tensor([0, 2, 1, 1, 0], device=device)
        for _ in range(16):
            driver.raw.calls.clear()
            optimizer.zero_grad()
            loss = F.cross_entropy(compiled(x), y)
            loss.backward()
            optimizer.step()
            yield loss.item()

    want, found = list(losses("cpu")), list(losses("cuda"))
    np.testing.assert_allclose(found, want, rtol=1e-5)
    names = driver.raw.names()
    assert names.count("cuGraphLaunch") >= 2
    assert not {"cuStreamBeginCapture_v2", "cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2"} & set(names)


CHANGE = "cuGraphExecKernelNodeSetParams_v2"


def test_a_step_on_ever_other_memory_is_one_captured_graph(driver):
    """Batches that are parts of a data set, and losses that are kept."""

    def losses(device):
        torch.manual_seed(0)
        with torch.device("cpu"):
            model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

        @torch.compile
        def step(x, y):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        random = np.random.RandomState(0)
        images = torch.from_numpy(random.randn(120, 8).astype(np.float32)).to(device)
        wanted = torch.from_numpy(random.randn(120, 4).astype(np.float32)).to(device)
        kept = []
        for at in range(0, 120, 6):
            driver.raw.calls.clear()
            kept.append(step(images[at : at + 6], wanted[at : at + 6]))
        return [loss.item() for loss in kept], driver.raw.names()

    want, _ = losses("cpu")
    found, names = losses("cuda")
    np.testing.assert_allclose(found, want, rtol=1e-5)
    names = [name for name in names if name not in ("cuMemcpyDtoHAsync_v2", "cuStreamSynchronize")]
    assert names.count("cuGraphLaunch") == 1 and CHANGE in names and set(names) == {CHANGE, "cuGraphLaunch"}


def test_tensor_maps_of_a_captured_graph_follow_the_memory(driver):
    with torch.device("cuda"):
        layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).bfloat16()
    run = torch.compile(layers)
    kept = []
    with torch.no_grad():
        for i in range(14):
            x = torch.full((64, 64), i / 8, dtype=torch.bfloat16, device="cuda")
            driver.raw.calls.clear()
            kept.append((x, run(x)))
            names = driver.raw.names()
            torch.testing.assert_close(kept[-1][1].float(), layers(x).float(), rtol=2e-2, atol=2e-2)
    assert CHANGE in names and "cuTensorMapEncodeTiled" in names and "cuLaunchKernel" not in names


def test_a_resident_kernel_of_a_captured_graph_follows_the_memory(driver):
    rnn = nn.LSTM(4, 8)
    x = torch.from_numpy(np.random.RandomState(0).randn(14, 5, 2, 4).astype(np.float32))
    kept, run = [], torch.compile(lambda x: rnn(x)[0])
    with torch.no_grad():
        want = [run(part) for part in x]
        rnn.cuda()
        for part in x.cuda():
            driver.raw.calls.clear()
            kept.append(run(part))
    names = driver.raw.names()
    assert CHANGE in names and "cuGraphLaunch" in names and "cuLaunchCooperativeKernel" not in names
    torch.testing.assert_close(torch.stack(kept).cpu(), torch.stack(want))
