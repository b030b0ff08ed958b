"""Algebraic simplification: a table of small rules, each exact in IEEE arithmetic.

A rule sees one application of an op and gives a value that is the same in every bit (NaN payloads aside,
which IEEE 754 leaves open), or None. So `x * 1` becomes `x`, but `x + 0` stays, for it makes +0 of -0, and
so does `x * 0`, for x may be NaN. What a rule builds is simplified in turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from ..ir.dims import DimLike, Expr, bounds
from ..ir.dtypes import DType
from ..ir.graph import Graph, Node, Value
from ..ir.op import Op
from ..ir.types import TensorType
from .base import Rewriter
from .regions import with_bodies

Number = float | int | bool


@dataclass(frozen=True)
class Simplify:
    """One sweep in execution order, so that a rule finds its operands simplified already. `strict`: no product is
    turned round, since its kernel may add up in another order then."""

    strict: bool = False
    name: ClassVar[str] = "simplify"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        builder = Simplifier(graph, self.strict)
        for node in graph.nodes:
            builder.location = node.location
            simpler = None
            if len(node.outputs) == 1 and not node.regions:
                inputs = builder.mapped(node.inputs)
                simpler = builder.simpler(Call(node.op, inputs, node.attrs, node.outputs[0].type))
            if simpler is None:
                builder.keep(node)
            else:
                builder.substitute(node, (simpler,))
        return builder.done()


@dataclass(frozen=True)
class Call:
    """One application of an op: what a rule looks at. `type` is the result's."""

    op: Op
    inputs: tuple[Value, ...]
    attrs: Mapping[str, Any]
    type: TensorType


class Simplifier(Rewriter):
    """A builder that simplifies what it builds, and answers the questions that rules ask."""

    def __init__(self, graph: Graph, strict: bool = False):
        super().__init__(graph)
        self.strict = strict
        self._uses = Counter(v for node in graph.nodes for v in dict.fromkeys(node.inputs))
        self._uses.update(graph.outputs)

    def is_used_once(self, value: Value) -> bool:
        """Does the graph, as it was given, read the value in one place only?"""
        return self._uses[value] == 1

    def simpler(self, call: Call) -> Value | None:
        """A value to stand for the call, of the same type; None if no rule applies."""
        rules = RULES.get(call.op.name, ())
        if call.op.lowering == "pointwise":
            rules = (*rules, broadcast_operands)
        for rule in rules:
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


Rule = Callable[[Simplifier, Call], Value | None]


# Pointwise arithmetic


def _neutral(op: str, dtype: DType) -> tuple[Number | None, Number | None]:
    """The numbers that leave the other operand as it is, on the left and on the right."""
    real = dtype.is_floating_point or dtype.is_complex
    match op:
        case "add":  # x + 0 makes +0 of -0; x + -0 is x
            return (-0.0, -0.0) if real else (0, 0)
        case "sub":
            return (None, 0.0) if real else (None, 0)
        case "mul":
            return (1, 1)
        case "div" | "pow":
            return (None, 1)
        case "floor_divide":  # rounds a float
            return (None, None) if real else (None, 1)
        case "maximum" if dtype.is_floating_point:
            return (-math.inf, -math.inf)
        case "minimum" if dtype.is_floating_point:
            return (math.inf, math.inf)
        case "logical_and" | "bitwise_and" if dtype.kind == "bool":
            return (True, True)
        case "logical_or" | "bitwise_or" | "logical_xor" | "bitwise_xor" if dtype.kind == "bool":
            return (False, False)
        case "bitwise_or" | "bitwise_xor":
            return (0, 0)
    return (None, None)


def neutral_element(s: Simplifier, call: Call) -> Value | None:
    left, right = call.inputs
    if call.type.dtype is not left.type.dtype:
        return None
    on_left, on_right = _neutral(call.op.name, left.type.dtype)
    if on_right is not None and s.is_filled(right, on_right):
        return left
    if on_left is not None and s.is_filled(left, on_left):
        return right
    return None


def absorbing_element(s: Simplifier, call: Call) -> Value | None:
    dtype = call.type.dtype
    if dtype.is_floating_point or dtype.is_complex or dtype is not call.inputs[0].type.dtype:
        return None
    absorbing: Number = 0
    if call.op.name == "logical_or":
        absorbing = True
    for value in call.inputs:
        if s.is_filled(value, absorbing) and (call.op.name in ("mul", "bitwise_and") or dtype.kind == "bool"):
            return value
    return None


def same_operands(s: Simplifier, call: Call) -> Value | None:
    """maximum(x, x), minimum(x, x), and the bitwise and and or of a value with itself."""
    left, right = call.inputs
    return left if left is right and call.type.dtype is left.type.dtype else None


