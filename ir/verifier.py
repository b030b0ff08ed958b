"""Does a graph keep the rules of the IR? `verify` says what breaks one, where, and shows the node among its
neighbours.

Rules: every value is defined once, before its uses, under a name of its own; attributes are in their normal
form; result types are those the op's own rule infers; a region takes and gives what its node does; an
output that is written to an input has that input's type; a symbol has one meaning, and is bound by the
graph's inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .dims import Expr, Symbol, of_one_symbol
from .graph import Graph, IRError, Node, Value, attr_equal, told_symbols
from .printer import node_symbols, node_text, value_text
from .types import TensorType

NEIGHBOURS = 2

# What a type rule raises for operands or attributes it does not accept. Rules divide and index; anything
# else that one raises is a fault in the rule and passes through.
RULE_ERRORS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, ArithmeticError)


def verify(graph: Graph) -> Graph:
    """The graph itself, if it keeps every rule; IRError otherwise."""
    _verify(graph, None)
    return graph


def verify_region(graph: Graph, outer: Mapping[str, Symbol]) -> Graph:
    """The graph itself, if it keeps every rule inside another graph whose symbols are `outer`."""
    _verify(graph, outer)
    return graph


def _verify(graph: Graph, outer: Mapping[str, Symbol] | None) -> None:
    symbols: dict[str, Symbol] = dict(outer or {})
    for value in graph.inputs:
        for symbol in plain_symbols(value.type):
            _check_symbol(graph, symbol, symbols, bind=outer is None, node=None)
    for value in graph.inputs:
        for symbol in value.type.symbols:
            _check_symbol(graph, symbol, symbols, bind=False, node=None)
    defined: set[Value] = set()
    names: dict[str, Value] = {}
    told: set[str] = set()
    for value in graph.inputs:
        _define(graph, value, defined, names, None)
    for node in graph.nodes:
        for operand in node.inputs:
            if operand not in defined:
                raise _error(graph, _undefined(graph, operand), node)
        for symbol in told_symbols(node):
            if symbol.name in told or (outer is None and symbol.name in symbols):
                raise _error(graph, f"the dim {symbol.name} is told twice", node)
            told.add(symbol.name)
            _check_symbol(graph, symbol, symbols, bind=True, node=node)
        for symbol in node_symbols(node):
            _check_symbol(graph, symbol, symbols, bind=False, node=node)
        _check_attrs(graph, node)
        if node.regions or node.op.lowering == "region":
            _check_regions(graph, node, symbols)
        else:
            _check_types(graph, node)
        for value in node.outputs:
            _define(graph, value, defined, names, node)
    for value in graph.outputs:
        if value not in defined:
            raise _error(graph, f"the graph returns %{value.name}, which it does not define", None)
    _check_aliases(graph)


def plain_symbols(type_: TensorType) -> Iterator[Symbol]:
    """The symbols that an array of the type tells: those that are a dim, but for a factor and a number added."""
    for dim in type_.shape:
        found = of_one_symbol(dim)
        if found is not None:
            yield found[0]


def _define(
    graph: Graph, value: Value, defined: set[Value], names: dict[str, Value], node: Node | None
) -> None:
    if value in defined:
        raise _error(graph, f"%{value.name} is defined twice", node)
    if value.name in names:
        raise _error(graph, f"two values have the name %{value.name}", node)
    for dim in value.type.shape:
        if isinstance(dim, bool) or not isinstance(dim, int | Expr) or (isinstance(dim, int) and dim < 0):
            raise _error(graph, f"%{value.name} has the dim {dim!r}; a dim is 0 or more, or symbolic", node)
    defined.add(value)
    names[value.name] = value


def _undefined(graph: Graph, value: Value) -> str:
    later = any(value in node.outputs for node in graph.nodes)
    problem = "is used before it is defined" if later else "is not defined in this graph"
    return f"{value_text(value)} {problem}"


def _check_symbol(
    graph: Graph, symbol: Symbol, symbols: dict[str, Symbol], bind: bool, node: Node | None
) -> None:
    known = symbols.setdefault(symbol.name, symbol) if bind else symbols.get(symbol.name)
    if known is None:
        raise _error(graph, f"no input of the graph has {symbol.name} as a dim, to say what it is", node)
    if known != symbol:
        raise _error(
            graph,
            f"the symbolic dim {symbol.name} has two meanings: {known.low}..{known.high} and "
            f"{symbol.low}..{symbol.high}",
            node,
        )


def _check_attrs(graph: Graph, node: Node) -> None:
    try:
        normal = node.op.normalise_attrs(node.attrs)
    except TypeError as error:
        raise _error(graph, str(error), node) from None
    if list(normal) != list(node.attrs):
        raise _error(graph, f"attributes are {list(node.attrs)}, declared are {list(normal)}", node)
    for name, value in normal.items():
        if not attr_equal(value, node.attrs[name]):
            raise _error(graph, f"attribute {name} is {node.attrs[name]!r}, its normal form {value!r}", node)


def _check_types(graph: Graph, node: Node) -> None:
    try:
        inferred = node.op.infer_types([v.type for v in node.inputs], node.attrs)
    except RULE_ERRORS as error:
        raise _error(graph, f"{node.op.name} does not accept these operands: {error}", node) from error
    stated = tuple(v.type for v in node.outputs)
    if inferred != stated:
        want, have = (", ".join(map(str, types)) for types in (inferred, stated))
        raise _error(graph, f"{node.op.name} gives {want}, not {have}", node)


def _check_regions(graph: Graph, node: Node, symbols: Mapping[str, Symbol]) -> None:
    rule = node.op.region
    if rule is None:
        raise _error(graph, f"op {node.op.name} takes no region", node)
    if len(node.regions) != 1:
        count = "a region" if not node.regions else "one region"
        raise _error(graph, f"op {node.op.name} needs {count}", node)
    (region,) = node.regions
    operands = tuple(v.type for v in node.inputs)
    try:
        takes, gives = rule.types(operands, tuple(v.type for v in region.outputs), node.attrs)
    except RULE_ERRORS as error:
        raise _error(graph, f"{node.op.name} does not accept this: {error}", node) from error
    for what, values, wanted in (("takes", region.inputs, takes), ("gives", node.outputs, gives)):
        if tuple(v.type for v in values) != wanted:
            have, want = [str(v.type) for v in values], list(map(str, wanted))
            inside, outside = (have, want) if what == "takes" else (want, have)
            raise _error(graph, f"region {region.name} {what} {inside}, its node {outside}", node)
    if region.aliases:
        raise _error(graph, f"region {region.name} has aliased outputs; only a whole graph may", node)
    try:
        _verify(region, symbols)
    except IRError as error:
        raise _error(graph, f"in region {region.name}: {error}", node) from None


def _check_aliases(graph: Graph) -> None:
    written: dict[int, int] = {}
    for output, target in graph.aliases.items():
        if not (0 <= output < len(graph.outputs) and 0 <= target < len(graph.inputs)):
            raise _error(
                graph, f"output {output} is said to be written to input {target}: no such pair", None
            )
        value, place = graph.outputs[output], graph.inputs[target]
        if value.type != place.type:
            raise _error(graph, f"output {value} is written to input {place}: the types differ", None)
        if target in written:
            raise _error(graph, f"outputs {written[target]} and {output} are both written to {place}", None)
        written[target] = output


def _error(graph: Graph, what: str, node: Node | None) -> IRError:
    if node is None:
        return IRError(f"graph {graph.name}: {what}")
    at = next(i for i, other in enumerate(graph.nodes) if other is node)
    where = f" (from {node.location})" if node.location else ""
    lines = [f"graph {graph.name}, node {at}: {what}{where}"]
    for i in range(max(0, at - NEIGHBOURS), min(len(graph.nodes), at + NEIGHBOURS + 1)):
        lines.append(f"  {'>' if i == at else ' '} {_line(graph.nodes[i])}")
    return IRError("\n".join(lines))


def _line(node: Node) -> str:
    try:
        return node_text(node)
    except TypeError:  # an attribute without a text form, which is what is being reported
        return f"{node} {dict(node.attrs)}"
