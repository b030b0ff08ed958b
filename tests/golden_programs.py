"""The programs whose dumps are stored under golden/. The dumps name these lines: after an edit run
`pytest tests/test_golden.py --update-golden` and read the difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


@dataclass(frozen=True)
class GoldenProgram:
    """A function to trace, and what to trace it with. `wrt`: inputs to differentiate for; then the gradient graphs are
    dumped too. `loops`: whether the loop IR is kept, for kernels that are small enough to be read."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    dynamic_shapes: dict[str, dict[int, Any]] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    loops: bool = False


class SmallLeNet(nn.Module):
    """LeNet's layers on 12 x 12 images, a tenth of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.conv2 = nn.Conv2d(2, 4, 2)
        self.fc1 = nn.Linear(16, 8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)


def lenet_step() -> GoldenProgram:
    net = SmallLeNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    criterion = nn.CrossEntropyLoss()

    def lenet_step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    # Momentum buffers are made by the first step; the dump is of the steps after it.
    x, y = torch.zeros(4, 1, 12, 12), torch.zeros(4, dtype=torch.int64)
    lenet_step(x, y)
    return GoldenProgram(lenet_step, (x, y))


def softmax_cross_entropy() -> GoldenProgram:
    def softmax_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target)

    args = torch.zeros(8, 10, requires_grad=True), torch.zeros(8, dtype=torch.int64)
    return GoldenProgram(softmax_cross_entropy, args, wrt=("logits",), loops=True)


def linear_relu() -> GoldenProgram:
    linear = nn.Linear(20, 16).requires_grad_(False)

    def linear_relu(x: torch.Tensor) -> torch.Tensor:
        return F.relu(linear(x))

    return GoldenProgram(linear_relu, (torch.zeros(4, 20),), {"x": {0: torch.Dim("batch", 1, 256)}})


def sgd_step() -> GoldenProgram:
    weight = nn.Parameter(torch.zeros(100))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=1e-4)

    def sgd_step(gradient: torch.Tensor) -> None:
        weight.grad = gradient
        optimizer.step()

    sgd_step(torch.zeros(100))
    return GoldenProgram(sgd_step, (torch.zeros(100),), loops=True)


PROGRAMS = {p.__name__: p for p in (lenet_step, softmax_cross_entropy, linear_relu, sgd_step)}
