"""How the time of kernels falls to the source lines whose ops are in them.

A kernel is measured as a whole. Its time is shared among its group's ops by their work: one operation for each element
that an op reads or makes, whichever is more; what the kernel computes beyond that (the products of a contraction) is its
anchor's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..ir import dims
from ..ir.graph import Location, Node
from ..runtime.kernel_times import LaunchTime

ANCHORS = ("contraction", "window", "gather", "scatter", "random", "host")


@dataclass(frozen=True)
class LineTime:
    """A line's part of the measured time, in seconds of all runs, and its ops."""

    location: Location
    seconds: float
    ops: tuple[str, ...]


def line_times(
    groups: Iterable[Node], times: Mapping[str, Sequence[LaunchTime]], bindings: Mapping[str, int]
) -> list[LineTime]:
    """The lines of fused groups, those with most time first. `times` has the measured launches of each group."""
    seconds: dict[tuple[str, int], float] = {}
    ops: dict[tuple[str, int], dict[str, None]] = {}
    places: dict[tuple[str, int], Location] = {}
    for group in groups:
        launches = times.get(group.attrs["name"], ())
        total = sum(launch.seconds for launch in launches)
        calls = max((launch.calls for launch in launches), default=0)
        if not calls:
            continue
        flops = sum(launch.flops for launch in launches) / calls
        (body,) = group.regions
        for node, share in zip(body.nodes, _shares(body.nodes, flops, bindings)):
            location = node.location or group.location
            if location is None:
                continue
            key = (location.file, location.line)
            places.setdefault(key, location)
            seconds[key] = seconds.get(key, 0.0) + total * share
            ops.setdefault(key, {})[node.op.name] = None
    order = sorted(places, key=lambda key: -seconds[key])
    return [LineTime(places[key], seconds[key], tuple(ops[key])) for key in order]


def _shares(nodes: Sequence[Node], flops: float, bindings: Mapping[str, int]) -> list[float]:
    """Each node's part of the group's work."""
    work = [_elements(node, bindings) for node in nodes]
    anchor = next((i for i, node in enumerate(nodes) if node.op.lowering in ANCHORS), None)
    if anchor is not None:
        work[anchor] = max(work[anchor], flops - (sum(work) - work[anchor]))
    total = sum(work)
    return [w / total if total else 1 / len(nodes) for w in work]


def _elements(node: Node, bindings: Mapping[str, int]) -> float:
    """Elements that a node reads or makes; a view or a constant costs nothing of its own."""
    if node.op.lowering in ("view", "constant"):
        return 0.0
    return float(max(dims.evaluate(v.type.numel, bindings) for v in (*node.inputs, *node.outputs)))
