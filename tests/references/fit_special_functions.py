"""Prints `ir/special_tables.py`: Chebyshev series of the special functions. Needs mpmath.

python tests/references/fit_special_functions.py > ir/special_tables.py

Each series interpolates at Chebyshev nodes with 50 digits and is cut where what is left is below double precision
(Trefethen, "Approximation Theory and Approximation Practice", chapters 3 and 4). The value is sum c[k] T_k(t) for the
stated t in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable

from mpmath import (  # type: ignore[import-not-found]
    besseli,
    besselj,
    besselk,
    bessely,
    cos,
    erfc,
    erfinv,
    exp,
    log,
    loggamma,
    mp,
    mpf,
    pi,
    sin,
    sqrt,
)

mp.dps = 50
NODES = 72
CUT = mpf("4e-18")
Function = Callable[[mpf], mpf]


def series(f: Function) -> list[mpf]:
    """Chebyshev coefficients of f on [-1, 1], the tail left out."""
    angles = [pi * (k + mpf(1) / 2) / NODES for k in range(NODES)]
    values = [f(cos(a)) for a in angles]
    c = [2 * sum(v * cos(j * a) for v, a in zip(values, angles)) / NODES for j in range(NODES)]
    c[0] /= 2
    size = max(abs(v) for v in c)
    while abs(c[-1]) < CUT * size:
        c.pop()
    return c


def linear(low: float, high: float) -> Callable[[mpf], mpf]:
    """The number in [low, high] for t in [-1, 1]."""
    return lambda t: mpf(low) + (t + 1) * (mpf(high) - mpf(low)) / 2


def erfcx(x: mpf) -> mpf:
    return exp(x * x) * erfc(x)


def from_right(k: float) -> Callable[[mpf], mpf]:
    """x in [0, inf) for t = (x - k) / (x + k)."""
    return lambda t: k * (1 + t) / (1 - t)


def ndtri_middle(t: mpf) -> mpf:
    """The normal quantile of 1/2 + q, by q, for r = 0.425^2 - q^2 in [0, 0.425^2]."""
    q = sqrt(mpf("0.180625") - linear(0, 0.180625)(t))
    return sqrt(mpf(2)) * erfinv(2 * q) / q if q > mpf("1e-20") else sqrt(2 * pi)


def ndtri_tail(low: float, high: float) -> Function:
    """The normal quantile of 1 - exp(-r^2), for r in [low, high]."""

    def quantile(t: mpf) -> mpf:
        p = exp(-(linear(low, high)(t) ** 2))
        x = sqrt(-2 * log(p))
        for _ in range(200):  # Newton's method on log(erfc)
            tail = erfc(x / sqrt(mpf(2))) / 2
            density = exp(-x * x / 2) / sqrt(2 * pi)
            step = (log(tail) - log(p)) * tail / density
            x += step
            if abs(step) < mpf(10) ** -45:
                break
        return x

    return quantile


def modulus(order: int, which: int) -> Function:
    """P (which = 0) or x Q (1) of Hankel's form of J and Y, for t = 2 (8 / x)^2 - 1."""

    def value(t: mpf) -> mpf:
        x = 8 / sqrt((t + 1) / 2)
        j, y = besselj(order, x), bessely(order, x)
        angle = x - (2 * order + 1) * pi / 4
        scale = sqrt(pi * x / 2)
        if which:
            return x * scale * (y * cos(angle) - j * sin(angle))
        return scale * (j * cos(angle) + y * sin(angle))

    return value


def of_square(f: Function, top: float) -> Function:
    """f(x) for t = 2 (x / top)^2 - 1."""
    return lambda t: f(top * sqrt((t + 1) / 2))


