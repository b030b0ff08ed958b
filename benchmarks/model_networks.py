"""The networks of `models.py`, written once for both libraries: `lib` is vitrify or torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Model:
    """`make(lib)` gives the module; `inputs(batch)` its arguments and, last, the targets of its loss; `optimizer` names
    one of `lib.optim`."""

    make: Callable[[Any], Any]
    inputs: Callable[[int], Arrays]
    batches: tuple[int, ...]
    optimizer: str = "SGD"


def mlp(lib: Any) -> Any:
    nn = lib.nn
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def tagger(lib: Any) -> Any:
    """Words to tags through one LSTM of 256."""
    nn = lib.nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5000, 128)
            self.lstm = nn.LSTM(128, 256, batch_first=True)
            self.out = nn.Linear(256, 20)

        def forward(self, words: Any) -> Any:
            return self.out(self.lstm(self.embedding(words))[0])

    return Tagger()


def encoder(lib: Any) -> Any:
    """A Transformer encoder layer, d 512, 8 heads."""
    nn = lib.nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True)
            self.out = nn.Linear(512, 10)

        def forward(self, x: Any) -> Any:
            return self.out(self.layer(x))

    return Classifier()


def gpt(
    lib: Any, layers: int = 6, width: int = 384, heads: int = 6, length: int = 128, words: int = 5000
) -> Any:
    """GPT-2's architecture. GPT-2 small is 12 layers of 768 with 12 heads, 1024 tokens of 50257."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            batch, length, width = x.shape
            q, k, v = self.qkv(self.norm1(x)).split(width, dim=2)
            q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
            self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.places(lib.arange(tokens.shape[1], device=tokens.device))
            return self.head(self.norm(self.blocks(x)))

    return GPT()


def resnet18(lib: Any, width: int = 64, classes: int = 1000) -> Any:
    """K. He and others, "Deep Residual Learning for Image Recognition", 2016."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
            self.shortcut = nn.Identity()
            if stride != 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
                )

        def forward(self, x: Any) -> Any:
            y = F.relu(self.norm1(self.conv1(x)))
            return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))

    stages = ((1, 1, 1), (1, 2, 2), (2, 4, 2), (4, 8, 2))
    widths = tuple((a * width, b * width, stride) for a, b, stride in stages)
    return nn.Sequential(
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *(block for a, b, stride in widths for block in (Block(a, b, stride), Block(b, b, 1))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def mobilenet_v2(lib: Any) -> Any:
    """M. Sandler and others, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018."""
    nn = lib.nn

    def conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
        padding = kernel // 2
        return [
            nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU6(),
        ]

    class Bottleneck(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int, expand: int) -> None:
            super().__init__()
            wide = inside * expand
            widen = conv(inside, wide, 1) if expand != 1 else []
            self.body = nn.Sequential(
                *widen, *conv(wide, wide, 3, stride, groups=wide), *conv(wide, outside, 1)[:2]
            )
            self.residual = stride == 1 and inside == outside

        def forward(self, x: Any) -> Any:
            return x + self.body(x) if self.residual else self.body(x)

    layers = conv(3, 32, 3, 2)
    inside = 32
    for expand, outside, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for number in range(count):
            layers.append(Bottleneck(inside, outside, stride if number == 0 else 1, expand))
            inside = outside
    return nn.Sequential(
        *layers, *conv(320, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)
    )


def step_of(lib: Any, model: Model) -> tuple[Callable[[Any, Any], Any], Any]:
    """A training step of a new net, and its optimizer."""
    lib.manual_seed(0)
    net = model.make(lib)
    optimizer = getattr(lib.optim, model.optimizer)(net.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = lib.nn.functional.cross_entropy(net(x).flatten(0, -2), y.flatten())
        loss.backward()
        optimizer.step()
        return loss

    return step, optimizer


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return _rng().standard_normal(shape, dtype=np.float32)


def classes(high: int, *shape: int) -> np.ndarray[Any, Any]:
    return _rng().integers(0, high, shape)


MODELS: dict[str, Model] = {
    "MLP 784-512-512-10": Model(mlp, lambda b: (numbers(b, 784), classes(10, b)), (1, 128), "AdamW"),
    "LSTM tagger, 64 words": Model(
        tagger, lambda b: (classes(5000, b, 64), classes(20, b, 64)), (16,), "AdamW"
    ),
    "Transformer layer, 128 tokens": Model(
        encoder, lambda b: (numbers(b, 128, 512), classes(10, b, 128)), (8,), "AdamW"
    ),
    "GPT, 6 layers, 128 tokens": Model(
        gpt, lambda b: (classes(5000, b, 128), classes(5000, b, 128)), (1, 4), "AdamW"
    ),
    "ResNet-18, 224x224": Model(resnet18, lambda b: (numbers(b, 3, 224, 224), classes(1000, b)), (1, 8)),
    "MobileNetV2, 224x224": Model(
        mobilenet_v2, lambda b: (numbers(b, 3, 224, 224), classes(1000, b)), (1, 8)
    ),
}
