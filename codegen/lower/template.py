"""Templates: a group's elements over symbolic axes, made once and instantiated for every loop copy.

An output element is evaluated at a symbolic index, one variable per axis of the iteration space. Strides
are then read off the linear offsets, axes that every access walks contiguously are collapsed into one, and
each copy of the loop body (unrolled, vector, tail) is the template with its own loop indices substituted
for the axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.special_functions import FORMULAS
from ..loops.nodes import (
    Apply,
    Buffer,
    Check,
    Const,
    Expr,
    For,
    If,
    Index,
    LaneReduce,
    Let,
    Load,
    Shuffle,
    Stmt,
    Store,
    Var,
)
from .names import Names


@dataclass(frozen=True)
class Axis:
    """One dim of an iteration space: 0 <= var < extent."""

    var: str
    extent: DimLike

    @property
    def index(self) -> DimLike:
        """The position along the axis; 0 where there is only one."""
        if self.extent == 1:
            return 0
        return dims.symbol(self.var, 0, max(dims.bounds(self.extent)[1] - 1, 0))


@dataclass(frozen=True)
class Element:
    """`buffer[offset] = value`, over axes."""

    buffer: Buffer
    offset: DimLike
    value: Expr

    def at(
        self,
        bindings: Mapping[str, DimLike],
        memo: dict[int, Expr] | None = None,
        names: Mapping[str, Expr] | None = None,
    ) -> Element:
        """The element with axes (and names) replaced; see `instantiate`."""
        offset = dims.substitute(self.offset, bindings)
        return Element(self.buffer, offset, instantiate(self.value, bindings, memo, names))

    def store(self) -> Store:
        return Store(self.buffer, (self.offset,), self.value)


def store_all(
    elements: Iterable[Element], bindings: Mapping[str, DimLike], names: Mapping[str, Expr]
) -> list[Stmt]:
    """The elements stored, with axes and names replaced; what they share is instantiated once."""
    memo: dict[int, Expr] = {}
    return [e.at(bindings, memo, names).store() for e in elements]


def make_axes(names: Names, shape: Sequence[DimLike], stem: str = "i") -> list[Axis]:
    return [Axis(names(stem), extent) for extent in shape]


def walk(exprs: Iterable[Expr]) -> Iterator[Expr]:
    """Every distinct (by identity) subexpression once."""
    seen: set[int] = set()
    stack = list(exprs)
    while stack:
        expr = stack.pop()
        if id(expr) in seen:
            continue
        seen.add(id(expr))
        yield expr
        if isinstance(expr, Apply):
            stack.extend(expr.args)
        elif isinstance(expr, LaneReduce):
            stack.append(expr.value)
        elif isinstance(expr, Shuffle):
            stack.append(expr.load)


def index_values(exprs: Iterable[Expr]) -> list[DimLike]:
    """Every offset that is loaded from and every index used as a number, each once."""
    found: dict[DimLike, None] = {}
    for expr in walk(exprs):
        if isinstance(expr, Load):
            for i in expr.index:
                found[i] = None
        elif isinstance(expr, Index):
            found[expr.value] = None
    return list(found)


def instantiate(
    expr: Expr,
    bindings: Mapping[str, DimLike],
    memo: dict[int, Expr] | None = None,
    names: Mapping[str, Expr] | None = None,
) -> Expr:
    """The expression with index symbols and names replaced; what mentions none of them stays the same object.

    `memo` shares results among expressions of one loop body, whose sources must outlive it.
    """
    memo = {} if memo is None else memo
    found = memo.get(id(expr))
    if found is None:
        found = memo[id(expr)] = _instantiate(expr, bindings, memo, names or {})
    return found


def _instantiate(
    expr: Expr, bindings: Mapping[str, DimLike], memo: dict[int, Expr], names: Mapping[str, Expr]
) -> Expr:
    match expr:
        case Var():
            return names.get(expr.name, expr)
        case Load():
            index = tuple(dims.substitute(i, bindings) for i in expr.index)
            return expr if index == expr.index else Load(expr.buffer, index)
        case Index():
            value = dims.substitute(expr.value, bindings)
            if isinstance(value, int):
                return Const(value, expr.dtype)
            return expr if value == expr.value else Index(value, expr.dtype)
        case Apply():
            args = tuple(instantiate(a, bindings, memo, names) for a in expr.args)
            same = all(a is b for a, b in zip(args, expr.args))
            return expr if same else Apply(expr.op, args, expr.dtype)
        case LaneReduce():
            value_ = instantiate(expr.value, bindings, memo, names)
            return LaneReduce(expr.combine, expr.var, expr.lanes, value_)
        case Shuffle():
            index = tuple(dims.substitute(i, bindings) for i in expr.load.index)
            return Shuffle(Load(expr.load.buffer, index), expr.mask)
    return expr


def collapse(axes: Sequence[Axis], indices: Iterable[DimLike]) -> tuple[list[Axis], dict[str, DimLike]]:
    """Fewer axes that enumerate the same space, in the same order, and each old axis as an index over them.

    Two neighbours become one where every index steps through both as through one longer axis; axes of
    extent 1 go.
    """
    indices = list(indices)
    bindings: dict[str, DimLike] = {}
    merged: list[Axis] = []
    for axis in reversed(axes):
        if axis.extent == 1:
            bindings[axis.var] = 0
        elif merged and _continues(axis, merged[-1], indices):
            inner = merged[-1]
            whole = Axis(inner.var, axis.extent * inner.extent)
            # Indices speak of the pair only as stride * (extent * outer + inner), so outer may count as 0.
            bindings[axis.var] = 0
            bindings[inner.var] = whole.index
            merged[-1] = whole
        else:
            merged.append(axis)
    merged.reverse()
    return merged, bindings


def _continues(outer: Axis, inner: Axis, indices: Sequence[DimLike]) -> bool:
    for index in indices:
        a, b = dims.coefficient(index, outer.var), dims.coefficient(index, inner.var)
        if a is None or b is None or a[0] != b[0] * inner.extent:
            return False
    return True


def stride(index: DimLike, axis: Axis) -> DimLike | None:
    """By how much the index grows along the axis; None where that is not constant."""
    parts = dims.coefficient(index, axis.var)
    return None if parts is None else parts[0]


def is_guard(expr: Expr) -> bool:
    """Whether this is a select on indices: loads in its arms may be out of range where the other arm is
    taken, so nothing may be moved out of them."""
    return isinstance(expr, Apply) and expr.op == "select" and any(_is_index(e) for e in walk(expr.args[:1]))


def _is_index(expr: Expr) -> bool:
    return isinstance(expr, Index) or (isinstance(expr, Var) and expr.dtype.name in ("i64", "bool"))


def free_arguments(expr: Expr) -> tuple[Expr, ...]:
    """The arguments that are evaluated wherever the expression is."""
    if not isinstance(expr, Apply):
        return ()
    return expr.args[:1] if is_guard(expr) else expr.args


def bind_shared(body: Sequence[Stmt], names: Names) -> tuple[Stmt, ...]:
    """The block with every operation that it uses more than once bound to a name, so that its text is a list
    of steps and not a tree with copies. Blocks nested in it are left as they are."""
    counts: dict[int, int] = {}
    for stmt in body:
        for expr in operands(stmt):
            _count(expr, counts)
    out: list[Stmt] = []
    replaced: dict[int, Expr] = {}

    def rewrite(expr: Expr) -> Expr:
        if id(expr) in replaced:
            return replaced[id(expr)]
        result = expr
        if isinstance(expr, Apply):
            free = free_arguments(expr)
            args = (*map(rewrite, free), *expr.args[len(free) :])
            if any(a is not b for a, b in zip(args, expr.args)):
                result = Apply(expr.op, args, expr.dtype)
        if isinstance(expr, Apply | Load) and counts.get(id(expr), 0) > 1:
            name = names("t")
            out.append(Let(name, result))
            result = Var(name, expr.dtype)
        replaced[id(expr)] = result
        return result

    for stmt in body:
        match stmt:
            case Store():
                out.append(Store(stmt.buffer, stmt.index, rewrite(stmt.value)))
            case Let():
                out.append(Let(stmt.name, rewrite(stmt.value)))
            case Check():
                out.append(Check(rewrite(stmt.condition), stmt.code))
            case If():
                out.append(If(rewrite(stmt.condition), stmt.body, stmt.orelse))
            case For():
                out.append(stmt)
    return tuple(out)


def share_between_stores(body: Sequence[Stmt], names: Names) -> tuple[Stmt, ...]:
    """The statements; in blocks that only compute and store to memory outside the kernel, all values are
    computed before the first of several stores. So outputs may lie where inputs lie, and stores of
    neighbours stand together."""
    blocks: list[Stmt] = []
    for stmt in body:
        match stmt:
            case For():
                stmt = replace(stmt, body=share_between_stores(stmt.body, names))
            case If():
                then = share_between_stores(stmt.body, names)
                stmt = replace(stmt, body=then, orelse=share_between_stores(stmt.orelse, names))
        blocks.append(stmt)
    stores = [s for s in blocks if isinstance(s, Store)]
    straight = all(isinstance(s, Store | Let) for s in blocks)
    if len(stores) < 2 or not straight or any(s.buffer.space != "global" for s in stores):
        return tuple(blocks)
    first: list[Stmt] = []
    last: list[Stmt] = []
    for stmt in bind_shared(blocks, names):
        if isinstance(stmt, Store) and isinstance(stmt.value, Apply | Load):
            name = names("t")
            first.append(Let(name, stmt.value))
            stmt = replace(stmt, value=Var(name, stmt.value.dtype))
        (last if isinstance(stmt, Store) else first).append(stmt)
    return (*first, *last)


def operands(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions that a statement itself evaluates."""
    match stmt:
        case Store() | Let():
            return (stmt.value,)
        case If() | Check():
            return (stmt.condition,)
    return ()


def _count(expr: Expr, counts: dict[int, int]) -> None:
    seen = counts.get(id(expr), 0)
    counts[id(expr)] = seen + 1
    if not seen:
        for arg in free_arguments(expr):
            _count(arg, counts)


def operations(exprs: Iterable[Expr]) -> int:
    """Arithmetic operations in the expressions, shared ones once; expensive functions count for several."""
    return sum(OPERATION_COST.get(e.op, 1) for e in walk(exprs) if isinstance(e, Apply))


# Instructions, about, that `scalar_functions.py` needs for one.
OPERATION_COST = {
    "exp": 12,
    "exp_below": 12,
    "exp_below_short": 9,
    "exp_short": 9,
    "expm1": 16,
    "log": 16,
    "log1p": 18,
    "sin": 18,
    "cos": 18,
    "tan": 30,
    "tanh": 20,
    "sigmoid": 18,
    "sigmoid_short": 14,
    "erf": 20,
    "pow": 40,
    **dict.fromkeys(("asin", "acos", "atan", "asinh", "acosh", "atanh"), 24),
    "atan2": 40,
    **dict.fromkeys(FORMULAS, 80),
    "div": 4,
    "sqrt": 4,
    "floordiv": 8,
    "mod": 8,
}
