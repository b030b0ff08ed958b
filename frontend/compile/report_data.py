"""A report as plain data (`Report.to_json`): dicts, lists, strings and numbers that JSON can hold.

The keys are described in docs/inspection.md. What leads from one to another are names: a node's outputs are values,
whose names hold within one stage (passes may use a name again); a node of the last stage is a group; a launch names its
group, its kernel (loop IR) and its function (LLVM, assembly); a buffer names the group that first writes it. A source
line is a file and a number.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..codegen.loops.nodes import Buffer, Launch, Program
from ..codegen.loops.printer import kernel_names, print_kernel
from ..codegen.lower.lifetimes import first_writers, intervals_of
from ..ir import dims
from ..ir.dtypes import DType
from ..ir.graph import Graph, Location, Node
from ..ir.printer import to_text, used_symbols
from ..passes.fusion import Fusion
from ..passes.memory_plan import lower_bound
from ..passes.pipeline import default_pipeline
from ..passes.regions import group_nodes
from ..runtime.compiled_graph import CompiledGraph
from ..runtime.gpu.compiled import GpuGraph
from ..runtime.kernel_times import LaunchTime
from ..runtime.peaks import Peaks
from .drawing import drawing, layout_library
from .report_code import code_of
from .tuning_data import tuning_data

if TYPE_CHECKING:
    from .report import Report

FORMAT = 1
Json = dict[str, Any]
# Source lines shown before the first and after the last line that made a node, and between two that are near.
CONTEXT = 6


def report_data(report: Report) -> Json:
    """Everything a report knows. Makes the stages, loop IR, LLVM text and assembly where they came from the cache."""
    times = iter(report.launch_times())
    graphs = []
    for graph in report.graphs:
        graphs.append(_graph(graph, report.dims))
        for launch in graphs[-1]["launches"]:
            launch["measured"] = _measured(next(times), report.machine)
        graphs[-1]["lines"] = [
            {**place_data(line.location), "seconds": line.seconds, "ops": list(line.ops)}
            for line in report.line_times(graph)
        ]
    return {
        "format": FORMAT,
        "function": report.name,
        "target": report.target,
        "dims": dict(sorted(report.dims.items())),
        "compiles": [
            {"reason": c.reason, "seconds": c.seconds, "from_cache": c.from_cache} for c in report.compiles
        ],
        "retraces": report.retraces,
        "arena_bytes": report.arena_bytes,
        "arena_lower_bound": report.arena_lower_bound,
        "peaks": None if report.machine is None else asdict(report.machine),
        "graphs": graphs,
        "sources": _sources(graphs),
    }


def _graph(graph: CompiledGraph | GpuGraph, bindings: Mapping[str, int]) -> Json:
    program = graph.program
    functions, code = code_of(graph)
    if len(functions) != len(program.launches):
        raise RuntimeError(f"{program.name}: {len(program.launches)} launches of {len(functions)} functions")
    names = kernel_names(program)
    stages = [stage_data(name, stage) for name, stage in zip(graph.stage_names(), graph.stages)]
    launches = [
        _launch(number, launch, names[launch.kernel], function, bindings, number < program.preparing)
        for number, (launch, function) in enumerate(zip(program.launches, functions))
    ]
    return {
        "name": graph.traced.name,
        "from_cache": graph.from_cache,
        "steps": [{"name": name, "seconds": s} for name, s in graph.timings.steps.items()],
        "stages": stages,
        "drawings": _drawings(stages),
        "groups": [_group(node, launches) for node in group_nodes(graph.stages[-1])],
        "launches": launches,
        "kernels": [
            {"name": name, "text": print_kernel(kernel, name), "parallel": kernel.parallel is not None}
            for kernel, name in names.items()
        ],
        "machine_code": "PTX" if isinstance(graph, GpuGraph) else "assembly",
        "functions": code,
        "memory": _memory(program, bindings),
        "refusals": refusals(graph),
        "tuning": tuning_data(graph),
    }


# -- graphs -----------------------------------------------------------------------------------------------------------


def stage_data(name: str, graph: Graph) -> Json:
    """A stage: its text, and its nodes with the lines of the text and of the source they stand on."""
    first = 2 if used_symbols(graph) else 1
    return {
        "name": name,
        "made_by": graph.provenance.made_by,
        "seconds": graph.provenance.seconds,
        "nodes_before": graph.provenance.nodes_before,
        "text": to_text(graph),
        "inputs": [{"name": v.name, "type": str(v.type)} for v in graph.inputs],
        "outputs": [v.name for v in graph.outputs],
        "aliases": {str(output): graph.inputs[i].name for output, i in graph.aliases.items()},
        "nodes": _nodes(graph, first, "")[0],
    }


def _nodes(graph: Graph, line: int, prefix: str) -> tuple[list[Json], int]:
    """The graph's nodes, the first of which is on `line` of the text, and the line after the last."""
    found = []
    for node in graph.nodes:
        own = line
        line += 1
        body: list[Json] = []
        for region in node.regions:
            # A region's text has a line before its nodes, and two after them: what it returns, and a brace.
            inner, line = _nodes(region, line + 1, f"{prefix}{region.name}/")
            line += 2
            body += inner
        found.append(_node(node, own, prefix, body))
    return found, line


