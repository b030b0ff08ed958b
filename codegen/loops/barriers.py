"""Where the threads of a block must wait for each other.

A kernel's thread loops run one after the other; on a GPU each thread runs them all. So before a thread loop that touches
memory which an earlier one wrote, or writes what an earlier one read, all threads must have come that far. Which
elements are meant is not asked, only which buffers; a thread's own registers never need waiting for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .nodes import Buffer, CopyAsync, For, If, Kernel, Load, Stmt, Store
from .walk import statement_expressions, statements, subexpressions


@dataclass(frozen=True)
class _Touched:
    """Shared and global buffers that thread loops since the last barrier read and wrote."""

    read: frozenset[Buffer] = frozenset()
    written: frozenset[Buffer] = frozenset()

    def __or__(self, other: _Touched) -> _Touched:
        return _Touched(self.read | other.read, self.written | other.written)

    def meets(self, later: _Touched) -> bool:
        return bool(self.written & (later.read | later.written) or self.read & later.written)


def barriers(kernel: Kernel) -> set[int]:
    """The ids of the thread loops before which there must be a barrier."""
    found: set[int] = set()
    if kernel.grid is not None:
        _walk(kernel.grid.body, _Touched(), found)
    return found


def _walk(body: Sequence[Stmt], before: _Touched, found: set[int]) -> _Touched:
    """Note the barriers of these statements; what is touched since the last one at their end."""
    for stmt in body:
        match stmt:
            case For() if stmt.kind == "thread":
                touched = _touched(stmt)
                if id(stmt) in found or before.meets(touched):
                    found.add(id(stmt))
                    before = touched
                else:
                    before = before | touched
            case For():
                # Twice: the second turn meets what the first left behind.
                entry = before
                for _ in range(2):
                    before = entry | _walk(stmt.body, before, found)
            case If():
                before = _walk(stmt.body, before, found) | _walk(stmt.orelse, before, found)
    return before


def _touched(loop: For) -> _Touched:
    read: set[Buffer] = set()
    written: set[Buffer] = set()
    for stmt in statements(loop.body):
        if isinstance(stmt, Store) and stmt.buffer.space in ("shared", "global"):
            written.add(stmt.buffer)
        if isinstance(stmt, CopyAsync):
            written.add(stmt.target.buffer)
        for root in statement_expressions(stmt):
            for expr in subexpressions(root):
                if isinstance(expr, Load) and expr.buffer.space in ("shared", "global"):
                    read.add(expr.buffer)
    return _Touched(frozenset(read), frozenset(written))
