"""Code over ops, whoever computes: the `F` of gradient rules and decompositions.

`F.log_softmax(x, dim=-1)` applies an op through `OpBuilder.apply`. `GraphBuilder` adds a node; `ArrayBuilder` computes
with NumPy; the front end has a third that computes with tensors. A rule written once runs under each of them.

Python numbers may stand for operands: they become 0-d `full` constants of the dtype of the first tensor operand.
Pointwise ops broadcast as NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import dtypes
from .dims import DimLike
from .dtypes import DType
from .graph import Graph, IRError, Location, Node, Provenance, Value, told_symbols
from .op import Op, op_named
from .types import TensorType

# A step of a scan: (builder, states, elements of the sequences, invariants) -> (next states, results).
Step = Callable[[Any, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]], tuple[Sequence[Any], Sequence[Any]]]


class OpBuilder:
    """Applies ops. Subclasses say what a value is (`type_of`, `constant`) and what applying means (`apply`)."""

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        """The result of the op, or a tuple of them; operands may include Python numbers."""
        raise NotImplementedError

    def type_of(self, value: Any) -> TensorType:
        raise NotImplementedError

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Any:
        """A 0-d constant."""
        return self.apply(op_named("full"), (), {"shape": (), "value": value, "dtype": dtype})

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            op = op_named(name)
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

        def call(*operands: Any, **attrs: Any) -> Any:
            return self.apply(op, operands, attrs)

        return call

    def _lift(self, operands: Sequence[Any]) -> list[Any]:
        """Operands with Python numbers made constants of the first tensor operand's dtype. A bool operand gives way to
        another (the condition of a `where` says nothing about its branches)."""
        dtype: DType | None = None
        for operand in operands:
            if not isinstance(operand, int | float | bool | complex):
                found = self.type_of(operand).dtype
                if dtype is None or dtype is dtypes.bool_:
                    dtype = found
                if dtype is not dtypes.bool_:
                    break
        lifted = []
        for operand in operands:
            if isinstance(operand, int | float | bool | complex):
                if dtype is None:
                    dtype = dtypes.f32 if isinstance(operand, float) else dtypes.i64
                operand = self.constant(operand, dtype)
            lifted.append(operand)
        return lifted

    def conj(self, value: Any) -> Any:
        """The complex conjugate; of a real value the value itself, so that one gradient rule serves both.

        Gradients are those of PyTorch: dL/dRe + i dL/dIm, so a cotangent is multiplied by the conjugate of the
        derivative (https://docs.pytorch.org/docs/stable/notes/autograd.html#autograd-for-complex-numbers).
        """
        return self.apply(op_named("conj"), (value,), {}) if self.type_of(value).dtype.is_complex else value

    def zeros_like(self, value: Any) -> Any:
        type_ = self.type_of(value)
        return self.apply(op_named("full"), (), {"shape": type_.shape, "value": 0, "dtype": type_.dtype})

    def ones_like(self, value: Any) -> Any:
        type_ = self.type_of(value)
        return self.apply(op_named("full"), (), {"shape": type_.shape, "value": 1, "dtype": type_.dtype})

    def scan(
        self,
        body: Step,
        carries: Sequence[Any],
        sequences: Sequence[Any] = (),
        invariants: Sequence[Any] = (),
        *,
        length: DimLike,
        reverse: bool = False,
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """A loop over the first dim of the sequences (`ir/ops/scan.py`): the final states and the stacked results.

        `body(F, states, elements, invariants)` gives (next states, results). Here the steps are written out one after
        another; a builder that makes graphs makes one node. TypeError if that cannot be, the length being a symbol.
        """
        if not isinstance(length, int):
            raise TypeError(f"a scan of {length} steps cannot be written out")
        state: Sequence[Any] = tuple(carries)
        invariant = tuple(invariants)
        results: list[Sequence[Any]] = [()] * length
        for t in reversed(range(length)) if reverse else range(length):
            state, results[t] = body(
                self, tuple(state), tuple(element(self, s, t) for s in sequences), invariant
            )
        return tuple(state), tuple(_stacked(self, parts) for parts in zip(*results))

    def sum_to(self, value: Any, shape: tuple[DimLike, ...]) -> Any:
        """`value` summed over the dims along which `shape` was broadcast to its shape: the gradient of broadcasting."""
        have = self.type_of(value).shape
        if have == shape:
            return value
        lead = len(have) - len(shape)
        dims = tuple(d for d, size in enumerate(have) if size != 1 and (d < lead or shape[d - lead] == 1))
        if dims:
            value = self.apply(op_named("sum"), (value,), {"dims": dims, "keepdim": False})
        if self.type_of(value).shape != shape:
            value = self.apply(op_named("reshape"), (value,), {"shape": shape})
        return value


class GraphBuilder(OpBuilder):
    """Builds a graph node by node. Result types come from the ops' own rules, so what it builds is well typed.

    `location` is stamped on every node; whoever drives the builder sets it.
    """

    def __init__(self, name: str):
        self.name = name
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.location: Location | None = None
        self._names: dict[str, int] = {}
        self._constants: dict[tuple[Any, ...], Value] = {}

    def fresh_name(self, stem: str = "") -> str:
        """A name not yet used: the stem itself, or the stem (default: nothing) with a running number."""
        if stem and stem not in self._names:
            self._names[stem] = 0
            return stem
        while True:
            self._names[stem] = self._names.get(stem, -1) + 1
            name = f"{stem}.{self._names[stem]}" if stem else str(self._names[stem])
            if name not in self._names:
                self._names[name] = 0
                return name

    def input(self, name: str, type: TensorType) -> Value:
        value = Value(self.fresh_name(name), type)
        self.inputs.append(value)
        return value

    def type_of(self, value: Value) -> TensorType:
        return value.type

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Value:
        """A 0-d constant, each only once per graph."""
        key = (type(value), repr(value), dtype)
        if key not in self._constants:
            saved, self.location = self.location, None
            self._constants[key] = super().constant(value, dtype)
            self.location = saved
        return self._constants[key]

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        inputs = tuple(self._lift(operands))
        full = op.normalise_attrs(attrs)
        types = op.infer_types([v.type for v in inputs], full)
        outputs = tuple(Value(self.fresh_name(), t) for t in types)
        self.nodes.append(Node(op, inputs, full, outputs, self.location))
        return outputs[0] if len(outputs) == 1 else outputs

    def append(self, node: Node, mapping: dict[Value, Value]) -> tuple[Value, ...]:
        """Copy a node of another graph, operands through `mapping`, which learns the results."""
        inputs = tuple(mapping.get(v, v) for v in node.inputs)
        outputs = tuple(Value(self.fresh_name(), v.type) for v in node.outputs)
        self.nodes.append(Node(node.op, inputs, node.attrs, outputs, node.location, node.regions))
        mapping.update(zip(node.outputs, outputs))
        return outputs

    def region_node(
        self,
        op: Op,
        inputs: Iterable[Value],
        attrs: Mapping[str, Any],
        regions: tuple[Graph, ...],
        types: Iterable[TensorType],
    ) -> tuple[Value, ...]:
        """Add a node whose meaning is its regions; its result types are given, not inferred."""
        outputs = tuple(Value(self.fresh_name(), t) for t in types)
        self.nodes.append(Node(op, tuple(inputs), op.normalise_attrs(attrs), outputs, self.location, regions))
        return outputs

    def scan(
        self,
        body: Step,
        carries: Sequence[Value],
        sequences: Sequence[Value] = (),
        invariants: Sequence[Value] = (),
        *,
        length: DimLike,
        reverse: bool = False,
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        inner = GraphBuilder("step")
        inner.location = self.location
        state = tuple(inner.input(f"c{i}", v.type) for i, v in enumerate(carries))
        elements = tuple(
            inner.input(f"x{i}", v.type.with_shape(v.type.shape[1:])) for i, v in enumerate(sequences)
        )
        constant = tuple(inner.input(f"w{i}", v.type) for i, v in enumerate(invariants))
        following, results = body(inner, state, elements, constant)
        step = inner.finish((*following, *results))
        for node in step.nodes:
            if told := told_symbols(node):
                sizes = ", ".join(s.name for s in told)
                raise IRError(
                    f"{node.location}: {node.op.name} in the body of a loop (scan): how large its result is ({sizes}) "
                    "only a run tells, for each turn anew, and a loop's values have one size. Use what keeps the size "
                    "(a mask with where, or gather with a fixed number of indices), or take it out of the loop."
                )
        op = op_named("scan")
        assert op.region is not None
        attrs = {"carries": len(state), "sequences": len(elements), "length": length, "reverse": reverse}
        operands = (*carries, *sequences, *invariants)
        _, types = op.region.types(
            tuple(v.type for v in operands), tuple(v.type for v in step.outputs), attrs
        )
        found = self.region_node(op, operands, attrs, (step,), types)
        return found[: len(state)], found[len(state) :]

    def finish(
        self,
        outputs: Iterable[Value],
        aliases: Mapping[int, int] | None = None,
        made_by: str = "built",
    ) -> Graph:
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.nodes),
            tuple(outputs),
            dict(aliases or {}),
            Provenance(made_by),
        )


class ArrayBuilder(OpBuilder):
    """Computes at once, on NumPy arrays, by the ops' NumPy rules."""

    def type_of(self, value: np.ndarray[Any, Any]) -> TensorType:
        return TensorType(value.shape, dtypes.from_numpy(value.dtype))

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        arrays = self._lift(operands)
        full = op.normalise_attrs(attrs)
        op.infer_types([self.type_of(a) for a in arrays], full)
        result = op.numpy(*arrays, **full)
        # NumPy gives scalars for 0-d results; its float64 scalar is a Python float too, which `_lift` would take it for.
        return tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)


ARRAYS = ArrayBuilder()


def element(F: OpBuilder, sequence: Any, t: int) -> Any:
    """sequence[t]"""
    shape = F.type_of(sequence).shape
    starts, stops = (t, *(0,) * (len(shape) - 1)), (t + 1, *shape[1:])
    part = F.slice(sequence, starts=starts, stops=stops, steps=(1,) * len(shape))
    return F.reshape(part, shape=shape[1:])


def _stacked(F: OpBuilder, parts: Sequence[Any]) -> Any:
    rows = [F.reshape(p, shape=(1, *F.type_of(p).shape)) for p in parts]
    return rows[0] if len(rows) == 1 else F.concat(*rows, dim=0)


def copy_graph(graph: Graph, name: str | None = None) -> tuple[GraphBuilder, dict[Value, Value]]:
    """A builder holding a copy of the graph's inputs (no nodes yet), and the mapping from old values to new."""
    builder = GraphBuilder(name or graph.name)
    return builder, {value: builder.input(value.name, value.type) for value in graph.inputs}
