"""From protobuf messages to plans: plain data that the interpreter runs.

What is wrong with a file is found here, or when a node runs, and the message names the node; nothing of the file is
executed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import lasting
from .table import ELEMENT_TYPES, RULES, ONNXError, Rule

Array = np.ndarray[Any, Any]
DEFAULT_DOMAINS = ("", "ai.onnx")

# A file of functions that call each other is written out; these bounds stop one that would never end.
_MAX_DEPTH = 32
_MAX_NODES = 100_000


@dataclass(frozen=True, eq=False)
class NodePlan:
    """A node: `rule` runs it, or `body` (a function's graph), or a body made for the types of its inputs from
    `schema`, the node as it was written."""

    label: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    rule: Rule | None = None
    body: GraphPlan | None = None
    schema: bytes | None = None
    bodies: dict[Any, GraphPlan] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GraphPlan:
    """A graph: nodes in an order in which they can run. `constants` are the initializers; `inputs` those that a caller
    gives."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodePlan, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, str] = field(default_factory=dict)


def import_onnx() -> Any:
    """The `onnx` package; ImportError with what to do where it is absent."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX files need the onnx package: pip install 'vitrify[onnx]'") from error
    return onnx


def read_model(source: Any) -> tuple[Any, str]:
    """The ModelProto of a path, of bytes or of itself, and the folder where its external data lies."""
    onnx = import_onnx()
    if isinstance(source, onnx.ModelProto):
        return source, ""
    folder = ""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        what = "these bytes"
    elif isinstance(source, str | os.PathLike):
        data = Path(source).read_bytes()
        folder = str(Path(source).resolve().parent)
        what = str(source)
    elif hasattr(source, "read"):
        data, what = source.read(), "this file"
    else:
        raise TypeError(f"onnx.load takes a path, bytes, a file or a ModelProto, not {type(source).__name__}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf has several classes for it
        raise ONNXError(f"{what}: not an ONNX model, or damaged ({error})") from error
    if not model.HasField("graph") or not model.opset_import:
        raise ONNXError(f"{what}: not an ONNX model, or damaged (no graph or no operator set)")
    return model, folder


def tensor_array(tensor: Any, folder: str, where: str) -> Array:
    """The elements of a TensorProto, of its external file if it has one."""
    onnx = import_onnx()
    if any(d < 0 for d in tensor.dims):
        raise ONNXError(f"{where}: a negative dim in shape {list(tensor.dims)}")
    if tensor.data_type not in ELEMENT_TYPES:
        raise ONNXError(f"{where}: element type number {tensor.data_type} is not known")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _external(tensor, folder, where)
    stored = max(
        len(tensor.raw_data) * 8, *(len(getattr(tensor, f)) * 64 for f in (
            "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"
        )),
    )  # fmt: skip
    if math.prod(tensor.dims) > stored:
        raise ONNXError(f"{where}: shape {list(tensor.dims)}, but the file holds fewer elements")
    try:
        return lasting.copy(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise ONNXError(f"{where}: damaged tensor ({error})") from error


def _external(tensor: Any, folder: str, where: str) -> Array:
    onnx = import_onnx()
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    if not folder:
        raise ONNXError(f"{where}: its data is in the file {location!r}; load the model by its path")
    path = (Path(folder) / location).resolve()
    if not location or not path.is_relative_to(Path(folder).resolve()):
        raise ONNXError(f"{where}: external data at {location!r}, outside of the model's folder")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count = math.prod(tensor.dims)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", count * dtype.itemsize))
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ONNXError(f"{where}: external data at {location!r}: {error}") from error
    if length != count * dtype.itemsize or offset < 0 or offset + length > size:
        raise ONNXError(
            f"{where}: external data at {location!r} has not the {count} elements of {list(tensor.dims)}"
        )
    mapped = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(length,)) if length else b""
    return lasting.copy(np.frombuffer(mapped, dtype=dtype).reshape(tuple(tensor.dims)))


def type_text(type_proto: Any) -> str:
    """`float32[batch, 3, 224, 224]`, `sequence(float32[?])`."""
    kind = type_proto.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return f"{kind.removesuffix('_type')}({type_text(getattr(type_proto, kind).elem_type)})"
    if kind != "tensor_type":
        return kind or "unknown"
    tensor = type_proto.tensor_type
    name = ELEMENT_TYPES.get(tensor.elem_type, "unknown")
    if not tensor.HasField("shape"):
        return f"{name}[...]"
    dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
    return f"{name}[{', '.join(dims)}]"


class Reader:
    """Makes the plans of one model."""

    def __init__(self, model: Any, folder: str):
        self.folder = folder
        self.opsets = {_domain(o.domain): o.version for o in model.opset_import}
        self.functions = {
            (_domain(f.domain), f.name, getattr(f, "overload", "")): f
            for f in getattr(model, "functions", ())
        }
        self.unsupported: dict[str, str] = {}
        self.depth = 0
        self.count = 0

    def graph(
        self, graph: Any, known: Iterable[str] = (), opsets: Mapping[str, int] | None = None, inside: str = ""
    ) -> GraphPlan:
        """The plan of a graph; `known`: values of the graphs around it."""
        opsets = self.opsets if opsets is None else opsets
        constants: dict[str, Array] = {}
        _check_text("the graph", graph.name, *(v.name for v in [*graph.input, *graph.output]))
        for tensor in graph.initializer:
            _check_text("an initializer", tensor.name)
            if not tensor.name:
                raise ONNXError("an initializer without a name")
            constants[tensor.name] = tensor_array(tensor, self.folder, f"initializer {tensor.name!r}")
        if graph.sparse_initializer:
            self.unsupported.setdefault("sparse initializers", inside)
        inputs = tuple(i.name for i in graph.input if i.name not in constants)
        defined = {*known, *constants, *inputs, ""}
        nodes = self._nodes(graph.node, defined, {*constants, *inputs}, opsets, inside)
        outputs = tuple(o.name for o in graph.output)
        for name in outputs:
            if name not in defined:
                raise ONNXError(f"graph output {name!r} is computed by no node")
        types = {i.name: type_text(i.type) for i in [*graph.input, *graph.output]}
        return GraphPlan(graph.name, inputs, outputs, nodes, constants, types)

    def _nodes(
        self, nodes: Iterable[Any], defined: set[str], own: set[str], opsets: Mapping[str, int], inside: str
    ) -> tuple[NodePlan, ...]:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ONNXError(f"graphs or functions are nested more than {_MAX_DEPTH} deep{inside}")
        found = []
        for position, node in enumerate(nodes):
            self.count += 1
            if self.count > _MAX_NODES:
                raise ONNXError(f"with its functions written out the graph has more than {_MAX_NODES} nodes")
            _check_text(f"node #{position}", node.name, node.op_type, node.domain, *node.input, *node.output)
            label = f"node {node.name or f'#{position}'} ({node.op_type}){inside}"
            for name in node.input:
                if name not in defined:
                    raise ONNXError(
                        f"{label} reads {name!r}, which no input, initializer or earlier node defines"
                    )
            found.append(self.node(node, label, defined, opsets, inside))
            for name in node.output:
                if name and name in own:
                    raise ONNXError(f"{label} defines {name!r}, which is defined already")
                own.add(name)
            defined.update(node.output)
        self.depth -= 1
        return tuple(found)

    def node(
        self, node: Any, label: str, defined: set[str], opsets: Mapping[str, int], inside: str
    ) -> NodePlan:
        domain = _domain(node.domain)
        found = partial(
            NodePlan,
            label,
            node.op_type,
            domain,
            opsets.get(domain, 1),
            tuple(node.input),
            tuple(node.output),
        )
        function = self.functions.get((domain, node.op_type, getattr(node, "overload", "")))
        if function is not None:
            return found({}, body=self.function(function, node, label, opsets))
        rule = RULES.get((domain, node.op_type))
        if rule is not None:
            attrs = {
                a.name: self.attribute(a, f"{label}, attribute {a.name}", defined, opsets, inside)
                for a in node.attribute
            }
            return found(attrs, rule=rule)
        schema = self._schema(node.op_type, domain, opsets.get(domain, 1))
        if schema is not None and schema.has_function and not schema.has_context_dependent_function:
            return found({}, body=self.function(schema.function_body, node, label, opsets, schema))
        if schema is not None and schema.has_context_dependent_function:
            return found({}, schema=node.SerializeToString())
        name = f"{domain}::{node.op_type}" if domain else node.op_type
        self.unsupported.setdefault(name, label)
        return found({})

    def _schema(self, op_type: str, domain: str, version: int) -> Any:
        onnx = import_onnx()
        try:
            return onnx.defs.get_schema(op_type, version, domain)
        except onnx.defs.SchemaError:
            return None

    def typed_body(self, plan: NodePlan, types: list[bytes]) -> GraphPlan:
        """The body of a function whose nodes depend on the types of its inputs (serialized TypeProtos)."""
        onnx = import_onnx()
        node = onnx.NodeProto.FromString(plan.schema)
        schema = self._schema(plan.op_type, plan.domain, plan.version)
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= plan.version]
        text = schema.get_context_dependent_function_with_opset_version(
            max(versions, default=schema.since_version), node.SerializeToString(), types
        )
        body = self.function(onnx.FunctionProto.FromString(text), node, plan.label, self.opsets, schema)
        self.refuse()
        return body

    def function(
        self, function: Any, node: Any, label: str, around: Mapping[str, int], schema: Any = None
    ) -> GraphPlan:
        """The function's body with this node's attributes in the places that refer to them."""
        given = {a.name: a for a in getattr(function, "attribute_proto", ())}
        if schema is not None:
            given.update(
                (name, a.default_value) for name, a in schema.attributes.items() if a.default_value.name
            )
        given.update((a.name, a) for a in node.attribute)
        opsets = {**around, **{_domain(o.domain): o.version for o in function.opset_import}}
        inputs = tuple(function.input)
        defined = {*inputs, ""}
        bound = [_bind(n, given) for n in function.node]
        nodes = self._nodes(bound, defined, set(inputs), opsets, f" of {label}")
        outputs = tuple(inner if outer else "" for inner, outer in zip(function.output, node.output))
        for name in outputs:
            if name not in defined:
                raise ONNXError(f"{label}: its function computes no {name!r}")
        return GraphPlan(function.name, inputs, outputs, nodes, {})

    def attribute(
        self, attr: Any, where: str, defined: set[str], opsets: Mapping[str, int], inside: str
    ) -> Any:
        kind = import_onnx().AttributeProto.AttributeType.Name(attr.type)
        match kind:
            case "FLOAT":
                return float(attr.f)
            case "INT":
                return int(attr.i)
            case "STRING":
                return attr.s.decode("utf-8", "replace")
            case "FLOATS":
                return [float(v) for v in attr.floats]
            case "INTS":
                return [int(v) for v in attr.ints]
            case "STRINGS":
                return [v.decode("utf-8", "replace") for v in attr.strings]
            case "TENSOR":
                return tensor_array(attr.t, self.folder, where)
            case "GRAPH":
                self.depth += 1
                plan = self.graph(attr.g, defined, opsets, inside)
                self.depth -= 1
                return plan
            case "TYPE_PROTO":
                return type_text(attr.tp)
        raise ONNXError(f"{where}: attributes of kind {kind} are not supported")

    def refuse(self) -> None:
        """ONNXError that lists every op type without a rule, if there is one."""
        if self.unsupported:
            lines = "".join(
                f"\n  {name}, first at {label}" for name, label in sorted(self.unsupported.items())
            )
            raise ONNXError(f"not supported in this file:{lines}")


def _check_text(where: str, *texts: Any) -> None:
    """ONNXError for a name that is no valid UTF-8, which protobuf hands out as bytes."""
    for text in texts:
        if not isinstance(text, str):
            raise ONNXError(f"{where} has a name that is not valid text: {text!r}")


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else domain


def _bind(node: Any, given: Mapping[str, Any]) -> Any:
    """A copy of a function's node in which references to the function's attributes are their values; a reference to
    one that is not given goes."""
    onnx = import_onnx()
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attr in node.attribute:
        if attr.ref_attr_name:
            if attr.ref_attr_name in given:
                bound = copy.attribute.add()
                bound.CopyFrom(given[attr.ref_attr_name])
                bound.name = attr.name
            continue
        kept = copy.attribute.add()
        kept.CopyFrom(attr)
        if attr.type == onnx.AttributeProto.GRAPH:
            inner = [_bind(n, given) for n in attr.g.node]
            del kept.g.node[:]
            kept.g.node.extend(inner)
    return copy
