"""What compiled programs on a device read from the host: each tensor of the CPU has one place there, is brought when it
changed, and a call is one launch all the same."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn

pytestmark = pytest.mark.usefixtures("driver")
LAUNCH = ["cuLaunchKernel"]  # of a program of one kernel; of others it is a captured graph's


def steadily(driver, call):
    """The driver's functions that a call takes after a few like it, and its result. No garbage of other tests frees
    memory of the device in between, which would move what these calls get."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(12):
            call()
        driver.raw.calls.clear()
        result = call()
        return driver.raw.names(), result
    finally:
        gc.enable()


def ramp():
    return torch.arange(6.0, device="cuda")


def test_a_captured_number_is_brought_once(driver):
    scale = torch.tensor(2.0)
    run = torch.compile(lambda x: (x * scale).relu() + 1)
    x = ramp()
    names, got = steadily(driver, lambda: run(x))
    assert names == LAUNCH
    assert got.tolist() == [1 + 2.0 * i for i in range(6)]


def test_a_captured_number_is_brought_again_when_it_was_written_to(driver):
    scale = torch.tensor(2.0)
    run = torch.compile(lambda x: x * scale)
    x = ramp()
    steadily(driver, lambda: run(x))
    scale.mul_(2)
    driver.raw.calls.clear()
    assert run(x)[1].item() == 4.0
    assert driver.raw.names()[:2] == ["cuMemsetD32Async", *LAUNCH]  # stored: nothing was waited for
    scale.data.fill_(5.0)
    assert run(x)[1].item() == 5.0
    scale.numpy()[...] = 7.0
    assert run(x)[1].item() == 7.0
    scale.numpy()[...] = 8.0
    assert run(x)[1].item() == 8.0
    names, _ = steadily(driver, lambda: run(x))
    assert names == LAUNCH  # its bytes are compared, for others may write to them
    scale.data = torch.tensor(9.0)
    assert run(x)[1].item() == 9.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
def test_captured_numbers_of_any_width(driver, dtype):
    scale, other = torch.tensor(1, dtype=dtype), torch.tensor(1, dtype=dtype)
    run = torch.compile(lambda x: x * scale + other)
    x = ramp()
    names, got = steadily(driver, lambda: run(x))
    assert names == LAUNCH and got.tolist() == [1.0 + i for i in range(6)]
    other.zero_()
    assert run(x).tolist() == x.tolist()


def test_tables_that_library_code_makes_are_brought_once(driver):
    x = torch.from_numpy(np.random.RandomState(0).randn(1, 2, 5, 7).astype(np.float32))
    run = torch.compile(
        lambda x: F.interpolate(F.adaptive_avg_pool2d(x, 3), scale_factor=2.5, mode="bilinear")
    )
    want, d = run(x), x.cuda()
    names, got = steadily(driver, lambda: run(d))
    assert names[0] == "cuGraphLaunch" and not {"cuMemcpyHtoDAsync_v2", "cuLaunchKernel"} & set(names)
    torch.testing.assert_close(got.cpu(), want)


def test_a_number_of_the_cpu_as_argument_is_stored_where_it_changed(driver):
    run = torch.compile(lambda x, scale: x * scale)
    x, scale = ramp(), torch.tensor(2.0)
    names, got = steadily(driver, lambda: run(x, scale))
    assert names == LAUNCH and got[2].item() == 4.0
    del got  # its memory is the next one's
    driver.raw.calls.clear()
    got = run(x, torch.tensor(3.0))
    assert driver.raw.names() == ["cuMemsetD32Async", *LAUNCH] and got[2].item() == 6.0
    scale.numpy()[...] = 5.0
    assert run(x, scale)[2].item() == 10.0
    assert run(x, torch.tensor(7.0, device="cuda"))[2].item() == 14.0
    assert run(x, scale)[2].item() == 10.0


