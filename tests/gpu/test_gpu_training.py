"""Training on a device gives the CPU's numbers: eagerly, and as one compiled step. On the simulator, at small sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn
from vitrify.runtime.gpu import arrays
from vitrify.runtime.gpu.compiled import GpuGraph

pytestmark = pytest.mark.usefixtures("cuda")


class LeNet(nn.Module):
    """LeNet's layers for images of 16 x 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 6, 3)
        self.full1, self.full2 = nn.Linear(24, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.full2(F.relu(self.full1(x.flatten(1))))


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 10)
    )


def data(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).randn(*shape).astype(np.float32))


def trained(
    make: Callable[[], nn.Module],
    x: torch.Tensor,
    device: str,
    compiled: bool,
    optimizer: Any,
    **options: Any,
) -> tuple[list[float], list[np.ndarray[Any, Any]]]:
    """The losses of three steps, and the state afterwards."""
    torch.manual_seed(0)
    with torch.device("cpu"):
        model = make().to(device)
    chosen = optimizer(model.parameters(), **options)
    x, y = x.to(device), torch.tensor([1, 3, 5, 7], device=device)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        chosen.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        chosen.step()
        return loss

    run = torch.compile(step) if compiled else step
    losses = [run(x, y) for _ in range(3)]
    assert all(str(p.device) == ("cuda:0" if device == "cuda" else "cpu") for p in model.parameters())
    return [float(loss) for loss in losses], [t.detach().cpu().numpy() for t in model.state_dict().values()]


LENET = (LeNet, (4, 1, 16, 16), torch.optim.SGD, {"lr": 0.05, "momentum": 0.9})
PERCEPTRON = (perceptron, (4, 6), torch.optim.AdamW, {"lr": 0.01})


