"""What code asks of values while it is traced: which way a branch on a tensor goes, how large a result is that only a
run tells. The call being traced answers, through the reference interpreter, and the trace is good for calls in which
the answers are the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir import dims
from ..ir.builder import GraphBuilder
from ..ir.graph import Value
from ..ir.interpreter import evaluate_node, told_sizes
from ..ir.op import Op
from ..passes.cse import attrs_key
from .locations import user_location
from .sizes import ORACLE, SizeQuestion, comparison

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Condition:
    """How a branch on a tensor came out, and where it is in the user's program; `size` where it was one on a size."""

    outcome: bool
    place: str
    size: SizeQuestion | None = None


class ValuesOfCall:
    """What graph values are in the call being traced. `inputs`: the arrays of the graph's inputs so far; `bindings`: the
    symbolic dims, to which those are added that the call tells."""

    def __init__(self, builder: GraphBuilder, bindings: dict[str, int], inputs: Callable[[int], Array]):
        self._builder = builder
        self._bindings = bindings
        self._inputs = inputs
        self._known: dict[Value, Array] = {}
        self._evaluated = 0

    def of(self, value: Value) -> Array:
        """What the value is, by the reference interpreter."""
        for position, given in enumerate(self._builder.inputs):
            if given not in self._known:
                self._known[given] = self._inputs(position)
        for node in self._builder.nodes[self._evaluated :]:
            arrays = evaluate_node(node, [self._known[v] for v in node.inputs], self._bindings)
            self._bindings.update(told_sizes(node, arrays))
            self._known.update(zip(node.outputs, arrays))
        self._evaluated = len(self._builder.nodes)
        return self._known[value]

    def constant(self, value: Value, constants: Mapping[Value, Array]) -> Array | None:
        """What the value is in every call, where it comes of these inputs alone; else None."""
        made_by = {v: node for node in self._builder.nodes for v in node.outputs}
        needed: set[Value] = set()
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if one in constants:
                continue
            if one not in made_by or any(dims.symbols(d) for d in one.type.shape):
                return None
            if one not in needed:
                needed.add(one)
                waiting += made_by[one].inputs
        known = dict(constants)
        for node in self._builder.nodes:
            if not needed.isdisjoint(node.outputs):
                known.update(zip(node.outputs, evaluate_node(node, [known[v] for v in node.inputs], {})))
        return known[value]

    def size(self, size: dims.Expr) -> int:
        """What the dim is."""
        if all(s.name in self._bindings for s in dims.symbols(size)):
            return dims.evaluate(size, self._bindings)
        if self._builder.nodes:
            self.of(self._builder.nodes[-1].outputs[0])
        return dims.evaluate(size, self._bindings)


class Conditions:
    """The answers so far. `told`: dims that only a run tells, and what tells them, for messages."""

    def __init__(self, builder: GraphBuilder, bindings: Mapping[str, int], values: ValuesOfCall):
        self.found: dict[Value, Condition] = {}
        self.told: dict[str, str] = {}
        self._builder = builder
        self._bindings = bindings
        self._values = values
        self._asked: dict[SizeQuestion, bool] = {}
        self._sizes_known: dict[Any, tuple[Value, ...]] = {}
        self._numbers_of: dict[Value, Value] = {}
        self._first: dict[Any, Value] = {}
        self._numbered = 0
        self.automatic: frozenset[str] = frozenset()  # dims that each call knows before it runs
        self.sizes: dict[SizeQuestion, bool] = {}  # what was asked of them alone
        self.sized_numbers: set[str] = set()  # those whose number was wanted

    def outcome(self, value: Value, size: SizeQuestion | None = None) -> bool:
        """How the condition comes out."""
        if value not in self.found:
            outcome = bool(self._values.of(value).reshape(()))
            self.found[value] = Condition(outcome, str(user_location()), size)
        return self.found[value].outcome

    def of_size(self, how: str, a: dims.DimLike, b: dims.DimLike) -> bool:
        """How a question about a dim that a run tells, or a call, comes out in this call; the trace is good for those in
        which it comes out the same."""
        question = SizeQuestion(how, a, b)
        if not any(s.name in self.told for v in (a, b) for s in dims.symbols(v)):
            if question not in self.sizes:
                found = question.answer(self._bindings)
                assert found is not None
                self.sizes[question] = found
            return self.sizes[question]
        if question not in self._asked:
            self._asked[question] = self.outcome(comparison(self._builder, how, a, b), question)
        return self._asked[question]

    def sized(self, op: Op, values: Sequence[Value], attrs: Mapping[str, Any]) -> tuple[Value, ...]:
        """Apply an op whose result's size only a run tells, with names for the dims; the same op of the same values
        once, so that what one mask selects from two tensors has one size."""
        key = self._numbering(op, values, attrs)
        if key not in self._sizes_known:
            assert op.size_bounds is not None
            dims.set_oracle(ORACLE)
            named = []
            for low, high in op.size_bounds(*(v.type for v in values), **attrs):
                taken = {*self.told, *self._bindings}
                name = next(n for i in itertools.count() if (n := f"u{i}") not in taken)
                self.told[name] = f"{op.name} at {user_location()}"
                named.append(dims.symbol(name, low, high))
            found = self._builder.apply(op, values, {**attrs, op.sizes: tuple(named)})
            self._sizes_known[key] = found if isinstance(found, tuple) else (found,)
        return self._sizes_known[key]

    def _numbering(self, op: Op, values: Sequence[Value], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
        """A key for the op of these values, equal where the same was computed before."""
        numbers = self._numbers_of
        for node in self._builder.nodes[self._numbered :]:
            own: Any = (node.op, attrs_key(node.attrs), *(numbers.get(v, v) for v in node.inputs))
            for position, value in enumerate(node.outputs):
                numbers[value] = value if node.regions else self._first.setdefault((own, position), value)
        self._numbered = len(self._builder.nodes)
        plain = {name: value for name, value in attrs.items() if name != op.sizes}
        return op, attrs_key(plain), *(numbers.get(v, v) for v in values)
