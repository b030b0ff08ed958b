"""Where the threads of a block must wait for each other.

A kernel's thread loops run one after the other; on a GPU each thread runs them all. So before a thread loop that touches
memory which an earlier one wrote, or writes what an earlier one read, all threads must have come that far. Which
elements are meant is not asked, only which buffers; a thread's own registers never need waiting for.

What a GPU copies on its own is there behind the wait for it: a reader needs a barrier after that wait, and what is read
before it are other elements. A loop or an if waits as a whole, where something in it would have to for what came
before; so an unrolled loop does not wait in every copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .nodes import Buffer, CopyAsync, CopyWait, For, If, Kernel, Load, Stmt, Store
from .walk import statement_expressions, statements, subexpressions

_NONE: frozenset[Buffer] = frozenset()


# Spaces that several threads of a block see.
MEMORY = ("shared", "resident", "global")


@dataclass(frozen=True)
class _Touched:
    """Shared and global buffers that thread loops since the last barrier read and wrote; `copied`: those to which copies
    may be on their way."""

    read: frozenset[Buffer] = _NONE
    written: frozenset[Buffer] = _NONE
    copied: frozenset[Buffer] = _NONE

    def __or__(self, other: _Touched) -> _Touched:
        return _Touched(self.read | other.read, self.written | other.written, self.copied | other.copied)

    def meets(self, later: _Touched) -> bool:
        stored = later.written | later.copied
        return bool(self.written & (later.read | stored) or self.read & stored)

    def behind_barrier(self) -> _Touched:
        return _Touched(copied=self.copied)


def barriers(kernel: Kernel) -> set[int]:
    """The ids of the statements before which there must be a barrier."""
    found: set[int] = set()
    for loop in kernel.block_loops:
        # A block may run several iterations of a resident kernel's; at the loop's end all blocks wait.
        before = _walk(loop.body, _Touched(), found)
        if kernel.resident:
            _walk(loop.body, before, found)
    return found


def _walk(body: Sequence[Stmt], before: _Touched, found: set[int]) -> _Touched:
    """Note the barriers of these statements; what is touched since the last one at their end."""
    for stmt in body:
        if not isinstance(stmt, For | If):
            continue
        if id(stmt) in found or before.meets(_first_touched((stmt,))):
            found.add(id(stmt))
            before = before.behind_barrier()
        match stmt:
            case For() if stmt.kind == "thread":
                before = _after(stmt, before)
            case For():
                # Twice: the second turn meets what the first left behind.
                entry = before
                for _ in range(2):
                    before = entry | _walk(stmt.body, before, found)
            case If():
                before = _walk(stmt.body, before, found) | _walk(stmt.orelse, before, found)
    return before


def _after(loop: For, before: _Touched) -> _Touched:
    touched = before | _touched(loop)
    if any(isinstance(stmt, CopyWait) for stmt in statements(loop.body)):
        touched = replace(touched, written=touched.written | touched.copied)
    return touched


def _first_touched(body: Sequence[Stmt]) -> _Touched:
    """What thread loops anywhere in the statements touch."""
    found = _Touched()
    for stmt in body:
        match stmt:
            case For() if stmt.kind == "thread":
                found |= _touched(stmt)
            case For():
                found |= _first_touched(stmt.body)
            case If():
                found |= _first_touched((*stmt.body, *stmt.orelse))
    return found


def _touched(loop: For) -> _Touched:
    read: set[Buffer] = set()
    written: set[Buffer] = set()
    copied: set[Buffer] = set()
    for stmt in statements(loop.body):
        if isinstance(stmt, Store) and stmt.buffer.space in MEMORY:
            written.add(stmt.buffer)
        if isinstance(stmt, CopyAsync):
            copied.add(stmt.target.buffer)
        for root in statement_expressions(stmt):
            for expr in subexpressions(root):
                if isinstance(expr, Load) and expr.buffer.space in MEMORY:
                    read.add(expr.buffer)
    return _Touched(frozenset(read), frozenset(written), frozenset(copied))
