"""Exports a LeNet for main.c, with images to run it on and the answers that Python gives."""

import sys
from pathlib import Path

import vitrify as torch
import vitrify.nn as nn

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(400, 120), nn.ReLU(),
    nn.Linear(120, 84), nn.ReLU(),
    nn.Linear(84, 10),
).eval()  # fmt: skip

images = torch.randn(7, 1, 32, 32)
exported = torch.export(
    net, (images,), folder / "lenet.so", dynamic_shapes={"input": {0: torch.Dim("batch", 1, 64)}}
)
(folder / "images.f32").write_bytes(images.numpy().tobytes())
with torch.no_grad():
    (folder / "answers.f32").write_bytes(net(images).numpy().tobytes())
print(*exported.files)
