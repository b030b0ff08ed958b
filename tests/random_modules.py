"""Random modules: programs of layers, views, branches, loops and writes in place, by hypothesis.

    module, x = draw_module(rng)
    module(x)

Each statement is a function of the values there are; which ones, and with what sizes, is chosen when the module is
made, so that a call does the same every time. Values stay of moderate size: statements normalise or squash.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn

Tensor = torch.Tensor
Step = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]


class RandomModule(nn.Module):
    """`steps` one after the other, each under its number in `layers` if it has parameters."""

    def __init__(self, steps: list[tuple[str, Step]]):
        super().__init__()
        self.names = [name for name, _ in steps]
        self.steps = [step for _, step in steps]
        self.layers = nn.ModuleList(step for step in self.steps if isinstance(step, nn.Module))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        for step in self.steps:
            x = step(x)
        return x

    def extra_repr(self) -> str:
        return ", ".join(self.names)


class Residual(nn.Module):
    """x + f(norm(x)), for what keeps the shape."""

    def __init__(self, inner: Step, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(self.norm(x))


class Recurrent(nn.Module):
    """An LSTM, GRU or RNN over the second dim from the end."""

    def __init__(self, kind: type[nn.RNNBase], width: int, both_ways: bool):
        super().__init__()
        self.net = kind(width, width, batch_first=True, bidirectional=both_ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = self.project(x).view(rows, length, 3, self.heads, width // self.heads).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return found.transpose(1, 2).reshape(rows, length, width)


class CellLoop(nn.Module):
    """A cell in a Python loop over the second dim."""

    def __init__(self, width: int):
        super().__init__()
        self.cell = nn.GRUCell(width, width)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[0], x.shape[2], device=x.device)
        found = []
        for i in range(x.shape[1]):
            state = self.cell(x[:, i], state)
            found.append(state)
        return torch.stack(found, 1)


class RunningMean(nn.Module):
    """A buffer that calls in training change."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(x.flatten(0, -2).mean(0), alpha=0.1)
        return x - self.mean


def draw_module(rng: random.Random, length: int = 6) -> tuple[RandomModule, Tensor]:
    """A module of so many steps at most, and an input for it. What it has of weights is drawn from the seed in force."""
    rank = rng.choice((2, 3, 4))
    shape = tuple(rng.choice((1, 2, 3, 5, 8)) for _ in range(rank - 1)) + (rng.choice((2, 4, 6, 9, 16)),)
    if rank == 4:
        shape = (rng.choice((1, 2, 3)), rng.choice((1, 2, 4)), rng.choice((4, 7, 8)), rng.choice((4, 5, 8)))
    x = torch.randn(*shape)
    steps: list[tuple[str, Step]] = []
    probe = x
    for _ in range(rng.randint(1, length)):
        name, step = _draw(rng, tuple(probe.shape))
        try:
            with torch.no_grad():
                after = step(probe)
        except ValueError:  # batch norm of one value per channel
            continue
        if after.numel() == 0 or after.numel() > 4096 or after.dim() == 0:
            continue
        steps.append((name, step))
        probe = after
    return RandomModule(steps), x


def _draw(rng: random.Random, shape: Shape) -> tuple[str, Step]:
    width = shape[-1]
    makers: list[Callable[[], tuple[str, Step]]] = [
        lambda: ("linear", nn.Linear(width, rng.choice((1, 3, 4, 8, 17)), bias=rng.random() < 0.7)),
        lambda: _named(rng, ACTIVATIONS),
        lambda: _named(rng, ACTIVATIONS),
        lambda: ("layer norm", nn.LayerNorm(width)),
        lambda: ("softmax", nn.Softmax(rng.randrange(-len(shape), 0))),
        lambda: ("residual", Residual(nn.Linear(width, width), width)),
        lambda: ("dropout", nn.Dropout(0.3)),
        lambda: ("running mean", RunningMean(width)),
        lambda: _view(rng, shape),
        lambda: _named(rng, IN_PLACE),
        lambda: _named(rng, BRANCHES),
        lambda: _reduce(rng, shape),
    ]
    if len(shape) == 2:
        makers += [lambda: ("batch norm", nn.BatchNorm1d(width)), lambda: ("bag of rows", _bag(rng, shape))]
    if len(shape) == 3:
        kind = rng.choice((nn.LSTM, nn.GRU, nn.RNN))
        makers += [
            lambda: (kind.__name__, Recurrent(kind, width, rng.random() < 0.3)),
            lambda: ("cell in a loop", CellLoop(width)),
            lambda: ("conv1d", nn.Conv1d(shape[1], rng.choice((1, 2, 6)), 3, padding=1)),
            lambda: ("attention", Attention(width, rng.choice(_divisors(width)), rng.random() < 0.5)),
        ]
    if len(shape) == 4:
        makers += [lambda: _spatial(rng, shape)] * 6
    return rng.choice(makers)()