def involution(s: Simplifier, call: Call) -> Value | None:
    """neg(neg(x)), not(not(x)) on bools."""
    inner = s.made_by(call.inputs[0], call.op.name)
    if inner is None or inner.inputs[0].type.dtype is not call.type.dtype:
        return None
    return inner.inputs[0]


def abs_of_sign_change(s: Simplifier, call: Call) -> Value | None:
    inner = s.made_by(call.inputs[0], "neg") or s.made_by(call.inputs[0], "abs")
    if inner is None or call.type.dtype.is_complex:
        return None
    result: Value = s.abs(inner.inputs[0])
    return result


def negated_operand(s: Simplifier, call: Call) -> Value | None:
    """x + (-y) is x - y, and x - (-y) is x + y."""
    left, right = call.inputs
    result: Value | None = None
    if (inner := s.made_by(right, "neg")) is not None:
        other = s.sub if call.op.name == "add" else s.add
        result = other(left, inner.inputs[0])
    elif call.op.name == "add" and (inner := s.made_by(left, "neg")) is not None:
        result = s.sub(right, inner.inputs[0])
    return result


def times_minus_one(s: Simplifier, call: Call) -> Value | None:
    left, right = call.inputs
    dtype = call.type.dtype
    if not (dtype.is_floating_point or dtype.kind == "int"):
        return None
    result: Value | None = None
    if s.is_filled(right, -1):
        result = s.neg(left)
    elif s.is_filled(left, -1):
        result = s.neg(right)
    return result


def divided_by_power_of_two(s: Simplifier, call: Call) -> Value | None:
    """x / c is x * (1/c) where 1/c is exact: the same real number, rounded once. A division costs four
    multiplications or more on every target."""
    left, right = call.inputs
    number = s.filled_with(right)
    dtype = call.type.dtype
    if number is None or number == 1 or not dtype.is_floating_point or left.type.dtype is not dtype:
        return None
    c = float(number)
    info = ml_dtypes.finfo(dtype.numpy)
    smallest, largest = float(info.smallest_normal), float(info.max)
    if (
        not (smallest <= abs(c) <= largest and smallest <= 1 / abs(c) <= largest)
        or abs(math.frexp(c)[0]) != 0.5
    ):
        return None
    result: Value = s.mul(left, s.constant(1 / c, dtype))
    return result


def square(s: Simplifier, call: Call) -> Value | None:
    """pow(x, 2) is x * x, as PyTorch computes it."""
    if not s.is_filled(call.inputs[1], 2):
        return None
    result: Value = s.mul(call.inputs[0], call.inputs[0])
    return result


def broadcast_operands(s: Simplifier, call: Call) -> Value | None:
    """A pointwise op broadcasts by itself: an `expand` before it, or a `full` of more than one element, is
    not needed where another operand has the result's shape."""
    inputs = list(call.inputs)
    for i, value in enumerate(inputs):
        node = s.producer(value)
        if node is None:
            continue
        replacement = None
        if node.op.name == "expand":
            replacement = node.inputs[0]
        elif node.op.name == "full" and value.type.rank:
            replacement = s.constant(node.attrs["value"], value.type.dtype)
        if replacement is None:
            continue
        shorter = [*inputs[:i], replacement, *inputs[i + 1 :]]
        if call.op.infer_types([v.type for v in shorter], call.attrs) == (call.type,):
            inputs = shorter
    if inputs == list(call.inputs):
        return None
    result: Value = s.apply(call.op, inputs, call.attrs)
    return result


# Conversions


def convert_twice(s: Simplifier, call: Call) -> Value | None:
    """To the dtype it has already; or by way of a dtype that holds every value of the first."""
    (value,) = call.inputs
    dtype: DType = call.attrs["dtype"]
    if value.type.dtype is dtype:
        return value
    inner = s.made_by(value, "convert")
    if inner is None or not holds_every(value.type.dtype, inner.inputs[0].type.dtype):
        return None
    result: Value = s.convert(inner.inputs[0], dtype=dtype)
    return result


def holds_every(wide: DType, narrow: DType) -> bool:
    """Is every value of `narrow` a value of `wide`?"""
    if wide is narrow or narrow.kind == "bool":
        return True
    if wide.is_floating_point:
        digits = ml_dtypes.finfo(wide.numpy).nmant + 1
        if narrow.is_floating_point:
            mine, theirs = ml_dtypes.finfo(wide.numpy), ml_dtypes.finfo(narrow.numpy)
            return bool(
                mine.nmant >= theirs.nmant and mine.maxexp >= theirs.maxexp and mine.minexp <= theirs.minexp
            )
        return narrow.is_integral and digits >= 8 * narrow.itemsize and wide.itemsize > 2
    if wide.kind == "int":
        return narrow.is_integral and wide.itemsize > narrow.itemsize
    return wide.kind == "uint" and narrow.kind == "uint" and wide.itemsize > narrow.itemsize


