"""From our IR to ONNX nodes: the writer, and the table of what an op becomes.

A rule is entered under the names of ops (`@emits("softmax")`) and says with the writer which nodes stand for a node of
the graph. It gives the names of the results, or None where the node is not of the form that ONNX has; a composite op
without a rule, or not of that form, is taken apart into others by its own decomposition.

Sizes: a symbolic dim is read off an input's shape where it is needed, and everything that depends on it is computed by
ONNX nodes on int64 tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..ir.dims import DimLike, Expr, Minimum, Quotient, Remainder, Symbol, of_one_symbol
from ..ir.dtypes import DType, i64
from ..ir.graph import Graph, Node, Value
from ..passes.decompose import Decompose
from .reading import import_onnx
from .table import ELEMENT_TYPES, ONNXError

Emitted = str | tuple[str, ...] | None
Rule = Callable[["Writer", Node], Emitted]

EMITTERS: dict[str, Rule] = {}
COMPLEX_EMITTERS: dict[str, Rule] = {}

_NUMBERS = {name: number for number, name in ELEMENT_TYPES.items()}
_INLINE = 1 << 16  # elements; larger constants are computed by nodes


def emits(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule under the names of ops."""

    def enter(rule: Rule) -> Rule:
        for name in names:
            if name in EMITTERS:
                raise ValueError(f"{name} is emitted by two rules")
            EMITTERS[name] = rule
        return rule

    return enter


