"""The text form of a graph. `parser.py` reads it back: `parse(to_text(graph)) == graph`.

    dims batch in 1..256
    graph lenet.forward(%x: f32[batch,1,28,28], %w: f32[6,1,5,5]) -> f32[batch,6,24,24] {
      %0: f32[batch,6,24,24] = conv(%x, %w)   # lenet.py:21 · conv1
      %1: f32[batch,6,24,24] = fused(%0) {name="fused_0", kind="loop"}   # lenet.py:22
        region fused_0(%x: f32[batch,6,24,24]) -> f32[batch,6,24,24] {
          %0: f32[batch,6,24,24] = relu(%x)
          return %0
        }
      return %1
    }

One node per line, in execution order, under the names its values have. Attributes that equal their default
are left out. `return %5, %9 -> %w` says that the second output is written to input `%w`. Names that are not
letters, digits, `_` and `.` are quoted as JSON strings. Floats are written so that they read back to the
same bits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from . import dims, graph
from .dtypes import DType
from .graph import Graph, Location, Node, Value, attr_equal
from .op import REQUIRED
from .types import TensorType

BARE_NAME = re.compile(r"[^\W\d]\w*(\.\w+)*")
BARE_VALUE_NAME = re.compile(r"\w+(\.\w+)*")


def to_text(graph: Graph, locations: bool = True) -> str:
    """The graph as text, without a final newline; `locations=False` leaves out the comments."""
    lines: list[str] = []
    symbols = used_symbols(graph)
    if symbols:
        lines.append("dims " + ", ".join(f"{s.name} in {_range(s)}" for s in symbols))
    lines.extend(_block("graph", graph, "", locations))
    return "\n".join(lines)


def used_symbols(graph: Graph) -> tuple[dims.Symbol, ...]:
    """Every symbol in the graph's types and attributes, regions included, by name; where one name has two
    meanings (which the verifier refuses) the one that comes first."""
    found: dict[str, dims.Symbol] = {}
    for symbol in _symbols(graph):
        found.setdefault(symbol.name, symbol)
    return tuple(found[name] for name in sorted(found))


def _symbols(graph: Graph) -> Iterator[dims.Symbol]:
    for value in graph.inputs:
        yield from value.type.symbols
    for node in graph.nodes:
        yield from node_symbols(node)
        for region in node.regions:
            yield from _symbols(region)


def node_symbols(node: Node) -> Iterator[dims.Symbol]:
    """The symbols in a node's result types and attributes."""
    for value in node.outputs:
        if not value.type.is_static:
            yield from value.type.symbols
    for attr in node.attrs.values():
        for item in attr if isinstance(attr, tuple) else (attr,):
            if isinstance(item, dims.Expr):
                yield from dims.symbols(item)


def _range(symbol: dims.Symbol) -> str:
    return f"{symbol.low}..{'inf' if symbol.high >= dims.INFINITY else symbol.high}"


def _block(keyword: str, graph: Graph, indent: str, locations: bool) -> Iterator[str]:
    inputs = ", ".join(map(typed_value_text, graph.inputs))
    results = _types([v.type for v in graph.outputs])
    yield f"{indent}{keyword} {name_text(graph.name)}({inputs}) -> {results} {{"
    for node in graph.nodes:
        yield f"{indent}  {node_text(node)}{_comment(node.location) if locations else ''}"
        for region in node.regions:
            yield from _block("region", region, indent + "    ", locations)
    returned = []
    for i, value in enumerate(graph.outputs):
        target = f" -> {value_text(graph.inputs[graph.aliases[i]])}" if i in graph.aliases else ""
        returned.append(value_text(value) + target)
    yield f"{indent}  return {', '.join(returned)}".rstrip()
    yield f"{indent}}}"


def _types(types: Iterable[TensorType]) -> str:
    texts = [str(t) for t in types]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def name_text(name: str) -> str:
    """A graph's name; quoted where it is not words joined by points."""
    return name if BARE_NAME.fullmatch(name) else json.dumps(name)


def value_text(value: Value) -> str:
    return f"%{value.name if BARE_VALUE_NAME.fullmatch(value.name) else json.dumps(value.name)}"


def typed_value_text(value: Value) -> str:
    return f"{value_text(value)}: {value.type}"


def node_text(node: Node) -> str:
    """The node's line, without its location and regions."""
    defined = ", ".join(map(typed_value_text, node.outputs))
    operands = ", ".join(map(value_text, node.inputs))
    attrs = ", ".join(f"{name}={attr_text(value)}" for name, value in _stated_attrs(node))
    return f"{defined} = {node.op.name}({operands})" + (f" {{{attrs}}}" if attrs else "")


def _stated_attrs(node: Node) -> Iterator[tuple[str, Any]]:
    for name, value in node.attrs.items():
        declared = node.op.attrs.get(name)
        if declared is None or declared.default is REQUIRED or not attr_equal(value, declared.default):
            yield name, value


def attr_text(value: Any) -> str:
    """Attribute data as text; TypeError for what has no text form."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return "nan" if math.isnan(value) else repr(float(value))
        case complex():
            return f"complex({attr_text(value.real)}, {attr_text(value.imag)})"
        case str():
            return json.dumps(value)
        case DType():
            return value.name
        case dims.Expr():
            return str(value)
        case tuple():
            return f"[{','.join(map(attr_text, value))}]"
    raise TypeError(f"an attribute cannot be a {type(value).__name__}: {value!r}")


def _comment(location: Location | None) -> str:
    if location is None:
        return ""
    # A line break in a file name would end the comment.
    return f"   # {location}".replace("\n", " ").replace("\r", " ")


graph.set_printer(to_text)
