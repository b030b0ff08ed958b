"""`compiled.explain()`: what the compiler saw in a function, what it relies on, and what it decided."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..codegen.loops.nodes import Kernel
from ..ir.graph import Graph, Node, told_symbols
from ..passes.host import runs_on_host
from ..passes.pipeline import default_pipeline
from ..passes.recompute import Recompute, recomputed, typical_dims
from ..passes.recompute_cut import work
from ..passes.recompute_schedule import footprint
from ..passes.regions import group_nodes
from ..runtime.compiled_graph import CompiledGraph
from ..tensor import Tensor
from .layouts import layout_lines, layouts
from .report_data import place_data, refusals
from .sources import ArgumentSource, ComputedSource, NumberSource, RandomSource, TensorSource
from .tuning_data import tuning_data, tuning_lines, tuning_title

if TYPE_CHECKING:
    from .compiled import CompiledFunction
    from .specialization import Specialization

Json = dict[str, Any]
FORMAT = 1
# Reasons against fusing, and captured tensors, that the text shows; `to_dict` has all.
SHOWN = 12
CAPTURED = "captured tensor"


@dataclass(frozen=True)
class Explanation:
    """`print(explanation)` is the text, `to_dict()` the same facts as plain data (docs/inspection.md has the keys)."""

    facts: Json

    @classmethod
    def of(
        cls, function: CompiledFunction, current: Specialization, known: Sequence[Specialization]
    ) -> Explanation:
        """Of a function whose latest call was served by `current`, one of those `known`."""
        history = function.history
        return cls(
            {
                "format": FORMAT,
                "function": function.name,
                "compiles": [
                    {"reason": c.reason, "against": list(c.against), "seconds": c.seconds, "found": c.found}
                    for c in history.compiles
                ],
                "retraces": history.retraces,
                "lookups": history.lookups,
                "specializations": len(known),
                "current": known.index(current),
                "inputs": list(_inputs(current)),
                "guards": list(_guards(current)),
                "branches": [
                    {"place": c.place, "outcome": c.outcome, "size": c.size is not None}
                    for c in current.trace.conditions.values()
                ],
                "random": _random(current),
                "graphs": [_graph(graph) for graph in current.graphs()],
            }
        )

    def to_dict(self) -> Json:
        """The facts as plain data that `json.dumps` takes."""
        return self.facts

    def __str__(self) -> str:
        return "\n".join(_text(self.facts))

    __repr__ = __str__


# -- what the calls rely on -------------------------------------------------------------------------------------------


def _inputs(specialization: Specialization) -> Iterator[Json]:
    """The graph's inputs, and where each call finds them."""
    for value, source in zip(specialization.trace.graph.inputs, specialization.trace.sources):
        match source:
            case ArgumentSource(position):
                given = position < specialization.trace.arguments.leaves
                origin = "argument" if given else "gradient, looked up by each call"
            case TensorSource():
                origin = CAPTURED
            case NumberSource():
                origin = "number, read again by each call"
            case ComputedSource():
                origin = "number, computed of the arguments by each call"
            case RandomSource():
                origin = "state of the random numbers"
        yield {"path": source.path, "type": str(value.type), "from": origin}


def _guards(specialization: Specialization) -> Iterator[Json]:
    """What must be as it was for a call to be served without another compile."""
    names = specialization.trace.names
    yield {"name": "grad mode", "value": "on" if specialization.fit.grad_enabled else "off"}
    for i, constant in specialization.fit.constants:
        yield {"name": f"argument {names[i]}", "value": _short(constant)}
    for i, kind in specialization.fit.numbers:
        yield {"name": f"argument {names[i]}", "value": f"any {kind.__name__}"}
    for outcome in specialization.trace.outcomes:
        yield {"name": f"`{outcome.question}`", "value": str(outcome.answer)}
    for question, answer in specialization.trace.size_outcomes:
        yield {"name": f"`{question}`", "value": str(answer)}
    types = specialization.trace.graph.inputs
    requires_grad = dict(specialization.fit.tensors)
    for slot, position in specialization.argument_sources:
        also = ", requires grad" if requires_grad.get(position) else ""
        what = "argument " if position < specialization.trace.arguments.leaves else ""
        yield {"name": f"{what}{names[position]}", "value": f"{types[slot].type}{also}"}
    for guard in specialization.trace.guards:
        value = _short(guard.seen) if guard.by_value else f"the same {type(guard.seen).__name__}"
        yield {"name": guard.name, "value": value}
    for source in specialization.trace.sources:
        if isinstance(source, TensorSource):
            tensor = source.tensor
            also = ", requires grad" if tensor.requires_grad else ""
            yield {"name": source.path, "value": f"{tensor.dtype.name}{list(tensor.shape)}{also}"}


