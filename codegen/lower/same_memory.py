"""Groups that compute nothing: a result is its operand in another shape, or a piece of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ...ir import dims
from ...ir.graph import Graph, Node, Value


@dataclass(frozen=True)
class Piece:
    """A value whose elements lie next to each other in `source`, from element `start` on."""

    source: Value
    start: int


def reshaped(node: Node) -> tuple[Value, Value] | None:
    """The result and the operand of a group that is a reshape and nothing more."""
    pieces = _pieces(node)
    if pieces is None or len(node.outputs) != 1:
        return None
    (value,) = node.outputs
    source = pieces[value].source
    return (value, source) if value.type.numel == source.type.numel else None


def pieces_for_scans(graph: Graph) -> dict[Value, Piece]:
    """Pieces that are read as sequences of scans and by nothing else: the scans read the whole, from further on. All
    results of a group, or none."""
    elsewhere = set(graph.outputs)
    elements: dict[Value, list[int]] = defaultdict(list)
    for node in graph.nodes:
        first, end = 0, 0
        if node.op.name == "scan":
            first = node.attrs["carries"]
            end = first + node.attrs["sequences"]
        elsewhere.update(node.inputs[:first], node.inputs[end:])
        for value in node.inputs[first:end]:
            size = dims.product(value.type.shape[1:])
            elements[value].append(size if isinstance(size, int) else 0)
    found: dict[Value, Piece] = {}
    for node in graph.nodes:
        pieces = _pieces(node)
        if (
            pieces
            and elsewhere.isdisjoint(pieces)
            and all(
                sizes and all(size and piece.start % size == 0 for size in sizes)
                for piece, sizes in ((p, elements[v]) for v, p in pieces.items())
            )
        ):
            found.update(pieces)
    return found


def _pieces(node: Node) -> Mapping[Value, Piece] | None:
    """What the results of a group are pieces of, if all of them are."""
    if node.op.name != "fused" or node.attrs["kind"] != "loop":
        return None
    (body,) = node.regions
    operands = dict(zip(body.inputs, node.inputs))
    known = {inside: Piece(outside, 0) for inside, outside in operands.items()}
    for inner in body.nodes:
        start = _start(inner)
        if start is None:
            return None
        before = known[inner.inputs[0]]
        known[inner.outputs[0]] = Piece(before.source, before.start + start)
    return {outside: known[inside] for inside, outside in zip(body.outputs, node.outputs)}


def _start(node: Node) -> int | None:
    """At which element of its operand the node's result starts, if it is a piece of it."""
    if node.op.name == "reshape":
        return 0
    if node.op.name != "slice" or set(node.attrs["steps"]) != {1}:
        return None
    shape = node.inputs[0].type.shape
    if any(a != 0 for a in node.attrs["starts"][1:]) or node.outputs[0].type.shape[1:] != shape[1:]:
        return None
    start = node.attrs["starts"][0] * dims.product(shape[1:])
    return start if isinstance(start, int) and start >= 0 else None
