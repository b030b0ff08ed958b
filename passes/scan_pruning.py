"""What of a scan nobody needs: results, states, sequences and invariants."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import compress

from ..ir.graph import Graph, Node, Value


def prune_scan(node: Node, live: Collection[Value]) -> Node:
    """The scan with what its `live` results need. A state stays when its final value is live, or a result or a state
    that stays depends on it."""
    (body,) = node.regions
    carries, sequences = node.attrs["carries"], node.attrs["sequences"]
    wanted = [value in live for value in node.outputs]
    while True:
        reached = _reached(body, compress(body.outputs, wanted))
        more = [w or v in reached for w, v in zip(wanted, body.inputs[:carries])]
        if more == wanted[:carries]:
            break
        wanted[:carries] = more
    kept = [*wanted[:carries], *(v in reached for v in body.inputs[carries:])]
    if all(kept) and all(wanted):
        return node
    smaller = replace(
        body, inputs=_chosen(body.inputs, kept), outputs=_chosen(body.outputs, wanted), nodes=body.nodes
    )
    attrs = dict(node.attrs) | {
        "carries": sum(kept[:carries]),
        "sequences": sum(kept[carries : carries + sequences]),
    }
    return replace(
        node,
        inputs=_chosen(node.inputs, kept),
        outputs=_chosen(node.outputs, wanted),
        attrs=attrs,
        regions=(smaller,),
    )


def _chosen(values: Sequence[Value], kept: Iterable[bool]) -> tuple[Value, ...]:
    return tuple(compress(values, kept))


def _reached(body: Graph, outputs: Iterable[Value]) -> set[Value]:
    """The values that these depend on, themselves included."""
    found = set(outputs)
    for node in reversed(body.nodes):
        if not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found
