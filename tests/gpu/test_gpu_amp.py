"""Mixed precision on a device: which dtypes functions give, loss scaling, a compiled step. On the simulator."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn

pytestmark = pytest.mark.usefixtures("cuda")


def data(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).randn(*shape).astype(np.float32)).cuda()


def test_functions_compute_as_cuda_lists_them():
    x, w = data(4, 8), data(8, 8)
    classes = torch.zeros(4, dtype=torch.long, device="cuda")
    with torch.autocast("cuda"):
        half = x @ w
        lower = (half, F.linear(x, w), torch.relu(half), F.gelu(half), half.mean(), half * half)
        full = (
            half.softmax(1), F.log_softmax(half, 1), half.exp(), half.sum(), half**2, F.layer_norm(half, (8,)),
            F.mse_loss(half, half), F.cross_entropy(half, classes), F.smooth_l1_loss(half, half), half + x, half.log2(),
        )  # fmt: skip
        assert {t.dtype for t in lower} == {torch.float16} and {t.dtype for t in full} == {torch.float32}
        assert (x.double() @ w.double()).dtype is torch.float64
        assert (x.cpu() @ w.cpu()).dtype is torch.float32  # what lies on the CPU has a region of its own
        with torch.autocast("cpu"):
            assert (x.cpu() @ w.cpu()).dtype is torch.bfloat16
        with torch.autocast("cuda", enabled=False):
            assert (x @ w).dtype is torch.float32
        with pytest.raises(RuntimeError, match="unsafe to autocast"):
            F.binary_cross_entropy(half.sigmoid(), half)
    assert (x @ w).dtype is torch.float32
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert (x @ w).dtype is torch.bfloat16 and torch.get_autocast_dtype("cuda") is torch.bfloat16


def test_the_dtype_is_a_guard_of_compiled_functions():
    x = data(4, 4)
    run = torch.compile(lambda x: x @ x)
    assert run(x).dtype is torch.float32
    with torch.autocast("cuda"):
        assert run(x).dtype is torch.float16
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert run(x).dtype is torch.bfloat16
    assert run(x).dtype is torch.float32


@pytest.mark.parametrize("compiled", [False, True])
def test_a_scaled_step_trains(compiled):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 3)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    x, y = data(6, 8), torch.tensor([0, 1, 2, 0, 1, 2], device="cuda")

    def forward(x, y):
        with torch.autocast("cuda", dtype=torch.float16):
            return F.cross_entropy(model(x), y)

    run = torch.compile(forward) if compiled else forward
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = run(x, y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and model[0].weight.grad.dtype is torch.float32
    assert scaler.get_scale() == 1024.0 and scaler._scale.is_cuda
    model[0].weight.grad[0, 0] = float("inf")
    before = model[0].weight.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model[0].weight, before) and scaler.get_scale() == 512.0


def test_custom_functions_see_the_region():
    class Product(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x @ x

        @staticmethod
        @torch.amp.custom_bwd(device_type="cuda")
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy @ x.t() + x.t() @ dy

    x = data(3, 3).half().requires_grad_()
    with torch.autocast("cuda"):
        y = Product.apply(x)
    assert y.dtype is torch.float32
    y.sum().backward()
    assert x.grad.dtype is torch.float16


def test_the_older_names_warn_and_work():
    x = data(2, 2)
    with pytest.warns(FutureWarning, match="torch.cuda.amp.autocast"):
        region = torch.cuda.amp.autocast()
    with region:
        assert (x @ x).dtype is torch.float16
    with pytest.warns(FutureWarning, match="torch.cuda.amp.GradScaler"):
        assert torch.cuda.amp.GradScaler().is_enabled()
