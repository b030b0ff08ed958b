"""Expressions of the loop IR as values."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Apply, Const, Expr, Index, LaneReduce, Load, Shuffle, Var
from ..loops.walk import has_memory_load, tests_indices
from ..packed import PACKINGS, WIDENINGS
from ..scalar import SCALAR
from ..scalar_functions import FUNCTIONS
from ..short_math import SHORT
from ..target import GpuTarget
from .index import IndexEmitter, VectorLoop, fits_i32
from .memory import MemoryEmitter
from .scalar_ops import ScalarOps
from .scale import ldexp
from .short_numbers import widened
from .text import Value, Writer, const, splat

_SIGNED = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "eq": "eq", "ne": "ne"}


class ExpressionEmitter:
    """Evaluates expressions where the writer stands. `variables` are the lets in scope.

    A subexpression that one statement uses several times is evaluated once; `forget` begins the next statement.
    """

    def __init__(
        self, kernel_name: str, writer: Writer, ops: ScalarOps, index: IndexEmitter, memory: MemoryEmitter
    ):
        self.kernel_name = kernel_name
        self.w = writer
        self.ops = ops
        self.index = index
        self.memory = memory
        self.variables: dict[str, Value] = {}
        self._memo: dict[tuple[int, str], Value] = {}
        self._kept: list[Expr] = []  # what has an entry in the memo stays alive, so that its id stays its own

    def forget(self) -> None:
        self._memo.clear()
        self._kept.clear()

    def value(self, expr: Expr) -> Value:
        guard = self.memory.guard
        key = (
            id(expr),
            f"{guard.uniform.text if guard.uniform else ''}|{guard.lanes.text if guard.lanes else ''}",
        )
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = self._evaluate(expr)
            self._kept.append(expr)
        return known

    def _evaluate(self, expr: Expr) -> Value:
        match expr:
            case Const():
                return const(expr.value, expr.dtype)
            case Index():
                return self.index.i64(expr.value)
            case Var():
                try:
                    return self.variables[expr.name]
                except KeyError:
                    raise KeyError(f"kernel {self.kernel_name}: {expr.name!r} is not bound here") from None
            case Load():
                return self.memory.load(expr.buffer, expr.index)
            case LaneReduce():
                return self._lane_reduce(expr)
            case Shuffle():
                return self.shuffle(self.memory.load(expr.load.buffer, expr.load.index), expr.mask)
            case Apply():
                return self._apply(expr)
        raise NotImplementedError(f"kernel {self.kernel_name}: no emission for {type(expr).__name__}")

    def shuffle(self, value: Value, mask: int) -> Value:
        """The value as the thread whose number differs by `mask` has it; only GPUs have such threads."""
        raise NotImplementedError(f"kernel {self.kernel_name}: no emission for a shuffle")

    def _apply(self, expr: Apply) -> Value:
        op, args = expr.op, expr.args
        if op == "select":
            return self._select(expr)
        if op in _SIGNED and isinstance(args[0], Index) and isinstance(args[1], Index):
            return self._compare_indices(op, args[0].value - args[1].value)
        if op == "cast" and isinstance(args[0], Index):
            narrow = self.index.value(args[0].value)
            return self.ops.convert(narrow, expr.dtype)
        if op in PACKINGS or op in WIDENINGS:
            word = self._word(args)
            if word is not None:
                return word if op in PACKINGS else widened(self.ops, word, args[0].dtype)
        if op == "ldexp" and expr.dtype in (dtypes.f32, dtypes.f64):
            scaled = ldexp(self.ops, *(self.value(a) for a in args))
            if scaled is not None:
                return scaled
        if op in FUNCTIONS and expr.dtype.kind == "float":
            return self._function(op, [self.value(a) for a in args], expr.dtype)
        return self.ops.apply(op, [self.value(a) for a in args], expr.dtype)

    def _word(self, numbers: Sequence[Expr]) -> Value | None:
        """Short numbers that lie one behind the other in memory, as one load; None where they do not."""
        loads = [x for x in numbers if isinstance(x, Load) and x.buffer.space in ("global", "stack")]
        if len(loads) != len(numbers) or any(x.buffer is not loads[0].buffer for x in loads):
            return None
        return self.memory.load_word(loads[0].buffer, [x.index for x in loads])

    def _function(self, op: str, args: list[Value], dtype: dtypes.DType) -> Value:
        """exp, sin and the like, from `scalar_functions.py`, those of `short_math.py` for results of sixteen bits."""
        if dtype in (dtypes.f16, dtypes.bf16):
            wide = [self.ops.convert(a, dtypes.f32) for a in args]
            if op in SHORT and not isinstance(self.ops.target, GpuTarget):
                (name,) = self._named(wide)
                return self.ops.convert(self.value(SHORT[op](SCALAR, name, dtype)), dtype)
            return self.ops.convert(self._function(op, wide, dtypes.f32), dtype)
        names = self._named(args)
        function = FUNCTIONS[op]
        result = self.value(function.fast(SCALAR, *names))
        if function.slow is None or function.is_slow is None:
            return result
        # Rare arguments: the long way round is only taken when some lane needs it.
        is_slow = self.value(function.is_slow(SCALAR, *names))
        some = self.memory.any_lane(is_slow) if is_slow.lanes else is_slow
        slot = f"%{self.w.fresh('slow')}"
        self.w.entry.append(f"{slot} = alloca {result.type}")
        self.w.line(f"store {result}, ptr {slot}")
        with self.w.branch_if(some):
            better = self.ops.select(is_slow, self.value(function.slow(SCALAR, *names)), result)
            self.w.line(f"store {better}, ptr {slot}")
        return self.w.effect(f"load {result.type}, ptr {slot}", dtype, result.lanes)

    def _named(self, args: Sequence[Value]) -> list[Var]:
        """Variables that stand for the arguments."""
        names = [Var(f"math argument {self.w.fresh('')}", a.dtype) for a in args]
        for name, arg in zip(names, args):
            self.variables[name.name] = arg
        return names

    def _compare_indices(self, op: str, difference: DimLike) -> Value:
        """`left op right` of indices, by the sign of their difference; decided here where bounds allow."""
        low, high = dims.bounds(difference)
        decided = _decide(op, low, high)
        if decided is not None:
            return const(decided, dtypes.bool_)
        position = self.index.decompose(difference)
        if position.is_uniform and not position.uniform:
            decided = _decide(op, position.constant, position.constant)
            assert decided is not None
            return const(decided, dtypes.bool_)
        if position.is_uniform:
            x = self.index.uniform(position)
        else:
            x = self.index.vector_offset(position, dtypes.i32 if fits_i32(difference) else dtypes.i64)
        return self.ops.compare(_SIGNED[op], x, const(0, x.dtype, x.lanes))

    def _select(self, expr: Apply) -> Value:
        condition_expr, a_expr, b_expr = expr.args
        condition = self.value(condition_expr)
        if condition.text in ("true", "false"):
            return self.value(a_expr if condition.text == "true" else b_expr)
        if not tests_indices(condition_expr):
            return self.ops.select(condition, self.value(a_expr), self.value(b_expr))
        arms = []
        for arm, positive in ((a_expr, True), (b_expr, False)):
            if not has_memory_load(arm):
                arms.append(self.value(arm))
                continue
            chosen = condition if positive else self.ops.apply("not", [condition], dtypes.bool_)
            with self.memory.guarded(chosen):
                arms.append(self.value(arm))
        if condition.lanes and arms[0].lanes and _is_memory(a_expr) and _is_zero(b_expr):
            return arms[0]  # a masked load has zeros where it is off
        return self.ops.select(condition, arms[0], arms[1])

    def _lane_reduce(self, expr: LaneReduce) -> Value:
        if self.index.vector is not None:
            raise ValueError(f"kernel {self.kernel_name}: a lane reduction inside a vector loop")
        self.index.vector = VectorLoop(expr.var, expr.lanes, None)
        value = splat(self.w, self.value(expr.value), expr.lanes)
        self.index.vector = None
        while value.lanes > 1:
            half = value.lanes // 2
            low, high = (self._slice(value, start, half) for start in (0, half))
            value = self.ops.apply(expr.combine, [low, high], value.dtype)
        return self.w.pure(f"extractelement {value}, i64 0", value.level, value.dtype)

    def _slice(self, value: Value, start: int, count: int) -> Value:
        order = ", ".join(f"i32 {start + i}" for i in range(count))
        return self.w.pure(
            f"shufflevector {value}, {value.type} poison, <{count} x i32> <{order}>",
            value.level,
            value.dtype,
            count,
        )


def _is_memory(expr: Expr) -> bool:
    return isinstance(expr, Load) and expr.buffer.space not in ("register", "thread")


def _is_zero(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.value == 0 and str(expr.value)[0] != "-"


def _decide(op: str, low: int, high: int) -> bool | None:
    """The sign test of a number between low and high, if it has one answer."""
    match op:
        case "lt":
            return True if high < 0 else False if low >= 0 else None
        case "le":
            return True if high <= 0 else False if low > 0 else None
        case "gt":
            return True if low > 0 else False if high <= 0 else None
        case "ge":
            return True if low >= 0 else False if high < 0 else None
        case "eq":
            return True if low == high == 0 else False if low > 0 or high < 0 else None
    return False if low == high == 0 else True if low > 0 or high < 0 else None
