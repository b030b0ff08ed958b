"""What to compute again and what to keep, at a price: the minimum cut of a network.

A value that is kept costs its bytes, a node that is computed again its work times the price; the cheapest set of both
that gives the later launches all they read is a minimum cut, as in functorch's min-cut rematerialization partitioner
(Horace He; PyTorch, `torch/_functorch/partitioners.py`).

Arithmetic, views and fills are computed again for nothing. So are random numbers, whose price is their work: they are
functions of the generator's state and the element's index, hence the same. Never what runs on the host, fails or tells a
size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.dims import DimLike, evaluate, product
from ..ir.graph import Node, told_symbols
from .fusion_partition import COSTS
from .host import runs_on_host
from .recompute_schedule import Schedule, operands_read

# What a byte weighs in a cut, so that prices below a byte an operation, and choices among equals, are integers.
BYTE = 64
RANDOM_WORK = 40  # operations for a Philox number, about
# Prices tried at first, from the highest to the lowest.
PRICES = 7


class Cut:
    """The network of which plans are minimum cuts.

    A node on the sink's side is computed again, a value there is wanted by what comes later; where the value is wanted
    and its node is not computed again, it is kept.
    """

    def __init__(self, schedule: Schedule, at: int):
        """A cut after the launch of this number."""
        self.schedule = schedule
        ahead = [n for members in schedule.launches[: at + 1] for n in members]
        producer = {v: n for n in ahead for v in n.outputs}
        read = [v for members in schedule.launches[at + 1 :] for n in members for v in n.inputs]
        self.read = [v for v in dict.fromkeys(read) if v in producer]
        told = {s.name for n in schedule.graph.nodes for s in told_symbols(n)}
        wanted: dict[Node, None] = {}
        stack = list(self.read)
        while stack:
            node = producer.get(stack.pop())
            if node is not None and node not in wanted:
                wanted[node] = None
                stack.extend(operands_read(node))
        self.nodes = [n for n in ahead if n in wanted]
        self.fixed = {n for n in self.nodes if not _may_run_twice(n, told)}
        self.works = {
            n: work(n, schedule.bindings) for n in self.nodes if n not in self.fixed and not is_cheap(n)
        }

    def prices(self) -> list[float]:
        """In equal steps of their logarithms, from where no dear node is worth its work to where all are."""
        size = {n: sum(map(self.schedule.nbytes, n.outputs)) for n in self.works}
        ratios = [size[n] / spent for n, spent in self.works.items() if spent and size[n]]
        if not ratios:
            return []
        high, low = 2 * max(ratios), min(ratios) / 8
        return [high * (low / high) ** (i / (PRICES - 1)) for i in range(PRICES)]

    def computed_again(self, price: float | None) -> frozenset[Node]:
        import networkx
        from networkx.algorithms.flow import boykov_kolmogorov

        network = networkx.DiGraph()
        network.add_nodes_from(["source", "sink"])
        returned, inlined = set(self.schedule.graph.outputs), self.schedule.inlined
        count = len(self.nodes)
        for position, node in enumerate(self.nodes):
            if node in self.fixed or (node in self.works and price is None):
                network.add_edge("source", node)
            elif node in self.works and price is not None:
                # Of equal layers the first are the ones to compute again: they are kept for longest.
                dearer = 1 + position / count
                network.add_edge("source", node, capacity=1 + int(price * self.works[node] * BYTE * dearer))
            elif node not in inlined:
                network.add_edge("source", node, capacity=1)
            for value in operands_read(node):
                network.add_edge(value, node)
            for value in node.outputs:
                if node in inlined:
                    network.add_edge(node, value)
                elif value not in returned:
                    # Of equals, what a view was taken of: the view would be written out once more.
                    rest = 2 if node.op.lowering == "view" else 1
                    network.add_edge(node, value, capacity=self.schedule.nbytes(value) * BYTE + rest)
        for value in self.read:
            network.add_edge(value, "sink")
        _, (_, wanted) = networkx.minimum_cut(network, "source", "sink", flow_func=boykov_kolmogorov)
        return frozenset(n for n in self.nodes if n in wanted)


def is_cheap(node: Node) -> bool:
    """Whether the node may be computed again without thought: arithmetic, views and fills."""
    return node.op.lowering in ("pointwise", "view", "constant") or node.op.name == "later"


def _may_run_twice(node: Node, told: set[str]) -> bool:
    if runs_on_host(node) or told_symbols(node) or node.op.lowering == "check":
        return False
    return not any(s.name in told for v in node.outputs for s in v.type.symbols)


def work(node: Node, bindings: Mapping[str, int]) -> int:
    """The node's operations, about."""
    if node.regions:
        steps = evaluate(node.attrs.get("length", 1), bindings)
        return steps * sum(work(inner, bindings) for body in node.regions for inner in body.nodes)
    if node.op.flops is not None:
        return evaluate(node.op.flops(*(v.type for v in node.inputs), **node.attrs), bindings)
    results = sum(evaluate(v.type.numel, bindings) for v in node.outputs)
    match node.op.lowering:
        case "view" | "constant" | "none":
            return 0
        case "pointwise":
            return COSTS.get(node.op.name, 1) * results
        case "random":
            return RANDOM_WORK * results
        case "window":
            kernel: Sequence[DimLike] = node.attrs.get("kernel", ())
            return results * evaluate(product(kernel), bindings)
    return results + sum(evaluate(v.type.numel, bindings) for v in node.inputs)
