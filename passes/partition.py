"""A joint graph split in two where other code stands between forward and backward: what to save, what to
recompute.

The choice is a minimum cut, as in functorch's min-cut rematerialization partitioner
(`torch/_functorch/partitioners.py: min_cut_rematerialization_partition`; Chen et al., "Training Deep Nets
with Sublinear Memory Cost", 2016, for the idea). Every value that does not depend on a cotangent is an edge
whose capacity is its size; the source is what must be computed forward (inputs, and nodes too dear to
compute twice), the sink what the backward nodes read. The cheapest set of edges that separates the two is
what to save; what lies between it and the backward nodes is computed again there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ..ir.builder import GraphBuilder
from ..ir.dims import evaluate
from ..ir.graph import Graph, IRError, Node, Value
from ..ir.printer import node_symbols
from ..ir.verifier import plain_symbols
from .dce import DeadCodeElimination
from .decompose import Decompose
from .host import runs_on_host

# Sizes that depend on a symbolic dim are compared as if it were this, or the nearest value it may have.
TYPICAL_DIM = 64


@dataclass(frozen=True)
class Partition:
    """`forward` gives the joint graph's first outputs and then what else is saved; `backward` takes what is
    saved and then the cotangents. `saved[i]` says where the backward graph's input i comes from: which
    input or output of the forward graph. `extra` is the number of outputs of `forward` that are there only
    to be saved."""

    forward: Graph
    backward: Graph
    saved: tuple[tuple[Literal["input", "output"], int], ...]
    extra: int

    @property
    def saved_values(self) -> tuple[Value, ...]:
        return self.forward.outputs[len(self.forward.outputs) - self.extra :]


def partition(joint: Graph, outputs: int, cotangents: int) -> Partition:
    """Split a joint graph (`autodiff.py`) whose first `outputs` outputs are the forward's and whose last
    `cotangents` inputs are cotangents.

    An input costs nothing to save, and an output neither: the caller holds them. Not so an input that an
    output is written to: its old value is gone after the forward graph has run, and is saved as a copy. So is the
    output, which the next run writes over.
    """
    if not 0 < cotangents <= len(joint.inputs):
        raise IRError(f"{joint.name}: {cotangents} cotangents among {len(joint.inputs)} inputs")
    primals = joint.inputs[: len(joint.inputs) - cotangents]
    results, gradients = joint.outputs[:outputs], joint.outputs[outputs:]
    overwritten = {joint.inputs[i] for i in joint.aliases.values()}
    ahead = _independent(joint, joint.inputs[len(primals) :])
    for value in results:
        if value not in ahead:
            raise IRError(
                f"{joint.name}: output {value} depends on a cotangent; is it one of the first {outputs}?"
            )
    free = {*primals, *(v for i, v in enumerate(results) if i not in joint.aliases)} - overwritten
    to_save = _minimum_cut(joint, primals, gradients, ahead, free)
    needed, nodes = _backward_nodes(joint, gradients, to_save | set(joint.inputs))
    carriers = [*sorted(primals, key=overwritten.__contains__), *(v for v in joint.values() if v in ahead)]
    needed |= _dim_carriers(nodes, needed | set(joint.inputs[len(primals) :]), carriers)
    # An overwritten input that the cut would have the backward graph read is in `to_save`; others are read
    # as they are.
    kept = [v for v in joint.values() if v in needed and v in ahead]
    extra = [v for v in kept if v not in free]
    forward = replace(
        joint,
        name=f"{joint.name.removesuffix('.joint')}.forward",
        inputs=primals,
        outputs=(*results, *extra),
        nodes=tuple(n for n in joint.nodes if ahead.issuperset(n.outputs)),
    )
    backward = Graph(
        f"{joint.name.removesuffix('.joint')}.backward",
        (*kept, *joint.inputs[len(primals) :]),
        tuple(nodes),
        gradients,
    )
    return Partition(
        DeadCodeElimination().run(forward),
        backward,
        tuple(_place(v, primals, forward.outputs, free) for v in kept),
        len(extra),
    )


def _place(
    value: Value, primals: tuple[Value, ...], outputs: tuple[Value, ...], free: set[Value]
) -> tuple[Literal["input", "output"], int]:
    if value not in free:  # the outputs that are there to be saved come last
        return "output", len(outputs) - 1 - outputs[::-1].index(value)
    return ("input", primals.index(value)) if value in primals else ("output", outputs.index(value))


def _independent(joint: Graph, cotangents: Iterable[Value]) -> set[Value]:
    """The values that do not depend on a cotangent: the forward graph can compute them."""
    behind = set(cotangents)
    for node in joint.nodes:
        if not behind.isdisjoint(node.inputs):
            behind.update(node.outputs)
    return {v for v in joint.values() if v not in behind}


def _minimum_cut(
    joint: Graph,
    primals: tuple[Value, ...],
    gradients: tuple[Value, ...],
    ahead: set[Value],
    free: set[Value],
) -> set[Value]:
    """The values to save. Of several cuts of one size networkx gives the one nearest to the sink: least is
    computed twice."""
    import networkx

    bindings = {s.name: min(max(TYPICAL_DIM, s.low), s.high) for s in joint.symbols}
    network = networkx.DiGraph()
    network.add_nodes_from(["source", "sink"])
    views = {v for node in joint.nodes if node.op.lowering == "view" for v in node.outputs}
    for value in ahead:
        # Computed (or given), and available to the backward graph: between the two lies the cost of saving.
        # Of equals, what a view was taken of: saving the view would write it out once more.
        size = evaluate(value.type.nbytes, bindings)
        cost = 0 if value in free else 4 * size + (2 if value in views else 1)
        network.add_edge((value, "computed"), (value, "available"), capacity=cost)
    for value in primals:
        network.add_edge("source", (value, "computed"))
    for node in joint.nodes:
        if not ahead.issuperset(node.outputs):
            for value in node.inputs:
                if value in ahead:
                    network.add_edge((value, "available"), "sink")
            continue
        for result in node.outputs:
            if not is_cheap(node):
                network.add_edge("source", (result, "computed"))
            for value in node.inputs:
                network.add_edge((value, "available"), (result, "computed"))
    for value in gradients:
        if value in ahead:
            network.add_edge((value, "available"), "sink")
    _, (near_source, near_sink) = networkx.minimum_cut(network, "source", "sink")
    return {v for v in ahead if (v, "computed") in near_source and (v, "available") in near_sink}


def is_cheap(node: Node) -> bool:
    """Is the node worth computing twice rather than saving: pointwise, a view or a fill, or a composite of
    only such? Not contractions, reductions, random draws and what runs on the host."""
    if runs_on_host(node):
        return False
    if node.op.level == "composite":
        return _is_cheap_composite(node)
    return node.op.lowering in ("pointwise", "view", "constant")


def _is_cheap_composite(node: Node) -> bool:
    builder = GraphBuilder("cost")
    operands = [builder.input(f"x{i}", v.type) for i, v in enumerate(node.inputs)]
    results = builder.apply(node.op, operands, node.attrs)
    apart = Decompose().run(builder.finish(results if isinstance(results, tuple) else (results,)))
    return all(is_cheap(part) for part in apart.nodes)


def _dim_carriers(nodes: list[Node], inputs: set[Value], carriers: Iterable[Value]) -> set[Value]:
    """Values, the first that serve, which the backward graph takes only to learn what a symbolic dim is."""
    known = {s.name for v in inputs for s in plain_symbols(v.type)}
    wanted = {s.name for v in inputs for s in v.type.symbols}
    wanted |= {s.name for node in nodes for s in node_symbols(node)}
    found: set[Value] = set()
    for value in carriers:
        says = {s.name for s in plain_symbols(value.type)}
        if not says.isdisjoint(wanted - known):
            found.add(value)
            known |= says
    return found


def _backward_nodes(
    joint: Graph, gradients: tuple[Value, ...], given: set[Value]
) -> tuple[set[Value], list[Node]]:
    """Which of the `given` values the gradients need, and the nodes that compute the gradients from them."""
    needed = set(gradients)
    nodes: list[Node] = []
    for node in reversed(joint.nodes):
        wanted = [v for v in node.outputs if v in needed and v not in given]
        if wanted:
            nodes.append(node)
            needed.update(node.inputs)
    return needed & given, nodes[::-1]
