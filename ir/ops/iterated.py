"""Special functions that NumPy computes in compiled code too (`ir/iterated_functions.py`): incomplete gamma, zeta,
polygamma, Airy, the orthogonal polynomials; and the greatest common divisor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import iterated_functions as functions
from ..op import Attr, Op, Sample, declare
from .common import FLOAT, INTEGERS, Array, integers, needed, pointwise, torch_name, uniform, values, wide

INF, NAN = math.inf, math.nan


def _in_double(function: Callable[..., Array]) -> Callable[..., Array]:
    def rule(*arrays: Array, **attrs: Any) -> Array:
        with np.errstate(all="ignore"):
            value = function(*(a.astype(np.float64) for a in arrays), **attrs)
        return np.asarray(value).astype(arrays[0].dtype)

    return rule


def _host(
    name: str,
    doc: str,
    numpy: Callable[..., Array],
    arity: int,
    samples: tuple[Sample, ...],
    vjp: Callable[..., Sequence[Any]] | None = None,
    saves: tuple[str, ...] = (),
    grad_name: str = "",
    attrs: dict[str, Attr] | None = None,
) -> None:
    declare(
        Op(
            name,
            doc,
            infer=pointwise(name, FLOAT),
            numpy=wide(_in_double(numpy)),
            attrs=attrs or {},
            arity=(arity, arity),
            lowering="host",
            vjp=vjp,
            saves=saves,
            grad_name=grad_name or torch_name(name),
            samples=samples,
        )
    )


def _no_derivative(what: str) -> Callable[[], Any]:
    def rule() -> Any:
        raise NotImplementedError(f"the derivative for '{what}' is not implemented.")

    return rule


def _gamma_vjp(name: str, sign: float) -> Callable[..., Sequence[Any]]:
    def vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
        a, x = ctx.inputs

        def slope() -> Any:
            density = F.exp(F.sub(F.sub(F.mul(F.sub(a, 1.0), F.log(x)), x), F.lgamma(a)))
            return F.mul(F.mul(dy, sign), density)

        return needed(ctx, _no_derivative(f"{name}: input"), slope)

    return vjp


_PAIRS = (
    uniform((3, 5), (3, 5), between=(0.2, 6.0), gradient=False),
    uniform((3, 1), (5,), between=(0.5, 30.0), gradient=False),
    uniform((0, 3), (1, 3), gradient=False),
)
_GAMMA = (
    *_PAIRS,
    values([0.0, 1.0, 0.0, INF, 2.0, INF, -1.0, NAN, 100.0], [0.0, 0.0, 1.0, 2.0, INF, INF, 1.0, 1.0, 90.0]),
)
_host(
    "igamma",
    "igamma(a, x): the regularised lower incomplete gamma function.",
    functions.igamma,
    2,
    _GAMMA,
    _gamma_vjp("igamma", 1.0),
    ("input:0", "input:1"),
)
_host(
    "igammac",
    "igammac(a, x): the regularised upper incomplete gamma function.",
    functions.igammac,
    2,
    _GAMMA,
    _gamma_vjp("igammac", -1.0),
    ("input:0", "input:1"),
)
_host(
    "zeta",
    "zeta(x, q): the Hurwitz zeta function, the sum of (q + k)^-x over k >= 0.",
    functions.zeta,
    2,
    (
        uniform((3, 5), (3, 5), between=(1.2, 6.0), gradient=False),
        uniform((3, 1), (5,), between=(1.5, 20.0), gradient=False),
        uniform((0, 3), (1, 3), gradient=False),
        values([1.0, 2.0, 0.5, 3.0, 2.5, 2.0, NAN, 50.0], [2.0, -1.0, 1.0, -1.5, -1.5, INF, 1.0, 3.0]),
    ),
    lambda F, ctx, dy: needed(
        ctx,
        _no_derivative("zeta"),
        lambda: F.neg(F.mul(dy, F.mul(ctx.inputs[0], F.zeta(F.add(ctx.inputs[0], 1.0), ctx.inputs[1])))),
    ),
    ("input:0", "input:1"),
    "SpecialZetaBackward0",
)
_host(
    "polygamma",
    "The n-th derivative of digamma, for n of at least 1.",
    lambda x, n: functions.polygamma(n, x),
    1,
    (
        uniform((3, 5), between=(0.5, 6.0), n=2),
        uniform((), between=(0.5, 6.0), n=3),
        uniform((0,), n=2),
        values([0.0, -1.0, -2.5, 30.0, NAN], n=4),
    ),
    lambda F, ctx, dy: [F.mul(dy, F.polygamma(ctx.inputs[0], n=ctx.attrs["n"] + 1))],
    ("input:0",),
    attrs={"n": Attr("int")},
)
_host(
    "airy_ai",
    "The Airy function Ai.",
    functions.airy_ai,
    1,
    (
        uniform((3, 5), between=(-12.0, 4.0)),
        uniform(()),
        uniform((0,)),
        values([0.0, 200.0, INF, -INF, NAN, -100.0]),
    ),
)
_host(
    "orthogonal_polynomial",
    "orthogonal_polynomial(x, n): the polynomial of degree n of a family at x (`chebyshev_polynomial_t` ...).",
    lambda x, n, family: functions.polynomial(family, x, n),
    2,
    tuple(
        values([-0.5, 0.3, 1.0, 1.5, -2.0, 0.9, NAN], [0.0, 1.0, 2.0, 3.7, -1.0, 9.0, 2.0], family=family)
        for family in (*functions.FAMILIES, "shifted_chebyshev_polynomial_t")
    ),
    attrs={"family": Attr("str")},
)


def _integer(name: str, doc: str, numpy: Callable[..., Any]) -> None:
    declare(
        Op(
            name,
            doc,
            infer=pointwise(name, INTEGERS),
            numpy=numpy,
            arity=(2, 2),
            lowering="host",
            samples=(integers((3, 4), (4,)), values([0, 12, -8, 7], [0, 18, 12, 0])),
        )
    )


_integer("gcd", "The greatest common divisor, not negative.", np.gcd)
_integer("lcm", "The least common multiple, not negative.", np.lcm)
