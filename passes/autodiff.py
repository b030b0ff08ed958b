"""Reverse-mode differentiation of a graph, by the ops' own gradient rules.

The same rules as the eager tape's (`Op.vjp`), run over graph values: the nodes are visited last to first,
each turns the cotangents of its results into cotangents of its operands. What comes out are ordinary nodes,
so that a joint graph can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ..ir.builder import GraphBuilder
from ..ir.graph import Graph, IRError, Location, Node, Value
from ..ir.half_precision import gradients
from ..ir.op import VJPContext
from .base import Rewriter

BACKWARD = "(backward)"


@dataclass(frozen=True)
class Autodiff:
    """From a forward graph to the joint graph: its inputs, then a cotangent for each differentiated output,
    give its outputs, then the gradient of each `wrt` input.

    `wrt` names inputs, all of floating point. `outputs` numbers the outputs to differentiate (default: all
    of floating point). `seed="ones"` starts from ones, as `loss.backward()` does, and adds no cotangent
    inputs. An input that the outputs do not depend on has a gradient of zeros.

    Raises IRError for a name that is no such input, and for an op without a gradient rule on the way.
    """

    wrt: tuple[str, ...]
    outputs: tuple[int, ...] | None = None
    seed: Literal["inputs", "ones"] = "inputs"
    name: ClassVar[str] = "autodiff"

    def run(self, graph: Graph) -> Graph:
        builder, wrt, gradients = self._differentiate(graph)
        results = [builder.zeros_like(x) if g is None else g for x, g in zip(wrt, gradients)]
        return _joint(graph, builder, results)

    def reached(self, graph: Graph) -> tuple[Graph, tuple[str, ...]]:
        """The joint graph with the gradients of only those of `wrt` that one flows to, and their names."""
        builder, wrt, gradients = self._differentiate(graph)
        names = tuple(x.name for x, g in zip(wrt, gradients) if g is not None)
        return _joint(graph, builder, [g for g in gradients if g is not None]), names

    def _differentiate(self, graph: Graph) -> tuple[GraphBuilder, list[Value], list[Value | None]]:
        builder = Rewriter(graph)
        for node in graph.nodes:
            builder.keep(node)
        wrt = [self._input(graph, name) for name in self.wrt]
        outputs = [graph.outputs[i] for i in self._differentiated(graph)]
        cotangents: list[Value] = []
        for value in outputs:
            if self.seed == "ones":
                cotangents.append(builder.ones_like(value))
            else:
                cotangents.append(builder.input(f"cotangent.{value.name}", value.type))
        return builder, wrt, append_vjp(builder, graph.nodes, outputs, cotangents, wrt)

    def _differentiated(self, graph: Graph) -> tuple[int, ...]:
        if self.outputs is not None:
            return self.outputs
        return tuple(i for i, v in enumerate(graph.outputs) if has_gradient(v))

    def _input(self, graph: Graph, name: str) -> Value:
        found = next((v for v in graph.inputs if v.name == name), None)
        if found is None:
            raise IRError(
                f"autodiff: {graph.name} has no input %{name}; it has {[v.name for v in graph.inputs]}"
            )
        if not has_gradient(found):
            raise IRError(f"autodiff: only floating-point inputs have gradients, %{name} is {found.type}")
        return found


def _joint(graph: Graph, builder: GraphBuilder, gradients: Sequence[Value]) -> Graph:
    return replace(
        graph,
        name=f"{graph.name}.joint",
        inputs=tuple(builder.inputs),
        nodes=tuple(builder.nodes),
        outputs=(*graph.outputs, *gradients),
    )


def has_gradient(value: Value) -> bool:
    """Can a gradient flow through the value? Through floating-point and complex ones."""
    return value.type.dtype.is_floating_point or value.type.dtype.is_complex


def append_vjp(
    builder: GraphBuilder,
    nodes: Sequence[Node],
    outputs: Sequence[Value],
    cotangents: Sequence[Value],
    wrt: Sequence[Value],
) -> list[Value | None]:
    """Add to `builder`, which has built `nodes`, the nodes that compute the gradients of `outputs`
    (weighted by their `cotangents`) with respect to `wrt`; None where there is no dependence.

    A gradient node's location is that of the node it differentiates, marked `(backward)`.
    """
    active = _active(nodes, wrt)
    flowing: dict[Value, Value] = {}
    for value, cotangent in zip(outputs, cotangents, strict=True):
        if value in active:
            flowing[value] = builder.add(flowing[value], cotangent) if value in flowing else cotangent
    location = builder.location
    for node in reversed(nodes):
        incoming = [flowing.get(v) for v in node.outputs]
        needs = tuple(v in active for v in node.inputs)
        if not any(needs) or all(c is None for c in incoming):
            continue
        builder.location = backward_location(node.location)
        found = _operand_cotangents(builder, node, incoming, needs)
        for operand, need, given in zip(node.inputs, needs, found):
            if not need or given is None:
                continue
            part = builder.sum_to(given, operand.type.shape)
            if part.type != operand.type:
                raise IRError(f"{node}: its gradient rule gives {part.type} for the operand {operand}")
            flowing[operand] = builder.add(flowing[operand], part) if operand in flowing else part
    builder.location = location
    return [flowing.get(v) for v in wrt]


def _active(nodes: Iterable[Node], wrt: Iterable[Value]) -> set[Value]:
    """The values that depend on `wrt` in a differentiable way, as far as dtypes tell."""
    active = set(wrt)
    for node in nodes:
        # A rule is not asked for what `detach` keeps out: it may have no gradient to give (igamma in its first operand).
        if node.op.name != "detach" and not active.isdisjoint(node.inputs):
            active.update(v for v in node.outputs if has_gradient(v))
    return active


def _operand_cotangents(
    builder: GraphBuilder, node: Node, incoming: Sequence[Value | None], needs: tuple[bool, ...]
) -> Sequence[Value | None]:
    where = f" (from {node.location})" if node.location else ""
    if node.regions:
        raise IRError(f"{node}{where}: a fused group is not differentiated; autodiff comes before fusion")
    if node.op.vjp is None:
        raise IRError(
            f"op {node.op.name} has no gradient: {node}{where}; detach its operand if none is wanted"
        )
    context = VJPContext(node.inputs, node.outputs, node.attrs, needs)
    found: Sequence[Value | None] = gradients(node.op, builder, context, incoming)
    if len(found) != len(node.inputs):
        raise IRError(
            f"{node}: its gradient rule gives {len(found)} cotangents for {len(node.inputs)} operands"
        )
    return found


def backward_location(location: Location | None) -> Location | None:
    """The user's line, marked as the gradient's."""
    if location is None or location.module.endswith(BACKWARD):
        return location
    return replace(location, module=f"{location.module} {BACKWARD}".lstrip())