# Choices


def where_decided(s: Simplifier, call: Call) -> Value | None:
    """The same on both sides, or a condition that is known."""
    condition, a, b = call.inputs
    if a is b:
        return a
    known = s.filled_with(condition)
    return None if known is None else a if known else b


def where_negated(s: Simplifier, call: Call) -> Value | None:
    condition, a, b = call.inputs
    inner = s.made_by(condition, "logical_not")
    if inner is None or inner.inputs[0].type.dtype.kind != "bool":
        return None
    result: Value = s.where(inner.inputs[0], b, a)
    return result


def where_within(s: Simplifier, call: Call) -> Value | None:
    """where(c, where(c, a, _), b) is where(c, a, b), and so on the other side."""
    condition, a, b = call.inputs
    inner_a, inner_b = s.made_by(a, "where"), s.made_by(b, "where")
    if inner_a is not None and inner_a.inputs[0] is condition:
        a = inner_a.inputs[1]
    if inner_b is not None and inner_b.inputs[0] is condition:
        b = inner_b.inputs[2]
    if (a, b) == call.inputs[1:]:
        return None
    result: Value = s.where(condition, a, b)
    return result


# Constants and contractions


def number_of_the_dtype(s: Simplifier, call: Call) -> Value | None:
    """A fill's number is written as its dtype has it, so that fills of 0 and of 0.0 are one common
    subexpression."""
    number, dtype = call.attrs["value"], call.type.dtype
    kind: type = {"float": float, "int": int, "uint": int, "bool": bool}.get(dtype.kind, type(number))
    if type(number) is kind or (isinstance(number, float) and not math.isfinite(number)):
        return None
    same = kind(number)
    if same != number:  # a large int that no float is, or a float with a fraction: the op rounds it
        return None
    result: Value = s.full(**{**call.attrs, "value": same})
    return result


def transposed_product(s: Simplifier, call: Call) -> Value | None:
    """(A B)^T is B^T A^T: the same products added in the same order. A linear layer's weight gradient comes
    out transposed; so it is made the way round it is wanted, and what follows can be fused to the
    product."""
    inner = s.made_by(call.inputs[0], "matmul")
    rank = call.type.rank
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if s.strict or inner is None or call.attrs["dims"] != swapped or not s.is_used_once(call.inputs[0]):
        return None
    a, b = inner.inputs
    if a.type.rank != rank or b.type.rank != rank:
        return None
    here, s.location = s.location, inner.location
    result: Value = s.matmul(s.permute(b, dims=swapped), s.permute(a, dims=swapped))
    s.location = here
    return result


# Views


def view_of_nothing(s: Simplifier, call: Call) -> Value | None:
    """A view that changes nothing."""
    value, attrs = call.inputs[0], call.attrs
    if value.type != call.type:
        return None
    rank = value.type.rank
    match call.op.name:
        case "reshape" | "expand":
            return value
        case "permute":
            return value if _axes(attrs["dims"], rank) == tuple(range(rank)) else None
        case "slice":
            return value if set(attrs["steps"]) <= {1} else None
        case "flip":
            turned = _axes(attrs["dims"], rank)
            return value if all(value.type.shape[d] == 1 for d in turned) else None
        case "pad":
            return value if set(attrs["low"]) | set(attrs["high"]) <= {0} else None
        case "concat":
            return value if len(call.inputs) == 1 else None
    return None