def _named(rng: random.Random, table: dict[str, Step]) -> tuple[str, Step]:
    name = rng.choice(sorted(table))
    return name, table[name]


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _view(rng: random.Random, shape: Shape) -> tuple[str, Step]:
    a, b = rng.randrange(len(shape)), rng.randrange(len(shape))
    size, step = shape[a], rng.choice((1, 1, 2))
    start = rng.randrange(size)
    if size == 1:
        return "repeat", lambda x: x.expand(*(3 if d == a else -1 for d in range(x.dim()))) * 1
    if rng.random() < 0.4:
        return f"transpose({a}, {b})", lambda x: x.transpose(a, b)
    if rng.random() < 0.4:
        return f"slice({a}, {start}, {step})", lambda x: x.narrow(a, start, x.shape[a] - start) * step
    choices: dict[str, Step] = {
        f"flip({a})": lambda x: x.flip(a),
        f"roll({a})": lambda x: x.roll(1, a),
        f"cat({a})": lambda x: torch.cat([x, x.narrow(a, 0, 1)], a),
        f"stack and sum({a})": lambda x: torch.stack([x, x.flip(a)], a).mean(a),
        "pad": lambda x: F.pad(x, (1, 2), value=0.5),
        "cumsum": lambda x: torch.tanh(x.cumsum(-1)),
        "unfold": lambda x: x.unfold(-1, min(2, x.shape[-1]), 1).mean(-1),
        "contiguous": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
        "chunks": lambda x: torch.cat(x.chunk(2, a)[::-1], a),
    }
    return _named(rng, choices)


def _reduce(rng: random.Random, shape: Shape) -> tuple[str, Step]:
    a = rng.randrange(len(shape))
    choices: dict[str, Step] = {
        f"minus mean({a})": lambda x: x - x.mean(a, keepdim=True),
        f"minus max({a})": lambda x: x - x.amax(a, keepdim=True),
        f"over norm({a})": lambda x: x / (x.square().sum(a, keepdim=True) + 1).sqrt(),
        f"over std({a})": lambda x: x / (x.var(a, keepdim=True, correction=0) + 1).sqrt(),
        f"times logsumexp({a})": lambda x: torch.tanh(x * x.logsumexp(a, keepdim=True)),
    }
    if len(shape) > 2:
        choices[f"mean({a})"] = lambda x: x.mean(a)
        choices[f"max({a})"] = lambda x: x.max(a).values
    return _named(rng, choices)


def _bag(rng: random.Random, shape: Shape) -> Step:
    rows = torch.randint(0, shape[0], (rng.choice((1, 4, 7)),))

    def pick(x: Tensor) -> Tensor:
        at = rows.to(x.device)
        found = torch.zeros(len(rows), x.shape[1], device=x.device).index_add(0, at % len(rows), x[at])
        return x.index_select(0, at) + found

    return pick


def _spatial(rng: random.Random, shape: Shape) -> tuple[str, Step]:
    channels = shape[1]
    room = min(shape[2:])
    kernel = rng.choice((1, 3)) if room >= 3 else 1
    groups = rng.choice(_divisors(channels))
    out = groups * rng.choice((1, 2, 3))
    attrs = {
        "stride": rng.choice((1, 1, 2)),
        "padding": rng.choice((0, 1)),
        "groups": groups,
        "bias": rng.random() < 0.5,
    }
    choices: dict[str, Callable[[], Step]] = {
        "conv": lambda: nn.Conv2d(channels, out, kernel, **attrs),
        "transposed conv": lambda: nn.ConvTranspose2d(channels, groups * 2, kernel, stride=2, groups=groups),
        "batch norm 2d": lambda: nn.BatchNorm2d(channels),
        "group norm": lambda: nn.GroupNorm(groups, channels),
        "max pool": lambda: nn.MaxPool2d(2, stride=rng.choice((1, 2)), ceil_mode=rng.random() < 0.3),
        "avg pool": lambda: nn.AvgPool2d(2, stride=rng.choice((1, 2)), padding=rng.choice((0, 1))),
        "adaptive pool": lambda: nn.AdaptiveAvgPool2d(rng.choice((1, 2, 3))),
        "upsample": lambda: nn.Upsample(scale_factor=2, mode=rng.choice(("nearest", "bilinear"))),
        "flatten": lambda: nn.Flatten(rng.choice((1, 2))),
    }
    name = rng.choice(sorted(choices) if room >= 2 else ["conv", "batch norm 2d", "group norm", "flatten"])
    return name, choices[name]()


def _inside(x: Tensor) -> Tensor:
    x = x.clone()
    x[..., 0] = 0.5
    x[:1] += 1.0
    return x


def _masked(x: Tensor) -> Tensor:
    x = x * 1.0
    x[x > 1.0] = 1.0
    return x.masked_fill_(x < -1.0, -1.0)


def _through_a_view(x: Tensor) -> Tensor:
    y = x.clone()
    y.transpose(0, -1)[0].mul_(-0.5)
    return y.add_(x, alpha=0.25)


def _branch(x: Tensor) -> Tensor:
    if x.sum() > 0:
        return torch.sin(x)
    return torch.cos(x)


def _halve(x: Tensor) -> Tensor:
    for _ in range(8):
        if x.abs().max() < 0.5:
            break
        x = x * 0.4
    return x


def _positive(x: Tensor) -> Tensor:
    found = x[x > 0]
    return x + found.sum() / (1 + found.numel())


ACTIVATIONS: dict[str, Step] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": lambda x: F.softplus(x) - 0.5,
    "elu": F.elu,
    "hardswish": F.hardswish,
    "leaky relu": F.leaky_relu,
    "clamp": lambda x: x.clamp(-1.0, 0.75),
    "where": lambda x: torch.where(x > 0.1, x, 0.2 * x),
    "exp": lambda x: torch.exp(-x.abs()),
    "square": lambda x: torch.tanh(x * x),
    "float64": lambda x: torch.sin(x.double()).float(),
    "glu": lambda x: F.glu(torch.cat([x, x], -1)),
}
IN_PLACE: dict[str, Step] = {"inside": _inside, "masked": _masked, "through a view": _through_a_view}
BRANCHES: dict[str, Step] = {"branch": _branch, "halve": _halve, "positive": _positive}