def test_captured_numbers_that_a_program_writes_to(driver):
    count, total = torch.tensor(0), torch.tensor(0.5, dtype=torch.float64)

    @torch.compile
    def run(x):
        count.add_(1)
        total.add_(x.sum().double())
        return x * count

    x = ramp()
    names, got = steadily(driver, lambda: run(x))
    assert names == ["cuGraphLaunch", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize"]
    assert count.item() == 13 and total.item() == 0.5 + 13 * 15 and got[1].item() == 13
    count.fill_(-1)
    assert run(x).tolist() == [0.0] * 6 and count.item() == 0
    count.numpy()[...] = 10
    assert run(x)[1].item() == 11 and count.item() == 11


def test_an_argument_of_the_cpu_that_a_program_writes_to():
    @torch.compile
    def run(x, count, other):
        count.add_(1)
        return x * count + other

    x, count, other = ramp(), torch.tensor(2.0), torch.tensor(1.0)
    version = count._version
    for i in range(5):
        assert run(x, count, other)[1].item() == 4.0 + i
    assert count.item() == 7.0 and count._version > version and other.item() == 1.0
    fresh = torch.tensor(0.0)
    assert run(x, fresh, fresh + 1)[1].item() == 2.0 and fresh.item() == 1.0 and count.item() == 7.0


def test_a_run_that_fails_leaves_numbers_of_the_cpu_as_they_were():
    count = torch.tensor(0.0)

    @torch.compile
    def run(x, y):
        count.add_(1)
        return F.nll_loss(x, y) + count

    x, y = torch.zeros(2, 3, device="cuda"), torch.tensor([0, 2], device="cuda")
    for _ in range(4):
        run(x, y)
    y[1] = 3
    with pytest.raises(IndexError, match="Target is out of bounds"):
        run(x, y)
    assert count.item() == 4
    y[1] = 1
    assert run(x, y).item() == 5 and count.item() == 5


@pytest.mark.parametrize("name", ["Adagrad", "NAdam", "Adam"])
def test_optimizers_whose_counts_of_steps_are_on_the_cpu(driver, name):
    def weights(device):
        weight = nn.Parameter(torch.arange(1.0, 4.0, device=device))
        optimizer = getattr(torch.optim, name)([weight], lr=0.1)
        x = torch.tensor([1.0, -2.0, 3.0], device=device)

        def step():
            optimizer.zero_grad()
            loss = (weight * weight * x).sum()
            loss.backward()
            optimizer.step()

        step()  # an eager step makes them there, as PyTorch's do
        names, _ = steadily(driver, torch.compile(step))
        if device == "cuda":
            assert names.count("cuGraphLaunch") == 1 and "cuMemcpyHtoDAsync_v2" not in names
        assert optimizer.state[weight]["step"].item() == 14
        return weight.detach().cpu()

    torch.testing.assert_close(weights("cuda"), weights("cpu"))


def test_a_compiled_forward_and_its_backward_are_a_launch_each(driver):
    scale = torch.tensor(3.0)
    weight = nn.Parameter(torch.ones(6, device="cuda"))
    loss = torch.compile(lambda x: (F.dropout(weight * x, 0.5) * scale).sum())
    x = ramp()

    def step():
        result = loss(x)
        (gradient,) = torch.autograd.grad(result, weight)
        return result, gradient

    names, (result, gradient) = steadily(driver, step)
    assert names.count("cuGraphLaunch") == 2 and "cuMemcpyHtoDAsync_v2" not in names
    assert set(gradient.tolist()) <= {6.0 * i for i in range(6)} | {0.0}
    assert result.item() == pytest.approx(gradient.sum().item())  # the same numbers were dropped


def test_a_captured_number_that_changed_between_forward_and_backward_is_an_error():
    scale, weight = torch.tensor(3.0), nn.Parameter(torch.ones(6, device="cuda"))
    loss = torch.compile(lambda x: (weight * x * scale).exp().sum())
    result = loss(ramp())
    scale.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


def test_numbers_of_the_cpu_on_another_stream():
    scale = torch.tensor(2.0)
    run = torch.compile(lambda x: x * scale)
    x = ramp()
    run(x)
    with torch.cuda.stream(torch.cuda.Stream()):
        scale.fill_(4.0)
        assert run(x)[1].item() == 4.0
    scale.fill_(5.0)
    assert run(x)[1].item() == 5.0
