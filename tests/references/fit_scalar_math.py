"""Prints the polynomial coefficients of `codegen/scalar_math.py` and `codegen/scalar_trig.py`. Needs mpmath.

Each is a minimax fit by Remez exchange (Muller, "Elementary Functions", chapter 3): the polynomial p of the
given degree with the least largest weight(x) * |p(x) - f(x)|. The error printed is that maximum, before
rounding to a float type.
"""

from __future__ import annotations

from collections.abc import Callable

from mpmath import (  # type: ignore[import-not-found]
    asin,
    atan,
    atanh,
    cos,
    erf,
    erfc,
    exp,
    expm1,
    fabs,
    log,
    log1p,
    lu_solve,
    matrix,
    mp,
    mpf,
    nstr,
    pi,
    sin,
    sqrt,
    tan,
    tanh,
)

mp.dps = 60
GRID = 1500
TINY = 1e-12  # the weights have no value at 0
Function = Callable[[mpf], mpf]


def fit(f: Function, weight: Function, low: float, high: float, degree: int) -> tuple[list[mpf], mpf]:
    """Coefficients, lowest first, and the largest weighted error."""
    a, b = mpf(low), mpf(high)
    n = degree + 2
    nodes = [(a + b) / 2 + (b - a) / 2 * cos(pi * mpf(n - 1 - i) / (n - 1)) for i in range(n)]
    grid = [a + (b - a) * (1 - cos(pi * mpf(i) / GRID)) / 2 for i in range(GRID + 1)]
    values, weights = [f(x) for x in grid], [weight(x) for x in grid]
    for _ in range(15):
        system, right = matrix(n, n), matrix(n, 1)
        for i, x in enumerate(nodes):
            for j in range(degree + 1):
                system[i, j] = x**j
            system[i, degree + 1] = (-1) ** i / weight(x)
            right[i] = f(x)
        solution = lu_solve(system, right)
        coefficients = [solution[j] for j in range(degree + 1)]
        errors = [w * (evaluate(coefficients, x) - v) for x, v, w in zip(grid, values, weights)]
        worst = max(map(fabs, errors))
        peaks = alternation(errors)
        if len(peaks) < n or worst < fabs(solution[degree + 1]) * mpf("1.001"):
            break
        while len(peaks) > n:
            peaks.pop(0 if fabs(errors[peaks[0]]) < fabs(errors[peaks[-1]]) else -1)
        nodes = [grid[i] for i in peaks]
    return coefficients, worst


def evaluate(coefficients: list[mpf], x: mpf) -> mpf:
    result = mpf(0)
    for c in reversed(coefficients):
        result = result * x + c
    return result


def alternation(errors: list[mpf]) -> list[int]:
    """Where the error is largest between its changes of sign."""
    peaks: list[int] = []
    i = 0
    while i < len(errors):
        sign, best = errors[i] > 0, i
        while i < len(errors) and (errors[i] > 0) == sign:
            if fabs(errors[i]) > fabs(errors[best]):
                best = i
            i += 1
        peaks.append(best)
    return peaks


def table(
    name: str, f: Function, weight: Function, low: float, high: float, degrees: tuple[int, int]
) -> None:
    """Print the fits for float32 and float64; a degree of -1 skips one."""
    for bits, degree in zip((32, 64), degrees):
        if degree < 0:
            continue
        coefficients, worst = fit(f, weight, low, high, degree)
        print(f"# {name}, f{bits}: error {nstr(worst, 3)}")
        digits = 9 if bits == 32 else 17
        print("    (" + ", ".join(nstr(c, digits, min_fixed=-3, max_fixed=3) for c in coefficients) + "),")


