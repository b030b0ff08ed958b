"""Fused graphs to programs for GPUs: the lowerings of `codegen/lower`, with schedules of blocks and threads."""

from __future__ import annotations

from ...ir.graph import Graph
from ..loops.nodes import Program
from ..lower import LowerOptions
from ..lower import lower_graph as lower_with
from ..target import GpuTarget
from .resident import with_resident_scans
from .schedules import GpuSchedules


def lower_graph(graph: Graph, target: GpuTarget, options: LowerOptions | None = None) -> Program:
    """The program that computes a fused graph on a GPU. IRError names a node that is not `fused`, or that cannot be
    lowered."""
    return with_resident_scans(lower_with(graph, target, options, GpuSchedules()), target)


__all__ = ["GpuSchedules", "lower_graph"]