def _axes(given: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(d % rank for d in given)


def same_view_twice(s: Simplifier, call: Call) -> Value | None:
    """Two views of one kind are one."""
    name = call.op.name
    inner = s.made_by(call.inputs[0], name)
    if inner is None:
        return None
    source = inner.inputs[0]
    result: Value | None = None
    match name:
        case "reshape" | "expand":
            result = s.apply(call.op, (source,), call.attrs)
        case "permute":
            rank = source.type.rank
            first, second = _axes(inner.attrs["dims"], rank), _axes(call.attrs["dims"], rank)
            result = s.permute(source, dims=tuple(first[d] for d in second))
        case "flip":
            rank = source.type.rank
            turned = set(_axes(inner.attrs["dims"], rank)) ^ set(_axes(call.attrs["dims"], rank))
            result = s.flip(source, dims=tuple(sorted(turned))) if turned else source
        case "slice" if set(inner.attrs["steps"]) <= {1} and _from_the_front(call) and _from_the_front(inner):
            starts = tuple(a + b for a, b in zip(inner.attrs["starts"], call.attrs["starts"]))
            stops = tuple(a + b for a, b in zip(inner.attrs["starts"], call.attrs["stops"]))
            result = s.slice(source, starts=starts, stops=stops, steps=call.attrs["steps"])
    return result


def slice_of_concat(s: Simplifier, call: Call) -> Value | None:
    """Elements of one of the joined parts are read from that part (the steps of an unrolled recurrent layer)."""
    joined = s.made_by(call.inputs[0], "concat")
    if joined is None or not _from_the_front(call):
        return None
    dim = joined.attrs["dim"] % call.type.rank
    starts, stops = call.attrs["starts"], call.attrs["stops"]
    before: DimLike = 0
    for part in joined.inputs:
        after = before + part.type.shape[dim]
        if bounds(starts[dim] - before)[0] >= 0 and bounds(after - stops[dim])[0] >= 0:
            return s.slice(
                part,
                starts=(*starts[:dim], starts[dim] - before, *starts[dim + 1 :]),
                stops=(*stops[:dim], stops[dim] - before, *stops[dim + 1 :]),
                steps=call.attrs["steps"],
            )
        before = after
    return None


def concat_of_slices(s: Simplifier, call: Call) -> Value | None:
    """Slices of one value that adjoin along the dim are one slice (the steps of a loop, stacked)."""
    dim = call.attrs["dim"] % call.type.rank
    slices = [s.made_by(v, "slice") for v in call.inputs]
    first, last = slices[0], slices[-1]
    if first is None or last is None or len(slices) < 2:
        return None
    end = first.attrs["starts"][dim]
    for part in slices:
        if part is None or part.inputs[0] is not first.inputs[0] or not _from_the_front(part):
            return None
        starts, stops, steps = (part.attrs[name] for name in ("starts", "stops", "steps"))
        same = all(
            part.attrs[name][:dim] == first.attrs[name][:dim]
            and part.attrs[name][dim + 1 :] == first.attrs[name][dim + 1 :]
            for name in ("starts", "stops", "steps")
        )
        if not same or starts[dim] != end or steps[dim] != 1:
            return None
        end = stops[dim]
    stops = (*first.attrs["stops"][:dim], end, *first.attrs["stops"][dim + 1 :])
    found: Value = s.slice(
        first.inputs[0], starts=first.attrs["starts"], stops=stops, steps=first.attrs["steps"]
    )
    return found


def _from_the_front(call: Call | Node) -> bool:
    bounds = (*call.attrs["starts"], *call.attrs["stops"], *call.attrs["steps"])
    return all(isinstance(b, Expr) or b >= 0 for b in bounds)


def whole_update(s: Simplifier, call: Call) -> Value | None:
    """update_slice that replaces every element."""
    base, new = call.inputs
    return new if new.type == base.type and set(call.attrs["steps"]) <= {1} else None


def detached(s: Simplifier, call: Call) -> Value | None:
    return call.inputs[0]


RULES: dict[str, tuple[Rule, ...]] = {
    "add": (neutral_element, negated_operand),
    "sub": (neutral_element, negated_operand),
    "mul": (neutral_element, absorbing_element, times_minus_one),
    "div": (neutral_element, divided_by_power_of_two),
    "floor_divide": (neutral_element,),
    "pow": (neutral_element, square),
    "neg": (involution,),
    "abs": (abs_of_sign_change,),
    "maximum": (same_operands, neutral_element),
    "minimum": (same_operands, neutral_element),
    "logical_not": (involution,),
    "bitwise_not": (involution,),
    "logical_and": (neutral_element, absorbing_element),
    "logical_or": (neutral_element, absorbing_element),
    "logical_xor": (neutral_element,),
    "bitwise_and": (same_operands, neutral_element, absorbing_element),
    "bitwise_or": (same_operands, neutral_element),
    "bitwise_xor": (neutral_element,),
    "convert": (convert_twice,),
    "where": (where_decided, where_negated, where_within),
    "full": (number_of_the_dtype,),
    "reshape": (view_of_nothing, same_view_twice),
    "permute": (view_of_nothing, same_view_twice, transposed_product),
    "expand": (view_of_nothing, same_view_twice),
    "slice": (view_of_nothing, same_view_twice, slice_of_concat),
    "flip": (view_of_nothing, same_view_twice),
    "pad": (view_of_nothing,),
    "concat": (view_of_nothing, concat_of_slices),
    "update_slice": (whole_update,),
    "detach": (detached,),
}
