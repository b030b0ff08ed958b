"""Tensors on a CUDA device: where they lie, how they move, what they refuse. On the simulator, at small sizes."""

from __future__ import annotations

import copy
import io
import pickle
import re

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.runtime.gpu import arrays

pytestmark = pytest.mark.usefixtures("cuda")


def both(seed: int = 0, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same numbers on the CPU and on the device."""
    x = torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))
    return x, x.cuda()


def test_a_tensor_says_where_it_is():
    x, d = both(0, 2, 3)
    assert (str(d.device), d.is_cuda, d.is_cpu, d.get_device(), d.type()) == (
        "cuda:0", True, False, 0, "torch.cuda.FloatTensor",
    )  # fmt: skip
    assert (x.is_cuda, x.get_device()) == (False, -1)
    assert d.device == torch.device("cuda", 0) and d.cuda() is d and d.to("cuda:0") is d and x.cpu() is x
    assert torch.equal(d.cpu(), x) and torch.equal(d.to("cpu", torch.float64), x.double())
    assert repr(torch.ones(2, device="cuda")) == "tensor([1., 1.], device='cuda:0')"
    assert repr(torch.tensor([1], device="cuda").int()) == "tensor([1], device='cuda:0', dtype=torch.int32)"


def test_moving_has_a_gradient():
    x, _ = both(0, 3)
    x.requires_grad_()
    y = x.cuda()
    assert type(y.grad_fn).__name__ == "ToCopyBackward0"
    (y * torch.tensor([1.0, 2.0, 3.0], device="cuda")).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 3.0] and not x.grad.is_cuda


def test_views_share_memory():
    _, d = both(0, 4, 6)
    row, column, block = d[1], d[:, 2], d.t()[1:4, ::2]
    d.zero_()
    column += 3
    row[2:4] = torch.tensor([7.0, 8.0], device="cuda")
    assert d[1].tolist() == [0, 0, 7, 8, 0, 0] and column.tolist() == [3, 7, 3, 3]
    assert block.shape == (3, 2) and block.stride() == (1, 12) and block.storage_offset() == 1
    assert block.data_ptr() == d.data_ptr() + 4 and (block + 1)[1].tolist() == [4.0, 4.0]
    d[1:] = d[:-1].clone()
    assert d[2].tolist() == [0, 0, 7, 8, 0, 0]
    d[1:] = d[:-1]  # which overlap
    assert d[3].tolist() == [0, 0, 7, 8, 0, 0]


def test_unaligned_and_strided_operands_are_read_where_they_lie():
    x, d = both(1, 5, 7)
    for see in (lambda t: t[1:], lambda t: t[:, 1:], lambda t: t.t()[2:5], lambda t: t[::2, 3:].t()):
        assert torch.equal((see(d) * 2).cpu(), see(x) * 2)
        assert torch.allclose(see(d).softmax(-1).cpu(), see(x).softmax(-1))
        assert torch.allclose((see(d) @ see(d).t()).cpu(), see(x) @ see(x).t(), atol=1e-5)


def test_what_makes_tensors_takes_a_device():
    for made in (
        torch.zeros(2, device="cuda"), torch.tensor([1, 2], device="cuda:0"), torch.arange(3, device="cuda"),
        torch.full((2,), 3.5, device=torch.device("cuda")), torch.eye(2, device="cuda"), torch.rand(3, device="cuda"),
        torch.linspace(0, 1, 3, device=0), torch.as_tensor([1.0], device="cuda"), torch.randn(2, device="cuda"),
    ):  # fmt: skip
        assert made.is_cuda, made
    _, d = both(0, 2)
    for made in (
        torch.zeros_like(d),
        torch.rand_like(d),
        d.new_ones(3),
        d.new_tensor([1]),
        torch.empty_like(d),
    ):
        assert made.is_cuda
    assert not torch.zeros_like(d, device="cpu").is_cuda
    with torch.device("cuda"):
        assert torch.ones(2).is_cuda and torch.tensor([1.0]).is_cuda and nn.Linear(2, 2).weight.is_cuda
        assert not torch.ones(2, device="cpu").is_cuda
    assert not torch.ones(2).is_cuda
    torch.set_default_device("cuda")
    try:
        assert torch.zeros(1).is_cuda and torch.get_default_device() == torch.device("cuda", 0)
    finally:
        torch.set_default_device(None)
    assert torch.full((2,), 3.5, device="cuda").tolist() == [3.5, 3.5]
    assert torch.arange(4, device="cuda").tolist() == [0, 1, 2, 3]


def test_two_devices_do_not_mix():
    x, d = both(0, 3)
    text = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
    for call in (lambda: d + x, lambda: x + d, lambda: torch.cat([d, x]), lambda: d.add_(torch.ones(3))):
        with pytest.raises(RuntimeError, match=text):
            call()
    linear = nn.Linear(3, 2)
    with pytest.raises(RuntimeError, match=text):
        linear(d)
    assert (d * torch.tensor(2.0)).is_cuda  # a number, as in PyTorch
    assert torch.equal(x.copy_(d), d.cpu()) and torch.equal(d.copy_(x).cpu(), x)
    assert d[torch.tensor([2, 0])].tolist() == x[[2, 0]].tolist()  # an index may be on the CPU


def test_numpy_wants_a_copy():
    _, d = both(0, 2)
    text = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
    with pytest.raises(TypeError, match=re.escape(text)):
        d.numpy()
    with pytest.raises(TypeError, match=re.escape(text)):
        np.asarray(d)
    assert d.numpy(force=True).shape == (2,) and d.tolist() == d.cpu().tolist()
    assert f"{d.sum():.3f}" == f"{d.cpu().sum():.3f}" and d[0].item() == d.cpu()[0].item()


def test_errors_of_kernels_are_those_of_the_cpu():
    weight = torch.ones(3, 2, device="cuda")
    for index in ([0, 3], [-1, 0]):
        with pytest.raises(IndexError):
            nn.functional.embedding(torch.tensor(index, device="cuda"), weight)
    with pytest.raises(IndexError, match="Target is out of bounds"):
        nn.functional.nll_loss(weight, torch.tensor([0, 1, 2], device="cuda"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        weight @ weight
    assert (weight * 2).sum().item() == 12.0  # and the device works on


def test_what_only_numpy_computes_is_counted():
    x, d = both(0, 4, 4)
    gpu = arrays.gpu(0)
    before = gpu.host_copies
    (d * 2).relu().sum()
    assert gpu.host_copies == before
    assert torch.allclose(torch.linalg.svd(d).S.cpu(), torch.linalg.svd(x).S, atol=1e-5)
    assert gpu.host_copies > before
    assert torch.equal(d[d > 0].cpu(), x[x > 0]) and torch.equal(d.nonzero().cpu(), x.nonzero())


def test_copies_pickles_and_files_keep_the_device():
    _, d = both(0, 3, 4)
    pair = copy.deepcopy([d, d[1]])
    pair[1].zero_()
    assert pair[0][1].tolist() == [0] * 4 and pair[0].is_cuda and d[1].abs().sum().item() > 0
    assert pickle.loads(pickle.dumps(d.t())).device == d.device
    for location, where in ((None, "cuda:0"), ("cpu", "cpu"), ("cuda", "cuda:0"), ({"cuda:0": "cpu"}, "cpu")):
        file = io.BytesIO()
        torch.save({"whole": d, "part": d[1:]}, file)
        file.seek(0)
        loaded = torch.load(file, map_location=location)
        assert str(loaded["whole"].device) == where and torch.equal(loaded["part"].cpu(), d[1:].cpu())
        loaded["whole"].zero_()
        assert loaded["part"].abs().sum().item() == 0
    model = nn.Linear(2, 2).cuda()
    model.load_state_dict(nn.Linear(2, 2).state_dict())
    assert model.weight.is_cuda and not model.cpu().weight.is_cuda


def test_pinned_memory():
    x, d = both(0, 2)
    pinned = x.pin_memory()
    assert pinned.is_pinned() and not x.is_pinned() and pinned.pin_memory() is pinned
    assert torch.equal(pinned.to("cuda", non_blocking=True), d)
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        d.pin_memory()


def test_random_numbers_are_the_same_after_the_same_seed():
    torch.manual_seed(3)
    first = [torch.rand(5, device="cuda"), torch.randn(3, device="cuda"), torch.randperm(6, device="cuda")]
    torch.cuda.manual_seed(3)
    again = [torch.rand(5, device="cuda"), torch.randn(3, device="cuda"), torch.randperm(6, device="cuda")]
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    state = torch.cuda.get_rng_state()
    a = nn.functional.dropout(torch.ones(64, device="cuda"), 0.5)
    torch.cuda.set_rng_state(state)
    assert torch.equal(a, nn.functional.dropout(torch.ones(64, device="cuda"), 0.5))
    assert set(a.tolist()) == {0.0, 2.0}
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.rand(2, device="cuda", generator=torch.Generator())
    own = torch.Generator("cuda").manual_seed(1)
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
        torch.rand(2, generator=own)
    assert torch.rand(2, device="cuda", generator=own).is_cuda


def test_philox_bits_are_those_of_the_cpu():
    torch.manual_seed(7)
    with torch.random.counter_based():
        here = torch.rand(37)
    torch.cuda.manual_seed(7)
    assert torch.equal(torch.rand(37, device="cuda").cpu(), here)


def test_out_of_memory_has_the_sizes_and_is_recovered_from():
    total = torch.cuda.get_device_properties().total_memory
    with pytest.raises(
        torch.OutOfMemoryError, match=r"CUDA out of memory. Tried to allocate \d+.\d\d GiB. GPU 0 has"
    ):
        torch.empty(total // 2, device="cuda")
    assert torch.ones(3, device="cuda").sum().item() == 3.0


def test_memory_statistics():
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    x = torch.empty(1 << 14, device="cuda")
    assert torch.cuda.memory_allocated() == before + (1 << 16)
    assert torch.cuda.max_memory_allocated() >= before + (1 << 16) and torch.cuda.memory_reserved() >= before
    del x
    assert torch.cuda.memory_allocated() == before
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == before
    assert "Allocated memory" in torch.cuda.memory_summary() and torch.cuda.memory_stats()["num_ooms"] >= 0


def test_streams_and_events():
    stream, start, end = torch.cuda.Stream(), *(torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.stream(stream):
        assert torch.cuda.current_stream() == stream
        start.record()
        y = torch.ones(4, device="cuda") * 2
        end.record()
    y.record_stream(torch.cuda.default_stream())
    end.synchronize()
    assert end.query() and stream.query() and start.elapsed_time(end) >= 0 and y.sum().item() == 8
    with pytest.raises(ValueError, match="enable_timing=True"):
        torch.cuda.Event().elapsed_time(end)


def test_devices_by_name():
    assert torch.cuda.is_available() and torch.cuda.device_count() >= 1 and torch.cuda.current_device() == 0
    assert torch.accelerator.current_accelerator() == torch.device("cuda")
    assert torch.cuda.get_device_capability() >= (7, 0) and torch.cuda.get_device_name()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(1, device="cuda:99")
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        torch.cuda.synchronize("cpu")
    with pytest.raises(RuntimeError, match="Invalid device, must be cuda device"):
        torch.zeros(1).cuda("cpu")


def test_a_lazy_module_that_is_moved_before_its_first_call():
    with torch.device("cpu"):
        module = torch.nn.LazyBatchNorm1d().to(torch.float64).cuda()
    x = torch.arange(6.0, dtype=torch.float64, device="cuda").reshape(3, 2)
    got = module(x)
    assert module.running_mean.is_cuda and module.running_mean.dtype is torch.float64
    torch.testing.assert_close(got.cpu(), torch.nn.BatchNorm1d(2, dtype=torch.float64)(x.cpu()))
