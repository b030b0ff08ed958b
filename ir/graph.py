"""The graph IR: four small types, immutable once built.

A `Graph` is a list of `Node`s in execution order, in SSA form: every `Value` is defined once, by a graph input or
by a node. A node applies one declared op (`ir/op.py`) to values, with attributes that are plain data, and knows the
user's line and module it came from. Some ops carry regions: graphs of their own (the body of a fused group).

An output may be tied to an input (`aliases`): the caller's buffer for that input receives the output. That is how a
parameter that an optimizer updates looks in the graph: an input, and an output written back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .dims import Symbol, symbols
from .types import TensorType

if TYPE_CHECKING:
    import networkx

    from .op import Op


class IRError(Exception):
    """A graph, or text that should be one, breaks a rule of the IR. The message says which, and where."""


@dataclass(frozen=True)
class Location:
    """Where in the user's program a node came from; `module` is the path of the Module that was running."""

    file: str
    line: int
    module: str = ""

    def __str__(self) -> str:
        at = f"{self.file.rsplit('/', 1)[-1]}:{self.line}"
        return f"{at} · {self.module}" if self.module else at


class Value:
    """A typed name, defined once. Compared by identity."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: TensorType):
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One application of an op. `attrs` holds every declared attribute, defaults filled in."""

    op: Op
    inputs: tuple[Value, ...]
    attrs: Mapping[str, Any]
    outputs: tuple[Value, ...]
    location: Location | None = None
    regions: tuple[Graph, ...] = ()

    def __repr__(self) -> str:
        defined = ", ".join(map(repr, self.outputs))
        return f"{defined} = {self.op.name}({', '.join('%' + v.name for v in self.inputs)})"


