"""exp, sigmoid and tanh for results of sixteen bits: computed in float32 as far as rounding once will show.

Errors before rounding are below 1/25 of a unit in the last place of the result, so that a rounded result is the one
nearest to the exact value, or next to it where that lies close to the middle between two (`tests/test_short_math.py`).
Zeros keep their sign, NaN gives NaN. The polynomials for 2^r are minimax fits (`tests/references/fit_scalar_math.py`),
the quotient for tanh(x) / x one in x^2 by weighted least squares.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir import dtypes
from ..ir.dtypes import DType
from .loops.nodes import Expr
from .scalar import ScalarBuilder
from .scalar_math import BELOW_NORMAL, TO_WHOLE, polynomial, power_of_moderate

# From a float32 argument and the dtype that the result is rounded to.
Rule = Callable[[ScalarBuilder, Expr, DType], Expr]

_LOG2_E = 1.4426950408889634
# 2^r for |r| <= 1/2, lowest power first: relative errors 7.5e-5 and 2.6e-6.
_EXP2 = {
    dtypes.bf16: (0.999928076, 0.693260998, 0.242611121, 0.0551716243),
    dtypes.f16: (0.999999261, 0.693121815, 0.240247446, 0.0559178598, 0.00957011014),
}
# Where 2^t is zero or infinite for certain.
_LEAST, _MOST = -152.0, 130.0
# tanh(x) / x as P / Q in x^2, relative errors 5.6e-6 and 1.1e-6, up to where tanh(x) rounds to 1.
_TANH = {
    dtypes.bf16: (
        3.5,
        (0.999994441, 0.106602612, 0.00082128552),
        (1.0, 0.43988837, 0.0141858347),
    ),
    dtypes.f16: (
        4.6,
        (0.999998909, 0.1172711, 0.00168521827),
        (1.0, 0.450595101, 0.0185636698, 6.78874663e-05),
    ),
}


def _exp2(s: ScalarBuilder, t: Expr, result: DType) -> Expr:
    n = s.round(t)
    return s.ldexp(polynomial(s, _EXP2[result], s.sub(t, n)), n)


def exp(s: ScalarBuilder, x: Expr, result: DType) -> Expr:
    return _exp2(s, s.max(_LEAST, s.min(_MOST, s.mul(x, _LOG2_E))), result)


def exp_below(s: ScalarBuilder, x: Expr, result: DType) -> Expr:
    """exp of a float32 of at most 1; 0 for less than half the least normal number, as in `scalar_math.py`."""
    x = s.max(BELOW_NORMAL, x)
    shifted = s.fma(x, _LOG2_E, TO_WHOLE)
    r = s.fma(x, _LOG2_E, s.sub(TO_WHOLE, shifted))
    return s.mul(polynomial(s, _EXP2[result], r), power_of_moderate(s, shifted))


def sigmoid(s: ScalarBuilder, x: Expr, result: DType) -> Expr:
    small = _exp2(s, s.max(_LEAST, s.mul(s.abs(x), -_LOG2_E)), result)
    return s.div(s.select(s.lt(x, 0.0), small, 1.0), s.add(small, 1.0))


def tanh(s: ScalarBuilder, x: Expr, result: DType) -> Expr:
    most, above, below = _TANH[result]
    x = s.max(-most, s.min(most, x))
    square = s.mul(x, x)
    return s.div(s.mul(x, polynomial(s, above, square)), polynomial(s, below, square))


SHORT: dict[str, Rule] = {"exp": exp, "sigmoid": sigmoid, "tanh": tanh}
