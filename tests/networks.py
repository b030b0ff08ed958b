"""Networks that several tests use."""

from __future__ import annotations

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


class LeNet(nn.Module):
    """LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998), with ReLU and max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def lenet(seed: int = 0) -> LeNet:
    torch.manual_seed(seed)
    return LeNet()


def digits(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [count, 1, 32, 32] and labels; random, but with the label's place lit: there is something to learn."""
    torch.manual_seed(seed)
    x = torch.randn(count, 1, 32, 32)
    y = torch.randint(0, 10, (count,))
    for i in range(count):
        x[i, 0, 3 * int(y[i])] += 2.0
    return x, y
