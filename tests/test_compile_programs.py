"""Programs as people write them, compiled whole: every result of every call equals the eager one."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F

PROGRAMS = {}


def program(build):
    PROGRAMS[build.__name__] = build
    return build


def supervised(net, optimizer, x, classes):
    y = torch.randint(0, classes, (len(x),))

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, (x, y)


@program
def mlp_with_dropout_and_clipped_gradients():
    net = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Dropout(0.3), nn.Linear(64, 5))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = torch.randn(32, 20), torch.randint(0, 5, (32,))

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, (x, y)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.shortcut = nn.Conv2d(3, 16, 1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
        return self.fc(F.avg_pool2d(y, 2).mean(dim=(2, 3)))


@program
def residual_block_with_batch_norm():
    net = Residual()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return supervised(net, optimizer, torch.randn(8, 3, 16, 16), 4)


@program
def strided_grouped_and_dilated_convolutions():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, groups=4, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(16, 16, 3, dilation=2, padding=2), nn.Flatten(), nn.Linear(16 * 4 * 4, 3),
    )  # fmt: skip
    return supervised(net, torch.optim.SGD(net.parameters(), lr=0.05), torch.randn(5, 3, 16, 16), 3)


class Decoder(nn.Module):
    """One transformer block, attention written out by hand."""

    def __init__(self, dim=32, heads=4, words=50):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(words, dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.head = nn.Linear(dim, words)

    def forward(self, tokens):
        x = self.embed(tokens)
        b, n, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) / (d // self.heads) ** 0.5
        mask = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
        weights = scores.masked_fill(mask, float("-inf")).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(b, n, d))
        return self.head(x + self.mlp(self.norm2(x)))


@program
def transformer_block():
    net = Decoder()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step(tokens):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(tokens[:, :-1]).reshape(-1, 50), tokens[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    return step, (torch.randint(0, 50, (4, 17)),)


@program
def many_functions_at_once():
    w = torch.randn(5, 5, requires_grad=True)

    def f(x):
        y = x @ w
        z = torch.tanh(y)
        return (
            y.sum(), z.max(dim=1)[0], z.std(), (z > 0).float().mean(), torch.cat([y, z], 1), y[:, ::2], z.flip(0),
            torch.where(y > 0, y, z * 2), y.argmax(1).float(), z.var(dim=0), y.norm(), torch.stack([y, z]).sum(0),
            y.clamp(-1, 1), (y**2).sum(-1).sqrt(), y.abs().max(),
        )  # fmt: skip

    return f, (torch.randn(7, 5),)


@program
def variational_autoencoder():
    encoder, decoder = nn.Linear(30, 8), nn.Linear(4, 30)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)

    def step(x, noise):
        optimizer.zero_grad()
        mean, logvar = encoder(x).chunk(2, 1)
        z = mean + noise * torch.exp(0.5 * logvar)
        likelihood = F.binary_cross_entropy(torch.sigmoid(decoder(z)), x, reduction="sum")
        loss = likelihood - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
        loss.backward()
        optimizer.step()
        return loss

    return step, (torch.rand(16, 30), torch.randn(16, 4))


@program
def two_networks_against_each_other():
    maker = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Linear(16, 2))
    judge = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    maker_optimizer = torch.optim.Adam(maker.parameters(), lr=1e-3)
    judge_optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    criterion = nn.BCEWithLogitsLoss()

    def step(x, noise):
        ones, zeros = torch.ones(x.size(0), 1), torch.zeros(x.size(0), 1)
        judge_optimizer.zero_grad()
        fake = maker(noise)
        judged = criterion(judge(x), ones) + criterion(judge(fake.detach()), zeros)
        judged.backward()
        judge_optimizer.step()
        maker_optimizer.zero_grad()
        made = criterion(judge(fake), ones)
        made.backward()
        maker_optimizer.step()
        return judged, made

    return step, (torch.randn(12, 2), torch.randn(12, 4))


@program
def descent_by_hand_under_no_grad():
    w = torch.randn(10, 3, requires_grad=True)

    def step(x, y):
        loss = ((x @ w - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w.sub_(0.1 * w.grad)
            w.grad.zero_()
        return loss

    return step, (torch.randn(20, 10), torch.randn(20, 3))


@program
def descent_by_hand_through_data():
    w = torch.randn(10, 3, requires_grad=True)

    def step(x, y):
        loss = ((x @ w - y) ** 2).mean()
        loss.backward()
        w.data -= 0.1 * w.grad.data
        w.grad = None
        return loss

    return step, (torch.randn(20, 10), torch.randn(20, 3))


@program
def gradient_penalty_with_second_derivatives():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def f(x):
        x = x.clone().requires_grad_(True)
        y = net(x).sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        loss = y + (slope.norm(dim=1) - 1).pow(2).mean()
        loss.backward()
        return loss, net[0].weight.grad

    return f, (torch.randn(6, 3),)


@program
def tied_weights():
    embed = nn.Embedding(20, 8)

    def step(tokens):
        embed.weight.grad = None
        loss = (embed(tokens) @ embed.weight.t()).log_softmax(-1).mean()
        loss.backward()
        return loss, embed.weight.grad

    return step, (torch.randint(0, 20, (3, 5)),)


@program
def recurrence_written_as_a_loop():
    to_hidden, to_output = nn.Linear(14, 6), nn.Linear(6, 3)

    def f(x):
        hidden, loss = torch.zeros(4, 6), 0
        for step in range(5):
            hidden = torch.tanh(to_hidden(torch.cat((x[step], hidden), 1)))
            loss = loss + (to_output(hidden) ** 2).mean()
        loss.backward()
        return loss, to_hidden.weight.grad

    return f, (torch.randn(5, 4, 8),)


@program
def double_precision():
    net = nn.Linear(5, 3).double()
    return (lambda x: net(x).softmax(-1).log().sum()), (torch.randn(4, 5, dtype=torch.float64),)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    torch.manual_seed(0)
    eager, arguments = PROGRAMS[name]()
    torch.manual_seed(0)
    function, _ = PROGRAMS[name]()
    compiled = torch.compile(function)
    for call in range(4):
        torch.manual_seed(call)
        with torch.random.counter_based():
            want = eager(*arguments)
        torch.manual_seed(call)
        got = compiled(*arguments)
        if not isinstance(want, tuple):
            want, got = (want,), (got,)
        for a, b in zip(got, want):
            a, b = a.detach().numpy(), b.detach().numpy()
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * max(1e-3, np.abs(b).max()))
    # A second compile only where the first call found no gradients and the second did.
    assert len(compiled.report().compiles) <= 2