@pytest.mark.parametrize(
    "case, compiled",
    [
        pytest.param(LENET, False, id="lenet, eager"),
        pytest.param(LENET, True, id="lenet, compiled"),
        pytest.param(PERCEPTRON, False, id="perceptron, eager", marks=pytest.mark.slow),
        pytest.param(PERCEPTRON, True, id="perceptron, compiled"),
    ],
)
def test_three_steps(case, compiled):
    make, shape, optimizer, options = case
    x = data(*shape)
    want = trained(make, x, "cpu", False, optimizer, **options)
    got = trained(make, x, "cuda", compiled, optimizer, **options)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    for a, b in zip(got[1], want[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_step_writes_parameters_in_place_and_uses_its_gradients_again():
    weight = torch.ones(3, device="cuda", requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    address = weight.data_ptr()

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()

    x = torch.tensor([1.0, 2.0, 4.0], device="cuda")
    step(x)
    assert weight.tolist() == [0.5, 0.0, -1.0] and weight.data_ptr() == address
    kept = weight.grad
    assert kept is not None and kept.tolist() == [1.0, 2.0, 4.0]
    step(x * 2)
    assert kept.tolist() == [1.0, 2.0, 4.0] and weight.grad.tolist() == [2.0, 4.0, 8.0]
    optimizer.param_groups[0]["lr"] = 0.0  # a number of each call, not of the trace
    before = weight.tolist()
    step(x)
    assert weight.tolist() == before and len(step.history.compiles) == 1


def test_a_compiled_model_with_an_eager_backward():
    torch.manual_seed(1)
    here = perceptron().eval()
    there = perceptron().eval().cuda()
    there.load_state_dict(here.state_dict())
    compiled = torch.compile(there)
    x = data(4, 6)
    here(x).square().sum().backward()
    compiled(x.cuda()).square().sum().backward()
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(q.grad.cpu(), p.grad, rtol=1e-4, atol=1e-5)
    assert all(isinstance(graph, GpuGraph) for graph in compiled._compiled.graphs())
    assert ".visible .entry" in compiled.assembly()


def test_what_a_backward_reads_may_be_on_the_host():
    """The state of random numbers, and matrices that tracing a pooling makes."""
    x = data(3, 6)

    def pooled(x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool1d(x.sin(), 4).sum()

    def dropped(x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5)

    here, there = x.clone().requires_grad_(), x.cuda().requires_grad_()
    pooled(here).backward()
    torch.compile(pooled)(there).backward()
    torch.testing.assert_close(there.grad.cpu(), here.grad)
    there.grad = None
    found = torch.compile(dropped)(there)
    found.sum().backward()
    torch.testing.assert_close(there.grad * there.detach(), found.detach())


def test_the_device_is_a_guard():
    @torch.compile
    def double(x):
        return x * 2

    a = data(3)
    assert not double(a).is_cuda and double(a.cuda()).is_cuda and not double(a).is_cuda
    assert torch.equal(double(a.cuda()).cpu(), double(a)) and len(double.history.compiles) == 2
    linear = torch.compile(nn.Linear(3, 2))
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        linear(a.cuda())
    with pytest.raises(RuntimeError, match="a compiled function runs on one device"):
        torch.compile(lambda x: x.cpu() + 1)(a.cuda())


def test_branches_sizes_and_random_numbers():
    @torch.compile
    def positive(x):
        if x.sum() > 0:
            return x[x > 0]
        return -x

    x = torch.tensor([1.0, -2.0, 3.0], device="cuda")
    assert positive(x).tolist() == [1.0, 3.0] and positive(x - 3).tolist() == [2.0, 5.0, 0.0]
    assert positive(x * 2).tolist() == [2.0, 6.0]
    drop = torch.compile(lambda x: F.dropout(x, 0.5))
    ones = torch.ones(64, device="cuda")
    torch.cuda.manual_seed(0)
    first = drop(ones)
    assert not torch.equal(first, drop(ones))
    torch.cuda.manual_seed(0)
    assert torch.equal(first, drop(ones))


def test_one_compile_for_every_batch():
    batch = torch.Dim("batch", 1, 64)
    linear = nn.Linear(5, 3).cuda()
    run = torch.compile(lambda x: F.relu(linear(x)).softmax(-1), dynamic_shapes={"x": {0: batch}})
    for size in (1, 7, 33):
        x = data(size, 5).cuda()
        torch.testing.assert_close(run(x), F.relu(linear(x)).softmax(-1))
    assert len(run.history.compiles) == 1


def test_a_failed_check_is_raised_by_the_call():
    loss = torch.compile(lambda x, y: F.nll_loss(x, y))
    x = torch.zeros(2, 3, device="cuda")
    assert loss(x, torch.tensor([0, 2], device="cuda")).item() == 0
    with pytest.raises(IndexError, match="Target is out of bounds"):
        loss(x, torch.tensor([0, 3], device="cuda"))
    assert loss(x, torch.tensor([0, 2], device="cuda")).item() == 0


def test_views_and_numbers_of_the_cpu_are_taken_along():
    x = data(4, 6)
    scale = torch.tensor(3.0)
    run = torch.compile(lambda x: (x * scale).sum(1))
    torch.testing.assert_close(run(x.cuda().t()[1:]).cpu(), (x.t()[1:] * 3).sum(1))
    fill = torch.compile(lambda x: x.add_(1))
    d = x.cuda()
    fill(d[:, 1])
    torch.testing.assert_close(d.cpu()[:, 1], x[:, 1] + 1)
    torch.testing.assert_close(d.cpu()[:, 2:], x[:, 2:])


def test_constants_made_inside_a_compiled_function_lie_where_they_are_put():
    x = data(3, 4).cuda()

    def pick(x: torch.Tensor) -> torch.Tensor:
        return x[torch.tensor([2, 0])] * torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device)

    assert torch.equal(torch.compile(pick)(x), pick(x))
    with torch.device("cuda"):
        assert torch.compile(lambda x: x + torch.tensor([0.0, 1.0, 2.0, 3.0]))(x).is_cuda
    with pytest.raises(RuntimeError, match="on the same device"):
        torch.compile(lambda x: x + torch.tensor([0.0, 1.0, 2.0, 3.0]))(x)


def test_programs_come_from_the_disk():
    gpu = arrays.gpu(0)
    run = torch.compile(lambda x: (x * 1.2345).tanh())
    x = data(5).cuda()
    want = run(x).cpu()
    (graph,) = run.graphs()
    again = GpuGraph(graph.traced, graph.options, gpu, _key(graph))
    assert again.from_cache and again.assembly_text() == graph.assembly_text()
    made = arrays.empty(gpu, (5,), np.dtype(np.float32))
    again.run([x.data_ptr()], [made.address])
    np.testing.assert_array_equal(made.to_host(), want.numpy())


def _key(graph: GpuGraph) -> str:
    from vitrify.runtime.compiled_graph import cache_key

    return cache_key(graph.traced, graph.target, graph.options)


def test_a_report_shows_ptx(cuda, tmp_path):
    compiled = torch.compile(lambda x: torch.sort(torch.relu(x @ x))[0])
    compiled(torch.ones(4, 4).cuda())
    data = compiled.report().to_json()
    (graph,) = data["graphs"]
    assert data["target"] == "sm_90a" and graph["machine_code"] == "PTX"
    functions = {f["name"]: f for f in graph["functions"]}
    kernels = [functions[launch["function"]] for launch in graph["launches"] if launch["group"] != "host_1"]
    assert all("define ptx_kernel" in f["llvm"] and ".visible .entry" in f["assembly"] for f in kernels)
    assert "copied to the host" in functions["(on the host)"]["assembly"]
    assert compiled.report().save(tmp_path / "out.html").stat().st_size > 10_000


def test_gradients_are_checked_by_differences_on_the_device():
    x, w = (
        torch.tensor(data(*s).numpy(), dtype=torch.float64, device="cuda", requires_grad=True)
        for s in ((2, 3), (3, 2))
    )
    before = x.tolist()
    assert torch.autograd.gradcheck(lambda x, w: (x @ w).tanh(), (x, w))
    assert torch.autograd.gradgradcheck(lambda x: (x * x).sum(), (x,))
    assert x.tolist() == before
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda x: x * x.detach(), (x,))


def test_a_loader_pins_its_batches():
    rows = torch.utils.data.TensorDataset(data(4, 3), torch.arange(4))
    batches = list(torch.utils.data.DataLoader(rows, batch_size=2, pin_memory=True))
    assert len(batches) == 2 and all(t.is_pinned() for batch in batches for t in batch)
    x = batches[1][0].to("cuda", non_blocking=True)
    assert torch.equal(x.cpu(), rows.tensors[0][2:])
