"""Dims that only a run tells (`Op.sizes`) or that change from call to call (`changing_sizes.py`), while a function is
traced, and questions that user code asks about them.

Such a dim is a symbol: `u0`, `s0`. Library code treats it as it treats every symbolic dim: equal to itself and to
nothing else, never 0 or 1. A program that asks (`if n == 0`, `range(n)`, `int(n)`) gets this call's answer, and the
trace is good for calls in which the answer is the same: a condition like that of a branch on a tensor.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..ir import dims, dtypes
from ..ir.graph import Value
from ..ir.op import op_named
from ..ir.ops.common import size_value
from ..state import local
from .locations import is_own_file

if TYPE_CHECKING:
    from .tracer import Tracer


@dataclass(frozen=True)
class SizeQuestion:
    """Whether a < b and the like (eq, lt, le, gt, ge), of dims."""

    how: str
    a: dims.DimLike
    b: dims.DimLike

    def __str__(self) -> str:
        sign = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[self.how]
        return f"{self.a} {sign} {self.b}"

    def answer(self, known: Mapping[str, int]) -> bool | None:
        """For these values of the dims; None where one is not known yet."""
        if any(s.name not in known for v in (self.a, self.b) for s in dims.symbols(v)):
            return None
        return bool(getattr(operator, self.how)(dims.evaluate(self.a, known), dims.evaluate(self.b, known)))


# A question, and the answer that a trace is good for.
SizeOutcome = tuple[SizeQuestion, bool]


class Questions:
    """What `dims.Expr` asks of whoever knows (`dims.set_oracle`)."""

    def compare(self, how: str, a: dims.Expr, b: dims.DimLike) -> bool | None:
        """Whether a < b and the like, of such dims; None of others, and where library code asks if they are equal."""
        tracer = _tracer(a, b)
        if tracer is None or (how == "eq" and is_own_file(sys._getframe(2).f_code.co_filename)):
            return None
        return tracer.size_condition(how, a, b)

    def at_most(self, a: dims.DimLike, b: dims.DimLike) -> bool | None:
        """Whether a <= b, where the call knows before it runs; None elsewhere: the minimum of the two serves more calls
        than an answer that a run must confirm."""
        tracer = _tracer(a, b)
        if tracer is None or any(s.name in tracer.told for v in (a, b) for s in dims.symbols(v)):
            return None
        return tracer.size_condition("le", a, b)

    def value(self, a: dims.Expr) -> int | None:
        """The number that such a dim is, in this call and in those that the trace is good for."""
        tracer = _tracer(a, 0)
        if tracer is None:
            return None
        number = tracer.size_now(a)
        if not tracer.size_condition("eq", a, number):
            raise AssertionError(f"{a} is not {number}")
        return number


def _tracer(*values: dims.DimLike) -> Tracer | None:
    backend: Any = local.backend
    known = getattr(backend, "answerable", None)
    if known is not None and any(known(s.name) for v in values for s in dims.symbols(v)):
        return backend
    return None


def comparison(builder: Any, how: str, a: dims.DimLike, b: dims.DimLike) -> Value:
    """The comparison as a 0-d bool in the graph."""
    left, right = (
        builder.constant(v, dtypes.i64) if isinstance(v, int) else size_value(builder, v, dtypes.i64)
        for v in (a, b)
    )
    return builder.apply(op_named(how), (left, right), {})


def accepted(
    answers: Iterable[tuple[SizeQuestion, bool]], dims: Mapping[str, int], told: Mapping[str, int]
) -> bool:
    """Whether questions about sizes come out as in the trace, as far as the sizes are known: the `dims` of the call, and
    those that the run has told so far. Code after them may rely on the answers, so they are asked before it runs."""
    known = {**dims, **told}
    return all(question.answer(known) in (None, wanted) for question, wanted in answers)


ORACLE = Questions()