def _short(value: Any) -> str:
    text = f"a {type(value).__name__}" if isinstance(value, Tensor) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _random(specialization: Specialization) -> Json:
    """How many draws a call takes from the generator's stream, and which nodes of the traced graphs draw."""
    nodes = [
        {"op": node.op.name, "stream": node.attrs.get("stream"), **place_data(node.location)}
        for node in specialization.trace.graph.nodes
        if _draws(node)
    ]
    return {"draws_a_call": specialization.trace.random_calls, "nodes": nodes}


def _draws(node: Node) -> bool:
    return node.op.lowering == "random" or "stream" in node.op.attrs


# -- what became of them ----------------------------------------------------------------------------------------------


def _graph(graph: CompiledGraph) -> Json:
    traced = graph.traced
    groups = list(group_nodes(graph.stages[-1]))
    return {
        "name": traced.name,
        "nodes": len(traced.nodes),
        "lines": _lines(traced),
        "host": [
            {"op": inner.op.name, **place_data(inner.location)}
            for node in groups
            if node.attrs["kind"] == "host"
            for inner in node.regions[0].nodes
            if runs_on_host(inner)
        ],
        "sizes": [
            {"name": s.name, "op": node.op.name, **place_data(node.location)}
            for node in traced.nodes
            for s in told_symbols(node)
        ],
        "groups": [
            {
                "name": node.attrs["name"],
                "kind": node.attrs["kind"],
                "ops": [n.op.name for n in node.regions[0].nodes],
                **place_data(node.location),
            }
            for node in groups
        ],
        "loops": [
            {
                "steps": str(node.attrs["length"]),
                "groups": [g.attrs["name"] for body in node.regions for g in group_nodes(body)],
                **place_data(node.location),
            }
            for node in graph.stages[-1].nodes
            if node.op.name == "scan"
        ],
        "recomputed": _recomputed(graph),
        "refusals": refusals(graph),
        "prepared": {
            "bytes": graph.prepared_bytes,
            "inputs": [traced.inputs[n].name for n in graph.prepared_inputs],
            "launches": [
                {"group": launch.source, "kernel": launch.kernel.name}
                for launch in graph.program.launches[: graph.program.preparing]
            ],
        },
        "tuning": tuning_data(graph),
        "layouts": list(layouts(graph)),
        "choices": [
            {"group": launch.source, "kernel": launch.kernel.name, "plan": launch.kernel.comment}
            for launch in graph.program.launches
            if isinstance(launch.kernel, Kernel) and launch.kernel.comment
        ],
    }


def _recomputed(graph: CompiledGraph) -> Json | None:
    """What a memory budget has computed twice, and the most bytes that values take, before and after."""
    passes = default_pipeline(graph.options.pipeline)
    for before, after, step in zip(graph.stages, graph.stages[1:], passes):
        if isinstance(step, Recompute):
            nodes = recomputed(before, after)
            dims = typical_dims(before)
            fusion = passes[-1]
            return {
                "budget": step.budget,
                "nodes": len(nodes),
                "ops": dict(Counter(n.op.name for n in nodes)),
                "operations": sum(work(n, dims) for n in nodes),
                "bytes_before": footprint(fusion.run(before), dims)[0],
                "bytes": footprint(graph.stages[-1], dims)[0],
            }
    return None


def _lines(graph: Graph) -> list[Json]:
    """The user's lines that made nodes, in order of their first."""
    ops: dict[tuple[str, int, str], Counter[str]] = {}
    for node in graph.nodes:
        if node.location is not None:
            at = (node.location.file, node.location.line, node.location.module)
            ops.setdefault(at, Counter())[node.op.name] += 1
    return [{"file": f, "line": n, "module": m, "ops": dict(found)} for (f, n, m), found in ops.items()]


# -- text -------------------------------------------------------------------------------------------------------------

FOUND = {"memory": "graph known in this process", "disk": "machine code from disk", "new": "compiled anew"}