def emits_complex(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule for nodes that have to do with complex numbers."""

    def enter(rule: Rule) -> Rule:
        COMPLEX_EMITTERS.update(dict.fromkeys(names, rule))
        return rule

    return enter


def element_type(dtype: DType) -> int:
    """The number of TensorProto.DataType; ONNXError for a dtype that ONNX does not have."""
    if dtype.numpy.name not in _NUMBERS:
        raise ONNXError(f"ONNX has no element type {dtype.name}")
    return _NUMBERS[dtype.numpy.name]


class Writer:
    """Collects the nodes and initializers of one ONNX graph.

    `names` leads from values of our graph to names in the file; `unsupported` collects what has no rule.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray[Any, Any]] = {}
        self.names: dict[Value, str] = {}
        self.producers: dict[Value, Node] = {}
        self.read: set[Value] = set()  # what nodes or outputs read
        self.unsupported: dict[str, str] = {}
        self._used: set[str] = set()
        self._constants: dict[tuple[Any, ...], str] = {}
        self._symbols: dict[str, tuple[str, int, int, int]] = {}
        self._dims: dict[DimLike, str] = {}
        self._stem = ""

    def fresh(self, stem: str) -> str:
        """A name that the file does not have yet: the stem, or the stem and a number."""
        name, number = stem, 1
        while name in self._used or not name:
            name, number = f"{stem}_{number}", number + 1
        self._used.add(name)
        return name

    def input(self, name: str, value: Value) -> str:
        """Declare an input or initializer; its shape is where its symbols are read."""
        self.names[value] = self.fresh(name)
        self.knows_shape(self.names[value], value)
        return self.names[value]

    @contextmanager
    def inside(self) -> Iterator[list[Any]]:
        """The nodes that are written meanwhile are those of a body: they go into this list. What they compute of sizes
        is not to be seen outside."""
        nodes, symbols, dims = self.nodes, self._symbols, self._dims
        self.nodes, self._symbols, self._dims = [], dict(symbols), dict(dims)
        try:
            yield self.nodes
        finally:
            self.nodes, self._symbols, self._dims = nodes, symbols, dims

    def knows_shape(self, name: str, value: Value) -> None:
        for axis, dim in enumerate(value.type.shape):
            if isinstance(dim, Expr) and (found := of_one_symbol(dim)) is not None:
                symbol, factor, plus = found
                self._symbols.setdefault(symbol.name, (name, axis, factor, plus))

    def node(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; the name of its result, or a tuple of names."""
        helper = import_onnx().helper
        label = self.fresh(f"{self._stem}/{op_type}")
        results = [
            self.fresh(label.strip("/").replace("/", ".") + (f".{i}" if i else "")) for i in range(outputs)
        ]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op_type, list(inputs), results, name=label, **given))
        return results[0] if outputs == 1 else tuple(results)

    def constant(self, array: Any, dtype: Any = None) -> str:
        """The name of an initializer with these elements; equal ones are stored once."""
        array = np.asarray(array, dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.fresh("constant")
            self.initializers[self._constants[key]] = array
        return self._constants[key]

    def scalar(self, value: Any, dtype: DType) -> str:
        return self.constant(np.asarray(value).astype(dtype.numpy))

    def ints(self, values: Iterable[DimLike]) -> str:
        """An int64 tensor of these sizes, which may be symbolic."""
        values = tuple(values)
        if all(isinstance(v, int) for v in values):
            return self.constant(values, np.int64)
        parts = [self.dim(v) for v in values]
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def dim(self, value: DimLike) -> str:
        """An int64 tensor of one element."""
        if isinstance(value, int):
            return self.constant([value], np.int64)
        if value not in self._dims:
            terms = []
            for atoms, factor in value.terms:
                parts = [self._atom(atom) for atom in atoms]
                if factor != 1 or not parts:
                    parts.append(self.constant([factor], np.int64))
                terms.append(self._chain("Mul", parts))
            self._dims[value] = self._chain("Add", terms)
        return self._dims[value]

    def _atom(self, atom: Any) -> str:
        match atom:
            case Symbol():
                if atom.name not in self._symbols:
                    raise ONNXError(f"the size {atom.name} is the size of no input")
                name, axis, factor, plus = self._symbols[atom.name]
                size = self.node("Shape", name, start=axis, end=axis + 1)
                size = self.node("Sub", size, self.dim(plus)) if plus else size
                return str(size if factor == 1 else self.node("Div", size, self.dim(factor)))
            case Minimum():
                return str(self.node("Min", self.dim(atom.left), self.dim(atom.right)))
            case Quotient():
                whole, divisor = self.dim(atom.expr), self.dim(atom.divisor)
                rest = self.node("Mod", whole, divisor)
                return str(self.node("Div", self.node("Sub", whole, rest), divisor))
            case Remainder():
                return str(self.node("Mod", self.dim(atom.expr), self.dim(atom.divisor)))
        raise ONNXError(f"sizes like {atom} cannot be computed in ONNX")

    def _chain(self, op_type: str, parts: Sequence[str]) -> str:
        found = parts[0]
        for part in parts[1:]:
            found = self.node(op_type, found, part)
        return found

    def name(self, value: Value) -> str:
        return self.names[value]

    def reshape(self, name: str, shape: Sequence[DimLike]) -> str:
        """The tensor in another shape; one symbolic dim is left to be found."""
        symbolic = [i for i, d in enumerate(shape) if not isinstance(d, int)]
        if len(symbolic) == 1 and 0 not in shape:
            shape = [-1 if i == symbolic[0] else d for i, d in enumerate(shape)]
        return str(self.node("Reshape", name, self.ints(shape), allowzero=1 if 0 in shape else None))

    def expand(self, name: str, shape: Sequence[DimLike]) -> str:
        return str(self.node("Expand", name, self.ints(shape)))

    def cast(self, name: str, dtype: DType) -> str:
        return str(self.node("Cast", name, to=element_type(dtype)))

    def angle(self, y: str, x: str, dtype: DType) -> str:
        """The angle of y / x, turned by half a circle where x is negative; of points on an axis what PyTorch gives, but
        for the signs of zeros."""
        zero, number = self.scalar(0, dtype), lambda value: self.scalar(value, dtype)
        flat = self.node("Equal", x, zero)
        slope = self.node("Atan", self.node("Div", y, self.node("Where", flat, number(1), x)))
        half = self.node("Where", self.node("Less", y, zero), number(-math.pi), number(math.pi))
        turned = self.node("Where", self.node("Less", x, zero), self.node("Add", slope, half), slope)
        upright = self.node("Mul", self.node("Sign", y), number(math.pi / 2))
        return str(self.node("Where", flat, upright, turned))

    def filled(self, shape: Sequence[DimLike], value: Any, dtype: DType) -> str:
        """Every element `value`."""
        if not shape:
            return self.scalar(value, dtype)
        helper = import_onnx().numpy_helper
        one = helper.from_array(np.asarray([value]).astype(dtype.numpy))
        return str(self.node("ConstantOfShape", self.ints(shape), value=one))

    def positions(self, shape: Sequence[DimLike], dim: int, dtype: DType) -> str:
        """Each element's index along `dim`."""
        sizes = tuple(d for d in shape if isinstance(d, int))
        if len(sizes) == len(shape) and math.prod(sizes) <= _INLINE:
            column = np.arange(sizes[dim]).reshape([-1 if i == dim else 1 for i in range(len(sizes))])
            return self.constant(np.broadcast_to(column, sizes), dtype.numpy)
        scalars = [self.scalar(0, i64), self.node("Squeeze", self.dim(shape[dim])), self.scalar(1, i64)]
        found = self.node("Range", *scalars)
        if len(shape) > 1:
            found = self.reshape(found, [d if i == dim else 1 for i, d in enumerate(shape)])
            found = self.expand(found, shape)
        return str(found) if dtype is i64 else self.cast(found, dtype)

    def graph(self, graph: Graph) -> None:
        """Emit a graph's nodes; the names of its inputs are known."""
        self.producers.update(graph.producers())
        self.read.update(graph.outputs, *(node.inputs for node in graph.nodes))
        for node in graph.nodes:
            module = node.location.module if node.location else ""
            before, self._stem = self._stem, f"/{module.replace('.', '/')}" if module else self._stem
            self.names.update(zip(node.outputs, self._emitted(node)))
            for value in node.outputs:
                self.knows_shape(self.names[value], value)
            self._stem = before

    def _emitted(self, node: Node) -> Sequence[str]:
        is_complex = any(v.type.dtype.is_complex for v in (*node.inputs, *node.outputs))
        rule = (COMPLEX_EMITTERS if is_complex else EMITTERS).get(node.op.name)
        missing = f"{node.op.name} of complex numbers" if is_complex else node.op.name
        if rule is not None:
            try:
                found = rule(self, node)
            except ONNXError as error:
                found, missing = None, f"{node.op.name} ({error})"
            if found is not None:
                return (found,) if isinstance(found, str) else found
        if node.op.level == "composite":
            return self._taken_apart(node)
        self.unsupported.setdefault(missing, f"at {node.location}" if node.location else "")
        return [self.fresh("missing") for _ in node.outputs]

    def _taken_apart(self, node: Node) -> Sequence[str]:
        inner = Graph(node.op.name, tuple(dict.fromkeys(node.inputs)), (node,), node.outputs)
        apart = Decompose(tuple(name for name in EMITTERS if name != node.op.name)).run(inner)
        self.graph(apart)
        return [self.names[value] for value in apart.outputs]


def value_info(name: str, value: Value) -> Any:
    """An input or output of a graph, with its type."""
    shape = [str(d) if isinstance(d, Expr) else d for d in value.type.shape]
    return import_onnx().helper.make_tensor_value_info(name, element_type(value.type.dtype), shape)


def attributes(node: Node, *names: str) -> list[Any]:
    return [node.attrs[name] for name in names]


def known(mapping: Mapping[str, Any], node: Node, key: str) -> Any:
    """What a table says of an attribute; ONNXError if nothing."""
    value = node.attrs[key]
    if value not in mapping:
        raise ONNXError(f"{key}={value}")
    return mapping[value]
