"""What Python does for a compiled call on a device: calls through the driver layer over a library whose functions do
nothing, beside the same calls on the CPU. CPU time of one call, the least of many rounds.

    python benchmarks/launch_overhead.py
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "gpu"))

from fake_cuda import FakeCuda

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn
from vitrify.runtime.gpu import device as gpu_device
from vitrify.runtime.gpu.cuda_library import PROTOTYPES, CudaLibrary
from vitrify.runtime.gpu.driver import find_devices
from vitrify.runtime.loading import load_llvm_text

CALLS, ROUNDS = 300, 25


class IdleCuda(FakeCuda):
    """What a call needs is native code that returns success."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 13000
        self.code = load_llvm_text("define i32 @success() {\n ret i32 0\n}\n")
        address, self.heap = self.code.address("success"), 1 << 40
        for name in ("cuLaunchKernel", "cuGraphLaunch", "cuStreamSynchronize"):
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *PROTOTYPES[name])(address))
        for name in PROTOTYPES:
            if name.startswith(("cuMemcpy", "cuMemset")):
                setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *PROTOTYPES[name])(address))

    def do_cuMemAlloc_v2(self, answer: Any, nbytes: int) -> None:
        answer._obj.value = self.heap
        self.heap += -(-nbytes // 512) * 512


def least(call: Callable[[], Any]) -> float:
    """Microseconds."""
    for _ in range(20):
        call()
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        for _ in range(CALLS):
            call()
        rounds.append((time.process_time_ns() - start) / CALLS)
    return min(rounds) / 1000


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def calls(device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    add = torch.compile(lambda x: x + 1)
    x = torch.zeros(8, device=device)
    yield "x + 1", lambda: add(x)

    mixed = torch.compile(lambda x: (x @ x).softmax(1).sum(0))
    w = torch.zeros(16, 16, device=device)
    yield "matmul, softmax, sum", lambda: mixed(w)

    net = lenet().to(device)
    images = torch.zeros(4, 1, 28, 28, device=device)
    compiled = torch.compile(net)

    def inference() -> Any:
        with torch.no_grad():
            return compiled(images)

    yield "LeNet, inference", inference
    yield "LeNet, forward for eager code's backward", lambda: compiled(images)

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @torch.compile
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        result = net(x)
        loss = F.mse_loss(result, y) if y.dtype == torch.float32 else F.cross_entropy(result, y)
        loss.backward()
        optimizer.step()
        return loss

    numbers, classes = torch.zeros(4, 10, device=device), torch.zeros(4, dtype=torch.int64, device=device)
    yield "LeNet, training step", lambda: step(images, numbers)
    yield "LeNet, training step, classes checked", lambda: step(images, classes)


def main() -> None:
    gpu_device.install(find_devices(CudaLibrary(IdleCuda())))
    times = {name: least(call) for name, call in calls("cuda")}
    print(
        "| call | on a device, launches doing nothing, µs | on the CPU, kernels included, µs |\n|---|---|---|"
    )
    for name, call in calls("cpu"):
        print(f"| {name} | {times[name]:.1f} | {least(call):.1f} |")


if __name__ == "__main__":
    main()