def _text(facts: Json) -> Iterator[str]:
    yield f"compiled {facts['function']}"
    yield ""
    yield (
        f"calls: {facts['lookups']} looked for a specialization, {len(facts['compiles'])} compiled, "
        f"{facts['retraces']} traced a known graph again"
    )
    for number, compile_ in enumerate(facts["compiles"]):
        yield f"  compile {number}: {compile_['seconds'] * 1e3:.1f} ms, {FOUND[compile_['found']]}: {compile_['reason']}"
        for older in compile_["against"][1:]:
            yield f"      and against an older one: {older}"
    which = f"the latest call (specialization {facts['current']}; there are {facts['specializations']})"
    captured = [i["path"] for i in facts["inputs"] if i["from"] == CAPTURED]
    named = set(captured[:SHOWN])
    inputs = [i for i in facts["inputs"] if i["from"] != CAPTURED or i["path"] in named]
    guards = [g for g in facts["guards"] if g["name"] not in captured or g["name"] in named]
    yield from _section(
        f"inputs of {which}",
        [
            *(f"{i['path']}: {i['type']} ({i['from']})" for i in inputs),
            *_more(len(captured), "captured tensors"),
        ],
    )
    yield from _section(
        "guards",
        [
            *(f"{g['name']}: {g['value']}" for g in guards),
            *_more(len(captured), "captured tensors, each its type"),
        ],
    )
    yield from _section(
        "branches that depend on data",
        (f"{b['place']}: {b['outcome']}{' (of a size)' * b['size']}" for b in facts["branches"]),
    )
    random = facts["random"]
    if random["draws_a_call"] or random["nodes"]:
        yield from _section(
            f"random numbers, draws in a call: {random['draws_a_call']}; by",
            (f"{n['op']}, stream {n['stream']}{_at(n)}" for n in random["nodes"]),
        )
    for graph in facts["graphs"]:
        yield from _graph_text(graph)


def _graph_text(graph: Json) -> Iterator[str]:
    yield ""
    yield f"graph {graph['name']}: {graph['nodes']} nodes traced, {len(graph['groups'])} groups"
    yield from _section("traced", (f"{_ops(line['ops'])}{_at(line)}" for line in graph["lines"]))
    yield from _section("computed by NumPy (host)", (f"{n['op']}{_at(n)}" for n in graph["host"]))
    yield from _section(
        "sizes that a run tells", (f"{n['name']} of {n['op']}{_at(n)}" for n in graph["sizes"])
    )
    yield from _section(
        "groups", (f"{g['name']} ({g['kind']}): {_ops(Counter(g['ops']))}{_at(g)}" for g in graph["groups"])
    )
    yield from _section(
        "loops",
        (f"{loop['steps']} steps of {', '.join(loop['groups'])}{_at(loop)}" for loop in graph["loops"]),
    )
    again = graph["recomputed"]
    if again is not None:
        saved = f"{again['bytes_before']:,} bytes of values become {again['bytes']:,}"
        yield from _section(
            f"computed again for a memory budget of {again['budget']}",
            [f"{again['nodes']} nodes, {again['operations']:,} operations: {saved}", _ops(again["ops"])],
        )
    kept_apart = [
        f"{_made(r['producer'])} and {_made(r['consumer'])}: {r['reason'].replace('_', ' ')}"
        for r in graph["refusals"]
    ]
    yield from _section("not fused", [*kept_apart[:SHOWN], *_more(len(kept_apart), "pairs")])
    prepared = graph["prepared"]
    unless = f"while {len(prepared['inputs'])} parameters stay as they are"
    yield from _section(
        f"computed once and kept ({prepared['bytes']:,} bytes) {unless}",
        (f"{launch['group']}: {launch['kernel']}" for launch in prepared["launches"]),
    )
    yield from _section(
        "convolutions and products, their layouts and loops",
        (line for found in graph["layouts"] for line in layout_lines(found, _at(found))),
    )
    told = {found["group"] for found in graph["layouts"]}
    others = dict.fromkeys(f"{c['group']}: {c['plan']}" for c in graph["choices"] if c["group"] not in told)
    yield from _section("other loops and tiles chosen", others)
    if graph["tuning"] is not None:
        yield from _section(tuning_title(graph["tuning"]), tuning_lines(graph["tuning"]))


def _more(count: int, what: str) -> list[str]:
    return [f"and {count - SHOWN} more {what} (to_dict)"] if count > SHOWN else []


def _made(value: Json) -> str:
    at = f" ({os.path.basename(value['file'])}:{value['line']})" if value["file"] else ""
    return f"{value['op']} %{value['name']}{at}"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield f"{title}:"
        yield from (f"  {line}" for line in found)


def _ops(counted: dict[str, int]) -> str:
    return ", ".join(op if n == 1 else f"{n} {op}" for op, n in counted.items())


def _at(place: Json) -> str:
    if place["file"] is None:
        return ""
    at = f"  {os.path.basename(place['file'])}:{place['line']}"
    return f"{at} · {place['module']}" if place["module"] else at
