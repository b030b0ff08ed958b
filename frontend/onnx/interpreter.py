"""Runs a plan node by node."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..autograd.grad_mode import no_grad
from ..dispatch import use_backend
from ..eager import EAGER
from ..tensor import Tensor
from .known_sizes import SIZE_RULES
from .reading import GraphPlan, NodePlan, Reader, import_onnx
from .table import Call, ONNXError, Value, as_array

Environment = dict[str, Value]

# Ops whose result may be much larger than what the file holds for it; computed when the graph runs.
_MAY_GROW = frozenset(
    {"ConstantOfShape", "Expand", "Tile", "Range", "EyeLike", "OneHot", "Pad", "Resize", "Upsample"}
)


class Interpreter:
    """Runs one model's graph; the reader makes the bodies of functions that depend on types."""

    def __init__(self, plan: GraphPlan, reader: Reader | None = None):
        self.plan = plan
        self.reader = reader
        self.observe: Callable[[str, Value], None] | None = None  # told every value of the graph by its name
        self._last_uses: weakref.WeakKeyDictionary[GraphPlan, list[list[str]]] = weakref.WeakKeyDictionary()

    def run(self, environment: Environment) -> list[Value]:
        """The outputs, given the inputs and constants by name."""
        return self.graph(self.plan, environment)

    def graph(self, plan: GraphPlan, environment: Environment) -> list[Value]:
        for node, last in zip(plan.nodes, self._lasts(plan)):
            inputs = [environment[name] if name else None for name in node.inputs]
            for name, value in zip(node.outputs, self.node(node, inputs, environment)):
                if name:
                    environment[name] = value
                    if self.observe is not None and plan is self.plan:
                        self.observe(name, value)
            for name in last:
                environment.pop(name, None)
        return [environment[name] if name else None for name in plan.outputs]

    def _lasts(self, plan: GraphPlan) -> list[list[str]]:
        """For each node the values that this graph's nodes made and that nothing reads after it."""
        found = self._last_uses.get(plan)
        if found is None:
            made = {name for node in plan.nodes for name in node.outputs}
            later = {*plan.outputs, *names_inside(plan)}
            found = []
            for node in reversed(plan.nodes):
                done = ({*node.inputs, *node.outputs} & made) - later
                found.append(sorted(done))
                later |= done
            found.reverse()
            self._last_uses[plan] = found
        return found

    def subgraph(self, environment: Environment, plan: GraphPlan, values: Sequence[Value]) -> list[Value]:
        """Run the graph of an attribute, which sees the values around it."""
        if len(values) != len(plan.inputs):
            raise ONNXError(
                f"its graph {plan.name!r} takes {len(plan.inputs)} inputs, {len(values)} are given"
            )
        inner = {**environment, **plan.constants, **dict(zip(plan.inputs, values))}
        return self.graph(plan, inner)

    def node(self, node: NodePlan, inputs: list[Value], environment: Environment) -> list[Value]:
        try:
            return self._node(node, inputs, environment)
        except ONNXError as error:
            text = str(error)
            raise (error if text.startswith("node ") else ONNXError(f"{node.label}: {text}")) from error
        except Exception as error:
            error.add_note(f"in ONNX {node.label}")
            raise

    def _node(self, node: NodePlan, inputs: list[Value], environment: Environment) -> list[Value]:
        rule = node.rule
        if rule is None:
            body = node.body or self._typed_body(node, inputs)
            padded = [*inputs, *[None] * (len(body.inputs) - len(inputs))]
            return self.graph(body, dict(zip(body.inputs, padded)))
        call = Call(
            node.attrs,
            inputs,
            node.version,
            len(node.outputs),
            lambda plan, v: self.subgraph(environment, plan, v),
        )
        arrays = all(v is None or isinstance(v, np.ndarray) for v in inputs)
        sizes = SIZE_RULES.get(node.op_type)
        symbolic = arrays and any(v is not None and v.dtype == object for v in inputs)
        if sizes is not None and (symbolic or node.op_type in ("Shape", "Size")):
            return [sizes(call)]
        known = arrays and rule.folds and not symbolic
        if not known:
            return _results(rule.run(call), node)
        with use_backend(EAGER), no_grad():
            return [_as_known(v) for v in _results(rule.run(call), node)]

    def _typed_body(self, node: NodePlan, inputs: list[Value]) -> GraphPlan:
        types = [_type_proto(v) for v in inputs]
        key = tuple(types)
        if key not in node.bodies:
            if self.reader is None:
                raise ONNXError("a function cannot be expanded here")
            node.bodies[key] = self.reader.typed_body(node, types)
        return node.bodies[key]


def names_inside(plan: GraphPlan) -> set[str]:
    """What subgraphs read of the graphs around them, and names of their own."""
    found: set[str] = set()
    for node in plan.nodes:
        for inner in node.attrs.values():
            if isinstance(inner, GraphPlan):
                found |= (
                    {name for n in inner.nodes for name in n.inputs} | {*inner.outputs} | names_inside(inner)
                )
    return found


def _results(found: Any, node: NodePlan) -> list[Value]:
    results = list(found) if isinstance(found, tuple) else [found]
    if len(results) < len(node.outputs) and any(node.outputs[len(results) :]):
        raise ONNXError(f"output {node.outputs[len(results)]!r} is not supported")
    return results


def _as_known(value: Value) -> Value:
    if isinstance(value, list):
        return value
    return None if value is None else as_array(value)


def _type_proto(value: Value) -> bytes:
    onnx = import_onnx()
    if value is None:
        return b""
    if isinstance(value, list):
        raise ONNXError("functions over sequences are not supported")
    dtype = value.dtype.numpy if isinstance(value, Tensor) else value.dtype
    element = onnx.TensorProto.INT64 if dtype.kind == "O" else onnx.helper.np_dtype_to_tensor_dtype(dtype)
    shape = [int(d) if isinstance(d, int) else None for d in value.shape]
    text: bytes = onnx.helper.make_tensor_type_proto(element, shape).SerializeToString()
    return text


def fold(plan: GraphPlan, floats: bool = False) -> tuple[GraphPlan, dict[str, Value]]:
    """The graph without the nodes that depend on nothing but integer constants and `Constant` nodes, and what these
    give. Initializers that are floats may be trained, so what depends on them stays; with `floats` it goes, but for
    weights that are stored short."""
    known: Environment = {n: a for n, a in plan.constants.items() if floats or a.dtype.kind not in "fV"}
    kept = _MAY_GROW | {"DequantizeLinear"} if floats else _MAY_GROW
    given = frozenset(known)
    interpreter = Interpreter(plan)
    rest = []
    for node in plan.nodes:
        folds = node.rule is not None and node.rule.folds and node.op_type not in kept
        if folds and all(not name or name in known for name in node.inputs) and not _has_graph(node.attrs):
            inputs = [known[n] if n else None for n in node.inputs]
            try:
                values = interpreter.node(node, inputs, known)
            except ONNXError:
                raise
            except Exception as error:
                raise ONNXError(f"{node.label}: {error}") from error
            known.update((name, v) for name, v in zip(node.outputs, values) if name)
        else:
            rest.append(node)
    return replace(plan, nodes=tuple(rest)), {n: v for n, v in known.items() if n not in given}


def _has_graph(attrs: Mapping[str, Any]) -> bool:
    return any(isinstance(v, GraphPlan) for v in attrs.values())
