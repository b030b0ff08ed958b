"""What the checkpoint files of the tests hold, written once for both libraries: `torch` is the one that makes it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, NamedTuple

DTYPES = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "bfloat16",
    "float32", "float64", "complex64", "complex128",
)  # fmt: skip


class Point(NamedTuple):
    """A namedtuple of the caller's: a file may only name it where it was allowed."""

    x: Any
    y: Any


def every_dtype(torch: Any) -> Any:
    """One tensor of each dtype."""
    return {name: torch.tensor([0, 1, 2, 100]).to(getattr(torch, name)) for name in DTYPES}


def views(torch: Any) -> Any:
    """Tensors that share storages, in all the ways that strides and offsets allow."""
    base = torch.arange(24.0).reshape(2, 3, 4)
    flat = torch.arange(12)
    return {
        "base": base,
        "again": base,
        "part": base[1:, ::2, 1:3],
        "transposed": base.permute(2, 0, 1),
        "element": base[1, 2, 3],
        "row": base[0, 1],
        "expanded": flat[3:4].expand(5),
        "column": flat.reshape(3, 4)[1:, 2:3].expand(2, 6),
        "other shape": flat.reshape(6, 2),
        "own": torch.arange(6).reshape(2, 3).t(),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "empty part": base[:, 3:],
    }


def containers(torch: Any) -> Any:
    """Everything that `weights_only=True` loads besides tensors."""
    return {
        "list": [1, -1, 300, 70000, -70000, 2**40, 2**70, -(2**70), 1.5, float("inf"), True, False, None],
        "text": ["", "a", "ü€𝄞", "x" * 300],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
        "counter": Counter({3: 2, 1: 1}),
        "set": {1, 2},
        "bytes": [b"ab\xff"],
        "bytearray": bytearray(b"cd"),
        "complex": 1 - 2j,
        "size": torch.Size([2, 3]),
        "dtypes": [getattr(torch, name) for name in DTYPES],
        "devices": [torch.device("cpu"), torch.device("cuda", 1)],
        "nested": {1: {(2, "x"): [{"deep": torch.ones(1)}]}},
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "frozen": torch.nn.Parameter(torch.arange(2), requires_grad=False),
        "leaf": torch.ones(1, requires_grad=True),
    }


def make_net(torch: Any) -> Any:
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4, bias=False), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )


def training(torch: Any) -> Any:
    """A run of a few steps: the network, the optimizers with their schedulers, and their state dicts."""
    torch.manual_seed(0)
    net = make_net(torch)
    adam = torch.optim.Adam(net[0].parameters(), lr=0.01, amsgrad=True)
    sgd = torch.optim.SGD(net[3].parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedules = [torch.optim.lr_scheduler.StepLR(adam, 2), torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 9)]
    for _ in range(3):
        loss = net(torch.ones(5, 3) * torch.arange(5.0)[:, None]).pow(2).sum()
        loss.backward()
        for optimizer, schedule in zip((adam, sgd), schedules):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return net, adam, sgd, schedules


def checkpoint(torch: Any) -> Any:
    net, adam, sgd, schedules = training(torch)
    return {
        "state_dict": net.state_dict(),
        "optimizers": [adam.state_dict(), sgd.state_dict()],
        "schedules": [schedule.state_dict() for schedule in schedules],
        "epoch": 3,
    }


CASES = {"dtypes": every_dtype, "views": views, "containers": containers, "checkpoint": checkpoint}


def same(a: Any, b: Any, where: str = "") -> None:
    """AssertionError unless both are the same, type by type; `a` and `b` may come from different libraries."""
    if hasattr(a, "stride"):
        assert str(a.dtype) == str(b.dtype), where
        assert (tuple(a.shape), a.requires_grad) == (tuple(b.shape), b.requires_grad), where
        if a.numel():
            assert a.storage_offset() == b.storage_offset(), where
            strides = zip(a.shape, a.stride(), b.stride())
            assert all(n == 1 or have == want for n, have, want in strides), where
        assert str(a.detach().reshape(-1).tolist()) == str(b.detach().reshape(-1).tolist()), where
    elif isinstance(a, dict):
        assert list(map(str, a)) == list(map(str, b)), where
        assert all(isinstance(a, kind) == isinstance(b, kind) for kind in (OrderedDict, Counter)), where
        for key, value in a.items():
            same(value, b[key], f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b) and type(a).__name__ == type(b).__name__, where
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{where}[{i}]")
    else:
        assert type(a).__name__ == type(b).__name__ and str(a) == str(b), where
