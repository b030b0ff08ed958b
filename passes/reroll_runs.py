"""Runs of nodes that repeat: blocks that follow themselves several times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..ir.graph import Graph, Node
from .cse import attrs_key
from .host import runs_on_host

# How many places of a run are tried as the beginning of its block.
SHIFTS = 32


@dataclass(frozen=True)
class Run:
    """`count` blocks of `period` nodes, the first at node number `start`."""

    start: int
    period: int
    count: int


def runs(graph: Graph, least: int) -> Iterator[Run]:
    """Where the nodes repeat, those with the most nodes first."""
    heavy = [node.op.flops is not None for node in graph.nodes]
    lines = Counter((n.op.name, n.location) for n, h in zip(graph.nodes, heavy) if h)
    if max(lines.values(), default=0) < least:
        return
    numbers: dict[Any, int] = {}
    tokens = [numbers.setdefault(_token(node), len(numbers)) for node in graph.nodes]
    previous: dict[int, int] = {}
    periods: Counter[int] = Counter()
    for i, token in enumerate(tokens):
        if token in previous:
            periods[i - previous[token]] += 1
        previous[token] = i
    found: list[Run] = []
    for period, times in periods.items():
        if times < least - 1 or period * least > len(tokens):
            continue
        start = 0
        while start + period < len(tokens):
            end = start
            while end + period < len(tokens) and tokens[end] == tokens[end + period]:
                end += 1
            for shift in range(min(period, end - start, SHIFTS)):
                count = (end - start - shift) // period + 1
                if count >= least:
                    found.append(Run(start + shift, period, count))
            start = end + 1
    found = [r for r in found if any(heavy[r.start : r.start + r.period])]
    # A multiple of a period is one too: of equals, the shorter.
    yield from sorted(found, key=lambda r: (-r.period * r.count, r.period, r.start))


def _token(node: Node) -> Any:
    """Equal for nodes that may be the same one in two turns. Where a slice or what is padded lies may differ."""
    if node.regions or runs_on_host(node) or node.op.lowering in ("random", "check"):
        return id(node)
    attrs = () if node.op.name in ("slice", "pad") else attrs_key(node.attrs)
    types = tuple(str(v.type) for v in (*node.inputs, *node.outputs))
    return node.op.name, attrs, types, node.location