@dataclass(frozen=True)
class Provenance:
    """Which pass made a graph, how many nodes it was given, and how long it took (seconds)."""

    made_by: str
    nodes_before: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Graph:
    """Inputs, nodes in execution order, outputs. `aliases` maps an output's index to the input it is written to.

    Two graphs are equal (`==`) when they are the same up to the names of the values that nodes define: same input
    names and types, same ops, attributes and regions on corresponding values, same outputs. Locations and provenance
    do not take part.
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    aliases: Mapping[int, int] = field(default_factory=dict)
    provenance: Provenance = Provenance("built")

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbolic dims of the inputs, and those that nodes tell when they run, by name."""
        found = {s.name: s for v in self.inputs for s in v.type.symbols}
        found.update((s.name, s) for node in self.nodes for s in told_symbols(node))
        return tuple(found[name] for name in sorted(found))

    def values(self) -> Iterator[Value]:
        """Every value, in order of definition."""
        yield from self.inputs
        for node in self.nodes:
            yield from node.outputs

    def producers(self) -> dict[Value, Node]:
        """The node that defines each value; inputs are absent."""
        return {value: node for node in self.nodes for value in node.outputs}

    def uses(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, in order, once per node; every value of the graph has an entry."""
        found: dict[Value, list[Node]] = {value: [] for value in self.values()}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return found

    def made_by(self, name: str, before: Graph | None = None, seconds: float = 0.0) -> Graph:
        return replace(self, provenance=Provenance(name, len(before.nodes) if before else 0, seconds))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and first_difference(self, other) is None

    def __hash__(self) -> int:
        return hash((self.name, len(self.inputs), len(self.nodes), len(self.outputs)))

    def __str__(self) -> str:
        return _printer(self)

    def to_networkx(self) -> networkx.MultiDiGraph:
        """Nodes are `Node`s and input `Value`s; an edge a → b carries the `value` that b reads from a."""
        import networkx

        view = networkx.MultiDiGraph(name=self.name)
        source: dict[Value, Node | Value] = {}
        for value in self.inputs:
            view.add_node(value, label=f"%{value.name}", type=str(value.type))
            source[value] = value
        for node in self.nodes:
            view.add_node(node, label=node.op.name, location=node.location)
            source.update(dict.fromkeys(node.outputs, node))
            for position, value in enumerate(node.inputs):
                view.add_edge(source[value], node, value=value, position=position)
        return view

    def to_dot(self) -> str:
        """The graph in Graphviz's language; a region is a cluster. https://graphviz.org/doc/info/lang.html"""
        lines: list[str] = []
        _dot_graph(self, "", lines)
        return "\n".join(
            [f"digraph {_quoted(self.name)} {{", "  node [shape=box, fontname=monospace];", *lines, "}", ""]
        )


def told_symbols(node: Node) -> tuple[Symbol, ...]:
    """The dims whose values are known when the node has run (`Op.sizes`), in it or in its regions."""
    own: Iterable[Any] = node.attrs[node.op.sizes] if node.op.sizes else ()
    found = [s for dim in own for s in symbols(dim)]
    for region in node.regions:
        for inner in region.nodes:
            found += told_symbols(inner)
    return tuple(found)


def _dot_graph(graph: Graph, prefix: str, lines: list[str]) -> None:
    """Append the lines of a graph, the names of whose vertices begin with `prefix`."""
    source: dict[Value, str] = {}
    for value in graph.inputs:
        source[value] = _quoted(f"{prefix}%{value.name}")
        lines.append(f"  {source[value]} [label={_quoted(f'%{value.name}: {value.type}')}, shape=ellipse];")
    for node in graph.nodes:
        name = f"{prefix}{node.outputs[0].name}"
        label = [node.op.name, *(f"%{v.name}: {v.type}" for v in node.outputs)]
        if node.location is not None:
            label.append(str(node.location))
        for region in node.regions:
            lines.append(f"  subgraph {_quoted(f'cluster {name} {region.name}')} {{")
            lines.append(f"  label={_quoted(f'{node.op.name} %{node.outputs[0].name} {region.name}')};")
            _dot_graph(region, f"{name}/{region.name}/", lines)
            lines.append("  }")
        lines.append(f"  {_quoted(name)} [label={_quoted(chr(10).join(label))}];")
        lines += [f"  {source[v]} -> {_quoted(name)} [label={_quoted(f'%{v.name}')}];" for v in node.inputs]
        source.update(dict.fromkeys(node.outputs, _quoted(name)))
    for number, value in enumerate(graph.outputs):
        end = _quoted(f"{prefix}output {number}")
        lines.append(f"  {end} [label={_quoted(f'output {number}')}, shape=ellipse];")
        lines.append(f"  {source[value]} -> {end} [label={_quoted(f'%{value.name}')}];")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def set_printer(printer: Callable[[Graph], str]) -> None:
    """`ir/printer.py` puts itself here, so that `str(graph)` works and this file need not know the text form."""
    global _printer
    _printer = printer


def _unprinted(graph: Graph) -> str:
    return f"<Graph {graph.name}: {len(graph.nodes)} nodes>"


_printer: Callable[[Graph], str] = _unprinted


def attr_equal(a: Any, b: Any) -> bool:
    """Equality of attribute data; NaN equals NaN, True does not equal 1, arrays compare by dtype, shape and bits."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(attr_equal, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() or (a != a and b != b)
    if isinstance(a, complex) and isinstance(b, complex):
        return attr_equal(a.real, b.real) and attr_equal(a.imag, b.imag)
    return type(a) is type(b) and a == b


def first_difference(a: Graph, b: Graph) -> str | None:
    """What makes two graphs unequal, in words; None when they are equal."""
    if a.name != b.name:
        return f"names differ: {a.name} and {b.name}"
    if [(v.name, v.type) for v in a.inputs] != [(v.name, v.type) for v in b.inputs]:
        return f"inputs differ: {a.inputs} and {b.inputs}"
    if len(a.nodes) != len(b.nodes):
        return f"node counts differ: {len(a.nodes)} and {len(b.nodes)}"
    same: dict[Value, Value] = dict(zip(a.inputs, b.inputs))
    for x, y in zip(a.nodes, b.nodes):
        if x.op is not y.op:
            return f"ops differ: {x} and {y}"
        if [same.get(v) for v in x.inputs] != list(y.inputs):
            return f"operands differ: {x} and {y}"
        if x.attrs.keys() != y.attrs.keys():
            return f"attributes differ: {x} {dict(x.attrs)} and {y} {dict(y.attrs)}"
        for key, value in x.attrs.items():
            if not attr_equal(value, y.attrs[key]):
                return f"attribute {key} differs: {x} {value} and {y} {y.attrs[key]}"
        if [v.type for v in x.outputs] != [v.type for v in y.outputs]:
            return f"result types differ: {x} and {y}"
        if len(x.regions) != len(y.regions):
            return f"regions differ: {x} and {y}"
        for inner_x, inner_y in zip(x.regions, y.regions):
            inner = first_difference(inner_x, inner_y)
            if inner is not None:
                return f"in {inner_x.name}: {inner}"
        same.update(zip(x.outputs, y.outputs))
    if [same[v] for v in a.outputs] != list(b.outputs):
        return f"outputs differ: {a.outputs} and {b.outputs}"
    if dict(a.aliases) != dict(b.aliases):
        return f"aliases differ: {dict(a.aliases)} and {dict(b.aliases)}"
    return None


def replace_values(values: Iterable[Value], mapping: Mapping[Value, Value]) -> tuple[Value, ...]:
    """The values with those that `mapping` knows exchanged."""
    return tuple(mapping.get(v, v) for v in values)