def _drawings(stages: list[Json]) -> Json | None:
    """What was traced and what it became; None where the layout library is absent."""
    library = layout_library()
    if library is None:
        return None
    return {stage["name"]: drawing(stage["nodes"], library) for stage in (stages[0], stages[-1])}


def _node(node: Node, line: int, prefix: str, body: list[Json]) -> Json:
    return {
        "id": prefix + node.outputs[0].name,
        "op": node.op.name,
        "inputs": [v.name for v in node.inputs],
        "outputs": [{"name": v.name, "type": str(v.type)} for v in node.outputs],
        "attrs": {name: attr_data(value) for name, value in node.attrs.items()},
        "text_line": line,
        "body": body,
        **place_data(node.location),
    }


def place_data(location: Location | None) -> Json:
    """A source line."""
    if location is None:
        return {"file": None, "line": None, "module": ""}
    return {"file": location.file, "line": location.line, "module": location.module}


def attr_data(value: Any) -> Any:
    """An attribute as JSON data: numbers, strings and lists as they are; dtypes, symbolic dims, inf and nan as text."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else repr(float(value))
        case DType():
            return value.name
        case dims.Expr():
            return str(value)
        case tuple():
            return [attr_data(item) for item in value]
    raise TypeError(f"an attribute cannot be a {type(value).__name__}: {value!r}")


# -- groups, launches, functions --------------------------------------------------------------------------------------


def _group(node: Node, launches: Iterable[Json]) -> Json:
    (body,) = node.regions
    name = node.attrs["name"]
    return {
        "name": name,
        "kind": node.attrs["kind"],
        "ops": [n.op.name for n in body.nodes],
        "values": [v.name for n in body.nodes for v in n.outputs],
        "inputs": [v.name for v in node.inputs],
        "outputs": [v.name for v in node.outputs],
        "launches": [launch["index"] for launch in launches if launch["group"] == name],
        **place_data(node.location),
    }


def _launch(
    number: int, launch: Launch, kernel: str, function: str, bindings: Mapping[str, int], once: bool
) -> Json:
    flops, moved = dims.evaluate(launch.flops, bindings), dims.evaluate(launch.bytes, bindings)
    return {
        "index": number,
        # A copy that ties an output to the caller's memory belongs to no group.
        "group": launch.source or None,
        "kernel": kernel,
        "function": function,
        "once": once,
        "flops": flops,
        "bytes": moved,
        "intensity": flops / moved if moved else 0.0,
        "reads": [
            b.name for p, b in zip(launch.kernel.params, launch.args) if p.name not in launch.kernel.writes
        ],
        "writes": [
            b.name for p, b in zip(launch.kernel.params, launch.args) if p.name in launch.kernel.writes
        ],
    }


def _measured(found: LaunchTime | None, machine: Peaks | None) -> Json | None:
    """A launch's runs, summed."""
    if found is None or machine is None or not found.calls:
        return None
    return {
        "calls": found.calls,
        "seconds": found.seconds,
        "flops": found.flops,
        "bytes": found.bytes,
        "gflops": found.gflops,
        "gigabytes": found.gigabytes,
        "percent": machine.percent(found.peak_dtype, found.flops, found.bytes, found.seconds),
    }


# -- memory -----------------------------------------------------------------------------------------------------------