def main() -> None:
    half = float(log(2) / 2) * 1.0001
    table("exp: (e^r - 1 - r) / r^2", lambda r: (expm1(r) - r) / r**2, lambda r: r**2 / exp(r),
          -half * 1.0003, half, (4, 9))  # fmt: skip
    table(
        "expm1: (e^r - 1 - r) / r^2",
        lambda r: (expm1(r) - r) / r**2,
        lambda r: fabs(r**2 / expm1(r)),
        -half * 1.0003,
        half,
        (4, 9),
    )
    low, high = float(sqrt(mpf(1) / 2)) - 1, float(sqrt(mpf(2))) - 1
    table(
        "log: (log(1 + f) - f + f^2 / 2) / f^3", lambda f: (log1p(f) - f + f**2 / 2) / f**3,
        lambda f: fabs(f**3 / log1p(f)), low, high, (7, 12),
    )  # fmt: skip
    s = high / (2 + high)
    table(
        "log: (2 atanh(s) - 2s) / s^3 in s^2", lambda z: (2 * atanh(sqrt(z)) - 2 * sqrt(z)) / sqrt(z) ** 3,
        lambda z: sqrt(z) ** 3 / (2 * atanh(sqrt(z))), TINY, s * s, (3, 7),
    )  # fmt: skip
    table("pow: (2 atanh(s) - 2s - 2/3 s^3) / s^5 in s^2", lambda z: sum(2 * z**k / (2 * k + 5) for k in
    range(40)),
          lambda z: sqrt(z) ** 5 / (2 * atanh(sqrt(z))), TINY, s * s, (-1, 7))  # fmt: skip
    q = (float(pi) / 4 * 1.0001) ** 2
    table("sin: (sin r - r) / r^3 in r^2", lambda z: (sin(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3,
          lambda z: sqrt(z) ** 3 / sin(sqrt(z)), TINY, q, (2, 5))  # fmt: skip
    table("cos: (cos r - 1 + r^2 / 2) / r^4 in r^2", lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2,
          lambda z: z**2 / cos(sqrt(z)), TINY, q, (2, 5))  # fmt: skip
    table("tan: (tan r - r) / r^3 in r^2", lambda z: (tan(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3,
          lambda z: sqrt(z) ** 3 / tan(sqrt(z)), TINY, q, (5, 13))  # fmt: skip
    table("tanh: (tanh x - x) / x^3 in x^2", lambda z: (tanh(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3,
          lambda z: sqrt(z) ** 3 / tanh(sqrt(z)), TINY, 0.625**2, (4, 12))  # fmt: skip
    for high, degrees in ((0.9375**2, (5, -1)), (1, (-1, 11))):
        table(f"erf: erf(x) / x - 1 in x^2, x^2 <= {high}", lambda z: erf(sqrt(z)) / sqrt(z) - 1,
              lambda z: sqrt(z) / erf(sqrt(z)), TINY, high, degrees)  # fmt: skip
    table("erf: log2(erfc(t)), 0.9375 <= t <= 4", lambda t: log(erfc(t)) / log(2),
          lambda t: erfc(t) * log(2), 0.9375, 4, (5, -1))  # fmt: skip
    table("2^r", lambda r: mpf(2) ** r, lambda r: mpf(2) ** -r, -0.5, 0.5, (5, -1))
    table("erf: log(erfc(t)) in t - 2, 1 <= t <= 6", lambda u: log(erfc(u + 2)),
          lambda u: erfc(u + 2), -1, 4, (-1, 17))  # fmt: skip
    table("asin: (asin x - x) / x^3 in x^2", lambda z: (asin(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3,
          lambda z: sqrt(z) ** 3 / asin(sqrt(z)), TINY, 0.25, (4, 12))  # fmt: skip
    eighth = float(tan(pi / 8)) ** 2 * 1.0001
    for top, degrees in ((0.25, (5, -1)), (eighth, (-1, 10))):
        table("atan: (atan x - x) / x^3 in x^2", lambda z: (atan(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3,
              lambda z: sqrt(z) ** 3 / atan(sqrt(z)), TINY, top, degrees)  # fmt: skip


if __name__ == "__main__":
    main()
