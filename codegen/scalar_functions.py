"""The operations of the scalar protocol that no hardware has, as formulas over those it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir import dtypes, special_functions
from . import scalar_inverse, scalar_math, scalar_trig, short_math
from .loops.nodes import Expr
from .scalar import ScalarBuilder

Rule = Callable[..., Expr]


@dataclass(frozen=True)
class Function:
    """`fast(s, *args)` computes the function except where `is_slow(s, *args)` holds; there `slow` does: a rare
    argument that needs much more work, for which an emitter may branch."""

    fast: Rule
    is_slow: Rule | None = None
    slow: Rule | None = None


def _in_double(formula: special_functions.Formula) -> Rule:
    """A formula of float64 for every float type."""

    def rule(s: ScalarBuilder, x: Expr) -> Expr:
        return s.cast(formula(s, s.cast(x, dtypes.f64)), x.dtype)

    return rule


def _rounded_later(function: short_math.Rule) -> Rule:
    """Good enough for either type of sixteen bits."""
    return lambda s, x: function(s, x, dtypes.f16)


FUNCTIONS: dict[str, Function] = {
    "ldexp": Function(scalar_math.ldexp),
    "exp": Function(scalar_math.exp),
    "expm1": Function(scalar_math.expm1),
    "log": Function(scalar_math.log),
    "log1p": Function(scalar_math.log1p),
    "sin": Function(scalar_trig.sin, scalar_trig.is_large, scalar_trig.sin_slow),
    "cos": Function(scalar_trig.cos, scalar_trig.is_large, scalar_trig.cos_slow),
    "tan": Function(scalar_trig.tan, scalar_trig.is_large, scalar_trig.tan_slow),
    "tanh": Function(scalar_math.tanh),
    "sigmoid": Function(scalar_math.sigmoid),
    "erf": Function(scalar_math.erf),
    "pow": Function(scalar_math.pow),
    "exp_short": Function(_rounded_later(short_math.exp)),
    "exp_below": Function(scalar_math.exp_below),
    "exp_below_short": Function(lambda s, x: short_math.exp_below(s, x, dtypes.bf16)),
    "sigmoid_short": Function(_rounded_later(short_math.sigmoid)),
    **{name: Function(rule) for name, rule in scalar_inverse.FUNCTIONS.items()},
    **{name: Function(_in_double(formula)) for name, formula in special_functions.FORMULAS.items()},
}
