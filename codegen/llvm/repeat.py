"""Counted loops, in kernels and in the program's entry, and which buffers of a repeat never meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Part
from .index import IndexEmitter
from .text import Value, Writer, const


@contextmanager
def counted_loop(
    w: Writer, index: IndexEmitter, var: str, begin: Value, end: Value, may_be_empty: bool
) -> Iterator[None]:
    """What is written inside runs for `var` from `begin` up to `end`, not included."""
    number = w.fresh("")
    preheader = w.preheader()
    if may_be_empty:
        w.line(f"%g{number} = icmp sgt i64 {end.text}, {begin.text}")
        w.line(f"br i1 %g{number}, label %pre{number}, label %exit{number}")
    else:
        w.line(f"br label %pre{number}")
    w.line(f"pre{number}:")
    entered = w.preheader() if may_be_empty else preheader
    w.line(f"br label %loop{number}")
    w.open(is_loop=True, preheader=preheader, entered=entered)
    w.line(f"loop{number}:")
    w.line(f"%i{number} = phi i64 [ {begin.text}, %pre{number} ], [ %n{number}, %latch{number} ]")
    env = index.env
    index.env = {**env, var: Value(f"%i{number}", dtypes.i64, 0, w.level)}
    yield
    index.env = env
    w.line(f"br label %latch{number}")
    w.line(f"latch{number}:")
    w.line(f"%n{number} = add nuw nsw i64 %i{number}, 1")
    w.line(f"%c{number} = icmp slt i64 %n{number}, {end.text}")
    w.line(f"br i1 %c{number}, label %loop{number}, label %exit{number}")
    w.close()
    w.line(f"exit{number}:")


@contextmanager
def loop(w: Writer, index: IndexEmitter, var: str, count: DimLike) -> Iterator[None]:
    """What is written inside runs for `var` = 0, 1, ..., `count` - 1."""
    end = index.value(count)
    with counted_loop(w, index, var, const(0, dtypes.i64), end, dims.bounds(count)[0] < 1):
        yield


def take_turns(a: Part, b: Part) -> bool:
    """Whether the two are the places of one state: parts `i % 2` and `(i + 1) % 2`."""
    if a.of is not b.of or a.shape != b.shape:
        return False
    for x, y in ((a, b), (b, a)):
        for symbol in dims.symbols(x.index):
            i = dims.symbol(symbol.name, symbol.low, symbol.high)
            if x.index == dims.mod(i, 2) and y.index == dims.mod(i + 1, 2):
                return True
    return False
