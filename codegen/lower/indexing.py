"""From graph values to scalar expressions: what is element `index` of a value inside a group's body?

`BodyEvaluator.at` walks the body backwards from a value: through pointwise ops by their scalar rules,
through views by their index maps, down to leaves (the group's inputs, read from buffers) and to values that
the surrounding lowering already holds (`held`: the accumulator of a contraction, the result of a
reduction).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, IRError, Node, Value
from ..loops.nodes import Buffer, Const, Expr, Index, Load
from ..scalar import SCALAR

IndexTuple = tuple[DimLike, ...]
Guard = tuple[DimLike, DimLike, DimLike]  # low <= index < high, as (low, index, high)
Held = Callable[[IndexTuple], Expr]
Loads = dict[tuple[Buffer, DimLike], Load]


def broadcast_index(index: IndexTuple, shape: tuple[DimLike, ...]) -> IndexTuple:
    """Where element `index` of a broadcast result comes from in an operand of shape `shape`."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else i for i, size in zip(tail, shape))


def constant(value: float | int | bool, dtype: DType) -> Const:
    """A constant whose Python type is the dtype's, so that its text is the same however it was written."""
    convert = {"bool": bool, "float": float}.get(dtype.kind, int)
    return Const(convert(value), dtype)


def number(value: DimLike, dtype: DType) -> Expr:
    """An index as a number of this dtype."""
    return constant(value, dtype) if isinstance(value, int) else SCALAR.cast(Index(value), dtype)


class BodyEvaluator:
    """Elements of a body's values as loop IR expressions. One instance per loop scope: results are shared by
    identity.

    `flatten`, where given, maps a buffer to its one-dimensional view, and leaves are read at linear
    offsets, in which the divisions of a reshape cancel. `extents` gives the range of loop variables, `0 <=
    name < extent`: guards of index maps that it decides vanish. The others are collected in `undecided`,
    and the element becomes a select on indices, in whose arms loads happen only where the condition holds.
    Evaluators with one `loads` share the loads of one element.
    """

    def __init__(
        self,
        body: Graph,
        buffers: Mapping[Value, Buffer],
        held: Mapping[Value, Held] | None = None,
        flatten: Callable[[Buffer], Buffer] | None = None,
        extents: Mapping[str, DimLike] | None = None,
        loads: Loads | None = None,
    ):
        self.producers = body.producers()
        self.buffers = buffers
        self.held = dict(held or {})
        self.flatten = flatten
        self.extents = dict(extents or {})
        self.undecided: list[Guard] = []
        self._loads = {} if loads is None else loads
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
        node = self.producers.get(value)
        if node is None:
            if value not in self.buffers:
                raise IRError(f"%{value.name} has neither a buffer nor a producer in this group")
            return self._load(self.buffers[value], value.type.shape, index)
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
                return constant(node.attrs["value"], value.type.dtype)
        raise IRError(f"{node}: op {node.op.name!r} has no element-wise lowering")

    def _load(self, buffer: Buffer, shape: tuple[DimLike, ...], index: IndexTuple) -> Expr:
        """The element at `index` of the buffer seen as `shape`."""
        if self.flatten is None:
            return Load(buffer, index)
        if buffer.numel == 0:
            return constant(0, buffer.dtype)  # there is nothing to read: the guard around this is false
        offset: DimLike = 0
        for size, i in zip(shape, index, strict=True):
            offset = offset * size + i
        key = (buffer, offset)
        if key not in self._loads:
            self._loads[key] = Load(self.flatten(buffer), key[1:])
        return self._loads[key]

    def _view(self, node: Node, value: Value, index: IndexTuple) -> Expr:
        """A view's `index_map` gives one `(operand number, operand index, guard)` per operand it may read,
        the guard a list of `(low, index, high)` half-open ranges that must hold, None for always; the last
        entry may be a number, the value where no guard holds (padding)."""
        assert node.op.index_map is not None
        source = node.inputs[0]
        if node.op.name == "reshape" and self.flatten and source not in self.producers:
            return self._load(self.buffers[source], value.type.shape, index)
        cases = node.op.index_map([v.type for v in node.inputs], value.type, index, **node.attrs)
        taken: list[tuple[Expr | None, Expr]] = []  # (condition, element), the last one without a condition
        for case in cases:
            if isinstance(case, int | float | bool):
                taken.append((None, constant(case, value.type.dtype)))
                break
            operand, where, guard = case
            tests = self.open_tests(guard or ())
            if tests is None:
                continue
            taken.append((condition(tests), self.at(node.inputs[operand], where)))
            if not tests:
                break
        if not taken or taken[-1][0] is not None:
            raise IRError(f"{node}: no case of its index map holds at {list(map(str, index))}")
        result = taken[-1][1]
        for test, element in reversed(taken[:-1]):
            assert test is not None
            result = SCALAR.select(test, element, result)
        return result

    def open_tests(self, guard: Sequence[Guard]) -> list[Guard] | None:
        """The tests of a guard that only the run can decide; None where one of them never holds."""
        verdicts = [(test, self._decide(test)) for test in guard]
        if any(verdict is False for _, verdict in verdicts):
            return None
        tests = [test for test, verdict in verdicts if verdict is None]
        self.undecided += tests
        return tests

    def _decide(self, guard: Guard) -> bool | None:
        low, index, high = guard
        least, most = value_range(index, self.extents)
        if at_least(least, low) and at_least(high, most + 1):
            return True
        if at_least(low, most + 1) or at_least(least, high):
            return False
        return None


def value_range(index: DimLike, extents: Mapping[str, DimLike]) -> tuple[DimLike, DimLike]:
    """Inclusive bounds of an index over `0 <= name < extent`, symbolic where the extents are."""
    least = most = index
    for symbol in dims.symbols(index):
        if symbol.name not in extents:
            continue
        last = extents[symbol.name] - 1
        parts = dims.coefficient(index, symbol.name)
        if parts is None or not isinstance(parts[0], int):
            low, high = dims.bounds(index)
            return low, high
        at_end = {symbol.name: last}, {symbol.name: 0}
        rising = parts[0] >= 0
        least = dims.substitute(least, at_end[rising])
        most = dims.substitute(most, at_end[not rising])
    return least, most


def at_least(a: DimLike, b: DimLike) -> bool:
    """Whether a >= b for every value of the symbols, as far as bounds tell."""
    return dims.bounds(a - b)[0] >= 0


def condition(tests: Sequence[Guard]) -> Expr | None:
    """All of the tests, as an expression; None for none."""
    result: Expr | None = None
    for low, i, high in tests:
        for test in (_compare("ge", i, low), _compare("lt", i, high)):
            result = test if result is None else SCALAR.and_(result, test)
    return result


def _compare(op: str, left: DimLike, right: DimLike) -> Expr:
    return SCALAR._apply(op, Index(left), Index(right))
