"""IR text from anywhere: what does not hold together is refused with IRError, what does is compiled and run; no crash.

Texts of real graphs are changed at random: other numbers, names, ops and dtypes. A fault of the compiler ends the whole
process, which pytest reports.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify.ir.graph import Graph, IRError, Value
from vitrify.ir.parser import parse
from vitrify.ir_commands import run_native
from vitrify.runtime.execute import CheckError

Array = np.ndarray[Any, Any]
NUMBERS = ("0", "1", "2", "3", "-1", "7", "100", "2147483648", "9223372036854775807", "-9223372036854775808")
DTYPES = ("f32", "f64", "i64", "bool", "i32", "u8", "bf16", "c64")
# Elements of all values together, above which a graph is only compiled for patience.
LARGE = 1 << 20


@cache
def texts() -> tuple[str, ...]:
    """Graphs as they were traced, and after fusion."""
    x, i = torch.zeros(4, 6), torch.zeros(3, dtype=torch.int64)
    image, weight = torch.zeros(2, 3, 8, 8), torch.zeros(4, 3, 3, 3)
    calls: list[tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = [
        (lambda x, i: F.softmax(x[i], 1).cumsum(0), (x, i)),
        (
            lambda x, w: F.max_pool2d(F.conv2d(x, w, padding=1).relu(), 2).mean((2, 3)),
            (image, weight),
        ),
        (lambda x, i: x.index_add(0, i, x[:3] * 2).gather(1, (x > 0).long()).sort(1)[0], (x, i)),
        (lambda x: torch.cat([x.flip(0), F.pad(x, (1, 2))[:, 1:7].t().reshape(4, 6)], 1).argmax(1), (x,)),
        (lambda x, i: F.nll_loss(F.log_softmax(x[:3], 1), i), (x, i)),
    ]
    found = []
    for function, arguments in calls:
        compiled = torch.compile(function)
        compiled(*arguments)
        found += [str(compiled.graph("traced")), str(compiled.graph("fused"))]
    return tuple(found)


def changed(text: str, choose: random.Random) -> str:
    """The text with one to three changes."""

    def replaced(pattern: str, *others: str) -> str:
        places = list(re.finditer(pattern, text))
        if not places:
            return text
        place = choose.choice(places)
        new = choose.choice(others or [m[1] for m in places])
        return text[: place.start(1)] + new + text[place.end(1) :]

    for _ in range(choose.choice((1, 1, 2, 3))):
        kind = choose.random()
        if kind < 0.6:
            text = replaced(r"(?<![\w.%])(-?\d+)(?![\w.])", *NUMBERS)
        elif kind < 0.8:
            text = replaced(r"(%[\w.]+)")
        elif kind < 0.9:
            text = replaced(r"= (\w+)\(")
        else:
            text = replaced(r"\b(f32|i64|bool)\b", *DTYPES)
    return text


def values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.outputs


def filled(value: Value, numbers: np.random.Generator) -> Array:
    shape = tuple(int(d) for d in value.type.shape)
    return (numbers.standard_normal(shape) * 100).astype(value.type.dtype.numpy)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "start", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(400, 4000, 400))]
)
def test_changed_text_is_refused_or_runs(start: int) -> None:
    outcomes = {"refused": 0, "ran": 0, "failed a check": 0, "large": 0}
    for seed in range(start, start + 400):
        choose = random.Random(seed)
        text = changed(choose.choice(texts()), choose)
        try:
            graph = parse(text)
        except IRError as error:
            assert str(error)
            outcomes["refused"] += 1
            continue
        if sum(float(np.prod([int(d) for d in v.type.shape])) for v in values(graph)) > LARGE:
            outcomes["large"] += 1
            continue
        numbers = np.random.default_rng(seed)
        try:
            run_native(graph, [filled(v, numbers) for v in graph.inputs])
            outcomes["ran"] += 1
        except (IRError, CheckError):
            outcomes["failed a check"] += 1
    assert outcomes["refused"] and outcomes["ran"] and outcomes["failed a check"], outcomes
