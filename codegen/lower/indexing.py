"""From graph values to scalar expressions: what is element `index` of a value inside a group's body?

`BodyEvaluator.at` walks the body backwards from a value: through pointwise ops by their scalar rules, through views by
their index maps, down to leaves (the group's inputs, read from buffers) and to values that the surrounding lowering
already holds (`held`: the accumulator of a contraction, the result of a reduction).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...ir.dims import DimLike
from ...ir.graph import Graph, IRError, Node, Value
from ..loops.nodes import Apply, Buffer, Const, Expr, Index, Load
from ..scalar import SCALAR

IndexTuple = tuple[DimLike, ...]


def broadcast_index(index: IndexTuple, shape: tuple[DimLike, ...]) -> IndexTuple:
    """Where element `index` of a broadcast result comes from in an operand of shape `shape`."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else i for i, size in zip(tail, shape))


class BodyEvaluator:
    """Elements of a body's values as loop IR expressions. One instance per loop scope: results are shared by identity."""

    def __init__(
        self,
        body: Graph,
        buffers: Mapping[Value, Buffer],
        held: Mapping[Value, Callable[[IndexTuple], Expr]] | None = None,
    ):
        self.producers = body.producers()
        self.buffers = buffers
        self.held = dict(held or {})
        self._memo: dict[tuple[Value, IndexTuple], Expr] = {}

    def at(self, value: Value, index: IndexTuple) -> Expr:
        """The element as an expression; IRError for an op that has no element-wise meaning."""
        key = (value, index)
        if key not in self._memo:
            self._memo[key] = self._evaluate(value, index)
        return self._memo[key]

    def _evaluate(self, value: Value, index: IndexTuple) -> Expr:
        if value in self.held:
            return self.held[value](index)
        if value in self.buffers:
            return Load(self.buffers[value], index)
        node = self.producers.get(value)
        if node is None:
            raise IRError(f"%{value.name} has neither a buffer nor a producer in this group")
        match node.op.lowering:
            case "pointwise":
                args = [self.at(v, broadcast_index(index, v.type.shape)) for v in node.inputs]
                assert node.op.scalar is not None
                return node.op.scalar(SCALAR, *args, **node.attrs)
            case "view":
                return self._view(node, value, index)
            case "constant":
                if node.op.name == "iota":
                    element = Index(index[node.attrs["dim"]])
                    return SCALAR.cast(element, value.type.dtype)
                return Const(node.attrs["value"], value.type.dtype)
        raise IRError(f"{node}: op {node.op.name!r} has no element-wise lowering")

    def _view(self, node: Node, value: Value, index: IndexTuple) -> Expr:
        """A view's `index_map` gives one `(operand number, operand index, guard)` per operand it may read, the guard a
        list of `(low, index, high)` half-open ranges that must hold, None for always; the last entry may be a number,
        the value where no guard holds (padding)."""
        assert node.op.index_map is not None
        cases = node.op.index_map([v.type for v in node.inputs], value.type, index, **node.attrs)
        *guarded, last = cases
        result: Expr
        if isinstance(last, int | float | bool):
            result = Const(last, value.type.dtype)
        else:
            operand, where, guard = last
            if guard:
                raise IRError(f"{node}: the last case of an index map must hold always")
            result = self.at(node.inputs[operand], where)
        for operand, where, guard in reversed(guarded):
            condition: Expr | None = None
            for low, i, high in guard:
                for test in (_compare("ge", i, low), _compare("lt", i, high)):
                    condition = test if condition is None else SCALAR.and_(condition, test)
            inside = self.at(node.inputs[operand], where)
            result = inside if condition is None else SCALAR.select(condition, inside, result)
        return result


def _compare(op: str, left: DimLike, right: DimLike) -> Expr:
    return SCALAR._apply(op, Index(left), Index(right))


__all__ = ["Apply", "BodyEvaluator", "IndexTuple", "broadcast_index"]
