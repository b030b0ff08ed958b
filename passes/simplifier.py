"""A builder that simplifies what it builds, and what a rule of simplification gets to see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.dtypes import DType
from ..ir.graph import Graph, Node, Value
from ..ir.op import Op
from ..ir.types import TensorType
from .base import Rewriter

Number = float | int | bool


@dataclass(frozen=True)
class Call:
    """One application of an op: what a rule looks at. `type` is the result's."""

    op: Op
    inputs: tuple[Value, ...]
    attrs: Mapping[str, Any]
    type: TensorType


class Simplifier(Rewriter):
    """A builder that simplifies what it builds, and answers the questions that rules ask."""

    def __init__(self, graph: Graph, rules_for: RulesFor):
        super().__init__(graph)
        self._rules_for = rules_for
        self._uses = Counter(v for node in graph.nodes for v in dict.fromkeys(node.inputs))
        self._uses.update(graph.outputs)

    def is_used_once(self, value: Value) -> bool:
        """Does the graph, as it was given, read the value in one place only?"""
        return self._uses[value] == 1

    def simpler(self, call: Call) -> Value | None:
        """A value to stand for the call, of the same type; None if no rule applies."""
        for rule in self._rules_for(call.op):
            found = rule(self, call)
            if found is not None:
                return self._fit(found, call.type)
        return None

    def _fit(self, value: Value, type_: TensorType) -> Value:
        """An operand that stands for a broadcast result is broadcast itself."""
        if value.type.shape == type_.shape:
            return value
        result: Value = self.expand(value, shape=type_.shape)
        return result

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        inputs = tuple(self._lift(operands))
        full = op.normalise_attrs(attrs)
        types = op.infer_types([v.type for v in inputs], full)
        if len(types) == 1:
            found = self.simpler(Call(op, inputs, full, types[0]))
            if found is not None:
                return found
        return super().apply(op, inputs, full)

    def made_by(self, value: Value, op: str) -> Node | None:
        """The node that defines the value, if it is an application of `op`."""
        node = self.producer(value)
        return node if node is not None and node.op.name == op else None

    def filled_with(self, value: Value) -> Number | None:
        """The number that every element of the value is, if it is a `full`."""
        node = self.made_by(value, "full")
        return None if node is None else node.attrs["value"]

    def is_filled(self, value: Value, number: Number) -> bool:
        """Is every element of the value this number, in all its bits?"""
        have = self.filled_with(value)
        return have is not None and _bits(have, value.type.dtype) == _bits(number, value.type.dtype)


def _bits(number: Number, dtype: DType) -> bytes:
    with np.errstate(all="ignore"):
        return np.asarray(number).astype(dtype.numpy).tobytes()


# A value that stands for the call, or None where the rule does not apply.
Rule = Callable[[Simplifier, Call], Value | None]
RulesFor = Callable[[Op], tuple[Rule, ...]]
