"""Autocast regions, settings and gradient scaling."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F

BF16, F32 = torch.bfloat16, torch.float32


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


X, CLASSES = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])


def test_which_functions_cast():
    image, kernel = torch.randn(1, 2, 6, 6), torch.randn(3, 2, 3, 3)
    with torch.autocast("cpu"):
        assert (X @ X.T).dtype is BF16 and torch.mm(X, X.T).dtype is BF16
        assert F.conv2d(image, kernel).dtype is BF16 and F.linear(X, X).dtype is BF16
        assert F.scaled_dot_product_attention(*[torch.randn(1, 1, 3, 4)] * 3).dtype is BF16
        assert F.softmax(X, -1).dtype is F32 and X.exp().dtype is F32 and (X + X).dtype is F32
        half = X.bfloat16()
        assert F.mse_loss(half, half).dtype is F32 and F.cross_entropy(half, CLASSES % 4).dtype is F32
        assert torch.cat([X, half]).dtype is F32 and torch.stack([half, half]).dtype is BF16
        assert (X.double() @ X.double().T).dtype is torch.float64
        assert half.exp().dtype is BF16
    assert (X @ X.T).dtype is F32


def test_regions_nest():
    assert not torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.float16
        assert (X @ X.T).dtype is torch.float16
        with torch.autocast("cpu", enabled=False):
            assert (X @ X.T).dtype is F32
        assert (X @ X.T).dtype is torch.float16
    assert torch.get_autocast_cpu_dtype() is BF16

    @torch.autocast("cpu")
    def product():
        return X @ X.T

    assert product().dtype is BF16


def test_gradients_are_those_of_the_master_weights(net):
    with torch.autocast("cpu"):
        loss = F.cross_entropy(net(X), CLASSES)
    loss.backward()
    assert all(p.grad.dtype is F32 for p in net.parameters())
    exact = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    F.cross_entropy(net(X), CLASSES).backward()
    for p, grad in zip(net.parameters(), exact):
        torch.testing.assert_close(grad, p.grad, rtol=0.05, atol=0.02)


def test_weights_are_cast_once_a_region(net):
    with torch.autocast("cpu"):
        net(X), net(X)
        settings = torch.amp.autocast_mode.state()
        assert len(settings.cache) == 4
    assert not settings.cache


def test_inside_a_compiled_function(net):
    def step(x, y):
        with torch.autocast("cpu"):
            out = net(x)
            return out, F.cross_entropy(out, y)

    eager, compiled = step(X, CLASSES), torch.compile(step)(X, CLASSES)
    assert compiled[0].dtype is BF16 and compiled[1].dtype is F32
    torch.testing.assert_close(compiled[1], eager[1], rtol=1e-2, atol=1e-3)


def test_calls_in_equal_regions_share_one_trace(net):
    compiled = torch.compile(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a call that does not find its trace again is warned of
        for _ in range(3):
            with torch.autocast("cpu", BF16):
                compiled(X)


def test_a_compiled_function_follows_the_region_it_is_called_in(net):
    compiled = torch.compile(lambda x: net(x))
    assert compiled(X).dtype is F32
    with torch.autocast("cpu"):
        assert compiled(X).dtype is BF16
    assert compiled(X).dtype is F32


def test_custom_functions():
    class Square(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx, x):
            assert not torch.is_autocast_enabled("cpu")
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 2 * x * grad

    x = X.bfloat16().requires_grad_()
    with torch.autocast("cpu"):
        out = Square.apply(x)
    assert out.dtype is F32
    out.sum().backward()
    assert x.grad is not None


def test_what_is_refused():
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'moon'"):
        torch.autocast("moon")
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`"):
        torch.autocast(torch.device("cpu"))
    with pytest.warns(UserWarning, match="CPU Autocast only supports dtypes of"):
        assert not torch.autocast("cpu", dtype=torch.float64)._enabled
    with pytest.warns(UserWarning, match="CUDA is not available"):
        torch.autocast("cuda")
    with pytest.raises(TypeError, match="requires a callable"):
        torch.autocast("cpu")(3)
    with pytest.warns(FutureWarning, match="is deprecated"):
        torch.cuda.amp.autocast(enabled=False)
    with pytest.warns(FutureWarning, match="is deprecated"):
        torch.cpu.amp.autocast()


def _scaler(**options):
    return torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2, **options)


def test_scaling_leaves_the_step_unchanged():
    weights = []
    for scaler in (_scaler(), _scaler(enabled=False)):
        weight = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale((weight * torch.arange(3.0)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        weights.append(weight.detach())
    assert torch.equal(*weights)
    assert scaler.get_scale() == 1.0 and not scaler.is_enabled()


def test_the_factor_adapts():
    scaler, weight = _scaler(), torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scales = []
    for factor in (1.0, 1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        before = weight.item()
        scaler.step(optimizer)
        scaler.update()
        assert (weight.item() == before) == np.isinf(factor)
        scales.append(scaler.get_scale())
    assert scales == [8.0, 16.0, 8.0, 8.0]
    state = scaler.state_dict()
    assert state["_growth_tracker"] == 1
    other = _scaler()
    other.load_state_dict(state)
    assert other.get_scale() == pickle.loads(pickle.dumps(scaler)).get_scale() == 8.0
    scaler.update(4.0)
    assert scaler.get_scale() == 4.0


def test_unscale_for_clipping():
    scaler, weight = _scaler(), torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    with pytest.raises(AssertionError, match="Attempted unscale_ but _scale is None"):
        scaler.unscale_(optimizer)
    scaler.scale((weight * 3).sum()).backward()
    scaler.unscale_(optimizer)
    assert weight.grad.item() == 3.0
    with pytest.raises(RuntimeError, match=r"unscale_\(\) has already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert weight.item() == -2.0
    with pytest.raises(RuntimeError, match=r"step\(\) has already been called"):
        scaler.step(optimizer)
    scaler.update()
