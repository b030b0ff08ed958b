"""Exponentials of differences with a greatest number, which are never positive: they need no upper bound, and what is
below the normal numbers is nothing beside the greatest's power, 1."""

from __future__ import annotations

from dataclasses import replace

from ...ir import dtypes
from ..loops.nodes import Apply, Expr, Var
from ..scalar import SCALAR
from ..target import GpuTarget, Target
from .rows import Reduction, Rows, Stage, replace_in
from .template import walk


def power_below(target: Target | GpuTarget, x: Expr, short: bool = False) -> Expr:
    """exp(x) of a number that is at most about 0; `short`: to be rounded to bfloat16."""
    if isinstance(target, Target) and x.dtype is dtypes.f32:
        return SCALAR.call("exp_below_short" if short else "exp_below", x)
    return SCALAR.exp(x)


def with_powers_below(target: Target | GpuTarget, rows: Rows) -> Rows:
    """The rows, with `power_below` for exponentials of what a row's numbers differ from the greatest."""
    greatest = {r.name: r.value for s in rows.stages for r in s.reductions if r.combine == "max"}
    replaced: dict[int, Expr] = {}
    for values in rows.pass_values():
        for expr in walk(values):
            match expr:
                case Apply("exp", (Apply("sub", (value, Var(name))) as difference,)):
                    if name in greatest and greatest[name] == value:
                        replaced[id(expr)] = power_below(target, difference)
    if not replaced:
        return rows
    memo: dict[int, Expr] = {}

    def reductions(old: list[Reduction]) -> list[Reduction]:
        return [r.with_value(replace_in(r.value, replaced, memo)) for r in old]

    along = [replace(e, value=replace_in(e.value, replaced, memo)) for e in rows.along]
    stages = [Stage(reductions(s.reductions)) for s in rows.stages]
    return replace(rows, stages=stages, along=along, columns=reductions(rows.columns))
