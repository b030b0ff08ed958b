"""Attention that was written out, found: matmul, scale, masks, softmax, dropout, matmul; and its gradients.

    scores = matmul(q, kt) * scale        weights = softmax(where(seen, scores, -inf) + mask)
    out = matmul(dropout(weights), v)

becomes `attention(q, k, v, mask, state)`, if nothing else reads the weights. In a graph that holds the backward as well,
what the gradient rules of these ops make of a cotangent of `out` reads them too; if that is all, it becomes
`attention_grad`. Where the weights are wanted, everything stays as it is.

Of sixteen-bit numbers, written out or under autocast, conversions to float32 and back stand between these ops. The
kernel computes in float32 throughout, so they are looked through; only what is multiplied stays of its dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..ir import dtypes
from ..ir.graph import Graph, Node, Value
from ..ir.half_precision import HALF
from .attention import kernel_takes
from .base import Rewriter
from .dce import DeadCodeElimination
from .regions import with_bodies


@dataclass(frozen=True)
class FindAttention:
    """See above; only what the kernel takes."""

    name: ClassVar[str] = "find_attention"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        matcher = _Matcher(graph)
        matches = [found for node in graph.nodes if (found := matcher.match(node)) is not None]
        return DeadCodeElimination().run(_rewritten(graph, matches)) if matches else graph


@dataclass
class _Mask:
    """`look`: whether `value` says where to look, or where not; None for one that is added."""

    value: Value
    look: bool | None


@dataclass
class _Match:
    q: Value
    turned_key: Value
    v: Value
    out: Node
    scale: float
    masks: list[_Mask]
    state: Value | None
    dropped: dict[str, Any]
    # The gradient: the cotangent of the result, and the nodes that give those of q, key, turned key, and v.
    dy: Value | None = None
    dq: list[Node] = field(default_factory=list)
    dk: list[Node] = field(default_factory=list)
    d_turned_key: list[Node] = field(default_factory=list)
    dv: list[Node] = field(default_factory=list)


class _Matcher:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.producer = graph.producers()
        # Of values without their conversions: what reads them, and which are results.
        self.readers: dict[Value, list[Node]] = {}
        for node in graph.nodes:
            if not _rounds(node):
                for value in dict.fromkeys(self.inputs(node)):
                    self.readers.setdefault(value, []).append(node)
        self.returned = {self.bare(value) for value in graph.outputs}

    # What a value is

    def bare(self, value: Value) -> Value:
        """The value before conversions between sixteen bits and float32."""
        node = self.producer.get(value)
        while node is not None and _rounds(node):
            value = node.inputs[0]
            node = self.producer.get(value)
        return value

    def inputs(self, node: Node) -> tuple[Value, ...]:
        return tuple(map(self.bare, node.inputs))

    def made_by(self, value: Value, op: str) -> Node | None:
        node = self.producer.get(self.bare(value))
        return node if node is not None and node.op.name == op else None

    def number(self, value: Value) -> float | None:
        """The constant that the value is everywhere."""
        node = self.producer.get(value)
        while node is not None and node.op.name in ("reshape", "expand", "convert"):
            node = self.producer.get(node.inputs[0])
        if node is None or node.op.name != "full" or isinstance(node.attrs["value"], complex):
            return None
        found = float(node.attrs["value"])
        dtype = node.attrs["dtype"]
        return float(dtype.numpy.type(found)) if dtype in HALF else found

    def turned(self, value: Value) -> Value | None:
        """What the value is with its last two dims exchanged."""
        node = self.made_by(value, "permute")
        rank = value.type.rank
        if node is None or node.attrs["dims"] != (*range(rank - 2), rank - 1, rank - 2):
            return None
        return self.bare(node.inputs[0])

    def are_turned(self, a: Value, b: Value) -> bool:
        return self.turned(a) is self.bare(b) or self.turned(b) is self.bare(a)

    def scaled(self, value: Value) -> tuple[Value, float] | None:
        """x and c, where the value is x times the constant c."""
        node = self.made_by(value, "mul")
        if node is not None:
            for x, c in (node.inputs, node.inputs[::-1]):
                number = self.number(c)
                if number is not None and x.type.shape == value.type.shape:
                    return self.bare(x), number
        node = self.made_by(value, "div")
        if node is not None and node.inputs[0].type.shape == value.type.shape:
            number = self.number(node.inputs[1])
            if number:
                return self.bare(node.inputs[0]), 1.0 / number
        return None

    def hidden(self, value: Value, by: float) -> tuple[Value, Value, bool] | None:
        """x, the condition, and whether it says where x stays, where the value is x or else the constant."""
        node = self.made_by(value, "where")
        if node is None:
            return None
        condition, yes, no = node.inputs
        for x, other, look in ((yes, no, True), (no, yes, False)):
            if self.number(other) == by and x.type.shape == value.type.shape:
                return self.bare(x), condition, look
        return None

    # Forward

    def match(self, out: Node) -> _Match | None:
        if out.op.name != "matmul":
            return None
        used, v = self.bare(out.inputs[0]), out.inputs[1]
        state, dropped = None, {}
        dropout = self.made_by(used, "dropout")
        weights = used
        if dropout is not None:
            weights, state = self.inputs(dropout)
            dropped = dict(dropout.attrs)
        softmax = self.made_by(weights, "softmax")
        if softmax is None or softmax.attrs["dim"] != weights.type.rank - 1:
            return None
        value, masks = self.bare(softmax.inputs[0]), []
        while (step := self._mask(value)) is not None:
            value, mask = step
            masks.append(mask)
        scale = 1.0
        if (found := self.scaled(value)) is not None:
            value, scale = found
        product = self.made_by(value, "matmul")
        if product is None:
            return None
        q, turned_key = product.inputs
        match = _Match(q, turned_key, v, out, scale, masks, state, dropped)
        if not _fits(match) or not self._gradient(match, weights, used):
            return None
        return match

    def _mask(self, value: Value) -> tuple[Value, _Mask] | None:
        found = self.hidden(value, -math.inf)
        if found is not None:
            x, condition, look = found
            return x, _Mask(condition, look)
        node = self.made_by(value, "add")
        if node is not None:
            for x, mask in (node.inputs, node.inputs[::-1]):
                if x.type.shape == value.type.shape and self._is_scores(x):
                    return self.bare(x), _Mask(mask, None)
        return None

    def _is_scores(self, value: Value) -> bool:
        """Whether masks and scales lead from the value to a matmul."""
        node = self.producer.get(self.bare(value))
        while node is not None and node.op.name in ("mul", "div", "where", "add"):
            shape = value.type.shape
            value = max(node.inputs, key=lambda x: x.type.shape == shape and self.number(x) is None)
            node = self.producer.get(self.bare(value))
        return node is not None and node.op.name == "matmul"

    # Backward

    def _gradient(self, match: _Match, weights: Value, used: Value) -> bool:
        """Finds the gradient, if there is one. Whether nothing else reads the weights."""
        if weights in self.returned or used in self.returned:
            return False
        forward = {match.out, self.producer[used]}
        others = [n for n in self.readers[weights] if n not in forward]
        if used is not weights:
            others += [n for n in self.readers[used] if n not in forward]
        if not others:
            return True
        known = {n for n in others if n.op.name == "permute" and self.turned(n.outputs[0]) is used}
        turned_used = {n.outputs[0] for n in known}
        changed = next((n for n in others if n.op.name == "mul" and self._is_change(n, weights)), None)
        if changed is None:
            return self._only_value_gradient(match, others, known, turned_used)
        factors = self.inputs(changed)
        inner = factors[1] if factors[0] is weights else factors[0]
        d_weights, total = self.inputs(self.producer[inner])
        total_of = self.producer[self.inputs(self.producer[total])[0]]
        known |= {changed, total_of}
        d_used = d_weights
        if match.state is not None:
            dropout = self.made_by(d_weights, "dropout")
            if (
                dropout is None
                or dropout.inputs[1] is not match.state
                or dict(dropout.attrs) != match.dropped
            ):
                return False
            d_used = self.bare(dropout.inputs[0])
        product = self.made_by(d_used, "matmul")
        if product is None or not self.are_turned(product.inputs[1], match.v) or set(others) != known:
            return False
        match.dy = product.inputs[0]
        if match.dy.type != match.out.outputs[0].type:
            return False
        d_scores = self._through_masks(match, changed.outputs[0])
        if d_scores is None:
            return False
        query = self.bare(match.q)
        for node in self.readers.get(d_scores, ()):
            if node.op.name == "permute" and self.turned(node.outputs[0]) is d_scores:
                products = self.readers.get(node.outputs[0], [])
                if node.outputs[0] in self.returned or not all(
                    n.op.name == "matmul" and self.inputs(n)[1] is query for n in products
                ):
                    return False
                match.dk += products
                continue
            if node.op.name != "matmul":
                return False
            left, right = self.inputs(node)
            if left is d_scores and self.are_turned(right, match.turned_key):
                match.dq.append(node)
            elif right is d_scores and self.are_turned(left, query):
                match.d_turned_key.append(node)
            else:
                return False
        return self._value_gradient(match, turned_used)

    def _is_change(self, node: Node, weights: Value) -> bool:
        """weights * (d - sum(d * weights)), for some d."""
        for y, inner in (self.inputs(node), self.inputs(node)[::-1]):
            difference = self.made_by(inner, "sub")
            if y is not weights or difference is None:
                continue
            d, total = self.inputs(difference)
            added = self.made_by(total, "sum")
            if added is None or added.attrs["dims"] != (weights.type.rank - 1,) or not added.attrs["keepdim"]:
                continue
            product = self.made_by(added.inputs[0], "mul")
            if product is not None and set(self.inputs(product)) == {d, weights}:
                return True
        return False

    def _through_masks(self, match: _Match, value: Value) -> Value | None:
        """The gradient of the product of q and key, from that of what the softmax is of."""
        for mask in match.masks:
            if mask.look is None:
                continue
            readers = self.readers.get(value, [])
            found = self.hidden(readers[0].outputs[0], 0.0) if len(readers) == 1 else None
            if found is None or found != (value, mask.value, mask.look):
                return None
            value = readers[0].outputs[0]
        if match.scale != 1.0:
            readers = self.readers.get(value, [])
            scaled = self.scaled(readers[0].outputs[0]) if len(readers) == 1 else None
            if (
                scaled is None
                or scaled[0] is not value
                or not math.isclose(scaled[1], match.scale, rel_tol=1e-6)
            ):
                return None
            value = readers[0].outputs[0]
        return None if value in self.returned else value

    def _value_gradient(self, match: _Match, turned_used: set[Value]) -> bool:
        assert match.dy is not None
        dy = self.bare(match.dy)
        for value in turned_used:
            for node in self.readers.get(value, ()):
                if node.op.name != "matmul" or self.inputs(node)[1] is not dy:
                    return False
                match.dv.append(node)
        return not turned_used & self.returned

    def _only_value_gradient(
        self, match: _Match, others: Sequence[Node], known: set[Node], turned_used: set[Value]
    ) -> bool:
        """Where neither q nor key wants a gradient."""
        readers = [n for value in turned_used for n in self.readers.get(value, ())]
        if set(others) != known or not readers or readers[0].op.name != "matmul":
            return False
        match.dy = readers[0].inputs[1]
        return match.dy.type == match.out.outputs[0].type and self._value_gradient(match, turned_used)


def _rounds(node: Node) -> bool:
    """A conversion from sixteen bits to float32, or back."""
    if node.op.name != "convert":
        return False
    found = node.inputs[0].type.dtype, node.attrs["dtype"]
    return any(x in HALF and y is dtypes.f32 for x, y in (found, found[::-1]))


def _fits(match: _Match) -> bool:
    q, turned_key, v = match.q.type, match.turned_key.type, match.v.type
    if not q.rank == turned_key.rank == v.rank or q.rank < 3:
        return False
    if (
        not q.shape[:-2] == turned_key.shape[:-2] == v.shape[:-2]
        or not q.dtype is turned_key.dtype is v.dtype
    ):
        return False
    key = q.with_shape((*turned_key.shape[:-2], turned_key.shape[-1], turned_key.shape[-2]))
    scores = (*q.shape[:-1], key.shape[-2])
    fitting = all(m.value.type.rank <= len(scores) for m in match.masks)
    dtypes_added = (q.dtype, dtypes.f32) if q.dtype in HALF else (q.dtype,)
    added = all(m.look is not None or m.value.type.dtype in dtypes_added for m in match.masks)
    return fitting and added and kernel_takes(q, key, v)


def _rewritten(graph: Graph, matches: Sequence[_Match]) -> Graph:
    builder = Rewriter(graph)
    forward = {match.out: match for match in matches}
    backward = {n: m for m in matches for n in (*m.dq, *m.dk, *m.d_turned_key, *m.dv)}
    operands: dict[int, tuple[list[Value], dict[str, Any], Value, Value]] = {}
    gradients: dict[int, tuple[Value, ...]] = {}
    for node in graph.nodes:
        builder.location = node.location
        match = forward.get(node)
        if match is not None:
            given, attrs = _operands(builder, match)
            out, log_sum = builder.attention(*given, **attrs)
            operands[id(match)] = given, attrs, out, log_sum
            builder.substitute(node, (out,))
            continue
        match = backward.get(node)
        if match is None:
            builder.keep(node)
            continue
        if id(match) not in gradients:
            gradients[id(match)] = _gradients(builder, match, *operands[id(match)])
        dq, dk, dv = gradients[id(match)]
        if node in match.d_turned_key:
            builder.substitute(node, (_turn(builder, dk),))
        else:
            builder.substitute(node, (dq if node in match.dq else dk if node in match.dk else dv,))
    return builder.done()


def _operands(builder: Rewriter, match: _Match) -> tuple[list[Value], dict[str, Any]]:
    q, turned_key, v = builder.mapped((match.q, match.turned_key, match.v))
    given = [q, _turn(builder, turned_key), v]
    mask: Value | None = None
    for found in match.masks:
        (value,) = builder.mapped((found.value,))
        if found.look is False:
            value = builder.logical_not(value)
        mask = value if mask is None else _both(builder, mask, value)
    if mask is not None:
        given.append(mask)
    if match.state is not None:
        given += builder.mapped((match.state,))
    return given, {"scale": match.scale, **match.dropped}


def _both(builder: Rewriter, a: Value, b: Value) -> Value:
    """One mask that hides what either hides."""
    kinds = [x.type.dtype is dtypes.bool_ for x in (a, b)]
    if all(kinds):
        return builder.logical_and(a, b)
    if not any(kinds):
        wide = a.type.dtype if a.type.dtype is b.type.dtype else dtypes.f32
        return builder.add(*(x if x.type.dtype is wide else builder.convert(x, dtype=wide) for x in (a, b)))
    look, added = (a, b) if kinds[0] else (b, a)
    return builder.where(look, added, builder.constant(-math.inf, added.type.dtype))


def _gradients(
    builder: Rewriter, match: _Match, given: list[Value], attrs: dict[str, Any], out: Value, log_sum: Value
) -> tuple[Value, ...]:
    assert match.dy is not None
    (dy,) = builder.mapped((match.dy,))
    product = [x if x.type.dtype not in HALF else builder.convert(x, dtype=dtypes.f32) for x in (dy, out)]
    delta = builder.sum(builder.mul(*product), dims=(dy.type.rank - 1,), keepdim=False)
    q, k, v, *others = given
    found: tuple[Value, ...] = builder.attention_grad(dy, q, k, v, log_sum, delta, *others, **attrs)
    return found


def _turn(builder: Rewriter, value: Value) -> Value:
    rank = value.type.rank
    found: Value = builder.permute(value, dims=(*range(rank - 2), rank - 1, rank - 2))
    return found
