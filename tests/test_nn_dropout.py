"""Dropouts and random activations: what is dropped, what stays the same on average, eager and compiled (which draw from
streams of their own)."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F

compiled = pytest.mark.parametrize("compile", [lambda fn: fn, torch.compile], ids=["eager", "compiled"])


@compiled
@pytest.mark.parametrize(
    "name, shape", [("1d", (40, 50, 3)), ("2d", (40, 50, 3, 2)), ("3d", (40, 50, 2, 2, 1))]
)
def test_whole_channels_are_dropped(name, shape, compile):
    torch.manual_seed(0)
    layer = getattr(torch.nn, f"Dropout{name}")(0.25)
    y = compile(lambda x: layer(x))(torch.ones(*shape)).numpy().reshape(2000, -1)
    assert ((y == 0) | np.isclose(y, 1 / 0.75)).all()
    assert (y == y[:, :1]).all()
    assert 0.2 < (y[:, 0] == 0).mean() < 0.3


@compiled
@pytest.mark.parametrize("layer", [torch.nn.AlphaDropout(0.2), torch.nn.FeatureAlphaDropout(0.2)])
def test_alpha_dropout_keeps_mean_and_variance(layer, compile):
    torch.manual_seed(0)
    y = compile(lambda x: layer(x))(torch.randn(200, 300)).numpy()
    assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02


@compiled
def test_rrelu_draws_its_slopes(compile):
    torch.manual_seed(0)
    x = -torch.ones(5000)
    slopes = -compile(lambda x: F.rrelu(x, 0.1, 0.3, training=True))(x).numpy()
    assert slopes.min() >= 0.1 and slopes.max() < 0.3 and abs(slopes.mean() - 0.2) < 0.01


@compiled
def test_a_seed_gives_the_same_again_and_gradients_follow(compile):
    layer = torch.nn.Dropout2d(0.5)
    run = compile(lambda x: layer(x))
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        x = torch.ones(3, 4, 2, 2, requires_grad=True)
        y = run(x)
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
        found.append(y.detach().numpy())
    np.testing.assert_array_equal(*found)


def test_eager_code_can_draw_what_compiled_code_draws():
    def draw(x):
        return F.dropout(x, 0.5), torch.randn(3), F.alpha_dropout(x, 0.3, training=True), torch.rand_like(x)

    x = torch.ones(4, 6)
    torch.manual_seed(7)
    compiled = torch.compile(draw)(x)
    torch.manual_seed(7)
    with torch.random.counter_based():
        eager = draw(x)
    for a, b in zip(eager, compiled):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    torch.manual_seed(7)
    assert not np.array_equal(draw(x)[0].numpy(), eager[0].numpy())


def test_attention_drops_weights():
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 600, 4), torch.ones(1, 2, 600, 4)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3).numpy()
    assert (y != 1).any() and abs(y.mean() - 1) < 0.1


def test_gumbel_softmax_is_a_distribution_and_hard_one_of_its_corners():
    torch.manual_seed(0)
    x = torch.randn(50, 4, requires_grad=True)
    soft = F.gumbel_softmax(x, tau=0.5)
    np.testing.assert_allclose(soft.detach().sum(1).numpy(), 1, rtol=1e-5)
    hard = F.gumbel_softmax(x, hard=True)
    assert (
        sorted(np.unique(hard.detach().numpy().round(5))) == [0, 1] and (hard.sum(1) - 1).abs().max() < 1e-5
    )
    (hard * torch.arange(4.0)).sum().backward()
    assert x.grad.abs().sum() > 0
