"""What the tuner measured for a graph, as plain data and as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..runtime.compiled_graph import CompiledGraph
from ..runtime.gpu.compiled import GpuGraph
from ..runtime.tuner import Measured

Json = dict[str, Any]


def tuning_data(graph: CompiledGraph | GpuGraph) -> Json | None:
    """The graph's choices by measurement; None where nothing was to be measured."""
    tuning = graph.tuning if isinstance(graph, CompiledGraph) else None
    if tuning is None:
        return None
    return {
        "threads": tuning.threads,
        "seconds": tuning.seconds,
        "left": tuning.left,
        "choices": [_choice(found) for found in tuning.measured],
    }


def _choice(found: Measured) -> Json:
    return {
        "subject": found.subject,
        "groups": list(found.groups),
        "candidates": [
            {"plan": plan, "cycles": cycles, "seconds": seconds} for plan, cycles, seconds in found.candidates
        ],
        "chosen": found.chosen,
        "gain": found.gain,
        "known": found.known,
    }


def tuning_title(tuning: Json) -> str:
    """What was measured how."""
    left = f", {tuning['left']} questions left to the model" if tuning["left"] else ""
    return f"chosen by measurement ({tuning['threads']} threads, {tuning['seconds']:.1f} s{left})"


def tuning_lines(tuning: Json) -> Iterator[str]:
    """A line for each choice; where it is not the model's, a line for that too."""
    for choice in tuning["choices"]:
        model, chosen = choice["candidates"][0], choice["candidates"][choice["chosen"]]
        known = ", measured before" if choice["known"] else ""
        ways = (
            f"{choice['subject']} of {', '.join(choice['groups'])}, {len(choice['candidates'])} ways{known}"
        )
        if chosen is model:
            yield f"{ways}: the model's, {_microseconds(model)}: {model['plan']}"
        else:
            yield f"{ways}: {_microseconds(chosen)}: {chosen['plan']}"
            yield f"    not the model's, {_microseconds(model)} ({choice['gain']:+.0%}): {model['plan']}"


def _microseconds(candidate: Json) -> str:
    return f"{candidate['seconds'] * 1e6:.1f} us"