def _memory(program: Program, bindings: Mapping[str, int]) -> Json:
    owner = first_writers(program)
    buffers = [
        {
            "name": interval.name,
            "offset": dims.evaluate(program.offsets[interval.name], bindings),
            "bytes": dims.evaluate(interval.nbytes, bindings),
            "first": interval.first,
            "last": interval.last,
            "group": owner.get(interval.name) or None,
        }
        for interval in program.lifetimes
    ]
    used = [_occupied(buffers, launch) for launch in range(len(program.launches))]
    peak = max(used, default=0)
    return {
        "arena_bytes": dims.evaluate(program.arena_bytes, bindings),
        "lower_bound": lower_bound(program.lifetimes, bindings),
        "buffers": buffers,
        "peak_launch": used.index(peak) if used else None,
        "peak_bytes": peak,
        "lent": _lent(program, owner),
        "caller": [
            {"name": b.name, "dtype": b.dtype.name, "bytes": dims.evaluate(b.nbytes, bindings), "role": role}
            for b, role in _roles(program).items()
        ],
    }


def _lent(program: Program, owner: Mapping[str, str]) -> list[Json]:
    """What lies in results that are not written yet."""
    intervals = intervals_of(program.lenders.keys(), program.launches, program.repeats)
    alive = {interval.name: interval for interval in intervals}
    return [
        {
            "name": buffer.name,
            "in": result.name,
            "offset": program.offsets[buffer.name],
            "bytes": buffer.nbytes,
            "first": alive[buffer.name].first,
            "last": alive[buffer.name].last,
            "group": owner.get(buffer.name) or None,
        }
        for buffer, result in program.lenders.items()
    ]


def _roles(program: Program) -> dict[Buffer, str]:
    """What memory outside the arena is for: an updated input, such as a parameter, is written where it was read."""
    roles = {**dict.fromkeys(program.inputs, "input"), **dict.fromkeys(program.prepared, "prepared")}
    for buffer in program.outputs:
        roles[buffer] = "updated input" if buffer in program.inputs else "output"
    return roles


def _occupied(buffers: Iterable[Json], launch: int) -> int:
    """Bytes of the arena in use during a launch; where one buffer takes over another's place it counts once."""
    total = end = 0
    for start, size in sorted(
        (b["offset"], b["bytes"]) for b in buffers if b["first"] <= launch <= b["last"]
    ):
        total += max(0, start + size - max(start, end))
        end = max(end, start + size)
    return total


# -- why not fused, and where from ------------------------------------------------------------------------------------


def refusals(graph: CompiledGraph | GpuGraph) -> list[Json]:
    """Pairs of values that fusion kept apart; fusion runs once more to find them."""
    stages = graph.stages
    for before, step in zip(stages, default_pipeline(graph.options.pipeline)):
        if isinstance(step, Fusion):
            made = {v.name: node for node in before.nodes for v in node.outputs}
            return [
                {
                    "producer": _named(r.producer, made[r.producer]),
                    "consumer": _named(r.consumer, made[r.consumer]),
                    "reason": str(r.reason),
                }
                for r in step.run_with_report(before).refusals
            ]
    return []


def _named(name: str, node: Node) -> Json:
    return {"name": name, "op": node.op.name, **place_data(node.location)}


def _sources(graphs: Iterable[Json]) -> list[Json]:
    """The lines that nodes came from, with their surroundings; `text` None where a file cannot be read."""
    lines: dict[str, set[int]] = {}
    for graph in graphs:
        for stage in graph["stages"]:
            for node in _all_nodes(stage["nodes"]):
                if node["file"] is not None:
                    lines.setdefault(node["file"], set()).add(node["line"])
    return [
        {"file": file, "lines": sorted(found), "text": _surroundings(file, found)}
        for file, found in lines.items()
    ]


def _all_nodes(nodes: Iterable[Json]) -> Iterable[Json]:
    for node in nodes:
        yield node
        yield from _all_nodes(node["body"])


def _surroundings(file: str, lines: set[int]) -> dict[str, str] | None:
    text = linecache.getlines(file)  # notebooks put their cells there too
    if not text:
        return None
    wanted = {n for line in lines for n in range(line - CONTEXT, line + CONTEXT + 1)}
    return {str(n): text[n - 1].rstrip("\n") for n in sorted(wanted) if 1 <= n <= len(text)}