TABLES: dict[str, tuple[str, Function]] = {
    "LGAMMA": (
        "log(gamma(x)) / ((x - 1) (x - 2)); t = 2 x - 3, 1 <= x <= 2",
        lambda t: (lambda x: loggamma(x) / ((x - 1) * (x - 2)))((t + 3) / 2),
    ),
    "ERFCX": (
        "(1 + 2 x) exp(x^2) erfc(x); t = (x - 3.75) / (x + 3.75), x >= 0",
        lambda t: (lambda x: (1 + 2 * x) * erfcx(x))(from_right(3.75)(t)),
    ),
    "NDTRI_MIDDLE": ("see `ndtri_middle`; t = r / 0.0903125 - 1", ndtri_middle),
    "NDTRI_TAIL": (
        "minus the quantile of exp(-r^2); t = (2 r - 6.6) / 3.4, 1.6 <= r <= 5",
        ndtri_tail(1.6, 5),
    ),
    "NDTRI_FAR": ("the same; t = (2 r - 33) / 23, 5 <= r <= 28", ndtri_tail(5, 28)),
    "I0E_SMALL": (
        "exp(-x) I0(x); t = x / 4 - 1, 0 <= x <= 8",
        lambda t: (lambda x: exp(-x) * besseli(0, x))(linear(0, 8)(t)),
    ),
    "I0E_LARGE": (
        "sqrt(x) exp(-x) I0(x); t = 16 / x - 1, x >= 8",
        lambda t: (lambda x: sqrt(x) * exp(-x) * besseli(0, x))(16 / (t + 1)),
    ),
    "I1E_SMALL": (
        "exp(-x) I1(x) / x; t = x / 4 - 1, 0 <= x <= 8",
        lambda t: (lambda x: exp(-x) * besseli(1, x) / x)(linear(0, 8)(t)),
    ),
    "I1E_LARGE": (
        "sqrt(x) exp(-x) I1(x); t = 16 / x - 1, x >= 8",
        lambda t: (lambda x: sqrt(x) * exp(-x) * besseli(1, x))(16 / (t + 1)),
    ),
    "J0_SMALL": ("J0(x); t = x^2 / 32 - 1, 0 <= x <= 8", of_square(lambda x: besselj(0, x), 8)),
    "J1_SMALL": ("J1(x) / x; t = x^2 / 32 - 1", of_square(lambda x: besselj(1, x) / x, 8)),
    "Y0_SMALL": (
        "Y0(x) - 2/pi log(x) J0(x); t = x^2 / 32 - 1",
        of_square(lambda x: bessely(0, x) - 2 / pi * log(x) * besselj(0, x), 8),
    ),
    "Y1_SMALL": (
        "(Y1(x) - 2/pi (log(x) J1(x) - 1/x)) / x; t = x^2 / 32 - 1",
        of_square(lambda x: (bessely(1, x) - 2 / pi * (log(x) * besselj(1, x) - 1 / x)) / x, 8),
    ),
    "P0": ("Hankel's P for order 0; t = 128 / x^2 - 1, x >= 8", modulus(0, 0)),
    "Q0": ("x times Hankel's Q for order 0", modulus(0, 1)),
    "P1": ("Hankel's P for order 1", modulus(1, 0)),
    "Q1": ("x times Hankel's Q for order 1", modulus(1, 1)),
    "K0_SMALL": (
        "K0(x) + log(x / 2) I0(x); t = x^2 / 2 - 1, 0 <= x <= 2",
        of_square(lambda x: besselk(0, x) + log(x / 2) * besseli(0, x), 2),
    ),
    "K1_SMALL": (
        "x (K1(x) - log(x / 2) I1(x)); t = x^2 / 2 - 1",
        of_square(lambda x: x * (besselk(1, x) - log(x / 2) * besseli(1, x)), 2),
    ),
    "K0_LARGE": (
        "sqrt(x) exp(x) K0(x); t = 4 / x - 1, x >= 2",
        lambda t: (lambda x: sqrt(x) * exp(x) * besselk(0, x))(4 / (t + 1)),
    ),
    "K1_LARGE": (
        "sqrt(x) exp(x) K1(x); t = 4 / x - 1, x >= 2",
        lambda t: (lambda x: sqrt(x) * exp(x) * besselk(1, x))(4 / (t + 1)),
    ),
}

HEAD = '''"""Chebyshev series for `special_functions.py`, printed by `tests/references/fit_special_functions.py`.

The comment of each says which function it is, and of which t in [-1, 1].
"""

# fmt: off'''


def main() -> None:
    print(HEAD)
    for name, (doc, f) in TABLES.items():
        coefficients = [repr(float(c)) for c in series(f)]
        print(f"\n# {doc}\n{name} = (")
        for start in range(0, len(coefficients), 4):
            print("    " + ", ".join(coefficients[start : start + 4]) + ",")
        print(")")


if __name__ == "__main__":
    main()
