"""Questions about loop IR expressions that more than one reader asks. Shared subexpressions are visited once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ...ir import dtypes
from .nodes import (
    Apply,
    Check,
    CopyAsync,
    Expr,
    For,
    If,
    Index,
    LaneReduce,
    Let,
    Load,
    LoadFragment,
    LoadTile,
    MultiplyGroup,
    MultiplyTile,
    MultiplyWords,
    Prefetch,
    Shuffle,
    Stmt,
    Store,
    StoreTile,
    Var,
)


def subexpressions(root: Expr) -> Iterator[Expr]:
    """The expression and everything in it, each object once, operands before what uses them."""
    seen: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        expr, ready = stack.pop()
        if ready:
            yield expr
            continue
        if id(expr) in seen:
            continue
        seen.add(id(expr))
        stack.append((expr, True))
        stack.extend((operand, False) for operand in reversed(operands(expr)))


def operands(expr: Expr) -> tuple[Expr, ...]:
    """What the expression is made of."""
    if isinstance(expr, Apply):
        return expr.args
    if isinstance(expr, LaneReduce):
        return (expr.value,)
    return (expr.load,) if isinstance(expr, Shuffle) else ()


def shared_applications(root: Expr) -> set[int]:
    """The ids of the `Apply`s in the expression that are operands more than once."""
    used = Counter(id(arg) for e in subexpressions(root) for arg in operands(e) if isinstance(arg, Apply))
    return {number for number, uses in used.items() if uses > 1}


def statement_expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions that the statement itself evaluates, not those of statements inside it."""
    match stmt:
        case Let() | Store():
            return (stmt.value,)
        case If() | Check():
            return (stmt.condition,)
        case MultiplyTile() | MultiplyGroup() | MultiplyWords():
            return stmt.total, stmt.left, stmt.right
        case LoadFragment() | LoadTile() | Prefetch():
            return (stmt.source,)
        case StoreTile():
            return (stmt.tile,)
        case CopyAsync():
            return (stmt.source,) if stmt.condition is None else (stmt.source, stmt.condition)
    return ()


def statements(body: Sequence[Stmt]) -> Iterator[Stmt]:
    """Every statement, outer ones first."""
    for stmt in body:
        yield stmt
        if isinstance(stmt, For):
            yield from statements(stmt.body)
        elif isinstance(stmt, If):
            yield from statements(stmt.body)
            yield from statements(stmt.orelse)


def tests_indices(condition: Expr) -> bool:
    """Whether a select's condition depends on indices.

    A select whose condition does guards the loads in its arms: they happen only where their arm is chosen (padding reads
    nothing outside its operand). A select on data may read both arms everywhere.
    """
    return any(
        isinstance(e, Index) or (isinstance(e, Var) and e.dtype in (dtypes.i64, dtypes.bool_))
        for e in subexpressions(condition)
    )


def has_memory_load(expr: Expr) -> bool:
    """Whether evaluating the expression reads memory; registers are not memory."""
    return any(
        isinstance(e, Load) and e.buffer.space not in ("register", "tile", "thread")
        for e in subexpressions(expr)
    )
